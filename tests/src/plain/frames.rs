//! Frames as the fuzz draws them: packets between ends of which most are known to the program, then changed.

use std::net::SocketAddr;

use grayxdp::model::config::Protocol;

use super::{
    drafts::{Body, Draft},
    mutations::Mutation,
    read::{ARP, ETHERNET},
    world::{Interface, World},
};
use crate::random::Random;

/// A frame and how it came about.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// Index of the interface at which it arrives.
    pub came: u32,
    /// The frame before it was changed.
    pub right: Vec<u8>,
    /// What is changed in it, one after another.
    pub mutations: Vec<Mutation>,
    /// The longest frame that the interface lets in.
    longest: usize,
}

impl Drawn {
    /// The frame.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = self.right.clone();
        self.mutations.iter().for_each(|mutation| mutation.apply(&mut frame));
        frame.truncate(self.longest);
        frame
    }

    /// The same without some of its changes.
    #[must_use]
    pub fn without(&self, index: usize) -> Self {
        let mut other = self.clone();
        other.mutations.remove(index);
        other
    }
}

/// Draws a frame of a world in which clients, neighbours and others are `strangers`.
pub fn draw(random: &mut Random, world: &World, strangers: &[SocketAddr]) -> Drawn {
    let interface = world.interfaces[usize::from(random.below(8) == 0).min(world.interfaces.len() - 1)];
    let is_ipv6 = random.below(5) < 2;
    let strangers: Vec<SocketAddr> = strangers.iter().copied().filter(|end| end.is_ipv6() == is_ipv6).collect();
    let hand = Hand { world, interface, is_ipv6, strangers };
    let right = hand.frame(random);
    let count = random.pick(&[0, 0, 0, 0, 0, 1, 1, 1, 2, 4]);
    let mutations = (0..count).map(|_| Mutation::draw(random, right.len())).collect();
    Drawn { came: interface.index, right, mutations, longest: ETHERNET + interface.mtu }
}

/// What a frame is drawn from.
struct Hand<'a> {
    world: &'a World,
    interface: Interface,
    is_ipv6: bool,
    strangers: Vec<SocketAddr>,
}

