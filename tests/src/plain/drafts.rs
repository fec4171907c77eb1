//! Packets of both families before they are bytes.

use std::net::{IpAddr, SocketAddr};

use super::{
    read::{ETHERNET, ICMP, ICMPV6, IPV4, IPV6, TCP, UDP},
    rewrite::put_word,
    sums::{checksum, pseudo, sum},
};
use crate::packet::Mac;

/// What lies behind the headers of IP.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Tcp { flags: u8, sequence: u32, acknowledged: u32, options: Vec<u8>, window: u16 },
    Udp { has_sum: bool },
    Icmp { kind: u8, code: u8, rest: u32 },
    Other(u8),
}

/// A packet in an Ethernet frame.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    /// Receiver and sender.
    pub(super) macs: (Mac, Mac),
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) ttl: u8,
    pub(super) service_byte: u8,
    pub(super) number: u32,
    /// In units of eight bytes.
    pub(super) offset: u16,
    pub(super) more: bool,
    pub(super) may_be_cut: bool,
    /// Options of IPv4.
    pub(super) options: Vec<u8>,
    /// Extension headers of IPv6: their kinds and what follows their first two bytes, a multiple of eight less two.
    pub(super) extensions: Vec<(u8, Vec<u8>)>,
    /// Where among them the fragment header lies.
    pub(super) fragment_at: usize,
    pub(super) body: Body,
    pub(super) payload: Vec<u8>,
    pub(super) padding: Vec<u8>,
}

impl Draft {
    fn is_piece(&self) -> bool {
        self.more || self.offset != 0
    }

    fn protocol(&self) -> u8 {
        match self.body {
            Body::Tcp { .. } => TCP,
            Body::Udp { .. } => UDP,
            Body::Icmp { .. } => {
                if self.source.is_ipv6() {
                    ICMPV6
                } else {
                    ICMP
                }
            }
            Body::Other(number) => number,
        }
    }

    /// The frame, its checksums right; those of pieces are of the piece alone.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let body = self.body_bytes();
        let mut frame = [self.macs.0, self.macs.1].concat();
        if self.source.is_ipv6() {
            self.put_ipv6(&mut frame, body.len());
        } else {
            self.put_ipv4(&mut frame, body.len());
        }
        frame.extend_from_slice(&body);
        frame.extend_from_slice(&self.padding);
        frame
    }

    fn put_ipv4(&self, frame: &mut Vec<u8>, length: usize) {
        frame.extend(IPV4.to_be_bytes());
        let header = 20 + self.options.len();
        let cut = if self.may_be_cut || self.is_piece() { 0 } else { 0x4000 };
        let flags = self.offset | cut | if self.more { 0x2000 } else { 0 };
        frame.extend([0x40 | (header / 4) as u8, self.service_byte]);
        frame.extend(((header + length) as u16).to_be_bytes());
        frame.extend((self.number as u16).to_be_bytes());
        frame.extend(flags.to_be_bytes());
        frame.extend([self.ttl, self.protocol(), 0, 0]);
        frame.extend(self.addresses());
        frame.extend_from_slice(&self.options);
        let check = checksum(sum(&frame[ETHERNET..]));
        put_word(frame, ETHERNET + 10, check);
    }

    fn put_ipv6(&self, frame: &mut Vec<u8>, length: usize) {
        frame.extend(IPV6.to_be_bytes());
        let mut headers = self.extensions.clone();
        if self.is_piece() {
            const FRAGMENT: u8 = 44;
            let word = self.offset << 3 | u16::from(self.more);
            let rest = [&word.to_be_bytes()[..], &self.number.to_be_bytes()[..]].concat();
            headers.insert(self.fragment_at.min(headers.len()), (FRAGMENT, rest));
        }
        let extensions: usize = headers.iter().map(|(_, rest)| rest.len() + 2).sum();
        let first = headers.first().map_or(self.protocol(), |(kind, _)| *kind);
        frame.extend([0x60 | self.service_byte >> 4, self.service_byte << 4, 0x12, 0x34]);
        frame.extend(((extensions + length) as u16).to_be_bytes());
        frame.extend([first, self.ttl]);
        frame.extend(self.addresses());
        for (index, (kind, rest)) in headers.iter().enumerate() {
            const AUTHENTICATION: u8 = 51;
            let next = headers.get(index + 1).map_or(self.protocol(), |(kind, _)| *kind);
            let size = rest.len() + 2;
            let units = match *kind {
                44 => 0,
                AUTHENTICATION => size / 4 - 2,
                _ => size / 8 - 1,
            };
            frame.extend([next, units as u8]);
            frame.extend_from_slice(rest);
        }
    }

    fn addresses(&self) -> Vec<u8> {
        let octets = |address: IpAddr| match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        [octets(self.source.ip()), octets(self.destination.ip())].concat()
    }

    fn body_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(40 + self.payload.len());
        let ports = [self.source.port().to_be_bytes(), self.destination.port().to_be_bytes()].concat();
        let check_at = match &self.body {
            Body::Tcp { flags, sequence, acknowledged, options, window } => {
                bytes.extend(ports);
                bytes.extend(sequence.to_be_bytes());
                bytes.extend(acknowledged.to_be_bytes());
                bytes.extend([(((20 + options.len()) / 4) << 4) as u8, *flags]);
                bytes.extend(window.to_be_bytes());
                bytes.extend([0; 4]);
                bytes.extend_from_slice(options);
                Some(16)
            }
            Body::Udp { has_sum } => {
                bytes.extend(ports);
                bytes.extend(((8 + self.payload.len()) as u16).to_be_bytes());
                bytes.extend([0, 0]);
                has_sum.then_some(6)
            }
            Body::Icmp { kind, code, rest } => {
                bytes.extend([*kind, *code, 0, 0]);
                bytes.extend(rest.to_be_bytes());
                Some(2)
            }
            Body::Other(_) => None,
        };
        bytes.extend_from_slice(&self.payload);
        if let Some(at) = check_at {
            let covers_addresses = self.source.is_ipv6() || !matches!(self.body, Body::Icmp { .. });
            let head = if covers_addresses { pseudo(&self.addresses(), self.protocol(), bytes.len()) } else { 0 };
            let check = match checksum(head + sum(&bytes)) {
                0 if matches!(self.body, Body::Udp { .. }) => 0xffff,
                check => check,
            };
            put_word(&mut bytes, at, check);
        }
        bytes
    }
}
