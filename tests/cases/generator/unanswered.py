"""What is dropped, or passes, until the program answers or follows it: other ports, expired packets, fragments, ICMP, sizes.

Each book is a file of its own: whoever changes what becomes of such packets changes one function here.
"""

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Raw

from .book import Book
from .hosts import EMPTY, LOCAL, LOST, LOST_NAMES, NAMES, USUAL, USUAL_DIRECT_ACCESS, USUAL_HOST, WEB
from .packets import CLIENT, echo, ip, padded, tcp, udp
from .rules import dropped, left, passed, to_backend, to_client

BACKEND = (WEB.backend.address, WEB.backend.port)
NAME_SERVER = (NAMES.backend.address, NAMES.backend.port)


def _book(name, about):
    return Book(name, about, USUAL, USUAL_HOST, USUAL_DIRECT_ACCESS)


def ports_book():
    book = _book("other-ports", "for a virtual address, and for no service there")
    for flags in ("S", "A", "SA", "FA", "R", "RA", "F", 0):
        book.case(f"another TCP port: {flags or 'no flag'}", dropped(tcp(CLIENT, (LOST.vip, 81), flags=flags), "lost", "no_service"))
    for port in (0, 1, 79, 65_535):
        book.case(f"TCP port {port}", dropped(tcp(CLIENT, (LOST.vip, port), flags="S"), "lost", "no_service"))
        book.case(f"UDP port {port}", dropped(udp(CLIENT, (LOST.vip, port)), "lost", "no_service"))
    book.case("the service's port of the other protocol: UDP", dropped(udp(CLIENT, (LOST.vip, 80)), "lost", "no_service"))
    book.case("the service's port of the other protocol: TCP", dropped(tcp(CLIENT, (LOST_NAMES.vip, 53), flags="S"), "lost-names", "no_service"))
    book.case("a traceroute's datagram", dropped(udp(CLIENT, (WEB.vip, 33_434), b"@" * 32), "web", "no_service"))
    book.case("data, padded", dropped(padded(tcp(CLIENT, (LOST.vip, 81), payload=b"x")), "lost", "no_service"))
    book.case("IPv4 options", dropped(tcp(CLIENT, (LOST.vip, 81), flags="S", options=b"\x01\x01\x01\x00"), "lost", "no_service"))
    book.case("at the second interface", dropped(tcp(CLIENT, (LOST.vip, 81), flags="S", came="far"), "lost", "no_service", came="far"))
    book.case("the backend's port at the virtual address", dropped(tcp(CLIENT, (WEB.vip, 8081), flags="S"), "web", "no_service"))
    for name, number in {"IPv4 in IPv4": 4, "GRE": 47, "ESP": 50, "SCTP": 132, "IPv6 in IPv4": 41}.items():
        book.case(f"another protocol: {name}", dropped(ip(CLIENT[0], LOST.vip, proto=number) / Raw(bytes(24)), "lost", "no_service"))
    return book


def expired_book():
    book = _book("expired", "whose time to live ends here")
    for ttl in (0, 1):
        book.case(f"a client's segment, time to live {ttl}", dropped(tcp(CLIENT, (WEB.vip, 80), ttl=ttl), "web", "ttl_expired"))
        book.case(f"a client's datagram, time to live {ttl}", dropped(udp(CLIENT, (NAMES.vip, 53), ttl=ttl), "names", "ttl_expired"))
        book.case(f"a backend's segment, time to live {ttl}", dropped(tcp(BACKEND, CLIENT, ttl=ttl), "web", "ttl_expired"))
        book.case(f"a backend's datagram, time to live {ttl}", dropped(udp(NAME_SERVER, CLIENT, ttl=ttl), "names", "ttl_expired"))
    book.case("to a backend without a next hop", dropped(tcp(CLIENT, (LOST.vip, 80), ttl=1), "lost", "ttl_expired"))
    book.case("to a version without backends", dropped(tcp(CLIENT, (EMPTY.vip, 80), ttl=1), "empty", "ttl_expired"))
    book.case("to another port", dropped(tcp(CLIENT, (LOST.vip, 81), ttl=1), "lost", "no_service"))
    book.case("a SYN with IPv4 options", dropped(tcp(CLIENT, (WEB.vip, 80), flags="S", ttl=1, options=b"\x01\x01\x01\x00"), "web", "ttl_expired"))
    book.case("a backend's for this host: the last hop is here", left(tcp(BACKEND, ("10.1.0.1", 50_000), ttl=1), "web", "direct_access"))
    book.case("a backend's with direct access", left(tcp(BACKEND, ("10.77.0.1", 50_000), ttl=1), "web", "direct_access"))
    return book


