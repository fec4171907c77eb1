//! A flood of SYNs in the middle of a change of weights: no connection breaks, the split gives way. Alone in its
//! program, because it needs the whole machine.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{thread, time::Duration};

use grayxdp::{
    lab::{Lab, LabError, LastingTraffic, Lives, Tally, Traffic},
    model::config::Protocol,
};
use grayxdp_tests::{
    bench::{harness::pin_thread, throughput::nftables},
    flood::{Flood, Sent},
    size::Size,
    stand::{Metrics, Setup, Stand, VIP_PORT},
};

/// Two versions of one backend each.
const BACKENDS: usize = 2;
/// Before the flood begins and after it ended.
const CALM: Duration = Duration::from_secs(2);

/// What is done while it floods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum During {
    /// Nothing.
    Nothing,
    /// Weights go 0 → 30 → 60 → 30 %.
    Changes,
}

/// What honest clients met while it flooded.
#[derive(Debug)]
struct Outcome {
    sent: Sent,
    /// Short connections, one request each.
    short: Tally,
    lasting: Lives,
    harms: Vec<String>,
    deferred: f64,
    refused: f64,
    peak_entries: f64,
    tracked: Option<Tracked>,
    /// Of the short connections that began between the changes: wanted and observed share of `v2`.
    shares: Vec<(f64, f64)>,
}

impl Outcome {
    fn failed(&self) -> u64 {
        self.short.failed() + self.lasting.harmed()
    }

    fn row(&self, what: &str) -> String {
        format!(
            "| {what} | {:.2} | {:.2} | {} | {} | {} | {} | {:.0} | {:.0} |",
            self.sent.mpps(),
            self.sent.forwarded_mpps(),
            self.short.requests(),
            self.short.failed(),
            self.lasting.begun,
            self.lasting.harmed(),
            self.deferred,
            self.peak_entries
        )
    }
}

/// What the kernel's connection tracking counted on the load balancer.
#[derive(Clone, Copy, Debug, Default)]
struct Tracked {
    /// Entries at most, when looked at.
    entries: u64,
    /// New entries for which there was no room or no memory: their packets were dropped.
    dropped: u64,
    /// Entries of unanswered connections that were removed to make room.
    early_dropped: u64,
}

impl Tracked {
    /// The counters of all processors, hexadecimal, in columns that the first line names; but the entries are the same
    /// number in every line.
    fn read(lab: &Lab) -> Self {
        let text = lab.balancer().run(|| std::fs::read_to_string("/proc/thread-self/net/stat/nf_conntrack")).unwrap();
        let mut lines = text.lines().map(str::split_whitespace);
        let names: Vec<_> = lines.next().unwrap().collect();
        let rows: Vec<Vec<u64>> =
            lines.map(|line| line.map(|field| u64::from_str_radix(field, 16).unwrap()).collect()).collect();
        let column = |name: &str| {
            let column = names.iter().position(|is| *is == name).unwrap();
            rows.iter().map(move |row| row[column])
        };
        Self {
            entries: column("entries").max().unwrap_or(0),
            dropped: column("drop").sum(),
            early_dropped: column("early_drop").sum(),
        }
    }
}

const TITLE: &str = "| what | SYNs sent, Mpps | forwarded, Mpps | short connections | of these failed | lasting connections \
                     | of these harmed | `choice_deferred` | entries at most |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |";

fn short(target: std::net::SocketAddrV4, sources: grayxdp::lab::Sources) -> Traffic {
    Traffic { clients: 8, pause: Duration::from_millis(5), ..Traffic::new(target, sources) }
}

fn lasting(target: std::net::SocketAddrV4, sources: grayxdp::lab::Sources) -> LastingTraffic {
    LastingTraffic {
        silence: Duration::from_secs(5),
        longest_pause: Duration::from_secs(2),
        ..LastingTraffic::new(Protocol::Tcp, target, sources)
    }
}

