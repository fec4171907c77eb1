"""`full-nat`: both ends are replaced; the backend sees an address and a port of the pool, and every flow is in a table."""

import ipaddress
from dataclasses import dataclass

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6
from scapy.packet import Raw

from . import hashing, packets, rules, six
from .book import Book
from .hosts import NEAR_GATEWAY_HOP, Backend, Hop, Service, neighbour, on_link, version
from .packets import error_about
from .rules import dropped, echoed, flag_counts, passed, publish, reset, step, told, verdict_of, wait

ISN, NUMBER = 0x10_00_00_00, 0x70_00_00_00
TABLE_LOG2 = 10
PROBES = 16
# What lapses, a little later (ticks of 2^29 ns): half-open flows, unanswered datagrams, closed flows, answered datagrams.
HALF_OPEN_MS, UNANSWERED_MS, CLOSED_MS, DATAGRAM_MS, IDLE_MS = 4_400, 31_200, 61_500, 121_500, 3_602_000


@dataclass(frozen=True)
class FullService(Service):
    pool: tuple = ()

    def wanted(self, versions=None, **more):
        return {**super().wanted(versions, **more), "forwarding": "full-nat", "sourcePool": list(self.pool)}


class Table:
    """The flow table as docs/forwarding.md tells of it: who gets which endpoint of the pool."""

    def __init__(self, log2=TABLE_LOG2):
        self.log2, self.taken = log2, {}

    def place(self, end, backend, protocol):
        return hashing.any_hash(end, backend, protocol) >> 16 & (1 << self.log2) - 1

    def ends(self, service, client, backend, port=None):
        """The endpoints that are tried for a client's flow, with their places, in order."""
        target, port = (service.vip, port or service.port), backend.port or port or service.port
        value = hashing.any_hash(client, target, service.protocol)
        for probe in range(PROBES):
            index, number = hashing.candidate(value, probe, len(service.pool))
            end = (service.pool[index], number)
            yield end, self.place(end, (backend.address, port), service.protocol)

    def open(self, service, client, backend=None, port=None):
        """The endpoint of a new flow; none where no place is free."""
        for end, place in self.ends(service, client, backend or service.backend, port):
            if place not in self.taken:
                self.taken[place] = end
                return end
        return None


