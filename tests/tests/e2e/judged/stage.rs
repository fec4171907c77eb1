//! Services side by side on one load balancer: each with faults, clients and a rollout of its own.

use std::{collections::BTreeMap, net::SocketAddrV4, thread, time::Duration};

use grayxdp::model::{api::RolloutStatus, state::Verdict};
use grayxdp_tests::{
    faulty::{Fault, FaultyServers, Manners, inflict},
    load::{Load, Loading},
    stand::{Setup, Stand, within},
};

/// The backends of `v1` and of `v2`, and the load balancer itself.
pub(super) const V1: usize = 0;
pub(super) const V2: usize = 1;
/// Ports of the virtual address, and of the servers.
const FIRST_VIP_PORT: u16 = 1_000;
const FIRST_PORT: u16 = 9_000;
/// A client whose connections alone may be refused.
pub(super) const NOISY: u32 = 16_383;

/// A service and its rollout.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    /// Of service and rollout.
    pub(super) name: String,
    /// How the servers of `v1` and `v2` answer.
    pub(super) manners: [Manners; 2],
    /// What the hosts of `v1` or `v2` do to connections from the begin on.
    pub(super) faults: Vec<(usize, Fault)>,
    /// What they do once the rollout has been looked at a few times.
    pub(super) later: Vec<(usize, Fault)>,
    /// New connections a second, and those of the noisy client.
    pub(super) per_second: u32,
    pub(super) noisy_per_second: u32,
    /// `pause` of the only step before 100 %.
    pub(super) pause: &'static str,
    /// Further fields of `analysis`, and the metrics, as YAML in one line each.
    pub(super) analysis: Vec<String>,
    pub(super) metrics: Vec<String>,
}

impl Scene {
    /// Two good versions of which one gets half of the flows and stays there.
    pub(super) fn new(name: &str, per_second: u32, metrics: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            manners: Default::default(),
            faults: Vec::new(),
            later: Vec::new(),
            per_second,
            noisy_per_second: 0,
            pause: "1h",
            analysis: Vec::new(),
            metrics: metrics.iter().map(|metric| (*metric).to_owned()).collect(),
        }
    }

    fn plan(&self, interval: &str) -> String {
        let lines = |lines: &[String], begin: &str| -> String {
            lines.iter().map(|line| format!("    {begin}{line}\n")).collect()
        };
        format!(
            "apiVersion: grayxdp.io/v1\nkind: Rollout\nmetadata: {{name: {name}}}\nspec:\n  service: {name}\n  candidate: \
             v2\n  strategy:\n    canary:\n      steps:\n      - {{setWeight: 50, pause: {{duration: {pause}}}}}\n      - \
             {{setWeight: 100}}\n  analysis:\n    interval: {interval}\n{analysis}    metrics:\n{metrics}",
            name = self.name,
            pause = self.pause,
            analysis = lines(&self.analysis, ""),
            metrics = lines(&self.metrics, "- "),
        )
    }
}

/// Scenes that run.
pub(super) struct Stage {
    pub(super) stand: Stand,
    scenes: Vec<Scene>,
    _servers: [FaultyServers; 2],
    pub(super) loading: Loading,
}

impl Stage {
    /// Builds all, lets the clients come, and starts the rollouts with looks so far apart.
    pub(super) fn set(scenes: Vec<Scene>, interval: &str) -> Self {
        let mut stand = Stand::new(Setup { serves: [false, false], ..Setup::default() });
        let ports = || (FIRST_PORT..).zip(&scenes);
        let servers = [V1, V2].map(|backend| {
            let address = |port| SocketAddrV4::new(stand.lab().backend_address(backend), port);
            let servers = ports().map(|(port, scene)| (address(port), scene.manners[backend])).collect();
            FaultyServers::start(stand.lab().backend(backend), servers)
        });
        for (port, scene) in ports() {
            scene.faults.iter().for_each(|(backend, fault)| inflict(stand.lab().backend(*backend), port, *fault));
        }
        let head = stand.configuration().split_once("services:").expect("there are services").0.to_owned();
        stand.write("grayxdp.yaml", &(head + &services(&stand, &scenes)));
        stand.start();
        let loading = Load::start(stand.lab().client(), loads(&stand, &scenes));
        // The rate at which flows are followed rests on the connections of the last seconds.
        thread::sleep(Duration::from_secs(2));
        for scene in &scenes {
            stand.start_rollout(&scene.name, &scene.plan(interval));
        }
        Self { stand, scenes, _servers: servers, loading }
    }

