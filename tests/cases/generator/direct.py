"""`dsr` and `ipip`: packets keep their virtual endpoint, and answers do not come by.

`dsr`: the Ethernet addresses are rewritten and the time to live lowered; all else stays. `ipip`: so it goes inside another packet to the backend."""

from dataclasses import dataclass, replace

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6

from . import packets, rules, six
from .book import Book
from .hosts import Backend, Service, neighbour, on_link, version
from .packets import error_about
from .pieces import LIFE_MS
from .rules import dropped, flag_counts, passed, publish, step, told, verdict_of, wait

ISN = 0x10_00_00_00
# A pin, or what no answer established, lapses after 112 ticks of 2^29 ns; a packet 3 ticks later confirms a pin.
LAPSE_MS, TICK_MS = 60_130, 537


@dataclass(frozen=True)
class DirectService(Service):
    def wanted(self, versions=None, **more):
        return {**super().wanted(versions, **more), "forwarding": "dsr"}


class Family:
    """What the families have for themselves: packets, hops, and the answers of the program."""

    def __init__(self, layer, make, leave, client, prefix, hop, vip):
        self.layer, self.make, self.leave, self.client, self.vip = layer, make, leave, client, vip
        def link(name, number, port, interface="near"):
            return hop(name, f"{prefix}{number}", port, interface)
        self.web = DirectService("web", vip, 80, "tcp", link("web-1", 1, 80))
        self.names = DirectService("names", vip, 53, "udp", link("names-1", 2, 53))
        self.far = DirectService("far", vip, 81, "tcp", link("far-1", 5, 81, "far"))
        self.ports = DirectService("ports", vip, 443, "tcp", link("ports-1", 7, 0))
        self.lost = DirectService("lost", vip, 82, "tcp", Backend("lost-1", f"{prefix}3", 82, None))
        # Known, but through a router, which would send the packet back here.
        self.behind = DirectService("behind", vip, 83, "tcp", Backend("behind-1", "172.20.0.8" if layer is IP else "2001:db8:dd::8", 83, None))
        self.lost_names = DirectService("lost-names", vip, 54, "udp", Backend("lost-names-1", f"{prefix}4", 54, None))
        self.old, self.new = link("old", 11, 90), link("new", 12, 90)
        self.moving = DirectService("moving", vip, 90, "tcp", self.old)
        self.talk = DirectService("talk", vip, 91, "udp", replace(self.old, port=91))

    def services(self):
        return [self.web.wanted(), self.names.wanted(), self.far.wanted(), {**self.ports.wanted(), "ports": [443, 8443]}]

    def unreachable(self):
        return [self.lost.wanted(), self.behind.wanted(), self.lost_names.wanted()]

    def two(self, service, bucket):
        """A service of two versions."""
        pools = {"v1": self.old, "v2": self.new}
        versions = [version(name, [backend.wanted()], [backend.name]) for name, backend in pools.items()]
        return [service.wanted(versions, buckets=[bucket])]

    def to(self, service, packet, came="near", backend=None, exceptions=None):
        """To the backend, unchanged but for Ethernet and time to live."""
        backend = backend or service.backend
        out = packet.copy()
        if self.layer is IP:
            del out[IP].chksum
        self.leave(out, backend.hop)
        counts = {backend.name: {"packetsForward": 1, "bytesForward": len(bytes(packet)), **flag_counts(packet, "Forward")}}
        return step(packet, verdict_of(backend.hop, came), out, to=backend.hop.interface, came=came, backends=counts, exceptions=exceptions)

    def tcp(self, service, **how):
        return self.make.tcp(self.client, (service.vip, service.port), **how)

    def udp(self, service, payload=b"question", **how):
        return self.make.udp(self.client, (service.vip, service.port), payload, **how)


def _leave6(packet, hop):
    six.leaving(packet, hop)


def _link6(name, address, port, interface="near"):
    return six.on_link(name, address, port, interface)


