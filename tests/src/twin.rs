//! The real program beside the model: every packet goes through both, and they must say the same.
//!
//! Tables of the program are the model's cells repeated: bucket `n` of the program is cell `n` modulo the model's buckets, and
//! so with slots. The model decides what is settled and swept; what it removes from its table is removed from the
//! program's. Whether an entry finds a place the program decides, and tells by its counters.

mod entries;
mod explained;
mod frames;
mod tables;
mod traces;

use std::{collections::BTreeMap, net::SocketAddrV4, time::Duration};

use grayxdp::{
    datapath::Capacity,
    model::kernel::{Counters, Kernel as _, Reason, ServiceId},
};
use grayxdp_common::hash::FlowHash;

use self::entries::Entries;
use crate::{
    bench::case::verdict,
    host,
    packet::Packet,
    random::Random,
    rules::{Answer, Backend, Counts, Guard, Later, Tuple, Verdict, Why, World, history::Carrier},
    subject::Subject,
};

/// The service under test.
const SERVICE: ServiceId = ServiceId(1);
/// Backends that the host knows as neighbours.
const BACKENDS: Backend = 80;

/// Lines of `ip` that make all backends neighbours.
#[must_use]
pub fn neighbours() -> Vec<String> {
    (1..=BACKENDS).map(|backend| host::neighbour(host::NEAR, frames::backend(backend))).collect()
}

/// A flow's client, and where its entries lie.
#[derive(Clone, Copy, Debug)]
struct Client {
    end: SocketAddrV4,
    port: usize,
    hash: FlowHash,
}

/// The program, and what it was last told.
pub struct Twin {
    subject: Subject,
    entries: Entries,
    clients: BTreeMap<usize, Client>,
    counters: Counters,
    guard: Option<Guard>,
    attempt: u64,
    epoch: u64,
    clock: u64,
    /// What the program was last shown.
    shown: u64,
    /// Which packets are explained in between.
    random: Random,
}

impl Twin {
    /// Loads the program with the tables of a world. To be called inside the namespace of a host with [`neighbours`].
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn new(world: &World) -> Result<Self, String> {
        let wanted = tables::wanted(world, 0, 1);
        // Eight places, or so many that every entry finds one.
        let exception_sets_log2 = if world.has_small_table() { 1 } else { 14 };
        let capacity = Capacity {
            exception_sets_log2,
            marks_log2: 6,
            flows_log2: 6,
            ..Capacity::of(&tables::largest(world)).with_room()
        };
        let subject = Subject::open_timeless(&wanted, capacity).map_err(|error| format!("{error:#}"))?;
        let entries = Entries::open(subject.datapath.map_folder()).map_err(|error| format!("{error:#}"))?;
        let counters = subject.counters().map_err(|error| format!("{error:#}"))?;
        let mut twin = Self {
            subject,
            entries,
            clients: BTreeMap::new(),
            counters,
            guard: None,
            attempt: 0,
            epoch: 1,
            clock: 0,
            shown: tables::digest(world),
            random: Random(world.tuples.len() as u64 ^ tables::digest(world)),
        };
        twin.follow(world)?;
        Ok(twin)
    }

    /// Brings tables, guard and clock to where the world is.
    fn follow(&mut self, world: &World) -> Result<(), String> {
        if self.clock != world.now {
            self.clock = world.now;
            self.subject.set_clock(Duration::from_millis(world.now)).map_err(|error| format!("{error:#}"))?;
        }
        let armed = world.guard.is_some() && self.guard.is_none();
        let digest = if world.dirty { tables::digest(world) } else { self.shown };
        if digest != self.shown || armed {
            self.shown = digest;
            self.attempt += u64::from(armed);
            self.epoch += 1;
            let wanted = tables::wanted(world, self.attempt, self.epoch);
            self.subject.datapath.publish(&wanted).map_err(|error| error.to_string())?;
        }
        if self.guard != world.guard || armed {
            self.guard = world.guard;
            if let Some(guard) = world.guard {
                let until = guard.lease_until.map_or(Duration::from_secs(1 << 30), Duration::from_millis);
                self.subject.datapath.renew_lease(SERVICE, until);
                self.entries.latch(self.attempt, &guard).map_err(|error| format!("{error:#}"))?;
            }
        }
        Ok(())
    }

    /// Runs one frame and says what became of it and what was counted.
    fn run(&mut self, packet: &Packet) -> Result<(Option<Verdict>, Option<Reason>, Counts), String> {
        let (said, output) = self.subject.run(&packet.bytes(), host::NEAR).map_err(|error| format!("{error:#}"))?;
        let after = self.subject.counters().map_err(|error| format!("{error:#}"))?;
        let counts = counts_between(&self.counters, &after);
        let reasons = after.reasons.iter().filter(|(key, count)| self.counters.reasons.get(key) != Some(*count));
        let reasons: Vec<Reason> = reasons.map(|((_, reason), _)| *reason).collect();
        self.counters = after;
        let to_client = output.get(30..34) == Some(&packet.source.ip().octets()[..]);
        let verdict = match (said, reasons.as_slice()) {
            (verdict::TX, []) => frames::backend_of(&output).map(Verdict::To),
            (verdict::TX, [Reason::BackendDown | Reason::FlowReset]) if to_client => Some(Verdict::Reset),
            (verdict::DROP, [Reason::NoBackend]) => Some(Verdict::Dropped(Why::NoBackend)),
            (verdict::DROP, [Reason::DeferredNowhere]) => Some(Verdict::Dropped(Why::DeferredNowhere)),
            (verdict::DROP, [Reason::BackendDownDropped | Reason::FlowResetDropped]) => {
                Some(Verdict::Dropped(Why::Ended))
            }
            (said, reasons) => return Err(format!("the program said {said} for {reasons:?}: {output:02x?}")),
        };
        Ok((verdict, reasons.first().copied(), counts))
    }

