"""From a client to the only backend of a settled service."""

from itertools import product

from scapy.layers.inet import IP, TCP, UDP

from .book import Book
from .hosts import FAR, FAR_NAMES, NAMES, USUAL, USUAL_DIRECT_ACCESS, USUAL_HOST, WEB, own_mac
from .packets import CLIENT, flags_named, padded, tcp, udp, without_checksums
from .rules import spoiled, to_backend

VIP = (WEB.vip, WEB.port)
NAMES_VIP = (NAMES.vip, NAMES.port)
# Where checksums lie in a frame without IPv4 options.
IP_SUM, TCP_SUM, UDP_SUM = 24, 50, 40


def web(**how):
    return tcp(CLIENT, VIP, **how)


def names(payload=b"question", **how):
    return udp(CLIENT, NAMES_VIP, payload, **how)


def to_web(packet, **how):
    return to_backend(packet, WEB.backend, **how)


def to_names(packet, **how):
    return to_backend(packet, NAMES.backend, **how)


def rewritten(packet, backend):
    """The packet as it leaves, for finding payloads whose checksum comes out as wanted."""
    out = without_checksums(packet)
    out[IP].dst, out[TCP if TCP in out else UDP].dport = backend.address, backend.port
    out[IP].ttl -= 1
    return type(out)(bytes(out))


def _flags(book):
    for combination in product([0, 1], repeat=4):
        flags = sum(bit for bit, chosen in zip((1, 2, 4, 16), combination) if chosen)
        book.case(f"flags: {flags_named(flags)}", to_web(web(flags=flags)))
    for flags in ("PA", "UA", "SEC", "EA", "FPUA", "NA", "FSRPAUECN"):
        packet = web(flags=flags, payload=b"" if flags == "SEC" else b"data")
        book.case(f"flags: {flags_named(int(packet[TCP].flags))}, of no meaning here or all at once", to_web(packet))
    for flags in ("A", "FA", "S", "RA"):
        named = flags_named(int(web(flags=flags)[TCP].flags))
        book.case(f"window of zero with {named}", to_web(web(flags=flags, window=0)))
    for window in (1, 0x0100, 0xFF00, 0xFFFF):
        book.case(f"window of {window:#06x}", to_web(web(window=window)))
    book.case("urgent pointer and reserved bits are kept", to_web(web(flags="UA", payload=b"!", fields={"urgptr": 1, "reserved": 7})))


def _sizes(book):
    for length in (1, 2, 3, 6, 7, 99, 536, 1459, 1460):
        book.case(f"{length} bytes of payload", to_web(web(flags="PA", payload=bytes(n * 7 & 255 for n in range(length)))))
    timestamps = [("NOP", None), ("NOP", None), ("Timestamp", (0x01020304, 0x05060708))]
    options = {
        "maximum segment size": [("MSS", 1460)],
        "those of a Linux SYN": [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)],
        "timestamps": timestamps,
        "forty bytes": [("NOP", None)] * 40,
    }
    for name, option in options.items():
        flags = "A" if name == "timestamps" else "S"
        book.case(f"TCP options: {name}", to_web(web(flags=flags, tcp_options=option)))
    book.case("TCP options and odd payload", to_web(web(tcp_options=timestamps, payload=b"odd")))
    book.case("SYN with payload, as of TCP Fast Open", to_web(web(flags="S", payload=b"GET / HTTP/1.1\r\n\r\n")))
    book.case("SYN padded to the shortest frame", to_web(padded(web(flags="S"))))
    book.case("five bytes behind the datagram are kept", to_web(web(payload=b"\x09", padding=b"\xde\xad\xbe\xef\x01")))
    book.case("a hundred bytes behind the datagram are kept", to_web(web(flags="S", padding=b"\xff" * 100)))
    book.case("padding is no payload of a FIN", to_web(padded(web(flags="FA"))))


def _header(book, send, make, what):
    options = {
        "no operation": b"\x01\x01\x01\x00",
        "record route": b"\x07\x07\x04\x00\x00\x00\x00\x00",
        "router alert": b"\x94\x04\x00\x00",
        "forty bytes": b"\x01" * 40,
    }
    for name, option in options.items():
        book.case(f"IPv4 options of {what}: {name}", send(make(options=option, payload=b"odd")))
    for ttl in (2, 3, 255):
        book.case(f"time to live {ttl} of {what}", send(make(ttl=ttl)))
    for name, tos in {"expedited forwarding": 0xB8, "ECN capable": 0x02, "congestion experienced": 0x03, "all bits": 0xFF}.items():
        book.case(f"service byte of {what} is kept: {name}", send(make(tos=tos)))
    for name, flags in {"may be fragmented": 0, "reserved bit": "evil"}.items():
        book.case(f"IPv4 flags of {what} are kept: {name}", send(make(flags4=flags)))
    book.case(f"identification of {what} is kept", send(make(id=0xFFFF)))


