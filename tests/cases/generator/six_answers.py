"""IPv6: what the program answers itself, errors that follow the packet that they repeat, flows that go elsewhere."""

from scapy.layers.inet import UDP
from scapy.layers.inet6 import (ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr,
                                ICMPv6NDOptSrcLLAddr, ICMPv6PacketTooBig, ICMPv6ParamProblem, ICMPv6TimeExceeded, IPv6)
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from .book import Book
from .hosts import own_mac, version
from .rules import dropped, left, passed, publish, step, verdict_of
from .six import (CLIENT, EMPTY, FAR, FAR_GATEWAY, FAR_NAMES, GATEWAY, GATEWAY_HOP, LINKS, LOCAL, LOST, NAMES, OWN, PORTS, USUAL,
                  USUAL_DIRECT_ACCESS, USUAL_HOST, WEB, echo, echoed, for_backend, for_client, ip, leaving, mac_of, neighbour,
                  on_link, reset, tcp, to_backend, to_client, told, udp)
from .six_traffic import BACKEND, HEADERS, NAME_SERVER, book_of

CLOSED, EXPIRED = ICMPv6DestUnreach(code=4), ICMPv6TimeExceeded(code=0)


def _refused(packet, service, came="near"):
    if UDP in packet:
        return told(packet, service, "port_closed", CLOSED, source=packet[IPv6].dst, came=came)
    return reset(packet, service, "port_closed", came)


def _expired(packet, service, came="near"):
    return told(packet, service, "time_exceeded", EXPIRED, came=came)


def answers_book():
    book = book_of("ipv6-answers", "what the program answers over IPv6: closed ports, the last hop, echo requests")
    for flags in ("S", "A", "SA", "FA", "PA", 0):
        book.case(f"another TCP port: {flags or 'no flag'}", _refused(tcp(CLIENT, (LOST.vip, 81), flags=flags), "lost"))
    for flags in ("R", "RA"):
        book.case(f"a RST is never answered: {flags}", dropped(tcp(CLIENT, (LOST.vip, 81), flags=flags), "lost", "no_service"))
    for length in (0, 1, 15, 16, 17, 79, 80, 300, 463, 464, 465, 1_400):
        book.case(f"another UDP port: {length} bytes", _refused(udp(CLIENT, (LOST.vip, 81), bytes(n & 255 for n in range(length))), "lost"))
    book.case("data", _refused(tcp(CLIENT, (LOST.vip, 81), flags="PA", payload=bytes(700)), "lost"))
    book.case("at the second interface", _refused(udp(CLIENT, (LOST.vip, 81), came="far"), "lost", came="far"))
    book.case("a datagram behind extension headers", _refused(udp(CLIENT, (LOST.vip, 81), headers=HEADERS["all of them"]), "lost"))
    book.case("a segment behind extension headers is not answered",
              dropped(tcp(CLIENT, (LOST.vip, 81), flags="S", headers=HEADERS["destination options"]), "lost", "no_service"))
    for source in ("::", "::1", "ff02::1"):
        book.case(f"from {source}, a SYN", dropped(tcp((source, 9), (LOST.vip, 81), flags="S"), "lost", "no_service"))
        book.case(f"from {source}, a datagram", dropped(udp((source, 9), (LOST.vip, 81)), "lost", "no_service"))
    everyone = {"macs": (mac_of(GATEWAY), "33:33:00:00:00:01")}
    book.case("a datagram to a group on the link", dropped(udp(CLIENT, (LOST.vip, 81), **everyone), "lost", "no_service"))
    for hlim in (0, 1):
        book.case(f"a client's segment, hop limit {hlim}", _expired(tcp(CLIENT, (WEB.vip, 80), hlim=hlim), "web"))
        book.case(f"a client's datagram, hop limit {hlim}", _expired(udp(CLIENT, (NAMES.vip, 53), hlim=hlim), "names"))
        book.case(f"a backend's segment, hop limit {hlim}", _expired(tcp(BACKEND, CLIENT, hlim=hlim), "web"))
        book.case(f"a backend's datagram, hop limit {hlim}", _expired(udp(NAME_SERVER, CLIENT, hlim=hlim), "names"))
    book.case("expired at the second interface", _expired(tcp(CLIENT, (FAR.vip, 80), hlim=1, came="far"), "far", came="far"))
    book.case("expired, to a version without backends", _expired(tcp(CLIENT, (EMPTY.vip, 80), hlim=1), "empty"))
    book.case("an expired RST is not answered", dropped(tcp(CLIENT, (WEB.vip, 80), flags="R", hlim=1), "web", "ttl_expired"))
    for length in (0, 1, 2, 3, 56, 1_400):
        book.case(f"an echo request of {length} bytes", echoed(echo(CLIENT[0], LOST.vip, bytes(n & 255 for n in range(length))), "lost"))
    for hlim in (1, 255):
        book.case(f"an echo request, hop limit {hlim}", echoed(echo(CLIENT[0], LOST.vip, hlim=hlim), "lost"))
    book.case("traffic class and flow label are sent back", echoed(echo(CLIENT[0], LOST.vip, tc=0xB8, fl=0x12345), "lost"))
    book.case("an echo request, padded", echoed(echo(CLIENT[0], LOST.vip, b"a", padding=bytes(5)), "lost"))
    book.case("an echo request at an address of two services", echoed(echo(CLIENT[0], NAMES.vip), "web"))
    book.case("an echo request at an address of this host", left(echo(CLIENT[0], LOCAL.vip), "local", "local_address"))
    book.case("an echo request from nobody", dropped(echo("::", LOST.vip), "lost", "icmp"))
    book.case("an echo reply for a virtual address", dropped(echo(CLIENT[0], LOST.vip, kind=ICMPv6EchoReply), "lost", "icmp"))
    book.case("an echo request behind extension headers",
              dropped(echo(CLIENT[0], LOST.vip, headers=HEADERS["hop-by-hop options"]), "lost", "icmp"))
    return book


