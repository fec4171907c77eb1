//! What the explaining instance says, beside what the live program does then.

use grayxdp::model::kernel::{Kernel as _, Reason, Way};
use grayxdp_common::{
    exceptions::EntryState,
    explanation::{NO_PLACE, Turn},
};

use super::{Twin, frames, traces::Traces};
use crate::{
    packet::Packet,
    random::Random,
    rules::{Answer, Counts, Kind, Later, Verdict, World},
};

/// Packets that are explained between two looks at all maps.
const BETWEEN_LOOKS: usize = 100;

impl Twin {
    /// What would become of a packet.
    pub(super) fn explain(&mut self, packet: &Packet) -> Result<Way, String> {
        self.subject.datapath.explain_frame(&packet.bytes()).map_err(|error| error.to_string())
    }

    /// Explains packets of random flows, new ones and known ones, which must leave nothing behind.
    pub(super) fn explain_some(&mut self, world: &World, random: &mut Random) -> Result<(), String> {
        let folder = self.subject.datapath.map_folder().to_owned();
        let look = || Traces::read(&folder).map_err(|error| format!("{error:#}"));
        let counters = |twin: &Self| twin.subject.counters().map_err(|error| format!("{error:#}"));
        let signals = |twin: &Self| twin.subject.datapath.signals(None).map_err(|error| error.to_string());
        let before = (look()?, (counters(self)?, signals(self)?));
        for _ in 0..BETWEEN_LOOKS {
            let packet = self.any_packet(world, random);
            self.explain(&packet)?;
        }
        let (traces, after) = (look()?, (counters(self)?, signals(self)?));
        if traces.is_as(&before.0) && after == before.1 {
            Ok(())
        } else {
            Err(format!("explaining left something behind: {before:?}, {traces:?}, {after:?}"))
        }
    }

    fn any_packet(&self, world: &World, random: &mut Random) -> Packet {
        let known = (!self.clients.is_empty() && random.chance(0.7)).then(|| random.below(self.clients.len()));
        let prefix = random.chance(0.5).then(|| random.below(4));
        let (end, port) = match known.and_then(|number| self.clients.get(&number)) {
            Some(client) => (client.end, client.port),
            None => (frames::client(prefix, random), 0),
        };
        let half_open = known.and_then(|number| world.table.half_open.get(&number));
        let isn = half_open.map_or(random.next() as u32, |half| half.isn);
        let syn_ack = half_open.and_then(|half| half.syn_ack).unwrap_or(random.next() as u32);
        if world.udp {
            return frames::datagram(end, port);
        }
        if random.chance(0.4) {
            return frames::syn(end, port, isn, random.chance(0.3));
        }
        if random.chance(0.1) {
            return frames::answer(1, end, port, Answer::SynAck { sequence: 7, ack: isn.wrapping_add(1) }, false);
        }
        let kind = random.pick(&[Kind::Ack, Kind::Data, Kind::Fin, Kind::Rst]);
        let (sequence, ack) = (isn.wrapping_add(1), syn_ack.wrapping_add(1));
        frames::later(end, port, Later { kind, sequence, ack, marked: random.chance(0.3) })
    }
}

/// Whether what was told came about: the way, and each turn that shows in a counter; and whether the turns agree with the
/// rest of what was told.
pub(super) fn check(told: &Way, went: Option<Verdict>, reason: Option<Reason>, counted: &Counts) -> Result<(), String> {
    let seen = &told.explanation;
    let is = |turn: Turn| seen.turns & turn.bit() != 0;
    let to = match went {
        Some(Verdict::To(backend)) => Some(backend),
        Some(Verdict::Reset | Verdict::Dropped(_)) | None => None,
    };
    let disagrees = if told.reason != reason || to.is_some_and(|to| to != seen.backend) {
        Some("the way".to_owned())
    } else {
        let counts = [
            (Turn::HalfOpen, counted.half_open),
            (Turn::Completed, counted.completed),
            (Turn::Pinned, counted.pinned),
            (Turn::Deferred, counted.deferred),
            (Turn::PinRefused, counted.refused),
        ];
        let counted =
            counts.iter().find(|(turn, count)| is(*turn) != (*count > 0)).map(|(turn, _)| format!("{turn:?}"));
        counted.or_else(|| to.filter(|to| !has_cause(told, *to)).map(|to| format!("no turn leads to {to}")))
    };
    let turns: Vec<&Turn> = Turn::ALL.iter().filter(|turn| is(**turn)).collect();
    disagrees.map_or(Ok(()), |what| {
        Err(format!("explained otherwise than done ({what}): {went:?}, {reason:?}, {counted:?}; {turns:?}, {told:?}"))
    })
}

/// Whether the turns say why the packet goes to a backend.
fn has_cause(told: &Way, to: u16) -> bool {
    let seen = &told.explanation;
    let is = |turn: Turn| seen.turns & turn.bit() != 0;
    let by_entry = is(Turn::Entry) || is(Turn::SynRepeated) || is(Turn::Completed);
    let differs = seen.home_backend != seen.current_backend;
    let unsettled = [Turn::BucketUnsettled, Turn::SlotUnsettled, Turn::PrefixUnsettled, Turn::SourcePrefix, Turn::Dscp]
        .into_iter()
        .chain([Turn::FuseTripped, Turn::LeaseExpired, Turn::Instance, Turn::Failover, Turn::Segment])
        .any(is);
    let way = if by_entry {
        is(Turn::Looked) && seen.entry_state != EntryState::Free as u8
    } else if is(Turn::Chosen) {
        seen.current_backend == to
    } else {
        (is(Turn::Home) || is(Turn::Split)) && seen.home_backend == to
    };
    way && (!differs || unsettled) && seen.current_place != NO_PLACE
}
