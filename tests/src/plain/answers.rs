//! What the program answers by itself: echo replies, RSTs, ICMP errors; and how often.

use std::net::IpAddr;

use grayxdp::model::kernel::Reason;

use super::{
    model::{Arrived, Judged, Model, addresses},
    read::{Datagram, ETHERNET, Ends, ICMP, ICMPV6, IPV4, IPV6, TCP, byte, long, word},
    rewrite::{mend_header, put_address, put_word},
    sums::{carried, checksum, pseudo, sum},
    world::Service,
};

/// Kinds of answers that are limited each by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An ICMP error about a packet on its way.
    Error,
    /// What says that a port is closed.
    Refusal,
    Echo,
    /// Who has an address.
    Neighbour,
}

/// A thousand answers of a kind a second, and a quarter of a second's at once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meters {
    due_ns: [u64; 4],
}

impl Meters {
    /// Whether one more is not too many; it is counted as given.
    pub(super) fn allow(&mut self, kind: Kind, now_ns: u64) -> bool {
        const INTERVAL_NS: u64 = 1_000_000;
        const BURST_NS: u64 = 250_000_000;
        let due = &mut self.due_ns[kind as usize];
        let next = now_ns.max(*due) + INTERVAL_NS;
        let allows = next <= now_ns + BURST_NS;
        if allows {
            *due = next;
        }
        allows
    }
}

/// An ICMP message: type, code, and the word behind the checksum.
struct Message(u8, u8, u32);

impl Model {
    /// A packet whose time to live ends here.
    pub(super) fn expire(
        &mut self,
        arrived: &Arrived<'_>,
        datagram: &Datagram,
        ends: &Ends,
        service: &Service,
    ) -> Judged {
        let message = if datagram.is_ipv6 { Message(3, 0, 0) } else { Message(11, 0, 0) };
        let reasons = (Reason::TimeExceeded, Reason::TtlExpired);
        let from = self.own_address(arrived, datagram);
        self.tell(arrived, (datagram, ends), service, from, message, Kind::Error, reasons)
    }

    /// A packet that is longer than its next link takes.
    pub(super) fn say_too_big(
        &mut self,
        arrived: &Arrived<'_>,
        datagram: &Datagram,
        ends: &Ends,
        service: &Service,
        mtu: usize,
    ) -> Judged {
        let message = if datagram.is_ipv6 { Message(2, 0, mtu as u32) } else { Message(3, 4, mtu as u32) };
        let reasons = (Reason::FragmentationNeeded, Reason::TooBig);
        let from = self.own_address(arrived, datagram);
        self.tell(arrived, (datagram, ends), service, from, message, Kind::Error, reasons)
    }

    /// A packet for a port of a virtual address that no service has.
    pub(super) fn refuse(
        &mut self,
        arrived: &Arrived<'_>,
        datagram: &Datagram,
        ends: &Ends,
        service: &Service,
    ) -> Judged {
        if datagram.protocol != TCP {
            let message = if datagram.is_ipv6 { Message(1, 4, 0) } else { Message(3, 3, 0) };
            let reasons = (Reason::PortClosed, Reason::NoService);
            return self.tell(
                arrived,
                (datagram, ends),
                service,
                datagram.destination,
                message,
                Kind::Refusal,
                reasons,
            );
        }
        let Some(answer) = reset(arrived.frame, datagram, ends) else {
            return Judged::dropped(service.id, Reason::NoService);
        };
        if self.meters.allow(Kind::Refusal, arrived.now_ns) {
            Judged::answered(arrived, answer, service.id, Reason::PortClosed)
        } else {
            Judged::dropped(service.id, Reason::AnswerLimited)
        }
    }

