"""`ipip`: a packet goes to its backend inside another one (RFC 2003, RFC 2473), with its time to live lowered and its virtual endpoint kept."""

import ipaddress
from dataclasses import dataclass

from scapy.layers.inet import IP
from scapy.layers.inet6 import ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6
from scapy.layers.l2 import Ether

from . import packets, six
from .book import Book
from .direct import ISN, MOVING
from .hosts import GATEWAY, Backend, Hop, Service, mac_of, neighbour, on_link, own_mac, version
from .packets import error_about
from .pieces import LIFE_MS
from .rules import dropped, flag_counts, passed, step, told, verdict_of, wait

# What outer sources are made of, where the configuration says nothing.
SOURCES, SOURCES6 = ipaddress.ip_network("172.16.0.0/16"), ipaddress.ip_network("100::/64")


@dataclass(frozen=True)
class TunnelService(Service):
    def wanted(self, versions=None, **more):
        return {**super().wanted(versions, **more), "forwarding": "ipip"}


def _is_six(address):
    return ":" in address


def _mac_of(address):
    return (six.mac_of if _is_six(address) else mac_of)(address)


def spread(packet):
    """The hash that outer source and flow label are made of: of the source address and of the ports, as they lie in a packet."""
    layer = IPv6 if IPv6 in packet else IP
    source = ipaddress.ip_address(packet[layer].src).packed
    high = int.from_bytes(source[:8], "little")
    low = int.from_bytes(source[8:], "little")
    whole = Ether(bytes(packet))
    ports = 0
    body = bytes(whole[layer].payload)
    protocol = whole[IP].proto if layer is IP else whole[IPv6].nh
    if protocol == 44:
        protocol, later, body = body[0], int.from_bytes(body[2:4], "big") & 0xFFF8, body[8:]
    else:
        later = layer is IP and whole[IP].frag
    if protocol in (6, 17) and not later:
        ports = int.from_bytes(body[:4], "little")
    turned = (low << 29 | low >> 35) & (1 << 64) - 1
    mixed = ((high ^ turned ^ ports << 24) * 0x9E3779B97F4A7C15) & (1 << 64) - 1
    return mixed >> 32


def _filled(network, hashed):
    """An address of a prefix whose last bits (32 at most) are those of a hash, as it lies in memory."""
    free = min(32, network.max_prefixlen - network.prefixlen)
    word = int.from_bytes(hashed.to_bytes(4, "little"), "big") & (1 << free) - 1
    return str(network[0] + word)


def wrapped(packet, backend):
    """The packet inside another one; Ethernet is left out."""
    inner = packet.copy()
    layer = IPv6 if IPv6 in packet else IP
    hashed = spread(packet)
    whole = Ether(bytes(packet))
    if layer is IP:
        del inner[IP].chksum
        inner[IP].ttl -= 1
        service = whole[IP].tos
        number = (whole[IP].id + whole[IP].frag * 0x9E37) & 0xFFFF
        flags = "DF" if whole[IP].flags.DF else 0
        length = whole[IP].len
    else:
        inner[IPv6].hlim -= 1
        service, number, flags = whole[IPv6].tc, 0, "DF"
        length = 40 + whole[IPv6].plen
    if _is_six(backend.address):
        outer = IPv6(src=_filled(SOURCES6, hashed), dst=backend.address, tc=service, fl=hashed & 0xFFFFF, hlim=64,
                     nh=4 if layer is IP else 41, plen=length)
    else:
        outer = IP(src=_filled(SOURCES, hashed), dst=backend.address, tos=service, id=number, flags=flags, ttl=64, proto=4, len=length + 20)
    return outer / inner[layer]


def into(packet, backend, came="near", exceptions=None, errors=0, reason=None, service=None):
    """Into the tunnel to a backend; with a reason it is left to the kernel."""
    counts = {"packetsForward": 1, "bytesForward": len(bytes(packet)), **({} if errors else flag_counts(packet, "Forward"))}
    if errors:
        counts["icmpErrorsForward"] = errors
    more = {"backends": {backend.name: counts}, "exceptions": exceptions, "came": came}
    if reason:
        kept = Ether(src=packet[Ether].src, dst=packet[Ether].dst)
        return step(packet, "PASS", kept / wrapped(packet, backend), reasons={service: {reason: 1}}, **more)
    head = Ether(src=own_mac(backend.hop.interface), dst=_mac_of(backend.hop.neighbour))
    return step(packet, verdict_of(backend.hop, came), head / wrapped(packet, backend), to=backend.hop.interface, **more)


