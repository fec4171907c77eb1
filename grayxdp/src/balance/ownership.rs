//! Who owns which bucket of a segment, and how a change of weights moves as few buckets as it must.
//!
//! Two versions share the ring of buckets by a threshold: the second owns so many from an offset on, so weights nest. With
//! three and more, ownership follows from what it was before: what one version gains comes from those that lose, and no
//! third is touched. Of two versions that trade, the one with the greater place has an order of its own in which it gains
//! and, backwards, gives back: 10 % → 20 % → 10 % ends where it began.

use std::{fmt, str::FromStr, sync::Arc};

use grayxdp_common::{BUCKETS, cells::VERSIONS};
use serde::{Deserialize, Serialize};

use crate::{
    balance::shares::apportion,
    model::{Weight, kernel::Split},
};

/// The owner of every bucket, as places of versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ownership {
    owners: Arc<[u8]>,
    ring: Option<Ring>,
}

/// Two versions by arithmetic: `second` owns `threshold` buckets from `offset` on, `rest` all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ring {
    rest: u8,
    second: u8,
    offset: u16,
    threshold: u16,
}

impl Ring {
    const fn split(self) -> Split {
        Split { offset: self.offset, threshold: self.threshold }
    }

    const fn owner(self, bucket: u16) -> u8 {
        if self.split().version_of(bucket) == 1 { self.second } else { self.rest }
    }
}

/// A version's place and weight.
pub type Share = (u8, Weight);

impl Ownership {
    /// The first ownership of versions in the order of the file, at least one; with more than two `offset` is where orders begin.
    #[must_use]
    pub fn first(shares: &[Share], offset: u16) -> Self {
        let all = Self::whole(shares, shares[0].0, offset);
        all.reweighted(shares, None, offset)
    }

    /// The ownership under other weights: versions in the order of the file, at least one. `anew` is an offset from which a
    /// service with two versions is dealt anew; to be given only while one version holds everything and all is settled.
    /// `base` is where the orders of three and more versions begin.
    #[must_use]
    pub fn reweighted(&self, shares: &[Share], anew: Option<u16>, base: u16) -> Self {
        let hundredths: Vec<u16> = shares.iter().map(|(_, weight)| weight.hundredths()).collect();
        let mut wanted = [0; VERSIONS];
        shares.iter().zip(apportion(&hundredths, BUCKETS)).for_each(|((place, _), count)| wanted[at(*place)] = count);
        let ring = match self.owner_of_all() {
            Some(owner) => self.ring.map(|ring| ring.offset).or(anew).map(|offset| (owner, anew.unwrap_or(offset))),
            None => None,
        };
        let ring = match ring {
            Some((owner, offset)) if shares.len() <= 2 => Self::whole(shares, owner, offset).ring,
            Some(_) | None => self.ring.filter(|ring| ring.is_of(shares)),
        };
        match ring {
            Some(ring) => Self::of_ring(Ring { threshold: wanted[at(ring.second)], ..ring }),
            None => {
                let mut owners = self.owners.to_vec();
                exchange(&mut owners, &wanted, base);
                Self { owners: owners.into(), ring: None }
            }
        }
    }

    /// As it is found in the kernel.
    #[must_use]
    pub fn found(owners: Arc<[u8]>, like: &Self) -> Self {
        if like.owners == owners { like.clone() } else { Self { owners, ring: None } }
    }

    /// Of the place of each bucket's version, without the form of a threshold.
    #[must_use]
    pub const fn of_owners(owners: Arc<[u8]>) -> Self {
        Self { owners, ring: None }
    }

    /// As a split of the versions at places 0 and 1 in the kernel has it.
    #[must_use]
    pub fn of_split(split: Split) -> Self {
        Self::of_ring(Ring {
            rest: 0,
            second: 1,
            offset: split.offset % BUCKETS,
            threshold: split.threshold.min(BUCKETS),
        })
    }

    /// The same with other places: that of `places[n]` becomes `n`.
    #[must_use]
    pub fn renumbered(&self, places: &[u8]) -> Self {
        let new = |old: u8| places.iter().position(|place| *place == old).map_or(old, |new| new as u8);
        let ring = self.ring.map(|ring| Ring { rest: new(ring.rest), second: new(ring.second), ..ring });
        Self { owners: self.owners.iter().map(|owner| new(*owner)).collect(), ring }
    }