class Family:
    def __init__(self, layer, make, client, prefix, link, vip, pool, gateway, mode):
        self.layer, self.make, self.client, self.gateway, self.mode = layer, make, client, gateway, mode
        self.router = "203.0.113.7" if layer is IP else "2001:db8:99::7"

        def service(name, number, port, protocol, own, interface="near", announce=False, pool=pool):
            return FullService(name, vip, port, protocol, link(f"{name}-1", f"{prefix}{number}", own, interface), announce, pool)

        self.web, self.names = service("web", 1, 80, "tcp", 8081, announce=True), service("names", 2, 53, "udp", 8082, announce=True)
        self.far, self.far_names = service("far", 5, 81, "tcp", 8085, "far"), service("far-names", 6, 54, "udp", 8086, "far")
        self.ports = service("ports", 7, 443, "tcp", 0)
        self.lost = FullService("lost", vip, 82, "tcp", Backend("lost-1", f"{prefix}3", 8083, None), pool=pool)
        self.old, self.new = link("old", f"{prefix}11", 9000), link("new", f"{prefix}12", 9000)
        self.moving = FullService("moving", vip, 90, "tcp", self.old, pool=pool)
        self.talk = FullService("talk", vip, 91, "udp", self.old, pool=pool)
        self.usual = [self.web, self.names, self.far, self.far_names, self.lost]

    def near(self, number, port=40_000):
        """A client on this host's own link, beside the backends."""
        return (f"10.9.1.{number}" if self.layer is IP else f"fd00:9::2:{number:x}", port)

    def host(self):
        ends = [service.backend for service in (self.web, self.names, self.far, self.far_names, self.ports)] + [self.old, self.new]
        hop = neighbour if self.layer is IP else six.neighbour
        width = 32 if self.layer is IP else 128
        lines = [] if self.layer is IP else list(six.LINKS)
        lines += [f"route add {end.address}/{width} dev far" for end in ends if end.hop.interface == "far"]
        return lines + [hop(end.hop.interface, end.address) for end in ends] + [hop("near", self.near(1)[0])]

    def configurations(self):
        usual = [*(service.wanted() for service in self.usual), {**self.ports.wanted(), "ports": [443, 8443]}]

        def two(bucket, old="up", **more):
            pools = [version("v1", [self.old.wanted(old)], ["old"], **more), version("v2", [self.new.wanted()], ["new"])]
            return [self.moving.wanted(pools, buckets=[bucket]), {**self.talk.wanted(self.talk_versions(**more), buckets=[bucket])}]

        v1, v2 = {"current": "v1", "home": "v1"}, {"current": "v2", "home": "v1"}
        done = {"current": "v2", "home": "v2"}
        small = [{**self.web.wanted(), "sourcePool": list(self.web.pool[:1])}, *usual[1:]]
        return {"usual": usual, "before": two(v1), "moving": two(v2), "after": two(done), "down": two(done, "downReset"), "kept": two(done, "downKeep"),
                "ended": two(done, existingFlows="reset"), "moved": two(done, existingFlows="move"), "smaller pool": small}

    def talk_versions(self, **more):
        old, new = (Backend(f"talk-{end.name}", end.address, 9001, end.hop) for end in (self.old, self.new))
        return [version("v1", [old.wanted()], [old.name], **more), version("v2", [new.wanted()], [new.name])]

    def talk_backend(self, end):
        return Backend(f"talk-{end.name}", end.address, 9001, end.hop)

    def leaving(self, packet, hop):
        (rules if self.layer is IP else six).leaving(packet, hop)

    def clean(self, packet):
        return (packets if self.layer is IP else six).without_checksums(packet)

    def of(self, service, source, target, **how):
        make = self.make.tcp if service.protocol == "tcp" else self.make.udp
        return make(source, target, **how)

    # What a client sends, and as what it leaves.
    def asks(self, service, client, end, backend=None, port=None, came="near", exceptions=None, **how):
        packet = self.of(service, client, (service.vip, port or service.port), came=came, **how)
        return self.forth(service, packet, end, backend, came, exceptions)

    def forth(self, service, packet, end, backend=None, came="near", exceptions=None):
        backend = backend or service.backend
        out = self.clean(packet)
        self._replace(out, source=end, target=(backend.address, backend.port))
        counts = {"packetsForward": 1, "bytesForward": len(bytes(packet)), **flag_counts(packet, "Forward")}
        more = {"backends": {backend.name: counts}, "exceptions": {service.name: exceptions} if exceptions else None}
        if backend.hop is None:
            return step(packet, "PASS", out, came=came, reasons={service.name: {"unresolved_backend": 1}}, **more)
        self.leaving(out, backend.hop)
        return step(packet, verdict_of(backend.hop, came), out, to=backend.hop.interface, came=came, **more)

    # What a backend answers, and as what it leaves.
    def answers(self, service, client, end, backend=None, port=None, came="near", hop=None, **how):
        backend = backend or service.backend
        packet = self.of(service, (backend.address, backend.port or port or service.port), end, came=came, **how)
        out = self.clean(packet)
        self._replace(out, source=(service.vip, port or service.port), target=client)
        counts = {"packetsReverse": 1, "bytesReverse": len(bytes(packet)), **flag_counts(packet, "Reverse")}
        hop = hop or self.gateway
        self.leaving(out, hop)
        return step(packet, verdict_of(hop, came), out, to=hop.interface, came=came, backends={backend.name: counts})

    def _replace(self, out, source=None, target=None):
        transport = TCP if TCP in out else UDP
        if source:
            out[self.layer].src, out[transport].sport = source
        if target:
            out[self.layer].dst = target[0]
            out[transport].dport = target[1] or out[transport].dport

    # A connection: SYN, SYN-ACK, ACK.
    def opened(self, service, client, end, isn=ISN, **how):
        return self.asks(service, client, end, flags="S", seq=isn, exceptions={"halfOpen": 1}, **how)

    def accepted(self, service, client, end, isn=ISN, number=NUMBER, **how):
        return self.answers(service, client, end, flags="SA", seq=number, ack=isn + 1, **how)

    def completed(self, service, client, end, isn=ISN, number=NUMBER, **how):
        return self.asks(service, client, end, seq=isn + 1, ack=number + 1, exceptions={"completed": 1}, **how)

    def connected(self, service, client, end, isn=ISN, **how):
        return [part(service, client, end, isn, **how) for part in (self.opened, self.accepted, self.completed)]

    def going_on(self, service, client, end, **how):
        return self.asks(service, client, end, seq=ISN + 1, ack=NUMBER + 1, flags="PA", payload=b"more", **how)

    def talks(self, service, client, end, **how):
        return self.asks(service, client, end, exceptions={"halfOpen": 1}, **how)

    def refused(self, packet, service, reason, came="near"):
        return dropped(packet, service.name, reason, came)

    def reset(self, packet, service):
        return (rules if self.layer is IP else six).reset(packet, service.name, "unknown_flow")


