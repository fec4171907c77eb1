//! Clients and what answers them: handshakes that take time and lose packets, flows of all ages, attackers, strays.

use super::{Answer, Backend, Carrier, History, Later, Millis, Tuple, Verdict, Wrong};
use crate::{
    random::Random,
    rules::{Existing, Health, Kind, Why},
};

mod datagrams;
mod strangers;

/// The last SYN is at most this long ago when the first other packet comes.
const HANDSHAKE_LIMIT_MS: Millis = 3_000;

/// Where a connection stands, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// SYNs were sent.
    Opening,
    /// A SYN-ACK came; the first other packet is due.
    Accepted { due: Millis },
    /// At least one other packet went through.
    Open,
    /// Over.
    Ended,
}

/// A flow.
#[derive(Clone, Debug)]
struct Flow {
    tuple: Tuple,
    isn: u32,
    marked: bool,
    phase: Phase,
    /// Whose it is, once that is known.
    mine: Backend,
    first_syn: Millis,
    last_syn: Millis,
    syns: u32,
    /// SYN-ACKs under way: when, from whom.
    syn_acks: Vec<(Millis, Backend)>,
    last: Millis,
    /// It sends something by then at the latest.
    due: Millis,
    end: Millis,
    /// A backend's answer under way.
    answer: Option<(Millis, Backend)>,
    /// The client said FIN, and only acknowledges from now on.
    half_closed: bool,
    /// Somebody sent a RST into it: its next packet has data, which undoes that.
    hurt: bool,
    /// UDP: the last datagram left it without an entry although it should have got one, or went nowhere by rule.
    unsure: bool,
}

/// All flows, and what else sends.
#[derive(Clone, Debug, Default)]
pub(super) struct Clients {
    flows: Vec<Flow>,
    /// 5-tuples whose flows are over, with their last sequence number.
    used: Vec<(Tuple, u32)>,
    /// Flows that nobody has, and when they send again.
    strays: Vec<(Tuple, Millis)>,
}

/// Sequence number of a backend's SYN-ACK for a SYN.
fn server_number(isn: u32, backend: Backend) -> u32 {
    Random(u64::from(isn) << 16 | u64::from(backend)).next() as u32
}

