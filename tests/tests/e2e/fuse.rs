//! Fuse and lease: a bad candidate is gone before any daemon wakes up, and nobody at the stable version feels it.

use std::{
    collections::BTreeSet,
    net::SocketAddrV4,
    thread,
    time::{Duration, Instant},
};

use grayxdp::{
    lab::{Failure, LastingTraffic, Running, Traffic},
    model::{api::RolloutStatus, config::Protocol, state::RolloutState},
};
use grayxdp_tests::{
    size::Size,
    stand::{Seen, Setup, Stand, eventually, plan},
};

/// Failures that the fuse lets pass.
const LIMIT: usize = 20;
/// How long some connections to stable are silent.
const SILENCE: Duration = Duration::from_secs(5);
/// The backend of `v1`, and that of `v2`.
const CANDIDATE: usize = 1;

fn setup() -> Setup {
    let fuse = format!("fuse: {{limit: {LIMIT}, ratio: 0.25, window: 2s}}");
    Setup { fields: vec![fuse, "idleTimeout: 2m".to_owned()], ..Setup::default() }
}

/// A plan with a lease, in the YAML of the plan.
fn leased(name: &str, steps: &[(u8, &str)], lease: &str) -> String {
    plan(name, steps, false) + &format!("  lease: {lease}\n")
}

/// 64 clients that ask as fast as they can, a connection each time.
fn clients(stand: &Stand) -> Running {
    let traffic = Traffic { clients: 64, ..stand.traffic() };
    traffic.start(stand.lab().client()).unwrap()
}

/// Starts a rollout and waits until the candidate has a weight.
fn roll_out(stand: &Stand, name: &str, plan: &str, weight: f64) {
    stand.start_rollout(name, plan);
    eventually("the candidate's weight", || stand.v2(), |v2| *v2 >= weight);
}

/// The rollout, when it is rolled back.
fn rolled_back(stand: &Stand, name: &str) -> RolloutStatus {
    let rollout = eventually("a rollback", || stand.rollout(name), |rollout| rollout.state == RolloutState::RolledBack);
    assert!(rollout.message.contains("fuse"), "the message says what tripped: {}", rollout.message);
    let fuse = rollout.fuse.as_ref().expect("a rollout tells of its fuse");
    assert!(fuse.tripped.is_some(), "{fuse:?}");
    assert_eq!(stand.v2(), 0.0);
    rollout
}

/// What the captures say about the SYNs that the candidate got: all of them, those unanswered when the failure that
/// trips the fuse came back to its client, and those that were sent after that.
#[derive(Debug)]
struct Toll {
    all: usize,
    already_sent: usize,
    later: usize,
}

fn toll(at_client: &[Seen], at_candidate: &[Seen], vip: SocketAddrV4) -> Toll {
    let key = |syn: &Seen| (syn.source, syn.sequence);
    let arrived: BTreeSet<_> = at_candidate.iter().filter(|seen| seen.is_syn()).map(key).collect();
    let refused = |seen: &&Seen| seen.is_rst() && seen.source == vip;
    let failures: Vec<_> = at_client.iter().filter(refused).collect();
    let tripping = failures[LIMIT].seconds;
    let sent = at_client.iter().filter(|seen| seen.is_syn() && arrived.contains(&key(seen)));
    let (before, later): (Vec<&Seen>, Vec<&Seen>) = sent.partition(|syn| syn.seconds <= tripping);
    Toll { all: arrived.len(), already_sent: before.len() - (LIMIT + 1), later: later.len() }
}