FOUR = Family(IP, packets, packets.CLIENT, "10.9.0.", on_link, "192.0.2.10", ("10.9.7.1", "10.9.7.2", "10.9.7.3"), NEAR_GATEWAY_HOP, "full-nat")
SIX = Family(IPv6, six, six.CLIENT, "fd00:9::1:", six.on_link, "2001:db8:ff::10", ("fd00:9::7:1", "fd00:9::7:2", "fd00:9::7:3"), six.GATEWAY_HOP,
             "ipv6-full-nat")


def _book(family, name, about, log2=TABLE_LOG2):
    book = Book(name, about, family.configurations(), family.host(), hash_key=hashing.KEY)
    book.head["translationsLog2"] = log2
    return book


def _ways(book, family):
    web, names, far, ports, client = family.web, family.names, family.far, family.ports, family.client
    end = Table().open(web, client)
    book.case("a connection: SYN, SYN-ACK, ACK, data, both FINs", *family.connected(web, client, end), family.going_on(web, client, end),
              family.answers(web, client, end, flags="PA", payload=b"answer"), family.asks(web, client, end, flags="FA"),
              family.answers(web, client, end, flags="FA"), family.asks(web, client, end))
    book.case("a SYN that comes again goes out as the first did", family.opened(web, client, end), family.asks(web, client, end, flags="S", seq=ISN),
              family.accepted(web, client, end), family.completed(web, client, end))
    talk = Table().open(names, client)
    book.case("a question and its answer", family.talks(names, client, talk), family.answers(names, client, talk, payload=b"answer"),
              family.asks(names, client, talk, payload=b"again"))
    for length in (1, 3, 536, 1_400):
        payload = bytes(n * 7 & 255 for n in range(length))
        book.case(f"{length} bytes of payload", *family.connected(web, client, end), family.asks(web, client, end, flags="PA", payload=payload),
                  family.answers(web, client, end, flags="PA", payload=payload), family.talks(names, client, talk, payload=payload),
                  family.answers(names, client, talk, payload=payload))
    apart = Table().open(far, client)
    book.case("in by one interface, out by the other, and back", family.opened(far, client, apart), family.accepted(far, client, apart, came="far"),
              family.completed(far, client, apart))
    for port in (443, 8443):
        own = Table().open(ports, client, port=port)
        book.case(f"one of several ports: {port}", *family.connected(ports, client, own, port=port))
    beside = family.near(1)
    near = Table().open(web, beside)
    hop = Hop("near", beside[0])
    book.case("client and backend on one link", family.opened(web, beside, near), family.accepted(web, beside, near, hop=hop),
              family.completed(web, beside, near), family.answers(web, beside, near, hop=hop, flags="PA", payload=b"answer"))
    lost = Table().open(family.lost, client)
    book.case("a backend without a next hop: rewritten, and left to the kernel", family.opened(family.lost, client, lost))
    zero = family.of(names, client, (names.vip, 53), payload=b"padded", padding=bytes(9))
    book.case("padding is kept", family.forth(names, zero, talk, exceptions={"halfOpen": 1}))


