"""Backends that are down or draining, versions whose flows are ended."""

from itertools import product

from .book import Book
from .packets import FLAGS, flags_named, padded, udp
from .rules import dropped, publish, reset
from .stage import (BACK, HOST, ISN, MOVING, NAMES, NEW, OLD, OLD_TOO, WEB, ack, answer, ask, client, completing, connected, going_on, opened,
                    segment, send, service, syn, v1, v2)

DEAD = {OLD: "downReset"}
SETTLED = {"current": "v1", "home": "v1"}
SECOND = {"current": "v2", "home": "v2"}
CONFIGURATIONS = {
    "down": [service(SETTLED, [v1(OLD_TOO, OLD, DEAD), v2()])],
    "all down": [service(SETTLED, [v1(states=DEAD), v2()])],
    "all down, split": [WEB.wanted([v1(states=DEAD), v2()])],
    "kept": [service(SETTLED, [v1(OLD_TOO, OLD, {OLD: "downKeep"}), v2()])],
    "draining": [service(SETTLED, [v1(OLD_TOO, OLD, {OLD: "draining"}), v2()])],
    "ended": [service({"current": "v1", "home": "v2"}, [v1(), v2(existingFlows="reset")])],
    "moving": [service(MOVING)],
    "taken back": [service(BACK, [v1(), v2(existingFlows="reset")])],
    "empty": [service(SECOND, [v1(), v2(None, looks=True)])],
    "empty, another takes over": [service(SECOND, [v1(), v2(None, looks=True, failover="v1")])],
    "filled again": [service(SECOND, [v1(), {**v2(NEW, looks=True), "slots": {"current": ["new"], "home": [None], "looks": True}}])],
    "names down": [service(SETTLED, [v1(OLD_TOO, OLD, DEAD), v2()], NAMES)],
    "names all down": [service(SETTLED, [v1(states=DEAD), v2()], NAMES)],
}


def book():
    book = Book("down", "backends that are down or draining, and flows that are ended", CONFIGURATIONS, HOST)
    _flags(book, "down", "backend_down", new=OLD_TOO)
    _flags(book, "all down", "backend_down", new=None)
    _flags(book, "ended", "flow_reset", new=OLD)
    _numbers(book)
    _others(book)
    _draining(book)
    _empty(book)
    return book


def _is_opening(flags):
    return flags & FLAGS["SYN"] and not flags & (FLAGS["ACK"] | FLAGS["RST"])


def _flags(book, configuration, reason, new):
    """Every combination of flags: a RST is not answered, a SYN goes to who is up, all else is answered with RST."""
    for combination in product([0, 1], repeat=4):
        flags = sum(bit for bit, chosen in zip((1, 2, 4, 16), combination) if chosen)
        packet = segment(1, flags=flags, seq=1_000, ack=2_000, payload=b"" if flags & 2 else b"12345")
        if flags & FLAGS["RST"]:
            step = dropped(packet, "web", f"{reason}_dropped")
        elif _is_opening(flags) and new:
            step = send(1, new, {"flags": flags, "seq": 1_000, "ack": 2_000}, halfOpen=1)
        else:
            step = reset(packet, "web", reason)
        book.case(f"{configuration}, flags: {flags_named(flags)}", step, configuration=configuration)


