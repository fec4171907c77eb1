//! Packet cases as data: `tests/cases/*.json`, made by `tests/cases/generate.py`, run against the program in the kernel.
//!
//! The files are built into the test, so that it can be carried to another kernel. Needs root.

mod counts;
mod explained;
mod format;
mod run;
mod tables;

use std::collections::BTreeSet;

use format::{File, Step};
use tables::Names;

/// Fewer cases than this are fewer than there were.
const AT_LEAST: usize = 1_530;

/// A test for each file.
macro_rules! files {
    ($($test:ident = $file:literal,)*) => {
        const FILES: &[(&str, &str)] = &[$(($file, include_str!(concat!("../../cases/", $file, ".json"))),)*];

        $(
            #[test]
            fn $test() {
                run::file($file, &read($file, include_str!(concat!("../../cases/", $file, ".json"))));
            }
        )*
    };
}

files! {
    arp = "arp",
    down = "down",
    dsr = "dsr",
    echo = "echo",
    entries = "entries",
    expired = "expired",
    forward_tcp = "forward-tcp",
    forward_udp = "forward-udp",
    fragments = "fragments",
    full_nat = "full-nat",
    full_nat_full = "full-nat-full",
    full_nat_icmp = "full-nat-icmp",
    full_table = "full-table",
    icmp = "icmp",
    ipip = "ipip",
    ipip_4in6 = "ipip-4in6",
    ipv6_answers = "ipv6-answers",
    ipv6_dsr = "ipv6-dsr",
    ipv6_exceptions = "ipv6-exceptions",
    ipv6_forward = "ipv6-forward",
    ipv6_fragments = "ipv6-fragments",
    ipv6_full_nat = "ipv6-full-nat",
    ipv6_full_nat_full = "ipv6-full-nat-full",
    ipv6_ipip = "ipv6-ipip",
    ipv6_headers = "ipv6-headers",
    ipv6_icmp = "ipv6-icmp",
    ipv6_neighbours = "ipv6-neighbours",
    ipv6_not_ours = "ipv6-not-ours",
    ipv6_reverse = "ipv6-reverse",
    ipv6_sizes = "ipv6-sizes",
    malformed = "malformed",
    not_ours = "not-ours",
    other_ports = "other-ports",
    quic = "quic",
    reply_gateway = "reply-gateway",
    reply_routes = "reply-routes",
    reply_rules = "reply-rules",
    reverse = "reverse",
    segments = "segments",
    services = "services",
    sizes = "sizes",
    split = "split",
}

fn read(name: &str, text: &str) -> File {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_file_of_cases_is_run() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/cases");
    let names = std::fs::read_dir(folder).expect("the cases lie beside the test").map(|entry| {
        let entry = entry.expect("a folder can be read").file_name();
        entry.into_string().expect("files of cases have plain names")
    });
    let committed: BTreeSet<String> = names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect();
    assert_eq!(committed, FILES.iter().map(|(name, _)| (*name).to_owned()).collect());
}

#[test]
fn every_case_is_well_formed_and_they_are_not_fewer_than_before() {
    let (mut total, mut faults) = (0, Vec::new());
    for (name, text) in FILES {
        let file = read(name, text);
        total += file.cases.len();
        faults.extend(faults_of(&file).into_iter().map(|fault| format!("{name}: {fault}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(total >= AT_LEAST, "{total} cases");
}

/// What is wrong with how a file is written down.
fn faults_of(file: &File) -> Vec<String> {
    let names = Names::of(file);
    let mut faults = Vec::new();
    if file.about.is_empty() || file.about.contains('\n') {
        faults.push("it says in one line what it is about".to_owned());
    }
    if !file.hash_key.is_empty() && file.hash_key != grayxdp_tests::subject::KEY.0.map(|word| format!("{word:016x}")) {
        faults.push("its choices were made with another hash key".to_owned());
    }
    let mut known = BTreeSet::new();
    for case in &file.cases {
        let mut fault = |what: &str| faults.push(format!("\"{}\": {what}", case.name));
        if !known.insert(&case.name) || case.name.is_empty() || case.name.contains('\n') {
            fault("its name is one line and its own");
        }
        let published = case.steps.iter().filter_map(|step| match step {
            Step::Publish(configuration) => Some(configuration),
            Step::Send(_) | Step::WaitMs(_) => None,
        });
        for configuration in published.chain([&case.configuration]) {
            if !file.configurations.contains_key(configuration) {
                fault(&format!("no configuration is called `{configuration}`"));
            }
        }
        let packets: Vec<_> = case.steps.iter().filter_map(Step::packet).collect();
        if packets.is_empty() {
            fault("no packet");
        }
        for packet in packets {
            run::contradiction(packet).into_iter().for_each(&mut fault);
            counts::unknown(&packet.counted, &names).into_iter().for_each(|name| fault(&format!("what is `{name}`?")));
        }
    }
    faults
}
