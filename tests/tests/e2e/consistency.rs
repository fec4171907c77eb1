//! Nobody is moved: flows that last meet the backend that they met first, while weights go up and down, backends come
//! and go, and the daemon is killed, restarted, and upgraded to another binary.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::SocketAddr,
    time::{Duration, Instant},
};

use grayxdp::{
    lab::{LastingFlows, LastingTraffic, Running, Traffic},
    model::{api::Explained, config::Protocol},
};
use grayxdp_tests::{
    size::Size,
    stand::{Metrics, Setup, Stand, within},
};

/// Changes of weight on the way from 0 to 100 % and back.
const STEPS: u64 = 50;
/// After this time of the last packet to it a closed flow's entry goes.
const CLOSING: Duration = Duration::from_secs(3);
/// After this time without another change a bucket of UDP goes by its new owner.
const LEARNING: Duration = Duration::from_secs(30);
/// The daemon looks at every entry at least this often.
const SWEEP: Duration = Duration::from_secs(10);

/// How long all takes, and how many flows there are.
#[derive(Clone, Copy)]
struct Course {
    protocol: Protocol,
    idle_timeout: Duration,
    settle_after: Duration,
    /// From one change of weight to the next.
    step: Duration,
    /// After the steps of [`holds`]: long enough for what moved to settle while its flows live.
    hold: Duration,
    silence: Duration,
    longest_pause: Duration,
    /// Flows that begin before the first change, and in each step.
    flows: (u64, u64),
}

impl Course {
    /// 2,000 connections at full size.
    fn of_connections() -> Self {
        let seconds = Duration::from_secs;
        let size = Size::of_this_run();
        Self {
            protocol: Protocol::Tcp,
            idle_timeout: size.pick(seconds(6), seconds(75)),
            settle_after: size.pick(seconds(1), seconds(20)),
            step: size.pick(Duration::from_millis(300), seconds(5)),
            hold: size.pick(seconds(11), seconds(115)),
            silence: size.pick(seconds(4), seconds(60)),
            longest_pause: size.pick(seconds(2), seconds(8)),
            flows: size.pick((50, 4), (400, 32)),
        }
    }

    /// A flow of datagrams is never silent for as long as the learning window, 30 s, or `idleTimeout`.
    fn of_datagrams() -> Self {
        let size = Size::of_this_run();
        Self {
            protocol: Protocol::Udp,
            hold: size.pick(Duration::ZERO, LEARNING + SWEEP),
            silence: size.pick(Duration::from_secs(4), Duration::from_secs(20)),
            flows: size.pick((60, 2), (150, 5)),
            ..Self::of_connections()
        }
    }

    fn setup(&self) -> Setup {
        let field = |name, time: Duration| format!("{name}: {}s", time.as_secs());
        Setup {
            pools: [vec![1, 1, 1], vec![1, 1, 1]],
            protocol: self.protocol.label(),
            fields: vec![
                field("idleTimeout", self.idle_timeout),
                field("settleAfter", self.settle_after),
                field("closingTimeout", CLOSING),
            ],
            ..Setup::default()
        }
    }

    fn traffic(&self, stand: &Stand) -> LastingTraffic {
        LastingTraffic {
            silence: self.silence,
            longest_pause: self.longest_pause,
            ..LastingTraffic::new(self.protocol, stand.target(), stand.lab().sources())
        }
    }
}

/// Backends that are absent at first: the third of either version.
const LATE: [&str; 2] = ["10.0.3.1", "10.0.6.1"];

/// The configuration without some backends, and with that many further services.
fn configuration(all: &str, without: &[&str], more_services: usize) -> String {
    let mut text = all.to_owned();
    for address in without {
        for entry in [
            format!(", {{address: {address}, port: 8080, weight: 1}}"),
            format!("{{address: {address}, port: 8080, weight: 1}}, "),
        ] {
            text = text.replace(&entry, "");
        }
        assert!(!text.contains(address), "{address} is still in {text}");
    }
    for number in 0..more_services {
        write!(
            text,
            "- name: more-{number}\n  vip: 198.51.100.{number}\n  port: 80\n  versions:\n  - {{name: v1, backends: \
             [{{address: 10.0.1.1, port: {}}}]}}\n  weights: {{v1: 100}}\n",
            10_000 + number
        )
        .unwrap();
    }
    text
}

/// What happens besides the change of weight in a step.
fn disturb(stand: &mut Stand, step: u64, all: &str) {
    let reload = |stand: &Stand, without: &[&str], more| {
        stand.write("grayxdp.yaml", &configuration(all, without, more));
        let _ = stand.done(&["reload"]);
    };
    match step {
        4 => reload(stand, &["10.0.6.1"], 0),
        8 | 28 | 45 => {
            stand.kill();
            std::thread::sleep(Duration::from_millis(300));
            stand.start();
        }
        12 => reload(stand, &["10.0.2.1"], 0),
        16 => upgrade(stand, &configuration(all, &["10.0.2.1"], 0)),
        // Larger tables: another program on other maps takes the links over.
        20 => reload(stand, &["10.0.2.1"], 60),
        32 => reload(stand, &["10.0.5.1"], 60),
        36 => upgrade(stand, &configuration(all, &["10.0.5.1"], 200)),
        40 => reload(stand, &LATE, 200),
        _ => {}
    }
}

