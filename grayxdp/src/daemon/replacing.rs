//! Rolling releases: backends that are drained, replaced by the plan's command or webhook, and given new flows again.

use std::{
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, TryRecvError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::{
    balance::ids::BackendKey,
    daemon::owner::Owner,
    model::{
        Name,
        api::{BackendAction, BackendName, ChangeOptions},
        config::{BackendAddress, Service, duration::said},
        plan::{Replace, Strategy},
    },
    rollout::{Input, State},
};

/// Where programs find others.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How often a running command is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A command that runs.
#[derive(Debug)]
pub(super) struct Running {
    service: Name,
    /// Number and attempt of the rollout.
    of: (u64, u64),
    outcome: Receiver<Result<(), String>>,
}

impl Owner {
    /// Takes new flows off backends of a rolling release, or gives them back. What fails is asked for again.
    pub(super) fn turn_backends(&mut self, state: &State, version: &Name, backends: &[BackendAddress], drains: bool) {
        let named = |address: &BackendAddress| BackendName { version: version.clone(), address: *address };
        let names: Vec<_> = backends.iter().map(named).collect();
        let action = if drains { BackendAction::Drain } else { BackendAction::Enable };
        let reason = Some(format!("rollout {}", state.name()));
        let options = ChangeOptions { reason, ..ChangeOptions::default() };
        if let Err(error) = self.change_backends(state.service(), &names, action, &options, "engine") {
            tracing::error!("{}: backends of {version}: {error}", state.name());
        }
    }

    /// Runs the plan's command on a thread of its own, or asks its webhook. An answer follows, or is given where nobody is asked.
    pub(super) fn replace(&mut self, state: &State, backends: &[BackendAddress]) -> Option<Input<'static>> {
        let Strategy::Rolling(rolling) = &state.plan.spec.strategy else { return None };
        let replace = rolling.replace.clone()?;
        if let Some(hook) = &replace.webhook {
            return self
                .ask_to_replace(state, hook, replace.timeout, backends)
                .err()
                .map(|why| Input::Replaced(Err(why)));
        }
        let (sender, outcome) = mpsc::channel();
        let names: Vec<String> = backends.iter().map(ToString::to_string).collect();
        let (rollout, version) = (state.name().to_string(), state.candidate().to_string());
        thread::spawn(move || {
            // Nobody waits any more where it fails: the daemon ends.
            let _ = sender.send(run(&replace, &names, &rollout, &version));
        });
        let of = (state.number, state.attempt);
        self.replacing.push(Running { service: state.service().clone(), of, outcome });
        None
    }

    /// Tells the engine of a rolling release how its batch stands.
    pub(super) fn follow_batch(&mut self, name: &Name) {
        let mut ended = Vec::new();
        self.replacing.retain(|running| match running.outcome.try_recv() {
            Ok(outcome) => {
                ended.push((running.service.clone(), running.of, outcome));
                false
            }
            Err(TryRecvError::Empty) => true,
            Err(TryRecvError::Disconnected) => false,
        });
        for (service, of, outcome) in ended {
            let is_same = self.running(&service).is_some_and(|state| (state.number, state.attempt) == of);
            if is_same {
                self.drive(&service, |_| Input::Replaced(outcome));
            }
        }
        let Some((is_turned, is_drained, is_well)) = self.batch(name) else { return };
        self.drive(name, |_| Input::Batch { is_turned, is_drained, is_well });
    }

    /// Whether the current batch of stable has no new flows, whether none of its flows is left, and whether the candidate's is
    /// well; none where no batch is on its way.
    fn batch(&self, name: &Name) -> Option<(bool, bool, bool)> {
        let state = self.running(name)?;
        let (service, (stable, candidate)) = (self.layout.service(name)?, state.current_batch()?);
        let own = keys(service, &state.stable, stable);
        let is_turned = own.iter().all(|key| self.layout.backends.contains_key(key));
        let is_empty = |key: &BackendKey| {
            let id = self.layout.ids.backend(key);
            id.is_some_and(|id| self.is_drained(&service.name, id))
        };
        let is_well = |key: &BackendKey| self.backends.conditions.get(key).is_none_or(|known| known.is_healthy);
        let others = keys(service, state.candidate(), candidate);
        let is_checked = service.health_check.is_some();
        Some((is_turned, own.iter().all(is_empty), !is_checked || others.iter().all(is_well)))
    }
}

/// The backends of a version that addresses name.
fn keys(service: &Service, version: &Name, addresses: &[BackendAddress]) -> Vec<BackendKey> {
    let Some(version) = service.version(version) else { return Vec::new() };
    let all = BackendKey::of(service, version).zip(&version.backends);
    all.filter(|(_, backend)| addresses.iter().any(|address| address.means(service, backend)))
        .map(|(key, _)| key)
        .collect()
}

/// The addresses of a version's backends, in the order of the file.
pub(super) fn addresses(service: &Service, version: &Name) -> Vec<BackendAddress> {
    let backends = service.version(version).map(|version| version.backends.as_slice()).unwrap_or_default();
    backends.iter().map(|backend| service.backend_address(backend)).collect()
}

/// Runs a command to its end, or kills it and all that it began when its time is over.
fn run(replace: &Replace, backends: &[String], rollout: &str, version: &str) -> Result<(), String> {
    let (program, arguments) = replace.command.split_first().ok_or("no program")?;
    let mut command = Command::new(program);
    command.args(arguments).args(backends).env_clear().env("PATH", PATH).current_dir("/").process_group(0);
    command.env("GRAYXDP_ROLLOUT", rollout).env("GRAYXDP_VERSION", version).env("GRAYXDP_BACKENDS", backends.join(" "));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
    let end = Instant::now() + replace.timeout;
    loop {
        match child.try_wait().map_err(|error| format!("{program}: {error}"))? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("{program} ended with {status}")),
            None if Instant::now() >= end => {
                kill(&mut child);
                return Err(format!("{program} took longer than {}", said(replace.timeout)));
            }
            None => thread::sleep(LOOK),
        }
    }
}

fn kill(child: &mut Child) {
    let leader = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(leader) = leader {
        // Nothing is left where it fails.
        let _ = kill_process_group(leader, Signal::KILL);
    }
    // It was killed, and ends.
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replace(command: &[&str], timeout: Duration) -> Replace {
        Replace { command: command.iter().map(|word| (*word).to_owned()).collect(), webhook: None, timeout }
    }

    #[test]
    fn a_command_gets_the_backends_fails_with_its_status_and_is_killed_when_its_time_is_over() {
        let backends = ["10.0.2.1:8080".to_owned()];
        let check = "test \"$1\" = 10.0.2.1:8080 && test $GRAYXDP_VERSION = v2 && test -z \"$HOME\"";
        let run = |command: &[&str], timeout| run(&replace(command, timeout), &backends, "recsys-v2", "v2");
        assert_eq!(run(&["/bin/sh", "-c", check, "sh"], Duration::from_secs(10)), Ok(()));
        let failed = run(&["/bin/sh", "-c", "exit 3"], Duration::from_secs(10)).expect_err("a failure");
        assert!(failed.contains("3"), "{failed}");
        let began = Instant::now();
        let slow = run(&["/bin/sh", "-c", "sleep 60; true"], Duration::from_secs(1)).expect_err("too slow");
        assert_eq!(slow, "/bin/sh took longer than 1s");
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
