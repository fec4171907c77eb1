//! The packets of a measurement: one frame from the packet builder, and how it varies from flow to flow.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::{
    bench::{
        harness::Feed,
        layout::{HEADERS_LEN, Setup, Target},
    },
    packet::Packet,
};

/// Bytes of a measured frame.
pub const FRAME_LEN: usize = 64;
/// Where the addresses are.
const ADDRESSES: usize = 26;
/// Where the ports are.
const PORTS: usize = 34;

/// Which end of the packet is the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// The packet comes from it.
    Source,
    /// The packet goes to it.
    Destination,
}

/// How the client varies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flows {
    /// How many flows there are.
    pub count: u64,
    /// Packets of one flow before the next.
    pub hold: u64,
    /// Log₂ of the ports of one client address.
    pub port_bits: u16,
    /// Log₂ of the distance between two client addresses.
    pub address_bits: u16,
}

impl Flows {
    /// 1,024 flows, one at a time: the figure is the mean over flows that are each alone.
    pub const ONE: Self = Self { count: 1024, hold: 977, port_bits: 9, address_bits: 0 };
    /// 1,024 flows in turn.
    pub const THOUSAND: Self = Self { hold: 1, ..Self::ONE };
    /// A million flows in turn.
    pub const MILLION: Self = Self { count: 1_000_000, hold: 1, port_bits: 9, address_bits: 0 };
    /// A new flow each time for as long as anyone measures.
    pub const NEW: Self = Self { count: 1 << 31, hold: 1, port_bits: 9, address_bits: 0 };

    /// A few ports of 100 clients, each in a network of 2^16 addresses of its own.
    pub const HUNDRED_NETWORKS: Self = Self { count: 800, hold: 1, port_bits: 3, address_bits: 16 };

    /// A step that is coprime to the count and scatters successive flows.
    pub(super) fn stride(self) -> u64 {
        let wanted = (self.count as f64 * 0.618_034) as u64;
        (wanted.max(1)..).find(|&stride| greatest_common_divisor(stride, self.count) == 1).unwrap_or(1)
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// The feed of a packet whose one end is the client and whose other end is one of `others` (a power of two of them).
///
/// # Panics
/// If the number of other ends is no power of two.
#[must_use]
pub fn feed(packet: &Packet, client: Client, flows: Flows, others: &[SocketAddrV4]) -> Feed {
    assert!(others.len().is_power_of_two(), "targets are chosen by a mask");
    let mut frame = packet.bytes();
    frame.resize(FRAME_LEN, 0);
    let word = |at: usize| u64::from_ne_bytes(frame[at..at + 8].try_into().expect("eight bytes"));
    let (client_end, client_shift) = match client {
        Client::Source => (packet.source, 0),
        Client::Destination => (packet.destination, 1),
    };
    let other_shift = 1 - client_shift;
    let targets = others
        .iter()
        .map(|other| Target {
            addresses: u64::from(u32::from_ne_bytes(other.ip().octets())) << (32 * other_shift),
            ports: u64::from(other.port().to_be()) << (16 * other_shift),
        })
        .collect();
    let setup = Setup {
        front: [word(0), word(8)],
        back: [word(18), 0, word(PORTS) & !0xffff_ffff, word(42), word(50)],
        tail: [0; 2],
        total_length: u16::from_ne_bytes([frame[16], frame[17]]),
        port_bits: flows.port_bits,
        address_bits: flows.address_bits,
        address_shift: 32 * client_shift,
        port_shift: 16 * client_shift,
        address: (*client_end.ip()).into(),
        port: client_end.port().into(),
        frame_len: FRAME_LEN as u64,
        flows: flows.count,
        stride: flows.stride(),
        hold: flows.hold,
        target_mask: others.len() as u64 - 1,
        flow: 0,
        held: 0,
        fell_through: 0,
    };
    Feed { frame, setup, targets }
}

impl Feed {
    /// The packet of a flow as the program under test gets it.
    #[must_use]
    pub fn input_of(&self, flow: u64) -> Vec<u8> {
        let target = self.targets[(flow & self.setup.target_mask) as usize];
        let (address, port) = self.client_of(flow);
        let addresses = self.setup.back[1]
            | target.addresses
            | u64::from(u32::from_ne_bytes(address.octets())) << self.setup.address_shift;
        let ports = self.setup.back[2] | target.ports | u64::from(port.to_be()) << self.setup.port_shift;
        let mut input = self.frame.clone();
        input[ADDRESSES..ADDRESSES + 8].copy_from_slice(&addresses.to_ne_bytes());
        input[PORTS..PORTS + 8].copy_from_slice(&ports.to_ne_bytes());
        input
    }

    /// The client of a flow.
    #[must_use]
    pub fn client_of(&self, flow: u64) -> (Ipv4Addr, u16) {
        let address =
            self.setup.address.wrapping_add(((flow >> self.setup.port_bits) << self.setup.address_bits) as u32);
        let port = self.setup.port as u16 + (flow & ((1 << self.setup.port_bits) - 1)) as u16;
        (address.into(), port)
    }
}

const _: () = assert!(HEADERS_LEN <= FRAME_LEN);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Flags;

    #[test]
    fn flow_zero_is_the_packet_itself_in_both_directions() {
        let ends: [SocketAddrV4; 2] = ["10.1.2.3:4096", "192.0.2.10:80"].map(|end| end.parse().expect("an endpoint"));
        let packet = Packet::tcp(ends[0], ends[1], Flags::ACK);
        for (client, other) in [(Client::Source, ends[1]), (Client::Destination, ends[0])] {
            let feed = feed(&packet, client, Flows::ONE, &[other]);
            assert_eq!(feed.input_of(0), feed.frame, "{client:?}");
        }
    }

    #[test]
    fn every_flow_comes_once_before_any_comes_again() {
        for flows in [Flows::ONE, Flows::MILLION] {
            let (count, stride) = (flows.count, flows.stride());
            let mut seen = vec![false; count as usize];
            let mut flow = 0;
            for _ in 0..count {
                flow += stride;
                flow -= if flow >= count { count } else { 0 };
                assert!(!std::mem::replace(&mut seen[flow as usize], true));
            }
        }
    }
}
