//! Which way a frame goes, and what is counted of it: DATAPATH section 3, in the order in which it is asked.

use std::net::{IpAddr, SocketAddr};

use grayxdp::model::kernel::{BackendCounters, Reason, ServiceId};
use grayxdp_common::fragments::PLACES;

use super::{
    answers::Meters,
    errors::Quote,
    ledger::Counted,
    neighbours,
    pieces::Left,
    read::{ARP, Datagram, Ends, IPV4, IPV6, TCP, UDP, word},
    rewrite::{Side, leave, rewritten},
    traffic::{forward_traffic, reverse_traffic},
    world::{Backend, Hop, Service, Way, World},
};

/// What the program says of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is gone.
    Drop,
    /// The kernel has it.
    Pass,
    /// It leaves by an interface.
    Leaves(u32),
}

/// What must become of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What the program says.
    pub verdict: Verdict,
    /// The frame afterwards; none of a dropped one.
    pub frame: Option<Vec<u8>>,
    /// What is counted.
    pub counted: Counted,
    /// In one word.
    pub fate: &'static str,
}

impl Judged {
    /// It is not ours.
    pub(super) fn untouched(arrived: &Arrived<'_>) -> Self {
        Self { fate: "untouched", ..Self::left(arrived, Counted::default(), "untouched") }
    }

    /// It passes as it came.
    pub(super) fn left(arrived: &Arrived<'_>, counted: Counted, fate: &'static str) -> Self {
        Self { verdict: Verdict::Pass, frame: Some(arrived.frame.to_vec()), counted, fate }
    }

    /// It is gone, and counted.
    pub(super) fn dropped(service: ServiceId, reason: Reason) -> Self {
        Self { verdict: Verdict::Drop, frame: None, counted: Counted::because(service, reason), fate: reason.label() }
    }

    /// It was answered: the answer goes back where the frame came in.
    pub(super) fn answered(arrived: &Arrived<'_>, answer: Vec<u8>, service: ServiceId, reason: Reason) -> Self {
        Self {
            verdict: Verdict::Leaves(arrived.came),
            frame: Some(answer),
            counted: Counted::because(service, reason),
            fate: reason.label(),
        }
    }
}

/// A frame that arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived<'a> {
    pub(super) frame: &'a [u8],
    /// Index of the interface.
    pub(super) came: u32,
    pub(super) now_ns: u64,
}

/// The model and what it remembers.
#[derive(Clone, Debug)]
pub struct Model {
    pub(super) world: World,
    pub(super) meters: Meters,
    pub(super) pieces: Vec<Option<Left>>,
}

