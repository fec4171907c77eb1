//! The daemon on a kernel of memory, a real journal in a folder of its own, and a clock that the test turns.

mod backends;
mod changes;
mod guards;
mod judges;
mod memory;
mod outside;
mod past;
mod rollouts;
mod runs;
mod settling;
mod shadow;
mod starts;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use grayxdp_common::{BUCKETS, cells::VERSIONS};
use memory::{FakeKernel, Moment};

use super::{Clock, StartError, owner::Owner};
use crate::model::{
    Name, Weight,
    api::{ApiError, ChangeOptions, Done, Request, Response, RolloutAction, RolloutStatus, Status},
    config::Protocol,
    kernel::{Bucket, GuardStatus, ServiceId, ServiceStamps, SignalKey, SweptService, WantedBuckets},
    plan::Plan,
    state::RolloutState,
    time::Now,
};

const CONFIG: &str = "
services:
- name: recsys
  vip: 192.0.2.10
  port: 80
  versions:
  - {name: v1, backends: [{address: 10.0.1.1}, {address: 10.0.1.2}]}
  - {name: v2, backends: [{address: 10.0.2.1}]}
  weights: {v1: 100, v2: 0}
- name: search
  vip: 192.0.2.11
  port: 80
  versions:
  - {name: old, backends: [{address: 10.0.3.1}]}
  - {name: new, backends: [{address: 10.0.4.1}]}
";

/// How many buckets of new flows the versions at each place own, in the default segment.
fn shares(buckets: &WantedBuckets) -> Vec<u16> {
    match buckets {
        WantedBuckets::Split(split) => vec![BUCKETS - split.threshold, split.threshold],
        WantedBuckets::Cells(segments) => {
            let mut shares = vec![0; VERSIONS];
            segments[0].iter().for_each(|bucket| shares[usize::from(bucket.current())] += 1);
            shares
        }
    }
}

/// A clock that stands still until the test moves it.
#[derive(Clone, Debug)]
struct TestClock(Arc<Mutex<Now>>);

impl Clock for TestClock {
    fn now(&self) -> Now {
        *self.0.lock().expect("no test panics while it holds this")
    }
}

/// A host: folder, kernel and clock. Daemons come and go on it.
struct Host {
    folder: tempfile::TempDir,
    kernel: FakeKernel,
    clock: TestClock,
    /// Versions whose backends refuse.
    refusing: Vec<&'static str>,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let now = Now { monotonic: Duration::from_secs(500), wall: Duration::from_secs(1_800_000_000) };
        let host = Self {
            folder,
            kernel: FakeKernel::default(),
            clock: TestClock(Arc::new(Mutex::new(now))),
            refusing: Vec::new(),
        };
        host.configure(CONFIG);
        host
    }

    fn config_path(&self) -> PathBuf {
        self.folder.path().join("grayxdp.yaml")
    }

    fn configure(&self, services: &str) {
        let state = self.folder.path().join("state");
        let head = format!("interfaces: [{{name: lo, mode: generic}}]\nstateDir: {}\n", state.display());
        std::fs::write(self.config_path(), head + services).expect("a configuration file");
    }

    fn try_start(&self) -> Result<Owner, StartError> {
        let kernel = self.kernel.clone();
        Owner::start(&self.config_path(), Box::new(self.clock.clone()), false, move |_| Ok(Box::new(kernel)))
    }

    fn start(&self) -> Owner {
        self.try_start().expect("a daemon")
    }

    /// The kernel forgets everything, as in a reboot.
    fn reboot(&mut self) {
        self.kernel = FakeKernel::default();
        self.clock.0.lock().expect("no panic").monotonic = Duration::from_secs(20);
    }

    /// A second with 1,000 new connections to each service, then a tick.
    fn second(&self, owner: &mut Owner) {
        {
            let mut now = self.clock.0.lock().expect("no panic");
            now.monotonic += Duration::from_secs(1);
            now.wall += Duration::from_secs(1);
        }
        self.traffic(owner);
        owner.tick();
    }

    fn seconds(&self, owner: &mut Owner, seconds: u32) {
        (0..seconds).for_each(|_| self.second(owner));
    }

    fn traffic(&self, owner: &Owner) {
        let mut memory = self.kernel.memory();
        for service in memory.wanted.services.clone() {
            let shares = shares(&service.buckets);
            for (version, share) in service.versions.iter().zip(shares) {
                let name = &owner.layout.ids.version_key(version.id).expect("a number").version;
                let syns = u64::from(share) * 1_000 / u64::from(BUCKETS);
                let counted = memory.counters.entry(version.backends[0].id).or_default();
                counted.syns += syns;
                counted.bytes_forward += syns * 100;
                let refuses = self.refusing.contains(&name.as_str());
                *(if refuses { &mut counted.refusals } else { &mut counted.syn_acks }) += syns;
                let key = SignalKey { version: version.id, segment: 0, epoch: service.epoch };
                memory.signals.retain(|held, _| held.version != key.version || held.epoch + 1 >= key.epoch);
                let signals = memory.signals.entry(key).or_default();
                signals.attempts += syns;
                *(if refuses { &mut signals.refused } else { &mut signals.opened }) += syns;
            }
        }
    }

    /// The weight that the kernel gives to the second version of the first service, in buckets.
    fn candidate_buckets(&self) -> u16 {
        shares(&self.kernel.memory().published[0].buckets)[1]
    }

    /// Makes every write to the journal fail, or work again.
    fn break_journal(&self, broken: bool) {
        let path = self.folder.path().join("state/journal.db");
        let connection = rusqlite::Connection::open(path).expect("the journal");
        for table in ["services", "rollouts", "events", "documents", "applied"] {
            let sql = match broken {
                true => format!(
                    "CREATE TRIGGER broken_{table} BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'broken'); END"
                ),
                false => format!("DROP TRIGGER broken_{table}"),
            };
            connection.execute_batch(&sql).expect("a trigger");
        }
    }
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn plan(rollout: &str, steps: serde_json::Value) -> Plan {
    let json = serde_json::json!({
        "apiVersion": "grayxdp.io/v1", "kind": "Rollout", "metadata": {"name": rollout},
        "spec": {
            "service": "recsys", "candidate": "v2", "strategy": {"canary": {"steps": steps}},
            "analysis": {"interval": "2s", "metrics": [
                {"name": "errors", "provider": {"kernel": {"signal": "connectFailureRatio"}},
                 "thresholdRange": {"max": 0.02}},
            ]},
        },
    });
    serde_json::from_value(json).expect("a plan")
}

