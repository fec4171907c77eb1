//! Who has an announced virtual address: ARP (RFC 826) and neighbour discovery (RFC 4861).

use std::net::{IpAddr, Ipv6Addr};

use grayxdp::model::kernel::Reason;

use super::{
    answers::Kind,
    model::{Arrived, Judged, Model},
    read::{Datagram, ETHERNET, ICMPV6, IPV6, address, word},
    rewrite::{put_address, put_word},
    sums::{checksum, pseudo, sum},
};
use crate::packet::Mac;

/// An ARP frame.
pub(super) fn arp(model: &mut Model, arrived: &Arrived<'_>) -> Judged {
    announced(model, arrived).unwrap_or_else(|| Judged::untouched(arrived))
}

fn announced(model: &mut Model, arrived: &Arrived<'_>) -> Option<Judged> {
    let frame = arrived.frame;
    let packet = frame.get(ETHERNET..ETHERNET + 28)?;
    // Ethernet, IPv4, their lengths, a request.
    if packet[..8] != [0, 1, 8, 0, 6, 4, 0, 1] || packet[14..18] == packet[24..28] {
        return None;
    }
    let service = *model.world.service_of(address(packet, 24, false)?).filter(|service| service.is_announced)?;
    let own = model.world.interface(arrived.came)?.mac;
    if !model.meters.allow(Kind::Neighbour, arrived.now_ns) {
        return Some(Judged::dropped(service.id, Reason::AnswerLimited));
    }
    let mut out = frame.to_vec();
    out[..6].copy_from_slice(&packet[8..14]);
    out[6..12].copy_from_slice(&own);
    let reply = &mut out[ETHERNET..ETHERNET + 28];
    reply[7] = 2;
    reply[8..14].copy_from_slice(&own);
    reply[14..18].copy_from_slice(&packet[24..28]);
    reply[18..28].copy_from_slice(&packet[8..18]);
    Some(Judged::answered(arrived, out, service.id, Reason::Arp))
}

/// A neighbour solicitation for a virtual address; none if it is none.
pub(super) fn solicited(model: &mut Model, arrived: &Arrived<'_>, datagram: &Datagram) -> Option<Judged> {
    let frame = arrived.frame;
    let at = datagram.behind?;
    let is_solicitation = datagram.protocol == ICMPV6
        && datagram.is_ipv6
        && at == datagram.least
        && datagram.ttl == 255
        && datagram.is_whole(frame, 24)
        && word(frame, at) == Some(135 << 8);
    if !is_solicitation {
        return None;
    }
    let target = address(frame, at + 8, true)?;
    let service = *model.world.service_of(target)?;
    let own = model.world.interface(arrived.came)?.mac;
    if !service.is_announced {
        return Some(Judged::untouched(arrived));
    }
    if !model.meters.allow(Kind::Neighbour, arrived.now_ns) {
        return Some(Judged::dropped(service.id, Reason::AnswerLimited));
    }
    Some(Judged::answered(arrived, advertisement(frame, datagram, target, own), service.id, Reason::Arp))
}

/// The advertisement, in the frame of the solicitation: the address stands in the place of the solicitation's first option.
fn advertisement(frame: &[u8], datagram: &Datagram, target: IpAddr, own: Mac) -> Vec<u8> {
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    const SOLICITED: u8 = 0x40;
    const OVERRIDE: u8 = 0x20;
    let is_claim = datagram.source.is_unspecified();
    let to = if is_claim { ALL_NODES.into() } else { datagram.source };
    let at = datagram.least;
    let has_option = datagram.end >= at + 32;
    let length = if has_option { 32 } else { 24 };
    let mut out = frame.to_vec();
    let to_mac = if is_claim { [0x33, 0x33, 0, 0, 0, 1] } else { frame[6..12].try_into().expect("six bytes") };
    out[..6].copy_from_slice(&to_mac);
    out[6..12].copy_from_slice(&own);
    put_word(&mut out, 12, IPV6);
    out[ETHERNET..ETHERNET + 8].copy_from_slice(&[0x60, 0, 0, 0, 0, length, ICMPV6, 255]);
    put_address(&mut out, ETHERNET + 8, target);
    put_address(&mut out, ETHERNET + 24, to);
    let flags = OVERRIDE | if is_claim { 0 } else { SOLICITED };
    out[at..at + 8].copy_from_slice(&[136, 0, 0, 0, flags, 0, 0, 0]);
    if has_option {
        out[at + 24..at + 26].copy_from_slice(&[2, 1]);
        out[at + 26..at + 32].copy_from_slice(&own);
    }
    let body = &out[at..at + usize::from(length)];
    let check = checksum(pseudo(&out[ETHERNET + 8..at], ICMPV6, body.len()) + sum(body));
    put_word(&mut out, at + 2, check);
    out
}
