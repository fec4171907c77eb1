"""Flows that go elsewhere than their bucket says: handshakes, half-open and established entries, pins."""

from .book import Book
from .rules import publish, wait
from .stage import (BACK, HOST, ISN, MOVING, NAMES, NEW, NEW_TOO, NUMBER, OLD, OVER, PINNING, ack, answer, ask, completing, connected,
                    going_on, opened, reply, send, service, syn, v1, v2)

# A backend is one version's: the second has one only where there is a third.
THREE = [v1(), {**v2(), "backends": [NEW.wanted()]}, {**v2(NEW_TOO), "name": "v3", "backends": [NEW_TOO.wanted()]}]

CONFIGURATIONS = {
    "moving": [service(MOVING)],
    "pinning": [service(PINNING)],
    "back": [service(BACK)],
    "over": [service(OVER)],
    "names moving": [service(MOVING, which=NAMES)],
    "names pinning": [service(PINNING, which=NAMES)],
    "names moved": [service(OVER, [v1(existingFlows="move"), v2()], NAMES)],
    "names moving on": [service(MOVING, [v1(existingFlows="move"), v2()], NAMES)],
    "by client": [service(MOVING, affinity="client")],
    "three": [service({"current": "v3", "home": "v1"}, THREE)],
    "names over": [service(OVER, which=NAMES)],
}
LAST = (1 << 32) - 1


def book():
    book = Book("entries", "flows that go elsewhere than their bucket says", CONFIGURATIONS, HOST)
    _handshakes(book)
    _edges(book)
    _repeated(book)
    _closing(book)
    _pins(book)
    _datagrams(book)
    return book


def _handshakes(book):
    book.case("a flow of before the change goes by home", ack(1, OLD), ack(1, OLD, payload=b"more"), ack(1, OLD, flags="FA"))
    book.case("a new flow goes by current, and stays there", *connected(1, NEW), going_on(1, NEW, payload=b"question"),
              answer(1, NEW, "PA", payload=b"answer"), going_on(1, NEW))
    book.case("two flows of one client", *connected(1, NEW), ack(2, OLD), going_on(1, NEW))
    book.case("data right behind the SYN completes too: the first ACK was lost", opened(1, NEW), answer(1, NEW),
              completing(1, NEW, seq=ISN + 1, payload=b"GET /", flags="PA"))
    book.case("TCP Fast Open: data in the SYN, acknowledged at once", opened(1, NEW, how={"payload": b"early data"}),
              answer(1, NEW, ack=ISN + 11), completing(1, NEW, seq=ISN + 11))
    book.case("nothing completes before the backend answered", opened(1, NEW), ack(1, OLD), answer(1, NEW), completing(1, NEW))
    book.case("a RST completes nothing", opened(1, NEW), answer(1, NEW), send(1, OLD, {"flags": "R", "seq": ISN + 1}),
              completing(1, NEW))
    book.case("SYN+ACK whose number is 0", opened(1, NEW), answer(1, NEW, seq=0), completing(1, NEW, acknowledged=1))
    book.case("SYN+ACK whose number is the last", opened(1, NEW), answer(1, NEW, seq=LAST), completing(1, NEW, acknowledged=0))
    book.case("a SYN whose number is the last", opened(1, NEW, LAST), answer(1, NEW, ack=0), completing(1, NEW, seq=0))
    book.case("a SYN+ACK that acknowledges another SYN is not taken", opened(1, NEW), answer(1, NEW, ack=ISN), ack(1, OLD),
              answer(1, NEW, ack=ISN + 0x0100_0000), ack(1, OLD))
    book.case("a SYN+ACK of another backend is not taken", opened(1, NEW), answer(1, OLD), ack(1, OLD))
    book.case("an acknowledgement of another backend's SYN+ACK goes by home", opened(1, NEW), answer(1, NEW),
              answer(1, OLD, seq=NUMBER + 0x0200_0000), ack(1, OLD, acknowledged=NUMBER + 0x0200_0001), completing(1, NEW))
    book.case("the SYN+ACK comes twice", opened(1, NEW), answer(1, NEW), answer(1, NEW), completing(1, NEW))
    book.case("with affinity to clients each connection still is a flow of its own", *connected(1, NEW), ack(2, OLD),
              configuration="by client")
    book.case("three versions: from the first to the third", *connected(1, NEW_TOO), ack(2, OLD), going_on(1, NEW_TOO), configuration="three")
    book.case("the ACK comes twice", *connected(1, NEW), going_on(1, NEW))


def _edges(book):
    """docs/exceptions.md: 1 to 131,072 bytes behind the SYN, 1 to 65,536 behind the SYN+ACK."""
    for behind in (1, 2, 65_536, 131_072):
        book.case(f"{behind} bytes behind the SYN complete", opened(1, NEW), answer(1, NEW), completing(1, NEW, seq=ISN + behind))
    for behind in (0, -1, -65_536, 131_073, 1 << 31):
        book.case(f"{behind} bytes behind the SYN do not", opened(1, NEW), answer(1, NEW), ack(1, OLD, seq=ISN + behind))
    for behind in (1, 2, 65_536):
        book.case(f"{behind} bytes acknowledged complete", opened(1, NEW), answer(1, NEW), completing(1, NEW, acknowledged=NUMBER + behind))
    for behind in (0, -1, 65_537, 1 << 31):
        book.case(f"{behind} bytes acknowledged do not", opened(1, NEW), answer(1, NEW), ack(1, OLD, acknowledged=NUMBER + behind))
    near = LAST - 9
    for behind in (1, 10, 11, 131_072):
        book.case(f"{behind} bytes behind a SYN near the last number", opened(1, NEW, near), answer(1, NEW, ack=near + 1),
                  completing(1, NEW, seq=near + behind))
    book.case("131,073 bytes behind a SYN near the last number", opened(1, NEW, near), answer(1, NEW, ack=near + 1),
              ack(1, OLD, seq=near + 131_073))
    for behind in (1, 65_536):
        book.case(f"{behind} bytes acknowledged near the last number", opened(1, NEW), answer(1, NEW, seq=near),
                  completing(1, NEW, acknowledged=near + behind))


