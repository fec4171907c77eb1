//! What fuses and leases latched, told to the engines; and how they stand, for people.

use crate::{
    daemon::owner::Owner,
    model::{
        Name,
        api::{FuseStatus, LeaseStatus},
        kernel::{GuardStatus, WantedFuse},
    },
    rollout::{Input, State},
};

impl Owner {
    /// From now on events of the data path wake the owner. Without them the ticks do.
    pub(super) fn wake_by_events(&mut self, wake: Box<dyn Fn() + Send>) {
        if let Err(error) = self.kernel.on_event(wake) {
            tracing::warn!("events of the data path are seen a second late: {error}");
        }
    }

    /// Reads all guards. An event of the data path only makes it happen sooner.
    pub(super) fn look_at_guards(&mut self) {
        if self.detached {
            return;
        }
        for guard in self.kernel.guards() {
            let Some((service, what)) = self.guarded(&guard) else { continue };
            if guard.tripped.is_some() {
                self.drive(&service, |_| Input::Tripped { what, failures: guard.failures });
            } else if guard.expired.is_some() {
                self.drive(&service, |_| Input::LeaseExpired);
            }
            if guard.alarm {
                self.drive(&service, |_| Input::NoStable);
            }
        }
    }

    /// The service of a guard and what its fuse counted; none for one that is not of the running attempt.
    fn guarded(&self, guard: &GuardStatus) -> Option<(Name, String)> {
        let name = self.layout.ids.service_name(guard.service)?;
        let state = self.running(name).filter(|state| is_of(guard, state))?;
        let service = self.layout.service(name)?;
        let limit = service.fuse.map_or_else(String::new, |fuse| {
            format!(", more than {} within {}", fuse.limit, humantime::format_duration(fuse.window))
        });
        let what = format!("{} connections to {} failed{limit}", guard.failures, state.candidate());
        Some((name.clone(), what))
    }

    /// Fuse and lease of a rollout that is armed; a fuse that tripped is shown after the end, too.
    pub(super) fn guard_status(&self, state: &State) -> (Option<FuseStatus>, Option<LeaseStatus>) {
        let id = self.layout.ids.service(state.service());
        let guards = self.kernel.guards();
        let guard = guards.iter().find(|guard| Some(guard.service) == id && is_of(guard, state));
        let needs = self.layout.needs.get(state.service()).and_then(|needs| needs.guard.as_ref());
        let needs = needs.filter(|_| !state.phase.is_final());
        let configured = self.layout.service(state.service()).and_then(|service| service.fuse);
        let fuse =
            needs.and_then(|needs| needs.fuse).map(|fuse| (fuse, guard.map_or(state.failures, |guard| guard.failures)));
        let ended = configured
            .filter(|_| state.tripped.is_some())
            .map(|fuse| (WantedFuse { limit: fuse.limit, ratio: fuse.ratio, window: fuse.window }, state.failures));
        let fuse = fuse.or(ended).map(|(fuse, failures)| FuseStatus {
            limit: fuse.limit,
            ratio: fuse.ratio,
            window_seconds: fuse.window.as_secs_f64(),
            failures,
            tripped: state.tripped.clone(),
        });
        let lease = state.plan.spec.lease.filter(|_| needs.is_some_and(|needs| needs.lease.is_some()));
        let lease = lease.map(|lease| LeaseStatus {
            duration_seconds: lease.duration.as_secs_f64(),
            on_expiry: lease.on_expiry,
            remaining_seconds: guard
                .and_then(|guard| guard.lease_until)
                .map(|until| until.saturating_sub(self.clock.kernel()).as_secs_f64()),
            expired: state.lease_expired,
        });
        (fuse, lease)
    }
}

/// Whether a guard is that of a rollout's present attempt.
fn is_of(guard: &GuardStatus, state: &State) -> bool {
    (guard.rollout, guard.attempt) == (state.number, state.attempt)
}
