//! Rollouts in every state whose daemon is killed; reboots in the middle and after the end of every strategy; a reload that takes
//! a version away; a full disk and a read-only one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use grayxdp::model::state::RolloutState;
use grayxdp_tests::stand::{Setup, Stand, assert_one_line, eventually, plan, within};

use crate::{rollouts_restarted::reboot, strategies::with};

/// What takes some seconds by itself, on two busy cores.
const LONG: Duration = Duration::from_secs(60);

/// Nobody listens there.
const DEAD: &str = "url: \"http://127.0.0.1:9/\"";

fn state(stand: &Stand, name: &str) -> RolloutState {
    stand.rollout(name).state
}

fn reaches(stand: &Stand, name: &str, wanted: RolloutState) {
    within(LONG, "the state", || (state(stand, name), stand.rollout(name).message), |(found, _)| *found == wanted);
}

/// The daemon dies and comes back: the rollout is where it was, with the weight that it had, and stays there for some ticks.
fn survives(stand: &mut Stand, name: &str, expected: RolloutState, v2: f64) {
    reaches(stand, name, expected);
    stand.kill();
    stand.start();
    for _ in 0..2 {
        assert_eq!((state(stand, name), stand.v2()), (expected, v2), "{}", stand.rollout(name).message);
        thread::sleep(Duration::from_millis(1_200));
    }
}

#[test]
fn a_killed_daemon_finds_a_rollout_in_the_state_in_which_it_left_it() {
    let mut stand = Stand::running(Setup::default());
    let steps = [(10, "1h"), (30, "1h"), (100, "none")];
    let gated = |name: &str, kind: &str| {
        let hook = format!("spec:\n  webhooks: [{{name: gate, type: {kind}, {DEAD}}}]\n");
        plan(name, &steps, false).replace("spec:\n", &hook)
    };

    stand.start_rollout("gated", &gated("gated", "confirm-rollout"));
    survives(&mut stand, "gated", RolloutState::Pending, 0.0);
    let _ = stand.done(&["rollout", "abort", "gated"]);
    survives(&mut stand, "gated", RolloutState::RolledBack, 0.0);

    stand.start_rollout("steered", &gated("steered", "confirm-promotion"));
    eventually("10 %", || stand.v2(), |v2| *v2 >= 10.0);
    survives(&mut stand, "steered", RolloutState::Progressing, 10.0);
    let _ = stand.done(&["rollout", "freeze", "steered"]);
    survives(&mut stand, "steered", RolloutState::Frozen, 10.0);
    let _ = stand.done(&["rollout", "resume", "steered"]);
    let _ = stand.done(&["rollout", "pause", "steered"]);
    survives(&mut stand, "steered", RolloutState::Paused, 10.0);
    let _ = stand.done(&["rollout", "promote", "steered", "--full"]);
    survives(&mut stand, "steered", RolloutState::Promoting, 10.0);
    let _ = stand.done(&["rollout", "abort", "steered"]);
    reaches(&stand, "steered", RolloutState::RolledBack);

    let test = "abTest: {primary: errors, minSamples: 200, maxDuration: 2s, onWinner: report, analysis: []}";
    stand.start_rollout("test", &with("test", test, ""));
    survives(&mut stand, "test", RolloutState::Completed, 0.0);

    let there = plan("there", &[(50, "none"), (100, "none")], false);
    stand.start_rollout("there", &there);
    survives(&mut stand, "there", RolloutState::Promoted, 100.0);
}

#[test]
fn a_daemon_that_is_killed_on_the_way_back_never_goes_forward_again() {
    let mut stand = Stand::running(Setup::default());
    let back = plan("back", &[(10, "none"), (30, "none"), (60, "1h"), (100, "none")], false)
        .replace("interval: 1s", "interval: 4s")
        .replace("spec:\n", "spec:\n  progressDeadline: 6s\n  onFailure: {action: rollback, mode: reverseSteps}\n");
    stand.start_rollout("back", &back);
    reaches(&stand, "back", RolloutState::RollingBack);
    let mut seen = vec![stand.v2()];
    while state(&stand, "back") == RolloutState::RollingBack {
        stand.kill();
        stand.start();
        seen.push(stand.v2());
        thread::sleep(Duration::from_millis(1_500));
    }
    assert!(seen.iter().rev().is_sorted() && seen[0] < 60.0, "{seen:?}");
    survives(&mut stand, "back", RolloutState::RolledBack, 0.0);
}