def _flows(book, family):
    web, names, client = family.web, family.names, family.client
    one, other = (family.client[0], 40_000), (str(ipaddress.ip_address(family.client[0]) + 1), 40_000)
    table = Table()
    ends = [table.open(web, who) for who in (one, other)]
    assert ends[0] != ends[1]
    book.case("two clients with the same port have an endpoint each", *family.connected(web, one, ends[0]), *family.connected(web, other, ends[1]),
              family.going_on(web, one, ends[0]), family.going_on(web, other, ends[1]))
    first, second = _clash(family)
    table = Table()
    ends = [table.open(web, who) for who in (first, second)]
    book.case("two flows that would have one place: the second takes the next endpoint", *family.connected(web, first, ends[0]),
              *family.connected(web, second, ends[1]), family.answers(web, first, ends[0]), family.answers(web, second, ends[1]))
    end = Table().open(web, client)
    book.case("an established connection holds its place", *family.connected(web, client, end), wait(IDLE_MS - 20_000), family.going_on(web, client, end),
              wait(IDLE_MS - 20_000), family.answers(web, client, end))
    later = family.of(web, client, (web.vip, 80))
    book.case("... and lapses after idleTimeout: RST", *family.connected(web, client, end), wait(IDLE_MS), family.reset(later, web))
    book.case("a packet of no flow: RST", family.reset(later, web))
    book.case("data of no flow: RST", family.reset(family.of(web, client, (web.vip, 80), flags="PA", payload=b"data"), web))
    book.case("a RST of no flow is dropped", family.refused(family.of(web, client, (web.vip, 80), flags="R"), web, "unknown_flow_dropped"))
    table = Table()
    ends = [table.open(web, client) for _ in range(2)]
    again = ISN + 0x0100_0000
    closed = [family.asks(web, client, ends[0], flags="FA"), family.answers(web, client, ends[0], flags="FA")]
    book.case("a closed connection's endpoint is not its successor's: another one", *family.connected(web, client, ends[0]), *closed,
              *family.connected(web, client, ends[1], isn=again), family.going_on(web, client, ends[1]),
              family.answers(web, client, ends[0], flags="A"))
    book.case("... but is free again after closingTimeout", *family.connected(web, client, ends[0]), *closed, wait(CLOSED_MS),
              *family.connected(web, client, ends[0], isn=again))
    book.case("a reset connection's successor", *family.connected(web, client, ends[0]), family.asks(web, client, ends[0], flags="R"),
              *family.connected(web, client, ends[1], isn=again))
    book.case("payload behind a RST: the flow goes on", *family.connected(web, client, end), family.asks(web, client, end, flags="R"),
              family.going_on(web, client, end), wait(CLOSED_MS), family.going_on(web, client, end))
    book.case("one side's FIN ends nothing", *family.connected(web, client, end), family.asks(web, client, end, flags="FA"), wait(CLOSED_MS),
              family.answers(web, client, end, flags="PA", payload=b"more"))
    book.case("a SYN of an established connection goes by its entry", *family.connected(web, client, end),
              family.asks(web, client, end, flags="S", seq=again), family.going_on(web, client, end))
    book.case("a SYN with another number, half-open: a new flow", family.opened(web, client, end), family.opened(web, client, end, isn=again),
              family.accepted(web, client, end, isn=again), family.completed(web, client, end, isn=again))
    book.case("half-open flows lapse", family.opened(web, client, end), wait(HALF_OPEN_MS), family.reset(later, web))
    book.case("a blind ACK completes nothing", family.opened(web, client, end), family.accepted(web, client, end),
              family.asks(web, client, end, seq=ISN + 1, ack=NUMBER + 0x0200_0000), wait(HALF_OPEN_MS), family.reset(later, web))
    talk = Table().open(names, client)
    book.case("a question without an answer lapses after 30 s", family.talks(names, client, talk), wait(UNANSWERED_MS), family.talks(names, client, talk))
    book.case("an answered one is remembered for two minutes", family.talks(names, client, talk), family.answers(names, client, talk),
              wait(UNANSWERED_MS), family.asks(names, client, talk), wait(DATAGRAM_MS), family.talks(names, client, talk))


