"""From a backend back to the client, by every kind of route, and what of a backend's packets is left alone."""

from itertools import product

from scapy.layers.inet import IP, TCP, UDP

from .book import Book
from .hosts import (FAR, FAR_GATEWAY, FAR_NAMES, LOST, NAMES, PORTS, USUAL, USUAL_DIRECT_ACCESS, USUAL_HOST, WEB, Hop,
                    mac_of, neighbour)
from .packets import CLIENT, flags_named, padded, tcp, udp, without_checksums
from .rules import left, passed, spoiled, to_client

BACKEND = (WEB.backend.address, WEB.backend.port)
NAME_SERVER = (NAMES.backend.address, NAMES.backend.port)
IP_SUM, TCP_SUM, UDP_SUM = 24, 50, 40
MANY = "ff:ff:ff:ff:ff:ff"


def web(to=CLIENT, **how):
    return tcp(BACKEND, to, **how)


def names(payload=b"answer", to=CLIENT, **how):
    return udp(NAME_SERVER, to, payload, **how)


def from_web(packet, **how):
    return to_client(packet, WEB, **how)


def from_names(packet, **how):
    return to_client(packet, NAMES, **how)


def rewritten(packet, service):
    out = without_checksums(packet)
    out[IP].src, out[TCP if TCP in out else UDP].sport = service.vip, service.port
    out[IP].ttl -= 1
    return type(out)(bytes(out))


def book():
    book = Book("reverse", "from a backend back to the client, by the default gateway", USUAL, USUAL_HOST, USUAL_DIRECT_ACCESS)
    for combination in product([0, 1], repeat=4):
        flags = sum(bit for bit, chosen in zip((1, 2, 4, 16), combination) if chosen)
        book.case(f"flags: {flags_named(flags)}", from_web(web(flags=flags)))
    book.case("RST+ACK with number 0 is a refusal", from_web(web(flags="RA", seq=0)))
    book.case("RST with number 0 is a refusal too", from_web(web(flags="R", seq=0)))
    book.case("SYN+ACK with number 0 is none", from_web(web(flags="SA", seq=0)))
    for flags in ("A", "SA", "FA", "R"):
        book.case(f"window of zero with {flags_named(int(web(flags=flags)[TCP].flags))}", from_web(web(flags=flags, window=0)))
    for length in (1, 2, 3, 17, 1460):
        book.case(f"TCP with {length} bytes of payload", from_web(web(flags="PA", payload=bytes(n * 3 & 255 for n in range(length)))))
        book.case(f"UDP with {length} bytes of payload", from_names(names(bytes(n * 3 & 255 for n in range(length)))))
    book.case("UDP without payload", from_names(names(b"")))
    book.case("UDP without a checksum stays without", from_names(names(checksum=0)))
    becomes = rewritten(names(b"\0\0"), NAMES)[UDP].chksum.to_bytes(2, "big")
    book.case("a UDP checksum that comes to zero is sent as 0xffff", from_names(names(becomes)))
    becomes = rewritten(web(payload=b"\0\0"), WEB)[TCP].chksum.to_bytes(2, "big")
    book.case("a TCP checksum that becomes zero", from_web(web(payload=becomes)))
    book.case("a wrong TCP checksum stays as wrong", spoiled(from_web(web(payload=b"x")), TCP_SUM))
    book.case("a wrong UDP checksum stays as wrong", spoiled(from_names(names()), UDP_SUM))
    book.case("a wrong IPv4 checksum stays as wrong", spoiled(from_web(web()), IP_SUM))
    syn_ack = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (9, 1)), ("NOP", None), ("WScale", 7)]
    book.case("a SYN+ACK of Linux", from_web(web(flags="SA", tcp_options=syn_ack)))
    book.case("IPv4 options and odd payload", from_web(web(options=b"\x01\x01\x01\x00", payload=b"odd")))
    book.case("IPv4 options in a datagram", from_names(names(options=b"\x94\x04\x00\x00")))
    book.case("padded to the shortest frame", from_web(padded(web())))
    book.case("bytes behind the datagram are kept", from_names(names(b"a", padding=b"\xee" * 7)))
    book.case("the service byte is kept", from_web(web(tos=0xFF)))
    for ttl in (2, 255):
        book.case(f"time to live {ttl}", from_web(web(ttl=ttl)))
    _endpoints(book)
    _left_alone(book)
    return book


