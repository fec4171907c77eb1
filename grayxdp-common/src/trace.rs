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

/// Which packets are told of: those that fit all of it. Addresses and ports are as they lie in the packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TraceFilter {
    /// Address of the source, masked.
    pub source: u32,
    /// Its mask; 0: any.
    pub source_mask: u32,
    /// Address of the destination, masked.
    pub destination: u32,
    /// Its mask; 0: any.
    pub destination_mask: u32,
    /// An address of either, masked.
    pub host: u32,
    /// Its mask; 0: any.
    pub host_mask: u32,
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
    /// Zero.
    pub zero: u8,
    /// How many more packets are told of. CPUs that count at once may tell of a few more.
    pub remaining: u64,
}

map_value!(TraceFilter, size 40);

impl TraceFilter {
    /// Whether addresses and protocol of a packet fit.
    #[inline(always)]
    #[must_use]
    pub const fn fits_addresses(&self, source: u32, destination: u32, protocol: u8) -> bool {
        source & self.source_mask == self.source
            && destination & self.destination_mask == self.destination
            && (source & self.host_mask == self.host || destination & self.host_mask == self.host)
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
        self.source_mask | self.destination_mask | self.host_mask == 0 && self.port == 0 && self.protocol == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: u32 = u32::from_ne_bytes([10, 1, 2, 3]);
    const B: u32 = u32::from_ne_bytes([192, 0, 2, 10]);
    const MASK: u32 = u32::from_ne_bytes([255, 255, 255, 0]);

    #[test]
    fn every_field_narrows_and_zero_is_any() {
        let any = TraceFilter::default();
        assert!(any.fits_any() && any.fits_addresses(A, B, 6) && any.fits_ports(1, 2));
        let network = A & MASK;
        let cases = [
            (TraceFilter { source: network, source_mask: MASK, ..any }, true, false),
            (TraceFilter { destination: network, destination_mask: MASK, ..any }, false, true),
            (TraceFilter { host: network, host_mask: MASK, ..any }, true, true),
            (TraceFilter { protocol: 6, ..any }, true, true),
            (TraceFilter { protocol: 17, ..any }, false, false),
        ];
        for (filter, forth, back) in cases {
            assert!(!filter.fits_any());
            assert_eq!((filter.fits_addresses(A, B, 6), filter.fits_addresses(B, A, 6)), (forth, back), "{filter:?}");
        }
        let port = TraceFilter { port: 80, ..any };
        assert!(port.fits_ports(80, 1) && port.fits_ports(1, 80) && !port.fits_ports(1, 2) && !port.fits_any());
    }
}
