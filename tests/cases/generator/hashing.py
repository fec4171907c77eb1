"""The documented hash of a flow (docs/architecture.md, "The tables of a service"; grayxdp-common/src/hash.rs), written again."""

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
