"""IPv6: the host's other addresses, packets, and what must become of them by DATAPATH's rules."""

import ipaddress

from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import Ether
from scapy.packet import Padding, Raw

from .hosts import Backend, Hop, Service, own_mac, version
from .packets import FLAGS
from .rules import flag_counts, step, verdict_of

OWN = {"near": "2001:db8:1::1", "far": "2001:db8:2::1"}
GATEWAY = "2001:db8:1::fe"
FAR_GATEWAY = "2001:db8:2::fe"
CLIENT = ("2001:db8:c::1", 40_000)


def mac_of(address):
    """The Ethernet address of a neighbour: of the last four bytes of its own."""
    return ":".join(["02", "cc", *(f"{byte:02x}" for byte in ipaddress.ip_address(address).packed[-4:])])


def neighbour(interface, address):
    return f"neigh replace {address} lladdr {mac_of(address)} nud permanent dev {interface}"


GATEWAY_HOP, FAR_GATEWAY_HOP = Hop("near", GATEWAY), Hop("far", FAR_GATEWAY)


def on_link(name, address, port, interface="near"):
    return Backend(name, address, port, Hop(interface, address))


WEB = Service("web", "2001:db8:ff::10", 80, "tcp", on_link("web-1", "fd00:9::1:1", 8081), announce=True)
NAMES = Service("names", "2001:db8:ff::10", 53, "udp", on_link("names-1", "fd00:9::1:2", 8082), announce=True)
LOST = Service("lost", "2001:db8:ff::13", 80, "tcp", Backend("lost-1", "fd00:9::1:3", 8083, None))
EMPTY = Service("empty", "2001:db8:ff::14", 80, "tcp", Backend("nobody", "fd00:9::1:4", 8084, None))
FAR = Service("far", "2001:db8:ff::15", 80, "tcp", on_link("far-1", "fd00:9::1:5", 8085, "far"))
LOCAL = Service("local", "2001:db8:ff::16", 80, "tcp", on_link("local-1", "fd00:9::1:6", 8086))
PORTS = Service("ports", "2001:db8:ff::17", 443, "tcp", on_link("ports-1", "fd00:9::1:7", 0))
BEHIND = Service("behind", "2001:db8:ff::18", 80, "tcp", Backend("behind-1", "2001:db8:dd::8", 8088, GATEWAY_HOP))
FAR_NAMES = Service("far-names", "2001:db8:ff::20", 53, "udp", on_link("far-names-1", "fd00:9::1:b", 8091, "far"))
# Of the other family, under the same directory.
OLD_WEB = Service("old-web", "192.0.2.10", 80, "tcp", Backend("old-web-1", "10.9.0.1", 8081, None))

LINKS = [
    *(f"addr add {address}/64 dev {interface} nodad" for interface, address in OWN.items()),
    f"route add default via {GATEWAY}", neighbour("near", GATEWAY), "route add fd00:9::/64 dev near",
]
USUAL_HOST = [
    *LINKS,
    f"addr add {LOCAL.vip}/128 dev lo",
    *(f"route add {service.backend.address}/128 dev far" for service in (FAR, FAR_NAMES)),
    *(neighbour(service.backend.hop.interface, service.backend.address) for service in (WEB, NAMES, FAR, LOCAL, PORTS, FAR_NAMES)),
]
USUAL_DIRECT_ACCESS = ["fd00:77::/32"]
USUAL = {
    "usual": [
        WEB.wanted(), NAMES.wanted(), LOST.wanted(), EMPTY.wanted([version("v1", [], [None])]), FAR.wanted(), LOCAL.wanted(),
        {**PORTS.wanted(), "ports": [443, 80, 8443]}, BEHIND.wanted(), FAR_NAMES.wanted(), OLD_WEB.wanted(),
    ]
}


def ip(source, destination, came="near", macs=None, headers=(), **fields):
    """Ethernet, IPv6 and its extension headers. The frame comes from the gateway, or from a neighbour of this host's own links."""
    is_neighbour = source.startswith(("fd00:9:", "2001:db8:1:", "2001:db8:2:"))
    sender, receiver = macs or (mac_of(source if is_neighbour else GATEWAY), own_mac(came))
    packet = Ether(src=sender, dst=receiver) / IPv6(src=source, dst=destination, **{"hlim": 64, **fields})
    for header in headers:
        packet = packet / header
    return packet


def _closed(packet, payload, padding):
    packet = packet / Raw(payload) if payload else packet
    return packet / Padding(padding) if padding else packet


def tcp(source, destination, flags="A", seq=0x01020304, ack=0x0A0B0C0D, payload=b"", padding=b"", window=0x2000, **header):
    segment = TCP(sport=source[1], dport=destination[1], flags=flags, seq=seq, ack=ack if "A" in str(flags) else 0, window=window)
    return _closed(ip(source[0], destination[0], **header) / segment, payload, padding)


def udp(source, destination, payload=b"question", checksum=None, padding=b"", **header):
    return _closed(ip(source[0], destination[0], **header) / UDP(sport=source[1], dport=destination[1], chksum=checksum), payload, padding)