FOUR = Family(IP, packets, rules.leaving, packets.CLIENT, "10.9.0.", on_link, "192.0.2.10")
SIX = Family(IPv6, six, _leave6, six.CLIENT, "fd00:9::1:", _link6, "2001:db8:ff::10")
MOVING, PINNING, BACK = ({"current": "v2", "home": "v1"}, {"current": "v2", "home": "v1", "pins": True},
                         {"current": "v1", "home": "v1", "looks": True})


def _configurations(family):
    return {"usual": family.services(), "unreachable": family.unreachable(), "moving": family.two(family.moving, MOVING), "pinning": family.two(family.moving, PINNING),
            "back": family.two(family.moving, BACK), "talk moving": family.two(family.talk, MOVING),
            "talk pinning": family.two(family.talk, PINNING)}


def _host(family, lines, make_neighbour):
    ends = [family.web.backend, family.names.backend, family.far.backend, family.ports.backend, family.old, family.new]
    width = 32 if family.layer is IP else 128
    return [*lines, f"route add {family.far.backend.address}/{width} dev far",
            *(make_neighbour(end.hop.interface, end.address) for end in ends)]


def four_book():
    book = Book("dsr", "dsr: only Ethernet addresses and the time to live change", _configurations(FOUR), _host(FOUR, [], neighbour))
    _forward(book, FOUR)
    for name, options in {"no operation": b"\x01\x01\x01\x00", "forty bytes": b"\x01" * 40}.items():
        book.case(f"IPv4 options: {name}", FOUR.to(FOUR.web, FOUR.tcp(FOUR.web, options=options)))
    book.case("UDP without a checksum stays without", FOUR.to(FOUR.names, FOUR.udp(FOUR.names, checksum=0)))
    book.case("the time to live ends here", told(FOUR.tcp(FOUR.web, ttl=1), "web", "time_exceeded", 11, 0))
    big = FOUR.tcp(FOUR.far, payload=bytes(1_600))
    book.case("longer than the next link takes", told(big, "far", "fragmentation_needed", 3, 4, mtu=1_500))
    whole = FOUR.tcp(FOUR.far, payload=bytes(1_600), flags="A")
    whole[IP].flags = 0
    book.case("... and the kernel cannot fragment it for the backend: answered too", told(whole, "far", "fragmentation_needed", 3, 4, mtu=1_500))
    _pieces(book, FOUR, list(packets.pieces(FOUR.udp(FOUR.names, bytes(3_000), flags=0))))
    reply = packets.tcp((FOUR.vip, 80), FOUR.client, payload=bytes(40))
    for name, what, length, mtu in (("fragmentation needed", (3, 4), 28, 1_400), ("fragmentation needed, all repeated", (3, 4), 2_000, 1_400),
                                    ("time exceeded", (11, 0), 28, 0)):
        book.case(f"an error about a reply goes to the backend as it is: {name}",
                  _error(FOUR, FOUR.web, error_about("203.0.113.7", reply, *what, length=length, mtu=mtu)))
    answer = packets.udp((FOUR.vip, 53), FOUR.client)
    book.case("an error about a reply over UDP", _error(FOUR, FOUR.names, error_about("203.0.113.7", answer, 3, 3, length=2_000)))
    question = error_about("203.0.113.7", FOUR.tcp(FOUR.web), 3, 4, mtu=1_400)
    book.case("an error about a client's packet goes to the client as to any stranger", passed(question))
    _exceptions(book, FOUR)
    _unreachable(book, FOUR)
    lost = list(packets.pieces(packets.udp(FOUR.client, (FOUR.vip, 54), bytes(3_000), flags=0)))
    book.case("pieces for a backend without a next hop", *[dropped(piece, "lost-names", "no_next_hop") for piece in lost], configuration="unreachable")
    book.case("an error about a reply of a backend without a next hop",
              dropped(error_about("203.0.113.7", packets.tcp((FOUR.vip, 82), FOUR.client), 11, 0), "lost", "no_next_hop"), configuration="unreachable")
    return book


