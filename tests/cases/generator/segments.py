"""Segments by source prefix, DSCP and port; canary instances."""

from dataclasses import replace

from .book import Book
from .rules import publish
from .stage import (HOST, ISN, NEW, NEW_TOO, OLD, ack, answer, completing, going_on, opened, send, service, syn)

SETTLED = [{"current": "v1", "home": "v1", "differs": True}, {"current": "v2", "home": "v2", "differs": True}]
LOOKING = [{**bucket, "looks": True} for bucket in SETTLED]
AT_FIRST = [{"current": "v1", "home": "v1", "looks": True, "differs": True}] * 2
EXPEDITED = 46


def by_prefixes(prefixes, *rules, buckets=None, **more):
    """Class 0 is of the default segment, class 1 of the second; `rules` refine class 0."""
    classes = [{"segment": 0, "rules": list(rules)}, {"segment": 1, "rules": []}]
    segments = {"prefixes": prefixes, "classes": classes, "byDscp": any("dscp" in rule for rule in rules)}
    return service(buckets or SETTLED, segments=segments, **more)


def prefix(text, current=1, home=None):
    home = current if home is None else home
    return {"prefix": text, "current": current, "home": home}


def two_ports(service):
    """The same at two ports, which its backends keep."""
    for version in service["versions"]:
        version["backends"] = [{**backend, "port": 0} for backend in version["backends"]]
    return {**service, "ports": [80, 443]}


DSCP = {"dscp": EXPEDITED, "segment": 1}
INSTANCE = {"backend": "new-too", "segment": 1}
CONFIGURATIONS = {
    "prefix": [by_prefixes([prefix("10.64.1.0/24")])],
    "nested": [by_prefixes([prefix("10.64.0.0/16"), prefix("10.64.2.0/24", 0), prefix("10.64.2.128/25"), prefix("10.64.2.200/32", 0)])],
    "everyone": [by_prefixes([prefix("0.0.0.0/0")])],
    "joining": [by_prefixes([prefix("10.64.1.0/24", 1, 0)])],
    "leaving": [by_prefixes([prefix("10.64.1.0/24", 0, 1)])],
    "dscp": [by_prefixes([], DSCP, buckets=LOOKING)],
    "port": [two_ports(by_prefixes([], {"port": 443, "segment": 1}))],
    "port and dscp": [two_ports(by_prefixes([], {"port": 443, "dscp": EXPEDITED, "segment": 1}, buckets=LOOKING))],
    "prefix or dscp": [by_prefixes([prefix("10.64.1.0/24")], DSCP, buckets=LOOKING)],
    "instance": [by_prefixes([prefix("10.64.1.0/24", 1, 0)], buckets=AT_FIRST, instance=INSTANCE)],
    "instance over": [by_prefixes([prefix("10.64.1.0/24", 0, 0)], buckets=AT_FIRST)],
}
# Clients of 10.64.1.0/24, and others.
INSIDE, OUTSIDE = 0x0101, 0x0301


def book():
    book = Book("segments", "segments by source prefix, DSCP and port; canary instances", CONFIGURATIONS, HOST)
    _prefixes(book)
    _dscp(book)
    _ports(book)
    _instance(book)
    return book


def both(number, backend):
    """A new flow and a packet of a flow in progress, both settled."""
    return syn(number, backend), ack(number, backend), send(number, backend, {"flags": "R"})


def _prefixes(book):
    for number in (0x0100, 0x0101, 0x01FF):
        book.case(f"inside a source prefix: client {number:#06x}", *both(number, NEW), configuration="prefix")
    for number in (0x00FF, 0x0200, OUTSIDE):
        book.case(f"outside of it: client {number:#06x}", *both(number, OLD), configuration="prefix")
    nested = {0x0001: NEW, 0x0201: OLD, 0x027F: OLD, 0x0280: NEW, 0x02C8: OLD, 0x02C9: NEW, 0x02FF: NEW, 0x0300: NEW}
    for number, backend in nested.items():
        book.case(f"the longest prefix decides: client {number:#06x}", *both(number, backend), configuration="nested")
    book.case("a prefix of no bits holds everyone", *both(OUTSIDE, NEW), configuration="everyone")
    book.case("a prefix that joins a segment takes new flows along", opened(INSIDE, NEW), answer(INSIDE, NEW), completing(INSIDE, NEW),
              going_on(INSIDE, NEW), configuration="joining")
    book.case("... and leaves flows in progress", ack(INSIDE, OLD), send(INSIDE, OLD, {"flags": "R"}), configuration="joining")
    book.case("... and nobody outside", *both(OUTSIDE, OLD), configuration="joining")
    book.case("a prefix that leaves a segment: new flows", opened(INSIDE, OLD), answer(INSIDE, OLD), completing(INSIDE, OLD),
              configuration="leaving")
    book.case("a prefix that leaves a segment: flows in progress", ack(INSIDE, NEW), configuration="leaving")


def _marked(flags, dscp=EXPEDITED, ecn=0, **how):
    return {"flags": flags, "seq": ISN, "tos": dscp << 2 | ecn, **how}


def _dscp(book):
    name = "dscp"
    for ecn in range(4):
        book.case(f"a SYN with the code point opens in its segment, ECN bits {ecn:02b}", send(1, NEW, _marked("S", ecn=ecn), halfOpen=1),
                  answer(1, NEW), completing(1, NEW), configuration=name)
    for dscp in (0, EXPEDITED ^ 1, EXPEDITED ^ 32, 63):
        book.case(f"a SYN with code point {dscp}", send(1, OLD, _marked("S", dscp)), configuration=name)
    book.case("a flow in progress is not moved by its code point", send(1, OLD, _marked("A")), configuration=name)
    book.case("its flow needs no code point later", send(1, NEW, _marked("S"), halfOpen=1), answer(1, NEW), completing(1, NEW),
              send(1, NEW, _marked("A", 10), byEntry=1), configuration=name)
    name = "prefix or dscp"
    book.case("a source prefix comes before the code point: inside", send(INSIDE, NEW, _marked("S", 0)), configuration=name)
    book.case("a source prefix comes before the code point: outside", send(OUTSIDE, NEW, _marked("S"), halfOpen=1), configuration=name)


def _ports(book):
    old, new = (replace(backend, port=0) for backend in (OLD, NEW))
    for port, backend in ((80, old), (443, new)):
        book.case(f"by port: {port}", send(1, backend, {"flags": "S"}, port=port), send(1, backend, {"flags": "PA", "payload": b"data"}, port=port),
                  configuration="port")
    name = "port and dscp"
    book.case("port and code point together", send(1, new, _marked("S"), port=443, halfOpen=1), configuration=name)
    book.case("the port alone", send(1, old, _marked("S", 0), port=443), configuration=name)
    book.case("the code point alone", send(1, old, _marked("S"), port=80), configuration=name)


def _instance(book):
    name = "instance"
    book.case("a canary instance alone gets the new flows of its segment", opened(INSIDE, NEW_TOO), answer(INSIDE, NEW_TOO),
              completing(INSIDE, NEW_TOO), going_on(INSIDE, NEW_TOO), configuration=name)
    book.case("its segment's flows in progress stay", ack(INSIDE, OLD), configuration=name)
    book.case("others' new flows do not go there", syn(OUTSIDE, OLD), ack(OUTSIDE, OLD), configuration=name)
    book.case("its flows stay when it ends", opened(INSIDE, NEW_TOO), answer(INSIDE, NEW_TOO), completing(INSIDE, NEW_TOO),
              publish("instance over"), going_on(INSIDE, NEW_TOO), syn(INSIDE + 1, OLD), configuration=name)