ASKER = ("02:cc:00:01:00:77", "2001:db8:1::77")


def _solicitation(target, asker=ASKER, options=(), hlim=255, to=None):
    tail = int(target.rsplit(":", 1)[1] or "0", 16)
    group = to or f"ff02::1:ff00:{tail:x}"
    mac = f"33:33:ff:00:{tail >> 8:02x}:{tail & 255:02x}" if to is None else own_mac("near")
    packet = Ether(src=asker[0], dst=mac) / IPv6(src=asker[1], dst=group, hlim=hlim) / ICMPv6ND_NS(tgt=target)
    for option in options:
        packet = packet / option
    return packet


def _advertised(packet, target, service, tail=b"", has_address=True):
    claimed = packet[IPv6].src == "::"
    out = Ether(src=own_mac("near"), dst="33:33:00:00:00:01" if claimed else packet[Ether].src)
    out = out / IPv6(src=target, dst="ff02::1" if claimed else packet[IPv6].src, hlim=255)
    out = out / ICMPv6ND_NA(tgt=target, R=0, S=0 if claimed else 1, O=1)
    if has_address:
        out = out / ICMPv6NDOptDstLLAddr(lladdr=own_mac("near"))
    return step(packet, "TX", bytes(out) + tail, to="near", reasons={service: {"arp": 1}})


def neighbours_book():
    book = book_of("ipv6-neighbours", "who has a virtual address of IPv6, on Ethernet")
    source = ICMPv6NDOptSrcLLAddr(lladdr=ASKER[0])
    nonce = Raw(bytes([14, 1]) + b"nonce!")
    book.case("a solicitation for an announced address", _advertised(_solicitation(WEB.vip, options=[source]), WEB.vip, "web"))
    book.case("sent to the address alone, without options: the answer has none", _advertised(
        _solicitation(WEB.vip, to=WEB.vip), WEB.vip, "web", has_address=False))
    claim = _solicitation(WEB.vip, asker=(ASKER[0], "::"))
    book.case("another one claims the address: all are told", _advertised(claim, WEB.vip, "web", has_address=False))
    claim = _solicitation(WEB.vip, asker=(ASKER[0], "::"), options=[nonce])
    book.case("another one claims it, with a nonce (RFC 7527)", _advertised(claim, WEB.vip, "web"))
    both = _solicitation(WEB.vip, options=[source, nonce])
    book.case("two options: the answer stands in the place of the first", _advertised(both, WEB.vip, "web", tail=bytes(nonce)))
    book.case("from a link-local address", _advertised(_solicitation(WEB.vip, (ASKER[0], "fe80::77"), [source]), WEB.vip, "web"))
    for name, target in {"that is not announced": LOST.vip, "that is local": LOCAL.vip, "of this host": OWN["near"],
                         "of a backend": WEB.backend.address, "of nobody": "2001:db8:e::1"}.items():
        book.case(f"a solicitation for an address {name}", passed(_solicitation(target, options=[source])))
    book.case("from beyond the link", passed(_solicitation(WEB.vip, options=[source], hlim=254)))
    book.case("an advertisement", passed(Ether(src=ASKER[0], dst="33:33:00:00:00:01") / IPv6(src=ASKER[1], dst="ff02::1", hlim=255)
                                         / ICMPv6ND_NA(tgt=ASKER[1])))
    book.case("cut", passed(bytes(_solicitation(WEB.vip, options=[source]))[:76]))
    return book


