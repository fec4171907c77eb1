"""QUIC: a long-header Initial opens a flow (RFC 9000, section 17.2; RFC 9369, section 3.2), with the fixed bit or without (RFC 9287)."""

from .book import Book
from .stage import HOST, MOVING, NAMES, NEW, OLD, ask, reply, service

CONFIGURATIONS = {"moving": [service(MOVING, which=NAMES, quic=True)], "plain": [service(MOVING, which=NAMES)]}
CONNECTION = bytes([8, *range(1, 9), 8, *range(11, 19)])
V1, V2, DRAFT = bytes([0, 0, 0, 1]), bytes.fromhex("6b3343cf"), bytes.fromhex("ff00001d")


def long(kind, version, fixed=True, low=3):
    return bytes([0x80 | (0x40 if fixed else 0) | kind << 4 | low]) + version + CONNECTION + bytes(20)


SHORT = bytes([0x43, *range(1, 30)])
OPENING = {
    "an Initial of version 1": long(0, V1), "an Initial of version 2": long(1, V2), "an Initial of a draft": long(0, DRAFT),
    "an Initial of a version to be refused": long(0, bytes([0x1A, 0x2A, 0x3A, 0x4A])),
    "an Initial of a full datagram": long(0, V1) + bytes(1_159), "an Initial with other low bits": long(0, V1, low=12),
    "an Initial without the fixed bit": long(0, V1, fixed=False), "an Initial of version 2 without the fixed bit": long(1, V2, fixed=False),
    "five bytes that begin like an Initial": long(0, V1)[:5],
}
LATER = {
    "0-RTT of version 1": long(1, V1), "Handshake of version 1": long(2, V1), "Retry of version 1": long(3, V1),
    "0-RTT of version 2": long(2, V2), "Handshake of version 2": long(3, V2), "Retry of version 2": long(0, V2),
    "a short header": SHORT, "a short header without the fixed bit": bytes([0x03]) + SHORT[1:],
    "Handshake of version 1 without the fixed bit": long(2, V1, fixed=False),
    "four bytes that begin like an Initial": long(0, V1)[:4], "no payload": b"",
}


def book():
    book = Book("quic", "QUIC: what opens a flow and what goes on with one", CONFIGURATIONS, HOST)
    for name, payload in OPENING.items():
        book.case(f"{name} opens a flow", ask(1, NEW, payload, halfOpen=1))
    for name, payload in LATER.items():
        book.case(f"{name} belongs to a flow of before", ask(1, OLD, payload))
    initial = OPENING["an Initial of version 1"]
    book.case("a handshake", ask(1, NEW, initial, halfOpen=1), reply(1, NEW), ask(1, NEW, LATER["Handshake of version 1"], completed=1, byEntry=1),
              ask(1, NEW, SHORT, byEntry=1), reply(1, NEW), ask(1, NEW, SHORT, byEntry=1))
    book.case("a short header completes too", ask(1, NEW, initial, halfOpen=1), reply(1, NEW), ask(1, NEW, SHORT, completed=1, byEntry=1))
    book.case("nothing completes before the backend answered", ask(1, NEW, initial, halfOpen=1), ask(1, OLD, SHORT), reply(1, NEW),
              ask(1, NEW, SHORT, completed=1, byEntry=1))
    book.case("a repeated Initial goes where the first one went", ask(1, NEW, initial, halfOpen=1), ask(1, NEW, initial))
    book.case("an Initial of a flow that is known goes with it", ask(1, NEW, initial, halfOpen=1), reply(1, NEW),
              ask(1, NEW, SHORT, completed=1, byEntry=1), ask(1, NEW, initial), ask(1, NEW, SHORT, byEntry=1))
    book.case("another port of the client is another flow", ask(1, NEW, initial, halfOpen=1), ask(2, OLD, SHORT))
    book.case("without `quic` an Initial is a datagram like others", ask(1, OLD, initial), configuration="plain")
    return book
