//! The program's part: what becomes of one packet.

use super::{
    Backend, Existing, Health, Rule, Tuple, World,
    table::{HalfOpen, Held, tick},
    way::Default,
};

/// Sequence numbers beyond the SYN's that complete a handshake: 65,536 and the longest payload.
const SEQUENCE_WINDOW: u32 = 131_072;
/// Acknowledged numbers beyond the SYN-ACK's that complete a handshake.
const ACK_WINDOW: u32 = 65_536;

/// What became of a client's packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It went to a backend.
    To(Backend),
    /// It was answered with RST.
    Reset,
    /// It was dropped.
    Dropped(Why),
}

/// Why a packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is no backend.
    NoBackend,
    /// A deferred SYN had nowhere to go.
    DeferredNowhere,
    /// A RST for a flow that is ended with RST.
    Ended,
}

/// What a packet of a connection is, when it is no SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An acknowledgement without data.
    Ack,
    /// Data.
    Data,
    /// The end of the client's side.
    Fin,
    /// A reset.
    Rst,
}

/// A packet of a connection, but a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Later {
    /// What it is.
    pub kind: Kind,
    /// Its sequence number.
    pub sequence: u32,
    /// What it acknowledges.
    pub ack: u32,
    /// Whether it carries the DSCP that counts on SYNs.
    pub marked: bool,
}

/// What a backend sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a SYN.
    SynAck {
        /// Its sequence number.
        sequence: u32,
        /// What it acknowledges.
        ack: u32,
    },
    /// Anything else that goes on with the flow.
    Data,
    /// The end of its side.
    Fin,
    /// A reset.
    Rst,
}

impl World {
    /// A SYN.
    pub fn syn(&mut self, tuple: Tuple, isn: u32, marked: bool) -> Verdict {
        self.find_lease_expired(tuple, marked);
        let home = self.default_of(tuple, marked, true);
        let now = tick(self.now);
        let repeated = self.table.half_open(tuple.number, self.now).filter(|half| home.looks && half.isn == isn);
        if let Some(half) = repeated
            && self.left != Some(Rule::RepeatedSynFollowsFirst)
            && (!self.takes_no_new_flow(half.backend) || self.left == Some(Rule::RepeatedSynLeavesDownBackend))
        {
            self.table.half_open.insert(tuple.number, HalfOpen { tick: now, ..half });
            return Verdict::To(half.backend);
        }
        let choice = self.choice(tuple, marked);
        if choice == 0 {
            return Verdict::Dropped(Why::NoBackend);
        }
        let own_place = self.table.half_open.remove(&tuple.number).is_some();
        let held = self.table.held(tuple.number, self.now).filter(|_| home.looks);
        if !self.needs_entry(choice, &home, held) {
            return Verdict::To(choice);
        }
        if (own_place && self.places.word.is_none()) || self.place() {
            if self.left == Some(Rule::EntryReplacedByCompletionOnly) {
                self.table.held.remove(&tuple.number);
            }
            self.counts.half_open += 1;
            self.table.half_open.insert(tuple.number, HalfOpen { backend: choice, isn, syn_ack: None, tick: now });
            return Verdict::To(choice);
        }
        self.counts.deferred += 1;
        self.defer(tuple, choice, &home, held)
    }

    /// Whether a SYN needs a half-open entry.
    fn needs_entry(&self, choice: Backend, home: &Default, held: Option<Held>) -> bool {
        let detached = held.is_some() && self.left != Some(Rule::SynOfHeldFlowNeedsEntry);
        let unsettled = !home.settled && self.left != Some(Rule::UnsettledDefaultNeedsEntry);
        (choice != home.backend && self.left != Some(Rule::ChoiceNeedsEntry)) || detached || unsettled
    }

    /// A SYN without a place for its entry goes where its flow's later packets will go.
    fn defer(&mut self, tuple: Tuple, choice: Backend, home: &Default, held: Option<Held>) -> Verdict {
        let to = match held {
            Some(held) if self.left != Some(Rule::DeferredSynGoesByEntry) => {
                self.refresh_deferred(tuple, held);
                held.backend
            }
            Some(_) | None => home.backend,
        };
        let to = if self.left == Some(Rule::DeferredSynGoesByDefault) { choice } else { to };
        if self.left != Some(Rule::DeferredSynStamps) {
            self.stamp(tuple, home, |cell| (cell.seen, cell.deferred) = (true, true));
        }
        if self.takes_no_new_flow(to) && self.left != Some(Rule::DeferredSynSparesDownBackend) {
            return Verdict::Dropped(Why::DeferredNowhere);
        }
        Verdict::To(to)
    }

