//! Classes against a matcher that asks every segment.

use std::{net::Ipv4Addr, time::Duration};

use grayxdp_common::cells::{NO_DSCP, SegmentClass, SlotState};
use proptest::prelude::*;

use super::*;
use crate::{
    balance::{Moment, Policy, Pressure, Span},
    model::kernel::WantedSegments,
};

const PORTS_OF_SERVICE: [u16; 3] = [80, 443, 8_080];

fn rules(matches: &[Match]) -> Vec<Rule<'_>> {
    let rule = |(order, of)| Rule { r#match: of, order, number: order as u8 + 1 };
    matches.iter().enumerate().map(rule).collect()
}

fn at(second: u64) -> Moment {
    Moment::of(Duration::from_secs(second))
}

/// The segment of a packet by asking every segment, in the words of the rule.
fn naive(matches: &[Match], source: Ipv4Addr, port: u16, dscp: u8) -> u8 {
    let mut best: Option<((i32, bool, bool), u8)> = None;
    for (number, of) in (1..).zip(matches) {
        let inside = |prefix: &&Prefix| {
            let host = u64::from(source.to_bits()) >> (32 - u32::from(prefix.length));
            let std::net::IpAddr::V4(address) = prefix.address else { return false };
            host == u64::from(address.to_bits()) >> (32 - u32::from(prefix.length))
        };
        let longest = of.sources.iter().filter(inside).map(|prefix| i32::from(prefix.length)).max();
        let matches = (of.sources.is_empty() || longest.is_some())
            && (of.ports.is_empty() || of.ports.contains(&port))
            && (of.dscp.is_empty() || of.dscp.contains(&dscp));
        let rank = (longest.unwrap_or(-1), !of.ports.is_empty(), !of.dscp.is_empty());
        if matches && best.is_none_or(|(known, _)| rank > known) {
            best = Some((rank, number));
        }
    }
    best.map_or(0, |(_, number)| number)
}

/// What the data path finds: the longest prefix, its class, the class's table. By `home` or by `current`.
fn found(wanted: Option<&WantedSegments>, home: bool, source: Ipv4Addr, port: u16, dscp: u8) -> u8 {
    let Some(wanted) = wanted else { return 0 };
    let one = Prefix { address: source.into(), length: 32 };
    let covers = |prefix: &&crate::model::kernel::WantedPrefix| {
        contains(Prefix { address: prefix.address, length: prefix.length }, one)
    };
    let longest = wanted.prefixes.iter().filter(covers).max_by_key(|prefix| prefix.length);
    let class = longest.map_or(0, |prefix| if home { prefix.home } else { prefix.current });
    let port_class = PORTS_OF_SERVICE.iter().position(|known| *known == port).expect("a port of the service");
    wanted.classes[usize::from(class)][SegmentClass::index(port_class as u8, dscp)]
}

fn prefix() -> impl Strategy<Value = Prefix> {
    // Few bits that differ, so that prefixes contain one another.
    (0_u32..16, prop_oneof![Just(0_u8), 24_u8..=32]).prop_map(|(bits, length)| {
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        Prefix { address: Ipv4Addr::from_bits((0xc633_6400 + bits * 17) & mask).into(), length }
    })
}

fn matching() -> impl Strategy<Value = Match> {
    let sources = prop::collection::vec(prefix(), 0..4);
    let dscp = prop::collection::vec(prop::sample::select(vec![0_u8, 46, 63]), 0..2);
    let ports = prop::collection::vec(prop::sample::select(PORTS_OF_SERVICE.to_vec()), 0..3);
    (sources, dscp, ports).prop_map(|(sources, dscp, ports)| Match { sources, dscp, ports })
}

