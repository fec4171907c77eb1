"""Weights: which version and backend a flow goes to, by the documented hash computed once more."""

from .book import Book
from .hashing import BUCKETS, KEY, SLOTS, bucket, flow_hash, is_second, slot
from .hosts import Service, neighbour, on_link, version
from .packets import tcp, udp
from .rules import to_backend

OLD = [on_link(f"old-{n}", f"10.9.1.{n}", 8000 + n) for n in (1, 2, 3)]
NEW = [on_link(f"new-{n}", f"10.9.2.{n}", 8000 + n) for n in (1, 2)]
WEB = Service("web", "192.0.2.10", 80, "tcp", OLD[0])
NAMES = Service("names", "192.0.2.10", 53, "udp", OLD[0])
SPLITS = {
    "thirty": {"offset": 15_000, "threshold": 4_915},
    "first": {"offset": 77, "threshold": 0},
    "second": {"offset": 77, "threshold": BUCKETS},
    "one": {"offset": 5_000, "threshold": 1},
}


def wanted(split):
    def service(which, **more):
        pools = [("v1", OLD), ("v2", NEW)]
        versions = [version(name, [backend.wanted() for backend in pool], [backend.name for backend in pool]) for name, pool in pools]
        return which.wanted(versions, split=split, **more)
    # A triple of address, port and protocol is one backend's: the two services differ in the protocol.
    names = service(NAMES, affinity="client")
    for each in names["versions"]:
        each["backends"] = [{**backend, "name": f"{backend['name']}-udp"} for backend in each["backends"]]
        each["slots"] = {"current": [f"{name}-udp" for name in each["slots"]["current"]]}
    return [service(WEB), names]


def backend_of(value, split):
    """The backend whose turn it is in the pattern of the owner's slots."""
    pool = NEW if is_second(split, bucket(value)) else OLD
    return pool[slot(value) % len(pool)]


def client(number):
    return f"10.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}", 1024 + number * 7 % 60_000


def goes(which, end, split, **how):
    value = flow_hash(end, (which.vip, which.port), which.protocol, "client" if which is NAMES else "flow")
    backend = backend_of(value, split)
    if which is NAMES:
        backend = on_link(f"{backend.name}-udp", backend.address, backend.port)
        return to_backend(udp(end, (which.vip, which.port)), backend)
    return to_backend(tcp(end, (which.vip, which.port), **how), backend)


def first_with(condition):
    """The first client whose flow to the web service has a wanted hash."""
    return next(client(n) for n in range(1 << 20) if condition(flow_hash(client(n), (WEB.vip, WEB.port), "tcp")))


def book():
    host = [neighbour("near", backend.address) for backend in OLD + NEW]
    book = Book("split", "weights: flows go where the keyed hash says", {name: wanted(split) for name, split in SPLITS.items()},
                host, hash_key=KEY)
    split = SPLITS["thirty"]
    for number in range(12):
        end = client(number * 977 + 1)
        value = flow_hash(end, (WEB.vip, WEB.port), "tcp")
        book.case(f"flow {end[0]}:{end[1]} has bucket {bucket(value)} and slot {slot(value)}",
                  goes(WEB, end, split, flags="S"), goes(WEB, end, split), goes(WEB, end, split, flags="FA"))
    last = (split["offset"] + split["threshold"] - 1) % BUCKETS
    for name, number in {"the second version's first": split["offset"], "the one before it": split["offset"] - 1, "its last": last,
                         "the one behind it": last + 1, "bucket 0": 0, "the last bucket": BUCKETS - 1}.items():
        end = first_with(lambda value, number=number: bucket(value) == number)
        book.case(f"at the edge of a share: {name}", goes(WEB, end, split, flags="S"))
    for number in (0, 1, SLOTS - 1):
        end = first_with(lambda value, number=number: slot(value) == number)
        book.case(f"slot {number}", goes(WEB, end, split, flags="S"))
    for name in ("first", "second", "one"):
        split = SPLITS[name]
        for number in range(4):
            end = client(number * 31_337 + 5)
            book.case(f"share of {split['threshold']} buckets: {end[0]}:{end[1]}", goes(WEB, end, split, flags="S"), configuration=name)
    only = SPLITS["one"]["offset"]
    book.case("the only bucket of a share of one", goes(WEB, first_with(lambda value: bucket(value) == only), SPLITS["one"]),
              configuration="one")
    split = SPLITS["thirty"]
    for number in range(6):
        address = client(number * 4_099 + 3)[0]
        steps = [goes(NAMES, (address, port), split) for port in (1, 1024, 40_000, 65_535)]
        book.case(f"by client, whatever the port: {address}", *steps)
    return book
