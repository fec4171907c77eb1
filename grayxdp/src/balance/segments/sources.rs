//! The source prefixes of a service, with the class of new flows and that of flows without an entry.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{EVERYWHERE, Row, Rule, classify, contains};
use crate::{
    balance::{Cells, Moment, Policy, Settled, Turn},
    model::{
        config::Prefix,
        kernel::{CellStamps, SlotState, WantedPrefix, WantedSegments},
    },
};

/// Source prefixes and their classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// In order of address and then length; the first is the empty one.
    prefixes: Arc<[Prefix]>,
    /// Whether the file names a prefix; the empty one counts as named.
    named: Arc<[bool]>,
    /// Their classes: indexes of `rows`.
    cells: Cells<u16>,
    rows: Arc<Vec<Row>>,
}

/// A prefix whose flows without an entry belong elsewhere than new ones, for the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeSource {
    /// The prefix.
    pub prefix: Prefix,
    /// The segments of its flows without an entry.
    pub row: Row,
}

impl Sources {
    /// Of a service without segments.
    #[must_use]
    pub fn none() -> Self {
        Self::settled(&[])
    }

    /// As the file has it, all settled.
    #[must_use]
    pub fn settled(rules: &[Rule<'_>]) -> Self {
        let classified = classify(rules);
        let classes: Arc<[u16]> = classified.prefixes.iter().map(|(_, row)| number(*row)).collect();
        Self {
            named: vec![true; classes.len()].into(),
            prefixes: classified.prefixes.into_iter().map(|(prefix, _)| prefix).collect(),
            cells: Cells::settled(classes),
            rows: Arc::new(classified.rows),
        }
    }

    /// As the file has it, with the homes of a journal: after a restart.
    #[must_use]
    pub fn restored(rules: &[Rule<'_>], homes: &[HomeSource], now: Moment) -> Self {
        let mut sources = Self::settled(rules);
        if homes.is_empty() {
            return sources;
        }
        let named: BTreeSet<Prefix> = sources.prefixes.iter().copied().collect();
        let gone: BTreeSet<Prefix> =
            homes.iter().map(|home| home.prefix).filter(|home| !named.contains(home)).collect();
        sources.insert(&gone);
        let mut rows = sources.rows.to_vec();
        let mut owners = sources.cells.current().to_vec();
        for HomeSource { prefix, row } in homes {
            let index = sources.prefixes.binary_search(prefix).expect("it was just inserted");
            owners[index] = interned(&mut rows, row);
        }
        sources.cells = Cells::restored(Arc::clone(sources.cells.current()), owners.into(), now);
        sources.rows = Arc::new(rows);
        sources
    }

    /// What the journal must know beyond the file.
    #[must_use]
    pub fn homes(&self) -> Vec<HomeSource> {
        if self.cells.is_settled() && self.named.iter().all(|named| *named) {
            return Vec::new();
        }
        let homes = self.cells.home().iter().zip(self.cells.current().iter()).enumerate();
        let differs = homes.filter(|(index, (home, current))| home != current || !self.named[*index]);
        differs.map(|(at, (home, _))| HomeSource { prefix: self.prefixes[at], row: self.row(*home).clone() }).collect()
    }

    /// Takes over another file: new flows go by it, defaults stay. Says how many prefixes changed their class.
    pub fn change(&mut self, rules: &[Rule<'_>], now: Moment) -> usize {
        let new = Self::settled(rules);
        let missing = new.prefixes.iter().filter(|prefix| self.prefixes.binary_search(prefix).is_err());
        self.insert(&missing.copied().collect());
        let mut rows = self.rows.to_vec();
        let names: Vec<u16> = new.rows.iter().map(|row| interned(&mut rows, row)).collect();
        let mut owners = Vec::with_capacity(self.prefixes.len());
        let mut named = Vec::with_capacity(self.prefixes.len());
        let mut around: Vec<usize> = vec![0];
        let mut next = 0;
        for prefix in self.prefixes.iter() {
            named.push(new.prefixes.get(next) == Some(prefix));
            if new.prefixes.get(next) == Some(prefix) {
                around.push(next);
                next += 1;
            }
            while !contains(new.prefixes[*around.last().expect("the empty one contains all")], *prefix) {
                around.pop();
            }
            let covering = *around.last().expect("the empty one contains all");
            owners.push(names[usize::from(new.cells.current()[covering])]);
        }
        self.rows = Arc::new(rows);
        self.named = named.into();
        let moved = self.cells.give(&owners.into(), now);
        self.tidy();
        moved
    }

    /// Adds prefixes with the classes, and the lives, of what contains them.
    fn insert(&mut self, missing: &BTreeSet<Prefix>) {
        if missing.is_empty() {
            return;
        }
        let mut all: Vec<(Prefix, Option<usize>)> = missing.iter().map(|prefix| (*prefix, None)).collect();
        all.extend(self.prefixes.iter().enumerate().map(|(index, prefix)| (*prefix, Some(index))));
        all.sort_unstable();
        let mut around: Vec<usize> = vec![0];
        let mut from = Vec::with_capacity(all.len());
        for (prefix, own) in &all {
            while !contains(self.prefixes[*around.last().expect("the empty one contains all")], *prefix) {
                around.pop();
            }
            around.extend(own.filter(|own| *own > 0));
            from.push(*around.last().expect("the empty one contains all"));
        }
        self.cells = self.cells.rearranged(all.len(), |index| from[index]);
        self.named = all.iter().map(|(_, own)| own.is_some_and(|own| self.named[own])).collect();
        self.prefixes = all.into_iter().map(|(prefix, _)| prefix).collect();
    }

    /// Drops settled prefixes that the file does not name and that say what the one around them says, and unused rows.
    fn tidy(&mut self) {
        let (current, home) = (self.cells.current(), self.cells.home());
        let mut kept: Vec<usize> = Vec::with_capacity(self.prefixes.len());
        let mut around: Vec<usize> = Vec::new();
        for (index, prefix) in self.prefixes.iter().enumerate() {
            while around.last().is_some_and(|outer| !contains(self.prefixes[*outer], *prefix)) {
                around.pop();
            }
            let idle = !self.cells.state(index).looks;
            let needless = !self.named[index]
                && idle
                && around.last().is_some_and(|outer| (current[*outer], home[*outer]) == (current[index], home[index]));
            if !needless {
                around.push(index);
                kept.push(index);
            }
        }
        if kept.len() < self.prefixes.len() {
            self.prefixes = kept.iter().map(|index| self.prefixes[*index]).collect();
            self.named = kept.iter().map(|index| self.named[*index]).collect();
            self.cells = self.cells.rearranged(kept.len(), |index| kept[index]);
        }
        let used: BTreeSet<u16> = self.cells.current().iter().chain(self.cells.home().iter()).copied().collect();
        if used.len() < self.rows.len() {
            let used: Vec<u16> = used.into_iter().collect();
            self.rows = Arc::new(used.iter().map(|class| self.row(*class).clone()).collect());
            let renamed = |class: u16| number(used.binary_search(&class).expect("it is in use"));
            self.cells = self.cells.renamed(renamed);
        }
    }

    /// Rule 4; indexes are those of the prefixes in the kernel.
    pub fn take(&mut self, stamps: &CellStamps<u32>, now: Moment) {
        self.cells.take(stamps, now);
    }

    /// Rule 5. No entry names a prefix: those that differ are found by their buckets. See [`Self::calm`].
    pub fn settle(&mut self, now: Moment, policy: &Policy) -> Turn {
        self.cells.settle(now, policy)
    }

    /// UDP: at once.
    pub fn settle_at_once(&mut self, now: Moment) -> Settled {
        self.cells.settle_at_once(now)
    }

    /// Settled prefixes need not look any more: their buckets do.
    pub fn calm(&mut self) {
        self.cells.calm();
        self.tidy();
    }

    /// What was asked for is in the kernel.
    pub fn took_effect(&mut self, asked: Moment, now: Moment) {
        self.cells.took_effect(asked, now);
    }

    /// Whether every prefix is settled and the file names it.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.cells.is_settled() && self.named.iter().all(|named| *named)
    }

    /// How many prefixes are unsettled.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.cells.unsettled()
    }

    /// Whether any class names a segment.
    #[must_use]
    pub fn names(&self, segment: u8) -> bool {
        self.rows.iter().any(|row| row.has(segment))
    }

    /// Whether flows of a settled prefix may have entries.
    #[must_use]
    pub fn looks(&self) -> bool {
        let states = (0..self.prefixes.len()).map(|index| self.cells.state(index));
        !self.cells.is_quiet() && states.into_iter().any(|state| state.looks && !state.unsettled)
    }

    /// Pairs of segments that a packet without and one with a DSCP can belong to.
    #[must_use]
    pub fn dscp_pairs(&self) -> BTreeSet<(u8, u8)> {
        self.rows.iter().flat_map(Row::dscp_pairs).collect()
    }

    /// As the data path is to see it; none where everything belongs to the default segment.
    #[must_use]
    pub fn wanted(&self, ports: &[u16]) -> Option<WantedSegments> {
        if self.rows.iter().all(|row| *row == Row::default_segment()) {
            return None;
        }
        let prefix = |(index, prefix): (usize, &Prefix)| {
            let state = self.cells.state(index);
            let bits = [
                (state.unsettled, SlotState::UNSETTLED),
                (state.looks, SlotState::LOOKS),
                (state.pins, SlotState::PINS),
            ];
            WantedPrefix {
                address: prefix.address,
                length: prefix.length,
                current: self.cells.current()[index],
                home: self.cells.home()[index],
                state: SlotState(bits.iter().filter(|(is, _)| *is).map(|(_, bit)| bit).sum()),
            }
        };
        Some(WantedSegments {
            prefixes: self.prefixes.iter().enumerate().map(prefix).collect(),
            classes: self.rows.iter().map(|row| row.table(ports)).collect(),
            by_dscp: !self.dscp_pairs().is_empty(),
        })
    }

    fn row(&self, class: u16) -> &Row {
        &self.rows[usize::from(class)]
    }

    /// Whether there is nothing but the prefix of all sources.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self.prefixes == [EVERYWHERE]
            && self.is_settled()
            && *self.row(self.cells.current()[0]) == Row::default_segment()
    }
}

/// The index of a row, which is added where it is new.
fn interned(rows: &mut Vec<Row>, row: &Row) -> u16 {
    number(rows.iter().position(|known| known == row).unwrap_or_else(|| {
        rows.push(row.clone());
        rows.len() - 1
    }))
}

fn number(row: usize) -> u16 {
    u16::try_from(row).expect("classes are few: prefixes in them differ in the segments around them")
}