def _link(name, address, port, interface="near"):
    return (six.on_link if _is_six(address) else on_link)(name, address, port, interface)


class Family:
    """Services of one kind of tunnel."""

    def __init__(self, make, client, vip, prefix, router, behind):
        self.make, self.client, self.vip = make, client, vip
        self.web = TunnelService("web", vip, 80, "tcp", _link("web-1", f"{prefix}1", 80))
        self.names = TunnelService("names", vip, 53, "udp", _link("names-1", f"{prefix}2", 53))
        self.far = TunnelService("far", vip, 81, "tcp", _link("far-1", f"{prefix}5", 81, "far"))
        self.ports = TunnelService("ports", vip, 443, "tcp", _link("ports-1", f"{prefix}7", 0))
        self.lost = TunnelService("lost", vip, 82, "tcp", Backend("lost-1", f"{prefix}3", 82, None))
        self.behind = TunnelService("behind", vip, 83, "tcp", Backend("behind-1", behind, 83, Hop("near", router)))
        self.old, self.new = _link("old", f"{prefix}11", 90), _link("new", f"{prefix}12", 90)
        self.moving = TunnelService("moving", vip, 90, "tcp", self.old)

    def configurations(self):
        versions = [version(name, [backend.wanted()], [backend.name]) for name, backend in (("v1", self.old), ("v2", self.new))]
        usual = [self.web.wanted(), self.names.wanted(), self.far.wanted(), {**self.ports.wanted(), "ports": [443, 8443]},
                 self.behind.wanted()]
        return {"usual": usual, "unreachable": [self.lost.wanted()], "moving": [self.moving.wanted(versions, buckets=[MOVING])]}

    def host(self):
        backends = [service.backend for service in (self.web, self.names, self.far, self.ports)] + [self.old, self.new]
        is_six = _is_six(self.web.backend.address)
        lines = six.LINKS if is_six or _is_six(self.vip) else []
        return [*lines, f"route add {self.far.backend.address}/{128 if is_six else 32} dev far",
                *((six.neighbour if is_six else neighbour)(end.hop.interface, end.address) for end in backends)]

    def tcp(self, service, **how):
        return self.make.tcp(self.client, (service.vip, service.port), **how)

    def udp(self, service, payload=b"question", **how):
        return self.make.udp(self.client, (service.vip, service.port), payload, **how)


FOUR = Family(packets, packets.CLIENT, "192.0.2.10", "10.9.0.", GATEWAY, "172.20.0.8")
SIX = Family(six, six.CLIENT, "2001:db8:ff::10", "fd00:9::1:", six.GATEWAY, "2001:db8:dd::8")
FOUR_IN_SIX = Family(packets, packets.CLIENT, "192.0.2.10", "fd00:9::1:", six.GATEWAY, "2001:db8:dd::8")


def _told_of(source, packet):
    """An error about a packet in a tunnel: of no service, dropped."""
    return step(source, "DROP", reasons={"": {"tunnel_error": 1}}) if packet else passed(source)


def four_book():
    book = Book("ipip", "ipip: IPv4 inside IPv4", FOUR.configurations(), FOUR.host())
    _forward(book, FOUR)
    _of_four(book, FOUR)
    inside = Ether() / wrapped(FOUR.tcp(FOUR.web), FOUR.web.backend)
    for name, what in {"fragmentation needed": (3, 4), "time exceeded": (11, 0), "protocol unreachable": (3, 2)}.items():
        book.case(f"an error about a packet in a tunnel: {name}", _told_of(error_about("10.9.0.1", inside, *what), True))
    book.case("a source of tunnels about another protocol", _told_of(error_about("10.9.0.1", packets.tcp(("172.16.3.4", 1), FOUR.client), 11, 0), False))
    book.case("about somebody else's tunnel", _told_of(error_about("10.9.0.1", Ether() / IP(src="172.17.0.1", dst="10.9.0.1", proto=4) / bytes(40), 11, 0), False))
    big = FOUR.udp(FOUR.names, bytes(1_460), flags=0)
    book.case("too long for the tunnel and may be cut: the kernel cuts the outer packet",
              into(big, FOUR.names.backend, reason="too_big_passed", service="names"))
    pieces = list(packets.pieces(FOUR.udp(FOUR.names, bytes(3_000), flags=0), 1_456))
    _pieces(book, FOUR, pieces)
    long = list(packets.pieces(FOUR.udp(FOUR.names, bytes(3_000), flags=0)))
    book.case("pieces that are too long for the tunnel have numbers of their own outside",
              *[into(piece, FOUR.names.backend, reason="too_big_passed", service="names") for piece in long[:2]],
              into(long[2], FOUR.names.backend))
    _unreachable(book, FOUR)
    return book


