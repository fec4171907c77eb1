"""ICMP for virtual addresses and of backends: errors follow the packet that they repeat, in both directions."""

from scapy.layers.inet import ICMP, IP
from scapy.packet import Raw

from .answers import OPTIONS, book_of
from .hosts import EMPTY, FAR, LOCAL, LOST, NAMES, NEAR_GATEWAY_HOP, PORTS, WEB
from .packets import CLIENT, echo, error_about, padded, tcp, udp, without_checksums
from .rules import dropped, for_backend, for_client, leaving, left, passed, step, verdict_of

ROUTER = "203.0.113.7"
NEEDED, EXCEEDED, UNREACHABLE, PARAMETER = (3, 4), (11, 0), (3, 1), (12, 0)
WHOLE = 2_000


def _question(service, **more):
    """What a client sent, as it arrived at this host."""
    make = udp if service.protocol == "udp" else tcp
    return make(CLIENT, (service.vip, service.port), payload=bytes(range(40)), ttl=51, **more)


def _sent_question(service, **more):
    """… as it left for the backend."""
    return for_backend(_question(service, **more), service.backend)


def _sent_reply(service, **more):
    """What a backend sent, as it left for the client."""
    return for_client(_reply(service, **more), service)


def _reply(service, **more):
    make = udp if service.protocol == "udp" else tcp
    port = service.backend.port or service.port
    return make((service.backend.address, port), CLIENT, payload=bytes(range(40)), ttl=51, **more)


def _to_backend(service, error, inner, length):
    """An error about a reply goes to the backend, which sees its own endpoint in it."""
    out = _with_inner(error, inner, length)
    out[IP].dst = service.backend.address
    return _leave(error, out, service, service.backend.hop, "Forward", "unresolved_backend")


def _to_client(service, error, inner, length):
    """An error about a client's packet goes to the client, who sees the virtual endpoint in it."""
    out = _with_inner(error, inner, length)
    if error[IP].src == service.backend.address:
        out[IP].src = service.vip
    return _leave(error, out, service, NEAR_GATEWAY_HOP, "Reverse", "unresolved_client")


def _with_inner(error, inner, length):
    out = without_checksums(error)
    out[ICMP].remove_payload()
    return out / Raw(bytes(inner[IP])[:length])


def _leave(error, out, service, hop, side, reason):
    counts = {service.backend.name: {f"packets{side}": 1, f"bytes{side}": len(bytes(error)), f"icmpErrors{side}": 1}}
    if hop is None:
        return step(error, "PASS", out, reasons={service.name: {reason: 1}}, backends=counts)
    leaving(out, hop)
    return step(error, verdict_of(hop, "near"), out, to=hop.interface, backends=counts)


def _about_reply(service, what, length=28, source=ROUTER, mtu=0, header=(), **more):
    error = error_about(source, _sent_reply(service, **more), *what, length=length, mtu=mtu, **dict(header))
    return _to_backend(service, error, _reply(service, **more), length)


def _about_question(service, what, length=28, source=ROUTER, mtu=0, **more):
    error = error_about(source, _sent_question(service, **more), *what, length=length, mtu=mtu)
    return _to_client(service, error, _question(service, **more), length)


def icmp_book():
    book = book_of("icmp", "ICMP but echo requests: errors follow the packet that they repeat")
    _about_replies(book)
    _about_questions(book)
    _not_followed(book)
    return book


def _about_replies(book):
    kinds = {"host unreachable": UNREACHABLE, "fragmentation needed": NEEDED, "time exceeded": EXCEEDED, "parameter problem": PARAMETER,
             "port unreachable": (3, 3), "administratively prohibited": (3, 13), "reassembly time exceeded": (11, 1)}
    for name, what in kinds.items():
        book.case(f"about a reply: {name}", _about_reply(WEB, what, mtu=1_400 if what == NEEDED else 0))
        book.case(f"about a reply over UDP: {name}", _about_reply(NAMES, what, mtu=1_400 if what == NEEDED else 0))
    for length, name in {WHOLE: "the whole packet", 36: "all before the TCP checksum", 38: "all to the TCP checksum", 51: "an odd number of bytes"}.items():
        book.case(f"about a reply: {name} repeated", _about_reply(WEB, NEEDED, length, mtu=1_400))
    book.case("about a reply over UDP: the whole datagram repeated", _about_reply(NAMES, (3, 3), WHOLE))
    book.case("about a reply over UDP without checksum", _about_reply(NAMES, EXCEEDED, WHOLE, checksum=0))
    book.case("about a reply with IPv4 options", _about_reply(WEB, EXCEEDED, 36, options=b"\x07\x07\x04\x00\x00\x00\x00\x00"))
    book.case("about a reply, with IPv4 options of its own", _about_reply(WEB, EXCEEDED, header={"options": OPTIONS}))
    book.case("about a reply, by the client itself", _about_reply(NAMES, (3, 3), WHOLE, source=CLIENT[0]))
    book.case("about a reply of a backend at another interface", _about_reply(FAR, NEEDED, WHOLE, mtu=1_280))
    book.case("about a reply of a backend without a next hop", _about_reply(LOST, NEEDED, WHOLE, mtu=1_280))
    book.case("about a reply of a backend that keeps the client's port", _about_reply(PORTS, NEEDED, mtu=1_280))
    book.case("about a reply: the last hop but one", _about_reply(WEB, EXCEEDED, header={"ttl": 2}))


