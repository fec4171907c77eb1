//! Reading the signals: all that is counted for judging, in one go, summed over CPUs.

use std::{
    collections::BTreeMap,
    mem::offset_of,
    sync::atomic::{AtomicU64, Ordering},
};

use grayxdp_common::signals::Signals;

use super::tables::{Measured, Tables, TablesError};
use crate::model::kernel::{ServiceId, SignalKey, VersionId};

/// Words of whole counts; the others hold two counts each.
const COUNTS: usize = offset_of!(Signals, connect) / size_of::<u64>();

/// All signals of the present epochs and of those before them, of one service or of all, but those that are all zero.
pub(super) fn read(tables: &Tables, of: Option<ServiceId>) -> Result<BTreeMap<SignalKey, Box<Signals>>, TablesError> {
    let mut all = BTreeMap::new();
    for measured in tables.measured(of) {
        read_service(tables, &measured, &mut all)?;
    }
    Ok(all)
}

fn read_service(
    tables: &Tables,
    measured: &Measured,
    all: &mut BTreeMap<SignalKey, Box<Signals>>,
) -> Result<(), TablesError> {
    let versions = (0..).zip(&measured.versions).filter(|(_, version)| **version != VersionId::NONE);
    for (place, version) in versions {
        for segment in 0..measured.segments {
            for parity in 0..2 {
                let at = tables.memory().signals_at(measured.base + place * measured.segments + segment, parity)?;
                let mut sum: Option<Box<Signals>> = None;
                for words in at.indices().map(|index| at.window().words(index)) {
                    let epoch = words[0].load(Ordering::Acquire);
                    let counts = epoch == measured.epoch || epoch.wrapping_add(1) == measured.epoch;
                    if counts && words[1..].iter().any(|word| word.load(Ordering::Relaxed) != 0) {
                        let sum = sum.get_or_insert_with(Box::default);
                        sum.epoch = epoch;
                        add(sum, words);
                    }
                }
                if let Some(sum) = sum {
                    let key = SignalKey { version: *version, segment: segment as u8, epoch: sum.epoch };
                    all.insert(key, sum);
                }
            }
        }
    }
    Ok(())
}

/// Adds what one CPU counted.
fn add(sum: &mut Signals, words: &[AtomicU64]) {
    let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
    let counts = [
        &mut sum.attempts,
        &mut sum.opened,
        &mut sum.refused,
        &mut sum.timeouts,
        &mut sum.syn_retransmits,
        &mut sum.unmarked,
        &mut sum.flows,
        &mut sum.ended,
        &mut sum.reset_by_client,
        &mut sum.reset_by_backend,
        &mut sum.segments,
        &mut sum.retransmits,
        &mut sum.zero_window,
        &mut sum.lost,
        &mut sum.unanswered,
    ];
    counts.into_iter().zip(&words[1..COUNTS]).for_each(|(count, word)| *count += load(word));
    let halves = words[COUNTS..].iter().flat_map(|word| {
        let [a, b, c, d, e, f, g, h] = load(word).to_ne_bytes();
        [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
    });
    let distributions = [&mut sum.connect.0, &mut sum.first_byte.0, &mut sum.first_byte_censored.0, &mut sum.bytes.0];
    let cells = [&mut sum.cell_attempts.0, &mut sum.cell_failures.0];
    let counts = distributions.into_iter().flatten().chain(cells.into_iter().flatten());
    counts.zip(halves).for_each(|(count, half)| *count = count.saturating_add(half));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_is_added_to_its_own() {
        let words: Vec<_> = (0..size_of::<Signals>() / 8)
            .map(|word| if word < COUNTS { word as u64 } else { (word as u64) | (word as u64 + 1_000) << 32 })
            .map(AtomicU64::new)
            .collect();
        let mut sum = Signals::default();
        add(&mut sum, &words);
        add(&mut sum, &words);
        assert_eq!((sum.epoch, sum.attempts, sum.unanswered), (0, 2, 30));
        assert_eq!((sum.connect.0[0], sum.connect.0[1]), (2 * 16, 2 * 1_016));
        // The last cell is the high half of the last word, number 719.
        assert_eq!(sum.cell_failures.0[255], 2 * (719 + 1_000));
        assert_eq!(sum.bytes.0[0], 2 * (16 + 3 * 112));
    }
}
