//! Signals for good: readings of two parities folded into sums that only rise.
//!
//! The data path has room for two epochs; the third takes the place of the first. Whoever reads once more before a new epoch
//! begins, and as often as he likes in between, loses nothing and counts nothing twice.

use std::collections::BTreeMap;

use crate::{
    analysis::measured::Measured,
    model::kernel::{SignalKey, Signals, VersionId},
};

/// Sums by version and segment.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    sums: BTreeMap<(VersionId, u8), Measured>,
    /// The last reading, of the epochs that the data path then had.
    last: BTreeMap<SignalKey, Measured>,
}

impl Totals {
    /// Takes a reading. Counts that fell began anew: the maps were made anew.
    pub fn take(&mut self, reading: &BTreeMap<SignalKey, Box<Signals>>) {
        self.take_of(|_| true, reading);
    }

    /// The same where the reading is of some versions only.
    pub fn take_of(&mut self, is_read: impl Fn(VersionId) -> bool, reading: &BTreeMap<SignalKey, Box<Signals>>) {
        let before: BTreeMap<_, _> = self.last.extract_if(.., |key, _| is_read(key.version)).collect();
        for (key, signals) in reading {
            let now = Measured::from(signals.as_ref());
            let grown = before.get(key).and_then(|before| now.since(before));
            self.sums.entry((key.version, key.segment)).or_default().add(grown.as_ref().unwrap_or(&now));
            self.last.insert(*key, now);
        }
    }

    /// What a version had in all segments.
    #[must_use]
    pub fn of(&self, version: VersionId) -> Measured {
        let mut sum = Measured::default();
        self.sums.range((version, 0)..=(version, u8::MAX)).for_each(|(_, measured)| sum.add(measured));
        sum
    }

    /// Handshakes begun to a version in a segment; of datagrams the flows that were followed.
    #[must_use]
    pub fn begun(&self, version: VersionId, segment: u8) -> u64 {
        let begun = |measured: &Measured| match measured.attempts + measured.unmarked {
            0 => measured.flows,
            handshakes => handshakes,
        };
        self.sums.get(&(version, segment)).map_or(0, begun)
    }

    /// Forgets a version that is no more.
    pub fn forget(&mut self, version: VersionId) {
        self.sums.retain(|(of, _), _| *of != version);
    }

    /// The last reading of some versions, by epoch and segment.
    pub fn latest(&self, of: impl Fn(VersionId) -> bool) -> impl Iterator<Item = (&SignalKey, &Measured)> {
        self.last.iter().filter(move |(key, _)| of(key.version))
    }

    /// What the last reading says of a version in one epoch, over all segments.
    #[must_use]
    pub fn in_epoch(&self, version: VersionId, epoch: u64) -> Measured {
        let mut sum = Measured::default();
        let own = self.last.iter().filter(|(key, _)| key.version == version && key.epoch == epoch);
        own.for_each(|(_, measured)| sum.add(measured));
        sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The data path's two parities of one version.
    #[derive(Default)]
    struct Path {
        epoch: u64,
        parities: [Signals; 2],
    }

    impl Path {
        fn read(&self) -> BTreeMap<SignalKey, Box<Signals>> {
            let key = |epoch| SignalKey { version: VersionId(3), segment: 0, epoch };
            let of = |epoch: u64| Box::new(self.parities[(epoch % 2) as usize]);
            let epochs = [self.epoch.checked_sub(1), Some(self.epoch)];
            epochs.into_iter().flatten().map(|epoch| (key(epoch), of(epoch))).collect()
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Turn {
        Count { previous: bool, more: u8 },
        Read,
        Epoch,
    }

    fn turn() -> impl Strategy<Value = Turn> {
        prop_oneof![
            4 => (any::<bool>(), any::<u8>()).prop_map(|(previous, more)| Turn::Count { previous, more }),
            2 => Just(Turn::Read),
            1 => Just(Turn::Epoch),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_counts_twice(turns in prop::collection::vec(turn(), 0..200)) {
            let (mut path, mut totals) = (Path::default(), Totals::default());
            let (mut attempts, mut values, mut cells) = (0, 0, 0);
            for turn in turns {
                match turn {
                    Turn::Count { previous, more } => {
                        let epoch = path.epoch + u64::from(previous);
                        let signals = &mut path.parities[(epoch % 2) as usize];
                        if previous && path.epoch == 0 {
                            continue;
                        }
                        signals.attempts += u64::from(more);
                        signals.connect.0[usize::from(more) % 224] += 1;
                        signals.cell_failures.0[usize::from(more)] += 1;
                        (attempts, values, cells) = (attempts + u64::from(more), values + 1, cells + 1);
                    }
                    Turn::Read => totals.take(&path.read()),
                    Turn::Epoch => {
                        totals.take(&path.read());
                        path.epoch += 1;
                        path.parities[(path.epoch % 2) as usize] = Signals::default();
                    }
                }
            }
            totals.take(&path.read());
            let sum = totals.of(VersionId(3));
            prop_assert_eq!(
                (sum.attempts, sum.connect.count(), sum.cell_failures.iter().sum::<u64>()),
                (attempts, values, cells)
            );
            let now = totals.in_epoch(VersionId(3), path.epoch);
            prop_assert_eq!(now.attempts, path.parities[(path.epoch % 2) as usize].attempts);
        }
    }

    #[test]
    fn maps_that_were_made_anew_go_on_from_what_was_counted() {
        let mut totals = Totals::default();
        let mut path = Path { epoch: 1, ..Path::default() };
        path.parities[1].opened = 10;
        totals.take(&path.read());
        path.parities[1].opened = 4;
        totals.take(&path.read());
        totals.take(&path.read());
        assert_eq!(totals.of(VersionId(3)).opened, 14);
        totals.forget(VersionId(3));
        assert_eq!(totals.of(VersionId(3)).opened, 0);
    }
}
