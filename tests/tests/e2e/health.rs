//! Backends that fail, that an operator takes out, that come back; versions without any.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddrV4,
    thread,
    time::{Duration, Instant},
};

use grayxdp::{
    lab::{Failure, LastingFlows, LastingTraffic, Running, Traffic},
    model::config::Protocol,
};
use grayxdp_tests::stand::{SERVER_PORT, SERVICE, Setup, Stand, ask_flows, eventually, within, within_five_deviations};

use crate::servers::nginx;

const INTERVAL: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_millis(300);
const FALL: u32 = 3;
/// What a daemon between other programs on two processors may take longer.
const SLACK: Duration = Duration::from_millis(700);

fn checked(kind: &str, more: &[&str]) -> Setup {
    let check = format!(
        "healthCheck: {{type: {kind}, interval: {}ms, timeout: {}ms, rise: 2, fall: {FALL}}}",
        INTERVAL.as_millis(),
        TIMEOUT.as_millis()
    );
    let fields = more.iter().map(|field| (*field).to_owned()).chain([check]).collect();
    Setup { pools: [vec![1, 1, 1], vec![1]], fields, ..Setup::default() }
}

fn fixed_flows(stand: &Stand, count: u16, first_port: u16) -> Vec<SocketAddrV4> {
    let sources = stand.lab().sources();
    (0..count).map(|n| SocketAddrV4::new(sources.at(u64::from(n)), first_port + n)).collect()
}

/// Clients that do not fill both processors.
fn load(stand: &Stand) -> Running {
    let traffic =
        Traffic { clients: 8, pause: Duration::from_millis(4), timeout: Duration::from_secs(2), ..stand.traffic() };
    traffic.start(stand.lab().client()).unwrap()
}

/// Connections that last, of which some are silent for a while.
fn lasting(stand: &Stand, count: u64) -> LastingFlows {
    let traffic = LastingTraffic {
        silent_one_in: 0,
        longest_pause: Duration::from_millis(500),
        ..LastingTraffic::new(Protocol::Tcp, stand.target(), stand.lab().sources())
    };
    let flows = traffic.start(stand.lab().client()).unwrap();
    flows.begin("first", count);
    eventually("connections", || flows.living().len() as u64, |living| *living == count);
    flows
}

/// How many flows are at a backend.
fn at(flows: &LastingFlows, stand: &Stand, backend: usize) -> usize {
    let address = stand.lab().backend_address(backend).to_string();
    flows.living().values().filter(|who| who.ends_with(&format!("/{address}"))).count()
}

/// `backend drain`, `disable` or `enable`.
fn operate(stand: &Stand, verb: &str, backend: usize) {
    let version = if backend < 3 { "v1" } else { "v2" };
    let name = format!("{version}/{}:{SERVER_PORT}", stand.lab().backend_address(backend));
    let _ = stand.done(&["backend", verb, SERVICE, &name, "--reason", "a test"]);
}

/// Answers by a backend while time passes.
fn met(running: &Running, stand: &Stand, backend: usize, time: Duration) -> u64 {
    let before = running.tally();
    thread::sleep(time);
    let address = format!("/{}", stand.lab().backend_address(backend));
    running
        .tally()
        .since(&before)
        .answers
        .iter()
        .filter(|(who, _)| who.ends_with(&address))
        .map(|(_, count)| count)
        .sum()
}

/// A backend goes by `harm`, is out in time, few others move, and it comes back by `heal`.
fn comes_and_goes(stand: &mut Stand, harm: impl Fn(&mut Stand), heal: impl Fn(&mut Stand)) {
    let flows = fixed_flows(stand, 600, 31_000);
    let whole = ask_flows(stand.lab().client(), stand.target(), &flows);
    let gone = format!("/{}", stand.lab().backend_address(1));
    let running = load(stand);
    eventually("requests", || running.tally().answered(), |answered| *answered > 300);
    assert_eq!(running.tally().failed(), 0);
    harm(stand);
    let begun = Instant::now();
    let address = format!("{}:{SERVER_PORT}", stand.lab().backend_address(1));
    let up = || -> Vec<_> {
        let metrics = stand.metrics();
        metrics.of("grayxdp_backend_up", &[("backend", &*address)]).map(|sample| sample.value).collect()
    };
    let most = INTERVAL * FALL + TIMEOUT + SLACK;
    let _ = within(most, "a backend that is out", up, |up| *up == [0.0]);
    println!("out after {:?}; interval x fall is {:?}, a timeout {TIMEOUT:?}", begun.elapsed(), INTERVAL * FALL);
    // Connections that began before have ended after this: they wait for two seconds at most.
    thread::sleep(Duration::from_millis(2_500));
    let out = running.tally();
    thread::sleep(Duration::from_secs(1));
    let later = running.tally().since(&out);
    assert_eq!(later.answers.keys().filter(|who| who.ends_with(&gone)).count(), 0, "{later:?}");
    assert_eq!(later.failed(), 0, "{later:?}");
    let without = ask_flows(stand.lab().client(), stand.target(), &flows);
    let moved = whole.iter().filter(|(flow, who)| !who.ends_with(&gone) && without[*flow] != **who).count();
    // Of the 400 flows of other backends Maglev moves a few in a hundred.
    assert!(moved < 40, "{moved} of those whose backend stayed moved");
    heal(stand);
    eventually("the same backends for the same flows", || ask(stand, &flows), |now| *now == whole);
    let _ = running.stop();
}

fn ask(stand: &Stand, flows: &[SocketAddrV4]) -> BTreeMap<SocketAddrV4, String> {
    ask_flows(stand.lab().client(), stand.target(), flows)
}

