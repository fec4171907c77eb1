//! The packets of a history as frames.

use std::net::{Ipv4Addr, SocketAddrV4};

use grayxdp_common::hash::{Flow, FlowHash};

use crate::{
    packet::{Flags, Packet},
    random::Random,
    rules::{Answer, Backend, Kind, Later},
    subject::KEY,
};

/// The virtual address.
pub(super) const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// The virtual ports by class.
pub(super) const PORTS: [u16; 2] = [80, 443];
/// The DSCP that counts.
pub(super) const DSCP: u8 = 46;

/// A backend's address; its port is the client's, because there are two.
pub(super) fn backend(backend: Backend) -> Ipv4Addr {
    let [high, low] = backend.to_be_bytes();
    Ipv4Addr::new(10, 9, 1 + high, low)
}

/// The backend that a frame goes to.
pub(super) fn backend_of(frame: &[u8]) -> Option<Backend> {
    let [a, b, high, low] = *frame.get(30..34)?.first_chunk()?;
    (a == 10 && b == 9).then(|| Backend::from_be_bytes([high - 1, low]))
}

/// Address of a source prefix of 16 bits.
pub(super) fn prefix(prefix: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 64 + prefix as u8, 0, 0)
}

/// A client in a source prefix, or outside all.
pub(super) fn client(prefix: Option<usize>, random: &mut Random) -> SocketAddrV4 {
    let [c, d, e, f, ..] = random.next().to_le_bytes();
    let second = prefix.map_or(90, |prefix| 64 + prefix as u8);
    SocketAddrV4::new(Ipv4Addr::new(10, second, c, d), 1_024 + u16::from_le_bytes([e, f]) % 64_000)
}

/// The hash of a flow.
pub(super) fn hash(client: SocketAddrV4, port: usize, udp: bool) -> FlowHash {
    let raw = |address: &Ipv4Addr| u32::from_ne_bytes(address.octets());
    let flow = Flow {
        source: raw(client.ip()),
        destination: raw(&VIP),
        source_port: client.port().to_be(),
        destination_port: PORTS[port].to_be(),
        protocol: if udp { 17 } else { 6 },
    };
    FlowHash::of(&flow, &KEY)
}

fn vip(port: usize) -> SocketAddrV4 {
    SocketAddrV4::new(VIP, PORTS[port])
}

fn dscp(marked: bool) -> u8 {
    if marked { DSCP } else { 0 }
}

pub(super) fn syn(client: SocketAddrV4, port: usize, isn: u32, marked: bool) -> Packet {
    Packet::tcp_with(client, vip(port), Flags::SYN, isn, 0).with_dscp(dscp(marked))
}

pub(super) fn later(client: SocketAddrV4, port: usize, later: Later) -> Packet {
    let (flags, payload): (Flags, &[u8]) = match later.kind {
        Kind::Ack => (Flags::ACK, &[]),
        Kind::Data => (Flags::ACK, b"data"),
        Kind::Fin => (Flags::FIN_ACK, &[]),
        Kind::Rst => (Flags::RST, &[]),
    };
    let packet = Packet::tcp_with(client, vip(port), flags, later.sequence, later.ack);
    packet.with_dscp(dscp(later.marked)).with_payload(payload)
}

pub(super) fn datagram(client: SocketAddrV4, port: usize) -> Packet {
    Packet::udp(client, vip(port)).with_payload(b"question")
}

/// A backend's packet. Only SYN-ACKs have numbers that count; a refusal's would be 0.
pub(super) fn answer(from: Backend, client: SocketAddrV4, port: usize, answer: Answer, udp: bool) -> Packet {
    let end = SocketAddrV4::new(backend(from), PORTS[port]);
    if udp {
        return Packet::udp(end, client).with_payload(b"answer");
    }
    match answer {
        Answer::SynAck { sequence, ack } => Packet::tcp_with(end, client, Flags::SYN_ACK, sequence, ack),
        Answer::Data => Packet::tcp_with(end, client, Flags::ACK, 7, 7).with_payload(b"answer"),
        Answer::Fin => Packet::tcp_with(end, client, Flags::FIN_ACK, 7, 7),
        Answer::Rst => Packet::tcp_with(end, client, Flags::RST, 7, 7),
    }
}
