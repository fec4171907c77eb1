//! What the benchmark's wrapper and its harness share; the harness includes this file.

/// Programs that a wrapper can call; wrapper `n` always calls slot `n` of [`PROGRAMS`].
pub const SLOTS: u32 = 24;

/// Name of the program array.
pub const PROGRAMS: &str = "PROGRAMS";
/// Name of the map of one [`Setup`].
pub const SETUP: &str = "SETUP";
/// Name of the map of [`Target`]s.
pub const TARGETS: &str = "TARGETS";
/// Name of the yardstick's map from [`NatKey`] to [`NatBackend`].
pub const NAT: &str = "NAT";
/// Name of the yardstick's per-CPU packet counter.
pub const NAT_PACKETS: &str = "NAT_PACKETS";

/// Name of the IPv6 yardstick's map from [`NatKey6`] to [`NatBackend6`].
pub const NAT6: &str = "NAT6";

/// Name of the array of one interface index: where the plain redirect sends packets.
pub const EGRESS: &str = "EGRESS";
/// Name of the per-CPU array of one count: TCP packets that reached the sink, or that the filter dropped.
pub const SUNK: &str = "SUNK";

/// Where a flood comes from, address and mask in host order: 100.64.0.0/10. The filter drops it.
pub const FLOOD: (u32, u32) = (0x6440_0000, 0xffc0_0000);

/// Room for [`Target`]s; a power of two.
pub const TARGETS_LEN: u32 = 1_024;

/// Bytes of the frame that the wrapper writes back before each call.
pub const HEADERS_LEN: usize = 58;

/// Bytes of a longer frame that it writes back: those of IPv6 with TCP.
pub const LONG_HEADERS_LEN: usize = 74;

/// One frame, how it varies from packet to packet, and where it stands.
///
/// The stores are cut so that no header field lies across two of them: a load that spans two fresh stores waits for
/// both to leave the store buffer, which would be the harness's cost and not the program's.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Bytes 0..8, 8..16 of the frame.
    pub front: [u64; 2],
    /// Bytes 18..26, 26..34, 34..42, 42..50, 50..58 of the frame; zero where flow and target are put in.
    pub back: [u64; 5],
    /// Bytes 58..66, 66..74 of a frame that is long enough.
    pub tail: [u64; 2],
    /// Bytes 16..18 of the frame: the IPv4 total length.
    pub total_length: u16,
    /// Log₂ of the ports of one client.
    pub port_bits: u16,
    /// Log₂ of the distance between two clients' addresses.
    pub address_bits: u16,
    /// Where the client's address goes: 0, the source, or 32, the destination.
    pub address_shift: u8,
    /// Where the client's port goes: 0, the source, or 16, the destination.
    pub port_shift: u8,
    /// First client address, host order.
    pub address: u32,
    /// First client port, host order.
    pub port: u32,
    /// Length of the frame in bytes.
    pub frame_len: u64,
    /// Number of flows.
    pub flows: u64,
    /// From one flow to the next; coprime to `flows` and not above it.
    pub stride: u64,
    /// Packets of one flow before the next.
    pub hold: u64,
    /// Number of targets less one; all ones below a power of two.
    pub target_mask: u64,
    /// The flow of the last packet.
    pub flow: u64,
    /// Packets that `flow` has had.
    pub held: u64,
    /// Tail calls that fell through.
    pub fell_through: u64,
}

/// What a target adds to the words 26..34 (addresses) and 34..42 (ports and what follows) of the frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Target {
    /// Added to the addresses.
    pub addresses: u64,
    /// Added to the ports.
    pub ports: u64,
}

/// Key of the yardstick's map, as in the packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatKey {
    /// Destination address.
    pub address: u32,
    /// Destination port.
    pub port: u16,
    /// IP protocol.
    pub protocol: u8,
    /// Zero.
    pub zero: u8,
}

/// The yardstick's only backend.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatBackend {
    /// Its address, as in the packet.
    pub address: u32,
    /// Its port, as in the packet.
    pub port: u16,
    /// Destination, then source, Ethernet address.
    pub macs: [[u8; 6]; 2],
    /// Zero.
    pub zero: [u8; 2],
}

/// Key of the IPv6 yardstick's map, as in the packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatKey6 {
    /// Destination address.
    pub address: [u32; 4],
    /// Destination port.
    pub port: u16,
    /// IP protocol.
    pub protocol: u8,
    /// Zero.
    pub zero: u8,
}

/// The IPv6 yardstick's only backend.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatBackend6 {
    /// Its address, as in the packet.
    pub address: [u32; 4],
    /// Its port, as in the packet.
    pub port: u16,
    /// Destination, then source, Ethernet address.
    pub macs: [[u8; 6]; 2],
    /// Zero.
    pub zero: [u8; 2],
}
