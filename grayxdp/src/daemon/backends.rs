//! Backends that do not take all flows: their health, and what operators want of them.
//!
//! | health | wish | state |
//! | --- | --- | --- |
//! | any | disabled | down |
//! | bad | any | down |
//! | good | drained | draining |
//! | good | enabled | up |

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    balance::ids::BackendKey,
    daemon::owner::{Owner, check_epoch, log},
    health::{Check, Report, Target, Targets},
    model::{
        Name,
        api::{ApiError, BackendAction, BackendName, ChangeOptions, Done},
        config::{Config, OnDown, Service},
        event::Event,
        kernel::{BackendId, BackendState, Counters},
    },
    store::{JournaledBackend, StoreError, Wish},
};

/// Time without a packet after which a backend without entries counts as drained.
pub(super) const QUIET: Duration = Duration::from_secs(10);

/// What is known of a backend that is or was special.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Condition {
    pub(super) wish: Wish,
    pub(super) actor: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) is_healthy: bool,
    /// Why the last check failed.
    pub(super) error: Option<String>,
    /// Since when its state is what it is, on the wall clock.
    pub(super) since: Duration,
}

impl Condition {
    const fn fine(since: Duration) -> Self {
        Self { wish: Wish::Enabled, actor: None, reason: None, is_healthy: true, error: None, since }
    }

    const fn state(&self, on_down: OnDown) -> BackendState {
        let down = BackendState::Down { resets: matches!(on_down, OnDown::Reset) };
        match (self.wish, self.is_healthy) {
            (Wish::Disabled, _) | (_, false) => down,
            (Wish::Drained, true) => BackendState::Draining,
            (Wish::Enabled, true) => BackendState::Up,
        }
    }

    /// Why it does not take all flows.
    pub(super) fn why(&self) -> Option<String> {
        let by = |word: &str| {
            let actor = self.actor.as_ref().map(|actor| format!(" by {actor}")).unwrap_or_default();
            let reason = self.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("{word}{actor}{reason}")
        };
        let health = || self.error.as_ref().map_or_else(|| "not well before the restart".to_owned(), Clone::clone);
        match (self.wish, self.is_healthy) {
            (Wish::Disabled, _) => Some(by("disabled")),
            (Wish::Drained | Wish::Enabled, false) => Some(format!("health check: {}", health())),
            (Wish::Drained, true) => Some(by("drained")),
            (Wish::Enabled, true) => None,
        }
    }
}

/// All conditions, and the way to those who check.
#[derive(Debug, Default)]
pub(super) struct Backends {
    pub(super) conditions: BTreeMap<BackendKey, Condition>,
    checks: Option<watch::Sender<Targets>>,
    /// The kernel does not have all of it yet.
    changed: bool,
    /// The journal does not have all of it yet.
    unsaved: bool,
    /// Packets of backends that take no new flows, and when the last came: monotonic.
    traffic: BTreeMap<BackendId, (u64, Duration)>,
}

impl Backends {
    /// From the journal.
    pub(super) fn from_journal(backends: Vec<JournaledBackend>) -> Self {
        let condition = |known: JournaledBackend| {
            let JournaledBackend { key, wish, actor, reason, is_healthy, since } = known;
            (key, Condition { wish, actor, reason, is_healthy, error: None, since })
        };
        Self { conditions: backends.into_iter().map(condition).collect(), ..Self::default() }
    }

    fn journaled(&self) -> Vec<JournaledBackend> {
        let special = |(_, condition): &(&BackendKey, &Condition)| condition.state(OnDown::Reset) != BackendState::Up;
        let known = |(key, condition): (&BackendKey, &Condition)| JournaledBackend {
            key: key.clone(),
            wish: condition.wish,
            actor: condition.actor.clone(),
            reason: condition.reason.clone(),
            is_healthy: condition.is_healthy,
            since: condition.since,
        };
        self.conditions.iter().filter(special).map(known).collect()
    }

    /// How all backends stand that are not up, under a configuration. One without health checks is well.
    pub(super) fn states(&self, config: &Config) -> BTreeMap<BackendKey, BackendState> {
        let state = |(key, condition): (&BackendKey, &Condition)| {
            let service = config.services.iter().find(|service| service.name == key.service);
            let checked = service.is_none_or(|service| service.health_check.is_some());
            let on_down = service.map(|service| service.on_down).unwrap_or_default();
            let condition = Condition { is_healthy: condition.is_healthy || !checked, ..condition.clone() };
            Some((key.clone(), condition.state(on_down))).filter(|(_, state)| *state != BackendState::Up)
        };
        self.conditions.iter().filter_map(state).collect()
    }

