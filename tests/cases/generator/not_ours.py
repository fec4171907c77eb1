"""What is not ours: it passes byte for byte, and nothing is counted."""

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NS, IPv6, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Dot1Q, Ether, LLC, SNAP
from scapy.packet import Raw

from .book import Book
from .hosts import NAMES, USUAL, USUAL_DIRECT_ACCESS, USUAL_HOST, WEB, mac_of, own_mac, GATEWAY
from .packets import CLIENT, echo, ip, tcp, udp
from .rules import passed

ELSEWHERE = "198.51.100.1"


def frame(kind=None, to=None):
    fields = {} if kind is None else {"type": kind}
    return Ether(src=mac_of(GATEWAY), dst=to or own_mac("near"), **fields)


def book():
    book = Book("not-ours", "what is not ours passes byte for byte", USUAL, USUAL_HOST, USUAL_DIRECT_ACCESS)
    _ipv6(book)
    _tagged(book)
    _kinds(book)
    _ipv4(book)
    _groups(book)
    return book


def _ipv6(book):
    head = IPv6(src="2001:db8::1", dst="2001:db8::80", hlim=64)
    for name, body in {
        "TCP": head / TCP(sport=40_000, dport=80, flags="S"),
        "UDP": head / UDP(sport=40_000, dport=53) / b"question",
        "an echo request": head / ICMPv6EchoRequest(id=1, seq=1, data=b"abc"),
        "a neighbour solicitation": IPv6(src="fe80::1", dst="ff02::1:ff00:80", hlim=255) / ICMPv6ND_NS(tgt="2001:db8::80"),
        "a hop-by-hop header": head / IPv6ExtHdrHopByHop() / TCP(sport=1, dport=80),
        "a fragment": head / IPv6ExtHdrFragment(offset=0, m=1, id=7) / Raw(bytes(64)),
        "the last hop": IPv6(src="2001:db8::1", dst="2001:db8::80", hlim=1) / TCP(sport=1, dport=80),
        "an IPv4 address that is a virtual one, mapped": IPv6(src="::ffff:10.64.0.1", dst=f"::ffff:{WEB.vip}") / TCP(sport=1, dport=80),
        "IPv4 in it": head / IP(src="10.64.0.1", dst=WEB.vip, id=1) / TCP(sport=1, dport=80),
    }.items():
        book.case(f"IPv6: {name}", passed(frame() / body))
    book.case("IPv6: cut", passed(bytes(frame() / head)[:30]))


def _tagged(book):
    inner = bytes(tcp(CLIENT, (WEB.vip, 80), flags="S"))[14:]
    book.case("a VLAN tag", passed(frame() / Dot1Q(vlan=100, type=0x0800) / Raw(inner)))
    book.case("a priority tag", passed(frame() / Dot1Q(vlan=0, prio=5, type=0x0800) / Raw(inner)))
    book.case("two VLAN tags", passed(frame() / Dot1Q(vlan=100) / Dot1Q(vlan=7, type=0x0800) / Raw(inner)))
    book.case("a service tag and a VLAN tag", passed(frame(0x88A8) / Dot1Q(vlan=100, type=0x8100) / Dot1Q(vlan=7, type=0x0800) / Raw(inner)))
    book.case("a VLAN tag before IPv6", passed(frame() / Dot1Q(vlan=100, type=0x86DD) / IPv6(src="::1", dst="::2")))
    book.case("a VLAN tag before ARP", passed(frame(to="ff:ff:ff:ff:ff:ff") / Dot1Q(vlan=100, type=0x0806) / Raw(bytes(28))))
    book.case("a VLAN tag and nothing behind it", passed(frame(0x8100)))