    /// All of it is one version's; in the form of a threshold where there are at most two.
    fn whole(shares: &[Share], owner: u8, offset: u16) -> Self {
        match *shares {
            [(rest, _), (second, _)] => {
                let threshold = if owner == second { BUCKETS } else { 0 };
                Self::of_ring(Ring { rest, second, offset, threshold })
            }
            [(only, _)] => Self::of_ring(Ring { rest: only, second: only ^ 1, offset, threshold: 0 }),
            _ => Self { owners: vec![owner; usize::from(BUCKETS)].into(), ring: None },
        }
    }

    fn of_ring(ring: Ring) -> Self {
        Self { owners: (0..BUCKETS).map(|bucket| ring.owner(bucket)).collect(), ring: Some(ring) }
    }

    /// The place of each bucket's version.
    #[must_use]
    pub const fn owners(&self) -> &Arc<[u8]> {
        &self.owners
    }

    /// The split between the versions at places 0 and 1, where arithmetic says all.
    #[must_use]
    pub fn split(&self) -> Option<Split> {
        let Ring { rest, second, offset, threshold } = self.ring?;
        match (rest, second) {
            (0, 1) => Some(Split { offset, threshold }),
            (1, 0) => Some(Split { offset: (offset + threshold) % BUCKETS, threshold: BUCKETS - threshold }),
            _ => None,
        }
    }

    /// Whether it has the form of a threshold.
    #[must_use]
    pub const fn is_ring(&self) -> bool {
        self.ring.is_some()
    }

    /// Buckets of each place.
    #[must_use]
    pub fn counts(&self) -> [u16; VERSIONS] {
        counts(&self.owners)
    }

    /// The version that owns everything.
    #[must_use]
    pub fn owner_of_all(&self) -> Option<u8> {
        let first = self.owners[0];
        self.owners.iter().all(|owner| *owner == first).then_some(first)
    }

    /// Buckets that have another owner in another ownership.
    #[must_use]
    pub fn moved(&self, other: &Self) -> u16 {
        let differ = self.owners.iter().zip(other.owners.iter()).filter(|(a, b)| a != b).count();
        u16::try_from(differ).expect("at most all buckets")
    }
}

impl Ring {
    /// Whether it is between exactly these versions.
    fn is_of(self, shares: &[Share]) -> bool {
        match *shares {
            [(a, _), (b, _)] => (a, b) == (self.rest, self.second) || (b, a) == (self.rest, self.second),
            _ => false,
        }
    }
}

fn counts(owners: &[u8]) -> [u16; VERSIONS] {
    owners.iter().fold([0; VERSIONS], |mut counts, owner| {
        counts[at(*owner)] += 1;
        counts
    })
}

fn at(place: u8) -> usize {
    usize::from(place) % VERSIONS
}

/// Gives every version as many buckets as it is to have, by moving the fewest.
fn exchange(owners: &mut [u8], wanted: &[u16; VERSIONS], base: u16) {
    let mut held = counts(owners);
    for taker in 0..VERSIONS {
        for giver in 0..VERSIONS {
            let (lacks, spares) =
                (wanted[taker].saturating_sub(held[taker]), held[giver].saturating_sub(wanted[giver]));
            let count = lacks.min(spares);
            if count > 0 {
                hand_over(owners, giver as u8, taker as u8, count, base);
                held[taker] += count;
                held[giver] -= count;
            }
        }
    }
}

/// Moves buckets between two versions, in the order of the one with the greater place: it gains the first, and gives the last.
fn hand_over(owners: &mut [u8], giver: u8, taker: u8, count: u16, base: u16) {
    let later = u16::from(giver.max(taker));
    let start = base.wrapping_add(later * (BUCKETS / VERSIONS as u16));
    let nth = |index: u16| usize::from(start.wrapping_add(index) % BUCKETS);
    let mut left = count;
    let mut visit = |index: u16| {
        let owner = &mut owners[nth(index)];
        if left > 0 && *owner == giver {
            *owner = taker;
            left -= 1;
        }
    };
    if taker > giver { (0..BUCKETS).for_each(&mut visit) } else { (0..BUCKETS).rev().for_each(&mut visit) }
}

/// Text that is no [`Ownership`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` says not who owns which bucket")]
pub struct NotAnOwnership(String);

impl fmt::Display for Ownership {
    /// `0/1@16000+1720`: the version at place 1 has 1,720 buckets from 16,000 on, that at 0 the rest. Else runs, as
    /// `0*8000,2*384,0*8000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ring {
            Some(Ring { rest, second, offset, threshold }) => write!(f, "{rest}/{second}@{offset}+{threshold}"),
            None => f.write_str(&runs(&self.owners)),
        }
    }
}

