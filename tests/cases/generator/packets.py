"""Packets, laid out by scapy."""

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.l2 import Ether
from scapy.packet import Padding, Raw

from .hosts import GATEWAY, mac_of, own_mac

CLIENT = ("10.64.0.1", 40_000)
FLAGS = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32, "ECE": 64, "CWR": 128, "NS": 256}


def flags_named(number):
    return "+".join(name for name, bit in FLAGS.items() if number & bit) or "no flag"


def ip(source, destination, came="near", macs=None, **fields):
    """Ethernet and IPv4. The frame comes from the gateway, or from a neighbour of this host's own links."""
    is_neighbour = source.startswith(("10.9.", "10.1.", "10.2."))
    sender, receiver = macs or (mac_of(source if is_neighbour else GATEWAY), own_mac(came))
    usual = {"ttl": 64, "id": 0x1234, "flags": "DF"}
    options = fields.pop("options", b"")
    if options:
        fields["options"] = [IPOption(options)]
    return Ether(src=sender, dst=receiver) / IP(src=source, dst=destination, **{**usual, **fields})


def _closed(packet, payload, padding):
    packet = packet / Raw(payload) if payload else packet
    return packet / Padding(padding) if padding else packet


def tcp(source, destination, flags="A", seq=0x01020304, ack=0x0A0B0C0D, payload=b"", padding=b"", came="near", macs=None,
        tcp_options=(), window=0x2000, fields=(), **header):
    """A TCP segment between two (address, port) pairs; `header` is for IPv4, `fields` for TCP."""
    has_ack = "A" in flags if isinstance(flags, str) else flags & FLAGS["ACK"] != 0
    segment = TCP(sport=source[1], dport=destination[1], flags=flags, seq=seq, ack=ack if has_ack else 0,
                  window=window, options=list(tcp_options), **dict(fields))
    return _closed(ip(source[0], destination[0], came, macs, **header) / segment, payload, padding)


def udp(source, destination, payload=b"question", checksum=None, length=None, padding=b"", came="near", macs=None, **header):
    """A UDP datagram; `checksum` 0 for none."""
    datagram = UDP(sport=source[1], dport=destination[1], chksum=checksum, len=length)
    return _closed(ip(source[0], destination[0], came, macs, **header) / datagram, payload, padding)


def echo(source, destination, payload=b"abcdefgh", kind=8, code=0, padding=b"", came="near", macs=None, number=(77, 3), **header):
    """An ICMP echo request or reply between two addresses."""
    # Left to itself scapy fills timestamps in by the clock.
    times = {"ts_ori": 1, "ts_rx": 2, "ts_tx": 3} if kind == 13 else {}
    message = ICMP(type=kind, code=code, id=number[0], seq=number[1], **times)
    return _closed(ip(source, destination, came, macs, **header) / message, payload, padding)


def without_checksums(packet):
    """The same, with checksums to be computed anew; a datagram without one stays without."""
    packet = packet.copy()
    del packet[IP].chksum
    for layer in (TCP, ICMP):
        if layer in packet:
            del packet[layer].chksum
    if UDP in packet and packet[UDP].chksum != 0:
        del packet[UDP].chksum
    return packet


def padded(packet, length=60):
    """The packet padded with zeros to a frame of a length."""
    return packet / Padding(bytes(length - len(bytes(packet))))


def pieces(packet, size=1_480):
    """The packet cut into pieces of so many bytes behind the IP header (RFC 791, section 3.2)."""
    whole = Ether(bytes(packet))
    body, total = bytes(whole[IP].payload), len(bytes(whole[IP].payload))
    for start in range(0, total, size):
        head = whole[IP].copy()
        head.remove_payload()
        head.flags, head.frag = "MF" if start + size < total else 0, start // 8
        del head.len, head.chksum
        yield Ether(src=whole.src, dst=whole.dst) / head / Raw(body[start:start + size])


def error_about(router, packet, kind, code, length=28, came="near", mtu=0, **header):
    """A router's ICMP error about a packet, of which it repeats so many bytes, to whoever sent that."""
    more = {"nexthopmtu": mtu} if mtu else {}
    return ip(router, packet[IP].src, came, **header) / ICMP(type=kind, code=code, **more) / Raw(bytes(packet[IP])[:length])