    /// An echo request for a virtual address; none if it is no such that is answered.
    pub(super) fn echo(&mut self, arrived: &Arrived<'_>, datagram: &Datagram, service: &Service) -> Option<Judged> {
        let (frame, icmp) = (arrived.frame, datagram.behind?);
        let (request, reply) = if datagram.is_ipv6 { (128, 129) } else { (8, 0) };
        let has_extensions = datagram.is_ipv6 && icmp != datagram.least;
        let is_request = datagram.protocol == datagram.icmp()
            && datagram.piece.is_none()
            && !has_extensions
            && datagram.is_whole(frame, 8)
            && word(frame, icmp) == Some(request << 8);
        if !is_request || !is_answerable(frame, datagram) {
            return None;
        }
        if !self.meters.allow(Kind::Echo, arrived.now_ns) {
            return Some(Judged::dropped(service.id, Reason::AnswerLimited));
        }
        let mut out = turned(frame);
        let (source, destination) = datagram.address_places();
        put_address(&mut out, source, datagram.destination);
        put_address(&mut out, destination, datagram.source);
        out[ETHERNET + if datagram.is_ipv6 { 7 } else { 8 }] = 64;
        mend_header(&mut out, frame, datagram);
        out[icmp] = reply;
        let fresh = carried(word(frame, icmp + 2)?, sum(&frame[icmp..icmp + 2]), sum(&out[icmp..icmp + 2]));
        put_word(&mut out, icmp + 2, fresh);
        Some(Judged::answered(arrived, out, service.id, Reason::Echo))
    }

    /// The address that errors come from: that of the interface at which the packet arrived.
    fn own_address(&self, arrived: &Arrived<'_>, datagram: &Datagram) -> IpAddr {
        let own = self.world.interface(arrived.came);
        own.map_or(datagram.destination, |interface| if datagram.is_ipv6 { interface.ipv6 } else { interface.ipv4 })
    }

    /// An ICMP error about a packet, if it may be: `reasons` are what it counts as if answered, and if not.
    #[expect(clippy::too_many_arguments, reason = "who says what to whom about what, and what is counted")]
    fn tell(
        &mut self,
        arrived: &Arrived<'_>,
        (datagram, ends): (&Datagram, &Ends),
        service: &Service,
        from: IpAddr,
        message: Message,
        kind: Kind,
        reasons: (Reason, Reason),
    ) -> Judged {
        if !may_be_told(arrived.frame, datagram, ends) {
            return Judged::dropped(service.id, reasons.1);
        }
        if !self.meters.allow(kind, arrived.now_ns) {
            return Judged::dropped(service.id, Reason::AnswerLimited);
        }
        let answer = if datagram.is_ipv6 {
            error6(arrived.frame, datagram, from, &message)
        } else {
            error4(arrived.frame, datagram, from, &message)
        };
        Judged::answered(arrived, answer, service.id, reasons.0)
    }
}

/// Whether anything may be answered (RFC 1122, section 3.2.2; RFC 4443, section 2.4).
fn is_answerable(frame: &[u8], datagram: &Datagram) -> bool {
    let is_one = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets()[0] < 224,
        IpAddr::V6(address) => !address.is_multicast(),
    };
    let is_somebody = match datagram.source {
        IpAddr::V4(source) => !matches!(source.octets()[0], 0 | 127),
        IpAddr::V6(source) => !source.is_unspecified() && !source.is_loopback(),
    };
    frame[0] & 1 == 0 && is_one(datagram.source) && is_one(datagram.destination) && is_somebody
}

/// Whether an ICMP error may be sent about a packet: not about RSTs, nor about what has IPv4 options.
fn may_be_told(frame: &[u8], datagram: &Datagram, ends: &Ends) -> bool {
    let has_options = !datagram.is_ipv6 && datagram.behind != Some(datagram.least);
    let is_reset = datagram.protocol == TCP && (frame.len() < ends.at + 20 || frame[ends.at + 13] & 4 != 0);
    !has_options && !is_reset && datagram.is_whole(frame, 8) && is_answerable(frame, datagram)
}

/// A frame that goes back where another one came from.
fn turned(frame: &[u8]) -> Vec<u8> {
    let mut out = frame.to_vec();
    out[..6].copy_from_slice(&frame[6..12]);
    out[6..12].copy_from_slice(&frame[..6]);
    out
}

