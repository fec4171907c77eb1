//! A case of the benchmark: which program gets which packets, and what must come out or the figure counts for nothing.

use std::net::{SocketAddrV4, SocketAddrV6};

use anyhow::{Result, ensure};
use grayxdp::lab::Namespace;
use grayxdp_common::records::NextHop;

use crate::bench::harness::{Feed, Harness, Run, Slot};

/// Verdicts of XDP programs.
pub mod verdict {
    /// The packet is dropped.
    pub const DROP: u32 = 1;
    /// The packet goes to the network stack.
    pub const PASS: u32 = 2;
    /// The packet leaves where it came in.
    pub const TX: u32 = 3;
    /// The packet leaves by another interface.
    pub const REDIRECT: u32 = 4;
}

/// What a row is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// The yardstick with TCP, one flow.
    Tcp,
    /// The yardstick with UDP, one flow.
    Udp,
    /// The IPv6 yardstick with TCP, one flow.
    Ipv6,
}

/// What must have become of the last packet.
#[derive(Clone, Debug)]
pub enum Expected {
    /// Nothing.
    Untouched,
    /// Its Ethernet addresses are swapped.
    Swapped,
    /// It goes to one of some backends, by its next hop.
    To(Vec<(SocketAddrV4, NextHop)>),
    /// It comes from a virtual endpoint and goes by a next hop.
    From(SocketAddrV4, NextHop),
    /// It goes to one of some backends of IPv6 (`true`), or comes from a virtual endpoint of it, by a next hop.
    Ipv6(bool, Vec<(SocketAddrV6, NextHop)>),
}

/// Reads how many packets took the intended path so far.
pub type PathCounter = Box<dyn Fn(&Harness) -> Result<u64>>;

/// One case.
pub struct Case {
    /// The path of the packet through the program.
    pub path: &'static str,
    /// Where the packets come in, by the interface that is near.
    pub host: Namespace,
    /// The program.
    pub slot: Slot,
    /// Its packets.
    pub feed: Feed,
    /// What its cost is compared with.
    pub baseline: Baseline,
    /// Greatest ratio to the baseline.
    pub mark: Option<f64>,
    /// The verdict.
    pub verdict: u32,
    /// What must have become of the last packet.
    pub expected: Expected,
    /// Timed packets in a round, where tables have no room for more.
    pub runs: Option<u32>,
    /// Puts tables into the state that each round begins with.
    pub prepare: Option<Box<dyn Fn() -> Result<()> + Sync>>,
    /// Counts packets that took the intended path; none where the program counts nothing.
    pub counter: Option<PathCounter>,
}

impl Case {
    /// Fails loudly where the program did something else than the case is about.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self, run: &Run, counted: u64) -> Result<()> {
        let path = self.path;
        ensure!(run.verdict == self.verdict, "{path}: the verdict is {}, not {}", run.verdict, self.verdict);
        ensure!(
            run.output.len() == run.input.len(),
            "{path}: the packet is {} bytes long, not {}",
            run.output.len(),
            run.input.len()
        );
        ensure!(
            self.counter.is_none() || counted == run.packets,
            "{path}: {counted} of {} packets took the path",
            run.packets
        );
        let wanted = self.expected.apply(&run.input, &run.output);
        ensure!(run.output == wanted, "{path}: the packet is\n{:02x?}, not\n{wanted:02x?}", run.output);
        Ok(())
    }
}

