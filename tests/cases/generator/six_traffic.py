"""IPv6: packets to backends and back, extension headers, pieces, what is not ours."""

from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (HBHOptUnknown, ICMPv6EchoReply, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop,
                                IPv6ExtHdrRouting, PadN)
from scapy.packet import Raw

from .book import Book
from .rules import dropped, left, passed, step
from .six import (BEHIND, CLIENT, EMPTY, FAR, FAR_NAMES, GATEWAY_HOP, LOCAL, LOST, NAMES, OLD_WEB, OWN, PORTS, USUAL,
                  USUAL_DIRECT_ACCESS, USUAL_HOST, WEB, echo, ip, leaving, pieces, tcp, to_backend, to_client, udp)
from . import packets as four
from . import rules as four_rules

BACKEND = (WEB.backend.address, WEB.backend.port)
NAME_SERVER = (NAMES.backend.address, NAMES.backend.port)
VIP, NAMES_VIP = (WEB.vip, 80), (NAMES.vip, 53)


def book_of(name, about):
    return Book(name, about, USUAL, USUAL_HOST, USUAL_DIRECT_ACCESS)


def to_web(packet, **more):
    return to_backend(packet, WEB.backend, **more)


def forward_book():
    book = book_of("ipv6-forward", "IPv6 from a client to the backend of a settled service")
    for flags in ("S", "A", "PA", "FA", "R", "RA", "SA", "SR", 0):
        book.case(f"TCP: {flags or 'no flag'}", to_web(tcp(CLIENT, VIP, flags=flags)))
    for length in (0, 1, 2, 3, 4, 7, 8, 15, 16, 511, 1_439, 1_440):
        book.case(f"TCP: {length} bytes of payload", to_web(tcp(CLIENT, VIP, flags="PA", payload=bytes(n * 7 & 255 for n in range(length)))))
        if length:
            book.case(f"UDP: {length} bytes of payload",
                      to_backend(udp(CLIENT, NAMES_VIP, bytes(n * 5 & 255 for n in range(length))), NAMES.backend))
    book.case("UDP without data", to_backend(udp(CLIENT, NAMES_VIP, b""), NAMES.backend))
    book.case("UDP without a checksum is malformed (RFC 8200, section 8.1)", dropped(udp(CLIENT, NAMES_VIP, checksum=0), "names", "malformed"))
    becomes = _sum_of(udp(CLIENT, NAMES_VIP, b"\0\0"), NAMES.backend, UDP)
    book.case("a UDP checksum that comes to zero is sent as 0xffff", to_backend(udp(CLIENT, NAMES_VIP, becomes), NAMES.backend))
    book.case("a TCP checksum that becomes zero", to_web(tcp(CLIENT, VIP, payload=_sum_of(tcp(CLIENT, VIP, payload=b"\0\0"), WEB.backend, TCP))))
    for hlim in (2, 3, 255):
        book.case(f"hop limit {hlim}", to_web(tcp(CLIENT, VIP, hlim=hlim)))
    for name, tc in {"expedited forwarding": 0xB8, "ECN capable": 2, "all bits": 0xFF}.items():
        book.case(f"the traffic class is kept: {name}", to_web(tcp(CLIENT, VIP, tc=tc)))
    book.case("the flow label is kept", to_web(tcp(CLIENT, VIP, fl=0xABCDE)))
    book.case("padding is kept", to_web(tcp(CLIENT, VIP, padding=bytes(9))))
    book.case("a window of zero", to_web(tcp(CLIENT, VIP, window=0)))
    for port in (0, 1, 80, 65_535):
        book.case(f"from port {port}", to_web(tcp((CLIENT[0], port), VIP, flags="S")))
    for client in ("2001:db8::", "::1:0:0:0:1", "fd00:9::77", "2001:db8:2::9", "fe80::1", "64:ff9b::c000:201"):
        book.case(f"from {client}", to_web(tcp((client, 40_000), VIP, flags="S")))
    book.case("in by one interface, out by the other", to_backend(tcp(CLIENT, (FAR.vip, 80), flags="S"), FAR.backend))
    book.case("in and out by the second interface", to_backend(tcp(CLIENT, (FAR.vip, 80), came="far"), FAR.backend, came="far"))
    book.case("a datagram by the other interface", to_backend(udp(CLIENT, (FAR_NAMES.vip, 53)), FAR_NAMES.backend))
    for port in (443, 80, 8443):
        book.case(f"one of several ports, kept for the backend: {port}", to_backend(tcp(CLIENT, (PORTS.vip, port), flags="S"), PORTS.backend))
    book.case("a backend behind the gateway", to_backend(tcp(CLIENT, (BEHIND.vip, 80)), BEHIND.backend))
    for flags in ("S", "PA"):
        book.case(f"a backend without a next hop goes by the kernel: {flags}", to_backend(
            tcp(CLIENT, (LOST.vip, 80), flags=flags, payload=b"odd" if flags == "PA" else b""), LOST.backend, service="lost"))
    for flags in ("S", "A", "FA", "R"):
        book.case(f"a version without backends: {flags}", dropped(tcp(CLIENT, (EMPTY.vip, 80), flags=flags), "empty", "no_backend"))
    book.case("a service at an address of this host", to_backend(tcp(CLIENT, (LOCAL.vip, 80), flags="S"), LOCAL.backend))
    book.case("another port of an address of this host", left(tcp(CLIENT, (LOCAL.vip, 22), flags="S"), "local", "local_address"))
    book.case("a service of IPv4 beside it", four_rules.to_backend(
        four.tcp(four.CLIENT, (OLD_WEB.vip, 80)), OLD_WEB.backend, service=OLD_WEB.name))
    _malformed(book)
    return book