def _clash(family):
    """Two clients whose flows would have the same place."""
    table, seen = Table(), {}
    for port in range(40_000, 50_000):
        client = (family.client[0], port)
        _, place = next(table.ends(family.web, client, family.web.backend))
        if place in seen:
            return seen[place], client
        seen[place] = client
    raise AssertionError("no clash")


def _answers(book, family):
    web, names, client = family.web, family.names, family.client
    end = Table().open(web, client)
    backend = (web.backend.address, web.backend.port)
    for name, flags in (("a SYN-ACK", "SA"), ("data", "PA")):
        book.case(f"an answer without an entry: {name}: RST", family.reset(family.of(web, backend, end, flags=flags), web))
    book.case("an answer without an entry: a RST is dropped", family.refused(family.of(web, backend, end, flags="R"), web, "unknown_flow_dropped"))
    stray = family.of(names, (names.backend.address, names.backend.port), end)
    book.case("an answer without an entry: a datagram is dropped", family.refused(stray, web, "unknown_flow_dropped"))
    book.case("an answer of another port of the backend", *family.connected(web, client, end),
              family.reset(family.of(web, (backend[0], 9), end), web))
    book.case("an answer of another host", *family.connected(web, client, end),
              family.reset(family.of(web, (names.backend.address, backend[1]), end), web))
    book.case("an answer to another address of the pool", *family.connected(web, client, end),
              family.reset(family.of(web, backend, (next(one for one in web.pool if one != end[0]), end[1])), web))
    host = packets.CLIENT[0] if family.layer is IP else six.CLIENT[0]
    direct = family.of(web, backend, (host, 40_000), flags="SA")
    book.case("what a backend sends elsewhere is not the service's", passed(direct))
    request = family.make.echo(client[0], web.pool[0])
    book.case("an echo request to an address of the pool", (echoed if family.layer is IP else six.echoed)(request, "web"))


def _changes(book, family):
    old, new, moving, talk, client = family.old, family.new, family.moving, family.talk, family.client
    other = (client[0], 40_001)
    end, fresh = Table().open(moving, client, old), Table().open(moving, other, new)
    book.case("weights move: who is there stays, who comes goes to the new version", *family.connected(moving, client, end, backend=old), publish("moving"),
              family.going_on(moving, client, end, backend=old), *family.connected(moving, other, fresh, backend=new), publish("after"),
              family.going_on(moving, client, end, backend=old), family.going_on(moving, other, fresh, backend=new), configuration="before")
    here, there = family.talk_backend(old), family.talk_backend(new)
    talked, newer = Table().open(talk, client, here), Table().open(talk, other, there)
    book.case("... the same of UDP, without a window to learn in", family.talks(talk, client, talked, backend=here),
              family.answers(talk, client, talked, backend=here), publish("moving"), family.asks(talk, client, talked, backend=here),
              family.talks(talk, other, newer, backend=there), configuration="before")
    lost = family.of(moving, client, (moving.vip, moving.port), seq=ISN + 1)
    resets = rules if family.layer is IP else six
    book.case("the backend of a flow is down: RST", *family.connected(moving, client, end, backend=old), publish("down"),
              resets.reset(lost, "moving", "backend_down"), configuration="before")
    book.case("... or its packets still go there (`onDown: keep`)", *family.connected(moving, client, end, backend=old), publish("kept"),
              family.going_on(moving, client, end, backend=old), configuration="before")
    book.case("a handshake whose backend went down goes elsewhere", family.opened(moving, client, end, backend=old), publish("down"),
              family.opened(moving, client, Table().open(moving, client, new), backend=new), configuration="before")
    book.case("flows of a version are ended", *family.connected(moving, client, end, backend=old), publish("ended"),
              resets.reset(lost, "moving", "flow_reset"), configuration="before")
    moved = Table().open(talk, client, there)
    book.case("flows of UDP are moved", family.talks(talk, client, talked, backend=here), publish("moved"),
              family.talks(talk, client, moved, backend=there), configuration="before")
    web = family.web
    port = next(port for port in range(40_000, 41_000) if Table().open(web, (client[0], port))[0] != web.pool[0])
    who = (client[0], port)
    kept = Table().open(web, who)
    book.case("an address that leaves the pool stays with its flows", *family.connected(web, who, kept), publish("smaller pool"),
              family.going_on(web, who, kept), family.answers(web, who, kept))


