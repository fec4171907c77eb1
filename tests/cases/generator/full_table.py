"""An exception table of eight places: what has no place, and what keeps its own."""

from .book import Book
from .rules import dropped, publish, wait
from .stage import (HOST, ISN, MOVING, NAMES, NEW, OLD, OLD_TOO, PINNING, ack, answer, ask, completing, connected, going_on, opened,
                    segment, send, service, syn, v1, v2)

CONFIGURATIONS = {
    "moving": [service(MOVING)],
    "pinning": [service(PINNING)],
    "default down": [service(MOVING, [v1(OLD_TOO, OLD, {OLD: "downKeep"}), v2()])],
    "names": [service(PINNING, which=NAMES)],
}
PLACES = 8


def fill(count=PLACES, first=100):
    """SYNs of others that take places."""
    return [opened(first + number, NEW, 7) for number in range(count)]


def deferred(number):
    return syn(number, OLD, choiceDeferred=1)


def book():
    book = Book("full-table", "an exception table of eight places", CONFIGURATIONS, HOST, exception_sets_log2=1)
    book.case("eight SYNs find a place, the ninth goes where its later packets will go", *fill(), deferred(1), answer(1, OLD), ack(1, OLD),
              ack(1, OLD, payload=b"question"))
    book.case("a repeated SYN of who has a place goes where it went", *fill(), deferred(1), syn(100, NEW, 7), syn(107, NEW, 7))
    book.case("each repeat of a deferred SYN is deferred", *fill(), deferred(1), deferred(1))
    book.case("lapsed half-open entries make room", *fill(), wait(4_000), opened(1, NEW), answer(1, NEW), completing(1, NEW))
    book.case("a flow in progress keeps its place", *connected(1, NEW), *fill(PLACES - 1), deferred(2), wait(4_000), *fill(PLACES - 1, 200),
              deferred(3), going_on(1, NEW))
    book.case("completed handshakes hold all places", *[step for number in range(PLACES) for step in connected(1 + number, NEW)],
              wait(60_000), deferred(50), *[going_on(1 + number, NEW) for number in range(PLACES)])
    again = 0x5555_0000
    book.case("a deferred SYN of a flow with an entry goes by the entry", *connected(1, NEW), *fill(PLACES - 1),
              send(1, NEW, {"flags": "S", "seq": again}, choiceDeferred=1))
    book.case("a deferred SYN is dropped where the default is down, and flows there go on", *fill(), publish("default down"),
              dropped(segment(1, flags="S", seq=ISN), "web", "deferred_nowhere", exceptions={"web": {"choiceDeferred": 1}}), ack(2, OLD))
    book.case("a pin without a place: its packet goes by home all the same", *fill(), publish("pinning"), ack(1, OLD, pinsRefused=1))
    book.case("pins take places until none is left", *[ack(1 + number, OLD, pinned=1) for number in range(PLACES)],
              ack(50, OLD, pinsRefused=1), going_on(1, OLD), configuration="pinning")
    book.case("lapsed pins make room", *[ack(1 + number, OLD, pinned=1) for number in range(PLACES)], wait(62_000), ack(50, OLD, pinned=1),
              configuration="pinning")
    book.case("pins of datagrams give way to each other", *[ask(1 + number, OLD, pinned=1) for number in range(3 * PLACES)],
              configuration="names")
    return book