def _sum_of(packet, backend, layer):
    from .six import for_backend
    out = for_backend(packet, backend)
    return type(out)(bytes(out))[layer].chksum.to_bytes(2, "big")


def _malformed(book):
    whole = bytes(tcp(CLIENT, VIP, flags="PA", payload=b"0123456789"))
    for length, what in ((73, "in the TCP header"), (80, "in the data")):
        book.case(f"cut {what}", dropped(whole[:length], "web", "malformed"))
    for length in (14, 30, 53):
        book.case(f"cut to {length} bytes", passed(whole[:length]))
    book.case("a length that ends in the TCP header", dropped(tcp(CLIENT, VIP, plen=19), "web", "malformed"))
    book.case("a length of zero", dropped(tcp(CLIENT, VIP, plen=0), "web", "malformed"))
    book.case("a length beyond the frame", dropped(tcp(CLIENT, VIP, plen=21), "web", "malformed"))
    book.case("a version of four in an IPv6 frame", dropped(whole[:14] + b"\x45" + whole[15:], "web", "malformed"))
    book.case("a UDP header that is cut", dropped(bytes(udp(CLIENT, NAMES_VIP))[:60], "web", "malformed"))


def reverse_book():
    book = book_of("ipv6-reverse", "IPv6 from a backend back to the client, and what of a backend's packets is left alone")
    for flags in ("SA", "A", "PA", "FA", "R", "RA"):
        book.case(f"TCP: {flags}", to_client(tcp(BACKEND, CLIENT, flags=flags), WEB))
    book.case("a refusal", to_client(tcp(BACKEND, CLIENT, flags="RA", seq=0), WEB))
    for length in (0, 1, 2, 3, 1_440):
        book.case(f"UDP: {length} bytes", to_client(udp(NAME_SERVER, CLIENT, bytes(length)), NAMES))
    for hlim in (2, 255):
        book.case(f"hop limit {hlim}", to_client(tcp(BACKEND, CLIENT, hlim=hlim), WEB))
    book.case("from a backend that keeps the client's port", to_client(tcp((PORTS.backend.address, 8443), CLIENT), PORTS))
    book.case("from a backend behind the gateway", to_client(tcp((BEHIND.backend.address, BEHIND.backend.port), CLIENT), BEHIND))
    book.case("from a backend at the second interface", to_client(tcp((FAR.backend.address, 8085), CLIENT, came="far"), FAR, came="far"))
    book.case("to a client on a link of this host, whose neighbour is not known",
              to_client(tcp(BACKEND, ("2001:db8:2::77", 9)), WEB, hop=None))
    book.case("for this host itself", left(tcp(BACKEND, (OWN["near"], 50_000)), "web", "direct_access"))
    book.case("with direct access", left(tcp(BACKEND, ("fd00:77:1::1", 50_000)), "web", "direct_access"))
    book.case("to a group", left(udp(NAME_SERVER, ("ff02::1", 5353)), "names", "direct_access"))
    book.case("from another port of the backend", passed(tcp((BACKEND[0], 22), CLIENT)))
    book.case("from the port in the other protocol", passed(udp(BACKEND, CLIENT)))
    book.case("a datagram without a checksum", dropped(udp(NAME_SERVER, CLIENT, checksum=0), "names", "malformed"))
    book.case("cut", dropped(bytes(tcp(BACKEND, CLIENT, payload=b"x" * 9))[:80], "web", "malformed"))
    return book