def _pieces(book, family):
    names, client = family.names, family.client
    end = Table().open(names, client)
    make = packets.pieces if family.layer is IP else six.pieces
    more = {"flags": 0} if family.layer is IP else {}
    payload = bytes(range(256)) * 12
    question = family.of(names, client, (names.vip, 53), payload=payload, **more)
    backend = names.backend
    answer = family.of(names, (backend.address, backend.port), end, payload=payload, **more)

    def cut(packet, source, target, hop, side, exceptions=None):
        out = family.clean(packet)
        family._replace(out, source=source, target=target)
        for piece, sent in zip(make(packet), make(out)):
            family.leaving(sent, hop)
            if family.layer is IP:
                del sent[IP].chksum
            counts = {backend.name: {f"packets{side}": 1, f"bytes{side}": len(bytes(piece))}}
            yield step(piece, verdict_of(hop, "near"), sent, to=hop.interface, backends=counts,
                       exceptions={"names": exceptions} if exceptions else None)
            exceptions = None

    forth = list(cut(question, end, (backend.address, backend.port), backend.hop, "Forward", {"halfOpen": 1}))
    back = list(cut(answer, (names.vip, 53), client, family.gateway, "Reverse"))
    book.case("pieces follow the first, both ways", *forth, *back)
    late = list(make(question))[1]
    book.case("a later piece without the first is dropped", dropped(late, "web", "fragment"))
    book.case("a later piece to the pool without the first is dropped", *forth, dropped(list(make(answer))[1], "web", "fragment"))


def _errors4(book):
    family = FOUR
    for service in (family.web, family.names):
        client, backend = family.client, service.backend
        end = Table().open(service, client)
        begin = family.connected(service, client, end) if service.protocol == "tcp" else [family.talks(service, client, end)]
        sent = family.of(service, client, (service.vip, service.port), payload=bytes(range(40)), ttl=51)
        asked = family.clean(sent)
        family._replace(asked, source=end, target=(backend.address, backend.port))
        reply = family.of(service, (backend.address, backend.port), end, payload=bytes(range(40)), ttl=51)
        replied = family.clean(reply)
        family._replace(replied, source=(service.vip, service.port), target=client)
        for length, repeated in ((28, "eight bytes"), (2_000, "all")):
            for name, what, mtu in (("fragmentation needed", (3, 4), 1_400), ("time exceeded", (11, 0), 0), ("port unreachable", (3, 3), 0)):
                for source in (family.router, backend.address):
                    who = "a router" if source == family.router else "the backend"
                    error = error_about(source, asked, *what, length=length, mtu=mtu)
                    out = _inner4(error, sent, length, client[0], service.vip if source == backend.address else source)
                    book.case(f"{service.name}, {name} by {who} about a question, {repeated} repeated", *begin,
                              _error4(error, out, backend, family.gateway, "Reverse"))
                for source in (family.router, client[0]):
                    who = "a router" if source == family.router else "the client"
                    error = error_about(source, replied, *what, length=length, mtu=mtu)
                    out = _inner4(error, reply, length, backend.address, end[0] if source == client[0] else source)
                    book.case(f"{service.name}, {name} by {who} about an answer, {repeated} repeated", *begin,
                              _error4(error, out, backend, backend.hop, "Forward"))
        about = error_about(family.router, asked, 11, 0)
        book.case(f"{service.name}: an error about a packet of no flow", dropped(about, "web", "icmp"))
        book.case(f"{service.name}: an error about an answer of no flow", dropped(error_about(family.router, replied, 11, 0), "web", "icmp"))
        dying = error_about(family.router, asked, 11, 0, ttl=1)
        book.case(f"{service.name}: an error whose time to live ends", *begin, dropped(dying, service.name, "ttl_expired"))


