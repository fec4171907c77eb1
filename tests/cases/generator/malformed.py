"""Headers that are cut short or contradict themselves."""

from scapy.layers.inet import TCP
from scapy.packet import Raw

from .book import Book
from .hosts import LOCAL, LOST, LOST_NAMES, NAMES, USUAL, USUAL_DIRECT_ACCESS, USUAL_HOST, WEB
from .packets import CLIENT, echo, ip, tcp, udp
from .rules import dropped, left, passed, to_backend

VIP = (LOST.vip, 80)
NAMES_VIP = (LOST_NAMES.vip, 53)


def changed(packet, *changes):
    """The frame with some bytes replaced."""
    frame = bytearray(bytes(packet))
    for place, byte in changes:
        frame[place] = byte
    return bytes(frame)


def cut(packet, length):
    """The frame cut to a length, and its datagram says so."""
    return changed(bytes(packet)[:length], (16, (length - 14) >> 8), (17, (length - 14) & 255))


def book():
    book = Book("malformed", "headers that are cut short or contradict themselves", USUAL, USUAL_HOST, USUAL_DIRECT_ACCESS)
    _ipv4(book)
    _cut(book)
    _from_backends(book)
    _of_others(book)
    _forwarded(book)
    return book


def _ipv4(book):
    packets = {"TCP": (tcp(CLIENT, VIP, payload=bytes(20)), "lost"), "UDP": (udp(CLIENT, NAMES_VIP, bytes(40)), "lost-names")}
    for name, (packet, service) in packets.items():
        whole = len(bytes(packet)) - 14
        header = 20 if name == "TCP" else 8
        faults = {
            "a header of four words": [(14, 0x44)],
            "a header of no words": [(14, 0x40)],
            "version 5": [(14, 0x55)],
            "version 6 under the kind of IPv4": [(14, 0x65)],
            "version 0": [(14, 0x05)],
            "one byte longer than the frame": [(17, whole + 1)],
            "65,535 bytes long": [(16, 0xFF), (17, 0xFF)],
            "no bytes long": [(16, 0), (17, 0)],
            "one byte shorter than its IPv4 header": [(17, 19)],
            "no longer than its IPv4 header": [(17, 20)],
            "one byte shorter than its transport header": [(17, 20 + header - 1)],
        }
        for fault, changes in faults.items():
            book.case(f"{name}: {fault}", dropped(changed(packet, *changes), service, "malformed"))
    options = tcp(CLIENT, VIP, options=b"\x01\x01\x01\x00")
    book.case("options and one byte too few for the TCP header", dropped(changed(options, (17, 43)), "lost", "malformed"))
    book.case("options that reach beyond the frame", dropped(changed(tcp(CLIENT, VIP), (14, 0x4F)), "lost", "malformed"))
    for length in (59, 60, 67):
        book.case(f"options of forty bytes in a datagram of {length}", dropped(
            changed(tcp(CLIENT, VIP, payload=bytes(60)), (14, 0x4F), (17, length)), "lost", "malformed"))


def _cut(book):
    segment, datagram = tcp(CLIENT, VIP, flags="S"), udp(CLIENT, NAMES_VIP, b"")
    for length in (34, 35, 36, 38, 41, 42, 47, 53):
        book.case(f"TCP cut to {length} bytes, as the datagram says", dropped(cut(segment, length), "lost", "malformed"))
    for length in (34, 40, 53):
        book.case(f"TCP cut to {length} bytes, the datagram says more", dropped(bytes(segment)[:length], "lost", "malformed"))
    for length in (34, 36, 38, 41):
        book.case(f"UDP cut to {length} bytes, as the datagram says", dropped(cut(datagram, length), "lost-names", "malformed"))
    for length in (15, 20, 33):
        book.case(f"an IPv4 header cut to {length} bytes has no destination", passed(bytes(segment)[:length]))
    book.case("a padded frame whose datagram is too short", dropped(
        changed(bytes(segment) + bytes(6), (17, 39)), "lost", "malformed"))
    book.case("an empty datagram in a padded frame", dropped(changed(bytes(datagram) + bytes(18), (17, 20)), "lost-names", "malformed"))


def _from_backends(book):
    segment, datagram = tcp((WEB.backend.address, 8081), CLIENT), udp((NAMES.backend.address, 8082), CLIENT, b"")
    for length in (42, 53):
        book.case(f"a backend's TCP cut to {length} bytes", dropped(cut(segment, length), "web", "malformed"))
    book.case("a backend's TCP longer than its frame", dropped(changed(segment, (17, 41)), "web", "malformed"))
    book.case("a backend's UDP longer than its frame", dropped(changed(datagram, (17, 29)), "names", "malformed"))
    book.case("a backend's UDP shorter than its header", dropped(changed(datagram, (17, 27)), "names", "malformed"))
    book.case("a backend's TCP whose ports cannot be read is not known to be the service's", passed(cut(segment, 41)))
    book.case("a backend's packet with a broken IPv4 header likewise", passed(changed(segment, (14, 0x44))))
    book.case("for this host: what is wrong with it is for this host to see", left(
        cut(tcp((WEB.backend.address, 8081), ("10.1.0.1", 50_000)), 50), "web", "direct_access"))


def _of_others(book):
    elsewhere = ("198.51.100.1", 80)
    book.case("for another address: a broken header", passed(changed(tcp(CLIENT, elsewhere), (14, 0x44))))
    book.case("for another address: cut", passed(cut(tcp(CLIENT, elsewhere), 40)))
    book.case("for another address: longer than the frame", passed(changed(udp(CLIENT, elsewhere), (17, 200))))
    book.case("for a local virtual address: a broken header", left(
        changed(tcp(CLIENT, (LOCAL.vip, 80)), (14, 0x44)), "local", "local_address"))
    book.case("for a local virtual address: no ports", left(cut(tcp(CLIENT, (LOCAL.vip, 22)), 36), "local", "local_address"))
    book.case("for a service at a local address: cut", dropped(cut(tcp(CLIENT, (LOCAL.vip, 80)), 50), "local", "malformed"))
    request = echo(CLIENT[0], LOST.vip)
    book.case("an echo request longer than its frame", dropped(changed(request, (17, 37)), "lost", "malformed"))
    book.case("an echo request cut behind its header", dropped(bytes(request)[:42], "lost", "malformed"))
    book.case("an echo request whose ICMP header lies behind the datagram", dropped(changed(request, (17, 27)), "lost", "icmp"))
    book.case("GRE longer than its frame", dropped(changed(ip(CLIENT[0], LOST.vip, proto=47) / Raw(bytes(8)), (17, 99)), "lost", "malformed"))
    book.case("another port, longer than the frame", dropped(changed(tcp(CLIENT, (LOST.vip, 81)), (17, 41)), "lost", "malformed"))
    book.case("another port, shorter than its IPv4 header", dropped(changed(udp(CLIENT, (LOST.vip, 81)), (17, 19)), "lost", "malformed"))
    book.case("an echo request with a header of four words", dropped(changed(request, (14, 0x44)), "lost", "malformed"))


def _forwarded(book):
    """What is wrong behind the checksum is for the receiver to judge."""
    for offset in (0, 4, 15):
        packet = tcp(CLIENT, (WEB.vip, 80), payload=b"data", fields={"dataofs": offset})
        assert packet[TCP].dataofs == offset
        book.case(f"a TCP header that says {offset} words is for the receiver to judge", to_backend(packet, WEB.backend))
