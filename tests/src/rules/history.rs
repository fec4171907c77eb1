//! Random histories: clients, backends, operators and faults around one world.

mod clients;
mod operators;
mod setup;

use std::fmt;

use super::{Answer, Backend, Later, Millis, Rule, Tuple, Verdict, World};
use crate::random::Random;

/// When histories begin: later than anything that a cell remembers.
const START_MS: Millis = 1_000_000;

/// Who carries packets through the program: nobody but the model, or the real program beside it.
pub trait Carrier {
    /// A 5-tuple whose source lies in a source prefix, or in none.
    fn tuple(&mut self, world: &World, prefix: Option<usize>, port: usize, random: &mut Random) -> Tuple;

    /// A SYN.
    fn syn(&mut self, world: &mut World, tuple: Tuple, isn: u32, marked: bool) -> Result<Verdict, String>;

    /// Any other packet of a connection.
    fn packet(&mut self, world: &mut World, tuple: Tuple, later: Later) -> Result<Verdict, String>;

    /// A datagram.
    fn datagram(&mut self, world: &mut World, tuple: Tuple) -> Result<Verdict, String>;

    /// A backend's packet.
    fn answer(&mut self, world: &mut World, from: Backend, tuple: Tuple, answer: Answer) -> Result<(), String>;

    /// The daemon's second.
    fn tick(&mut self, world: &mut World) -> Result<(), String>;
}

/// Only the model.
#[derive(Debug, Default)]
pub struct Alone;

impl Carrier for Alone {
    fn tuple(&mut self, world: &World, prefix: Option<usize>, port: usize, random: &mut Random) -> Tuple {
        let (bucket, slot) = (random.below(world.differs.len()), random.below(world.slots[0].len()));
        Tuple { number: world.tuples.len(), bucket, slot, prefix, port }
    }

    fn syn(&mut self, world: &mut World, tuple: Tuple, isn: u32, marked: bool) -> Result<Verdict, String> {
        Ok(world.syn(tuple, isn, marked))
    }

    fn packet(&mut self, world: &mut World, tuple: Tuple, later: Later) -> Result<Verdict, String> {
        Ok(world.packet(tuple, later))
    }

    fn datagram(&mut self, world: &mut World, tuple: Tuple) -> Result<Verdict, String> {
        Ok(world.datagram(tuple))
    }

    fn answer(&mut self, world: &mut World, from: Backend, tuple: Tuple, answer: Answer) -> Result<(), String> {
        world.answer(from, tuple, answer);
        Ok(())
    }

    fn tick(&mut self, world: &mut World) -> Result<(), String> {
        world.tick();
        Ok(())
    }
}

/// What a history went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Summary {
    /// Flows that began.
    pub flows: u64,
    /// Packets of clients.
    pub packets: u64,
    /// Changes of weights, backends, segments, guards.
    pub changes: u64,
    /// Cells that came to rest by idling, by pinning, by learning.
    pub settled: [u64; 3],
    /// SYNs that found no place.
    pub deferred: u64,
    /// Pins that found no place.
    pub refused: u64,
    /// Most entries at once.
    pub peak: usize,
}

impl std::ops::AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.flows += other.flows;
        self.packets += other.packets;
        self.changes += other.changes;
        (0..3).for_each(|how| self.settled[how] += other.settled[how]);
        self.deferred += other.deferred;
        self.refused += other.refused;
        self.peak = self.peak.max(other.peak);
    }
}

/// What went wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The history.
    pub seed: u64,
    /// Its step.
    pub step: u64,
    /// Monotonic time in the history.
    pub at_ms: Millis,
    /// What went wrong.
    pub what: String,
    /// The last things that happened to the flow's cells and the service, oldest first.
    pub before: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "history {}, step {}, at {} ms: {}", self.seed, self.step, self.at_ms, self.what)?;
        self.before.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        write!(f, "this one again: GRAYXDP_HISTORY={} cargo test -p grayxdp-tests --test rules", self.seed)
    }
}

/// How long histories are.
#[derive(Clone, Copy, Debug)]
pub struct Length {
    /// Steps; each takes half a second on average.
    pub steps: u64,
    /// Flows that begin in a step, on average.
    pub flows_per_step: f64,
}

impl Length {
    /// Long enough for every rule to matter.
    pub const USUAL: Self = Self { steps: 1_600, flows_per_step: 0.6 };
}

/// A history in progress.
struct History<'a, C> {
    random: Random,
    world: World,
    carrier: &'a mut C,
    clients: clients::Clients,
    operators: operators::Operators,
    summary: Summary,
    step: u64,
    log: Vec<(Option<usize>, String)>,
}

/// Runs one history through a carrier.
///
/// # Errors
/// The first packet that did not go where its flow is.
pub fn run<C: Carrier>(
    seed: u64,
    left: Option<Rule>,
    length: Length,
    start: impl FnOnce(&World) -> Result<C, String>,
) -> Result<Summary, Box<Failure>> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9).wrapping_add(17));
    let setup = setup::draw(&mut random);
    let world = World::new(&setup, seed, left, START_MS);
    let failure = |what| Box::new(Failure { seed, step: 0, at_ms: START_MS, what, before: Vec::new() });
    let mut carrier = start(&world).map_err(failure)?;
    let operators = operators::Operators::new(&world, &mut random);
    let mut history = History {
        random,
        world,
        carrier: &mut carrier,
        clients: clients::Clients::default(),
        operators,
        summary: Summary::default(),
        step: 0,
        log: Vec::new(),
    };
    match history.go(length) {
        Ok(()) => Ok(history.summary),
        Err((tuple, what)) => Err(Box::new(history.failure(seed, tuple, what))),
    }
}

/// What went wrong with which 5-tuple.
type Wrong = (Option<usize>, String);

impl<C: Carrier> History<'_, C> {
    fn go(&mut self, length: Length) -> Result<(), Wrong> {
        // Some histories are quiet, so that cells are forgotten.
        let flows = length.flows_per_step * self.random.pick(&[1.0, 1.0, 0.15]);
        while self.step < length.steps {
            self.step += 1;
            self.world.now += self.random.pick(&[10, 90, 400, 600, 900, 1_000]);
            self.operate()?;
            if self.random.chance(flows) {
                self.begin_flow();
            }
            self.run_clients()?;
            if self.step.is_multiple_of(4) {
                self.audit()?;
            }
            self.summary.peak = self.summary.peak.max(self.world.table.len());
        }
        self.summary.settled = self.world.settled;
        (self.summary.deferred, self.summary.refused) = (self.world.counts.deferred, self.world.counts.refused);
        Ok(())
    }

    /// Notes what happened to a flow, or to the service.
    fn note(&mut self, tuple: Option<usize>, what: impl FnOnce() -> String) {
        let line = format!("{:>5} {:>8} ms  {}", self.step, self.world.now - START_MS, what());
        self.log.push((tuple, line));
    }

    /// What happened to one flow and the service, without what others did.
    fn failure(&self, seed: u64, tuple: Option<usize>, what: String) -> Failure {
        let is_about = |about: &Option<usize>| about.is_none() || *about == tuple;
        let mut before: Vec<String> =
            self.log.iter().filter(|(about, _)| is_about(about)).map(|(_, line)| line.clone()).collect();
        before.drain(..before.len().saturating_sub(60));
        before.extend(tuple.map(|number| self.world.describe(self.world.tuples[number])));
        Failure { seed, step: self.step, at_ms: self.world.now - START_MS, what, before }
    }
}