def _ends(book):
    for port in (1, 80, 1023, 65535, 0):
        book.case(f"from port {port}", to_web(tcp((CLIENT[0], port), VIP, flags="S")))
    for client in ("0.0.0.1", "203.0.113.255", "223.255.255.254", "10.9.0.77", "10.2.0.9"):
        book.case(f"from {client}", to_web(tcp((client, 40_000), VIP, flags="S")))
    book.case("from a neighbour of the backend: hairpin", to_web(tcp(("10.9.0.200", 40_000), VIP)))
    book.case("from the backend itself by a port of its own", to_web(tcp((WEB.backend.address, 51_000), VIP, flags="S")))
    book.case("from the backend's own endpoint: the service comes first", to_web(tcp((WEB.backend.address, 8081), VIP, flags="S")))
    book.case("from this host's address", to_web(tcp(("10.1.0.1", 40_000), VIP, flags="S")))
    far = tcp(CLIENT, (FAR.vip, 80), flags="S")
    book.case("in by one interface, out by the other", to_backend(far, FAR.backend))
    book.case("in and out by the second interface", to_backend(tcp(CLIENT, (FAR.vip, 80), came="far"), FAR.backend, came="far"))
    book.case("in by the second interface, out by the first", to_web(web(came="far"), came="far"))
    book.case("locally administered and vendor addresses of Ethernet", to_web(web(macs=("00:1b:21:aa:bb:cc", own_mac("near")))))


def _sums(book):
    first = rewritten(web(payload=b"\0\0"), WEB.backend)
    book.case("TCP checksum that becomes zero", to_web(web(payload=first[TCP].chksum.to_bytes(2, "big"))))
    before = type(first)(bytes(web(payload=b"\0\0")))
    book.case("TCP checksum that was zero", to_web(web(payload=before[TCP].chksum.to_bytes(2, "big"))))
    book.case("IPv4 checksum that becomes zero", to_web(web(id=rewritten(web(id=0), WEB.backend)[IP].chksum)))
    book.case("IPv4 checksum that was zero", to_web(web(id=type(first)(bytes(web(id=0)))[IP].chksum)))
    book.case("a wrong TCP checksum stays as wrong", spoiled(to_web(web(payload=b"data")), TCP_SUM))
    book.case("a wrong IPv4 checksum stays as wrong", spoiled(to_web(web(payload=b"data")), IP_SUM))
    book.case("both checksums wrong by one", spoiled(to_web(web(flags="S")), IP_SUM, TCP_SUM, by=1))


def tcp_book():
    book = Book("forward-tcp", "TCP from a client to the backend of a settled service", USUAL, USUAL_HOST, USUAL_DIRECT_ACCESS)
    _flags(book)
    _sizes(book)
    _header(book, to_web, _header_of(web), "a segment")
    _ends(book)
    _sums(book)
    return book


def _header_of(make):
    """`make` with the flags of IPv4 under a name of their own: TCP has flags too."""
    def made(flags4=None, **fields):
        packet = make(**fields)
        if flags4 is not None:
            packet[IP].flags = flags4
        return packet
    return made


def udp_book():
    book = Book("forward-udp", "UDP from a client to the backend of a settled service", USUAL, USUAL_HOST, USUAL_DIRECT_ACCESS)
    for length in (0, 1, 2, 3, 7, 8, 511, 1471, 1472):
        book.case(f"{length} bytes of payload", to_names(names(bytes(n * 5 & 255 for n in range(length)))))
    for length in (0, 1, 8):
        book.case(f"{length} bytes without a checksum stay without", to_names(names(b"x" * length, checksum=0)))
    becomes = rewritten(names(b"\0\0"), NAMES.backend)[UDP].chksum.to_bytes(2, "big")
    book.case("a checksum that comes to zero is sent as 0xffff", to_names(names(becomes)))
    was = names(type(names())(bytes(names(b"\0\0")))[UDP].chksum.to_bytes(2, "big"))
    assert bytes(was)[UDP_SUM:UDP_SUM + 2] == b"\xff\xff"
    book.case("a checksum that was 0xffff", to_names(was))
    book.case("a wrong checksum stays as wrong", spoiled(to_names(names()), UDP_SUM))
    book.case("a wrong IPv4 checksum stays as wrong", spoiled(to_names(names(checksum=0)), IP_SUM))
    _header(book, to_names, _header_of(names), "a datagram")
    book.case("padded to the shortest frame", to_names(padded(names(b"ab"))))
    book.case("odd payload and bytes behind it", to_names(names(b"odd", padding=b"\xff\xff\xff")))
    book.case("a UDP length that says more than the datagram is for the receiver to judge", to_names(names(length=400, checksum=0)))
    book.case("a UDP length that says less than its header likewise", to_names(names(length=3, checksum=0)))
    for port in (0, 53, 65535):
        book.case(f"from port {port}", to_names(udp((CLIENT[0], port), NAMES_VIP)))
    far = (FAR_NAMES.vip, 53)
    book.case("in by one interface, out by the other", to_backend(udp(CLIENT, far), FAR_NAMES.backend))
    book.case("without a checksum by the other interface", to_backend(udp(CLIENT, far, checksum=0), FAR_NAMES.backend))
    return book