impl Expected {
    /// The packet that must come out. Where several backends will do, the one in `output` is taken if it is of them.
    fn apply(&self, input: &[u8], output: &[u8]) -> Vec<u8> {
        let mut wanted = input.to_vec();
        match self {
            Self::Untouched => {}
            Self::Swapped => {
                wanted[..6].copy_from_slice(&input[6..12]);
                wanted[6..12].copy_from_slice(&input[..6]);
            }
            Self::To(backends) => {
                let went_to = backends.iter().find(|(backend, _)| {
                    output[30..34] == backend.ip().octets() && output[36..38] == backend.port().to_be_bytes()
                });
                let (backend, hop) = went_to.unwrap_or(&backends[0]);
                rewrite(&mut wanted, backend, 30, 36, hop);
            }
            Self::From(endpoint, hop) => rewrite(&mut wanted, endpoint, 26, 34, hop),
            Self::Ipv6(is_forward, ends) => {
                let (address_at, port_at) = if *is_forward { (38, 56) } else { (22, 54) };
                let met = ends.iter().find(|(end, _)| output[address_at..address_at + 16] == end.ip().octets());
                let (end, hop) = met.unwrap_or(&ends[0]);
                rewrite6(&mut wanted, end, address_at, port_at, hop);
            }
        }
        wanted
    }
}

/// Rewrites one end of a packet, the Ethernet addresses and the time to live, and moves both checksums by as much as
/// the words they cover changed: a flow's checksum is as wrong after the rewrite as the wrapper made it before.
fn rewrite(packet: &mut [u8], end: &SocketAddrV4, address_at: usize, port_at: usize, hop: &NextHop) {
    let checksum_at = if packet[23] == 6 { 50 } else { 40 };
    let sums = |packet: &[u8]| (sum(&packet[14..34]), (sum(&packet[26..34]) + sum(&packet[34..])) % 0xffff);
    let before = sums(packet);
    packet[..6].copy_from_slice(&hop.destination());
    packet[6..12].copy_from_slice(&hop.source());
    packet[22] -= 1;
    packet[address_at..address_at + 4].copy_from_slice(&end.ip().octets());
    packet[port_at..port_at + 2].copy_from_slice(&end.port().to_be_bytes());
    let after = sums(packet);
    for (at, before, after) in [(24, before.0, after.0), (checksum_at, before.1, after.1)] {
        let old = u64::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
        let new = (old + 0xffff + before - after) % 0xffff;
        packet[at..at + 2].copy_from_slice(&(new as u16).to_be_bytes());
    }
}

/// The same of IPv6 with TCP, whose header has no checksum.
fn rewrite6(packet: &mut [u8], end: &SocketAddrV6, address_at: usize, port_at: usize, hop: &NextHop) {
    const CHECKSUM_AT: usize = 70;
    let before = sum(&packet[22..]);
    packet[..6].copy_from_slice(&hop.destination());
    packet[6..12].copy_from_slice(&hop.source());
    packet[21] -= 1;
    packet[address_at..address_at + 16].copy_from_slice(&end.ip().octets());
    packet[port_at..port_at + 2].copy_from_slice(&end.port().to_be_bytes());
    let old = u64::from(u16::from_be_bytes([packet[CHECKSUM_AT], packet[CHECKSUM_AT + 1]]));
    let new = (old + 0xffff + before - sum(&packet[22..])) % 0xffff;
    packet[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&(new as u16).to_be_bytes());
}

/// Sum of big-endian 16-bit words modulo 0xffff.
fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks_exact(2).map(|word| u64::from(u16::from_be_bytes([word[0], word[1]]))).sum::<u64>() % 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Flags, Packet};

    #[test]
    fn the_expected_packet_has_the_checksums_of_the_packet_builder() {
        let [client, vip, backend]: [SocketAddrV4; 3] =
            ["10.1.2.3:4096", "192.0.2.10:80", "10.9.0.7:8080"].map(|end| end.parse().expect("an endpoint"));
        let macs = ([2, 0, 0, 0, 8, 8], [2, 0, 0, 0, 9, 9]);
        let hop = NextHop::new(macs.1, macs.0, 1);
        for packet in [Packet::tcp(client, vip, Flags::ACK), Packet::udp(client, vip)] {
            let input = packet.bytes();
            let sent = Packet { destination: backend, macs, ..packet }.with_ttl(63).bytes();
            assert_eq!(Expected::To(vec![(backend, hop)]).apply(&input, &sent), sent);
        }
    }
}