def _inner4(error, inner, length, target, source):
    out = packets.without_checksums(error)
    out[ICMP].remove_payload()
    out[IP].dst, out[IP].src = target, source
    return out / Raw(bytes(inner[IP])[:length])


def _error4(error, out, backend, hop, side):
    counts = {backend.name: {f"packets{side}": 1, f"bytes{side}": len(bytes(error)), f"icmpErrors{side}": 1}}
    rules.leaving(out, hop)
    return step(error, verdict_of(hop, "near"), out, to=hop.interface, backends=counts)


def _errors6(book):
    family = SIX
    for service in (family.web, family.names):
        client, backend = family.client, service.backend
        end = Table().open(service, client)
        begin = family.connected(service, client, end) if service.protocol == "tcp" else [family.talks(service, client, end)]
        sent = family.of(service, client, (service.vip, service.port), payload=bytes(range(40)), hlim=51)
        asked = family.clean(sent)
        family._replace(asked, source=end, target=(backend.address, backend.port))
        reply = family.of(service, (backend.address, backend.port), end, payload=bytes(range(40)), hlim=51)
        replied = family.clean(reply)
        family._replace(replied, source=(service.vip, service.port), target=client)
        for name, message in (("packet too big", ICMPv6PacketTooBig(mtu=1_400)), ("time exceeded", ICMPv6TimeExceeded()),
                              ("port unreachable", ICMPv6DestUnreach(code=4))):
            for source in (family.router, backend.address):
                who = "a router" if source == family.router else "the backend"
                error = six.ip(source, end[0]) / message / Raw(bytes(asked[IPv6]))
                out = six.ip(service.vip if source == backend.address else source, client[0]) / message / Raw(bytes(sent[IPv6]))
                book.case(f"{service.name}, {name} by {who} about a question", *begin, _error6(error, out, backend, family.gateway, "Reverse"))
            for source in (family.router, client[0]):
                who = "a router" if source == family.router else "the client"
                error = six.ip(source, service.vip) / message / Raw(bytes(replied[IPv6]))
                out = six.ip(end[0] if source == client[0] else source, backend.address) / message / Raw(bytes(reply[IPv6]))
                book.case(f"{service.name}, {name} by {who} about an answer", *begin, _error6(error, out, backend, backend.hop, "Forward"))


def _error6(error, out, backend, hop, side):
    counts = {backend.name: {f"packets{side}": 1, f"bytes{side}": len(bytes(error)), f"icmpErrors{side}": 1}}
    six.leaving(out, hop)
    return step(error, verdict_of(hop, "near"), out, to=hop.interface, backends=counts)