def _about_questions(book):
    for name, what in {"fragmentation needed": NEEDED, "time exceeded": EXCEEDED, "host unreachable": UNREACHABLE}.items():
        for service in (WEB, NAMES, FAR):
            for length in (28, WHOLE):
                repeated = "eight bytes" if length == 28 else "all"
                book.case(f"about a question to {service.name}, by a router: {name}, {repeated} repeated",
                          _about_question(service, what, length, mtu=1_400 if what == NEEDED else 0))
    for service in (WEB, NAMES, LOST):
        for length in (28, WHOLE):
            repeated = "eight bytes" if length == 28 else "all"
            book.case(f"about a question to {service.name}, by the backend: no port, {repeated} repeated",
                      _about_question(service, (3, 3), length, source=service.backend.address))


def _not_followed(book):
    def lost(name, packet, service="web", reason="icmp"):
        book.case(name, dropped(packet, service, reason))

    reply, question = _sent_reply(WEB), _sent_question(WEB)
    for name, what in {"source quench": (4, 0), "redirect": (5, 1)}.items():
        lost(f"to a virtual address: {name}", error_about(ROUTER, reply, *what))
    for name, kind in {"timestamp request": 13, "address mask request": 17, "router solicitation": 10, "unknown": 200}.items():
        lost(f"to a virtual address: {name}", echo(CLIENT[0], LOST.vip, bytes(12), kind=kind), "lost")
    lost("an echo reply", echo(CLIENT[0], LOST.vip, kind=0), "lost")
    lost("an echo request with a code", echo(CLIENT[0], LOST.vip, code=1), "lost")
    lost("an echo request of two bytes", echo(CLIENT[0], LOST.vip, b"", len=22), "lost")
    lost("about another port", error_about(ROUTER, tcp((WEB.vip, 81), CLIENT), *EXCEEDED))
    lost("about a later piece", error_about(ROUTER, _sent_reply(WEB, flags=0, frag=100), *EXCEEDED))
    lost("about an echo", error_about(ROUTER, echo(WEB.vip, CLIENT[0]), *EXCEEDED))
    lost("seven bytes repeated", error_about(ROUTER, reply, *EXCEEDED, length=27))
    other = error_about(ROUTER, question, *EXCEEDED)
    other[IP].dst = WEB.vip
    lost("about somebody else's packet", other)
    lost("a piece of an error", error_about(ROUTER, reply, *EXCEEDED, flags="MF"), reason="fragment")
    lost("about a reply, without time to live", error_about(ROUTER, reply, *EXCEEDED, ttl=1), reason="ttl_expired")
    lost("about a question, without time to live", error_about(ROUTER, question, *EXCEEDED, ttl=1), reason="ttl_expired")
    lost("about a service without backends", error_about(ROUTER, tcp((EMPTY.vip, 80), CLIENT), *EXCEEDED), "empty", "no_backend")
    elsewhere = error_about(ROUTER, reply, *EXCEEDED)
    elsewhere[IP].dst = "10.64.0.9"
    book.case("for another address than that of the packet it repeats", passed(elsewhere))
    book.case("about a packet to a stranger", passed(error_about(ROUTER, tcp(CLIENT, ("10.8.8.8", 443)), *EXCEEDED)))
    book.case("about another port of a local address",
              left(error_about(ROUTER, tcp((LOCAL.vip, 22), CLIENT), *EXCEEDED), "local", "local_address"))
    check = tcp(("10.1.0.1", 50_000), (WEB.backend.address, WEB.backend.port))
    book.case("about a health check of this host", left(error_about(ROUTER, check, *EXCEEDED), "web", "direct_access"))
    book.case("padded", _padded(reply))


def _padded(reply):
    error = padded(error_about(ROUTER, reply, *EXCEEDED), 80)
    out = _with_inner(error, _reply(WEB), 28)
    out[IP].dst = WEB.backend.address
    return _leave(error, padded(out, 80), WEB, WEB.backend.hop, "Forward", "unresolved_backend")