def six_book():
    book = Book("ipv6-ipip", "ipip: IPv6 inside IPv6", SIX.configurations(), SIX.host())
    _forward(book, SIX)
    for tc in (0xB8, 3, 0xFF):
        book.case(f"the traffic class shows outside: {tc:#04x}", into(SIX.tcp(SIX.web, tc=tc), SIX.web.backend))
    book.case("the hop limit ends here", six.told(SIX.tcp(SIX.web, hlim=1), "web", "time_exceeded", ICMPv6TimeExceeded()))
    for length in (1_399, 1_400):
        book.case(f"{length + 60} bytes fit", into(SIX.tcp(SIX.web, payload=bytes(length)), SIX.web.backend))
    book.case("a byte more is too long", six.told(SIX.tcp(SIX.web, payload=bytes(1_401)), "web", "fragmentation_needed", ICMPv6PacketTooBig(mtu=1_460)))
    inside = bytes(wrapped(SIX.tcp(SIX.web), SIX.web.backend))
    source = IPv6(inside).src
    for name, message in {"too big": ICMPv6PacketTooBig(mtu=1_400), "hop limit": ICMPv6TimeExceeded()}.items():
        book.case(f"an error about a packet in a tunnel: {name}", _told_of(six.ip("2001:db8:dd::1", source) / message / inside, True))
    _pieces(book, SIX, list(six.pieces(SIX.udp(SIX.names, bytes(3_000)), 1_400)))
    _unreachable(book, SIX)
    return book


def four_in_six_book():
    book = Book("ipip-4in6", "ipip: IPv4 inside IPv6", FOUR_IN_SIX.configurations(), FOUR_IN_SIX.host())
    _forward(book, FOUR_IN_SIX)
    _of_four(book, FOUR_IN_SIX)
    big = FOUR_IN_SIX.udp(FOUR_IN_SIX.names, bytes(1_460), flags=0)
    book.case("too long for the tunnel, and nobody cuts the outer packet: answered", told(big, "names", "fragmentation_needed", 3, 4, mtu=1_460))
    _pieces(book, FOUR_IN_SIX, list(packets.pieces(FOUR_IN_SIX.udp(FOUR_IN_SIX.names, bytes(3_000), flags=0), 1_400)))
    piece = list(packets.pieces(FOUR_IN_SIX.udp(FOUR_IN_SIX.names, bytes(4_000), flags=0)))
    book.case("pieces that are too long for the tunnel", told(piece[0], "names", "fragmentation_needed", 3, 4, mtu=1_460),
              dropped(piece[1], "names", "too_big"))
    _unreachable(book, FOUR_IN_SIX)
    return book


