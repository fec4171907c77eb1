"""Pieces of datagrams: the first one goes the way of its flow, later ones follow it."""

from scapy.layers.inet import IP
from scapy.packet import Raw

from .answers import BACKEND, NAME_SERVER, book_of
from .hosts import FAR, LOCAL, LOST, LOST_NAMES, NAMES, NEAR_GATEWAY_HOP, WEB
from .malformed import changed
from .packets import CLIENT, ip, pieces, tcp, udp
from .rules import dropped, flag_counts, for_backend, for_client, leaving, left, passed, step, told, verdict_of, wait

LIFE_MS = 30_000


def _sent(piece, whole, out, hop, side, backend, service):
    """One piece of a packet, which becomes the same piece of the rewritten packet."""
    is_first = piece[IP].frag == 0
    flags = flag_counts(whole, side) if is_first else {}
    counts = {backend.name: {f"packets{side}": 1, f"bytes{side}": len(bytes(piece)), **flags}}
    if hop is None:
        return step(piece, "PASS", out, reasons={service: {"unresolved_backend": 1}}, backends=counts)
    leaving(out, hop)
    del out[IP].chksum
    return step(piece, verdict_of(hop, "near"), out, to=hop.interface, backends=counts)


def _forward(packet, service, size=1_480):
    backend = service.backend
    outs = pieces(for_backend(packet, backend), size)
    return [_sent(piece, packet, out, backend.hop, "Forward", backend, service.name)
            for piece, out in zip(pieces(packet, size), outs)]


def _reverse(packet, service, size=1_480):
    outs = pieces(for_client(packet, service), size)
    return [_sent(piece, packet, out, NEAR_GATEWAY_HOP, "Reverse", service.backend, service.name)
            for piece, out in zip(pieces(packet, size), outs)]


def _orphan(protocol, to, source=CLIENT, **how):
    return ip(source[0], to, proto=protocol, **{"flags": 0, "frag": 185, **how}) / Raw(bytes(range(64)))


def fragments_book():
    book = book_of("fragments", "pieces of datagrams: later ones follow the first one, for half a minute")
    question = udp(CLIENT, (NAMES.vip, 53), bytes(range(256)) * 12, flags=0)
    answer = udp(NAME_SERVER, CLIENT, bytes(range(256)) * 12, flags=0)
    segment = tcp(CLIENT, (WEB.vip, 80), flags="PA", payload=bytes(range(256)) * 8)
    reply = tcp(BACKEND, CLIENT, flags="PA", payload=bytes(range(256)) * 8)
    book.case("a client's datagram in three pieces", *_forward(question, NAMES))
    book.case("a client's segment in two pieces", *_forward(segment, WEB))
    book.case("a backend's datagram in three pieces", *_reverse(answer, NAMES))
    book.case("a backend's segment in two pieces", *_reverse(reply, WEB))
    book.case("many short pieces", *_forward(udp(CLIENT, (NAMES.vip, 53), bytes(range(200)), flags=0), NAMES, 24))
    book.case("a datagram without checksum", *_forward(udp(CLIENT, (NAMES.vip, 53), bytes(2_000), checksum=0, flags=0), NAMES))
    book.case("to a backend at another interface", *_forward(tcp(CLIENT, (FAR.vip, 80), flags="A", payload=bytes(1_700)), FAR))
    book.case("to a backend without a next hop", *_forward(tcp(CLIENT, (LOST.vip, 80), flags="A", payload=bytes(1_700)), LOST))
    first, second, third = _forward(question, NAMES)
    book.case("the last one before the one in the middle", first, third, second)
    book.case("the first one repeated", first, first, second, third)
    head, middle, tail = pieces(question)
    for length in (0, 19):
        book.case(f"a later one of {length} bytes, which is shorter than its IPv4 header", first,
                  dropped(changed(middle, (16, 0), (17, length)), "names", "malformed"))
    book.case("a later one in front of the first one is not kept", dropped(tail, "web", "fragment"), first, third)
    book.case("half a minute is not over", first, wait(LIFE_MS - 1_000), second)
    book.case("after half a minute", first, wait(LIFE_MS + 1_000), dropped(tail, "web", "fragment"))
    other = udp(CLIENT, (NAMES.vip, 53), bytes(3_000), flags=0, id=0x4321)
    book.case("of another datagram of the same ends", first, dropped(list(pieces(other))[1], "web", "fragment"))
    book.case("two datagrams at once", *[step for pair in zip(_forward(question, NAMES), _forward(other, NAMES)) for step in pair])
    elsewhere = udp(("10.64.0.2", CLIENT[1]), (NAMES.vip, 53), bytes(3_000), flags=0)
    book.case("of the same number from another client", first, dropped(list(pieces(elsewhere))[1], "web", "fragment"))
    expired = udp(CLIENT, (NAMES.vip, 53), bytes(3_000), flags=0, ttl=1)
    book.case("the first one's time to live ends here", told(next(pieces(expired)), "names", "time_exceeded", 11, 0))
    book.case("a later one's time to live ends here", first, dropped(list(pieces(expired))[1], "names", "ttl_expired"))
    closed = udp(CLIENT, (NAMES.vip, 54), bytes(3_000), flags=0)
    book.case("for a port without service: the first one is answered, later ones are nobody's",
              told(next(pieces(closed)), "web", "port_closed", 3, 3, source=NAMES.vip),
              dropped(list(pieces(closed))[1], "web", "fragment"))
    for name, how in {"in the middle": {"flags": "MF"}, "the last": {}, "at the end of all": {"frag": 8_191}}.items():
        book.case(f"without a first one, {name}, UDP", dropped(_orphan(17, NAMES.vip, **how), "web", "fragment"))
        book.case(f"without a first one, {name}, TCP", dropped(_orphan(6, LOST.vip, **how), "lost", "fragment"))
    book.case("of an echo request, the first", dropped(_orphan(1, LOST.vip, flags="MF", frag=0), "lost", "fragment"))
    book.case("of an echo request, the last", dropped(_orphan(1, LOST.vip), "lost", "fragment"))
    book.case("of another protocol", dropped(_orphan(47, LOST.vip), "lost", "fragment"))
    local = udp(CLIENT, (LOCAL.vip, 53), bytes(3_000), flags=0)
    book.case("for a local virtual address", *[left(piece, "local", "local_address") for piece in pieces(local)])
    book.case("a backend's without a first one is not known to be the service's", passed(_orphan(17, CLIENT[0], NAME_SERVER)))
    lost = udp(CLIENT, (LOST_NAMES.vip, 53), bytes(3_000), flags=0)
    book.case("a datagram to a backend without a next hop", *_forward(lost, LOST_NAMES))
    return book