    /// How the rollouts stand, by name.
    pub(super) fn rollouts(&self) -> BTreeMap<String, RolloutStatus> {
        let all: Vec<RolloutStatus> = self.stand.answer(&["rollout", "list"]);
        all.into_iter().map(|rollout| (rollout.name.to_string(), rollout)).collect()
    }

    /// Once all have been looked at a few times: what is to happen later.
    pub(super) fn go_on(&self) {
        let waits = |scene: &&Scene| !scene.later.is_empty();
        let few = |rollouts: &BTreeMap<String, RolloutStatus>| {
            self.scenes
                .iter()
                .filter(waits)
                .all(|scene| looks(&rollouts[&scene.name]).values().any(|looks| *looks >= 3))
        };
        within(Duration::from_secs(120), "a few looks", || self.rollouts(), few);
        for (port, scene) in (FIRST_PORT..).zip(&self.scenes) {
            for (backend, fault) in &scene.later {
                inflict(self.stand.lab().backend(*backend), port, *fault);
            }
        }
    }

    /// Waits until all rollouts stand as they are to.
    pub(super) fn until(&self, patience: Duration, holds: impl Fn(&RolloutStatus) -> bool) {
        let look = || {
            thread::sleep(Duration::from_millis(300));
            self.rollouts().into_values().filter(|rollout| !holds(rollout)).map(|rollout| said(&rollout)).collect()
        };
        within(patience, "what is to come", look, Vec::<String>::is_empty);
    }
}

/// A rollout in a line.
pub(super) fn said(rollout: &RolloutStatus) -> String {
    let findings: Vec<_> = rollout.findings.iter().map(|finding| finding.sentence.as_str()).collect();
    let (name, state, message) = (&rollout.name, rollout.state, &rollout.message);
    format!("{name}: {state:?}: {message} {findings:?} {:?}", rollout.verdicts)
}

/// Looks so far, by metric.
pub(super) fn looks(rollout: &RolloutStatus) -> BTreeMap<String, u64> {
    let sum = |verdicts: &BTreeMap<Verdict, u64>| verdicts.values().sum();
    rollout.verdicts.iter().map(|(metric, verdicts)| (metric.to_string(), sum(verdicts))).collect()
}

fn services(stand: &Stand, scenes: &[Scene]) -> String {
    let [first, second] = [V1, V2].map(|backend| stand.lab().backend_address(backend));
    // Several services share the sample table: shorter samples leave each of them enough.
    let horizon = if scenes.len() > 1 { "20s" } else { "60s" };
    let service = |((vip_port, port), scene): ((u16, u16), &Scene)| {
        format!(
            "- name: {}\n  vip: {}\n  port: {vip_port}\n  versions:\n  - {{name: v1, backends: [{{address: {first}, port: \
             {port}}}]}}\n  - {{name: v2, backends: [{{address: {second}, port: {port}}}]}}\n  weights: {{v1: 100, v2: \
             0}}\n  flowHorizon: {horizon}\n",
            scene.name,
            stand.lab().vip(),
        )
    };
    let all: String = (FIRST_VIP_PORT..).zip(FIRST_PORT..).zip(scenes).map(service).collect();
    format!("services:\n{all}")
}

fn loads(stand: &Stand, scenes: &[Scene]) -> Vec<Load> {
    let load = |target, (skip, count), per_second| Load {
        target,
        sources: stand.lab().sources().slice(skip, count),
        per_second,
        patience: Duration::from_secs(15),
    };
    let of_scene = |(port, scene): (u16, &Scene)| {
        let target = SocketAddrV4::new(stand.lab().vip(), port);
        [load(target, (0, NOISY), scene.per_second), load(target, (NOISY, 1), scene.noisy_per_second)]
    };
    (FIRST_VIP_PORT..).zip(scenes).flat_map(of_scene).filter(|load| load.per_second > 0).collect()
}
