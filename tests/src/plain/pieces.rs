//! Pieces of datagrams: later ones follow the first one.

use std::net::IpAddr;

use grayxdp::model::kernel::Reason;
use grayxdp_common::{fragments::Pieces, ipv6::Address6};

use super::{
    ledger::Counted,
    model::{Arrived, Judged, Model, Verdict},
    read::{Datagram, Ends, Piece},
    rewrite::{Side, leave, rewritten},
    traffic::{forward_bytes, reverse_bytes},
    world::{Backend, Service},
};
use crate::subject::KEY;

/// Pieces follow their first one for so many nanoseconds: half a minute, in ticks of 2^27.
const PIECE_LIFE_NS: u64 = 224 << 27;
/// After so many nanoseconds the time in the table of pieces begins again.
const PIECE_TIME_NS: u64 = 1 << (15 + 27);

/// Where the pieces of a datagram go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    source: IpAddr,
    destination: IpAddr,
    number: u32,
    protocol: u8,
    since_ns: u64,
    side: Side,
    service: Service,
    backend: Backend,
}

impl Model {
    /// A first piece leaves where it goes, even if it gets no farther itself.
    pub(super) fn leave_first_piece(&mut self, arrived: &Arrived<'_>, datagram: &Datagram, piece: Piece, ends: &Ends) {
        let forward = self.world.service_at(ends.destination, datagram.protocol);
        let (side, service, backend) = match (forward, self.world.service_behind(ends.source, datagram.protocol)) {
            (Some(service), _) => (Side::Destination, *service, service.backend),
            (None, Some((service, backend))) => (Side::Source, *service, Some(backend)),
            (None, None) => return,
        };
        let (source, destination) = (datagram.source, datagram.destination);
        let Piece { number, protocol, is_later: _ } = piece;
        self.pieces[place(datagram, piece)] = backend.map(|backend| Left {
            source,
            destination,
            number,
            protocol,
            since_ns: arrived.now_ns,
            side,
            service,
            backend,
        });
    }

    /// Where the first piece of a later one's datagram went.
    pub(super) fn first_piece_of(&self, arrived: &Arrived<'_>, datagram: &Datagram) -> Option<Left> {
        let piece = datagram.piece.filter(|piece| piece.is_later)?;
        let left = self.pieces[place(datagram, piece)]?;
        let same = (left.source, left.destination) == (datagram.source, datagram.destination)
            && (left.number, left.protocol) == (piece.number, piece.protocol);
        let age_ns = (arrived.now_ns - left.since_ns) % PIECE_TIME_NS;
        (same && age_ns <= PIECE_LIFE_NS).then_some(left)
    }

    /// A later piece goes where the first one went. It is never answered.
    pub(super) fn follow_piece(&self, arrived: &Arrived<'_>, datagram: &Datagram, left: &Left) -> Judged {
        let service = left.service.id;
        let is_forward = left.side == Side::Destination;
        let hop = if is_forward {
            left.backend.hop
        } else {
            match self.hop_to(datagram.destination) {
                Ok(hop) => hop,
                Err(reason) => return Judged::left(arrived, Counted::because(service, reason), reason.label()),
            }
        };
        if !datagram.is_whole(arrived.frame, 0) {
            return Judged::dropped(service, Reason::Malformed);
        }
        if datagram.ttl <= 1 {
            return Judged::dropped(service, Reason::TtlExpired);
        }
        let is_beyond = hop.is_some_and(|hop| self.beyond(datagram, hop).is_some());
        if is_beyond && !datagram.may_be_cut {
            return Judged::dropped(service, Reason::TooBig);
        }
        let (end, unresolved, traffic) = if is_forward {
            (left.backend.end, Reason::UnresolvedBackend, forward_bytes(arrived.frame))
        } else {
            (left.service.vip, Reason::UnresolvedClient, reverse_bytes(arrived.frame))
        };
        let mut frame = rewritten(arrived.frame, datagram, None, left.side, end);
        let traffic = Some((left.backend.id, traffic));
        match hop {
            Some(hop) if !is_beyond => {
                leave(&mut frame, datagram, hop);
                let fate = if is_forward { "a later piece to a backend" } else { "a later piece to a client" };
                let counted = Counted { reason: None, traffic };
                Judged { verdict: Verdict::Leaves(hop.interface), frame: Some(frame), counted, fate }
            }
            Some(_) | None => {
                let reason = if is_beyond { Reason::TooBigPassed } else { unresolved };
                let counted = Counted { reason: Some((service, reason)), traffic };
                Judged { verdict: Verdict::Pass, frame: Some(frame), counted, fate: reason.label() }
            }
        }
    }
}

/// The place of a datagram's pieces in their table, which is direct-mapped.
fn place(datagram: &Datagram, Piece { number, protocol, is_later: _ }: Piece) -> usize {
    let pieces = match (datagram.source, datagram.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let (source, destination) = (u32::from_ne_bytes(source.octets()), u32::from_ne_bytes(destination.octets()));
            Pieces::of(source, destination, (number as u16).to_be(), protocol, &KEY)
        }
        (source, destination) => Pieces::of6(address6(source), address6(destination), number.to_be(), protocol, &KEY),
    };
    pieces.place() as usize
}

/// An address as the tables have it.
fn address6(address: IpAddr) -> Address6 {
    match address {
        IpAddr::V4(address) => Address6::from_bytes(address.to_ipv6_mapped().octets()),
        IpAddr::V6(address) => Address6::from_bytes(address.octets()),
    }
}
