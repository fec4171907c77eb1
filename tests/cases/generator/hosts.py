"""The host that all cases run on (as `tests/src/host.rs` makes it), its neighbours, services and backends."""

from dataclasses import dataclass

INDEX = {"near": 10, "far": 12}
OWN_ADDRESS = {"near": "10.1.0.1", "far": "10.2.0.1"}
GATEWAY = "10.1.0.254"
FAR_GATEWAY = "10.2.0.254"


def own_mac(interface):
    return f"02:00:00:00:aa:{INDEX[interface]:02x}"


def mac_of(address):
    """The Ethernet address of a neighbour."""
    _, *rest = address.split(".")
    return ":".join(["02", "bb", "00", *(f"{int(octet):02x}" for octet in rest)])


def neighbour(interface, address):
    """A line of `ip` that makes an address a neighbour for good."""
    return f"neigh replace {address} lladdr {mac_of(address)} nud permanent dev {interface}"


@dataclass(frozen=True)
class Hop:
    """Where a packet leaves."""

    interface: str
    neighbour: str


NEAR_GATEWAY_HOP = Hop("near", GATEWAY)


@dataclass(frozen=True)
class Backend:
    """A server; without a hop nobody knows where it is."""

    name: str
    address: str
    port: int
    hop: Hop | None

    def wanted(self, state="up"):
        return {"name": self.name, "address": self.address, "port": self.port, "state": state}


def on_link(name, address, port, interface="near"):
    return Backend(name, address, port, Hop(interface, address))


@dataclass(frozen=True)
class Service:
    """A virtual endpoint with its usual backend."""

    name: str
    vip: str
    port: int
    protocol: str
    backend: Backend
    announce: bool = False

    def wanted(self, versions=None, **more):
        versions = versions if versions is not None else [version("v1", [self.backend.wanted()], [self.backend.name])]
        service = {"name": self.name, "vip": self.vip, "ports": [self.port], "protocol": self.protocol, "forwarding": "nat"}
        if self.announce:
            service["announce"] = True
        return {**service, "versions": versions, **({"split": {"offset": 0, "threshold": 0}} if "buckets" not in more else {}), **more}


def version(name, backends, current, home=None, **more):
    """A version whose slots repeat a pattern of backends; `home` where flows without an entry go elsewhere."""
    slots = {"current": current, **({"home": home} if home is not None else {})}
    for flag in ("looks", "pins"):
        if more.pop(flag, False):
            slots[flag] = True
    return {"name": name, "backends": backends, "slots": slots, **more}


WEB = Service("web", "192.0.2.10", 80, "tcp", on_link("web-1", "10.9.0.1", 8081), announce=True)
NAMES = Service("names", "192.0.2.10", 53, "udp", on_link("names-1", "10.9.0.2", 8082), announce=True)
LOST = Service("lost", "192.0.2.13", 80, "tcp", Backend("lost-1", "10.9.0.3", 8083, None))
EMPTY = Service("empty", "192.0.2.14", 80, "tcp", Backend("nobody", "10.9.0.4", 8084, None))
FAR = Service("far", "192.0.2.15", 80, "tcp", on_link("far-1", "10.9.0.5", 8085, "far"))
LOCAL = Service("local", "192.0.2.16", 80, "tcp", on_link("local-1", "10.9.0.6", 8086))
PORTS = Service("ports", "192.0.2.17", 443, "tcp", on_link("ports-1", "10.9.0.7", 0))
BEHIND = Service("behind", "192.0.2.18", 80, "tcp", Backend("behind-1", "172.20.0.8", 8088, NEAR_GATEWAY_HOP))
LOST_NAMES = Service("lost-names", "192.0.2.19", 53, "udp", Backend("lost-names-1", "10.9.0.10", 8090, None))
FAR_NAMES = Service("far-names", "192.0.2.20", 53, "udp", on_link("far-names-1", "10.9.0.11", 8091, "far"))

USUAL_HOST = [
    f"addr add {LOCAL.vip}/32 dev lo",
    f"route add {FAR.backend.address}/32 dev far",
    f"route add {FAR_NAMES.backend.address}/32 dev far",
    *(neighbour(service.backend.hop.interface, service.backend.address)
      for service in (WEB, NAMES, FAR, LOCAL, PORTS, FAR_NAMES)),
]
USUAL_DIRECT_ACCESS = ["10.77.0.0/16"]
USUAL = {
    "usual": [
        WEB.wanted(), NAMES.wanted(), LOST.wanted(), EMPTY.wanted([version("v1", [], [None])]), FAR.wanted(), LOCAL.wanted(),
        {**PORTS.wanted(), "ports": [443, 80, 8443]}, BEHIND.wanted(), LOST_NAMES.wanted(), FAR_NAMES.wanted(),
    ]
}
