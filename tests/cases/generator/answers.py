"""What the program answers by itself: other ports, expired packets, packets too long for the next link."""

from scapy.layers.inet import IP
from scapy.packet import Raw

from .book import Book
from .hosts import (EMPTY, FAR, FAR_GATEWAY, FAR_NAMES, LOST, LOST_NAMES, NAMES, USUAL, USUAL_DIRECT_ACCESS, USUAL_HOST, WEB, Hop,
                    neighbour)
from .packets import CLIENT, echo, ip, padded, tcp, udp
from .rules import dropped, echoed, flag_counts, for_backend, for_client, left, reset, step, told, to_backend, to_client

BACKEND = (WEB.backend.address, WEB.backend.port)
NAME_SERVER = (NAMES.backend.address, NAMES.backend.port)
OPTIONS = b"\x01\x01\x01\x00"


def book_of(name, about):
    return Book(name, about, USUAL, USUAL_HOST, USUAL_DIRECT_ACCESS)


def _refused(packet, service, came="near"):
    """RST for TCP; port unreachable, in the virtual address's own name, for UDP."""
    if "TCP" in packet:
        return reset(packet, service, "port_closed", came)
    return told(packet, service, "port_closed", 3, 3, source=packet[IP].dst, came=came)


def _expired(packet, service, came="near"):
    return told(packet, service, "time_exceeded", 11, 0, came=came)


def ports_book():
    book = book_of("other-ports", "for a virtual address, and for no service there: refused")
    for flags in ("S", "A", "SA", "FA", "F", "PA", 0):
        book.case(f"another TCP port: {flags or 'no flag'}", _refused(tcp(CLIENT, (LOST.vip, 81), flags=flags), "lost"))
    for flags in ("R", "RA", "SR"):
        book.case(f"a RST is never answered: {flags}", dropped(tcp(CLIENT, (LOST.vip, 81), flags=flags), "lost", "no_service"))
    for port in (0, 1, 79, 65_535):
        book.case(f"TCP port {port}", _refused(tcp(CLIENT, (LOST.vip, port), flags="S"), "lost"))
        book.case(f"UDP port {port}", _refused(udp(CLIENT, (LOST.vip, port)), "lost"))
    book.case("the service's port of the other protocol: UDP", _refused(udp(CLIENT, (LOST.vip, 80)), "lost"))
    book.case("the service's port of the other protocol: TCP", _refused(tcp(CLIENT, (LOST_NAMES.vip, 53), flags="S"), "lost-names"))
    book.case("a traceroute's datagram", _refused(udp(CLIENT, (WEB.vip, 33_434), b"@" * 32), "web"))
    book.case("a traceroute's last hop is the virtual address", _refused(udp(CLIENT, (WEB.vip, 33_434), b"@" * 32, ttl=1), "web"))
    book.case("a datagram without data", _refused(udp(CLIENT, (LOST.vip, 81), b""), "lost"))
    book.case("a long datagram", _refused(udp(CLIENT, (LOST.vip, 81), bytes(1_400)), "lost"))
    book.case("data", _refused(tcp(CLIENT, (LOST.vip, 81), flags="PA", payload=bytes(700)), "lost"))
    book.case("data, padded", _refused(padded(tcp(CLIENT, (LOST.vip, 81), payload=b"x")), "lost"))
    book.case("data without acknowledgement", _refused(tcp(CLIENT, (LOST.vip, 81), flags="P", payload=b"abc"), "lost"))
    book.case("a SYN with IPv4 options", dropped(tcp(CLIENT, (LOST.vip, 81), flags="S", options=OPTIONS), "lost", "no_service"))
    book.case("a datagram with IPv4 options", dropped(udp(CLIENT, (LOST.vip, 81), options=OPTIONS), "lost", "no_service"))
    book.case("at the second interface", _refused(tcp(CLIENT, (LOST.vip, 81), flags="S", came="far"), "lost", came="far"))
    book.case("a datagram at the second interface", _refused(udp(CLIENT, (LOST.vip, 81), came="far"), "lost", came="far"))
    book.case("the backend's port at the virtual address", _refused(tcp(CLIENT, (WEB.vip, 8081), flags="S"), "web"))
    for source in ("224.0.0.5", "255.255.255.255", "127.0.0.1", "0.0.0.0"):
        book.case(f"from {source}, a SYN", dropped(tcp((source, 9), (LOST.vip, 81), flags="S"), "lost", "no_service"))
        book.case(f"from {source}, a datagram", dropped(udp((source, 9), (LOST.vip, 81)), "lost", "no_service"))
    broadcast = {"macs": ("02:bb:00:01:00:fe", "ff:ff:ff:ff:ff:ff")}
    book.case("a SYN to everyone on the link", dropped(tcp(CLIENT, (LOST.vip, 81), flags="S", **broadcast), "lost", "no_service"))
    book.case("a datagram to everyone on the link", dropped(udp(CLIENT, (LOST.vip, 81), **broadcast), "lost", "no_service"))
    for name, number in {"IPv4 in IPv4": 4, "GRE": 47, "ESP": 50, "SCTP": 132, "IPv6 in IPv4": 41}.items():
        book.case(f"another protocol: {name}", dropped(ip(CLIENT[0], LOST.vip, proto=number) / Raw(bytes(24)), "lost", "no_service"))
    return book