ROUTER = "2001:db8:aa::7"
ERRORS = {"packet too big": ICMPv6PacketTooBig(mtu=1_400), "time exceeded": ICMPv6TimeExceeded(code=0),
          "address unreachable": ICMPv6DestUnreach(code=3), "port unreachable": ICMPv6DestUnreach(code=4),
          "parameter problem": ICMPv6ParamProblem(code=1)}
WHOLE = 2_000


def _question(service):
    make = udp if service.protocol == "udp" else tcp
    return make(CLIENT, (service.vip, service.port), payload=bytes(range(40)), hlim=51)


def _reply(service):
    make = udp if service.protocol == "udp" else tcp
    return make((service.backend.address, service.backend.port or service.port), CLIENT, payload=bytes(range(40)), hlim=51)


def _about(router, to, message, packet, length, **header):
    return ip(router, to, **header) / message / Raw(bytes(packet[IPv6])[:length])


def _about_reply(service, message, length=WHOLE, source=ROUTER, **header):
    """An error about a reply goes to the backend, which sees its own endpoint in it."""
    error = _about(source, service.vip, message, for_client(_reply(service), service), length, **header)
    out = _about(source, service.backend.address, message, _reply(service), length, **header)
    return _leave(error, out, service, service.backend.hop, "Forward", "unresolved_backend")


def _about_question(service, message, length=WHOLE, source=ROUTER):
    """An error about a client's packet goes to the client, who sees the virtual endpoint in it."""
    error = _about(source, CLIENT[0], message, for_backend(_question(service), service.backend), length)
    sender = service.vip if source == service.backend.address else source
    out = _about(sender, CLIENT[0], message, _question(service), length)
    return _leave(error, out, service, GATEWAY_HOP, "Reverse", "unresolved_client")


def _leave(error, out, service, hop, side, reason):
    counts = {service.backend.name: {f"packets{side}": 1, f"bytes{side}": len(bytes(error)), f"icmpErrors{side}": 1}}
    out[Ether].src, out[Ether].dst = error[Ether].src, error[Ether].dst
    if hop is None:
        return step(error, "PASS", out, reasons={service.name: {reason: 1}}, backends=counts)
    leaving(out, hop)
    return step(error, verdict_of(hop, "near"), out, to=hop.interface, backends=counts)