    /// A flow begins on an old entry: what was about to end goes on.
    fn refresh_deferred(&mut self, tuple: Tuple, held: Held) {
        if self.left != Some(Rule::DeferredSynRestoresEntry) {
            let mut held = Held { tick: tick(self.now), ..held };
            held.restore();
            self.table.held.insert(tuple.number, held);
        }
    }

    /// Any other packet of a connection.
    pub fn packet(&mut self, tuple: Tuple, later: Later) -> Verdict {
        let home = self.default_of(tuple, later.marked, false);
        if home.looks {
            self.complete(tuple, &home, later);
            if let Some(mut held) = self.table.held(tuple.number, self.now) {
                let to = held.backend;
                self.meet(&mut held, later.kind);
                self.table.held.insert(tuple.number, held);
                return self.deliver(to, later.kind == Kind::Rst);
            }
        }
        self.stamp(tuple, &home, |cell| cell.seen = true);
        let verdict = self.deliver(home.backend, later.kind == Kind::Rst);
        if home.pins && later.kind != Kind::Rst && home.backend != 0 {
            self.pin(tuple, &home);
        }
        verdict
    }

    /// A datagram.
    pub fn datagram(&mut self, tuple: Tuple) -> Verdict {
        self.find_lease_expired(tuple, false);
        let home = self.default_of(tuple, false, false);
        if home.looks
            && let Some(held) = self.table.held(tuple.number, self.now)
            && !self.moves(held.backend)
        {
            self.table.held.insert(tuple.number, Held { tick: tick(self.now), ..held });
            return Verdict::To(held.backend);
        }
        if home.looks {
            self.table.held.remove(&tuple.number);
        }
        let is_off = home.turned && self.is_turned_off(home.version);
        if is_off || home.backend == 0 || self.moves(home.backend) {
            let choice = self.choice(tuple, false);
            return if choice == 0 { Verdict::Dropped(Why::NoBackend) } else { Verdict::To(choice) };
        }
        self.stamp(tuple, &home, |cell| cell.seen = true);
        if home.pins {
            self.pin(tuple, &home);
        }
        Verdict::To(home.backend)
    }

    /// Whether datagrams of a flow of a backend are chosen for anew.
    fn moves(&self, backend: Backend) -> bool {
        let Some(member) = self.member(backend) else { return true };
        let ended = match self.versions[member.version].existing {
            Existing::Stay => false,
            Existing::Reset | Existing::Move => true,
        };
        ended || member.retired || member.health == Health::Down { resets: true }
    }

    /// A backend's packet on its way to the client.
    pub fn answer(&mut self, from: Backend, tuple: Tuple, answer: Answer) {
        let fits = |half: &HalfOpen, ack: u32| (1..=SEQUENCE_WINDOW).contains(&ack.wrapping_sub(half.isn));
        if let Answer::SynAck { sequence, ack } = answer
            && let Some(half) = self.table.half_open.get_mut(&tuple.number)
            && (half.backend == from || self.left == Some(Rule::SynAckOfItsBackend))
            && fits(half, ack)
        {
            half.syn_ack = Some(sequence);
        }
        let now = tick(self.now);
        let Some(mut held) = self.table.held(tuple.number, self.now).filter(|held| held.backend == from) else {
            return;
        };
        match answer {
            Answer::SynAck { .. } => held.established = true,
            Answer::Data => {
                held.established = true;
                if held.is_closing() {
                    held.restore();
                }
            }
            Answer::Fin => (held.established, held.fin_backend) = (true, true),
            Answer::Rst => {
                held.reset = true;
                held.established |= self.left == Some(Rule::RstConfirmsNoPin);
            }
        }
        held.tick = if held.established { now } else { held.tick };
        self.table.held.insert(tuple.number, held);
    }

    /// Where a packet of a flow in progress would go; changes nothing.
    #[must_use]
    pub fn way(&self, tuple: Tuple, later: Later) -> Backend {
        let home = self.default_of(tuple, later.marked, false);
        if !home.looks {
            return home.backend;
        }
        let half = self.table.half_open(tuple.number, self.now).filter(|half| !self.udp && self.completes(half, later));
        let held = self.table.held(tuple.number, self.now);
        half.map(|half| half.backend).or(held.map(|held| held.backend)).unwrap_or(home.backend)
    }

    /// Where a datagram of a flow would go by its entry or by default; changes nothing.
    #[must_use]
    pub fn way_of_datagrams(&self, tuple: Tuple) -> Backend {
        let held = self.table.held(tuple.number, self.now);
        held.map_or_else(|| self.default_of(tuple, false, false).backend, |held| held.backend)
    }