/// Equal neighbours as `owner*count`, joined by commas.
pub(super) fn runs(owners: &[u8]) -> String {
    use fmt::Write;
    let mut text = String::new();
    for run in owners.chunk_by(|a, b| a == b) {
        let comma = if text.is_empty() { "" } else { "," };
        let _infallible = write!(text, "{comma}{}*{}", run[0], run.len());
    }
    text
}

/// What [`runs`] wrote; none where it is not about all buckets and places below [`VERSIONS`].
pub(super) fn of_runs(text: &str) -> Option<Arc<[u8]>> {
    let mut owners = Vec::with_capacity(usize::from(BUCKETS));
    for run in text.split(',') {
        let (owner, count) = run.split_once('*')?;
        let (owner, count) = (owner.parse::<u8>().ok()?, count.parse::<u16>().ok()?);
        if at(owner) != usize::from(owner) || owners.len() + usize::from(count) > usize::from(BUCKETS) {
            return None;
        }
        owners.resize(owners.len() + usize::from(count), owner);
    }
    (owners.len() == usize::from(BUCKETS)).then(|| owners.into())
}

impl FromStr for Ownership {
    type Err = NotAnOwnership;

    fn from_str(text: &str) -> Result<Self, NotAnOwnership> {
        let ring = || {
            let (versions, buckets) = text.split_once('@')?;
            let ((rest, second), (offset, threshold)) = (versions.split_once('/')?, buckets.split_once('+')?);
            let (rest, second) = (rest.parse::<u8>().ok()?, second.parse::<u8>().ok()?);
            let (offset, threshold) = (offset.parse().ok()?, threshold.parse().ok()?);
            let sound = at(rest) == usize::from(rest) && at(second) == usize::from(second);
            (sound && offset < BUCKETS && threshold <= BUCKETS).then_some(Ring { rest, second, offset, threshold })
        };
        let runs = || Some(Self { owners: of_runs(text)?, ring: None });
        ring().map(Self::of_ring).or_else(runs).ok_or_else(|| NotAnOwnership(text.chars().take(60).collect()))
    }
}

impl From<Ownership> for String {
    fn from(ownership: Ownership) -> Self {
        ownership.to_string()
    }
}

impl TryFrom<String> for Ownership {
    type Error = NotAnOwnership;

    fn try_from(text: String) -> Result<Self, NotAnOwnership> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares(hundredths: &[u16]) -> Vec<Share> {
        (0..)
            .zip(hundredths)
            .map(|(place, number)| (place, Weight::from_hundredths(*number).expect("a weight")))
            .collect()
    }

    /// Weights of so many versions that sum to 100 %.
    fn weights(versions: usize) -> impl Strategy<Value = Vec<u16>> {
        prop::collection::vec(0_u16..=1_000, versions)
            .prop_filter_map("nothing", |raw| (raw.iter().any(|share| *share > 0)).then(|| apportion(&raw, 10_000)))
    }

    #[test]
    fn two_versions_are_a_threshold_from_the_offset() {
        let tenth = Ownership::first(&shares(&[9_000, 1_000]), 16_000);
        assert_eq!(tenth.split(), Some(Split { offset: 16_000, threshold: 1_638 }));
        assert_eq!(
            (tenth.owners()[16_000], tenth.owners()[15_999], tenth.owners()[1_253], tenth.owners()[1_254]),
            (1, 0, 1, 0)
        );
        let all = tenth.reweighted(&shares(&[0, 10_000]), None, 0);
        assert_eq!(all.split(), Some(Split { offset: 16_000, threshold: BUCKETS }));
        let anew = all.reweighted(&shares(&[500, 9_500]), Some(7), 0);
        assert_eq!(anew.split(), Some(Split { offset: 7, threshold: 15_565 }));
    }

    #[test]
    fn a_version_before_the_other_in_the_file_grows_from_where_the_other_ends() {
        let weight = |number| Weight::from_hundredths(number).expect("a weight");
        // v2 has place 1 and stands first; v1, of place 0, owns the threshold.
        let tenth = Ownership::first(&[(1, weight(9_000)), (0, weight(1_000))], 100);
        assert_eq!((tenth.owners()[100], tenth.owners()[1_737], tenth.owners()[1_738]), (0, 0, 1));
        assert_eq!(tenth.split(), Some(Split { offset: 1_738, threshold: BUCKETS - 1_638 }));
    }

