//! Random and changed frames through the program and through a plain model of it: they must say the same.
//!
//! 100,000 frames, or 10,000,000 with `GRAYXDP_TEST_SIZE=full`. Verdict and frame are compared one by one, the counters after each
//! batch; whatever does not leave as a packet of its service must be counted, and whatever leaves of a right packet must be right, as
//! `etherparse` sees it. Needs root.

mod setup;

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use grayxdp::model::kernel::Reason;
use grayxdp_tests::{
    bench::case::verdict,
    host,
    plain::{Drawn, Judged, Ledger, Model, Verdict, are_right, draw},
    random::Random,
    size::Size,
    subject::Subject,
};

/// Frames between two readings of the counters.
const BATCH: u32 = 1_000;
/// A tick of the table of pieces: time passes in such, so that the model need not know how it rounds.
const TICK: Duration = Duration::from_nanos(1 << 27);
/// What the first numbers are drawn from.
const SEED: u64 = 0x6672_616d_6573;

/// What must happen to some frames of each family, besides what the reasons say.
const FATES: &[&str] = &[
    "untouched",
    "to a backend",
    "to a client",
    "a later piece to a backend",
    "a later piece to a client",
    "an error to a backend",
    "an error to a client",
];
/// Reasons that do not occur in a world of settled services in `nat` whose backends are up.
const ELSEWHERE: &[Reason] = &[
    Reason::Fault,
    Reason::DeferredNowhere,
    Reason::BackendDown,
    Reason::BackendDownDropped,
    Reason::FlowReset,
    Reason::FlowResetDropped,
    Reason::NoNextHop,
    Reason::NoHeadroom,
    Reason::TunnelError,
    Reason::UnknownFlow,
    Reason::UnknownFlowDropped,
    Reason::NoSourcePort,
    Reason::HalfOpenFull,
    Reason::FlowTableFull,
];
/// What no packet of IPv6 comes to: routers never cut one.
const IPV4_ONLY: &[Reason] = &[Reason::TooBigPassed];

/// The program and the model.
struct Both {
    subject: Subject,
    model: Model,
    clock: Duration,
}

impl Both {
    fn let_pass(&mut self, time: Duration) {
        self.clock += time;
        self.subject.set_clock(self.clock).expect("the clock can be set");
    }

    /// What the model says of a frame, and how the program differs.
    fn compare(&mut self, drawn: &Drawn) -> (Judged, Option<String>) {
        let frame = drawn.frame();
        let judged = self.model.judge(&frame, drawn.came, self.clock.as_nanos() as u64);
        let (verdict, output) = self.subject.run(&frame, drawn.came).expect("the kernel runs the frame");
        let expected = match judged.verdict {
            Verdict::Drop => verdict::DROP,
            Verdict::Pass => verdict::PASS,
            Verdict::Leaves(interface) if interface == drawn.came => verdict::TX,
            Verdict::Leaves(_) => verdict::REDIRECT,
        };
        let mut difference = None;
        if verdict != expected {
            difference = Some(format!("verdict {verdict}, not {expected} ({})", judged.fate));
        } else if judged.frame.as_ref().is_some_and(|frame| *frame != output) {
            let wanted = hex(judged.frame.as_deref().unwrap_or_default());
            difference = Some(format!("{}: the frame is\n{}, not\n{wanted}", judged.fate, hex(&output)));
        } else if verdict != verdict::DROP && judged.fate != "untouched" {
            difference = wrong_sum(&frame, &output, &judged);
        }
        (judged, difference)
    }

    /// Compares one frame by itself, with what it counts.
    fn compare_alone(&mut self, drawn: &Drawn) -> Option<String> {
        self.let_pass(4 * TICK);
        let mut expected = self.counted();
        let (judged, difference) = self.compare(drawn);
        expected.add(&judged.counted);
        let counted = self.counted();
        difference
            .or_else(|| (counted != expected).then(|| format!("counted, and should be\n{}", counted.apart(&expected))))
    }

    fn counted(&self) -> Ledger {
        Ledger::of(&self.subject.counters().expect("the counters can be read"))
    }

    /// Drops changes one by one for as long as the frame makes a difference.
    fn shrunk(&mut self, drawn: &Drawn) -> Drawn {
        let mut least = drawn.clone();
        let mut index = 0;
        while index < least.mutations.len() {
            let other = least.without(index);
            if self.compare_alone(&other).is_some() {
                least = other;
            } else {
                index += 1;
            }
        }
        least
    }

