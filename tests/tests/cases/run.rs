//! Runs the cases of a file against the program in the kernel, and tells of every one that fails.

use std::{fmt::Write as _, time::Duration};

use aya::maps::{Array, Map, MapData};
use grayxdp::{
    datapath::Capacity,
    model::kernel::{Counters, Kernel as _},
};
use grayxdp_common::{
    exceptions::ExceptionSet,
    maps,
    translations::{SEATS, Translation},
};
use grayxdp_tests::{bench::case::verdict, host, subject::Subject};

use crate::{
    counts, explained,
    format::{Case, File, Frame, Link, Output, Packet, Step, Verdict},
    tables::{self, Names},
};

/// Time between two cases: what one of them left to the other has lapsed.
const BETWEEN_CASES: Duration = Duration::from_secs(3_600);

/// Runs all cases of a file on a host of their own.
pub(crate) fn file(name: &str, file: &File) {
    let host = host::host(&file.host).expect("tests of the kernel need root and `ip`");
    let failures: Vec<String> = host.run(|| {
        let mut runner = Runner::new(file);
        let told = |case: &Case, failure: String| format!("{name}: \"{}\": {failure}", case.name);
        file.cases.iter().filter_map(|case| Some(told(case, runner.run(case)?))).collect()
    });
    let (failed, all) = (failures.len(), file.cases.len());
    assert!(failures.is_empty(), "{failed} of {all} cases of {name} fail ({}):\n{}", file.about, failures.join("\n"));
}

struct Runner<'a> {
    file: &'a File,
    names: Names,
    subject: Subject,
    entries: Array<MapData, ExceptionSet>,
    translations: Array<MapData, Translation>,
    seats: Array<MapData, [u64; SEATS]>,
    permits: Array<MapData, [u64; SEATS]>,
    /// As they were last read.
    counters: Counters,
    now: Duration,
    epoch: u64,
    published: &'a str,
}

impl<'a> Runner<'a> {
    fn new(file: &'a File) -> Self {
        let names = Names::of(file);
        let first = file.configurations.keys().next().expect("a file has a configuration");
        let capacity = Capacity {
            exception_sets_log2: file.exception_sets_log2,
            marks_log2: 6,
            flows_log2: 6,
            translations_log2: file.translations_log2.unwrap_or(10),
            ..Capacity::of(&tables::largest(file, &names)).with_room()
        };
        let subject = Subject::open_timeless(&tables::wanted(file, &names, first, 1), capacity)
            .expect("tests of the kernel need one that takes the program");
        let pinned = |name| {
            Map::Array(MapData::from_pin(subject.datapath.map_folder().join(name)).expect("the tables are pinned"))
        };
        let entries = pinned(maps::EXCEPTIONS).try_into().expect("the exception table is an array");
        let translations = pinned(maps::TRANSLATIONS).try_into().expect("the flow table is an array");
        let [seats, permits] =
            [maps::SEATS, maps::PERMITS].map(|name| pinned(name).try_into().expect("it is an array"));
        let counters = subject.counters().expect("counters can be read");
        Self {
            file,
            names,
            subject,
            entries,
            translations,
            seats,
            permits,
            counters,
            now: Duration::ZERO,
            epoch: 1,
            published: first,
        }
    }

    /// Runs a case and says what is wrong, if anything is.
    fn run(&mut self, case: &'a Case) -> Option<String> {
        self.wait(BETWEEN_CASES);
        for set in 0..self.entries.len() {
            self.entries.set(set, ExceptionSet::default(), 0).expect("the exception table can be written");
        }
        for place in 0..self.translations.len() {
            self.translations.set(place, Translation::default(), 0).expect("the flow table can be written");
        }
        for table in [&mut self.seats, &mut self.permits] {
            for set in 0..table.len() {
                table.set(set, [0; SEATS], 0).expect("the flow table can be written");
            }
        }
        self.publish(&case.configuration);
        case.steps.iter().enumerate().find_map(|(index, step)| match step {
            Step::Send(packet) => Some(format!("step {}: {}", index + 1, self.send(packet)?)),
            Step::WaitMs(milliseconds) => {
                self.wait(Duration::from_millis(*milliseconds));
                None
            }
            Step::Publish(configuration) => {
                self.publish(configuration);
                None
            }
        })
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.subject.set_clock(self.now).expect("the clock can be set");
    }