def echo(source, destination, payload=b"abcdefgh", kind=ICMPv6EchoRequest, padding=b"", number=(77, 3), **header):
    return _closed(ip(source, destination, **header) / kind(id=number[0], seq=number[1], data=payload), b"", padding)


def without_checksums(packet):
    packet = packet.copy()
    for layer in (TCP, UDP):
        if layer in packet:
            del packet[layer].chksum
    for layer in packet.layers():
        if layer.__name__.startswith("ICMPv6") and hasattr(packet[layer], "cksum"):
            del packet[layer].cksum
            break
    return packet


def for_backend(packet, backend):
    out = without_checksums(packet)
    out[IPv6].dst = backend.address
    if backend.port:
        out[TCP if TCP in out else UDP].dport = backend.port
    return out


def for_client(packet, service, backend=None, port=None):
    out = without_checksums(packet)
    out[IPv6].src = service.vip
    if (backend or service.backend).port:
        out[TCP if TCP in out else UDP].sport = port or service.port
    return out


def leaving(packet, hop):
    packet[Ether].src, packet[Ether].dst = own_mac(hop.interface), mac_of(hop.neighbour)
    packet[IPv6].hlim -= 1


def to_backend(packet, backend, came="near", service=None, exceptions=None):
    frame, out = bytes(packet), for_backend(packet, backend)
    counts = {"packetsForward": 1, "bytesForward": len(frame), **flag_counts(packet, "Forward")}
    more = {"backends": {backend.name: counts}, "exceptions": exceptions}
    if backend.hop is None:
        return step(packet, "PASS", out, came=came, reasons={service: {"unresolved_backend": 1}}, **more)
    leaving(out, backend.hop)
    return step(packet, verdict_of(backend.hop, came), out, to=backend.hop.interface, came=came, **more)


def to_client(packet, service, backend=None, hop=GATEWAY_HOP, came="near", port=None):
    backend = backend or service.backend
    frame, out = bytes(packet), for_client(packet, service, backend, port)
    counts = {"packetsReverse": 1, "bytesReverse": len(frame), **flag_counts(packet, "Reverse")}
    more = {"backends": {backend.name: counts}}
    if hop is None:
        return step(packet, "PASS", out, came=came, reasons={service.name: {"unresolved_client": 1}}, **more)
    leaving(out, hop)
    return step(packet, verdict_of(hop, came), out, to=hop.interface, came=came, **more)


def answered(packet, out, service, reason, came="near"):
    """The program's own answer goes back where the packet came from."""
    out[Ether].src, out[Ether].dst = packet[Ether].dst, packet[Ether].src
    return step(packet, "TX", out, to=came, came=came, reasons={service: {reason: 1}})


# Of a packet an error repeats the longest of these beginnings that it has.
REPEATED = (512, 256, 128, 64, 48)


def told(packet, service, reason, message, source=None, came="near"):
    """Answered with an ICMPv6 error of this host, or of `source` (RFC 4443)."""
    whole = bytes(packet[IPv6])[:40 + packet_length(packet)]
    length = next(length for length in REPEATED if length <= len(whole))
    out = ip(source or OWN[came], packet[IPv6].src, hlim=64) / message / Raw(whole[:length])
    return answered(packet, out, service, reason, came)


def packet_length(packet):
    return int.from_bytes(bytes(packet)[18:20], "big")


def echoed(packet, service, came="near"):
    request = packet[ICMPv6EchoRequest]
    head = IPv6(src=packet[IPv6].dst, dst=packet[IPv6].src, hlim=64, tc=packet[IPv6].tc, fl=packet[IPv6].fl)
    out = Ether() / head / ICMPv6EchoReply(id=request.id, seq=request.seq, data=request.data)
    if Padding in packet:
        out = out / Padding(packet[Padding].load)
    return answered(packet, out, service, "echo", came)


def reset(packet, service, reason, came="near"):
    segment, flags = packet[TCP], int(packet[TCP].flags)
    taken = (len(packet[Raw].load) if Raw in packet else 0) + (flags & FLAGS["SYN"] != 0) + (flags & FLAGS["FIN"] != 0)
    if flags & FLAGS["ACK"]:
        numbers = {"flags": "R", "seq": segment.ack, "ack": 0}
    else:
        numbers = {"flags": "RA", "seq": 0, "ack": (segment.seq + taken) % (1 << 32)}
    head = ip(packet[IPv6].dst, packet[IPv6].src, hlim=64)
    out = head / TCP(sport=segment.dport, dport=segment.sport, window=0, **numbers)
    return answered(packet, out, service, reason, came)


def pieces(packet, size=1_448, number=0x1234_5678):
    """The packet cut into pieces of so many bytes behind the fragment header (RFC 8200, section 4.5)."""
    whole = Ether(bytes(packet))
    protocol, body = whole[IPv6].nh, bytes(whole[IPv6].payload)
    for start in range(0, len(body), size):
        head = IPv6(src=whole[IPv6].src, dst=whole[IPv6].dst, hlim=whole[IPv6].hlim)
        fragment = IPv6ExtHdrFragment(nh=protocol, offset=start // 8, m=int(start + size < len(body)), id=number)
        yield Ether(src=whole.src, dst=whole.dst) / head / fragment / Raw(body[start:start + size])