/// 64 clients meet a candidate that refuses everything.
fn refused_by_the_candidate(stopped: bool) {
    let mut stand = Stand::running(Setup { serves: [true, false], ..setup() });
    roll_out(&stand, "bad", &leased("bad", &[(25, "1h"), (100, "none")], "{duration: 10m}"), 25.0);
    let captures =
        [stand.capture(stand.lab().client(), "client"), stand.capture(stand.lab().backend(CANDIDATE), "candidate")];
    if stopped {
        stand.signal(libc::SIGSTOP);
    }
    let running = clients(&stand);
    eventually("answers", || running.tally().answered(), |answered| *answered > 1_500);
    let tripped = running.tally();
    eventually("more answers", || running.tally().answered(), |answered| *answered > tripped.answered() + 1_000);
    let tally = running.stop();
    let [at_client, at_candidate] = captures.map(|capture| capture.stop());
    let toll = toll(&at_client, &at_candidate, stand.target());
    let processors = thread::available_parallelism().unwrap().get();
    println!("{toll:?}; {} refused, {} answered", tally.failed(), tally.answered());
    assert!(toll.all <= LIMIT + processors + toll.already_sent, "{toll:?}");
    assert!(toll.later <= processors, "{toll:?}");
    assert_eq!(tally.failures.keys().collect::<Vec<_>>(), [&Failure::Refused], "{tally:?}");
    assert_eq!(tally.failed(), toll.all as u64, "each SYN that the candidate got was one client's failure");
    assert_eq!(tripped.failed(), tally.failed(), "nobody meets the candidate any more");
    if stopped {
        stand.signal(libc::SIGCONT);
    }
    rolled_back(&stand, "bad");
}

#[test]
fn a_candidate_that_refuses_everything_gets_few_connections() {
    refused_by_the_candidate(false);
}

#[test]
fn a_candidate_that_refuses_everything_gets_few_connections_with_the_daemon_stopped() {
    refused_by_the_candidate(true);
}

/// A candidate at full weight begins to refuse; those who met stable before never notice.
fn trips_at_full_weight(idle_timeout: &str, wait: impl Fn(&Stand)) {
    let times = [format!("idleTimeout: {idle_timeout}"), "settleAfter: 1s".to_owned(), "closingTimeout: 3s".to_owned()];
    let fields = setup().fields.into_iter().take(1).chain(times).collect();
    let mut stand = Stand::running(Setup { fields, ..setup() });
    let traffic = LastingTraffic {
        silent_one_in: 4,
        silence: SILENCE,
        longest_pause: Duration::from_secs(1),
        ..LastingTraffic::new(Protocol::Tcp, stand.target(), stand.lab().sources())
    };
    let flows = traffic.start(stand.lab().client()).unwrap();
    let count = Size::of_this_run().pick(150, 1_000);
    flows.begin("stable alone", count);
    eventually("connections to stable", || flows.living().len() as u64, |living| *living == count);
    roll_out(&stand, "late", &leased("late", &[(30, "2s"), (100, "1h")], "{duration: 10m}"), 100.0);
    wait(&stand);
    stand.unserve(CANDIDATE);
    let running = Traffic { clients: 16, ..stand.traffic() }.start(stand.lab().client()).unwrap();
    rolled_back(&stand, "late");
    let after = running.tally();
    eventually(
        "answers of stable",
        || running.tally().by_version("v1"),
        |answers| *answers > after.by_version("v1") + 500,
    );
    let tally = running.stop();
    assert!(tally.failed() >= LIMIT as u64, "{tally:?}");
    assert_eq!(tally.since(&after).failed(), 0, "{tally:?}");
    // Longer than the longest silence: each connection has spoken.
    thread::sleep(SILENCE + Duration::from_secs(1));
    let lasting = flows.finish();
    assert_eq!((lasting.all().harmed(), lasting.all().ended), (0, count), "{lasting:#?}");
}

#[test]
fn a_fuse_that_trips_at_full_weight_breaks_no_connection_to_stable() {
    trips_at_full_weight("2m", |_| thread::sleep(Duration::from_secs(2)));
}

#[test]
fn a_fuse_that_trips_when_all_has_settled_at_full_weight_breaks_no_connection_to_stable() {
    let unsettled = |stand: &Stand| stand.metrics().sum("grayxdp_unsettled_cells", &[]);
    let entries = |stand: &Stand| stand.metrics().sum("grayxdp_exception_entries", &[("state", "established")]);
    trips_at_full_weight("7s", |stand| {
        let settled = |stand: &Stand| (unsettled(stand), entries(stand));
        // Those who met stable are exceptions now.
        let look = || settled(stand);
        eventually("a candidate that all flows go to by default", look, |(cells, entries)| {
            *cells == 0.0 && *entries > 0.0
        });
    });
}

