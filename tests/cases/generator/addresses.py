"""What a virtual address answers as such: ICMP echo, ARP; and services at several addresses and ports."""

from scapy.layers.inet import ICMP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Padding

from .book import Book
from .hosts import (BEHIND, FAR, GATEWAY, LOCAL, LOST, LOST_NAMES, NAMES, PORTS, USUAL, USUAL_DIRECT_ACCESS, USUAL_HOST, WEB,
                    mac_of, own_mac)
from .packets import CLIENT, echo, ip, tcp, udp, without_checksums
from .rules import dropped, echoed, left, passed, spoiled, step, to_backend, to_client

ICMP_SUM = 36
BROADCAST = "ff:ff:ff:ff:ff:ff"
ASKER = ("02:00:00:00:ee:01", "10.1.0.9")


def request(payload=b"abcdefgh", to=LOST.vip, **how):
    return echo(CLIENT[0], to, payload, **how)


def echo_book():
    book = Book("echo", "ICMP echo requests for a virtual address", USUAL, USUAL_HOST, USUAL_DIRECT_ACCESS)
    for length in (0, 1, 2, 3, 8, 55, 56, 57, 1472):
        book.case(f"{length} bytes of data", echoed(request(bytes(n & 255 for n in range(length))), "lost"))
    for ttl in (1, 2, 64, 255):
        book.case(f"time to live {ttl}: the answer has its own", echoed(request(ttl=ttl), "lost"))
    for number in ((0, 0), (0xFFFF, 0xFFFF), (0, 0x0800)):
        book.case(f"identifier {number[0]:#x}, sequence {number[1]:#x}", echoed(request(number=number), "lost"))
    book.case("padded to the shortest frame", echoed(request(b"ab", padding=bytes(16)), "lost"))
    book.case("odd data and bytes behind it", echoed(request(b"abc", padding=b"\xff" * 9), "lost"))
    book.case("IPv4 options are sent back", echoed(request(options=b"\x01\x01\x01\x00"), "lost"))
    book.case("the service byte is sent back", echoed(request(tos=0xB8), "lost"))
    book.case("may be fragmented", echoed(request(flags=0), "lost"))
    sums = [type(request())(bytes(request(b"\0\0")))[ICMP].chksum, _reply_sum(request(b"\0\0"))]
    book.case("a request whose checksum is zero", echoed(request(sums[0].to_bytes(2, "big")), "lost"))
    book.case("a reply whose checksum is zero", echoed(request(sums[1].to_bytes(2, "big")), "lost"))
    book.case("a wrong checksum stays as wrong", spoiled(echoed(request(), "lost"), ICMP_SUM))
    book.case("a wrong IPv4 checksum stays as wrong", spoiled(echoed(request(), "lost"), 24))
    for service in (WEB, FAR, PORTS, LOST_NAMES, BEHIND):
        counted = "web" if service is WEB else service.name
        book.case(f"at the address of {service.name}", echoed(request(to=service.vip), counted))
    book.case("an address of two services is counted for the first", echoed(request(to=NAMES.vip), "web"))
    book.case("at the second interface", echoed(request(came="far"), "lost", came="far"))
    book.case("at an address that this host has itself", left(request(to=LOCAL.vip), "local", "local_address"))
    book.case("for another address", passed(request(to="198.51.100.1")))
    book.case("for this host", passed(request(to="10.1.0.1")))
    book.case("for a backend", passed(request(to=WEB.backend.address)))
    book.case("a reply from a virtual address to elsewhere", passed(echo(LOST.vip, CLIENT[0], kind=0)))
    return book


def _reply_sum(packet):
    out = without_checksums(packet)
    out[ICMP].type = 0
    return type(out)(bytes(out))[ICMP].chksum


def arp(about, came="near", operation=1, sender=ASKER, to=BROADCAST, padding=b"", **fields):
    packet = Ether(src=sender[0], dst=to, type=0x0806) / ARP(
        op=operation, hwsrc=sender[0], psrc=sender[1], hwdst="00:00:00:00:00:00", pdst=about, **fields)
    return packet / Padding(padding) if padding else packet


def announced(packet, service, came="near"):
    """The reply that names this host's Ethernet address."""
    out = packet.copy()
    question, own = packet[ARP], own_mac(came)
    out[Ether].src, out[Ether].dst = own, question.hwsrc
    out[ARP].op, out[ARP].hwsrc, out[ARP].psrc = 2, own, question.pdst
    out[ARP].hwdst, out[ARP].pdst = question.hwsrc, question.psrc
    return step(packet, "TX", out, to=came, came=came, reasons={service: {"arp": 1}})