/// What an operator does for a new release: the binary is replaced while the daemon runs from it, then the daemon ends
/// and the new one starts.
fn upgrade(stand: &mut Stand, configuration: &str) {
    let (before, services) = (stand.snapshot().programs, stand.status().services.len());
    stand.install();
    stand.write("grayxdp.yaml", configuration);
    stand.signal(libc::SIGTERM);
    assert!(stand.wait_for_end().success(), "{}", stand.log());
    stand.start();
    let after = stand.snapshot().programs;
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    // Maps that are too small for more services are replaced, and with them the program on every link.
    if stand.status().services.len() > services {
        assert!(before.iter().all(|(interface, program)| after[interface] != *program), "{before:?} {after:?}");
    }
}

/// Percent of `v2` in a step.
fn weight(step: u64) -> u8 {
    let half = STEPS / 2;
    u8::try_from(100 * step.min(STEPS - step) / half).unwrap()
}

fn entries(metrics: &Metrics) -> f64 {
    metrics.sum("grayxdp_exception_entries", &[])
}

/// The fullest exception table that was seen.
#[derive(Debug, Default)]
struct Peak {
    entries: f64,
    told: String,
    /// What settled, by how, until the daemon's last end: a new one counts from zero.
    settled: Settled,
}

type Settled = BTreeMap<String, f64>;

/// Steps in which the daemon ends.
const ENDS: [u64; 5] = [8, 16, 28, 36, 45];

/// Steps after which nothing changes for a while: at about half, and at all.
fn holds() -> &'static [u64] {
    Size::of_this_run().pick(&[STEPS / 2], &[12, STEPS / 2, 41])
}

fn settled(stand: &Stand) -> Settled {
    stand.metrics().by("grayxdp_settled_total", "kind")
}

impl Peak {
    /// Looks into the table; each entry belongs to a lasting flow or to one that began and ended a moment ago.
    fn look(&mut self, stand: &Stand, flows: &LastingFlows, recent: u64, step: u64) {
        let metrics = stand.metrics();
        let (now, living) = (entries(&metrics), flows.living().len());
        assert!(
            now <= (living as u64 + recent) as f64,
            "step {step}: {now} entries of {living} lasting flows and {recent} short ones: {:?}",
            metrics.by("grayxdp_exception_entries", "state")
        );
        if now > self.entries {
            self.entries = now;
            self.told = format!(
                "step {step}, {} % of v2: {:?}; {living} lasting flows, {recent} short ones begun in the last {:?}",
                weight(step),
                metrics.by("grayxdp_exception_entries", "state"),
                CLOSING + SWEEP
            );
        }
    }
}

/// How many requests of short connections began in the last seconds.
#[derive(Default)]
struct Recent(Vec<(Instant, u64)>);

impl Recent {
    fn count(&mut self, requests: u64) -> u64 {
        self.0.push((Instant::now(), requests));
        self.0.retain(|(when, _)| when.elapsed() < CLOSING + SWEEP);
        requests - self.0[0].1
    }
}

/// Short connections beside the lasting ones; they are refused or cut off by nothing either.
fn short_connections(stand: &Stand) -> Running {
    let traffic = Traffic { clients: 4, pause: Duration::from_millis(40), ..stand.traffic() };
    traffic.start(stand.lab().client()).unwrap()
}

/// All steps; returns what the exception table held at most.
fn go_there_and_back(
    stand: &mut Stand,
    course: &Course,
    flows: &LastingFlows,
    short: Option<&Running>,
    all: &str,
) -> Peak {
    let (mut peak, mut recent) = (Peak::default(), Recent::default());
    for step in 1..=STEPS {
        let begun = Instant::now();
        let v2 = weight(step);
        flows.begin(format!("{step:02}, {v2} %"), course.flows.1);
        stand.set_v2(v2);
        if ENDS.contains(&step) {
            add(&mut peak.settled, &settled(stand));
        }
        disturb(stand, step, all);
        let recent = recent.count(short.map_or(0, |short| short.tally().requests()));
        peak.look(stand, flows, recent, step);
        std::thread::sleep(course.step.saturating_sub(begun.elapsed()));
        if holds().contains(&step) {
            let before = settled(stand);
            std::thread::sleep(course.hold);
            let living = flows.living().len();
            println!(
                "step {step}, after {:?}: {before:?} have become {:?}; {living} flows",
                course.hold,
                settled(stand)
            );
        }
    }
    peak
}