def _endpoints(book):
    for port in PORTS_OF_PORTS:
        packet = tcp((PORTS.backend.address, port), CLIENT, flags="SA")
        book.case(f"a service that keeps the client's port: {port}", to_client(packet, PORTS))
    book.case("another port of a backend that keeps the client's", passed(tcp((PORTS.backend.address, 22), CLIENT, flags="SA")))
    book.case("from behind the second interface to the first", to_client(
        tcp((FAR.backend.address, FAR.backend.port), CLIENT, came="far"), FAR, came="far"))
    book.case("datagram from behind the second interface", to_client(
        udp((FAR_NAMES.backend.address, FAR_NAMES.backend.port), CLIENT, came="far"), FAR_NAMES, came="far"))
    book.case("a backend that came in by another interface than it is behind", to_client(
        tcp((FAR.backend.address, FAR.backend.port), CLIENT), FAR))
    book.case("a backend whose own next hop is not known", to_client(tcp((LOST.backend.address, LOST.backend.port), CLIENT), LOST))


PORTS_OF_PORTS = (443, 80, 8443)


def _left_alone(book):
    for name, flags in {"the answer to a health check": "SA", "its refusal": "RA", "its end": "FA"}.items():
        book.case(f"{name}, for this host", left(web(("10.1.0.1", 51_000), flags=flags), "web", "direct_access"))
    book.case("for this host's address on the second interface", left(web(("10.2.0.1", 51_000)), "web", "direct_access"))
    book.case("for this host's own virtual address, another port", left(web(("192.0.2.16", 51_000)), "web", "direct_access"))
    book.case("a datagram for this host", left(names(to=("10.1.0.1", 51_000)), "names", "direct_access"))
    for client in ("10.77.0.1", "10.77.255.255"):
        book.case(f"with direct access: {client}", left(web((client, 40_000)), "web", "direct_access"))
    for client in ("10.76.255.255", "10.78.0.0"):
        book.case(f"next to the prefix with direct access: {client}", from_web(web((client, 40_000))))
    for name, group in {"everyone on the link": "255.255.255.255", "a group": "224.0.0.251", "a group of its own network": "239.255.1.2",
                        "a reserved address": "240.0.0.1"}.items():
        book.case(f"for {name}: no reply", left(names(to=(group, 5_353), macs=(mac_of(NAME_SERVER[0]), MANY)), "names", "direct_access"))
    book.case("for the last address that is a single host's", from_names(names(to=("223.255.255.255", 5_353))))
    book.case("another port of a backend", passed(tcp((BACKEND[0], 22), CLIENT, flags="SA")))
    book.case("another protocol of a backend", passed(udp(BACKEND, CLIENT)))
    book.case("a client's packet straight for a backend", passed(tcp(CLIENT, BACKEND, flags="S")))
    book.case("the virtual port at a backend's address", passed(tcp((BACKEND[0], 80), CLIENT)))


# A client for each kind of route, and what makes the kind.
ROUTES_HOST = [
    *USUAL_HOST,
    neighbour("near", "10.1.0.7"), neighbour("near", "10.9.0.200"), neighbour("far", "10.2.0.8"),
    neighbour("far", FAR_GATEWAY), neighbour("near", "10.1.0.253"),
    f"route add 10.88.0.0/16 via {FAR_GATEWAY}",
    "route add 10.88.7.0/24 via 10.1.0.253",
    "route add 10.88.7.9/32 via 10.1.0.254",
    *(f"route add 10.{number}.0.0/16 via {FAR_GATEWAY}" for number in range(90, 98)),
    "route add 10.89.0.0/16 via 10.2.0.99",
    "route add unreachable 10.99.0.0/16",
    "route add blackhole 10.100.0.0/16",
    "route add prohibit 10.101.0.0/16",
]
FAR_GATEWAY_HOP = Hop("far", FAR_GATEWAY)


def _by_route(book, service, make, send):
    def to(address):
        return make((address, 40_000))

    book.case(f"{service}: the default gateway", send(to("10.64.0.1")))
    book.case(f"{service}: a neighbour on the link", send(to("10.1.0.7"), hop=Hop("near", "10.1.0.7")))
    book.case(f"{service}: a neighbour on the backend's own link", send(to("10.9.0.200"), hop=Hop("near", "10.9.0.200")))
    book.case(f"{service}: a neighbour on the second link", send(to("10.2.0.8"), hop=Hop("far", "10.2.0.8")))
    book.case(f"{service}: an unknown neighbour goes by the kernel, rewritten", send(to("10.1.0.9"), hop=None))
    book.case(f"{service}: an unknown neighbour on the second link", send(to("10.2.0.77"), hop=None))