def six_book():
    book = Book("ipv6-dsr", "dsr of IPv6: only Ethernet addresses and the hop limit change", _configurations(SIX), _host(SIX, six.LINKS, six.neighbour))
    _forward(book, SIX)
    book.case("the hop limit ends here", six.told(SIX.tcp(SIX.web, hlim=1), "web", "time_exceeded", ICMPv6TimeExceeded()))
    big = SIX.tcp(SIX.far, payload=bytes(1_600))
    book.case("longer than the next link takes", six.told(big, "far", "fragmentation_needed", ICMPv6PacketTooBig(mtu=1_500)))
    _pieces(book, SIX, list(six.pieces(SIX.udp(SIX.names, bytes(3_000)))))
    _exceptions(book, SIX)
    _unreachable(book, SIX)
    return book


def _forward(book, family):
    web, names, far, ports = family.web, family.names, family.far, family.ports
    for flags in ("S", "A", "PA", "FA", "R", "RA", "SA"):
        book.case(f"TCP: {flags}", family.to(web, family.tcp(web, flags=flags)))
    for length in (1, 2, 3, 536, 1_400):
        payload = bytes(n * 7 & 255 for n in range(length))
        book.case(f"TCP: {length} bytes of payload", family.to(web, family.tcp(web, flags="PA", payload=payload)))
        book.case(f"UDP: {length} bytes of payload", family.to(names, family.udp(names, payload)))
    book.case("padding is kept", family.to(web, family.tcp(web, padding=bytes(9))))
    ttl = "ttl" if family.layer is IP else "hlim"
    for value in (2, 255):
        book.case(f"{ttl} {value}", family.to(web, family.tcp(web, **{ttl: value})))
    book.case("a wrong TCP checksum stays as wrong", family.to(web, _wrong(family.tcp(web, payload=b"data"))))
    zero = family.udp(names, b"\0\0")
    was = type(zero)(bytes(zero))[UDP].chksum
    book.case("a UDP checksum of 0xffff stays", family.to(names, family.udp(names, was.to_bytes(2, "big"))))
    book.case("in by one interface, out by the other", family.to(far, family.tcp(far, flags="S")))
    book.case("in and out by the second interface", family.to(far, family.tcp(far, came="far"), came="far"))
    for port in (443, 8443):
        packet = family.make.tcp(family.client, (family.vip, port), flags="S")
        book.case(f"one of several ports: {port}", family.to(ports, packet))
    answer = family.make.tcp((web.backend.address, 80), family.client, flags="SA")
    book.case("what a backend sends from its own address is not the service's", passed(answer))
    direct = family.make.tcp((family.vip, 80), family.client, flags="SA")
    book.case("an answer that comes by is a packet like any other", passed(direct))


def _unreachable(book, family):
    """At the end: who looks for neighbours that do not answer is busy for a while."""
    for flags in ("S", "A"):
        book.case(f"a backend without a next hop: the kernel would not know it, {flags}",
                  dropped(family.tcp(family.lost, flags=flags), "lost", "no_next_hop"), configuration="unreachable")
        book.case(f"a backend behind a router, which would send the packet back: {flags}",
                  dropped(family.tcp(family.behind, flags=flags), "behind", "no_next_hop"), configuration="unreachable")
    book.case("a datagram for a backend without a next hop", dropped(family.udp(family.lost_names), "lost-names", "no_next_hop"), configuration="unreachable")


def _wrong(packet):
    built = type(packet)(bytes(packet))
    packet[TCP].chksum = (built[TCP].chksum + 0x1234) & 0xFFFF
    return packet


def _pieces(book, family, pieces):
    first, *others = pieces
    follow = [family.to(family.names, piece) for piece in others]
    book.case("pieces of a datagram follow the first", family.to(family.names, first), *follow)
    book.case("... but not after half a minute", family.to(family.names, first), wait(LIFE_MS + 1_000),
              dropped(others[0], _first_of(family), "fragment"))


