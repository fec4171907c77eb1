//! Shares of a service's new flows by segment, as counted of late.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::{daemon::owner::Owner, model::Name, rollout::Input};

/// Over how long shares are counted.
const WINDOW: Duration = Duration::from_secs(120);

/// Flows begun by segment, the newest last; what is in no segment stands under none.
#[derive(Debug, Default)]
pub(super) struct SegmentFlows {
    counted: VecDeque<(Duration, BTreeMap<Option<Name>, u64>)>,
}

impl SegmentFlows {
    /// Takes cumulative counts.
    fn push(&mut self, at: Duration, counts: BTreeMap<Option<Name>, u64>) {
        self.counted.push_back((at, counts));
        while self.counted.len() > 2 && self.counted[1].0 + WINDOW < at {
            self.counted.pop_front();
        }
    }

    /// Shares of the segments; none where no flow was counted.
    fn shares(&self) -> Option<BTreeMap<Name, f64>> {
        let ((_, first), (_, last)) = (self.counted.front()?, self.counted.back()?);
        let grown = |(segment, count): (&Option<Name>, &u64)| {
            (segment.clone(), count.saturating_sub(first.get(segment).copied().unwrap_or(0)))
        };
        let grown: BTreeMap<Option<Name>, u64> = last.iter().map(grown).collect();
        let all: u64 = grown.values().sum();
        let share = |(segment, count): (Option<Name>, u64)| Some((segment?, count as f64 / all as f64));
        (all > 0).then(|| grown.into_iter().filter_map(share).collect())
    }
}

impl Owner {
    /// Counts the flows of a running rollout's segments, and tells its engine their shares.
    pub(super) fn measure_shares(&mut self, name: &Name, at: Duration) {
        let (Some(service), Some(record)) = (self.layout.service(name), self.layout.services.get(name)) else { return };
        if service.segments.is_empty() {
            return;
        }
        let ids: Vec<_> =
            service.versions.iter().filter_map(|version| self.layout.ids.version(name, &version.name)).collect();
        let begun = |number: u8| ids.iter().map(|id| self.signals.begun(*id, number)).sum::<u64>();
        let own = service.segments.iter().filter_map(|segment| {
            Some((Some(segment.name.clone()), begun(record.segments.get(&segment.name)?.number)))
        });
        let counts = own.chain([(None, begun(0))]).collect();
        let Some(engine) = self.engines.get_mut(name) else { return };
        engine.flows.push(at, counts);
        if let Some(shares) = engine.flows.shares() {
            self.drive(name, |_| Input::Shares(shares));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_the_newest_flows() {
        let asia: Name = "asia".parse().expect("a name");
        let counts = |asia_flows, rest| [(Some(asia.clone()), asia_flows), (None, rest)].into();
        let mut flows = SegmentFlows::default();
        assert_eq!(flows.shares(), None);
        flows.push(Duration::ZERO, counts(0, 0));
        assert_eq!(flows.shares(), None, "nothing was counted");
        flows.push(Duration::from_secs(60), counts(40, 60));
        assert_eq!(flows.shares(), Some([(asia.clone(), 0.4)].into()));
        flows.push(Duration::from_secs(200), counts(40, 160));
        flows.push(Duration::from_secs(300), counts(40, 260));
        assert_eq!(flows.shares(), Some([(asia.clone(), 0.0)].into()), "the first minute is forgotten");
    }
}