    /// When a backend that takes no new flows had its last packet, as far as anybody looked.
    pub(super) fn last_packet(&self, id: BackendId) -> Option<Duration> {
        self.traffic.get(&id).map(|(_, at)| *at)
    }
}

impl Owner {
    /// Begins to have backends checked.
    pub(super) fn begin_checks(&mut self, checks: watch::Sender<Targets>) {
        self.backends.checks = Some(checks);
        self.renew_checks();
    }

    /// Tells those who check what is configured now.
    pub(super) fn renew_checks(&mut self) {
        let Some(checks) = &self.backends.checks else { return };
        let config = &self.layout.config;
        let checked = config.services.iter().filter_map(|service| Some((service, service.health_check.as_ref()?)));
        let targets = checked.flat_map(|(service, health)| {
            let conditions = &self.backends.conditions;
            service.versions.iter().flat_map(move |version| {
                BackendKey::of(service, version).zip(&version.backends).map(move |(key, backend)| {
                    let is_up = conditions.get(&key).is_none_or(|condition| condition.is_healthy);
                    (key, Target { check: Check::of(service, backend, health), is_up })
                })
            })
        });
        let targets: BTreeMap<_, _> = targets.collect();
        checks.send_if_modified(|present| {
            let differs = **present != targets;
            if differs {
                *present = Arc::new(targets);
            }
            differs
        });
    }

    /// A health check found something new.
    pub(super) fn note_health(&mut self, report: Report) {
        let Report { backend, is_up, error } = report;
        let checked = |service: &Service| {
            let keys = || service.versions.iter().flat_map(|version| BackendKey::of(service, version));
            service.health_check.is_some() && keys().any(|key| key == backend)
        };
        if !self.layout.service(&backend.service).is_some_and(checked) {
            return;
        }
        let wall = self.clock.now().wall;
        let condition = self.backends.conditions.entry(backend.clone()).or_insert(Condition::fine(wall));
        condition.error.clone_from(&error);
        if condition.is_healthy == is_up {
            return;
        }
        (condition.is_healthy, condition.since) = (is_up, wall);
        (self.backends.changed, self.backends.unsaved) = (true, true);
        let (kind, message) = match error {
            None => ("backendUp", format!("backend {} is up again", said(&backend))),
            Some(error) => ("backendDown", format!("backend {} is down: {error}", said(&backend))),
        };
        self.service_event(&backend.service, kind, message, "daemon", None);
    }

    /// Gives the kernel, then the journal what changed about backends. What fails is tried again at the next tick.
    pub(super) fn follow_backends(&mut self) {
        if self.detached {
            return;
        }
        if self.backends.changed {
            self.backends.changed = !self.publish_backends();
        }
        self.save_backends();
    }

    /// Whether the kernel has what backends are like now.
    fn publish_backends(&mut self) -> bool {
        let backends = self.backends.states(&self.layout.config);
        if backends == self.layout.backends {
            return true;
        }
        let mut next = self.layout.clone();
        next.backends = backends;
        self.exchange_layout(next, "backends that are up or down")
    }

    fn save_backends(&mut self) {
        if self.backends.unsaved {
            let saved = self.journal.save_backends(&self.backends.journaled());
            self.backends.unsaved = saved.is_err();
            self.note_journal(saved);
        }
    }

    /// Forgets backends that have no number any more, and checks those that are configured now.
    pub(super) fn follow_configuration(&mut self) {
        let ids = self.layout.ids.clone();
        self.backends.conditions.retain(|key, _| ids.backend(key).is_some());
        self.backends.changed = true;
        self.renew_checks();
        self.follow_backends();
    }

    /// Looks at which backends that take no new flows still have packets.
    pub(super) fn note_traffic(&mut self, at: Duration, counters: &Counters) {
        let ids: Vec<_> = self.layout.backends.keys().filter_map(|key| self.layout.ids.backend(key)).collect();
        let traffic = &mut self.backends.traffic;
        traffic.retain(|id, _| ids.contains(id));
        for id in ids {
            let counted = counters.backends.get(&id).copied().unwrap_or_default();
            let packets = counted.packets_forward + counted.packets_reverse;
            let seen = traffic.entry(id).or_insert((packets, at));
            if seen.0 != packets {
                *seen = (packets, at);
            }
        }
    }

