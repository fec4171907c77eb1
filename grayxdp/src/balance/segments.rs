//! From a service's segments to what the data path looks up: source prefixes with classes, and for each class the segment by
//! port and DSCP.
//!
//! Among segments that match a packet the longest source prefix decides, then a port, then a DSCP, then the order in the
//! file. Which segments a source can belong to depends only on the prefixes around it, so sources fall into few classes, and
//! a class is a table from port and DSCP to a segment ([`Row`]). A source prefix carries the class of new flows and that of
//! flows without an entry, and settles by the same rules as a bucket.

mod sources;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr},
};

use grayxdp_common::cells::{NO_DSCP, PORTS, SegmentClass};
use serde::{Deserialize, Serialize};

use crate::model::config::{Match, Prefix};

pub use sources::{HomeSource, Sources};

/// The segment of every DSCP, and at last that without one.
type ByDscp = Vec<u8>;

/// Values that a DSCP has, [`NO_DSCP`] included.
const DSCPS: u8 = NO_DSCP + 1;

/// The segment by port and DSCP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Row {
    /// For ports that no segment names.
    any: ByDscp,
    /// For those that one names and for which it differs.
    ports: BTreeMap<u16, ByDscp>,
}

impl Row {
    /// Everything belongs to the default segment.
    fn default_segment() -> Self {
        Self { any: vec![0; usize::from(DSCPS)], ports: BTreeMap::new() }
    }

    /// Of segments by how long the source prefix is by which they match; none where they do not.
    fn of(rules: &[Rule<'_>], lengths: &[Option<i16>]) -> Self {
        let matching: Vec<(&Rule<'_>, i16)> =
            rules.iter().zip(lengths).filter_map(|(rule, length)| Some((rule, (*length)?))).collect();
        let segment = |port: Option<u16>, dscp: u8| {
            let fits = |(rule, _): &&(&Rule<'_>, i16)| {
                let Match { sources: _, dscp: dscps, ports } = rule.r#match;
                (ports.is_empty() || port.is_some_and(|port| ports.contains(&port)))
                    && (dscps.is_empty() || dscps.contains(&dscp))
            };
            let rank = |(rule, length): &&(&Rule<'_>, i16)| {
                (*length, !rule.r#match.ports.is_empty(), !rule.r#match.dscp.is_empty(), std::cmp::Reverse(rule.order))
            };
            matching.iter().filter(fits).max_by_key(rank).map_or(0, |(rule, _)| rule.number)
        };
        let of = |port| (0..DSCPS).map(|dscp| segment(port, dscp)).collect::<ByDscp>();
        let any = of(None);
        let named = rules.iter().flat_map(|rule| &rule.r#match.ports).map(|port| (*port, of(Some(*port))));
        let ports = named.filter(|(_, row)| *row != any).collect();
        Self { any, ports }
    }

    /// As the data path has it, for these ports.
    fn table(&self, ports: &[u16]) -> Vec<u8> {
        let mut table = vec![0; PORTS * 128];
        for (class, port) in (0..).zip(ports) {
            let row = self.ports.get(port).unwrap_or(&self.any);
            let cells = (0..DSCPS).map(|dscp| SegmentClass::index(class, dscp));
            cells.zip(row).for_each(|(index, segment)| table[index] = *segment);
        }
        table
    }

    fn rows(&self) -> impl Iterator<Item = &ByDscp> {
        std::iter::once(&self.any).chain(self.ports.values())
    }

    /// Whether it names a segment.
    fn has(&self, segment: u8) -> bool {
        self.rows().any(|row| row.contains(&segment))
    }

    /// Pairs of a segment without a DSCP and another that a DSCP leads to.
    fn dscp_pairs(&self) -> impl Iterator<Item = (u8, u8)> {
        let pairs = |row: &ByDscp| {
            let without = row[usize::from(NO_DSCP)];
            row.iter().map(move |with| (without, *with)).filter(|(without, with)| without != with).collect::<Vec<_>>()
        };
        self.rows().flat_map(pairs)
    }
}

/// A segment of the file, with its number in the data path.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// What belongs to it.
    pub r#match: &'a Match,
    /// Its place in the file.
    pub order: usize,
    /// Its number, from 1.
    pub number: u8,
}

/// Classes of source prefixes: what a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Classified {
    /// All prefixes, the empty one first, in order of address and then length, each with its row.
    prefixes: Vec<(Prefix, usize)>,
    /// Rows, each once.
    rows: Vec<Row>,
}

/// The prefix of all sources.
const EVERYWHERE: Prefix = Prefix { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), length: 0 };

/// Whether a prefix contains another, or is it; that of all sources contains those of either family.
fn contains(outer: Prefix, inner: Prefix) -> bool {
    outer == EVERYWHERE || outer.holds(inner)
}

/// The prefix of all sources is the same one in either family.
const fn of_all(prefix: Prefix) -> Prefix {
    if prefix.length == 0 { EVERYWHERE } else { prefix }
}

/// All prefixes that segments name, with their classes.
fn classify(rules: &[Rule<'_>]) -> Classified {
    let mut named: Vec<(Prefix, usize)> = rules
        .iter()
        .enumerate()
        .flat_map(|(index, rule)| rule.r#match.sources.iter().map(move |prefix| (of_all(*prefix), index)))
        .collect();
    named.sort_unstable();
    let anywhere = rules.iter().map(|rule| rule.r#match.sources.is_empty().then_some(-1)).collect::<Vec<_>>();
    let mut classified = Classified { prefixes: Vec::new(), rows: Vec::new() };
    let mut known: HashMap<Vec<Option<i16>>, usize> = HashMap::new();
    let mut around: Vec<(Prefix, Vec<Option<i16>>)> = vec![(EVERYWHERE, anywhere)];
    let mut add = |prefix: Prefix, lengths: &Vec<Option<i16>>| {
        let row = known.get(lengths).copied().unwrap_or_else(|| {
            let row = Row::of(rules, lengths);
            let index = classified.rows.iter().position(|known| *known == row).unwrap_or_else(|| {
                classified.rows.push(row);
                classified.rows.len() - 1
            });
            known.insert(lengths.clone(), index);
            index
        });
        classified.prefixes.push((prefix, row));
    };
    if named.first().is_none_or(|(first, _)| *first != EVERYWHERE) {
        add(EVERYWHERE, &around[0].1);
    }
    for group in named.chunk_by(|a, b| a.0 == b.0) {
        let prefix = group[0].0;
        while !contains(around.last().expect("the empty prefix contains all").0, prefix) {
            around.pop();
        }
        let mut lengths = around.last().expect("the empty prefix contains all").1.clone();
        group.iter().for_each(|(_, index)| lengths[*index] = Some(i16::from(prefix.length)));
        add(prefix, &lengths);
        around.push((prefix, lengths));
    }
    classified
}