def icmp_book():
    book = book_of("ipv6-icmp", "ICMPv6 errors follow the packet that they repeat")
    for name, message in ERRORS.items():
        for service in (WEB, NAMES, FAR):
            book.case(f"about a reply of {service.name}: {name}", _about_reply(service, message))
            book.case(f"about a question to {service.name}: {name}", _about_question(service, message))
    for length, name in {48: "eight bytes behind the header", 56: "all before the TCP checksum", 58: "all to the TCP checksum",
                         71: "an odd number of bytes"}.items():
        book.case(f"about a reply: {name} repeated", _about_reply(WEB, ERRORS["packet too big"], length))
        book.case(f"about a question: {name} repeated", _about_question(WEB, ERRORS["packet too big"], length))
        book.case(f"about a datagram: {name} repeated", _about_question(NAMES, ERRORS["time exceeded"], length))
    book.case("about a question, by the backend itself", _about_question(NAMES, ERRORS["port unreachable"], source=NAMES.backend.address))
    book.case("about a reply, by the client itself", _about_reply(NAMES, ERRORS["port unreachable"], source=CLIENT[0]))
    book.case("about a reply of a backend without a next hop", _about_reply(LOST, ERRORS["packet too big"]))
    book.case("about a reply of a backend that keeps the client's port", _about_reply(PORTS, ERRORS["packet too big"]))
    book.case("the last hop but one", _about_reply(WEB, ERRORS["time exceeded"], hlim=2))
    inner = for_client(_reply(WEB), WEB)
    book.case("expired here", dropped(_about(ROUTER, WEB.vip, ERRORS["time exceeded"], inner, WHOLE, hlim=1), "web", "ttl_expired"))
    book.case("cut before the ports", dropped(_about(ROUTER, WEB.vip, ERRORS["time exceeded"], inner, 47), "web", "icmp"))
    stranger = for_client(_reply(WEB), WEB)
    stranger[IPv6].src = "2001:db8:e::1"
    book.case("about another's packet", dropped(_about(ROUTER, WEB.vip, ERRORS["time exceeded"], stranger, WHOLE), "web", "icmp"))
    other = tcp((WEB.vip, 81), CLIENT)
    book.case("about a port of no service", dropped(_about(ROUTER, WEB.vip, ERRORS["time exceeded"], other, WHOLE), "web", "icmp"))
    book.case("about nobody's packet", passed(_about(ROUTER, OWN["near"], ERRORS["time exceeded"], tcp((OWN["near"], 9), CLIENT), WHOLE)))
    return book


NARROW = 1_400
FAR_CLIENT = ("2001:db8:d::1", 40_000)
NARROW_HOST = [*USUAL_HOST, f"link set far mtu {NARROW}", neighbour("far", FAR_GATEWAY), f"route add 2001:db8:d::/48 via {FAR_GATEWAY}"]


def sizes_book():
    book = Book("ipv6-sizes", f"IPv6 beyond the next link's MTU: {NARROW} bytes at the second interface", USUAL, NARROW_HOST, USUAL_DIRECT_ACCESS)
    big = ICMPv6PacketTooBig(mtu=NARROW)
    for length in (NARROW + 1, 1_500, 3_000):
        book.case(f"a client's segment of {length} bytes", told(
            tcp(CLIENT, (FAR.vip, 80), flags="PA", payload=bytes(length - 60)), "far", "fragmentation_needed", big))
        book.case(f"a client's datagram of {length} bytes", told(
            udp(CLIENT, (FAR_NAMES.vip, 53), bytes(length - 48)), "far-names", "fragmentation_needed", big))
        book.case(f"a backend's segment of {length} bytes", told(
            tcp(BACKEND, FAR_CLIENT, flags="PA", payload=bytes(length - 60)), "web", "fragmentation_needed", big))
    from .six import FAR_GATEWAY_HOP
    book.case("a client's segment that just fits", to_backend(tcp(CLIENT, (FAR.vip, 80), flags="PA", payload=bytes(NARROW - 60)), FAR.backend))
    book.case("a backend's datagram that just fits", to_client(udp(NAME_SERVER, FAR_CLIENT, bytes(NARROW - 48)), NAMES, hop=FAR_GATEWAY_HOP))
    book.case("a RST is not answered", dropped(tcp(CLIENT, (FAR.vip, 80), flags="RA", payload=bytes(NARROW)), "far", "too_big"))
    return book


OLD, NEW = on_link("old", "fd00:9::3:1", 8080), on_link("new", "fd00:9::3:2", 8080)
STAGE = [*LINKS, neighbour("near", OLD.address), neighbour("near", NEW.address)]
MOVING, BACK = {"current": "v2", "home": "v1"}, {"current": "v1", "home": "v1", "looks": True}
PINNING = {**MOVING, "pins": True}
INSIDE, OUTSIDE = "2001:db8:c:1::9", "2001:db8:c:2::9"


def _pool(backend, name, state="up", **more):
    return version(name, [backend.wanted(state)], [backend.name], **more)


def _staged(buckets, segments=None, state="up", which=WEB, **more):
    versions = [_pool(OLD, "v1", state), _pool(NEW, "v2")]
    more = {**more, **({"segments": segments} if segments else {})}
    return which.wanted(versions, buckets=buckets, **more)