    /// `backend drain`, `disable`, `enable`.
    pub(super) fn change_backends(
        &mut self,
        name: &Name,
        backends: &[BackendName],
        action: BackendAction,
        options: &ChangeOptions,
        actor: &str,
    ) -> Result<Done, ApiError> {
        let (service, record) = self.known(name)?;
        check_epoch(name, record.epoch, options)?;
        let wish = match action {
            BackendAction::Drain => Wish::Drained,
            BackendAction::Disable => Wish::Disabled,
            BackendAction::Enable => Wish::Enabled,
        };
        let keys = backends.iter().map(|backend| find(&service, backend)).collect::<Result<Vec<_>, _>>()?;
        let wish_of = |key: &BackendKey| self.backends.conditions.get(key).map_or(Wish::Enabled, |known| known.wish);
        let (same, differ): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| wish_of(key) == wish);
        let mut changes: Vec<_> = same.iter().map(|key| format!("{}: {} already", said(key), word(wish))).collect();
        changes.extend(differ.iter().map(|key| format!("{}: {} → {}", said(key), word(wish_of(key)), word(wish))));
        if options.dry_run || differ.is_empty() {
            return Ok(Done { changes, dry_run: options.dry_run });
        }
        let before = self.backends.conditions.clone();
        let wall = self.clock.now().wall;
        for key in &differ {
            let condition = self.backends.conditions.entry(key.clone()).or_insert(Condition::fine(wall));
            (condition.wish, condition.since) = (wish, wall);
            condition.actor = (wish != Wish::Enabled).then(|| actor.to_owned());
            condition.reason = options.reason.clone().filter(|_| wish != Wish::Enabled);
        }
        let events: Vec<_> = differ.iter().map(|key| self.backend_event(key, wish, actor, options)).collect();
        self.apply_wish(wish, &events).inspect_err(|_| self.backends.conditions = before)?;
        changes.extend(self.emptied(&service));
        Ok(Done { changes, dry_run: false })
    }

    /// What takes flows off goes to the kernel first; what gives them back is durable first.
    fn apply_wish(&mut self, wish: Wish, events: &[Event]) -> Result<(), ApiError> {
        let unchanged = |what: String| ApiError::failed(format!("nothing was changed: {what}"));
        let gives_back = wish == Wish::Enabled;
        if gives_back {
            let saved = self.journal.save_backends(&self.backends.journaled());
            saved.map_err(|error| unchanged(error.to_string()))?;
        }
        if !self.publish_backends() {
            self.backends.unsaved |= gives_back;
            return Err(unchanged(self.problems.publish.clone().unwrap_or_default()));
        }
        events.iter().for_each(log);
        let backends = self.backends.journaled();
        let written = self.journal.transaction(|journal| -> Result<(), StoreError> {
            journal.save_backends(&backends)?;
            events.iter().try_for_each(|event| journal.append_event(event).map(drop))
        });
        self.backends.unsaved = written.is_err();
        self.note_journal(written);
        Ok(())
    }

    fn backend_event(&self, key: &BackendKey, wish: Wish, actor: &str, options: &ChangeOptions) -> Event {
        let (kind, what) = match wish {
            Wish::Enabled => ("backendEnabled", "may take all flows again"),
            Wish::Drained => ("backendDrained", "takes no new flows"),
            Wish::Disabled => ("backendDisabled", "takes no flows"),
        };
        self.event_of(&key.service, kind, format!("backend {} {what}", said(key)), actor, options.reason.clone())
    }

    /// Versions that are left without a backend for new flows, said to who did it.
    pub(super) fn emptied(&self, service: &Service) -> Vec<String> {
        let takes_none = |key: BackendKey| self.layout.backends.contains_key(&key);
        let empty = service.versions.iter().filter(|version| BackendKey::of(service, version).all(takes_none));
        empty.map(|version| format!("{} of {} has no backend left for new flows", version.name, service.name)).collect()
    }
}

/// The one backend that an operator means.
fn find(service: &Service, meant: &BackendName) -> Result<BackendKey, ApiError> {
    let Some(version) = service.version(&meant.version) else {
        let known = service.versions.iter().map(|version| &version.name);
        return Err(super::names::not_found(&format!("version of {}", service.name), &meant.version, known));
    };
    let backends = BackendKey::of(service, version).zip(&version.backends);
    let mut found = backends.filter(|(_, backend)| meant.address.means(service, backend)).map(|(key, _)| key);
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => Err(ApiError::input(format!("{meant} means several backends: add the port"))),
        (None, _) => {
            let known: Vec<_> = version.backends.iter().map(|b| service.backend_address(b).to_string()).collect();
            let message = format!("there is no backend {meant} of {}; known are {}", service.name, known.join(", "));
            Err(ApiError::not_found(message))
        }
    }
}

/// `v1/10.0.1.1:8080`.
fn said(key: &BackendKey) -> String {
    match key.address.port() {
        0 => format!("{}/{}", key.version, key.address.ip()),
        _ => format!("{}/{}", key.version, key.address),
    }
}

const fn word(wish: Wish) -> &'static str {
    match wish {
        Wish::Enabled => "enabled",
        Wish::Drained => "drained",
        Wish::Disabled => "disabled",
    }
}
