"""What must become of packets, by DATAPATH's rules: each function gives a step of a case."""

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from .hosts import NEAR_GATEWAY_HOP, OWN_ADDRESS, mac_of, own_mac
from .packets import FLAGS, ip, without_checksums


def step(packet, verdict, out=None, to=None, came="near", **counted):
    """A packet and what becomes of it; `counted` are reasons, backends, exceptions."""
    frame = bytes(packet)
    send = {"interface": came, "in": frame.hex(), "verdict": verdict}
    if to:
        send["to"] = to
    if out is not None:
        out = bytes(out)
        send["out"] = "unchanged" if out == frame and verdict == "PASS" else out.hex()
    counted = {kind: counts for kind, counts in counted.items() if counts}
    return {"send": {**send, **({"counted": counted} if counted else {})}}


def wait(milliseconds):
    return {"waitMs": milliseconds}


def publish(configuration):
    return {"publish": configuration}


def passed(packet, came="near"):
    """It is not ours: it passes byte for byte, and nothing is counted."""
    return step(packet, "PASS", packet, came=came)


def left(packet, service, reason, came="near"):
    """It is of a service, passes byte for byte, and is counted."""
    return step(packet, "PASS", packet, came=came, reasons={service: {reason: 1}})


def dropped(packet, service, reason, came="near", exceptions=None):
    return step(packet, "DROP", came=came, reasons={service: {reason: 1}}, exceptions=exceptions)


def leaving(packet, hop):
    packet[Ether].src, packet[Ether].dst = own_mac(hop.interface), mac_of(hop.neighbour)
    packet[IP].ttl -= 1


def for_backend(packet, backend):
    """The client's packet with the backend's endpoint in it."""
    out = without_checksums(packet)
    out[IP].dst = backend.address
    if backend.port:
        out[TCP if TCP in out else UDP].dport = backend.port
    return out


def for_client(packet, service, backend=None, port=None):
    """A backend's packet with the virtual endpoint in it."""
    out = without_checksums(packet)
    out[IP].src = service.vip
    if (backend or service.backend).port:
        out[TCP if TCP in out else UDP].sport = port or service.port
    return out


def to_backend(packet, backend, came="near", service=None, exceptions=None):
    """The client's packet to a backend. Without a next hop it is rewritten, keeps its time to live and goes to the kernel."""
    frame, out = bytes(packet), for_backend(packet, backend)
    counts = {"packetsForward": 1, "bytesForward": len(frame), **flag_counts(packet, "Forward")}
    more = {"backends": {backend.name: counts}, "exceptions": exceptions}
    if backend.hop is None:
        return step(packet, "PASS", out, came=came, reasons={service: {"unresolved_backend": 1}}, **more)
    leaving(out, backend.hop)
    return step(packet, verdict_of(backend.hop, came), out, to=backend.hop.interface, came=came, **more)


def to_client(packet, service, backend=None, hop=NEAR_GATEWAY_HOP, came="near", port=None):
    """A backend's packet back to the client, from the virtual endpoint; `hop` none: the client's neighbour is not known."""
    backend = backend or service.backend
    frame, out = bytes(packet), for_client(packet, service, backend, port)
    counts = {"packetsReverse": 1, "bytesReverse": len(frame), **flag_counts(packet, "Reverse")}
    more = {"backends": {backend.name: counts}}
    if hop is None:
        return step(packet, "PASS", out, came=came, reasons={service.name: {"unresolved_client": 1}}, **more)
    leaving(out, hop)
    return step(packet, verdict_of(hop, came), out, to=hop.interface, came=came, **more)


def verdict_of(hop, came):
    return "TX" if hop.interface == came else "REDIRECT"


def flag_counts(packet, side):
    """What a TCP packet's flags and window count besides the packet itself."""
    if TCP not in packet:
        return {}
    flags, counts = int(packet[TCP].flags), {}
    def has(name):
        return flags & FLAGS[name] != 0
    if packet[TCP].window == 0 and not has("SYN") and not has("RST"):
        counts[f"zeroWindows{side}"] = 1
    if side == "Forward" and has("SYN") and not has("ACK") and not has("RST"):
        counts["syns"] = 1
    if side == "Reverse" and has("SYN") and has("ACK") and not has("RST"):
        counts["synAcks"] = 1
    if has("RST"):
        counts["refusals" if side == "Reverse" and packet[TCP].seq == 0 else f"resets{side}"] = 1
    if has("FIN"):
        counts[f"fins{side}"] = 1
    return counts


def _answered(packet, out, service, reason, came):
    """The program's own answer goes back where the packet came from."""
    out[Ether].src, out[Ether].dst = packet[Ether].dst, packet[Ether].src
    return step(packet, "TX", out, to=came, came=came, reasons={service: {reason: 1}})


def told(packet, service, reason, kind, code, source=None, came="near", mtu=0):
    """Answered with an ICMP error of this host, or of `source`, that repeats the IP header and eight bytes (RFC 792)."""
    head = ip(source or OWN_ADDRESS[came], packet[IP].src, tos=0xC0, ttl=64, id=0, flags="DF")
    more = {"nexthopmtu": mtu} if mtu else {}
    out = head / ICMP(type=kind, code=code, **more) / Raw(bytes(packet[IP])[:28])
    return _answered(packet, out, service, reason, came)


def echoed(packet, service, came="near"):
    """An echo request answered: ends turned round, type 0, a time to live of its own."""
    out = without_checksums(packet)
    out[IP].src, out[IP].dst, out[IP].ttl = packet[IP].dst, packet[IP].src, 64
    out[ICMP].type = 0
    return _answered(packet, out, service, "echo", came)


def reset(packet, service, reason, came="near"):
    """A TCP segment answered with RST (RFC 9293, section 3.10.7.1): what of it lies in the datagram counts, not the padding."""
    segment, flags = packet[TCP], int(packet[TCP].flags)
    length = len(packet[Raw].load) if Raw in packet else 0
    taken = length + (flags & FLAGS["SYN"] != 0) + (flags & FLAGS["FIN"] != 0)
    if flags & FLAGS["ACK"]:
        numbers = {"flags": "R", "seq": segment.ack, "ack": 0}
    else:
        numbers = {"flags": "RA", "seq": 0, "ack": (segment.seq + taken) % (1 << 32)}
    head = ip(packet[IP].dst, packet[IP].src, ttl=64, id=0, flags="DF")
    out = head / TCP(sport=segment.dport, dport=segment.sport, window=0, **numbers)
    return _answered(packet, out, service, reason, came)


def spoiled(sent, *places, by=0x1234):
    """The same step with checksums wrong by the same amount before and after: a fault on the way is for the receiver to see."""
    send = dict(sent["send"])
    for key in ("in", "out"):
        frame = bytearray.fromhex(send[key])
        for place in places:
            total = int.from_bytes(frame[place:place + 2], "big") + by
            frame[place:place + 2] = ((total & 0xFFFF) + (total >> 16)).to_bytes(2, "big")
        send[key] = frame.hex()
    return {"send": send}
