//! A packet with another end.

use std::net::{IpAddr, SocketAddr};

use super::{
    model::addresses,
    read::{Datagram, ETHERNET, TCP, word},
    sums::{carried, carried_udp, sum},
    world::Hop,
};

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Who sent it.
    Source,
    /// Whom it is for.
    Destination,
}

/// Writes an address over another.
pub(super) fn put_address(frame: &mut [u8], at: usize, address: IpAddr) {
    match address {
        IpAddr::V4(address) => frame[at..at + 4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => frame[at..at + 16].copy_from_slice(&address.octets()),
    }
}

/// Writes a word.
pub(super) fn put_word(frame: &mut [u8], at: usize, word: u16) {
    frame[at..at + 2].copy_from_slice(&word.to_be_bytes());
}

/// The checksum of the IPv4 header after a change of the header.
pub(super) fn mend_header(frame: &mut [u8], before: &[u8], datagram: &Datagram) {
    let Some(behind) = datagram.behind.filter(|_| !datagram.is_ipv6) else { return };
    let old = word(before, ETHERNET + 10).expect("the header is in the frame");
    let header = |frame: &[u8]| sum(&frame[ETHERNET..behind.min(frame.len())]);
    put_word(frame, ETHERNET + 10, old);
    let fresh = carried(old, header(before), header(frame));
    put_word(frame, ETHERNET + 10, fresh);
}

/// The frame with one end replaced; `ports` is where the ports lie, none in a later piece.
pub(super) fn rewritten(
    frame: &[u8],
    datagram: &Datagram,
    ports: Option<usize>,
    side: Side,
    end: SocketAddr,
) -> Vec<u8> {
    let mut out = frame.to_vec();
    let (source, destination) = datagram.address_places();
    let (address_at, port_at) = match side {
        Side::Source => (source, 0),
        Side::Destination => (destination, 2),
    };
    put_address(&mut out, address_at, end.ip());
    if let Some(ports) = ports {
        put_word(&mut out, ports + port_at, end.port());
        let covered = |frame: &[u8]| sum(addresses(frame, datagram)) + sum(&frame[ports..ports + 4]);
        let (before, after) = (covered(frame), covered(&out));
        let check = ports + if datagram.protocol == TCP { 16 } else { 6 };
        let old = word(frame, check).expect("the header is whole");
        let carry = if datagram.protocol == TCP { carried } else { carried_udp };
        put_word(&mut out, check, carry(old, before, after));
    }
    mend_header(&mut out, frame, datagram);
    out
}

/// The frame on its way to the next hop: Ethernet addresses, and a time to live lower by one.
pub(super) fn leave(frame: &mut [u8], datagram: &Datagram, hop: Hop) {
    let before = frame.to_vec();
    frame[..6].copy_from_slice(&hop.neighbour);
    frame[6..12].copy_from_slice(&hop.own);
    frame[ETHERNET + if datagram.is_ipv6 { 7 } else { 8 }] = datagram.ttl - 1;
    mend_header(frame, &before, datagram);
}