/// Living flows that the default would send elsewhere than to their backend, when all is settled.
fn exceptions(stand: &Stand, flows: &LastingFlows, protocol: Protocol) -> usize {
    let target = stand.target().to_string();
    let differs = |(client, home): &(SocketAddr, String)| {
        let client = client.to_string();
        let words = ["explain", "--src", &client, "--dst", &target, "--protocol", protocol.label()];
        let explained: Explained = stand.answer(&words);
        let backend = explained.backend.unwrap_or_else(|| panic!("{client}: {explained:?}"));
        !home.ends_with(&format!("/{}", backend.ip()))
    };
    flows.living().into_iter().filter(differs).count()
}

/// Waits until the table holds the exceptions of living flows and nothing else.
fn only_exceptions_are_left(stand: &Stand, flows: &LastingFlows, course: &Course) {
    let wanted = exceptions(stand, flows, course.protocol);
    println!("settled again: {wanted} of {} lasting flows are exceptions", flows.living().len());
    assert!(wanted > 0, "flows that began at other weights live on");
    let patience = course.idle_timeout + course.settle_after + course.idle_timeout + Duration::from_secs(60);
    let look = || stand.metrics().by("grayxdp_exception_entries", "state");
    within(patience, "a table of exceptions only", look, |kinds| {
        (kinds.values().sum::<f64>() - wanted as f64).abs() < 0.5
    });
}

fn add(sum: &mut Settled, more: &Settled) {
    for (kind, count) in more {
        *sum.entry(kind.clone()).or_default() += count;
    }
}

#[test]
fn no_lasting_connection_moves_or_breaks_whatever_changes() {
    let course = Course::of_connections();
    let mut stand = Stand::new(course.setup());
    let all = stand.configuration();
    stand.write("grayxdp.yaml", &configuration(&all, &LATE, 0));
    stand.install();
    stand.start();
    let flows = course.traffic(&stand).start(stand.lab().client()).unwrap();
    flows.begin("00, before", course.flows.0);
    let short = short_connections(&stand);
    std::thread::sleep(Duration::from_secs(2));
    let peak = go_there_and_back(&mut stand, &course, &flows, Some(&short), &all);
    let short = short.stop();
    println!("at most {} entries: {}", peak.entries, peak.told);
    assert_eq!(flows.tally().all().harmed(), 0, "{:#?}\ndaemon: {}", flows.tally(), stand.log());
    only_exceptions_are_left(&stand, &flows, &course);
    let mut all_settled = peak.settled;
    add(&mut all_settled, &settled(&stand));
    println!("settled while {} flows live: {all_settled:?}", flows.living().len());
    let tally = flows.finish();
    println!("{:?}\n{} short connections, {} of them failed", tally.all(), short.requests(), short.failed());
    assert_eq!(tally.all().harmed(), 0, "{tally:#?}\ndaemon: {}", stand.log());
    assert_eq!(tally.all().begun, course.flows.0 + STEPS * course.flows.1);
    assert_eq!(tally.all().ended, tally.all().begun);
    assert!(tally.steps.values().all(|lives| lives.answers > lives.begun), "flows of every step lived on: {tally:#?}");
    assert_eq!(short.failed(), 0, "{short:?}");
    for kind in ["idle", "pinned"] {
        assert!(all_settled.get(kind).is_some_and(|count| *count >= 3.0), "{kind}: {all_settled:?}");
    }
    within(CLOSING + SWEEP * 3, "an empty table", || entries(&stand.metrics()), |entries| *entries < 0.5);
}

#[test]
fn no_flow_of_datagrams_moves_within_its_rule() {
    let course = Course::of_datagrams();
    let mut stand = Stand::new(course.setup());
    let all = stand.configuration();
    stand.write("grayxdp.yaml", &configuration(&all, &LATE, 0));
    stand.install();
    stand.start();
    let flows = course.traffic(&stand).start(stand.lab().client()).unwrap();
    flows.begin("00, before", course.flows.0);
    std::thread::sleep(Duration::from_secs(2));
    let peak = go_there_and_back(&mut stand, &course, &flows, None, &all);
    println!("at most {} entries: {}", peak.entries, peak.told);
    within(Duration::from_secs(60), "v2 without new flows", || stand.v2(), |v2| *v2 == 0.0);
    let mut all_settled = peak.settled;
    add(&mut all_settled, &settled(&stand));
    println!("settled while {} flows live: {all_settled:?}", flows.living().len());
    let tally = flows.finish();
    println!("{:?}", tally.all());
    assert_eq!(tally.all().harmed(), 0, "{tally:#?}\ndaemon: {}", stand.log());
    assert_eq!(tally.all().ended, course.flows.0 + STEPS * course.flows.1);
    if course.hold >= LEARNING {
        assert!(all_settled.get("window").is_some_and(|count| *count >= 3.0), "{all_settled:?}");
    }
    // With nothing to resolve by home, the table ends empty.
    let patience = course.idle_timeout + course.settle_after + course.idle_timeout + Duration::from_secs(60);
    within(patience, "an empty table", || entries(&stand.metrics()), |entries| *entries < 0.5);
}