    fn report(&mut self, number: u64, drawn: &Drawn, difference: &str) -> String {
        let least = self.shrunk(drawn);
        let again = self.compare_alone(&least).unwrap_or_else(|| "no difference when it is sent again".to_owned());
        format!(
            "seed {SEED:#x}, frame {number}, in by {}: {difference}\nframe {}\nleast {}\nout of {}\nby {:?}\n{again}",
            drawn.came,
            hex(&drawn.frame()),
            hex(&least.frame()),
            hex(&least.right),
            least.mutations
        )
    }
}

/// Whether a frame that was right became wrong, or an answer is.
fn wrong_sum(input: &[u8], output: &[u8], judged: &Judged) -> Option<String> {
    let fresh = [Reason::TimeExceeded, Reason::PortClosed, Reason::FragmentationNeeded];
    let is_fresh = judged.counted.reason.is_some_and(|(_, reason)| fresh.contains(&reason));
    let was_right = is_fresh || are_right(input) == Some((true, true));
    (was_right && are_right(output) != Some((true, true)))
        .then(|| format!("{}: a wrong checksum leaves: {}", judged.fate, hex(output)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

/// Keeps this thread on one processor: each has meters of its own for answers.
fn stay_here() {
    // SAFETY: a set of processors is plain bits; the calls read and write only that.
    unsafe {
        let mut here: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(usize::try_from(libc::sched_getcpu()).expect("a processor has a number"), &mut here);
        assert_eq!(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const here), 0);
    }
}

/// Runs frames through both; how many of each family met each fate.
fn run(both: &mut Both, frames: u32) -> BTreeMap<(bool, &'static str), u64> {
    let (world, strangers) = (setup::world(), setup::strangers());
    let mut random = Random(SEED);
    let (mut fates, mut ledger) = (BTreeMap::new(), Ledger::default());
    for batch in 0..frames.div_ceil(BATCH) {
        both.let_pass(TICK * random.pick(&[0, 0, 0, 0, 0, 1, 8, 230]));
        let drawn: Vec<Drawn> = (0..BATCH).map(|_| draw(&mut random, &world, &strangers)).collect();
        for (index, one) in drawn.iter().enumerate() {
            let (judged, difference) = both.compare(one);
            if let Some(difference) = difference {
                let number = u64::from(batch) * u64::from(BATCH) + index as u64;
                panic!("{}", both.report(number, one, &difference));
            }
            assert!(judged.verdict != Verdict::Drop || judged.counted.reason.is_some(), "dropped and not counted");
            ledger.add(&judged.counted);
            *fates.entry((one.frame().get(12..14) == Some(&[0x86, 0xdd]), judged.fate)).or_default() += 1;
        }
        let counted = both.counted();
        if counted != ledger {
            let guilty = drawn.iter().find_map(|one| Some((one.clone(), both.compare_alone(one)?)));
            let told =
                guilty.map_or_else(String::new, |(one, difference)| both.report(u64::from(batch), &one, &difference));
            panic!("batch {batch}: counted, and should be\n{}\n{told}", counted.apart(&ledger));
        }
    }
    fates
}

#[test]
fn the_program_and_a_plain_model_say_the_same_of_every_frame() {
    let frames = Size::of_this_run().times(100_000, 10_000_000);
    let namespace = host::host(&setup::lines()).expect("tests of the kernel need root and `ip`");
    let fates = namespace.run(|| {
        stay_here();
        let wanted = setup::wanted();
        let capacity = grayxdp::datapath::Capacity::of(&wanted).with_room();
        let subject = Subject::open_timeless(&wanted, capacity).expect("the kernel takes the program");
        let mut both = Both { subject, model: Model::new(setup::world()), clock: Duration::from_secs(3_600) };
        run(&mut both, frames)
    });
    for ((is_ipv6, fate), count) in &fates {
        println!("{} {fate:28} {count:9}", if *is_ipv6 { "IPv6" } else { "IPv4" });
    }
    if frames < BATCH * 100 {
        return; // An emulated machine runs too few for the rarest.
    }
    let reasons = Reason::ALL.iter().filter(|reason| !ELSEWHERE.contains(reason));
    for is_ipv6 in [false, true] {
        let possible =
            reasons.clone().filter(|reason| !is_ipv6 || !IPV4_ONLY.contains(reason)).map(|reason| reason.label());
        let missing: Vec<_> =
            possible.chain(FATES.iter().copied()).filter(|fate| !fates.contains_key(&(is_ipv6, *fate))).collect();
        assert!(missing.is_empty(), "never occurred, IPv6 {is_ipv6}: {missing:?}");
    }
}
