//! Shadow releases: what the data path is to copy, who gets the copies, and what the engines are told of them.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch;

use crate::{
    analysis::{Measured, Stratum},
    balance::ids::BackendKey,
    daemon::owner::Owner,
    model::{
        Name, Weight,
        config::Service,
        kernel::{COPY_ALL, CopySink, ServiceId, WantedCopies},
        plan::Shadow,
    },
    providers::{Counts, ShadowBackend, ShadowTarget, ShadowTargets},
    rollout::{Input, State},
};

/// The owner's end of the way to those who send copies.
#[derive(Default)]
pub(super) struct Shadows {
    channel: Option<(watch::Sender<ShadowTargets>, CopySink)>,
    /// What becomes of the copies of the rollouts that run, by service.
    runs: BTreeMap<Name, Run>,
}

/// What becomes of the copies of one attempt of a rollout.
struct Run {
    number: (u64, u64),
    counts: Arc<Counts>,
}

impl Owner {
    /// From now on somebody sends copies.
    pub(super) fn begin_shadows(&mut self, targets: watch::Sender<ShadowTargets>, sink: CopySink) {
        self.shadows.channel = Some((targets, sink));
        self.follow_copies();
    }

    /// Has copied what the rollouts need, and tells those who send copies where to. What the kernel does not take is tried again
    /// at the next tick.
    pub(super) fn follow_copies(&mut self) {
        let running = self.engines.iter().filter(|(_, engine)| !engine.state.phase.is_final());
        let numbers: BTreeMap<_, _> =
            running.map(|(name, engine)| (name.clone(), (engine.state.number, engine.state.attempt))).collect();
        self.shadows.runs.retain(|name, run| numbers.get(name) == Some(&run.number));
        let copying = self.engines.iter().filter_map(|(name, engine)| {
            let shadow = engine.state.copying()?.clone();
            Some((name.clone(), (shadow, (engine.state.number, engine.state.attempt))))
        });
        let copying: BTreeMap<Name, (Shadow, (u64, u64))> = copying.collect();
        for (name, (_, number)) in &copying {
            let new = || Run { number: *number, counts: Arc::default() };
            self.shadows.runs.entry(name.clone()).or_insert_with(new);
        }
        if self.shadows.channel.is_none() {
            return;
        }
        let (mut targets, mut asked) = (BTreeMap::new(), WantedCopies::new());
        self.follow_flow_log(&mut asked);
        let Some((sender, sink)) = &self.shadows.channel else { return };
        for (name, (shadow, _)) in &copying {
            if let Some((id, target)) = self.shadow_target(name) {
                targets.insert(id, Arc::new(target));
                asked.entry(id).or_default().whole = rate(shadow.sample);
            }
        }
        sender.send_if_modified(|present| {
            let differs = **present != targets;
            if differs {
                *present = Arc::new(targets);
            }
            differs
        });
        match self.kernel.copy(&asked, sink) {
            Ok(()) => self.problems.copies = None,
            Err(error) => {
                if self.problems.copies.is_none() {
                    tracing::error!("packets cannot be copied, tried again every second: {error}");
                }
                self.problems.copies = Some(error.to_string());
            }
        }
    }

    fn shadow_target(&self, name: &Name) -> Option<(ServiceId, ShadowTarget)> {
        let state = &self.engines.get(name)?.state;
        let (service, record) = self.layout.service(name).zip(self.layout.services.get(name))?;
        let ids = &self.layout.ids;
        let target = ShadowTarget {
            run: (state.number, state.attempt),
            epoch: record.epoch,
            candidate: ids.version(name, state.candidate())?,
            backends: self.backends_up(service, state.candidate()),
            counts: Arc::clone(&self.shadows.runs.get(name)?.counts),
        };
        Some((ids.service(name)?, target))
    }

    fn backends_up(&self, service: &Service, version: &Name) -> Arc<[ShadowBackend]> {
        let Some(version) = service.version(version) else { return Arc::default() };
        let up = BackendKey::of(service, version).zip(&version.backends);
        let up = up.filter(|(key, _)| !self.layout.backends.contains_key(key)).map(|(_, backend)| ShadowBackend {
            address: backend.address,
            port: backend.port,
            weight: backend.weight,
        });
        up.collect()
    }

    /// Tells the engine of a service what became of its copies.
    pub(super) fn tell_copies(&mut self, service: &Name) {
        let Some(run) = self.shadows.runs.get(service) else { return };
        let counts = run.counts.all();
        self.drive(service, |_| Input::Copied(counts));
    }

    /// What was measured of the candidate of a shadow release, all in all; none of other rollouts.
    pub(super) fn shadowed(&self, state: &State) -> Option<Measured> {
        state.shadow()?;
        let mut sum = Measured::default();
        self.shadow_measured(state).values().for_each(|measured| sum.add(measured));
        Some(sum)
    }

    /// The same by stratum: clients of all segments together, in the two newest epochs.
    pub(super) fn shadow_strata(&self, state: &State) -> impl Iterator<Item = (Stratum, Measured)> {
        let newest = self.layout.services.get(state.service()).map_or(0, |record| record.epoch);
        let measured = self.shadow_measured(state).into_iter();
        let live = measured.filter(move |(epoch, _)| epoch + 1 >= newest);
        live.map(|(epoch, measured)| (Stratum { epoch, segment: 0 }, measured))
    }

    fn shadow_measured(&self, state: &State) -> BTreeMap<u64, Measured> {
        let run = self.shadows.runs.get(state.service()).filter(|run| run.number == (state.number, state.attempt));
        run.map(|run| run.counts.measured()).unwrap_or_default()
    }
}

/// Descriptors that this process may have open.
pub(super) fn most_files() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// The program's rate of a sample, at least its least one.
pub(super) fn rate(sample: Weight) -> u32 {
    let part = u64::from(COPY_ALL) * u64::from(sample.hundredths()) / u64::from(Weight::FULL.hundredths());
    u32::try_from(part).unwrap_or(COPY_ALL).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_in_per_cent_is_the_programs_rate() {
        let of = |hundredths: u16| rate(Weight::from_hundredths(hundredths).expect("a weight"));
        assert_eq!((of(10_000), of(1_000), of(5_000), of(1)), (COPY_ALL, 3_276, COPY_ALL / 2, 3));
    }
}