def _full(book, family, log2):
    """A table of few places: a quarter as many half-open flows."""
    web, names = family.web, family.names
    permits = (1 << log2) >> 2
    table, clients = Table(log2), [(family.client[0], 40_000 + number) for number in range(1 << 10)]
    halves = [family.opened(web, who, table.open(web, who)) for who in clients[:permits]]
    syn = family.of(web, clients[permits], (web.vip, 80), flags="S", seq=ISN)
    end = Table(log2).open(web, clients[permits])
    book.case("a flood of SYNs fills a quarter of the table", *halves, family.refused(syn, web, "half_open_full"), wait(HALF_OPEN_MS),
              family.opened(web, clients[permits], end))
    question = family.of(names, clients[permits], (names.vip, 53))
    book.case("... and questions without answers fill no more", *halves, family.refused(question, names, "half_open_full"))
    table, steps, refused, held = Table(log2), [], None, []
    for who in clients:
        end = table.open(web, who)
        if end is None:
            refused = who
            break
        held.append((who, end))
        steps += family.connected(web, who, end)
    assert refused and len(held) > 1 << log2 - 1
    syn = family.of(web, refused, (web.vip, 80), flags="S", seq=ISN)
    book.case("no port is free among those that are tried: dropped, and nobody loses his place", *steps, family.refused(syn, web, "no_source_port"),
              wait(60_000), family.refused(syn, web, "no_source_port"), *[family.going_on(web, *one) for one in held])
    # As if the table were empty: all has lapsed.
    fresh = Table(log2).open(web, refused)
    book.case("what lapsed gives its place", *steps, wait(IDLE_MS), *family.connected(web, refused, fresh))


def four_book():
    book = _book(FOUR, "full-nat", "full-nat: both ends are replaced, and every flow is in a table")
    for part in (_ways, _flows, _answers, _changes, _pieces):
        part(book, FOUR)
    web, client = FOUR.web, FOUR.client
    end = Table().open(web, client)
    book.case("the time to live ends here", told(FOUR.of(web, client, (web.vip, 80), flags="S", ttl=1), "web", "time_exceeded", 11, 0))
    dying = FOUR.of(web, (web.backend.address, web.backend.port), end, ttl=1)
    book.case("... of an answer", *FOUR.connected(web, client, end), told(dying, "web", "time_exceeded", 11, 0))
    far = FOUR.far
    big = FOUR.of(far, client, (far.vip, far.port), flags="S", seq=ISN, payload=bytes(1_600))
    book.case("longer than the next link takes", told(big, "far", "fragmentation_needed", 3, 4, mtu=1_500))
    names = FOUR.names
    none = Table().open(names, client)
    unsummed = FOUR.of(names, client, (names.vip, 53), checksum=0)
    book.case("UDP without a checksum stays without", FOUR.forth(names, unsummed, none, exceptions={"halfOpen": 1}))
    cut = packets.tcp(client, (web.vip, 80), len=30)
    book.case("cut behind the ports", dropped(cut, "web", "malformed"))
    return book


def four_errors_book():
    book = _book(FOUR, "full-nat-icmp", "full-nat: errors follow the packet that they repeat, with both ends replaced")
    _errors4(book)
    return book


def four_full_book():
    book = _book(FOUR, "full-nat-full", "full-nat: a table of 32 places", 5)
    _full(book, FOUR, 5)
    return book


def six_book():
    book = _book(SIX, "ipv6-full-nat", "full-nat of IPv6: both ends are replaced, and every flow is in a table")
    for part in (_ways, _flows, _answers, _changes, _pieces):
        part(book, SIX)
    web, client = SIX.web, SIX.client
    book.case("the hop limit ends here", six.told(SIX.of(web, client, (web.vip, 80), flags="S", hlim=1), "web", "time_exceeded", ICMPv6TimeExceeded()))
    far = SIX.far
    big = SIX.of(far, client, (far.vip, far.port), flags="S", seq=ISN, payload=bytes(1_600))
    book.case("longer than the next link takes", six.told(big, "far", "fragmentation_needed", ICMPv6PacketTooBig(mtu=1_500)))
    _errors6(book)
    return book


def six_full_book():
    book = _book(SIX, "ipv6-full-nat-full", "full-nat of IPv6: a table of 32 places", 5)
    _full(book, SIX, 5)
    return book