impl Model {
    /// A model that saw nothing yet.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self { world, meters: Meters::default(), pieces: vec![None; PLACES as usize] }
    }

    /// What must become of a frame that comes in by an interface, at a monotonic time.
    pub fn judge(&mut self, frame: &[u8], came: u32, now_ns: u64) -> Judged {
        let arrived = Arrived { frame, came, now_ns };
        match word(frame, 12) {
            Some(ARP) => neighbours::arp(self, &arrived),
            Some(kind @ (IPV4 | IPV6)) => match Datagram::of(frame, kind) {
                Some(datagram) => self.datagram(&arrived, &datagram),
                None => Judged::untouched(&arrived),
            },
            Some(_) | None => Judged::untouched(&arrived),
        }
    }

    fn datagram(&mut self, arrived: &Arrived<'_>, datagram: &Datagram) -> Judged {
        let Some(ends) = Ends::of(arrived.frame, datagram) else { return self.without_ports(arrived, datagram) };
        if let Some(piece) = datagram.piece {
            self.leave_first_piece(arrived, datagram, piece, &ends);
        }
        if let Some(service) = self.world.service_at(ends.destination, datagram.protocol).copied() {
            return self.forward(arrived, datagram, &ends, &service);
        }
        if let Some((service, backend)) = self.world.service_behind(ends.source, datagram.protocol) {
            let service = *service;
            return self.reply(arrived, datagram, &ends, &service, &backend);
        }
        let Some(service) = self.world.service_of(datagram.destination).copied() else {
            return Judged::untouched(arrived);
        };
        if service.is_local {
            Judged::left(arrived, Counted::because(service.id, Reason::LocalAddress), Reason::LocalAddress.label())
        } else if datagram.is_whole(arrived.frame, 8) {
            self.refuse(arrived, datagram, &ends, &service)
        } else {
            Judged::dropped(service.id, Reason::Malformed)
        }
    }

    /// What has no ports that could be read.
    fn without_ports(&mut self, arrived: &Arrived<'_>, datagram: &Datagram) -> Judged {
        if let Some(quote) = Quote::of(arrived.frame, datagram)
            && let Some(judged) = self.follow_error(arrived, datagram, &quote)
        {
            return judged;
        }
        if let Some(left) = self.first_piece_of(arrived, datagram) {
            return self.follow_piece(arrived, datagram, &left);
        }
        if let Some(judged) = neighbours::solicited(self, arrived, datagram) {
            return judged;
        }
        let Some(service) = self.world.service_of(datagram.destination).copied() else {
            return Judged::untouched(arrived);
        };
        let is_icmp = datagram.protocol == datagram.icmp();
        let reason = if service.is_local {
            return Judged::left(
                arrived,
                Counted::because(service.id, Reason::LocalAddress),
                Reason::LocalAddress.label(),
            );
        } else if datagram.is_later_piece() || (datagram.piece.is_some() && is_icmp) {
            Reason::Fragment
        } else if !datagram.is_whole(arrived.frame, 0) || datagram.has_ports() {
            Reason::Malformed
        } else if let Some(judged) = self.echo(arrived, datagram, &service) {
            return judged;
        } else if is_icmp {
            Reason::Icmp
        } else {
            Reason::NoService
        };
        Judged::dropped(service.id, reason)
    }

    fn forward(&mut self, arrived: &Arrived<'_>, datagram: &Datagram, ends: &Ends, service: &Service) -> Judged {
        match unfit(arrived.frame, datagram, ends) {
            Some(Reason::TtlExpired) => return self.expire(arrived, datagram, ends, service),
            Some(reason) => return Judged::dropped(service.id, reason),
            None => {}
        }
        let Some(backend) = service.backend else { return Judged::dropped(service.id, Reason::NoBackend) };
        let traffic = forward_traffic(arrived.frame, datagram, ends);
        let way =
            Out { side: Side::Destination, end: backend.end, hop: backend.hop, unresolved: Reason::UnresolvedBackend };
        self.send(arrived, datagram, ends, (service, &backend), way, traffic)
    }

    fn reply(
        &mut self,
        arrived: &Arrived<'_>,
        datagram: &Datagram,
        ends: &Ends,
        service: &Service,
        backend: &Backend,
    ) -> Judged {
        let hop = match self.hop_to(datagram.destination) {
            Ok(hop) => hop,
            Err(reason) => return Judged::left(arrived, Counted::because(service.id, reason), reason.label()),
        };
        match unfit(arrived.frame, datagram, ends) {
            Some(Reason::TtlExpired) => return self.expire(arrived, datagram, ends, service),
            Some(reason) => return Judged::dropped(service.id, reason),
            None => {}
        }
        let traffic = reverse_traffic(arrived.frame, datagram, ends);
        let way = Out { side: Side::Source, end: service.vip, hop, unresolved: Reason::UnresolvedClient };
        self.send(arrived, datagram, ends, (service, backend), way, traffic)
    }

    /// Sends a packet on, answers that it is too long, or leaves it to the kernel rewritten.
    fn send(
        &mut self,
        arrived: &Arrived<'_>,
        datagram: &Datagram,
        ends: &Ends,
        (service, backend): (&Service, &Backend),
        out: Out,
        traffic: BackendCounters,
    ) -> Judged {
        // What leaves by the link that it came by fits it.
        let beyond = out.hop.filter(|hop| hop.interface != arrived.came).and_then(|hop| self.beyond(datagram, hop));
        if let Some(mtu) = beyond
            && !datagram.may_be_cut
        {
            return self.say_too_big(arrived, datagram, ends, service, mtu);
        }
        let mut frame = rewritten(arrived.frame, datagram, Some(ends.at), out.side, out.end);
        let traffic = Some((backend.id, traffic));
        match out.hop {
            Some(hop) if beyond.is_none() => {
                leave(&mut frame, datagram, hop);
                let fate = if out.side == Side::Destination { "to a backend" } else { "to a client" };
                let counted = Counted { reason: None, traffic };
                Judged { verdict: Verdict::Leaves(hop.interface), frame: Some(frame), counted, fate }
            }
            Some(_) | None => {
                let reason = if beyond.is_some() { Reason::TooBigPassed } else { out.unresolved };
                let counted = Counted { reason: Some((service.id, reason)), traffic };
                Judged { verdict: Verdict::Pass, frame: Some(frame), counted, fate: reason.label() }
            }
        }
    }

    /// What the next link takes, of a datagram that is longer.
    pub(super) fn beyond(&self, datagram: &Datagram, hop: Hop) -> Option<usize> {
        let mtu = self.world.interface(hop.interface)?.mtu;
        (datagram.length() > mtu).then_some(mtu)
    }

    /// The way to a client; a reason where the packet stays as it came.
    pub(super) fn hop_to(&self, client: IpAddr) -> Result<Option<Hop>, Reason> {
        let is_of_many = match client {
            IpAddr::V4(client) => client.octets()[0] >= 224,
            IpAddr::V6(client) => client.is_multicast(),
        };
        if is_of_many {
            return Err(Reason::DirectAccess);
        }
        match self.world.way_to(client) {
            Way::Untouched => Err(Reason::DirectAccess),
            Way::Unreachable => Err(Reason::NoRoute),
            Way::Gateway(hop) => Ok(Some(hop)),
            Way::OnLink => Ok(self.world.neighbour(client)),
        }
    }
}

/// How a packet is to leave.
struct Out {
    side: Side,
    end: SocketAddr,
    hop: Option<Hop>,
    /// Why it is left to the kernel where the hop is not known.
    unresolved: Reason,
}

/// Why a packet with ports goes nowhere.
fn unfit(frame: &[u8], datagram: &Datagram, ends: &Ends) -> Option<Reason> {
    let header = if datagram.protocol == TCP { 20 } else { 8 };
    let has_no_sum = datagram.protocol == UDP && word(frame, ends.at + 6) == Some(0);
    if !datagram.is_whole(frame, header) || (datagram.is_ipv6 && has_no_sum) {
        Some(Reason::Malformed)
    } else if datagram.ttl <= 1 {
        Some(Reason::TtlExpired)
    } else {
        None
    }
}

/// The addresses of a datagram's header, both.
pub(super) fn addresses<'a>(frame: &'a [u8], datagram: &Datagram) -> &'a [u8] {
    let (source, destination) = datagram.address_places();
    &frame[source..2 * destination - source]
}
