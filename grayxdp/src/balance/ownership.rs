//! Who owns which bucket of a segment, and how a change of weights moves as few buckets as it must.
//!
//! Two versions share the ring of buckets by a threshold: the second owns so many from an offset on, so weights nest. With
//! three and more, ownership follows from what it was before: what one version gains comes from those that lose, and no
//! third is touched. Of two versions that trade, the one with the greater place has an order of its own in which it gains
//! and, backwards, gives back: 10 % → 20 % → 10 % ends where it began.

#[cfg(test)]
mod tests;

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