#[test]
fn a_reboot_pauses_every_strategy_where_it_was_and_restores_what_was_promoted() {
    let mut stand = Stand::running(Setup { pools: [vec![1, 1], vec![1, 1]], ..Setup::default() });
    let rolling = "rolling: {maxUnavailable: 1, drainDeadline: 1s, pause: 1h, analysis: []}";
    let strategies = [
        ("ramp", "canary: {ramp: {curve: linear, from: 20, duration: 10h, interval: 5h, analysis: []}}", 20.0),
        (
            "test",
            "abTest: {weights: {v1: 70, v2: 30}, primary: errors, minSamples: 200, maxDuration: 1h, analysis: []}",
            30.0,
        ),
        ("rolling", rolling, 50.0),
        (
            "green",
            "blueGreen: {autoPromotionEnabled: true, steps: [100], postPromotionDuration: 1h, postPromotionAnalysis: []}",
            100.0,
        ),
    ];
    for (name, strategy, weight) in strategies {
        stand.start_rollout(name, &with(name, strategy, ""));
        within(LONG, name, || (stand.v2(), state(&stand, name)), |found| *found == (weight, RolloutState::Progressing));
        reboot(&mut stand);
        assert_eq!((name, state(&stand, name), stand.v2()), (name, RolloutState::Paused, weight));
        assert_eq!(stand.send(100).failed(), 0, "{name}");
        let _ = stand.done(&["rollout", "resume", name]);
        reaches(&stand, name, RolloutState::Progressing);
        assert_eq!(stand.v2(), weight, "{name}");
        let _ = stand.done(&["rollout", if name == "green" { "promote" } else { "abort" }, name]);
        let end = if name == "green" { RolloutState::Promoted } else { RolloutState::RolledBack };
        reaches(&stand, name, end);
    }
    reboot(&mut stand);
    assert_eq!((stand.service().stable.as_str(), stand.v2()), ("v2", 100.0));
    assert_eq!((state(&stand, "green"), stand.send(100).by_version("v2")), (RolloutState::Promoted, 100));
}

/// The configuration without the candidate.
fn without_v2(stand: &Stand) -> String {
    let all = stand.configuration().replace("weights: {v1: 100, v2: 0}", "weights: {v1: 100}");
    all.lines().filter(|line| !line.contains("name: v2")).map(|line| line.to_owned() + "\n").collect()
}

#[test]
fn a_reload_that_takes_the_candidate_of_a_rollout_away_is_refused_and_by_force_ends_it_first() {
    let stand = Stand::running(Setup::default());
    stand.start_rollout("kept", &plan("kept", &[(40, "1h"), (100, "none")], false));
    eventually("40 %", || stand.v2(), |v2| *v2 >= 40.0);
    stand.write("grayxdp.yaml", &without_v2(&stand));
    assert_one_line(&stand.cli(&["reload"]), 1, &["kept", "--force"]);
    assert_eq!((state(&stand, "kept"), stand.v2()), (RolloutState::Progressing, 40.0));
    let _ = stand.done(&["reload", "--force"]);
    assert_eq!(state(&stand, "kept"), RolloutState::RolledBack);
    let versions: Vec<_> = stand.service().versions.iter().map(|version| version.name.to_string()).collect();
    assert_eq!(versions, ["v1"]);
    assert_eq!(stand.send(100).by_version("v1"), 100);
}

#[test]
fn a_rollout_whose_candidate_a_new_file_lacks_at_the_start_has_failed() {
    let mut stand = Stand::running(Setup::default());
    stand.start_rollout("lost", &plan("lost", &[(40, "1h"), (100, "none")], false));
    eventually("40 %", || stand.v2(), |v2| *v2 >= 40.0);
    stand.kill();
    stand.write("grayxdp.yaml", &without_v2(&stand));
    for _ in 0..2 {
        stand.start();
        assert_eq!(state(&stand, "lost"), RolloutState::Failed);
        assert_eq!(stand.send(100).by_version("v1"), 100);
        stand.kill();
    }
    stand.start();
}

/// A small file system at the daemon's state folder.
struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Puts it there, before the daemon begins.
    fn put(stand: &Stand) -> Self {
        let folder = stand.file("state");
        fs::create_dir_all(&folder).unwrap();
        let mount = |folder: &Path| {
            let mut command = Command::new("mount");
            command.args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"]).arg(folder).status().unwrap()
        };
        let mounted = stand.lab().balancer().run(|| mount(&folder));
        assert!(mounted.success(), "{mounted}");
        Self { folder }
    }

    /// Leaves no room.
    fn fill(&self, stand: &Stand) {
        let written = stand.lab().balancer().run(|| fs::write(self.folder.join("filler"), vec![7; 8 << 20]));
        assert!(written.is_err(), "there was room for all of it");
    }

    fn empty(&self, stand: &Stand) {
        stand.lab().balancer().run(|| fs::remove_file(self.folder.join("filler"))).unwrap();
    }
}

/// A disk of its own at the daemon's state folder, that can fail.
struct Disk {
    image: PathBuf,
    folder: PathBuf,
}

impl Disk {
    /// Puts it there, before the daemon begins.
    fn put(stand: &Stand) -> Self {
        let (image, folder) = (stand.file("disk"), stand.file("state"));
        fs::create_dir_all(&folder).unwrap();
        fs::File::create(&image).and_then(|file| file.set_len(32 << 20)).unwrap();
        let made = Command::new("mkfs.ext4").arg("-q").arg(&image).status().unwrap();
        assert!(made.success(), "{made}");
        let disk = Self { image, folder };
        disk.mount(stand);
        disk
    }