def arp_book():
    book = Book("arp", "who has a virtual address, on Ethernet", USUAL, USUAL_HOST, USUAL_DIRECT_ACCESS)
    book.case("a request for an announced address", announced(arp(WEB.vip), "web"))
    book.case("at the second interface", announced(arp(WEB.vip, sender=(ASKER[0], "10.2.0.9")), "web", came="far"))
    book.case("padded to the shortest frame", announced(arp(WEB.vip, padding=bytes(18)), "web"))
    book.case("from the gateway", announced(arp(WEB.vip, sender=(mac_of(GATEWAY), GATEWAY)), "web"))
    book.case("sent to this host alone", announced(arp(WEB.vip, to=own_mac("near")), "web"))
    book.case("a probe for a conflict, from no address (RFC 5227)", announced(arp(WEB.vip, sender=(ASKER[0], "0.0.0.0")), "web"))
    book.case("from another virtual address of this host", announced(arp(WEB.vip, sender=(ASKER[0], LOST.vip)), "web"))
    book.case("the answer goes to who asks, not to who sent the frame", _relayed())
    for name, about in {"not announced": LOST.vip, "local and the kernel's to answer": LOCAL.vip, "of a backend": WEB.backend.address,
                        "of this host": "10.1.0.1", "of nobody": "198.51.100.1"}.items():
        book.case(f"a request for an address that is {name}", passed(arp(about)))
    book.case("gratuitous request", passed(arp(WEB.vip, sender=(ASKER[0], WEB.vip))))
    book.case("gratuitous reply", passed(arp(WEB.vip, operation=2, sender=(ASKER[0], WEB.vip))))
    book.case("a reply to this host", passed(arp("10.1.0.1", operation=2, sender=(mac_of(GATEWAY), GATEWAY), to=own_mac("near"))))
    book.case("a reply about an announced address", passed(arp(WEB.vip, operation=2)))
    book.case("reverse ARP", passed(arp(WEB.vip, operation=3)))
    book.case("another kind of hardware", passed(arp(WEB.vip, hwtype=6)))
    book.case("another protocol", passed(arp(WEB.vip, ptype=0x86DD)))
    whole = bytes(arp(WEB.vip))
    for place, byte, name in ((18, 8, "hardware addresses of eight bytes"), (19, 16, "protocol addresses of sixteen bytes")):
        book.case(f"a request that says {name}", passed(whole[:place] + bytes([byte]) + whole[place + 1:]))
    for length in (15, 22, 41):
        book.case(f"a request cut to {length} bytes", passed(whole[:length]))
    return book


def _relayed():
    packet = arp(WEB.vip)
    packet[Ether].src = "02:00:00:00:ee:99"
    return announced(packet, "web")


def service_book():
    book = Book("services", "services at several addresses, ports and protocols", USUAL, USUAL_HOST, USUAL_DIRECT_ACCESS)
    for port in (443, 80, 8443):
        book.case(f"one of several ports, kept for the backend: {port}", to_backend(tcp(CLIENT, (PORTS.vip, port), flags="S"), PORTS.backend))
    book.case("TCP and UDP at one address: TCP", to_backend(tcp(CLIENT, (WEB.vip, 80)), WEB.backend))
    book.case("TCP and UDP at one address: UDP", to_backend(udp(CLIENT, (NAMES.vip, 53)), NAMES.backend))
    book.case("a backend behind the gateway", to_backend(tcp(CLIENT, (BEHIND.vip, 80)), BEHIND.backend))
    book.case("back from a backend behind the gateway", to_client(
        tcp((BEHIND.backend.address, BEHIND.backend.port), CLIENT), BEHIND))
    for flags in ("S", "A", "R"):
        book.case(f"a backend without a next hop goes by the kernel: {flags}", to_backend(
            tcp(CLIENT, (LOST.vip, 80), flags=flags, payload=b"odd" if flags == "A" else b""), LOST.backend, service="lost"))
    for checksum in (None, 0):
        book.case(f"a datagram without a next hop goes by the kernel, {'with' if checksum is None else 'without'} checksum", to_backend(
            udp(CLIENT, (LOST_NAMES.vip, 53), checksum=checksum), LOST_NAMES.backend, service="lost-names"))
    book.case("without a next hop, time to live 2 stays", to_backend(
        tcp(CLIENT, (LOST.vip, 80), ttl=2, options=b"\x01\x01\x01\x00"), LOST.backend, service="lost"))
    book.case("without a next hop, by the second interface", to_backend(
        tcp(CLIENT, (LOST.vip, 80), came="far"), LOST.backend, service="lost", came="far"))
    for flags in ("S", "A", "FA", "R"):
        book.case(f"a version without backends: {flags}", dropped(tcp(CLIENT, ("192.0.2.14", 80), flags=flags), "empty", "no_backend"))
    book.case("a service at an address of this host", to_backend(tcp(CLIENT, (LOCAL.vip, 80), flags="S"), LOCAL.backend))
    book.case("back from the backend of a local address", to_client(tcp((LOCAL.backend.address, LOCAL.backend.port), CLIENT), LOCAL))
    for name, packet in {
        "another TCP port": tcp(CLIENT, (LOCAL.vip, 22), flags="S"), "the port in UDP": udp(CLIENT, (LOCAL.vip, 80)),
        "an answer to this host's own question": udp(("198.51.100.53", 53), (LOCAL.vip, 33_000)),
        "an ICMP error": _unreachable(LOCAL.vip),
    }.items():
        book.case(f"a local virtual address keeps what is its own: {name}", left(packet, "local", "local_address"))
    return book


def _unreachable(to):
    return ip(CLIENT[0], to) / ICMP(type=3, code=1) / bytes(28)