def _by_prefix(text, current=1, home=None, rules=(), looks=False):
    classes = [{"segment": 0, "rules": list(rules)}, {"segment": 1, "rules": []}]
    prefixes = [{"prefix": text, "current": current, "home": current if home is None else home}] if text else []
    segments = {"prefixes": prefixes, "classes": classes, "byDscp": any("dscp" in rule for rule in rules)}
    more = {"differs": True, **({"looks": True} if looks else {})}
    buckets = [{"current": "v1", "home": "v1", **more}, {"current": "v2", "home": "v2", **more}]
    return [_staged(buckets, segments)]


CONFIGURATIONS = {
    "moving": [_staged([MOVING])], "pinning": [_staged([PINNING])], "back": [_staged([BACK])],
    "down": [_staged([BACK], state="downReset")],
    "by client": [_staged([MOVING], affinity="client")],
    "prefix": _by_prefix("2001:db8:c:1::/64"), "one address": _by_prefix(f"{INSIDE}/128"), "everyone": _by_prefix("::/0"),
    "joining": _by_prefix("2001:db8:c:1::/64", 1, 0),
    "dscp": _by_prefix(None, rules=[{"dscp": 46, "segment": 1}], looks=True),
}
ISN, NUMBER = 0x1000_0000, 0x7000_0000


def _send(to, client=CLIENT, counted=None, **how):
    header = {"tc": how.pop("tc")} if "tc" in how else {}
    return to_backend(tcp(client, (WEB.vip, 80), **how, **header), to, exceptions={"web": counted} if counted else None)


def _handshake(to, client=CLIENT):
    return [
        _send(to, client, {"halfOpen": 1}, flags="S", seq=ISN),
        to_client(tcp((to.address, 8080), client, flags="SA", seq=NUMBER, ack=ISN + 1), WEB, to),
        _send(to, client, {"completed": 1, "byEntry": 1}, seq=ISN + 1, ack=NUMBER + 1),
    ]


def exceptions_book():
    book = Book("ipv6-exceptions", "IPv6 flows that go elsewhere than their bucket says; segments", CONFIGURATIONS, STAGE)
    book.case("a flow of before the change goes by home", _send(OLD), _send(OLD, payload=b"more"))
    book.case("a new flow goes by current, and stays there", *_handshake(NEW), _send(NEW, counted={"byEntry": 1}, payload=b"x"))
    book.case("a flow that differs in the first half of its address alone has no entry",
              *_handshake(NEW), _send(OLD, ("2001:db8:d::1", 40_000)))
    book.case("an entry outlives the way back", *_handshake(NEW), publish("back"), _send(NEW, counted={"byEntry": 1}), _send(OLD, OTHER))
    book.case("a repeated SYN goes where the first one went", _send(NEW, counted={"halfOpen": 1}, flags="S", seq=ISN),
              _send(NEW, flags="S", seq=ISN))
    book.case("with affinity to the client an entry is a flow's all the same", *_handshake(NEW), _send(OLD, (CLIENT[0], 50_000)),
              configuration="by client")
    book.case("a packet by home pins its flow", _send(OLD, counted={"pinned": 1}), configuration="pinning")
    book.case("a flow of a backend that is down is ended", reset(tcp(CLIENT, (WEB.vip, 80), payload=b"x"), "web", "backend_down"),
              configuration="down")
    for name, client, to in (("inside", INSIDE, NEW), ("outside", OUTSIDE, OLD)):
        for configuration in ("prefix", "one address"):
            book.case(f"{name} a source prefix: {configuration}", _send(to, (client, 9), flags="S"), _send(to, (client, 9)),
                      configuration=configuration)
    book.case("a prefix of all sources", _send(NEW, (OUTSIDE, 9), flags="S"), configuration="everyone")
    book.case("the DSCP of what opens a flow", _send(NEW, counted={"halfOpen": 1}, flags="S", seq=ISN, tc=46 << 2), configuration="dscp")
    book.case("another DSCP", _send(OLD, flags="S", tc=45 << 2), configuration="dscp")
    return book


OTHER = ("2001:db8:c::2", 40_000)