NOTHING = PadN(optdata=b"\0" * 4)
HEADERS = {
    "hop-by-hop options": [IPv6ExtHdrHopByHop(options=[NOTHING])],
    "destination options": [IPv6ExtHdrDestOpt(options=[NOTHING])],
    "long destination options": [IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x1E, optdata=bytes(100))])],
    "a routing header that is done": [IPv6ExtHdrRouting(type=4, segleft=0, addresses=["2001:db8::9"])],
    "all of them": [IPv6ExtHdrHopByHop(options=[NOTHING]), IPv6ExtHdrDestOpt(options=[NOTHING]),
                    IPv6ExtHdrRouting(type=4, segleft=0, addresses=["2001:db8::9"]), IPv6ExtHdrDestOpt(options=[NOTHING])],
    "the fragment header of a whole datagram": [IPv6ExtHdrFragment(id=7)],
    "eight headers": [IPv6ExtHdrDestOpt(options=[NOTHING])] * 8,
}


def headers_book():
    book = book_of("ipv6-headers", "IPv6 with extension headers")
    for name, headers in HEADERS.items():
        book.case(f"a segment behind {name}", to_web(tcp(CLIENT, VIP, flags="PA", payload=b"odd", headers=headers)))
        book.case(f"a SYN behind {name}", to_web(tcp(CLIENT, VIP, flags="S", headers=headers)))
        book.case(f"a datagram behind {name}", to_backend(udp(CLIENT, NAMES_VIP, headers=headers), NAMES.backend))
        book.case(f"a reply behind {name}", to_client(tcp(BACKEND, CLIENT, payload=b"odd", headers=headers), WEB))
        book.case(f"not ours, behind {name}", passed(tcp(CLIENT, ("2001:db8:e::1", 80), headers=headers)))
    broken = {
        "nine headers": [IPv6ExtHdrDestOpt(options=[NOTHING])] * 9,
        "a routing header by which it has farther to go": [IPv6ExtHdrRouting(type=4, segleft=1, addresses=["2001:db8::9"])],
        "two fragment headers": [IPv6ExtHdrFragment(id=7), IPv6ExtHdrFragment(id=8)],
        "options beyond a kilobyte": [IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x1E, optdata=bytes(252))] * 4)],
    }
    for name, headers in broken.items():
        book.case(f"{name}: malformed", dropped(tcp(CLIENT, VIP, headers=headers), "web", "malformed"))
        book.case(f"{name}: not ours", passed(tcp(CLIENT, ("2001:db8:e::1", 80), headers=headers)))
    whole = bytes(tcp(CLIENT, VIP, headers=HEADERS["destination options"]))
    book.case("a chain that is cut", dropped(whole[:60], "web", "malformed"))
    # An authentication header counts in words of four bytes, less two (RFC 4302, section 2.2).
    segment = tcp(CLIENT, VIP, payload=b"odd")
    authenticated = _behind(bytes(segment), 51, bytes([6, 4, 0, 0]) + bytes(range(20)))
    out = bytearray(bytes.fromhex(to_web(segment)["send"]["out"]))
    book.case("a segment behind an authentication header, which then is wrong", step(
        authenticated, "TX", _behind(bytes(out), 51, bytes([6, 4, 0, 0]) + bytes(range(20))), to="near",
        backends={"web-1": {"packetsForward": 1, "bytesForward": len(authenticated)}}))
    for name, number in {"no next header": 59, "ESP": 50, "GRE": 47, "SCTP": 132, "ICMP of IPv4": 1}.items():
        book.case(f"another protocol: {name}", dropped(ip(CLIENT[0], LOST.vip, nh=number) / Raw(bytes(24)), "lost", "no_service"))
    return book


def _behind(frame, number, header):
    """The frame with a header put between IPv6 and what follows."""
    length = int.from_bytes(frame[18:20], "big") + len(header)
    return frame[:18] + length.to_bytes(2, "big") + bytes([number]) + frame[21:54] + header + frame[54:]


