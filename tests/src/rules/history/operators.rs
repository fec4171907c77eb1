//! What happens to the service: weights, backends, segments, the guard, the daemon.

use super::{Carrier, History, Wrong, setup};
use crate::{
    random::Random,
    rules::{Backend, Existing, Guard, Health, Instance, Millis, World},
};

/// What the operators remember.
#[derive(Clone, Debug)]
pub(super) struct Operators {
    next_tick: Millis,
    /// The daemon does nothing until then.
    stopped_until: Millis,
    /// A latch was found and answered; it is cleared then.
    clear_at: Option<Millis>,
    /// Backends that leave and come, and whether this history is quiet about them.
    backends: f64,
    /// When flows without an entry may last have moved at once: a trip, an abort, a backend that went down.
    pub(super) moved_at_once: Millis,
}

impl Operators {
    pub(super) fn new(world: &World, random: &mut Random) -> Self {
        Self {
            next_tick: world.now,
            stopped_until: 0,
            clear_at: None,
            backends: random.pick(&[0.002, 0.01]),
            moved_at_once: 0,
        }
    }
}

impl<C: Carrier> History<'_, C> {
    /// One step of operators, faults and the daemon.
    pub(super) fn operate(&mut self) -> Result<(), Wrong> {
        let is_away = self.world.now < self.operators.stopped_until;
        if !is_away && self.world.now >= self.operators.next_tick {
            self.answer_latches();
            self.carrier.tick(&mut self.world).map_err(|what| (None, what))?;
            self.operators.next_tick = self.world.now + 1_000;
        }
        if !is_away {
            self.change();
        }
        if self.random.chance(0.004) {
            self.trip();
        }
        if !is_away && self.random.chance(0.002) {
            let away = self.random.within(2_000..90_000);
            self.operators.stopped_until = self.world.now + away;
            self.note(None, || format!("the daemon stops for {away} ms"));
            if self.random.chance(0.5) {
                self.world.restart();
            }
        }
        Ok(())
    }

    fn change(&mut self) {
        let before = self.summary.changes;
        if self.random.chance(0.01) {
            self.reweigh();
        }
        if self.random.chance(self.operators.backends) {
            self.change_backends();
        }
        if !self.world.prefixes.is_empty() && self.random.chance(0.006) {
            let (prefix, class) = (self.random.below(4), self.random.below(2));
            self.world.move_prefix(prefix, class);
            self.changed(|| format!("prefix {prefix} comes into class {class}"));
        }
        if !self.world.prefixes.is_empty() && !self.world.udp && self.random.chance(0.006) {
            self.change_instance();
        }
        if self.random.chance(0.006) {
            self.change_guard();
        }
        if self.random.chance(0.006) {
            self.change_existing();
        }
        debug_assert!(self.summary.changes >= before);
    }

    fn changed(&mut self, what: impl FnOnce() -> String) {
        self.summary.changes += 1;
        self.note(None, what);
    }

    /// Some buckets of one segment, or of all, go to one version.
    fn reweigh(&mut self) {
        if self.world.is_off() {
            return;
        }
        let (segments, buckets) = (self.world.buckets.len(), self.world.differs.len());
        let version = self.random.below(self.world.versions.len());
        if self.world.versions[version].existing != Existing::Stay {
            return;
        }
        let only = self.random.chance(0.6).then(|| self.random.below(segments));
        let (from, count) = (self.random.below(buckets), self.random.pick(&[1, buckets / 4, buckets / 2, buckets]));
        for segment in (0..segments).filter(|segment| only.is_none_or(|only| only == *segment)) {
            self.world.reweigh(segment, |bucket| ((bucket + buckets - from) % buckets < count).then_some(version));
        }
        self.changed(|| format!("version {version} gets {count} buckets from {from} on in segment {only:?}"));
    }

    fn change_backends(&mut self) {
        let world = &self.world;
        let known: Vec<Backend> = (1..=world.members.len() as Backend)
            .filter(|backend| world.member(*backend).is_some_and(|member| member.configured))
            .collect();
        let version = self.random.below(self.world.versions.len());
        if self.random.chance(0.3) && known.len() < 14 {
            self.world.join(version);
            let number = self.world.members.len();
            return self.changed(|| format!("backend {number} joins version {version}"));
        }
        let Some(backend) = known.get(self.random.below(known.len().max(1))).copied() else { return };
        if self.random.chance(0.3) {
            self.world.leave(backend);
            return self.changed(|| format!("backend {backend} is removed"));
        }
        let downs = [Health::Down { resets: true }, Health::Down { resets: false }, Health::Draining];
        let was_up = self.world.member(backend).is_some_and(|member| member.health == Health::Up);
        let health = if was_up { self.random.pick(&downs) } else { Health::Up };
        self.world.set_health(backend, health);
        self.operators.moved_at_once = self.world.now;
        self.changed(|| format!("backend {backend} is {health:?}"));
    }

    /// A prefix's flows go to one backend, or no more.
    fn change_instance(&mut self) {
        let prefix = self.random.below(4);
        if self.world.instance.is_some() {
            self.world.set_instance(None);
            for prefix in 0..4 {
                if self.world.prefixes[prefix].current == setup::INSTANCE_CLASS {
                    self.world.move_prefix(prefix, 0);
                }
            }
            return self.changed(|| "the canary instance ends".to_owned());
        }
        let backend = 1 + self.random.below(self.world.members.len()) as Backend;
        let is_up =
            |member: &crate::rules::Member| member.health == Health::Up && member.configured && member.version > 0;
        if self.world.member(backend).is_some_and(is_up) {
            self.world.set_instance(Some(Instance { backend, segment: setup::INSTANCE_SEGMENT }));
            self.world.move_prefix(prefix, setup::INSTANCE_CLASS);
            self.changed(|| format!("prefix {prefix} goes to the canary instance {backend}"));
        }
    }

    fn change_guard(&mut self) {
        if self.world.guard.is_none() {
            let candidate = 1 + self.random.below(self.world.versions.len() - 1);
            let lease = self.random.chance(0.5).then(|| self.world.now + self.random.within(5_000..60_000));
            let guard = Guard { candidate, stable: 0, tripped: false, lease_until: lease, expired: false };
            self.world.set_guard(Some(guard));
            self.changed(|| format!("a guard is armed: {guard:?}"));
        } else if !self.world.is_off() {
            self.world.set_guard(None);
            self.changed(|| "the guard is taken away".to_owned());
        }
    }

    fn trip(&mut self) {
        if self.world.guard.is_some() && !self.world.is_off() {
            self.world.trip();
            self.operators.moved_at_once = self.world.now;
            self.note(None, || "the fuse trips".to_owned());
            if self.random.chance(0.5) {
                self.operators.stopped_until = self.world.now + self.random.within(2_000..60_000);
            }
        }
    }

    /// The daemon finds a latch: aborts, or waits for an operator; some time later it is cleared.
    fn answer_latches(&mut self) {
        if !self.world.is_off() {
            self.operators.clear_at = None;
            return;
        }
        self.operators.moved_at_once = self.world.now;
        match self.operators.clear_at {
            None => {
                self.operators.clear_at = Some(self.world.now + self.random.within(1_000..120_000));
                if self.world.guard.is_some_and(|guard| guard.tripped) || self.random.chance(0.3) {
                    self.world.abort();
                    self.note(None, || "the daemon finds the latch and aborts".to_owned());
                }
            }
            Some(at) if self.world.now >= at => {
                let lease = self.random.chance(0.5).then(|| self.world.now + 30_000);
                self.world.clear_latches(lease);
                self.note(None, || format!("the latches are cleared; the lease runs until {lease:?}"));
            }
            Some(_) => {}
        }
    }

    /// Flows of a version that gets no new ones are ended, or no more.
    fn change_existing(&mut self) {
        let version = self.random.below(self.world.versions.len());
        let existing = self.world.versions[version].existing;
        let gets_new = self.world.buckets.iter().flatten().any(|bucket| bucket.current == version)
            || self.world.versions.iter().any(|other| other.failover == Some(version))
            || self.world.guard.is_some_and(|guard| guard.stable == version)
            || self.world.instance.is_some();
        let next = match existing {
            Existing::Reset | Existing::Move => Existing::Stay,
            Existing::Stay if gets_new => return,
            Existing::Stay if self.world.udp => Existing::Move,
            Existing::Stay => Existing::Reset,
        };
        self.world.set_existing(version, next);
        self.operators.moved_at_once = self.world.now;
        self.changed(|| format!("flows of version {version}: {next:?}"));
    }
}