def _numbers(book):
    def case(name, **how):
        book.case(f"numbers of the RST: {name}", reset(segment(1, **how), "web", "backend_down"), configuration="down")

    last = 0xFFFFFFFF
    case("data with acknowledgement", flags="PA", seq=1_000, ack=2_000, payload=bytes(99))
    case("acknowledgement number 0", flags="A", seq=1_000, ack=0)
    case("the last acknowledgement number", flags="A", seq=1_000, ack=last)
    case("data without acknowledgement", flags="P", seq=1_000, payload=bytes(99))
    case("FIN without acknowledgement, with data", flags="F", seq=1_000, payload=b"bye")
    case("data whose end is behind the last number", flags="P", seq=last - 1, payload=b"12345")
    case("FIN whose end is number 0", flags="F", seq=last)
    case("TCP options are no data", flags="P", seq=1_000, tcp_options=[("NOP", None)] * 12, payload=b"12")
    case("forty bytes of TCP options", flags="FA", seq=1_000, ack=7, tcp_options=[("NOP", None)] * 40)
    case("a full frame is cut to the answer", flags="PA", seq=1_000, ack=2_000, payload=bytes(1_460))
    case("bytes behind the datagram are no data", flags="F", seq=1_000, payload=b"a", padding=b"\xff" * 40)
    case("window of zero", flags="A", seq=1_000, ack=2_000, window=0)
    case("the service byte is not taken over", flags="A", seq=1_000, ack=2_000, tos=0xB8)
    case("time to live 2: the answer has its own", flags="A", seq=1_000, ack=2_000, ttl=2)
    case("may be fragmented", flags="A", seq=1_000, ack=2_000, **{"id": 9})
    book.case("numbers of the RST: padded to the shortest frame", reset(
        padded(segment(1, flags="F", seq=1_000)), "web", "backend_down"), configuration="down")
    book.case("IPv4 options leave no room for an answer", dropped(
        segment(1, flags="A", options=b"\x01\x01\x01\x00"), "web", "backend_down_dropped"), configuration="down")
    for words in (0, 4, 6, 15):
        book.case(f"a segment whose header says {words} words is not answered", dropped(
            segment(1, flags="F", fields={"dataofs": words}), "web", "backend_down_dropped"), configuration="down")
    book.case("SYN with data to a backend that alone is there", reset(
        segment(1, flags="S", seq=1_000, payload=b"early"), "web", "backend_down"), configuration="all down")
    for flags in ("S", "A", "FA", "SA"):
        book.case(f"a settled service: {flags}", reset(segment(1, flags=flags, seq=5, ack=6), "web", "backend_down"),
                  configuration="all down, split")
    book.case("a settled service: R", dropped(segment(1, flags="R"), "web", "backend_down_dropped"), configuration="all down, split")


def _others(book):
    book.case("flows go on where the backend keeps them", ack(1, OLD), ack(1, OLD, flags="FA"), configuration="kept")
    book.case("a RST goes to a backend that keeps its flows", send(1, OLD, {"flags": "R"}), configuration="kept")
    book.case("new flows go to another one than a backend that keeps its flows", opened(1, OLD_TOO), answer(1, OLD_TOO),
              completing(1, OLD_TOO), configuration="kept")
    book.case("what a backend that is down still sends goes to its client", answer(1, OLD, "A"), answer(1, OLD, "R"), configuration="down")
    book.case("a new flow beside a backend that is down", opened(1, OLD_TOO), answer(1, OLD_TOO), completing(1, OLD_TOO),
              going_on(1, OLD_TOO, payload=b"question"), configuration="down")
    ended = reset(segment(1, flags="PA", seq=ISN + 1, ack=3_000, payload=b"question"), "web", "flow_reset")
    ended["send"]["counted"]["exceptions"] = {"web": {"byEntry": 1}}
    book.case("a flow with an entry of a release that is taken back", *connected(1, NEW), publish("taken back"), ended, syn(2, OLD),
              ack(3, OLD), configuration="moving")
    book.case("datagrams of a backend that is down go to who is up", ask(1, OLD_TOO), configuration="names down")
    book.case("datagrams to a backend that alone is there and down", dropped(
        udp(client(1), (NAMES.vip, 53)), "names", "backend_down_dropped"), configuration="names all down")


def _draining(book):
    name = "draining"
    book.case("flows in progress go on at a backend that drains", ack(1, OLD), ack(1, OLD, payload=b"more"), ack(1, OLD, flags="FA"),
              configuration=name)
    book.case("a RST reaches a backend that drains", send(1, OLD, {"flags": "R"}), configuration=name)
    book.case("new flows go to another one than a backend that drains", opened(1, OLD_TOO), answer(1, OLD_TOO), completing(1, OLD_TOO),
              going_on(1, OLD_TOO, payload=b"question"), configuration=name)
    book.case("a backend that drains answers its clients", answer(1, OLD, "PA", payload=b"answer"), answer(1, OLD, "FA"), configuration=name)


def _empty(book):
    """`onEmptyPool`: the version has no backend left."""
    for flags in ("S", "A", "R"):
        book.case(f"a version without backends beside one that has some: {flags}", dropped(
            segment(1, flags=flags), "web", "no_backend"), configuration="empty")
    name = "empty, another takes over"
    taken = [syn(1, OLD, halfOpen=1, failovers=1), answer(1, OLD), completing(1, OLD)]
    book.case("new flows of a version without backends go to the one that takes over", *taken, going_on(1, OLD, payload=b"question"),
              configuration=name)
    book.case("flows that the version without backends had are gone", dropped(segment(1, flags="A"), "web", "no_backend"), configuration=name)
    book.case("who was taken over stays there when the pool is filled", *taken, publish("filled again"), going_on(1, OLD), opened(2, NEW),
              configuration=name)
