//! What a frame holds, by the offsets of RFC 791, 8200, 768 and 9293.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of an Ethernet header.
pub(super) const ETHERNET: usize = 14;
/// Kind of frame: IPv4.
pub(super) const IPV4: u16 = 0x0800;
/// Kind of frame: IPv6.
pub(super) const IPV6: u16 = 0x86dd;
/// Kind of frame: ARP.
pub(super) const ARP: u16 = 0x0806;
/// Protocol numbers.
pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;

/// Extension headers of IPv6 that are followed: so many, and up to here in the frame.
const MOST_EXTENSIONS: usize = 8;
const FARTHEST_EXTENSION: usize = 1_024;

/// A byte of a frame.
pub(super) fn byte(frame: &[u8], at: usize) -> Option<u8> {
    frame.get(at).copied()
}

/// Two bytes of a frame.
pub(super) fn word(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().expect("two bytes")))
}

/// Four bytes of a frame.
pub(super) fn long(frame: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(frame.get(at..at + 4)?.try_into().expect("four bytes")))
}

/// An address of either family.
pub(super) fn address(frame: &[u8], at: usize, is_ipv6: bool) -> Option<IpAddr> {
    Some(if is_ipv6 {
        Ipv6Addr::from(<[u8; 16]>::try_from(frame.get(at..at + 16)?).expect("16 bytes")).into()
    } else {
        Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).expect("four bytes")).into()
    })
}

/// Of what datagram this is a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The datagram's number.
    pub(super) number: u32,
    /// Its protocol, as each piece tells it.
    pub(super) protocol: u8,
    /// Whether it is not the first one.
    pub(super) is_later: bool,
}

/// The headers of IP in a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Datagram {
    pub(super) is_ipv6: bool,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) ttl: u8,
    /// What lies behind all headers of IP.
    pub(super) protocol: u8,
    /// Where that begins in the frame; none where the headers are broken.
    pub(super) behind: Option<usize>,
    /// Where the datagram ends in the frame, as it says itself.
    pub(super) end: usize,
    /// If it is a piece.
    pub(super) piece: Option<Piece>,
    /// Whether routers may cut it.
    pub(super) may_be_cut: bool,
    /// Where the headers would end without options or extension headers.
    pub(super) least: usize,
}

impl Datagram {
    /// Its length, header included.
    pub(super) fn length(&self) -> usize {
        self.end - ETHERNET
    }

    /// Whether it is a later piece.
    pub(super) fn is_later_piece(&self) -> bool {
        self.piece.is_some_and(|piece| piece.is_later)
    }

    /// Whether the frame holds all of it, and it holds its headers and some bytes behind them.
    pub(super) fn is_whole(&self, frame: &[u8], bytes: usize) -> bool {
        self.behind.is_some_and(|behind| self.end >= behind + bytes) && self.end <= frame.len()
    }

    /// Whether its protocol has ports.
    pub(super) fn has_ports(&self) -> bool {
        self.protocol == TCP || self.protocol == UDP
    }

    /// The number of its family's ICMP.
    pub(super) fn icmp(&self) -> u8 {
        if self.is_ipv6 { ICMPV6 } else { ICMP }
    }

    /// Where its addresses lie.
    pub(super) fn address_places(&self) -> (usize, usize) {
        if self.is_ipv6 { (ETHERNET + 8, ETHERNET + 24) } else { (ETHERNET + 12, ETHERNET + 16) }
    }

    /// The datagram in a frame of a kind; none where the frame is too short to say whom it is for.
    pub(super) fn of(frame: &[u8], kind: u16) -> Option<Self> {
        if kind == IPV6 { Self::of_ipv6(frame) } else { Self::of_ipv4(frame) }
    }

