"""The documented hash of a flow (docs/architecture.md, "The tables of a service"; grayxdp-common/src/hash.rs), written again."""

import ipaddress

KEY = [0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89]
BUCKETS = 16_384
SLOTS = 16_381
_WORD = (1 << 64) - 1
_PROTOCOLS = {"tcp": 6, "udp": 17}


def flow_hash(client, vip, protocol, affinity="flow"):
    """64 bits of a flow between two (address, port) pairs; by client the ports do not count."""
    def word(address):
        return int.from_bytes(bytes(int(octet) for octet in address.split(".")), "little")

    def half(port):
        return int.from_bytes(port.to_bytes(2, "big"), "little") if affinity == "flow" else 0

    addresses = word(client[0]) | word(vip[0]) << 32
    ports = half(client[1]) | half(vip[1]) << 16 | _PROTOCOLS[protocol] << 32
    x = (addresses ^ KEY[0]) * 0x9E3779B97F4A7C15 & _WORD
    x ^= x >> 32
    x = (x ^ ports ^ KEY[1]) * 0xBF58476D1CE4E5B9 & _WORD
    x ^= x >> 29
    x = (x ^ KEY[2]) * 0x94D049BB133111EB & _WORD
    return x ^ x >> 32


def bucket(value):
    return value * BUCKETS >> 64


def slot(value):
    return (value & 0xFFFFFFFF) * SLOTS >> 32


def is_second(split, number):
    """Whether a bucket is the second version's: `threshold` of them from `offset` on, cyclic."""
    return (number - split["offset"]) % BUCKETS < split["threshold"]


def any_hash(source, target, protocol):
    """The same between endpoints of either family (docs/architecture.md, "IPv6": a round more)."""
    if ":" not in source[0]:
        return flow_hash(source, target, protocol)

    def halves(address):
        packed = ipaddress.ip_address(address).packed
        return int.from_bytes(packed[:8], "little"), int.from_bytes(packed[8:], "little")

    def half(port):
        return int.from_bytes(port.to_bytes(2, "big"), "little")

    (high, low), (target_high, target_low) = halves(source[0]), halves(target[0])
    vip = (target_high * 0xD6E8FEB86659FD93 & _WORD) ^ target_low
    ports = half(source[1]) | half(target[1]) << 16 | _PROTOCOLS[protocol] << 32 | 1 << 40
    x = (high ^ KEY[0]) * 0x9E3779B97F4A7C15 & _WORD
    x ^= x >> 32
    x = (x ^ low ^ KEY[3]) * 0xA0761D6478BD642F & _WORD
    x ^= x >> 32
    x = (x ^ ports ^ vip ^ KEY[1]) * 0xBF58476D1CE4E5B9 & _WORD
    x ^= x >> 29
    x = (x ^ KEY[2]) * 0x94D049BB133111EB & _WORD
    return x ^ x >> 32


def candidate(value, probe, addresses):
    """The endpoint of the pool that is tried `probe`th for a flow of full-nat: SplitMix64 from the flow's hash on."""
    x = (value + (probe + 1) * 0x9E3779B97F4A7C15) & _WORD
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _WORD
    x ^= x >> 31
    return (x & 0xFFFFFFFF) * addresses >> 32, 1_024 + ((x >> 32) * 64_512 >> 32)