    /// A client's packet through both.
    fn both(
        &mut self,
        world: &mut World,
        packet: &Packet,
        model: impl FnOnce(&mut World) -> Verdict,
    ) -> Result<Verdict, String> {
        self.follow(world)?;
        world.dirty = false;
        let told = self.explain(packet)?;
        let (real, reason, counted) = self.run(packet)?;
        explained::check(&told, real, reason, &counted)?;
        world.tell_place(Some(counted.deferred + counted.refused == 0));
        let before = world.counts;
        let modelled = model(world);
        let expected = difference(&before, &world.counts);
        if real != Some(modelled) || counted != expected {
            return Err(format!(
                "the program: {real:?}, {counted:?}; the model: {modelled:?}, {expected:?}\n  the program's entries: {}",
                self.entries.describe(&self.clients, world)
            ));
        }
        self.check_lease(world)?;
        Ok(modelled)
    }

    /// The program latches an expired lease when the model does.
    fn check_lease(&mut self, world: &World) -> Result<(), String> {
        let Some(guard) = world.guard else { return Ok(()) };
        self.guard = world.guard;
        let found = self.subject.datapath.guards().iter().any(|guard| guard.expired.is_some());
        if found == guard.expired {
            return Ok(());
        }
        Err(format!("the program has found the lease expired: {found}; the model: {}", guard.expired))
    }

    fn client(&self, tuple: Tuple) -> Client {
        self.clients[&tuple.number]
    }
}

impl Carrier for Twin {
    fn tuple(&mut self, world: &World, prefix: Option<usize>, port: usize, random: &mut Random) -> Tuple {
        let number = world.tuples.len();
        let end = frames::client(prefix, random);
        let hash = frames::hash(end, port, world.udp);
        self.clients.insert(number, Client { end, port, hash });
        let bucket = usize::from(hash.bucket()) % world.differs.len();
        Tuple { number, bucket, slot: usize::from(hash.slot()) % world.slots[0].len(), prefix, port }
    }

    fn syn(&mut self, world: &mut World, tuple: Tuple, isn: u32, marked: bool) -> Result<Verdict, String> {
        let client = self.client(tuple);
        let packet = frames::syn(client.end, client.port, isn, marked);
        self.both(world, &packet, |world| world.syn(tuple, isn, marked))
    }

    fn packet(&mut self, world: &mut World, tuple: Tuple, later: Later) -> Result<Verdict, String> {
        let client = self.client(tuple);
        let packet = frames::later(client.end, client.port, later);
        self.both(world, &packet, |world| world.packet(tuple, later))
    }

    fn datagram(&mut self, world: &mut World, tuple: Tuple) -> Result<Verdict, String> {
        let client = self.client(tuple);
        let packet = frames::datagram(client.end, client.port);
        self.both(world, &packet, |world| world.datagram(tuple))
    }

    fn answer(&mut self, world: &mut World, from: Backend, tuple: Tuple, answer: Answer) -> Result<(), String> {
        self.follow(world)?;
        world.dirty = false;
        let client = self.client(tuple);
        let packet = frames::answer(from, client.end, client.port, answer, world.udp);
        let (said, output) = self.subject.run(&packet.bytes(), host::NEAR).map_err(|error| format!("{error:#}"))?;
        if said != verdict::TX || output[26..30] != frames::VIP.octets() {
            return Err(format!("the program said {said} to an answer: {output:02x?}"));
        }
        self.counters = self.subject.counters().map_err(|error| format!("{error:#}"))?;
        world.answer(from, tuple, answer);
        Ok(())
    }

    fn tick(&mut self, world: &mut World) -> Result<(), String> {
        if self.random.chance(0.01) {
            self.follow(world)?;
            world.dirty = false;
            let mut random = self.random.clone();
            self.random.next();
            self.explain_some(world, &mut random)?;
        }
        let before = world.table.clone();
        world.tick();
        self.entries.remove_gone(&before, &world.table, &self.clients).map_err(|error| format!("{error:#}"))
    }
}

/// What one packet added to the service's counters.
fn counts_between(before: &Counters, after: &Counters) -> Counts {
    let of = |counters: &Counters| {
        let counters = counters.exceptions.get(&SERVICE).copied().unwrap_or_default();
        Counts {
            half_open: counters.half_open,
            completed: counters.completed,
            pinned: counters.pinned,
            deferred: counters.choice_deferred,
            refused: counters.pins_refused,
        }
    };
    difference(&of(before), &of(after))
}

fn difference(before: &Counts, after: &Counts) -> Counts {
    Counts {
        half_open: after.half_open - before.half_open,
        completed: after.completed - before.completed,
        pinned: after.pinned - before.pinned,
        deferred: after.deferred - before.deferred,
        refused: after.refused - before.refused,
    }
}