def _first_of(family):
    """Whose a packet for the virtual address is that is no service's."""
    return family.web.name


def _error(family, service, error):
    out = error.copy()
    del out[IP].chksum
    rules.leaving(out, service.backend.hop)
    counts = {service.backend.name: {"packetsForward": 1, "bytesForward": len(bytes(error)), "icmpErrorsForward": 1}}
    return step(error, verdict_of(service.backend.hop, "near"), out, to=service.backend.hop.interface, backends=counts)


def _exceptions(book, family):
    moving, old, new = family.moving, family.old, family.new
    name = moving.name

    def send(backend, count=None, **how):
        return family.to(moving, family.tcp(moving, **how), backend=backend, exceptions={name: count} if count else None)

    syn = send(new, {"halfOpen": 1}, flags="S", seq=ISN)
    completing = send(new, {"completed": 1, "byEntry": 1}, seq=ISN + 1)
    going_on = send(new, {"byEntry": 1}, seq=ISN + 1, payload=b"more")
    by_home = send(old, seq=ISN + 1)
    book.case("a flow of before the change goes by home", by_home, by_home, configuration="moving")
    book.case("the client's number alone completes, and the flow stays", syn, completing, going_on, configuration="moving")
    book.case("data right behind the SYN completes: the ACK was lost", syn, send(new, {"completed": 1, "byEntry": 1}, seq=ISN + 1, flags="PA", payload=b"GET /"), going_on,
              configuration="moving")
    for behind in (1, 131_072):
        book.case(f"{behind} bytes behind the SYN complete", syn, send(new, {"completed": 1, "byEntry": 1}, seq=ISN + behind), configuration="moving")
    for behind in (0, -1, 131_073, 1 << 31):
        book.case(f"{behind} bytes behind the SYN do not", syn, send(old, seq=(ISN + behind) % (1 << 32)), configuration="moving")
    book.case("a RST completes nothing", syn, send(old, flags="R", seq=ISN + 1), completing, configuration="moving")
    book.case("a repeated SYN goes where the first one went", syn, send(new, flags="S", seq=ISN), completing, configuration="moving")
    book.case("... across a change of weights", syn, publish("back"), send(new, flags="S", seq=ISN), completing, going_on, configuration="moving")
    book.case("a half-open entry lapses", syn, wait(4_500), by_home, configuration="moving")
    book.case("without a second packet for a minute the flow is still its backend's until the sweep", syn, completing, wait(50_000), going_on,
              configuration="moving")
    pinned = send(old, {"pinned": 1}, seq=ISN + 1)
    held = send(old, {"byEntry": 1}, seq=ISN + 2)
    book.case("a pin without a packet a second later lapses", pinned, held, wait(LAPSE_MS + 2 * TICK_MS), pinned, configuration="pinning")
    book.case("a packet too early confirms no pin", pinned, wait(TICK_MS), held, wait(LAPSE_MS + TICK_MS), pinned, configuration="pinning")
    book.case("a packet a second later confirms the pin", pinned, wait(4 * TICK_MS), held, wait(LAPSE_MS + 2 * TICK_MS), held, configuration="pinning")
    book.case("a RST a second later confirms no pin", pinned, wait(4 * TICK_MS), send(old, {"byEntry": 1}, flags="R", seq=ISN + 2),
              wait(LAPSE_MS), pinned, configuration="pinning")
    talk = family.talk

    def ask(backend, count=None):
        return family.to(talk, family.udp(talk), backend=replace(backend, port=91), exceptions={talk.name: count} if count else None)

    book.case("a datagram inside the learning window is pinned", ask(old, {"pinned": 1}), ask(old, {"byEntry": 1}), configuration="talk pinning")
    book.case("a datagram a second later confirms the pin", ask(old, {"pinned": 1}), wait(4 * TICK_MS), ask(old, {"byEntry": 1}),
              wait(LAPSE_MS + 2 * TICK_MS), ask(old, {"byEntry": 1}), configuration="talk pinning")