    fn mount(&self, stand: &Stand) {
        let mount = || {
            let mut command = Command::new("mount");
            let output = command.args(["-o", "loop"]).args([&self.image, &self.folder]).output().unwrap();
            output.status.success().then_some(()).ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
        };
        // A loop device that was left a moment ago may still be there.
        eventually("a mount by a loop device", || stand.lab().balancer().run(mount), Result::is_ok).unwrap();
    }

    /// What the kernel does to a disk that fails in the middle of work: from now on it can be read only, also by who has files open.
    fn fail(&self, stand: &Stand) {
        let folder = std::ffi::CString::new(self.folder.as_os_str().as_encoded_bytes()).unwrap();
        let options = c"abort";
        stand.lab().balancer().run(|| {
            // SAFETY: path and options are terminated strings, which live through the call; the others are none.
            let done = unsafe {
                let nothing = std::ptr::null();
                libc::mount(nothing, folder.as_ptr(), nothing, libc::MS_REMOUNT, options.as_ptr().cast())
            };
            assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        });
        let written = stand.lab().balancer().run(|| fs::write(self.folder.join("probe"), b"?"));
        assert!(written.is_err(), "it can be written still");
    }

    /// Somebody mounts it anew, while no daemon runs.
    fn repair(&self, stand: &Stand) {
        let umount = || Command::new("umount").arg(&self.folder).status().unwrap();
        assert!(stand.lab().balancer().run(umount).success());
        self.mount(stand);
    }
}

#[test]
fn on_a_full_disk_nothing_more_is_exposed_and_a_rollback_still_works_at_once() {
    let mut stand = Stand::new(Setup::default());
    let disk = SmallDisk::put(&stand);
    stand.start();
    stand.start_rollout("full", &plan("full", &[(20, "1h"), (60, "1h"), (100, "none")], false));
    eventually("20 %", || stand.v2(), |v2| *v2 >= 20.0);
    disk.fill(&stand);
    let is_full = |stand: &Stand| stand.status().warnings.iter().any(|line| line.contains("journal cannot be written"));
    // The journal has some room of its own left: each command takes of it.
    let wear = || {
        let _either = (stand.cli(&["rollout", "pause", "full"]), stand.cli(&["rollout", "resume", "full"]));
        is_full(&stand)
    };
    within(LONG, "no room", wear, |full| *full);
    let _ = stand.cli(&["rollout", "resume", "full"]);
    let _ = stand.cli(&["rollout", "promote", "full"]);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(stand.v2(), 20.0, "nothing more without a durable intent");
    assert!(is_full(&stand));
    let _ = stand.cli(&["rollout", "abort", "full"]);
    eventually("stable has everything", || stand.v2(), |v2| *v2 <= 0.0);
    assert!(is_full(&stand), "the disk is still full");
    assert_eq!(stand.send(100).by_version("v1"), 100);
    disk.empty(&stand);
    eventually("room", || is_full(&stand), |full| !full);
    within(LONG, "the end in the journal", || state(&stand, "full"), |state| *state == RolloutState::RolledBack);
    stand.kill();
    stand.start();
    assert_eq!((state(&stand, "full"), stand.v2()), (RolloutState::RolledBack, 0.0));
}

#[test]
fn on_a_read_only_disk_nothing_more_is_exposed_and_a_rollback_still_works_at_once_and_outlives_the_daemon() {
    let mut stand = Stand::new(Setup::default());
    let disk = Disk::put(&stand);
    stand.start();
    stand.start_rollout("kept", &plan("kept", &[(20, "1h"), (60, "1h"), (100, "none")], false));
    eventually("20 %", || stand.v2(), |v2| *v2 >= 20.0);
    disk.fail(&stand);
    let _ = stand.cli(&["rollout", "promote", "kept"]);
    let refuses = |stand: &Stand| stand.status().warnings.iter().any(|line| line.contains("journal cannot be written"));
    within(LONG, "the warning", || refuses(&stand), |refuses| *refuses);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(stand.v2(), 20.0, "nothing more without a durable intent");
    let _ = stand.cli(&["rollout", "abort", "kept"]);
    eventually("stable has everything", || stand.v2(), |v2| *v2 <= 0.0);
    assert!(refuses(&stand), "the disk is still read-only");
    assert_eq!(stand.send(100).by_version("v1"), 100);
    // The journal never heard of the end: what the kernel has is adopted.
    stand.kill();
    assert_eq!(stand.send(100).by_version("v1"), 100);
    disk.repair(&stand);
    stand.start();
    assert_eq!((state(&stand, "kept"), stand.v2()), (RolloutState::RolledBack, 0.0));
    assert_eq!((stand.service().stable.as_str(), stand.send(100).by_version("v1")), ("v1", 100));
}