def _by_many(book):
    book.case("a second gateway behind the other interface", from_web(web(("10.88.0.1", 40_000)), hop=FAR_GATEWAY_HOP))
    book.case("a longer prefix by a third gateway", from_web(web(("10.88.7.1", 40_000)), hop=Hop("near", "10.1.0.253")))
    book.case("the longest prefix, one address", from_web(web(("10.88.7.9", 40_000))))
    book.case("next to the longest prefix", from_web(web(("10.88.7.10", 40_000)), hop=Hop("near", "10.1.0.253")))
    book.case("the last address of a prefix", from_web(web(("10.88.255.255", 40_000)), hop=FAR_GATEWAY_HOP))
    book.case("the first address behind a prefix: its gateway is not known", from_web(web(("10.89.0.0", 40_000)), hop=None))
    book.case("datagram by the second gateway", from_names(names(to=("10.97.1.1", 4_000)), hop=FAR_GATEWAY_HOP))
    book.case("datagram without a checksum by the second gateway",
              from_names(names(to=("10.97.1.1", 4_000), checksum=0), hop=FAR_GATEWAY_HOP))
    book.case("back out by the interface it came in by", from_web(
        web(("10.88.0.1", 40_000), came="far"), hop=FAR_GATEWAY_HOP, came="far"))
    for address, name in (("10.99.0.1", "unreachable"), ("10.100.0.1", "a black hole"), ("10.101.0.1", "prohibited")):
        book.case(f"a network that is {name} is left to the kernel", left(web((address, 40_000)), "web", "no_route"))
    book.case("an unreachable network, UDP", left(names(to=("10.99.0.1", 53)), "names", "no_route"))
    book.case("direct access", left(web(("10.77.0.1", 40_000)), "web", "direct_access"))
    book.case("this host", left(web(("10.2.0.1", 40_000)), "web", "direct_access"))
    book.case("a local virtual address", left(web(("192.0.2.16", 40_000)), "web", "direct_access"))


def gateway_book():
    """The reply routes are so few that all but these networks go by one gateway."""
    book = Book("reply-gateway", "replies where one gateway leads everywhere but to the host's own networks", USUAL,
                [*USUAL_HOST, neighbour("near", "10.1.0.7"), neighbour("near", "10.9.0.200"), neighbour("far", "10.2.0.8")],
                USUAL_DIRECT_ACCESS)
    _by_route(book, "TCP", lambda to: web(to), from_web)
    _by_route(book, "UDP", lambda to: names(to=to), from_names)
    return book


def routes_book():
    """So many gateways that the routes are looked up."""
    book = Book("reply-routes", "replies where many gateways lead on, and some networks cannot be reached", USUAL, ROUTES_HOST,
                USUAL_DIRECT_ACCESS)
    _by_route(book, "TCP", lambda to: web(to), from_web)
    _by_many(book)
    return book


def rules_book():
    """Policy rules: only the kernel's own tables know the way."""
    host = [
        *USUAL_HOST, neighbour("near", "10.1.0.7"), neighbour("far", FAR_GATEWAY),
        "rule add to 10.88.0.0/16 table 100", f"route add default via {FAR_GATEWAY} table 100",
        "rule add to 10.99.0.0/16 unreachable",
    ]
    book = Book("reply-rules", "replies where policy rules decide: the kernel's own tables are asked", USUAL, host, USUAL_DIRECT_ACCESS)
    book.case("by the rule's table", from_web(web(("10.88.3.4", 40_000)), hop=FAR_GATEWAY_HOP))
    book.case("by the main table", from_web(web()))
    book.case("a neighbour", from_web(web(("10.1.0.7", 40_000)), hop=Hop("near", "10.1.0.7")))
    book.case("an unknown neighbour", from_web(web(("10.1.0.9", 40_000)), hop=None))
    book.case("a rule that says unreachable", left(web(("10.99.0.1", 40_000)), "web", "no_route"))
    book.case("this host", left(web(("10.1.0.1", 51_000)), "web", "direct_access"))
    book.case("direct access", left(names(to=("10.77.0.1", 51_000)), "names", "direct_access"))
    book.case("UDP by the rule's table", from_names(names(to=("10.88.3.4", 53)), hop=FAR_GATEWAY_HOP))
    return book