impl<C: Carrier> History<'_, C> {
    /// A new flow, sometimes on a 5-tuple used before.
    pub(super) fn begin_flow(&mut self) {
        let used = &mut self.clients.used;
        let (tuple, isn) = if !used.is_empty() && self.random.chance(0.35) {
            let at = used.len() - 1 - self.random.below(used.len().min(20));
            let (tuple, last) = used.remove(at);
            // A client's next number is a little or far beyond the last one.
            let step = self.random.pick(&[1_000, 200_000, 0x1234_5678]);
            (tuple, last.wrapping_add(step))
        } else {
            (self.new_tuple(), self.random.next() as u32)
        };
        self.summary.flows += 1;
        let now = self.world.now;
        let end = now + self.random.pick(&[3_000, 20_000, 120_000, 600_000]);
        self.clients.flows.push(Flow {
            tuple,
            isn,
            marked: self.random.chance(0.3),
            phase: if self.world.udp { Phase::Open } else { Phase::Opening },
            mine: 0,
            first_syn: now,
            last_syn: now,
            syns: 0,
            syn_acks: Vec::new(),
            last: now,
            due: now,
            end,
            answer: None,
            half_closed: false,
            hurt: false,
            unsure: false,
        });
    }

    fn new_tuple(&mut self) -> Tuple {
        let prefixes = self.world.prefixes.len();
        let prefix = (prefixes > 0 && self.random.chance(0.7)).then(|| self.random.below(prefixes.max(1)));
        let port = if self.world.classes.len() > 1 { self.random.below(2) } else { 0 };
        let tuple = self.carrier.tuple(&self.world, prefix, port, &mut self.random);
        self.world.tuples.push(tuple);
        tuple
    }

    /// One step of all flows, strays and attackers.
    pub(super) fn run_clients(&mut self) -> Result<(), Wrong> {
        for index in 0..self.clients.flows.len() {
            let mut flow = self.clients.flows[index].clone();
            let number = flow.tuple.number;
            let done = if self.world.udp { self.run_datagrams(&mut flow) } else { self.run_flow(&mut flow) };
            done.map_err(|what| (Some(number), what))?;
            self.clients.flows[index] = flow;
        }
        let ended: Vec<Flow> = self.clients.flows.extract_if(.., |flow| flow.phase == Phase::Ended).collect();
        self.clients.used.extend(ended.iter().map(|flow| (flow.tuple, flow.isn.wrapping_add(70_000))));
        self.run_strays()?;
        if !self.world.udp && self.random.chance(0.06) {
            self.attack()?;
        }
        Ok(())
    }

    fn run_flow(&mut self, flow: &mut Flow) -> Result<(), String> {
        let now = self.world.now;
        if let Some((_, from)) = flow.answer.filter(|(at, _)| *at <= now) {
            flow.answer = None;
            self.answer_flow(flow, from, Answer::Data)?;
        }
        self.receive_syn_acks(flow)?;
        match flow.phase {
            Phase::Opening => self.open(flow),
            Phase::Accepted { due } if now >= due => self.send_first(flow),
            Phase::Open if now > flow.end => self.end(flow),
            Phase::Open if now >= flow.due || self.random.chance(0.03) => self.send(flow),
            Phase::Accepted { .. } | Phase::Open | Phase::Ended => Ok(()),
        }
    }

    fn answer_flow(&mut self, flow: &Flow, from: Backend, answer: Answer) -> Result<(), String> {
        if !self.is_alive(from) {
            return Ok(());
        }
        self.note(Some(flow.tuple.number), || format!("{answer:?} from {from}"));
        self.carrier.answer(&mut self.world, from, flow.tuple, answer)
    }

    /// Whether a backend answers, and is one still: what one says that nothing refers to any more is nobody's.
    fn is_alive(&self, backend: Backend) -> bool {
        self.world.member(backend).is_some_and(|member| match member.health {
            Health::Up | Health::Draining => !member.retired,
            Health::Down { .. } => false,
        })
    }

    /// SYN-ACKs come in; the first one that the client gets decides whose the flow is.
    fn receive_syn_acks(&mut self, flow: &mut Flow) -> Result<(), String> {
        let now = self.world.now;
        let arrived: Vec<Backend> = flow.syn_acks.extract_if(.., |(at, _)| *at <= now).map(|(_, from)| from).collect();
        for from in arrived {
            if !self.is_alive(from) || self.random.chance(0.05) {
                continue;
            }
            let number = server_number(flow.isn, from);
            let answer = Answer::SynAck { sequence: number, ack: flow.isn.wrapping_add(1) };
            self.answer_flow(flow, from, answer)?;
            let in_time = now - flow.last_syn <= HANDSHAKE_LIMIT_MS;
            if flow.phase == Phase::Opening && in_time && !self.random.chance(0.1) {
                let hurry = now - flow.last_syn > 1_500;
                let due = if hurry { now } else { now + self.random.pick(&[0, 0, 400]) };
                flow.mine = from;
                flow.phase = Phase::Accepted { due };
                self.note(Some(flow.tuple.number), || format!("the client has a SYN-ACK of {from}"));
            }
        }
        Ok(())
    }

    /// SYNs at 0, 1 and 3 s; then the client gives up.
    fn open(&mut self, flow: &mut Flow) -> Result<(), String> {
        let now = self.world.now;
        let waits = [0, 1_000, 3_000, 7_000];
        if now - flow.first_syn < waits[flow.syns as usize] {
            return Ok(());
        }
        if flow.syns == 3 {
            flow.phase = Phase::Ended;
            return Ok(());
        }
        if now - flow.last_syn > HANDSHAKE_LIMIT_MS {
            flow.syn_acks.clear();
        }
        flow.syns += 1;
        if self.random.chance(0.05) {
            return Ok(());
        }
        flow.last_syn = now;
        let verdict = self.send_syn(flow.tuple, flow.isn, flow.marked)?;
        let Verdict::To(backend) = verdict else { return Ok(()) };
        // The SYN-ACK of one that gets no new flow is worth nothing once the SYN has gone elsewhere: its flow would end anyhow.
        flow.syn_acks.retain(|(_, from)| *from == backend || !self.world.takes_no_new_flow(*from));
        if !self.random.chance(0.1) {
            flow.syn_acks.push((now + self.random.pick(&[0, 100, 900, 1_500]), backend));
        }
        Ok(())
    }

    /// A SYN, which must not go to who gets no new flow.
    fn send_syn(&mut self, tuple: Tuple, isn: u32, marked: bool) -> Result<Verdict, String> {
        self.summary.packets += 1;
        let verdict = self.carrier.syn(&mut self.world, tuple, isn, marked)?;
        self.note(Some(tuple.number), || format!("SYN {isn:#x} (marked: {marked}): {verdict:?}"));
        match verdict {
            Verdict::To(backend) if self.world.is_down(backend) => {
                Err(format!("a new flow went to {backend}, which is down"))
            }
            Verdict::To(backend) => {
                let off = self.world.member(backend).is_some_and(|member| self.world.is_turned_off(member.version));
                if off { Err(format!("a new flow went to {backend}, which is turned off")) } else { Ok(verdict) }
            }
            Verdict::Dropped(Why::NoBackend | Why::DeferredNowhere) => Ok(verdict),
            Verdict::Reset | Verdict::Dropped(Why::Ended) => Err(format!("a SYN became {verdict:?}")),
        }
    }

    /// The packet that ends the handshake: a bare acknowledgement, or data that overtook it or outlived it.
    fn send_first(&mut self, flow: &mut Flow) -> Result<(), String> {
        let now = self.world.now;
        if now - flow.last_syn < 1_500 && self.random.chance(0.2) {
            flow.phase = Phase::Accepted { due: now + 300 };
            return Ok(());
        }
        flow.phase = Phase::Open;
        self.send(flow)
    }

    /// The numbers of a flow's next packet.
    fn later(&mut self, flow: &Flow, kind: Kind) -> Later {
        let sent = 1 + self.random.pick(&[0, 0, 1_460, 60_000]);
        let received = 1 + self.random.pick(&[0, 0, 1_460, 60_000]);
        Later {
            kind,
            sequence: flow.isn.wrapping_add(sent),
            ack: server_number(flow.isn, flow.mine).wrapping_add(received),
            marked: self.random.chance(0.3),
        }
    }

    fn send(&mut self, flow: &mut Flow) -> Result<(), String> {
        let is_bare = flow.half_closed || (self.random.chance(0.4) && !flow.hurt);
        flow.hurt = false;
        let kind = if is_bare { Kind::Ack } else { Kind::Data };
        self.send_as(flow, kind)?;
        let now = self.world.now;
        // The longest silence is a little shorter than `idleTimeout`; a lost answer makes the client say it again.
        let silence = self.random.pick(&[2_000, 20_000, 45_000, 58_000]);
        flow.due = now + silence;
        if flow.phase == Phase::Open && !flow.half_closed && self.random.chance(0.03) {
            flow.half_closed = true;
            self.send_as(flow, Kind::Fin)?;
        }
        if self.random.chance(0.15) {
            flow.due = now + 2_000;
        } else {
            flow.answer = Some((now, flow.mine));
        }
        Ok(())
    }

    /// Sends one packet, which must go to the flow's own backend, or be answered with RST by rule.
    fn send_as(&mut self, flow: &mut Flow, kind: Kind) -> Result<(), String> {
        if flow.phase == Phase::Ended {
            return Ok(());
        }
        self.summary.packets += 1;
        let later = self.later(flow, kind);
        let verdict = self.carrier.packet(&mut self.world, flow.tuple, later)?;
        self.note(Some(flow.tuple.number), || format!("{later:x?} of {}'s flow: {verdict:?}", flow.mine));
        flow.last = self.world.now;
        let ends = self.is_ended_by_rule(flow.mine);
        match verdict {
            Verdict::To(to) if to == flow.mine && !ends => Ok(()),
            Verdict::Reset if ends && kind != Kind::Rst => {
                flow.phase = Phase::Ended;
                Ok(())
            }
            Verdict::Dropped(Why::Ended) if ends && kind == Kind::Rst => Ok(()),
            Verdict::To(_) | Verdict::Reset | Verdict::Dropped(_) => {
                Err(format!("{verdict:?}, but the flow is {}'s (ends by rule: {ends})", flow.mine))
            }
        }
    }

    fn is_ended_by_rule(&self, backend: Backend) -> bool {
        self.world.member(backend).is_some_and(|member| {
            let by_release = match self.world.versions[member.version].existing {
                Existing::Reset => true,
                Existing::Stay | Existing::Move => false,
            };
            by_release || member.health == Health::Down { resets: true }
        })
    }

    /// By FIN of both sides, by RST, or by silence.
    fn end(&mut self, flow: &mut Flow) -> Result<(), String> {
        match self.random.below(3) {
            0 => {
                self.send_as(flow, Kind::Fin)?;
                self.answer_flow(flow, flow.mine, Answer::Fin)?;
                self.send_as(flow, Kind::Ack)?;
            }
            1 => self.send_as(flow, Kind::Rst)?,
            _ => {}
        }
        flow.phase = Phase::Ended;
        Ok(())
    }

    /// Between packets too every live flow resolves to its own backend.
    pub(super) fn audit(&mut self) -> Result<(), Wrong> {
        for index in 0..self.clients.flows.len() {
            let flow = self.clients.flows[index].clone();
            let in_time = match flow.phase {
                Phase::Accepted { .. } => self.world.now - flow.last_syn <= HANDSHAKE_LIMIT_MS,
                Phase::Open => self.world.now - flow.last < 60_000 && !self.world.udp,
                Phase::Opening | Phase::Ended => false,
            };
            let later = self.later(&flow, Kind::Ack);
            let way = self.world.way(flow.tuple, later);
            if in_time && way != flow.mine {
                return Err((Some(flow.tuple.number), format!("the way is {way}, but the flow is {}'s", flow.mine)));
            }
        }
        Ok(())
    }
}