    fn of_ipv4(frame: &[u8]) -> Option<Self> {
        let destination = address(frame, ETHERNET + 16, false)?;
        let first = byte(frame, ETHERNET)?;
        let (flags, protocol) = (word(frame, ETHERNET + 6)?, byte(frame, ETHERNET + 9)?);
        let words = usize::from(first & 15);
        let (more, offset) = (flags & 0x2000 != 0, flags & 0x1fff);
        let number = u32::from(word(frame, ETHERNET + 4)?);
        Some(Self {
            is_ipv6: false,
            source: address(frame, ETHERNET + 12, false)?,
            destination,
            ttl: byte(frame, ETHERNET + 8)?,
            protocol,
            behind: (first >> 4 == 4 && words >= 5).then_some(ETHERNET + 4 * words),
            end: ETHERNET + usize::from(word(frame, ETHERNET + 2)?),
            piece: (more || offset != 0).then_some(Piece { number, protocol, is_later: offset != 0 }),
            may_be_cut: flags & 0x4000 == 0,
            least: ETHERNET + 20,
        })
    }

    fn of_ipv6(frame: &[u8]) -> Option<Self> {
        let destination = address(frame, ETHERNET + 24, true)?;
        let is_sound = byte(frame, ETHERNET)? >> 4 == 6;
        let chain = if is_sound { Chain::of(frame) } else { None };
        Some(Self {
            is_ipv6: true,
            source: address(frame, ETHERNET + 8, true)?,
            destination,
            ttl: byte(frame, ETHERNET + 7)?,
            protocol: chain.map_or(0, |chain| chain.protocol),
            behind: chain.map(|chain| chain.behind),
            end: ETHERNET + 40 + usize::from(word(frame, ETHERNET + 4)?),
            piece: chain.and_then(|chain| chain.piece),
            may_be_cut: false,
            least: ETHERNET + 40,
        })
    }
}

/// The extension headers of IPv6 (RFC 8200, section 4; RFC 4302, section 2.2).
#[derive(Clone, Copy)]
struct Chain {
    behind: usize,
    protocol: u8,
    piece: Option<Piece>,
}

impl Chain {
    /// None where the chain is broken.
    fn of(frame: &[u8]) -> Option<Self> {
        let (mut protocol, mut at) = (byte(frame, ETHERNET + 6)?, ETHERNET + 40);
        let (mut piece, mut has_fragment_header) = (None, false);
        for _ in 0..=MOST_EXTENSIONS {
            let is_extension = matches!(protocol, 0 | 43 | 44 | 51 | 60);
            if !is_extension {
                return Some(Self { behind: at, protocol, piece });
            }
            let header = frame.get(at..at + 8)?;
            let units = usize::from(header[1]);
            at += match protocol {
                44 => 8,
                51 => 4 * (units + 2),
                _ => 8 * (units + 1),
            };
            if at > FARTHEST_EXTENSION || (protocol == 43 && header[3] != 0) || (protocol == 44 && has_fragment_header)
            {
                return None;
            }
            if protocol == 44 {
                has_fragment_header = true;
                let (place, number) = (word(header, 2)?, long(header, 4)?);
                let is_later = place & 0xfff8 != 0;
                piece = (place & 0xfff9 != 0).then_some(Piece { number, protocol: header[0], is_later });
                if is_later {
                    return Some(Self { behind: at, protocol: header[0], piece });
                }
            }
            protocol = header[0];
        }
        None
    }
}

/// The ends of a TCP segment or a UDP datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    /// Where the ports lie.
    pub(super) at: usize,
}

impl Ends {
    /// None where the frame does not hold the eight bytes that TCP and UDP both begin with.
    pub(super) fn of(frame: &[u8], datagram: &Datagram) -> Option<Self> {
        if !datagram.has_ports() || datagram.is_later_piece() {
            return None;
        }
        let at = datagram.behind?;
        frame.get(at..at + 8)?;
        let source = SocketAddr::new(datagram.source, word(frame, at)?);
        Some(Self { source, destination: SocketAddr::new(datagram.destination, word(frame, at + 2)?), at })
    }
}
