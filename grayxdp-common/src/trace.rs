//! What the tracing program tells of a packet, and which packets it tells of.

use crate::{explanation::Explanation, map_value};

/// Bytes of a frame that are told, from its beginning: Ethernet, two tags, IPv6 and TCP without options fit.
pub const HEAD: usize = 96;

/// One packet: as it came, what became of it and why, and as it left. A packet that is shorter than [`HEAD`] is followed by zeros.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traced {
    /// Its way, as `explain` would tell it.
    pub explanation: Explanation,
    /// When it came: nanoseconds of monotonic time.
    pub time_ns: u64,
    /// Its length, in bytes.
    pub length: u32,
    /// Its length as it left.
    pub length_out: u32,
    /// Where it came in.
    pub interface: u32,
    /// The kernel's action (`enum xdp_action`).
    pub action: u32,
    /// Its first bytes.
    pub head: [u8; HEAD],
    /// Its first bytes as it left.
    pub head_out: [u8; HEAD],
}

map_value!(Traced, size 128 + 24 + 2 * HEAD);

/// An address as the filter compares it: of IPv4 its four bytes in the first word, of IPv6 both words, as they lie in the packet.
pub type Words = [u64; 2];

/// Which packets are told of: those that fit all of it. Addresses and ports are as they lie in the packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TraceFilter {
    /// Address of the source, masked.
    pub source: Words,
    /// Its mask; 0: any.
    pub source_mask: Words,
    /// Address of the destination, masked.
    pub destination: Words,
    /// Its mask; 0: any.
    pub destination_mask: Words,
    /// An address of either, masked.
    pub host: Words,
    /// Its mask; 0: any.
    pub host_mask: Words,
    /// A port of either; 0: any.
    pub port: u16,
    /// Service id; 0: any.
    pub service: u16,
    /// IP protocol; 0: any.
    pub protocol: u8,
    /// 1: only what is dropped.
    pub only_dropped: u8,
    /// 1: also what is no service's.
    pub also_others: u8,
    /// 4 or 6, where an address is asked for; 0: any.
    pub family: u8,
    /// How many more packets are told of. CPUs that count at once may tell of a few more.
    pub remaining: u64,
}

map_value!(TraceFilter, size 112);

impl TraceFilter {
    /// Whether family, addresses and protocol of a packet fit.
    #[inline(always)]
    #[must_use]
    pub const fn fits_addresses(&self, family: u8, source: Words, destination: Words, protocol: u8) -> bool {
        (self.family == 0 || self.family == family)
            && is_in(source, self.source, self.source_mask)
            && is_in(destination, self.destination, self.destination_mask)
            && (is_in(source, self.host, self.host_mask) || is_in(destination, self.host, self.host_mask))
            && (self.protocol == 0 || self.protocol == protocol)
    }

    /// Whether its ports fit.
    #[inline(always)]
    #[must_use]
    pub const fn fits_ports(&self, source: u16, destination: u16) -> bool {
        self.port == 0 || self.port == source || self.port == destination
    }

    /// Whether it asks for nothing of a packet's headers.
    #[inline(always)]
    #[must_use]
    pub const fn fits_any(&self) -> bool {
        self.family == 0 && self.port == 0 && self.protocol == 0
    }
}

#[inline(always)]
const fn is_in(address: Words, prefix: Words, mask: Words) -> bool {
    address[0] & mask[0] == prefix[0] && address[1] & mask[1] == prefix[1]
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn word(bytes: [u8; 4]) -> Words {
        [u32::from_ne_bytes(bytes) as u64, 0]
    }

    const A: Words = word([10, 1, 2, 3]);
    const B: Words = word([192, 0, 2, 10]);
    const MASK: Words = word([255, 255, 255, 0]);

    #[test]
    fn every_field_narrows_and_zero_is_any() {
        let any = TraceFilter::default();
        assert!(any.fits_any() && any.fits_addresses(4, A, B, 6) && any.fits_ports(1, 2));
        let network = word([10, 1, 2, 0]);
        let of = |filter: TraceFilter| TraceFilter { family: 4, ..filter };
        let cases = [
            (of(TraceFilter { source: network, source_mask: MASK, ..any }), true, false),
            (of(TraceFilter { destination: network, destination_mask: MASK, ..any }), false, true),
            (of(TraceFilter { host: network, host_mask: MASK, ..any }), true, true),
            (TraceFilter { protocol: 6, ..any }, true, true),
            (TraceFilter { protocol: 17, ..any }, false, false),
            (TraceFilter { family: 6, ..any }, false, false),
        ];
        for (filter, forth, back) in cases {
            assert!(!filter.fits_any());
            assert_eq!(
                (filter.fits_addresses(4, A, B, 6), filter.fits_addresses(4, B, A, 6)),
                (forth, back),
                "{filter:?}"
            );
        }
        let port = TraceFilter { port: 80, ..any };
        assert!(port.fits_ports(80, 1) && port.fits_ports(1, 80) && !port.fits_ports(1, 2) && !port.fits_any());
        let six = TraceFilter { family: 6, source: [7, 8], source_mask: [u64::MAX; 2], ..any };
        assert!(six.fits_addresses(6, [7, 8], [1, 1], 6) && !six.fits_addresses(6, [7, 9], [1, 1], 6));
    }
}
