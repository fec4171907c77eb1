//! ICMP errors follow the packet that they repeat, in both directions.

use std::net::SocketAddr;

use grayxdp::model::kernel::{BackendCounters, Reason};

use super::{
    ledger::Counted,
    model::{Arrived, Judged, Model, Verdict, addresses},
    read::{Datagram, TCP, UDP, address, byte, word},
    rewrite::{Side, leave, mend_header, put_address, put_word},
    sums::{carried, carried_udp, sum},
    world::{Backend, Hop, Service},
};

/// An ICMP error about a TCP segment or a UDP datagram of him whom it is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quote {
    /// Where the ICMP header lies.
    icmp: usize,
    /// Where the repeated IP header lies.
    inner: usize,
    /// Where the repeated ports lie.
    ports: usize,
    protocol: u8,
    source: SocketAddr,
    destination: SocketAddr,
}

impl Quote {
    pub(super) fn of(frame: &[u8], datagram: &Datagram) -> Option<Self> {
        if datagram.protocol != datagram.icmp() || datagram.piece.is_some() {
            return None;
        }
        let icmp = datagram.behind?;
        let kind = byte(frame, icmp)?;
        let is_error = if datagram.is_ipv6 { (1..=4).contains(&kind) } else { matches!(kind, 3 | 11 | 12) };
        let inner = icmp + 8;
        let first = byte(frame, inner)?;
        let (is_sound, protocol, places, length) = if datagram.is_ipv6 {
            (first >> 4 == 6, byte(frame, inner + 6)?, (inner + 8, inner + 24), 40)
        } else {
            let is_first = word(frame, inner + 6)? & 0x1fff == 0;
            let words = usize::from(first & 15);
            (first >> 4 == 4 && words >= 5 && is_first, byte(frame, inner + 9)?, (inner + 12, inner + 16), 4 * words)
        };
        let ports = inner + length;
        let (source, destination) =
            (address(frame, places.0, datagram.is_ipv6)?, address(frame, places.1, datagram.is_ipv6)?);
        let has_ports =
            (protocol == TCP || protocol == UDP) && datagram.end >= ports + 8 && datagram.end <= frame.len();
        if !is_error || !is_sound || !has_ports || source != datagram.destination {
            return None;
        }
        Some(Self {
            icmp,
            inner,
            ports,
            protocol,
            source: SocketAddr::new(source, word(frame, ports)?),
            destination: SocketAddr::new(destination, word(frame, ports + 2)?),
        })
    }

    /// The error with one end of the repeated packet replaced, and with it the address of the error itself that is the same.
    fn replaced(&self, frame: &[u8], datagram: &Datagram, side: Side, end: SocketAddr) -> Vec<u8> {
        let mut out = frame.to_vec();
        let (own_source, own_destination) = datagram.address_places();
        let inner = self.inner + own_source - super::read::ETHERNET;
        let size = own_destination - own_source;
        let (at, port, own, is_same) = match side {
            Side::Source => (inner, self.ports, own_destination, true),
            Side::Destination => (inner + size, self.ports + 2, own_source, datagram.source == self.destination.ip()),
        };
        put_address(&mut out, at, end.ip());
        put_word(&mut out, port, end.port());
        let of_address = |frame: &[u8]| sum(&frame[inner..inner + 2 * size]);
        let of_both = |frame: &[u8]| of_address(frame) + sum(&frame[self.ports..self.ports + 4]);
        if !datagram.is_ipv6 {
            let old = word(frame, self.inner + 10).expect("the repeated header is in the frame");
            let fresh = carried(old, of_address(frame), of_address(&out));
            put_word(&mut out, self.inner + 10, fresh);
        }
        let check = self.ports + if self.protocol == TCP { 16 } else { 6 };
        if let Some(old) = word(frame, check).filter(|_| check + 2 <= datagram.end) {
            let carry = if self.protocol == TCP { carried } else { carried_udp };
            let fresh = carry(old, of_both(frame), of_both(&out));
            put_word(&mut out, check, fresh);
        }
        if is_same {
            put_address(&mut out, own, end.ip());
        }
        let covered = |frame: &[u8]| {
            let own = if datagram.is_ipv6 { sum(addresses(frame, datagram)) } else { 0 };
            own + sum(&frame[self.icmp..datagram.end])
        };
        let old = word(frame, self.icmp + 2).expect("the ICMP header is in the frame");
        let fresh = carried(old, covered(frame), covered(&out));
        put_word(&mut out, self.icmp + 2, fresh);
        mend_header(&mut out, frame, datagram);
        out
    }
}

/// Where an error goes.
struct Following<'a> {
    side: Side,
    end: SocketAddr,
    hop: Option<Hop>,
    service: &'a Service,
    backend: &'a Backend,
}

impl Model {
    /// What becomes of an error; none if it is about no packet of a service.
    pub(super) fn follow_error(&self, arrived: &Arrived<'_>, datagram: &Datagram, quote: &Quote) -> Option<Judged> {
        if let Some(service) = self.world.service_at(quote.source, quote.protocol) {
            let Some(backend) = &service.backend else {
                return Some(Judged::dropped(service.id, Reason::NoBackend));
            };
            let following = Following { side: Side::Source, end: backend.end, hop: backend.hop, service, backend };
            return Some(self.send_error(arrived, datagram, quote, &following));
        }
        let (service, backend) = self.world.service_behind(quote.destination, quote.protocol)?;
        let hop = match self.hop_to(datagram.destination) {
            Ok(hop) => hop,
            Err(reason) => return Some(Judged::left(arrived, Counted::because(service.id, reason), reason.label())),
        };
        let following = Following { side: Side::Destination, end: service.vip, hop, service, backend: &backend };
        Some(self.send_error(arrived, datagram, quote, &following))
    }

    /// An error is never answered.
    fn send_error(&self, arrived: &Arrived<'_>, datagram: &Datagram, quote: &Quote, to: &Following<'_>) -> Judged {
        if datagram.ttl <= 1 {
            return Judged::dropped(to.service.id, Reason::TtlExpired);
        }
        if to.hop.is_some_and(|hop| self.beyond(datagram, hop).is_some()) {
            return Judged::dropped(to.service.id, Reason::TooBig);
        }
        let is_forward = to.side == Side::Source;
        let bytes = arrived.frame.len() as u64;
        let none = BackendCounters::default();
        let traffic = if is_forward {
            BackendCounters { packets_forward: 1, bytes_forward: bytes, icmp_errors_forward: 1, ..none }
        } else {
            BackendCounters { packets_reverse: 1, bytes_reverse: bytes, icmp_errors_reverse: 1, ..none }
        };
        let traffic = Some((to.backend.id, traffic));
        let mut frame = quote.replaced(arrived.frame, datagram, to.side, to.end);
        if let Some(hop) = to.hop {
            leave(&mut frame, datagram, hop);
            let fate = if is_forward { "an error to a backend" } else { "an error to a client" };
            let counted = Counted { reason: None, traffic };
            return Judged { verdict: Verdict::Leaves(hop.interface), frame: Some(frame), counted, fate };
        }
        let reason = if is_forward { Reason::UnresolvedBackend } else { Reason::UnresolvedClient };
        let counted = Counted { reason: Some((to.service.id, reason)), traffic };
        Judged { verdict: Verdict::Pass, frame: Some(frame), counted, fate: reason.label() }
    }
}