/// Starts clients on the processor that sends the flood. Where two processors send into a veth, the one takes the work
/// of its far end from the other, which then sends a burst faster than it is received, and most of it is lost there:
/// before the load balancer.
fn beside_the_flood<T: Send>(start: impl FnOnce() -> Result<T, LabError> + Send) -> T {
    let started = || {
        // The clients' threads inherit it.
        pin_thread(0).unwrap();
        start().unwrap()
    };
    thread::scope(|scope| scope.spawn(started).join().unwrap())
}

fn deferred(metrics: &Metrics) -> f64 {
    metrics.sum("grayxdp_choice_deferred_total", &[])
}

/// Floods grayxdp at a rate for a while.
fn flooded(mpps: f64, time: Duration, during: During) -> Outcome {
    let fields = ["idleTimeout: 10m", "settleAfter: 5m"].map(str::to_owned).to_vec();
    let mut stand = Stand::running(Setup { fields, ..Setup::default() });
    let (target, sources) = (stand.target(), stand.lab().sources());
    let flows = beside_the_flood(|| lasting(target, sources).start(stand.lab().client()));
    let running = beside_the_flood(|| short(target, sources).start(stand.lab().client()));
    flows.begin("before", Size::of_this_run().pick(100, 500));
    thread::sleep(CALM);
    let flood = Flood::start(stand.lab_mut(), BACKENDS, target, mpps).unwrap();
    let (mut shares, mut peak_entries) = (Vec::new(), 0.0_f64);
    let parts: &[Option<u8>] = match during {
        During::Nothing => &[None],
        During::Changes => &[None, Some(30), Some(60), Some(30)],
    };
    for weight in parts {
        if let Some(v2) = weight {
            stand.set_v2(*v2);
        }
        flows.begin("flooded", Size::of_this_run().pick(20, 50));
        let before = running.tally();
        thread::sleep(time / u32::try_from(parts.len()).unwrap());
        let met = running.tally().since(&before);
        shares
            .push((f64::from(weight.unwrap_or(0)) / 100.0, met.by_version("v2") as f64 / met.answered().max(1) as f64));
        peak_entries = peak_entries.max(stand.metrics().sum("grayxdp_exception_entries", &[]));
    }
    let sent = flood.stop().unwrap();
    thread::sleep(CALM);
    let metrics = stand.metrics();
    let tally = flows.finish();
    let refused = metrics.sum("grayxdp_exception_refused_total", &[]);
    let (lasting, harms) = (tally.all(), tally.harms);
    Outcome {
        sent,
        short: running.stop(),
        lasting,
        harms,
        deferred: deferred(&metrics),
        refused,
        peak_entries,
        tracked: None,
        shares,
    }
}

/// Floods the kernel's own destination NAT, which tracks connections, in the same way.
fn flooded_nftables(mpps: f64, time: Duration) -> Outcome {
    let mut stand = Stand::new(Setup::default());
    let lab = stand.lab();
    lab.ping().unwrap();
    nftables(lab).unwrap();
    steer_to_another_processor(lab);
    let (target, sources) = (std::net::SocketAddrV4::new(lab.vip(), VIP_PORT), lab.sources());
    let flows = beside_the_flood(|| lasting(target, sources).start(lab.client()));
    let running = beside_the_flood(|| short(target, sources).start(lab.client()));
    flows.begin("before", Size::of_this_run().pick(100, 500));
    thread::sleep(CALM);
    let flood = Flood::start(stand.lab_mut(), BACKENDS, target, mpps).unwrap();
    let mut peak_entries = 0;
    for _ in 0..4 {
        flows.begin("flooded", Size::of_this_run().pick(20, 50));
        thread::sleep(time / 4);
        peak_entries = peak_entries.max(Tracked::read(stand.lab()).entries);
    }
    let sent = flood.stop().unwrap();
    thread::sleep(CALM);
    let tally = flows.finish();
    let (lasting, harms) = (tally.all(), tally.harms);
    let tracked = Some(Tracked { entries: peak_entries, ..Tracked::read(stand.lab()) });
    let (deferred, refused, peak_entries, shares) = (0.0, 0.0, peak_entries as f64, Vec::new());
    Outcome { sent, short: running.stop(), lasting, harms, deferred, refused, peak_entries, tracked, shares }
}