def fragments_book():
    book = _book("fragments", "pieces of datagrams")
    pieces = {"the first": {"flags": "MF"}, "the first, which may not be fragmented": {"flags": "MF+DF"},
              "one in the middle": {"flags": "MF", "frag": 185}, "the last": {"flags": 0, "frag": 370},
              "a last one at the end of all": {"flags": 0, "frag": 8_191}}
    for name, how in pieces.items():
        book.case(f"{name}, UDP", dropped(_piece(17, NAMES.vip, how), "web", "fragment"))
        book.case(f"{name}, TCP", dropped(_piece(6, LOST.vip, how), "lost", "fragment"))
    book.case("of an echo request", dropped(_piece(1, LOST.vip, pieces["the first"]), "lost", "fragment"))
    book.case("of another protocol", dropped(_piece(47, LOST.vip, pieces["the last"]), "lost", "fragment"))
    book.case("for a local virtual address", left(_piece(17, LOCAL.vip, pieces["the first"]), "local", "local_address"))
    book.case("a backend's first one is not known to be the service's", passed(_piece(17, CLIENT[0], pieces["the first"], NAME_SERVER)))
    book.case("a backend's last one likewise", passed(_piece(17, CLIENT[0], pieces["the last"], NAME_SERVER)))
    return book


def sizes_book():
    book = _book("sizes", "frames beyond the outgoing link's 1,500 bytes")
    for length in (1_461, 3_000):
        for flags, name in (("DF", "may not be fragmented"), (0, "may be fragmented")):
            segment = tcp(CLIENT, (WEB.vip, 80), flags="PA", payload=bytes(length))
            segment[IP].flags = flags
            book.case(f"a client's segment of {length} bytes of data, which {name}", to_backend(segment, WEB.backend))
            datagram = udp(NAME_SERVER, CLIENT, bytes(length + 12), flags=flags)
            book.case(f"a backend's datagram of {length + 12} bytes of data, which {name}", to_client(datagram, NAMES))
    return book


def _piece(protocol, to, how, source=CLIENT):
    body = bytes(UDP(sport=source[1], dport=53, len=3_000, chksum=0x1234)) + bytes(range(64))
    return ip(source[0], to, proto=protocol, **how) / Raw(body)


def icmp_book():
    book = _book("icmp", "ICMP for a virtual address or of a backend, but echo requests")
    quoted = IP(src=LOST.vip, dst=CLIENT[0], id=1, flags="DF") / TCP(sport=80, dport=40_000, flags="A", seq=1)
    errors = {"host unreachable": (3, 1), "port unreachable": (3, 3), "fragmentation needed": (3, 4), "time exceeded": (11, 0),
              "parameter problem": (12, 0), "source quench": (4, 0), "redirect": (5, 1)}
    for name, (kind, code) in errors.items():
        book.case(f"to a virtual address: {name}", dropped(_error("10.64.0.254", LOST.vip, kind, code, quoted), "lost", "icmp"))
    for name, kind in {"timestamp request": 13, "address mask request": 17, "router solicitation": 10, "unknown": 200}.items():
        book.case(f"to a virtual address: {name}", dropped(echo(CLIENT[0], LOST.vip, bytes(12), kind=kind), "lost", "icmp"))
    book.case("an echo reply", dropped(echo(CLIENT[0], LOST.vip, kind=0), "lost", "icmp"))
    book.case("an echo request with a code", dropped(echo(CLIENT[0], LOST.vip, code=1), "lost", "icmp"))
    book.case("an echo request of two bytes", dropped(echo(CLIENT[0], LOST.vip, b"", len=22), "lost", "icmp"))
    answered = IP(src=CLIENT[0], dst=NAME_SERVER[0], id=1) / UDP(sport=CLIENT[1], dport=NAME_SERVER[1]) / b"question"
    book.case("a backend's port unreachable passes as it came", passed(_error(NAME_SERVER[0], CLIENT[0], 3, 3, answered)))
    book.case("a router's fragmentation needed about a backend's packet", passed(_error("10.9.0.254", CLIENT[0], 3, 4, answered)))
    return book


def _error(source, to, kind, code, quoted):
    return ip(source, to) / ICMP(type=kind, code=code) / Raw(bytes(quoted)[:28])