    #[test]
    fn a_third_version_ends_the_threshold_and_nobody_is_moved_by_its_coming() {
        let two = Ownership::first(&shares(&[7_500, 2_500]), 100);
        let three = two.reweighted(&shares(&[7_500, 2_500, 0]), None, 5);
        assert_eq!((three.split(), three.moved(&two)), (None, 0));
        // It goes again; the form returns when one version has all and all is settled.
        let again = three.reweighted(&shares(&[7_500, 2_500]), None, 5);
        assert_eq!((again.is_ring(), again.moved(&two)), (false, 0));
        let whole = again.reweighted(&shares(&[10_000, 0]), None, 5);
        assert!(!whole.is_ring());
        assert_eq!(
            whole.reweighted(&shares(&[10_000, 0]), Some(9), 5).split(),
            Some(Split { offset: 9, threshold: 0 })
        );
    }

    #[test]
    fn places_are_given_new_numbers_without_moving_anybody() {
        let weight = |number| Weight::from_hundredths(number).expect("a weight");
        let before = Ownership::first(&[(1, weight(9_000)), (2, weight(1_000))], 100);
        let after = before.renumbered(&[1, 2]);
        assert_eq!(after.split(), Some(Split { offset: 100, threshold: 1_638 }));
        assert!(before.owners().iter().zip(after.owners().iter()).all(|(old, new)| old - 1 == *new));
    }

    #[test]
    fn text_that_says_something_else_is_refused() {
        for bad in ["", "0*16383", "0*16384,1*1", "8*16384", "0/1@16384+0", "0/1@0+16385", "0/9@0+1", "x"] {
            assert!(bad.parse::<Ownership>().is_err(), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn counts_are_the_largest_remainders_and_no_bucket_moves_without_need(
            versions in 1_usize..=8, seed in any::<u16>(), steps in prop::collection::vec(weights(8), 1..6),
        ) {
            let of = |raw: &[u16]| shares(&apportion(&raw[..versions], 10_000));
            prop_assume!(steps.iter().all(|raw| raw[..versions].iter().any(|share| *share > 0)));
            let mut now = Ownership::first(&of(&steps[0]), seed % BUCKETS);
            for step in &steps[1..] {
                let shares = of(step);
                let next = now.reweighted(&shares, None, seed % BUCKETS);
                let expected = apportion(&shares.iter().map(|(_, weight)| weight.hundredths()).collect::<Vec<_>>(), BUCKETS);
                prop_assert_eq!(&next.counts()[..versions], &expected[..]);
                let least: u16 = now.counts().iter().zip(next.counts()).map(|(old, new)| new.saturating_sub(*old)).sum();
                prop_assert_eq!(now.moved(&next), least);
                prop_assert_eq!(next.to_string().parse::<Ownership>(), Ok(next.clone()));
                now = next;
            }
        }

        #[test]
        fn growing_at_anothers_cost_touches_no_third_and_shrinking_gives_the_same_back(
            mut raw in weights(5), grower in 0_usize..5, payer in 0_usize..5, parts in [0.0_f64..1.0, 0.0_f64..1.0], base in 0..BUCKETS,
        ) {
            prop_assume!(grower != payer);
            raw[payer] += std::mem::take(&mut raw[grower]);
            let at = |part: f64| {
                let mut grown = raw.clone();
                grown[grower] = (f64::from(raw[payer]) * part) as u16;
                grown[payer] -= grown[grower];
                shares(&grown)
            };
            let (low, high) = (parts[0].min(parts[1]), parts[0].max(parts[1]));
            let none = Ownership::first(&shares(&raw), base);
            let mut steps = vec![none];
            for part in [low, high, low, 0.0] {
                let last = steps.last().expect("the first");
                steps.push(last.reweighted(&at(part), None, base));
            }
            // Rounding to whole buckets may give a third one or take one from it.
            let third = |owner: u8| usize::from(owner) != grower && usize::from(owner) != payer;
            let touched = steps[0].owners().iter().zip(steps[2].owners().iter()).filter(|(a, b)| a != b && (third(**a) || third(**b)));
            prop_assert!(touched.count() <= 5);
            for (there, back) in [(0, 4), (1, 3)] {
                let differ = steps[there].moved(&steps[back]);
                prop_assert!(differ <= 10, "{} are not back", differ);
            }
        }
    }
}