    fn completes(&self, half: &HalfOpen, later: Later) -> bool {
        if self.left == Some(Rule::CompletionNeedsNumbers) {
            return later.kind != Kind::Rst;
        }
        let answered = half.syn_ack.is_some_and(|number| (1..=ACK_WINDOW).contains(&later.ack.wrapping_sub(number)));
        later.kind != Kind::Rst
            && (1..=SEQUENCE_WINDOW).contains(&later.sequence.wrapping_sub(half.isn))
            && (answered || self.left == Some(Rule::CompletionNeedsSynAck))
    }

    /// A packet whose numbers fit makes the half-open entry an established one, in the place of an older one.
    fn complete(&mut self, tuple: Tuple, home: &Default, later: Later) {
        let Some(half) = self.table.half_open(tuple.number, self.now) else { return };
        if !self.completes(&half, later) {
            return;
        }
        self.counts.completed += 1;
        self.table.half_open.remove(&tuple.number);
        let settled = (home.settled && !home.turned) || self.left == Some(Rule::NeedlessOnlyWhereSettled);
        if half.backend == home.backend && settled {
            self.table.held.remove(&tuple.number);
        } else if self.left != Some(Rule::CompletionReplacesEntry) || !self.table.held.contains_key(&tuple.number) {
            self.table.held.insert(tuple.number, Held::new(half.backend, true, tick(self.now)));
        }
    }

    /// An entry's packet: it lives on, and FIN and RST shorten its life.
    fn meet(&self, held: &mut Held, kind: Kind) {
        held.tick = tick(self.now);
        match kind {
            Kind::Ack => {}
            Kind::Data => {
                if held.is_closing() && self.left != Some(Rule::DataRestoresClosing) {
                    held.restore();
                }
            }
            Kind::Fin => {
                held.fin_client = true;
                held.fin_backend |= self.left == Some(Rule::OneFinEndsNothing);
            }
            Kind::Rst => held.reset = true,
        }
    }

    /// Sends a packet of a flow in progress to its backend, or ends the flow.
    fn deliver(&self, to: Backend, is_rst: bool) -> Verdict {
        let Some(member) = self.member(to).filter(|member| !member.retired) else {
            return Verdict::Dropped(Why::NoBackend);
        };
        let ended = match self.versions[member.version].existing {
            Existing::Stay | Existing::Move => false,
            Existing::Reset => true,
        };
        let resets = ended || member.health == Health::Down { resets: true };
        match (resets && self.left != Some(Rule::DownBackendResets), is_rst) {
            (false, _) => Verdict::To(to),
            (true, true) => Verdict::Dropped(Why::Ended),
            (true, false) => Verdict::Reset,
        }
    }

    /// Keeps a flow where it went by default.
    fn pin(&mut self, tuple: Tuple, home: &Default) {
        if self.place() {
            self.counts.pinned += 1;
            let held = Held::new(home.backend, self.left == Some(Rule::PinWaitsForAnswer), tick(self.now));
            self.table.held.insert(tuple.number, held);
        } else {
            self.counts.refused += 1;
            if self.left != Some(Rule::RefusedPinBeginsAnew) {
                self.stamp(tuple, home, |stamp| stamp.refused = true);
            }
        }
    }

    /// Whether a new entry finds a place: free, or lapsed; never a live one.
    fn place(&mut self) -> bool {
        if let Some(word) = self.places.word {
            return word;
        }
        if self.places.random.chance(self.places.refusals) && self.left != Some(Rule::LiveEntriesStay) {
            return false;
        }
        if self.table.len() < self.places.capacity || self.table.take_lapsed(self.now) {
            return true;
        }
        self.left == Some(Rule::LiveEntriesStay) && self.table.held.pop_first().is_some()
    }

    /// A lease that ran out is latched by the first packet that would open a flow of the candidate.
    fn find_lease_expired(&mut self, tuple: Tuple, marked: bool) {
        let class = tuple.prefix.map_or(0, |prefix| self.prefixes[prefix].current);
        let segment = self.segment(class, tuple.port, marked);
        let current = self.buckets[segment][tuple.bucket].current;
        let by_instance = self.instance.is_some_and(|instance| instance.segment == segment);
        if let Some(guard) = &mut self.guard
            && (guard.candidate == current || by_instance)
            && guard.lease_until.is_some_and(|until| self.now >= until)
        {
            guard.expired = true;
        }
    }
}