def _forward(book, family):
    web, names, far, ports = family.web, family.names, family.far, family.ports
    for flags in ("S", "A", "PA", "FA", "R", "RA"):
        book.case(f"TCP: {flags}", into(family.tcp(web, flags=flags), web.backend))
    for length in (1, 2, 3, 536, 1_380):
        payload = bytes(n * 7 & 255 for n in range(length))
        book.case(f"TCP: {length} bytes of payload", into(family.tcp(web, flags="PA", payload=payload), web.backend))
        book.case(f"UDP: {length} bytes of payload", into(family.udp(names, payload), names.backend))
    book.case("padding is kept", into(family.tcp(web, padding=bytes(9)), web.backend))
    for port in (1, 1_024, 50_000, 65_535):
        packet = family.make.tcp((family.client[0], port), (family.vip, 80), flags="S")
        book.case(f"each flow has an outer source of its own: port {port}", into(packet, web.backend))
    book.case("in by one interface, out by the other", into(family.tcp(far, flags="S"), far.backend))
    book.case("in and out by the second interface", into(family.tcp(far, came="far"), far.backend, came="far"))
    for port in (443, 8443):
        packet = family.make.tcp(family.client, (family.vip, port), flags="S")
        book.case(f"one of several ports: {port}", into(packet, ports.backend))
    for flags in ("S", "A"):
        book.case(f"a backend behind a router: {flags}", into(family.tcp(family.behind, flags=flags), family.behind.backend))
    direct = family.make.tcp((family.vip, 80), family.client, flags="SA")
    book.case("an answer that comes by is a packet like any other", passed(direct))
    name, old, new = family.moving.name, family.old, family.new

    def send(backend, count=None, **how):
        return into(family.tcp(family.moving, **how), backend, exceptions={name: count} if count else None)

    syn = send(new, {"halfOpen": 1}, flags="S", seq=ISN)
    completing = send(new, {"completed": 1, "byEntry": 1}, seq=ISN + 1)
    book.case("a flow of before the change goes by home", send(old, seq=ISN + 1), configuration="moving")
    book.case("the client's number alone completes, and the flow stays", syn, completing, send(new, {"byEntry": 1}, seq=ISN + 1, payload=b"more"),
              configuration="moving")
    book.case("131,073 bytes behind the SYN complete nothing", syn, send(old, seq=ISN + 131_073), configuration="moving")


def _unreachable(book, family):
    """At the end: who looks for neighbours that do not answer is busy for a while."""
    for flags in ("S", "A"):
        book.case(f"a backend without a next hop goes by the kernel: {flags}",
                  into(family.tcp(family.lost, flags=flags), family.lost.backend, reason="unresolved_backend", service="lost"),
                  configuration="unreachable")


def _of_four(book, family):
    """What only packets of IPv4 have."""
    web, room = family.web, 1_480 if family is FOUR else 1_460
    for tos in (0xB8, 3, 0xFF):
        book.case(f"the service byte shows outside: {tos:#04x}", into(family.tcp(web, tos=tos), web.backend))
    for flags in (0, "DF", "evil"):
        book.case(f"flags: {flags or 'none'}", into(family.make.tcp(family.client, (web.vip, 80), **{"id": 0xFFFF}) if flags == "DF" else
                                                   _flagged(family.tcp(web), flags), web.backend))
    for name, options in {"no operation": b"\x01\x01\x01\x00", "forty bytes": b"\x01" * 40}.items():
        book.case(f"IPv4 options stay inside: {name}", into(family.tcp(web, options=options), web.backend))
    book.case("UDP without a checksum stays without", into(family.udp(family.names, checksum=0), family.names.backend))
    book.case("the time to live ends here", told(family.tcp(web, ttl=1), "web", "time_exceeded", 11, 0))
    book.case(f"{room} bytes fit", into(family.tcp(web, payload=bytes(room - 40)), web.backend))
    book.case("a byte more is too long", told(family.tcp(web, payload=bytes(room - 39)), "web", "fragmentation_needed", 3, 4, mtu=room))
    reply = packets.tcp((family.vip, 80), family.client, payload=bytes(40))
    for name, what, length, mtu in (("fragmentation needed", (3, 4), 28, 1_400), ("all repeated", (3, 4), 2_000, 1_400), ("time exceeded", (11, 0), 28, 0)):
        error = error_about("203.0.113.7", reply, *what, length=length, mtu=mtu)
        book.case(f"an error about a reply goes to the backend: {name}", into(error, web.backend, errors=1))


def _flagged(packet, flags):
    packet[IP].flags = flags
    return packet


def _pieces(book, family, pieces):
    first, *others = pieces
    follow = [into(piece, family.names.backend) for piece in others]
    book.case("pieces of a datagram follow the first", into(first, family.names.backend), *follow)
    book.case("... but not after half a minute", into(first, family.names.backend), wait(LIFE_MS + 1_000),
              dropped(others[0], "web", "fragment"))