/// 5 → 50 → 100 with a few seconds each.
fn canary() -> Plan {
    let pause = serde_json::json!({"duration": "6s"});
    plan(
        "recsys-v2",
        serde_json::json!([
            {"setWeight": 5, "pause": pause}, {"setWeight": 50, "pause": pause}, {"setWeight": 100, "pause": pause},
        ]),
    )
}

fn ask(owner: &mut Owner, request: Request) -> Result<Response, ApiError> {
    owner.handle(request, "uid 1000 (ann)")
}

fn done(answer: Result<Response, ApiError>) -> Done {
    match answer {
        Ok(Response::Done(done)) => done,
        other => panic!("not done: {other:?}"),
    }
}

fn refused(answer: Result<Response, ApiError>) -> ApiError {
    answer.expect_err("a refusal")
}

fn status(owner: &mut Owner) -> Status {
    match ask(owner, Request::Status) {
        Ok(Response::Status(status)) => *status,
        other => panic!("no status: {other:?}"),
    }
}

fn start_rollout(owner: &mut Owner, plan: Plan) -> Result<Response, ApiError> {
    ask(owner, Request::RolloutStart { plan: Box::new(plan), options: ChangeOptions::default() })
}

fn rollout(owner: &mut Owner, rollout: &str) -> RolloutStatus {
    match ask(owner, Request::RolloutGet { name: name(rollout) }) {
        Ok(Response::Rollout(status)) => *status,
        other => panic!("no rollout: {other:?}"),
    }
}

fn change(rollout: &str, action: RolloutAction) -> Request {
    Request::RolloutChange { name: name(rollout), action, options: ChangeOptions::default() }
}

fn set_weights(weights: &[(&str, u16)], options: ChangeOptions) -> Request {
    let weight =
        |&(version, percent): &(&str, u16)| (name(version), Weight::from_hundredths(percent * 100).expect("a weight"));
    Request::WeightsSet {
        service: name("recsys"),
        segment: None,
        weights: weights.iter().map(weight).collect(),
        options,
    }
}

fn events(owner: &mut Owner) -> Vec<String> {
    match ask(owner, Request::Events { after: 0, limit: 1_000 }) {
        Ok(Response::Events(events)) => events.into_iter().map(|event| event.kind).collect(),
        other => panic!("no events: {other:?}"),
    }
}

fn state(owner: &mut Owner) -> RolloutState {
    rollout(owner, "recsys-v2").state
}