/// Ethernet and an IP header of this host's own, to who sent a packet.
fn headed(frame: &[u8], datagram: &Datagram, from: IpAddr, protocol: u8, body: &[u8], service_byte: u8) -> Vec<u8> {
    let mut out = turned(&frame[..12]);
    match (from, datagram.source) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.extend(IPV4.to_be_bytes());
            let start = out.len();
            out.extend([0x45, service_byte]);
            out.extend(((20 + body.len()) as u16).to_be_bytes());
            out.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
            out.extend(from.octets());
            out.extend(to.octets());
            let check = checksum(sum(&out[start..]));
            put_word(&mut out, start + 10, check);
        }
        (from, to) => {
            out.extend(IPV6.to_be_bytes());
            out.extend([0x60, 0, 0, 0]);
            out.extend((body.len() as u16).to_be_bytes());
            out.extend([protocol, 64]);
            out.extend([0; 32]);
            put_address(&mut out, ETHERNET + 8, from);
            put_address(&mut out, ETHERNET + 24, to);
        }
    }
    out.extend_from_slice(body);
    out
}

/// An ICMP error repeats the IPv4 header and eight bytes (RFC 792).
fn error4(frame: &[u8], datagram: &Datagram, from: IpAddr, message: &Message) -> Vec<u8> {
    const INTERNETWORK_CONTROL: u8 = 0xc0;
    let mut body = icmp_head(message);
    body.extend_from_slice(&frame[ETHERNET..ETHERNET + 28]);
    let check = checksum(sum(&body));
    put_word(&mut body, 2, check);
    headed(frame, datagram, from, ICMP, &body, INTERNETWORK_CONTROL)
}

/// An ICMPv6 error repeats the longest of some beginnings that the packet has.
fn error6(frame: &[u8], datagram: &Datagram, from: IpAddr, message: &Message) -> Vec<u8> {
    const BEGINNINGS: [usize; 5] = [512, 256, 128, 64, 48];
    let length = BEGINNINGS.into_iter().find(|length| *length <= datagram.length()).unwrap_or(0);
    let mut body = icmp_head(message);
    body.extend_from_slice(&frame[ETHERNET..ETHERNET + length]);
    let mut out = headed(frame, datagram, from, ICMPV6, &body, 0);
    let at = ETHERNET + 40;
    let check = checksum(pseudo(&out[ETHERNET + 8..at], ICMPV6, body.len()) + sum(&body));
    put_word(&mut out, at + 2, check);
    out
}

fn icmp_head(Message(kind, code, rest): &Message) -> Vec<u8> {
    let mut head = vec![*kind, *code, 0, 0];
    head.extend(rest.to_be_bytes());
    head
}

/// The RST that answers a segment (RFC 9293, section 3.10.7.1); none where it is not answered: a RST, options, a header that
/// contradicts itself.
fn reset(frame: &[u8], datagram: &Datagram, ends: &Ends) -> Option<Vec<u8>> {
    let at = ends.at;
    let bits = byte(frame, at + 13)?;
    let header = 4 * usize::from(byte(frame, at + 12)? >> 4);
    if bits & 4 != 0
        || at != datagram.least
        || header < 20
        || at + header > datagram.end
        || !is_answerable(frame, datagram)
    {
        return None;
    }
    let taken = (datagram.end - at - header) as u32 + u32::from(bits >> 1 & 1) + u32::from(bits & 1);
    let (sequence, acknowledged, flags) = if bits & 16 != 0 {
        (long(frame, at + 8)?, 0, 4)
    } else {
        (0, long(frame, at + 4)?.wrapping_add(taken), 4 | 16)
    };
    let mut body = Vec::with_capacity(20);
    body.extend(ends.destination.port().to_be_bytes());
    body.extend(ends.source.port().to_be_bytes());
    body.extend(sequence.to_be_bytes());
    body.extend(acknowledged.to_be_bytes());
    body.extend([5 << 4, flags, 0, 0, 0, 0, 0, 0]);
    let check = checksum(pseudo(addresses(frame, datagram), TCP, 20) + sum(&body));
    put_word(&mut body, 16, check);
    Some(headed(frame, datagram, datagram.destination, TCP, &body, 0))
}