#[test]
fn new_flows_go_back_to_stable_when_the_lease_of_a_stopped_daemon_ends() {
    let mut stand = Stand::running(setup());
    let lease = Duration::from_secs(3);
    roll_out(
        &stand,
        "leased",
        &leased("leased", &[(50, "1h"), (100, "none")], "{duration: 3s, onExpiry: stable}"),
        50.0,
    );
    let running =
        Traffic { clients: 8, pause: Duration::from_millis(5), ..stand.traffic() }.start(stand.lab().client()).unwrap();
    // A daemon that works renews the lease.
    thread::sleep(lease * 2);
    assert_eq!(stand.rollout("leased").state, RolloutState::Progressing);
    let met = |running: &Running, time: Duration| {
        let before = running.tally();
        thread::sleep(time);
        running.tally().since(&before)
    };
    assert!(met(&running, Duration::from_secs(1)).by_version("v2") > 0);
    stand.signal(libc::SIGSTOP);
    let stopped = Instant::now();
    assert!(met(&running, lease / 3).by_version("v2") > 0, "a lease holds for its time");
    eventually("stable alone", || met(&running, Duration::from_millis(300)).by_version("v2"), |answers| *answers == 0);
    let back = stopped.elapsed();
    assert!(back < lease + Duration::from_secs(2), "{back:?}");
    assert_eq!(met(&running, Duration::from_secs(2)).by_version("v2"), 0);
    stand.signal(libc::SIGCONT);
    let paused = eventually("a pause", || stand.rollout("leased"), |rollout| rollout.state == RolloutState::Paused);
    assert!(paused.message.contains("lease"), "{}", paused.message);
    let _ = stand.done(&["rollout", "resume", "leased"]);
    eventually("v2 again", || met(&running, Duration::from_millis(300)).by_version("v2"), |answers| *answers > 0);
    let tally = running.stop();
    assert_eq!(tally.failed(), 0, "{tally:?}");
}

#[test]
fn a_lease_that_holds_keeps_the_weight_and_says_so() {
    let mut stand = Stand::running(setup());
    roll_out(&stand, "held", &leased("held", &[(50, "1h"), (100, "none")], "{duration: 3s, onExpiry: hold}"), 50.0);
    stand.signal(libc::SIGSTOP);
    thread::sleep(Duration::from_secs(5));
    let tally = stand.send(600);
    assert_eq!(tally.failed(), 0);
    assert!(tally.by_version("v2") > 200, "{tally:?}");
    stand.signal(libc::SIGCONT);
    eventually("a pause", || stand.rollout("held").state, |state| *state == RolloutState::Paused);
    assert_eq!(stand.v2(), 50.0);
}

#[test]
fn latches_outlive_a_killed_daemon() {
    let mut stand = Stand::running(Setup { serves: [true, false], ..setup() });
    roll_out(&stand, "latched", &leased("latched", &[(25, "1h"), (100, "none")], "{duration: 10m}"), 25.0);
    stand.signal(libc::SIGSTOP);
    let running = clients(&stand);
    eventually(
        "a fuse that trips",
        || running.tally(),
        |tally| tally.failed() > LIMIT as u64 && tally.answered() > 1_500,
    );
    let _ = running.stop();
    stand.kill();
    assert_eq!(stand.send(500).failed(), 0, "without a daemon the candidate stays off");
    stand.start();
    let rollout = rolled_back(&stand, "latched");
    assert_eq!(rollout.candidate.as_str(), "v2");
    assert_eq!(stand.send(500).by_version("v1"), 500);
    let again = stand.cli(&["rollout", "start", &stand.file("latched.yaml").to_string_lossy()]);
    assert!(!again.status.success(), "a latched name is not started again: {again:?}");
    stand.serve(CANDIDATE, "v2");
    let _ = stand.done(&["rollout", "retry", "latched", "--reason", "it serves now"]);
    eventually("the candidate's weight", || stand.v2(), |v2| *v2 >= 25.0);
    let tally = stand.send(500);
    assert!(tally.failed() == 0 && tally.by_version("v2") > 60, "{tally:?}");
}
