//! What a rollout needs of the data path beyond the weights.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    model::{
        Name, Weight,
        config::{BackendAddress, Match, Protocol, Service},
        kernel::{ExistingFlows, LeaseEnd, WantedFuse},
        plan::FlowsEnd,
        state::RolloutState,
    },
    rollout::{
        exposure::{Aside, Exposure},
        state::State,
    },
};

/// What a rollout needs of the data path beyond the weights. The default is: nothing.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RolloutNeeds {
    /// Fuse and lease.
    pub guard: Option<GuardNeeds>,
    /// Clients that meet the candidate beside the weights.
    pub aside: Option<AsideNeeds>,
    /// Segments that have another weight of the candidate than the rest.
    pub segments: BTreeMap<Name, Weight>,
    /// A version whose flows in progress do not just go on.
    pub existing: Option<(Name, ExistingFlows)>,
    /// Whether every handshake is measured.
    pub measures: bool,
}

/// Fuse and lease of a rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardNeeds {
    /// Attempt of the rollout.
    pub attempt: u64,
    /// The version to turn off.
    pub candidate: Name,
    /// The version that takes over.
    pub stable: Name,
    /// When the fuse trips.
    pub fuse: Option<WantedFuse>,
    /// What the end of the lease does; none: there is no lease.
    pub lease: Option<LeaseEnd>,
}

/// Clients that meet the candidate beside the weights: at a canary instance, or in a preview.
#[derive(Clone, Debug, PartialEq)]
pub struct AsideNeeds {
    /// The version.
    pub candidate: Name,
    /// The one backend that they meet, one of that version's; any of them where there is none.
    pub backend: Option<BackendAddress>,
    /// Which new flows those are.
    pub r#match: Match,
}

impl State {
    /// What the data path is to have with an exposure; [`State::exposure`] for what is in the kernel now. `wall` is the time
    /// on the wall clock since the Unix epoch.
    #[must_use]
    pub fn needs(&self, service: &Service, exposure: &Exposure, wall: Duration) -> RolloutNeeds {
        RolloutNeeds {
            guard: self.guard(service, exposure),
            aside: exposure.aside.as_ref().map(|Aside { r#match, backend }| AsideNeeds {
                candidate: self.candidate().clone(),
                backend: *backend,
                r#match: r#match.clone(),
            }),
            segments: exposure.segments.clone(),
            existing: self.existing(service, wall),
            measures: self.is_armed(exposure),
        }
    }

    /// The same for a state from the journal, of which the kernel holds `weight`, written by rollout `number`: a change that
    /// was under way may have been written.
    #[must_use]
    pub fn needs_at_start(&self, service: &Service, weight: Weight, number: u64, wall: Duration) -> RolloutNeeds {
        let written = self.flight.as_ref().filter(|flight| flight.exposure.weight == weight && number == self.number);
        self.needs(service, written.map_or(&self.exposure, |flight| &flight.exposure), wall)
    }

    /// Whether the candidate may have new flows.
    fn is_armed(&self, exposure: &Exposure) -> bool {
        match self.phase {
            RolloutState::Pending => !exposure.is_nothing(),
            RolloutState::Progressing | RolloutState::Paused | RolloutState::Frozen | RolloutState::Promoting => true,
            RolloutState::RollingBack => self.reversing.is_some(),
            RolloutState::Promoted | RolloutState::RolledBack | RolloutState::Completed | RolloutState::Failed => false,
        }
    }

    fn guard(&self, service: &Service, exposure: &Exposure) -> Option<GuardNeeds> {
        let fuse = service.fuse.map(|fuse| WantedFuse { limit: fuse.limit, ratio: fuse.ratio, window: fuse.window });
        let lease = self.plan.spec.lease.map(|lease| lease.on_expiry);
        (self.is_armed(exposure) && self.shadow().is_none() && (fuse.is_some() || lease.is_some())).then(|| {
            GuardNeeds {
                attempt: self.attempt,
                candidate: self.candidate().clone(),
                stable: self.stable.clone(),
                fuse,
                lease,
            }
        })
    }

    /// The flows of the version that lost. A flow that was silent for longer than `idleTimeout` is not known any more, so
    /// this ends as long after its begin.
    fn existing(&self, service: &Service, wall: Duration) -> Option<(Name, ExistingFlows)> {
        let flows = self.plan.spec.existing_flows;
        let (version, end) = match self.phase {
            RolloutState::Promoted => (&self.stable, flows.on_promote),
            RolloutState::RollingBack if self.reversing.is_some() => return None,
            RolloutState::RollingBack | RolloutState::RolledBack => (self.candidate(), flows.on_rollback),
            RolloutState::Pending
            | RolloutState::Progressing
            | RolloutState::Paused
            | RolloutState::Frozen
            | RolloutState::Promoting
            | RolloutState::Completed
            | RolloutState::Failed => return None,
        };
        let forced = match service.protocol {
            Protocol::Tcp => ExistingFlows::Reset,
            Protocol::Udp => ExistingFlows::Move,
        };
        let begin = match end {
            FlowsEnd::Pin => return None,
            FlowsEnd::Drain => flows.deadline,
            FlowsEnd::Reset | FlowsEnd::Move => Duration::ZERO,
        };
        let age = self.ended.map_or(Duration::ZERO, |ended| wall.saturating_sub(ended));
        (begin..=begin + service.idle_timeout).contains(&age).then(|| (version.clone(), forced))
    }
}
