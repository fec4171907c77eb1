//! Segments: names, matches and weights, and none that nothing can reach.

use std::collections::HashMap;

use grayxdp_common::cells;

use crate::{
    config::{
        check::{Seen, weights},
        problem::{Place, Problem, suggestion},
    },
    model::config::{Config, DEFAULT_SEGMENT, Match, Prefix, Segment, Service},
};

/// Segments that a file may give a service; the default one is there anyway.
pub(super) const MAX_SEGMENTS: usize = cells::SEGMENTS - 1;
/// Source prefixes of all services that one daemon takes.
const MAX_PREFIXES: usize = 100_000;
/// Greatest DSCP: six bits.
const MAX_DSCP: u8 = 63;

/// Checks what only all services together can break.
pub(super) fn check_all(config: &Config, problems: &mut Vec<Problem>) {
    let segments = config.services.iter().flat_map(|service| &service.segments);
    let prefixes: usize = segments.map(|segment| segment.r#match.sources.len()).sum();
    if prefixes > MAX_PREFIXES {
        let what = format!("{prefixes} source prefixes in all segments");
        problems.push(Problem::new(Place::default().field("services"), what, format!("keep to {MAX_PREFIXES}")));
    }
}

/// Checks the segments of one service.
pub(super) fn check(service: &Service, place: &Place, problems: &mut Vec<Problem>) {
    let list = place.field("segments");
    if service.segments.len() > MAX_SEGMENTS {
        let what = format!("service `{}` has {} segments", service.name, service.segments.len());
        problems.push(Problem::new(list.clone(), what, format!("keep to {MAX_SEGMENTS}")));
    }
    let mut names = Seen::default();
    let mut matches: HashMap<Match, &Segment> = HashMap::new();
    for (index, segment) in service.segments.iter().enumerate() {
        let place = list.index(index);
        let whose = format!("segment `{}` of service `{}`", segment.name, service.name);
        if segment.name.as_str() == DEFAULT_SEGMENT {
            let remedy = "use another name: this one is that of whatever matches no segment";
            problems.push(Problem::new(place.field("name"), format!("a segment `{DEFAULT_SEGMENT}`"), remedy));
        }
        if let Some(first) = names.clash(&segment.name, &place.field("name")) {
            let remedy = "give each segment a name of its own";
            problems
                .push(Problem::new(place.field("name"), format!("{whose} stands twice"), remedy).with_other(&first));
        }
        self::r#match(service, segment, &whose, &place.field("match"), problems);
        match matches.entry(in_order(&segment.r#match)) {
            std::collections::hash_map::Entry::Occupied(first) => {
                let what = format!("{whose} matches exactly what segment `{}` does", first.get().name);
                problems.push(Problem::new(place.field("match"), what, "remove one of the two: the first has it all"));
            }
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(segment);
            }
        }
        weights(service, &segment.weights, &whose, &place.field("weights"), problems);
    }
}

fn r#match(service: &Service, segment: &Segment, whose: &str, place: &Place, problems: &mut Vec<Problem>) {
    let Match { sources, dscp, ports } = &segment.r#match;
    if segment.r#match.is_empty() {
        let remedy = "give it `sources`, `dscp` or `ports`; what matches nothing has the service's own weights";
        problems.push(Problem::new(place.clone(), format!("{whose} matches everything"), remedy));
    }
    let said = |prefix: &Prefix| String::from(*prefix);
    for (index, prefix) in
        sources.iter().enumerate().filter(|(_, prefix)| prefix.address.is_ipv4() != service.vip.is_ipv4())
    {
        let what = format!("{whose}: source {}, and VIP {} is not of that family", said(prefix), service.vip);
        problems.push(Problem::new(
            place.field("sources").index(index),
            what,
            "no client has such an address: remove it",
        ));
    }
    twice(sources, said, &format!("{whose}: source"), &place.field("sources"), problems);
    twice(dscp, u8::to_string, &format!("{whose}: DSCP"), &place.field("dscp"), problems);
    twice(ports, u16::to_string, &format!("{whose}: port"), &place.field("ports"), problems);
    for (index, dscp) in dscp.iter().enumerate().filter(|(_, dscp)| **dscp > MAX_DSCP) {
        let place = place.field("dscp").index(index);
        problems.push(Problem::new(place, format!("{whose}: DSCP {dscp}"), format!("use 0 to {MAX_DSCP}")));
    }
    if let Some((what, remedy)) = unseen(service, &segment.r#match) {
        problems.push(Problem::new(place.field("dscp"), format!("{whose}: {what}"), remedy));
    }
    if !ports.is_empty() && service.ports.is_empty() && service.port.is_some() {
        let what = format!("{whose} is one of ports and the service has only `port`");
        problems.push(Problem::new(place.field("ports"), what, "give the service `ports` instead of `port`"));
        return;
    }
    let known: Vec<String> = service.ports.iter().map(u16::to_string).collect();
    for (index, port) in ports.iter().enumerate().filter(|(_, port)| !service.ports.contains(port)) {
        let what = format!("{whose}: service `{}` has no port {port}", service.name);
        let remedy = suggestion(&port.to_string(), known.iter().map(String::as_str));
        problems.push(Problem::new(place.field("ports").index(index), what, remedy));
    }
}

/// A match by DSCP where no packet shows that it opens a flow, and what to do.
pub(super) fn unseen(service: &Service, r#match: &Match) -> Option<(String, &'static str)> {
    let refused = service.learns() && !r#match.dscp.is_empty();
    let what = || format!("`dscp` counts on what opens a flow, and service `{}` is plain UDP", service.name);
    refused.then(|| (what(), "match `sources` or `ports`; with `quic: true` an Initial opens a flow"))
}

/// Refuses a value that stands twice in one list.
fn twice<T: Copy + Eq + std::hash::Hash>(
    values: &[T],
    said: impl Fn(&T) -> String,
    what: &str,
    list: &Place,
    problems: &mut Vec<Problem>,
) {
    let mut seen = HashMap::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        if let Some(first) = seen.insert(*value, index) {
            let what = format!("{what} {} stands twice", said(value));
            let problem = Problem::new(list.index(index), what, "remove one of the two");
            problems.push(problem.with_other(&list.index(first)));
        }
    }
}

/// The same match with the values of each field in order, each once.
pub(super) fn in_order(of: &Match) -> Match {
    let mut ordered = of.clone();
    ordered.sources.sort_unstable();
    ordered.sources.dedup();
    ordered.dscp.sort_unstable();
    ordered.dscp.dedup();
    ordered.ports.sort_unstable();
    ordered.ports.dedup();
    ordered
}