/// What the generator comes to where nothing else is done: the highest rate that this machine can be asked for.
fn ceiling(time: Duration) -> Sent {
    let mut stand = Stand::running(Setup::default());
    let target = stand.target();
    let flood = Flood::start(stand.lab_mut(), BACKENDS, target, 20.0).unwrap();
    thread::sleep(time);
    flood.stop().unwrap()
}

/// The highest of some rates at which no connection fails while nothing changes; what is sent can be less, where the
/// machine cannot do more.
fn highest_rate(rates: &[f64], time: Duration) -> Option<f64> {
    let mut highest = None;
    for &rate in rates {
        let outcome = flooded(rate, time, During::Nothing);
        println!("{}", outcome.row(&format!("no change, {rate} Mpps asked for")));
        if outcome.failed() > 0 {
            outcome.harms.iter().take(5).for_each(|harm| println!("  {harm}"));
            break;
        }
        highest = Some(rate);
        if outcome.sent.forwarded_mpps() < rate * 0.8 {
            println!("  this machine cannot send and forward more");
            break;
        }
    }
    highest
}

/// The same floods against the kernel's connection tracking, in rows.
fn beside_connection_tracking(rates: &[f64], time: Duration) {
    for &rate in rates {
        let outcome = flooded_nftables(rate, time);
        println!("{}", outcome.row(&format!("nftables with connection tracking, {rate} Mpps asked for")));
        let tracked = outcome.tracked.unwrap();
        println!(
            "  {} of {} entries at most, {} new ones without room, {} unanswered ones removed for room; {:?}",
            tracked.entries,
            conntrack_max(),
            tracked.dropped,
            tracked.early_dropped,
            outcome.short.failures
        );
        println!(
            "  lasting connections: {} got no first answer, {} broke later",
            outcome.lasting.unopened, outcome.lasting.broken
        );
        outcome.harms.iter().take(3).for_each(|harm| println!("  {harm}"));
    }
}

#[test]
fn a_flood_in_the_middle_of_a_change_breaks_no_connection() {
    let size = Size::of_this_run();
    let (look, time) = (size.pick(3, 10), size.pick(8, 30));
    let (look, time) = (Duration::from_secs(look), Duration::from_secs(time));
    let alone = ceiling(look);
    println!("settled, no honest client: {:.2} Mpps sent, {:.2} Mpps forwarded", alone.mpps(), alone.forwarded_mpps());
    let rates: &[f64] = size.pick(&[1.0, 2.0], &[1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0]);
    println!("{TITLE}");
    let rate = highest_rate(rates, look).expect("no connection fails while it floods and nothing changes");
    let changed = flooded(rate, time, During::Changes);
    println!("{}", changed.row(&format!("weights change, {rate} Mpps asked for")));
    for (wanted, observed) in &changed.shares {
        println!("  v2: wanted {:.1} %, observed {:.1} % of new connections", wanted * 100.0, observed * 100.0);
    }
    println!("  pins refused: {}", changed.refused);
    let lower: &[f64] = size.pick(&[], &[0.005, 0.02, 0.1, 0.5]);
    beside_connection_tracking(&[lower, &[rate]].concat(), time);
    assert_eq!(changed.failed(), 0, "{:?} {:?} {:?}", changed.short, changed.lasting, changed.harms);
    assert!(changed.short.answered() > 100, "{:?}", changed.short);
}

/// Lets the load balancer's kernel work on another processor than the generator, which else waited for it and sent no
/// more than it can do.
fn steer_to_another_processor(lab: &Lab) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    lab.balancer().output("mount", ["-t", "sysfs", "sysfs", folder]).unwrap();
    let others = thread::available_parallelism().map_or(1, usize::from).clamp(2, 32);
    let queue = format!("{folder}/class/net/{}/queues/rx-0/rps_cpus", lab.interfaces()[0]);
    lab.balancer().run(|| std::fs::write(&queue, format!("{:x}", (1_u64 << others) - 2))).unwrap();
    lab.balancer().output("umount", [folder]).unwrap();
}

fn conntrack_max() -> String {
    std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max").unwrap_or_default().trim().to_owned()
}