def expired_book():
    book = book_of("expired", "whose time to live ends here: the sender is told by the address of the interface that it came to")
    for ttl in (0, 1):
        book.case(f"a client's segment, time to live {ttl}", _expired(tcp(CLIENT, (WEB.vip, 80), ttl=ttl), "web"))
        book.case(f"a client's datagram, time to live {ttl}", _expired(udp(CLIENT, (NAMES.vip, 53), ttl=ttl), "names"))
        book.case(f"a backend's segment, time to live {ttl}", _expired(tcp(BACKEND, CLIENT, ttl=ttl), "web"))
        book.case(f"a backend's datagram, time to live {ttl}", _expired(udp(NAME_SERVER, CLIENT, ttl=ttl), "names"))
    book.case("a SYN", _expired(tcp(CLIENT, (WEB.vip, 80), flags="S", ttl=1), "web"))
    book.case("a long segment", _expired(tcp(CLIENT, (WEB.vip, 80), flags="PA", payload=bytes(1_400), ttl=1), "web"))
    book.case("a segment of one byte, padded", _expired(padded(tcp(CLIENT, (WEB.vip, 80), payload=b"x", ttl=1)), "web"))
    book.case("at the second interface", _expired(tcp(CLIENT, (FAR.vip, 80), ttl=1, came="far"), "far", came="far"))
    book.case("a datagram at the second interface", _expired(udp(CLIENT, (FAR_NAMES.vip, 53), ttl=1, came="far"), "far-names", came="far"))
    book.case("to a backend without a next hop", _expired(tcp(CLIENT, (LOST.vip, 80), ttl=1), "lost"))
    book.case("to a version without backends", _expired(tcp(CLIENT, (EMPTY.vip, 80), ttl=1), "empty"))
    book.case("to another port: this host is the last hop", reset(tcp(CLIENT, (LOST.vip, 81), ttl=1), "lost", "port_closed"))
    book.case("an echo request: this host is the last hop", echoed(echo(CLIENT[0], LOST.vip, ttl=1), "lost"))
    book.case("a client's RST is never answered", dropped(tcp(CLIENT, (WEB.vip, 80), flags="R", ttl=1), "web", "ttl_expired"))
    book.case("a backend's RST is never answered", dropped(tcp(BACKEND, CLIENT, flags="RA", ttl=1), "web", "ttl_expired"))
    book.case("a SYN with IPv4 options", dropped(tcp(CLIENT, (WEB.vip, 80), flags="S", ttl=1, options=OPTIONS), "web", "ttl_expired"))
    book.case("from a group", dropped(udp(("224.0.0.5", 9), (NAMES.vip, 53), ttl=1), "names", "ttl_expired"))
    book.case("a backend's for this host: the last hop is here", left(tcp(BACKEND, ("10.1.0.1", 50_000), ttl=1), "web", "direct_access"))
    book.case("a backend's with direct access", left(tcp(BACKEND, ("10.77.0.1", 50_000), ttl=1), "web", "direct_access"))
    return book