    fn publish(&mut self, configuration: &'a str) {
        if self.published != configuration {
            (self.published, self.epoch) = (configuration, self.epoch + 1);
            let wanted = tables::wanted(self.file, &self.names, configuration, self.epoch);
            self.subject.datapath.publish(&wanted).expect("tables are written");
            self.counters = self.subject.counters().expect("counters can be read");
        }
    }

    /// Shows the program a packet and says what is wrong with what becomes of it.
    fn send(&mut self, packet: &Packet) -> Option<String> {
        if let Some(said) = explained::contradiction(&mut self.subject.datapath, packet, &self.names) {
            return Some(said);
        }
        let (verdict, output) =
            self.subject.run(&packet.input.0, packet.interface.index()).expect("the kernel runs the packet");
        let after = self.subject.counters().expect("counters can be read");
        let counted = counts::between(&self.counters, &after, &self.names);
        self.counters = after;
        if verdict != packet.verdict.number() {
            let got = verdict_name(verdict);
            return Some(format!("{got}, not {:?}; counted {counted:?}", packet.verdict));
        }
        let expected = match &packet.output {
            None => None,
            Some(Output::Unchanged) => Some(&packet.input),
            Some(Output::Frame(frame)) => Some(frame),
        };
        if let Some(Frame(expected)) = expected.filter(|expected| expected.0 != output) {
            return Some(format!("the frame is not as expected:\n{}", difference(expected, &output)));
        }
        (counted != packet.counted).then(|| format!("counted {counted:?}, not {:?}", packet.counted))
    }
}

fn verdict_name(number: u32) -> &'static str {
    match number {
        verdict::DROP => "Drop",
        verdict::PASS => "Pass",
        verdict::TX => "Tx",
        verdict::REDIRECT => "Redirect",
        _ => "no verdict of this program",
    }
}

/// The rows of sixteen bytes that differ, expected above and got below, with a mark under each byte that differs.
fn difference(expected: &[u8], got: &[u8]) -> String {
    const ROW: usize = 16;
    let mut text = String::new();
    if expected.len() != got.len() {
        let _ = writeln!(text, "  {} bytes, not {}", got.len(), expected.len());
    }
    for start in (0..expected.len().max(got.len())).step_by(ROW) {
        let row = |frame: &[u8]| frame.iter().skip(start).take(ROW).copied().collect::<Vec<u8>>();
        let (wanted, came) = (row(expected), row(got));
        if wanted == came {
            continue;
        }
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!(" {byte:02x}")).collect::<String>();
        let mark = |index: usize| if wanted.get(index) == came.get(index) { "   " } else { " ^^" };
        let marks: String = (0..wanted.len().max(came.len())).map(mark).collect();
        let (wanted, came, marks) = (hex(&wanted), hex(&came), marks.trim_end());
        let _ = writeln!(text, "  {start:4} expected{wanted}\n       got     {came}\n               {marks}");
    }
    text
}

/// What is wrong with how a packet is written down.
pub(crate) fn contradiction(packet: &Packet) -> Option<&'static str> {
    let Packet { interface, verdict, to, output, .. } = packet;
    let fits = match (verdict, to, output) {
        (Verdict::Drop, None, None) | (Verdict::Pass, None, Some(_)) => true,
        (Verdict::Tx, Some(to), Some(Output::Frame(_))) => to == interface,
        (Verdict::Redirect, Some(to), Some(Output::Frame(frame))) => to != interface && leaves_by(*to, frame),
        (Verdict::Drop | Verdict::Pass | Verdict::Tx | Verdict::Redirect, _, _) => false,
    };
    (!fits).then_some("verdict, interface and frame do not fit together")
}

/// What a redirected frame shows of the interface it leaves by: that one's own Ethernet address.
fn leaves_by(interface: Link, Frame(frame): &Frame) -> bool {
    frame.get(6..12) == Some(&host::own_mac(interface.index())[..])
}

#[test]
fn only_rows_that_differ_are_shown_and_each_byte_that_differs_is_marked() {
    let expected: Vec<u8> = (0..34).collect();
    let mut got = expected.clone();
    (got[17], got[33]) = (0xaa, 0xbb);
    got.push(0xcc);
    let text = difference(&expected, &got);
    let rows: Vec<&str> = text.lines().map(str::trim_end).collect();
    let marked = [
        "  35 bytes, not 34",
        "    16 expected 10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f",
        "       got      10 aa 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f",
        "                   ^^",
        "    32 expected 20 21",
        "       got      20 bb cc",
        "                   ^^ ^^",
    ];
    assert_eq!(rows, marked);
}