impl Hand<'_> {
    fn frame(&self, random: &mut Random) -> Vec<u8> {
        match random.below(100) {
            0..2 => {
                let length = ETHERNET + random.below(200);
                random.bytes(length)
            }
            2..5 if self.is_ipv6 => self.solicitation(random),
            2..5 => self.arp(random),
            5..9 => self.echo(random).bytes(),
            9..12 => {
                let (from, to) = (self.stranger(random), self.virtual_end(random).0);
                let mut draft = self.between(random, from, to, Protocol::Tcp);
                draft.body = Body::Other(random.pick(&[0, 1, 2, 4, 41, 47, 50, 51, 58, 59, 60, 132, 255]));
                draft.bytes()
            }
            12..24 => self.error(random),
            24..28 => {
                let all = [self.stranger(random), self.virtual_end(random).0, self.stranger(random)];
                let (from, to) = (random.pick(&all), random.pick(&all));
                self.between(random, from, to, Protocol::Tcp).bytes()
            }
            28..50 => self.reply(random).bytes(),
            _ => self.question(random).bytes(),
        }
    }

    fn stranger(&self, random: &mut Random) -> SocketAddr {
        random.pick(&self.strangers)
    }

    /// A virtual endpoint and its protocol.
    fn virtual_end(&self, random: &mut Random) -> (SocketAddr, Protocol) {
        let of_family = |service: &&super::world::Service| service.vip.is_ipv6() == self.is_ipv6;
        let services: Vec<_> = self.world.services.iter().filter(of_family).collect();
        let service = services[random.below(services.len())];
        (service.vip, service.protocol)
    }

    /// A virtual endpoint, its protocol and the endpoint of its backend.
    fn backend_end(&self, random: &mut Random) -> (SocketAddr, Protocol, SocketAddr) {
        loop {
            let (vip, protocol) = self.virtual_end(random);
            let service = self.world.services.iter().find(|service| service.vip == vip && service.protocol == protocol);
            if let Some(backend) = service.and_then(|service| service.backend) {
                return (vip, protocol, backend.end);
            }
        }
    }

    /// What a client asks; sometimes at another port.
    fn question(&self, random: &mut Random) -> Draft {
        let (mut vip, protocol) = self.virtual_end(random);
        if random.below(10) == 0 {
            vip.set_port(random.pick(&[0, 22, 81, 443, 33_434, 8_081]));
        }
        let client = self.stranger(random);
        self.between(random, client, vip, protocol)
    }

    /// What a backend answers; sometimes from another port.
    fn reply(&self, random: &mut Random) -> Draft {
        let (_, protocol, mut end) = self.backend_end(random);
        if random.below(15) == 0 {
            end.set_port(22);
        }
        let client = self.stranger(random);
        self.between(random, end, client, protocol)
    }

    fn echo(&self, random: &mut Random) -> Draft {
        let mut draft = self.question(random);
        let kind = if self.is_ipv6 { 128 } else { 8 };
        draft.body = Body::Icmp { kind, code: u8::from(random.below(20) == 0), rest: random.next() as u32 };
        draft
    }

    /// An ICMP error about what a backend answered or a client asked, as it was on its way.
    fn error(&self, random: &mut Random) -> Vec<u8> {
        let about_reply = random.below(2) == 0;
        let (vip, protocol, backend) = self.backend_end(random);
        let client = self.stranger(random);
        let mut inner = if about_reply {
            self.between(random, vip, client, protocol)
        } else {
            self.between(random, client, backend, protocol)
        };
        inner.padding.clear();
        let sender = if random.below(4) == 0 { inner.destination } else { self.stranger(random) };
        let mut draft = self.between(random, sender, inner.source, protocol);
        let kind = if self.is_ipv6 { random.pick(&[1, 2, 3, 4]) } else { random.pick(&[3, 3, 11, 12, 5]) };
        draft.body = Body::Icmp { kind, code: random.pick(&[0, 1, 3, 4]), rest: random.pick(&[0, 1_400]) };
        let whole = inner.bytes();
        let least = ETHERNET + if self.is_ipv6 { 48 } else { 28 };
        let length = if random.below(3) == 0 { whole.len() } else { least + random.below(30) };
        draft.payload = whole[ETHERNET..length.min(whole.len())].to_vec();
        draft.bytes()
    }

    fn arp(&self, random: &mut Random) -> Vec<u8> {
        let octets = |end: SocketAddr| match end.ip() {
            std::net::IpAddr::V4(address) => address.octets(),
            std::net::IpAddr::V6(_) => [0; 4],
        };
        let sender = [2, 0, 0, 0, 0xee, 1];
        let mut frame = [&[0xff; 6][..], &sender[..], &ARP.to_be_bytes()[..], &[0, 1, 8, 0, 6, 4, 0, 1][..]].concat();
        frame.extend(sender);
        frame.extend(octets(self.stranger(random)));
        frame.extend([0; 6]);
        frame.extend(octets(self.virtual_end(random).0));
        frame.extend(vec![0; random.pick(&[0, 18])]);
        frame
    }

    fn solicitation(&self, random: &mut Random) -> Vec<u8> {
        let (asker, target) = (self.stranger(random), self.virtual_end(random).0);
        let mut draft = self.between(random, asker, target, Protocol::Tcp);
        draft.macs.0 = [0x33, 0x33, 0xff, 0, 0, 0x10];
        draft.extensions.clear();
        (draft.more, draft.offset, draft.ttl) = (false, 0, 255);
        draft.body = Body::Icmp { kind: 135, code: 0, rest: 0 };
        draft.payload = match target.ip() {
            std::net::IpAddr::V4(_) => Vec::new(),
            std::net::IpAddr::V6(address) => address.octets().to_vec(),
        };
        if random.below(2) == 0 {
            draft.payload.extend([1, 1, 2, 0, 0, 0, 0xee, 1]);
        }
        draft.bytes()
    }

    /// A packet between two ends, with what it may carry besides.
    fn between(&self, random: &mut Random, source: SocketAddr, destination: SocketAddr, protocol: Protocol) -> Draft {
        let is_piece = random.below(6) == 0;
        let offset = if is_piece && random.below(3) > 0 { random.pick(&[1, 185, 0x1fff]) } else { 0 };
        let length = if random.below(25) == 0 { 1_300 + random.below(140) } else { random.below(80) };
        let protocol = if random.below(30) == 0 { random.pick(&[Protocol::Tcp, Protocol::Udp]) } else { protocol };
        let extensions = if self.is_ipv6 && random.below(6) == 0 { self.extensions(random) } else { Vec::new() };
        Draft {
            macs: (self.interface.mac, [2, 0xbb, 0, 1, 0, 0xfe]),
            source,
            destination,
            ttl: if is_piece {
                random.pick(&[1, 64, 64, 64, 64, 64])
            } else {
                random.pick(&[0, 1, 1, 2, 64, 64, 64, 64, 255])
            },
            service_byte: random.pick(&[0, 0, 0xb8, 0xff]),
            number: random.below(2) as u32,
            offset,
            more: is_piece && (offset == 0 || random.below(2) == 0),
            may_be_cut: random.below(2) == 0,
            options: if !self.is_ipv6 && random.below(12) == 0 {
                vec![1; 4 * (1 + random.below(10))]
            } else {
                Vec::new()
            },
            fragment_at: random.below(extensions.len() + 1),
            extensions,
            body: self.body(random, protocol),
            payload: random.bytes(length),
            padding: vec![0xee; random.pick(&[0, 0, 0, 0, 7])],
        }
    }

    fn body(&self, random: &mut Random, protocol: Protocol) -> Body {
        match protocol {
            Protocol::Tcp => Body::Tcp {
                flags: if random.below(8) == 0 {
                    random.next() as u8 & 0x3f
                } else {
                    random.pick(&[0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x14])
                },
                sequence: if random.below(6) == 0 { 0 } else { random.next() as u32 },
                acknowledged: random.next() as u32,
                options: vec![1; 4 * random.pick(&[0, 0, 0, 3, 10])],
                window: random.pick(&[0, 0x2000]),
            },
            Protocol::Udp => Body::Udp { has_sum: random.below(6) > 0 },
        }
    }

    fn extensions(&self, random: &mut Random) -> Vec<(u8, Vec<u8>)> {
        const ROUTING: u8 = 43;
        const AUTHENTICATION: u8 = 51;
        let count = random.pick(&[1, 1, 1, 2, 3, 7, 8, 9]);
        let one = |random: &mut Random| {
            let kind = random.pick(&[0, ROUTING, AUTHENTICATION, 60, 60]);
            let mut rest = vec![0; random.pick(&[6, 6, 14, 22, 254])];
            if kind == ROUTING && random.below(10) == 0 {
                rest[1] = 1;
            }
            (kind, rest)
        };
        (0..count).map(|_| one(random)).collect()
    }
}