fn packet() -> impl Strategy<Value = (Ipv4Addr, u16, u8)> {
    let source = (0_u32..16, 0_u32..3).prop_map(|(bits, more)| Ipv4Addr::from_bits(0xc633_6400 + bits * 17 + more));
    let port = prop::sample::select(PORTS_OF_SERVICE.to_vec());
    (source, port, prop::sample::select(vec![0_u8, 46, 63, NO_DSCP]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn classes_find_what_asking_every_segment_finds(
        matches in prop::collection::vec(matching(), 0..6), packets in prop::collection::vec(packet(), 60),
    ) {
        let wanted = Sources::settled(&rules(&matches)).wanted(&PORTS_OF_SERVICE);
        for (source, port, dscp) in packets {
            let expected = naive(&matches, source, port, dscp);
            prop_assert_eq!(found(wanted.as_ref(), false, source, port, dscp), expected);
            prop_assert_eq!(found(wanted.as_ref(), true, source, port, dscp), expected);
        }
    }

    #[test]
    fn another_file_changes_new_flows_only_and_a_restart_knows_both(
        files in prop::collection::vec(prop::collection::vec(matching(), 0..5), 2..4), packets in prop::collection::vec(packet(), 40),
    ) {
        let mut sources = Sources::settled(&rules(&files[0]));
        let last = files.last().expect("several");
        (1_000..).step_by(10).zip(&files[1..]).for_each(|(second, file)| { sources.change(&rules(file), at(second)); });
        let again = Sources::restored(&rules(last), &sources.homes(), at(2_000));
        for known in [&sources, &again] {
            let wanted = known.wanted(&PORTS_OF_SERVICE);
            for (source, port, dscp) in packets.clone() {
                prop_assert_eq!(found(wanted.as_ref(), false, source, port, dscp), naive(last, source, port, dscp));
                prop_assert_eq!(found(wanted.as_ref(), true, source, port, dscp), naive(&files[0], source, port, dscp));
            }
        }
        let policy = Policy {
            idle: Span::of(Duration::from_secs(60)),
            settle_after: Span::of(Duration::from_secs(20)),
            pressure: Pressure::Low,
            learns: false,
        };
        sources.settle(at(9_000), &policy);
        sources.calm();
        let fresh = Sources::settled(&rules(last)).wanted(&PORTS_OF_SERVICE);
        let wanted = sources.wanted(&PORTS_OF_SERVICE);
        let said = |wanted: &Option<WantedSegments>| -> Vec<_> {
            let prefixes = wanted.iter().flat_map(|wanted| wanted.prefixes.iter());
            prefixes.map(|prefix| (prefix.address, prefix.length, prefix.state)).collect()
        };
        prop_assert_eq!(said(&wanted), said(&fresh));
        for (source, port, dscp) in packets {
            prop_assert_eq!(found(wanted.as_ref(), true, source, port, dscp), naive(last, source, port, dscp));
        }
    }
}

#[test]
fn the_example_of_the_precedence() {
    let prefix = |text: &str| Prefix::try_from(text.to_owned()).expect("a prefix");
    let matches = [
        Match { dscp: vec![46], ..Match::default() },
        Match { ports: vec![443], ..Match::default() },
        Match { sources: vec![prefix("203.0.113.0/24")], ..Match::default() },
        Match { sources: vec![prefix("203.0.113.0/24")], dscp: vec![46], ..Match::default() },
        Match { sources: vec![prefix("203.0.113.128/25")], ports: vec![80], ..Match::default() },
    ];
    let wanted = Sources::settled(&rules(&matches)).wanted(&PORTS_OF_SERVICE);
    let of = |source: &str, port, dscp| found(wanted.as_ref(), false, source.parse().expect("an address"), port, dscp);
    assert_eq!(of("198.51.100.1", 80, 0), 0);
    assert_eq!(of("198.51.100.1", 80, 46), 1);
    assert_eq!(of("198.51.100.1", 443, 46), 2);
    assert_eq!(of("203.0.113.1", 443, 0), 3);
    assert_eq!(of("203.0.113.1", 443, 46), 4);
    assert_eq!(of("203.0.113.200", 80, 46), 5);
    assert_eq!(of("203.0.113.200", 443, 46), 4);
    let wanted = wanted.expect("segments");
    assert!(wanted.by_dscp && wanted.prefixes.iter().all(|prefix| prefix.state == SlotState(0)));
}

#[test]
fn segments_that_are_taken_away_leave_nothing_when_all_is_settled() {
    let matches = [Match { ports: vec![443], ..Match::default() }];
    let mut sources = Sources::settled(&rules(&matches));
    assert!(sources.names(1) && !sources.is_plain());
    assert_eq!(sources.change(&[], at(1_000)), 1);
    assert!(sources.names(1));
    let span = |seconds| Span::of(Duration::from_secs(seconds));
    let policy = Policy { idle: span(60), settle_after: span(20), pressure: Pressure::Low, learns: false };
    assert_eq!(sources.settle(at(1_070), &policy).settled.idle, 1);
    assert!(sources.looks());
    sources.calm();
    assert!(!sources.names(1) && sources.is_plain());
    assert_eq!(sources.wanted(&PORTS_OF_SERVICE), None);
}
