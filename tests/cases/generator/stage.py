"""A service with two versions of two backends each; all slots of a version are one backend's. Clients, and what they send."""

from .hosts import Service, neighbour, on_link, version
from .packets import tcp, udp
from .rules import to_backend, to_client

OLD, OLD_TOO, NEW, NEW_TOO = (
    on_link(name, f"10.9.3.{number}", 8080)
    for number, name in enumerate(("old", "old-too", "new", "new-too"), 1))
WEB = Service("web", "192.0.2.10", 80, "tcp", OLD)
NAMES = Service("names", "192.0.2.10", 53, "udp", OLD)
HOST = [neighbour("near", backend.address) for backend in (OLD, OLD_TOO, NEW, NEW_TOO)]

# Buckets: who has new flows, who has those without an entry.
MOVING = {"current": "v2", "home": "v1"}
PINNING = {**MOVING, "pins": True}
BACK = {"current": "v1", "home": "v1", "looks": True}
OVER = {"current": "v2", "home": "v2", "looks": True}

ISN, NUMBER = 0x10_00_00_00, 0x70_00_00_00


def v1(current=OLD, home=None, states=None, **more):
    return _version("v1", (OLD, OLD_TOO), current, home, states, more)


def v2(current=NEW, home=None, states=None, **more):
    return _version("v2", (NEW, NEW_TOO), current, home, states, more)


def _version(name, pool, current, home, states, more):
    backends = [backend.wanted((states or {}).get(backend, "up")) for backend in pool]
    pattern = [current.name] if current else [None]
    return version(name, backends, pattern, [home.name] if home else None, **more)


def service(bucket, versions=None, which=WEB, **more):
    return which.wanted(versions or [v1(), v2()], buckets=[bucket] if isinstance(bucket, dict) else bucket, **more)


def client(number, port=40_000):
    return f"10.64.{number >> 8}.{number & 255}", port


def counts(**exceptions):
    return {"web": exceptions} if exceptions else None


def names_counts(**exceptions):
    return {"names": exceptions} if exceptions else None


def send(number, to, how, port=80, **exceptions):
    """A client's segment, described by `how`, goes to a backend."""
    return to_backend(segment(number, port=port, **how), to, exceptions=counts(**exceptions))


def segment(number, port=80, **how):
    return tcp(client(number), (WEB.vip, port), **how)


def syn(number, to, isn=ISN, how=None, **exceptions):
    return send(number, to, {"flags": "S", "seq": isn, **(how or {})}, **exceptions)


def opened(number, to, isn=ISN, how=None):
    """A SYN that leaves a half-open entry."""
    return syn(number, to, isn, how, halfOpen=1)


def answer(number, backend, flags="SA", seq=NUMBER, ack=(ISN + 1) % (1 << 32), port=80, **how):
    """A backend's segment for a client."""
    return to_client(tcp((backend.address, backend.port), client(number), flags=flags, seq=seq, ack=ack, **how), WEB, backend, port=port)


def ack(number, to, seq=ISN + 1, acknowledged=NUMBER + 1, flags="A", payload=b"", **exceptions):
    how = {"flags": flags, "seq": seq % (1 << 32), "ack": acknowledged % (1 << 32), "payload": payload}
    return send(number, to, how, **exceptions)


def completing(number, to, **how):
    return ack(number, to, completed=1, byEntry=1, **how)


def going_on(number, to, **how):
    return ack(number, to, byEntry=1, **how)


def connected(number, to, isn=ISN, first=NUMBER):
    """A whole handshake that leaves an entry."""
    behind = (isn + 1) % (1 << 32)
    return [opened(number, to, isn), answer(number, to, seq=first, ack=behind), completing(number, to, seq=behind, acknowledged=first + 1)]


def ask(number, to, payload=b"question", **exceptions):
    """A client's datagram."""
    return to_backend(udp(client(number), (NAMES.vip, 53), payload), to, exceptions=names_counts(**exceptions))


def reply(number, backend, payload=b"answer"):
    return to_client(udp((backend.address, backend.port), client(number), payload), NAMES, backend)