def fragments_book():
    book = book_of("ipv6-fragments", "pieces of IPv6 datagrams, which follow the first one")
    for name, packet, send in (
        ("a datagram", udp(CLIENT, NAMES_VIP, bytes(n & 255 for n in range(3_000))), _forward(NAMES)),
        ("a segment", tcp(CLIENT, VIP, flags="PA", payload=bytes(n & 255 for n in range(3_000))), _forward(WEB)),
        ("an answer", udp(NAME_SERVER, CLIENT, bytes(n & 255 for n in range(3_000))), _back(NAMES)),
        ("a datagram by the other interface", udp(CLIENT, (FAR_NAMES.vip, 53), bytes(3_000)), _forward(FAR_NAMES)),
    ):
        steps = send(packet)
        book.case(f"{name} in pieces", *steps)
        book.case(f"{name}, its last piece before the others", steps[0], steps[2], steps[1])
    packet = udp(CLIENT, NAMES_VIP, bytes(3_000), headers=HEADERS["destination options"])
    book.case("a datagram in pieces whose fragment header lies before destination options", *_forward(NAMES)(packet))
    later = list(pieces(udp(CLIENT, NAMES_VIP, bytes(3_000)), number=9))[1]
    book.case("a later piece whose first one was not seen", dropped(later, "web", "fragment"))
    first = _forward(NAMES)(udp(CLIENT, NAMES_VIP, bytes(3_000)), number=10)[0]
    book.case("a later piece of another datagram", first, dropped(later, "web", "fragment"))
    # Destination and protocol differ from the first one's in the same bits, which cancel out in the hash of the two.
    first = _forward(WEB)(tcp(CLIENT, VIP, flags="PA", payload=bytes(3_000)), number=12)[0]
    alike = ip(CLIENT[0], "2001:db8:ff::3a00:10") / IPv6ExtHdrFragment(nh=6 ^ 0x3A, offset=181, m=0, id=12) / Raw(bytes(64))
    book.case("a later piece for nobody whose hash is that of another datagram", first, passed(alike))
    book.case("a later piece for nobody", passed(list(pieces(udp(CLIENT, ("2001:db8:e::1", 53), bytes(3_000))))[1]))
    book.case("a backend's later piece whose first one was not seen", passed(list(pieces(udp(NAME_SERVER, CLIENT, bytes(3_000)), number=11))[1]))
    request = list(pieces(echo(CLIENT[0], LOST.vip, bytes(3_000))))
    for piece, name in zip(request, ("the first", "a later")):
        book.case(f"{name} piece of an echo request", dropped(piece, "lost", "fragment"))
    return book


def _forward(service):
    def send(packet, **more):
        from .six import for_backend
        return _pieces(packet, for_backend(packet, service.backend), service, service.backend.hop, "Forward", more)
    return send


def _back(service):
    def send(packet, **more):
        from .six import for_client
        return _pieces(packet, for_client(packet, service), service, GATEWAY_HOP, "Reverse", more)
    return send


def _pieces(packet, rewritten, service, hop, side, more):
    steps = []
    for piece, out in zip(pieces(packet, **more), pieces(rewritten, **more)):
        leaving(out, hop)
        counts = {f"packets{side}": 1, f"bytes{side}": len(bytes(piece))}
        verdict = "TX" if hop.interface == "near" else "REDIRECT"
        steps.append(step(piece, verdict, out, to=hop.interface, backends={service.backend.name: counts}))
    return steps


def not_ours_book():
    book = book_of("ipv6-not-ours", "IPv6 that passes byte for byte")
    for name, packet in {
        "TCP to elsewhere": tcp(CLIENT, ("2001:db8:e::1", 80)), "UDP to elsewhere": udp(CLIENT, ("2001:db8:e::1", 53)),
        "to this host": tcp(CLIENT, (OWN["near"], 22)), "to a backend": tcp(CLIENT, BACKEND),
        "an echo request to this host": echo(CLIENT[0], OWN["near"]),
        "an echo reply": echo(WEB.vip, CLIENT[0], kind=ICMPv6EchoReply),
        "to a group": udp(("fe80::9", 5353), ("ff02::fb", 5353)),
        "an address whose last bytes are a virtual one's": tcp(CLIENT, ("2001:db8:fe::10", 80)),
        "an address whose first bytes are a virtual one's": tcp(CLIENT, ("2001:db8:ff::50", 80)),
    }.items():
        book.case(name, passed(packet))
    for length in (14, 15, 53):
        book.case(f"{length} bytes", passed(bytes(tcp(CLIENT, VIP))[:length]))
    return book