def _kinds(book):
    inner = bytes(tcp(CLIENT, (WEB.vip, 80), flags="S"))[14:]
    kinds = {"LLDP": 0x88CC, "EAPOL": 0x888E, "PPPoE": 0x8864, "MPLS": 0x8847, "IPX": 0x8137, "MACsec": 0x88E5, "PTP": 0x88F7,
             "an experiment": 0x88B5, "trailer encapsulation": 0x1000, "the kind of IPv4 in the other byte order": 0x0008}
    for name, kind in kinds.items():
        book.case(f"kind of frame: {name}", passed(frame(kind) / Raw(inner)))
    book.case("a length in place of a kind, SNAP behind it", passed(
        Ether(bytes(frame(8 + len(inner)))) / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(OUI=0, code=0x0800) / Raw(inner)))
    book.case("spanning tree", passed(frame(38, to="01:80:c2:00:00:00") / LLC(dsap=0x42, ssap=0x42, ctrl=3) / Raw(bytes(35))))
    book.case("nothing behind the Ethernet header of IPv4", passed(frame(0x0800)))
    book.case("nothing behind the Ethernet header of ARP", passed(frame(0x0806)))


def _ipv4(book):
    to = (ELSEWHERE, 80)
    for name, packet in {
        "TCP": tcp(CLIENT, to, flags="S"), "UDP": udp(CLIENT, (ELSEWHERE, 53)), "an echo request": echo(CLIENT[0], ELSEWHERE),
        "the last hop": tcp(CLIENT, to, ttl=1), "time to live 0": udp(CLIENT, to, ttl=0),
        "the first fragment": udp(CLIENT, to, flags="MF"), "a later fragment": udp(CLIENT, to, flags=0, frag=185),
        "IPv4 options": tcp(CLIENT, to, options=b"\x01\x01\x01\x00"), "a datagram without a checksum": udp(CLIENT, to, checksum=0),
        "the address before a virtual one": tcp(CLIENT, ("192.0.2.9", 80)), "the address behind one": tcp(CLIENT, ("192.0.2.21", 80)),
        "a virtual address turned round": tcp(CLIENT, ("10.2.0.192", 80)),
        "SSH to this host": tcp(CLIENT, ("10.1.0.1", 22), flags="S"), "the virtual port of this host": tcp(CLIENT, ("10.1.0.1", 80)),
        "from a virtual address": tcp((WEB.vip, 80), to), "from a virtual address to a client": udp((NAMES.vip, 53), CLIENT),
        "between two backends": tcp(("10.9.0.1", 51_000), ("10.9.0.2", 5_432)),
        "loopback": tcp(("127.0.0.1", 1), ("127.0.0.1", 80)), "from no address": udp(("0.0.0.0", 68), ("10.1.0.1", 67)),
    }.items():
        book.case(f"IPv4: {name}", passed(packet))
    inner = IP(src="10.64.0.1", dst=WEB.vip, id=1) / TCP(sport=1, dport=80)
    for name, number in {"IPv4 in IPv4": 4, "IPv6 in IPv4": 41, "GRE": 47, "ESP": 50, "AH": 51, "OSPF": 89, "VRRP": 112, "SCTP": 132}.items():
        book.case(f"IPv4: {name} between others", passed(ip("10.64.0.1", ELSEWHERE, proto=number) / Raw(bytes(inner))))
    error = ICMP(type=3, code=1) / IP(src=ELSEWHERE, dst=CLIENT[0], id=1) / TCP(sport=80, dport=40_000)
    book.case("IPv4: an ICMP error about others", passed(ip("10.64.0.254", ELSEWHERE) / error))


def _groups(book):
    all_ones = "ff:ff:ff:ff:ff:ff"
    for name, packet in {
        "DHCP discovery": udp(("0.0.0.0", 68), ("255.255.255.255", 67), bytes(240), macs=(mac_of(GATEWAY), all_ones)),
        "the broadcast of this host's network": udp(("10.1.0.9", 137), ("10.1.0.255", 137), macs=(mac_of("10.1.0.9"), all_ones)),
        "multicast DNS": udp(("10.1.0.9", 5353), ("224.0.0.251", 5353), macs=(mac_of("10.1.0.9"), "01:00:5e:00:00:fb")),
        "a group's service port": udp(("10.1.0.9", 4000), ("239.1.2.3", 53), macs=(mac_of("10.1.0.9"), "01:00:5e:01:02:03")),
        "IGMP": ip("10.1.0.9", "224.0.0.22", proto=2, ttl=1, options=b"\x94\x04\x00\x00") / Raw(bytes(8)),
        "class E": udp(CLIENT, ("240.0.0.1", 53)),
    }.items():
        book.case(f"to many: {name}", passed(packet))