def _repeated(book):
    book.case("a repeated SYN goes where the first one went and takes no second place", opened(1, NEW), syn(1, NEW), syn(1, NEW))
    book.case("... across a change of weights", opened(1, NEW), publish("back"), syn(1, NEW), answer(1, NEW), completing(1, NEW),
              going_on(1, NEW))
    book.case("a SYN with another number is another flow", opened(1, NEW), publish("back"), syn(1, OLD, ISN + 5))
    book.case("a repeat refreshes its entry", opened(1, NEW), wait(2_500), syn(1, NEW), wait(2_500), syn(1, NEW), answer(1, NEW),
              completing(1, NEW))
    book.case("three seconds after its SYN an entry still lives", opened(1, NEW), wait(2_900), answer(1, NEW), completing(1, NEW))
    book.case("four seconds after its SYN it does not", opened(1, NEW), wait(4_000), answer(1, NEW), ack(1, OLD))
    book.case("what lapsed is opened anew", opened(1, NEW), wait(4_000), opened(1, NEW), answer(1, NEW), completing(1, NEW))
    book.case("a blind SYN detaches nobody", *connected(1, NEW), opened(1, NEW, 0x5555_5555), going_on(1, NEW, payload=b"data"),
              answer(1, NEW, "PA", seq=NUMBER + 1, ack=ISN + 5), going_on(1, NEW))
    again = 0x5555_0000
    book.case("a 5-tuple that is used again moves once its handshake completes", *connected(1, NEW), publish("back"),
              opened(1, OLD, again), going_on(1, NEW), answer(1, OLD, ack=again + 1), completing(1, OLD, seq=again + 1),
              ack(1, OLD, seq=again + 1))


def _closing(book):
    both = [going_on(1, NEW, flags="FA"), answer(1, NEW, "FA", seq=NUMBER + 1, ack=ISN + 2)]
    book.case("FIN of both sides deletes nothing", *connected(1, NEW), *both, going_on(1, NEW, seq=ISN + 2))
    book.case("FIN of one side changes nothing", *connected(1, NEW), both[0], wait(300_000), answer(1, NEW, "PA", payload=b"still here"),
              going_on(1, NEW, seq=ISN + 2))
    book.case("a client's RST goes by the entry and deletes nothing", *connected(1, NEW), going_on(1, NEW, flags="R"), going_on(1, NEW))
    book.case("a backend's RST deletes nothing", *connected(1, NEW), answer(1, NEW, "R", seq=NUMBER + 1), going_on(1, NEW))
    book.case("a flow that is silent for an hour keeps its entry while nothing sweeps", *connected(1, NEW), wait(3_600_000), going_on(1, NEW))
    book.case("a flow goes on when all has moved to its version", *connected(1, NEW), publish("over"), going_on(1, NEW))
    book.case("when all went back a new flow needs no entry", *connected(1, NEW), publish("back"), syn(2, OLD), answer(2, OLD),
              ack(2, OLD), going_on(1, NEW))


def _pins(book):
    name = "pinning"
    book.case("what goes by home is pinned once", ack(1, OLD, pinned=1), going_on(1, OLD), configuration=name)
    book.case("a pin that was answered outlasts the move", ack(1, OLD, pinned=1), answer(1, OLD, "A"), wait(62_000), publish("over"),
              going_on(1, OLD), configuration=name)
    book.case("a pin that nobody answered lapses after a minute", ack(1, OLD, pinned=1), wait(62_000), publish("over"), ack(1, NEW),
              configuration=name)
    book.case("a RST is no answer", ack(1, OLD, pinned=1), answer(1, OLD, "R"), wait(62_000), publish("over"), ack(1, NEW),
              configuration=name)
    book.case("another backend's segment is no answer", ack(1, OLD, pinned=1), answer(1, NEW, "A"), wait(62_000), publish("over"),
              ack(1, NEW), configuration=name)
    book.case("a RST is not pinned", send(1, OLD, {"flags": "R"}), configuration=name)
    book.case("a SYN is not pinned", opened(1, NEW), configuration=name)
    book.case("a lapsed pin is made anew", ack(1, OLD, pinned=1), wait(62_000), ack(1, OLD, pinned=1), configuration=name)


def _datagrams(book):
    book.case("a datagram goes by home while its bucket moves", ask(1, OLD), ask(1, OLD), configuration="names moving")
    book.case("inside the learning window a datagram is pinned", ask(1, OLD, pinned=1), ask(1, OLD, byEntry=1), configuration="names pinning")
    book.case("an answered flow of datagrams stays when the window is over", ask(1, OLD, pinned=1), reply(1, OLD), publish("names over"),
              ask(1, OLD, byEntry=1), ask(2, NEW), configuration="names pinning")
    book.case("a pinned flow of datagrams that nobody answered stays for a minute", ask(1, OLD, pinned=1), publish("names over"),
              ask(1, OLD, byEntry=1), wait(62_000), ask(1, NEW), configuration="names pinning")
    book.case("flows of a release that moves them are chosen for anew", ask(1, OLD, pinned=1), reply(1, OLD), publish("names moved"),
              ask(1, NEW), configuration="names pinning")
    book.case("... while their bucket still moves too", ask(1, NEW), configuration="names moving on")
    book.case("a datagram without payload is pinned too", ask(1, OLD, b"", pinned=1), configuration="names pinning")