FAR_CLIENT = ("10.65.0.1", 40_000)
NARROW = 1_400
NARROW_HOST = [*USUAL_HOST, f"link set far mtu {NARROW}", neighbour("far", FAR_GATEWAY), f"route add 10.65.0.0/16 via {FAR_GATEWAY}"]
FAR_GATEWAY_HOP = Hop("far", FAR_GATEWAY)


def sizes_book():
    book = Book("sizes", f"packets beyond the next link's MTU: {NARROW} bytes at the second interface", USUAL, NARROW_HOST, USUAL_DIRECT_ACCESS)
    for length in (NARROW + 1, 1_500, 3_000):
        for flags, what in (("DF", "may not be fragmented"), (0, "the kernel may fragment")):
            segment = _with_flags(tcp(CLIENT, (FAR.vip, 80), flags="PA", payload=bytes(length - 40)), flags)
            datagram = _with_flags(udp(CLIENT, (FAR_NAMES.vip, 53), bytes(length - 28)), flags)
            reply = _with_flags(tcp(BACKEND, FAR_CLIENT, flags="PA", payload=bytes(length - 40)), flags)
            answer = _with_flags(udp(NAME_SERVER, FAR_CLIENT, bytes(length - 28)), flags)
            book.case(f"a client's segment of {length} bytes, which {what}", _too_long(segment, FAR, "Forward"))
            book.case(f"a client's datagram of {length} bytes, which {what}", _too_long(datagram, FAR_NAMES, "Forward"))
            book.case(f"a backend's segment of {length} bytes, which {what}", _too_long(reply, WEB, "Reverse"))
            book.case(f"a backend's datagram of {length} bytes, which {what}", _too_long(answer, NAMES, "Reverse"))
    book.case("a client's segment that just fits", to_backend(tcp(CLIENT, (FAR.vip, 80), flags="PA", payload=bytes(NARROW - 40)), FAR.backend))
    book.case("a backend's datagram that just fits",
              to_client(udp(NAME_SERVER, FAR_CLIENT, bytes(NARROW - 28)), NAMES, hop=FAR_GATEWAY_HOP))
    book.case("one with IPv4 options is not answered", dropped(
        tcp(CLIENT, (FAR.vip, 80), flags="PA", payload=bytes(NARROW - 43), options=OPTIONS), "far", "too_big"))
    book.case("a RST is not answered", dropped(tcp(CLIENT, (FAR.vip, 80), flags="RA", payload=bytes(NARROW)), "far", "too_big"))
    book.case("what leaves by the link that it came by fits it", to_backend(
        tcp(CLIENT, (WEB.vip, 80), flags="PA", payload=bytes(3_000)), WEB.backend))
    return book


def _too_long(packet, service, side):
    """Answered with the length that fits; or rewritten and counted, its time to live kept, and the kernel cuts it into pieces."""
    if packet[IP].flags == "DF":
        return told(packet, service.name, "fragmentation_needed", 3, 4, mtu=NARROW)
    out = for_backend(packet, service.backend) if side == "Forward" else for_client(packet, service)
    counts = {f"packets{side}": 1, f"bytes{side}": len(bytes(packet)), **flag_counts(packet, side)}
    return step(packet, "PASS", out, reasons={service.name: {"too_big_passed": 1}}, backends={service.backend.name: counts})


def _with_flags(packet, flags):
    packet[IP].flags = flags
    return packet