#[test]
fn a_server_that_ends_is_out_within_its_checks_and_comes_back() {
    let mut stand = Stand::running(checked("tcp", &[]));
    comes_and_goes(&mut stand, |stand| stand.unserve(1), |stand| stand.serve(1, "v1"));
}

#[test]
fn a_host_that_falls_silent_is_out_within_its_checks_and_comes_back() {
    let mut stand = Stand::running(checked("tcp", &[]));
    let link = |stand: &Stand, to: &str| stand.lab().backend(1).ip(&[format!("link set eth0 {to}")]).unwrap();
    let up = |stand: &Stand| {
        link(stand, "up");
        stand.lab().backend(1).ip(&["route replace default via 10.0.2.254".to_owned()]).unwrap();
    };
    comes_and_goes(&mut stand, |stand| link(stand, "down"), |stand| up(stand));
}

#[test]
fn a_server_that_says_it_is_unwell_is_out_within_its_checks_and_comes_back() {
    let mut setup = checked("http, path: /healthz", &[]);
    setup.serves = [false, true];
    let mut stand = Stand::new(setup);
    let names = ["one", "two", "three"];
    let _servers: Vec<_> = names.iter().enumerate().map(|(backend, name)| nginx_as(&stand, backend, name)).collect();
    stand.start();
    let well = stand.file("two").join("well");
    // It goes on to answer: nobody is refused, but no new flow gets there.
    comes_and_goes(&mut stand, |_| fs::remove_file(&well).unwrap(), |_| fs::write(&well, "well").unwrap());
}

/// nginx that answers as the lab's own servers do.
fn nginx_as(stand: &Stand, backend: usize, name: &str) -> grayxdp::lab::Process {
    nginx(stand, backend, name, &format!("v1/{}", stand.lab().backend_address(backend)))
}

#[test]
fn a_drained_backend_keeps_its_connections_and_gets_no_others() {
    let stand = Stand::running(checked("tcp", &[]));
    let flows = lasting(&stand, 90);
    assert!(at(&flows, &stand, 1) > 10);
    let before = at(&flows, &stand, 1);
    operate(&stand, "drain", 1);
    let running = load(&stand);
    assert_eq!(met(&running, &stand, 1, Duration::from_secs(2)), 0);
    assert_eq!(at(&flows, &stand, 1), before);
    operate(&stand, "enable", 1);
    eventually("requests of the backend", || met(&running, &stand, 1, Duration::from_millis(200)), |count| *count > 0);
    assert_eq!(running.stop().failed(), 0);
    assert_eq!(flows.finish().all().harmed(), 0);
}

#[test]
fn connections_of_a_disabled_backend_are_reset_and_no_others() {
    let stand = Stand::running(checked("tcp", &["onDown: reset"]));
    let flows = lasting(&stand, 90);
    let (others, at_it) = (at(&flows, &stand, 0) + at(&flows, &stand, 2), at(&flows, &stand, 1));
    assert!(at_it > 10);
    let running = load(&stand);
    operate(&stand, "disable", 1);
    eventually("resets", || at(&flows, &stand, 1), |left| *left == 0);
    let told = flows.tally();
    assert_eq!(told.all().broken, at_it as u64, "{told:?}");
    assert_eq!(met(&running, &stand, 1, Duration::from_secs(2)), 0);
    operate(&stand, "enable", 1);
    eventually("requests of the backend", || met(&running, &stand, 1, Duration::from_millis(200)), |count| *count > 0);
    let _ = running.stop();
    let all = flows.finish().all();
    assert_eq!((all.ended, all.harmed()), (others as u64, at_it as u64));
}

#[test]
fn connections_of_a_disabled_backend_go_on_where_it_is_kept() {
    let stand = Stand::running(checked("tcp", &["onDown: keep"]));
    let flows = lasting(&stand, 90);
    let before = at(&flows, &stand, 1);
    operate(&stand, "disable", 1);
    let running = load(&stand);
    assert_eq!(met(&running, &stand, 1, Duration::from_secs(2)), 0);
    assert_eq!(at(&flows, &stand, 1), before);
    assert_eq!(running.stop().failed(), 0);
    assert_eq!(flows.finish().all().harmed(), 0);
}

#[test]
fn the_other_version_takes_over_for_one_without_backends() {
    let stand = Stand::running(Setup { v2_weight: 40, ..checked("tcp", &["onEmptyPool: failover"]) });
    let flows = fixed_flows(&stand, 200, 33_000);
    let before = ask(&stand, &flows);
    operate(&stand, "disable", 3);
    let tally = stand.send(500);
    assert_eq!((tally.failed(), tally.by_version("v1")), (0, 500), "{tally:?}");
    operate(&stand, "enable", 3);
    eventually("the same backends for the same flows", || ask(&stand, &flows), |now| *now == before);
}

#[test]
fn connections_to_a_version_without_backends_are_dropped_where_the_file_says_so() {
    let stand = Stand::running(Setup { v2_weight: 40, ..checked("tcp", &["onEmptyPool: drop"]) });
    operate(&stand, "disable", 3);
    let traffic = Traffic { timeout: Duration::from_millis(500), ..stand.traffic() };
    let tally = traffic.send(stand.lab().client(), 150).unwrap();
    let timed_out = tally.failures.get(&Failure::TimedOut).copied().unwrap_or(0);
    assert_eq!((tally.failed(), tally.by_version("v2")), (timed_out, 0), "{tally:?}");
    assert!(within_five_deviations(timed_out, tally.requests(), 0.4), "{tally:?}");
    assert!(stand.metrics().sum("grayxdp_drops_total", &[("reason", "no_backend")]) >= timed_out as f64);
}
