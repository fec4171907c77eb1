//! What one service holds: weights, roles, places, and the buckets that follow from them.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use grayxdp_common::cells::{SEGMENTS, VERSIONS};

use crate::{
    balance::{self, Home, Ownership, Share},
    model::{
        Name, Weight,
        config::{Segment, Service, Version},
        kernel::SAMPLE_RATE,
    },
    rollout::State,
    store::{SegmentRecord, ServiceRecord},
};

/// Weights by version.
pub(super) type Weights = BTreeMap<Name, Weight>;

/// What the file wants where the journal knows nothing.
pub(super) fn initial(service: &Service) -> ServiceRecord {
    let weights = initial_weights(service);
    let versions = names(service);
    let places: BTreeMap<Name, u8> = versions.iter().cloned().zip(0..).collect();
    let offset = balance::offset(&service.name, None);
    let buckets = Ownership::first(&shares(service, &places, &weights), offset);
    let segment = |(number, segment): (u8, &Segment)| {
        let own = own_weights(service, segment);
        let of = |own: &Weights| Ownership::first(&shares(service, &places, own), offset);
        let buckets = own.as_ref().map_or_else(|| buckets.clone(), of);
        (segment.name.clone(), SegmentRecord { number, weights: own, buckets })
    };
    ServiceRecord {
        segments: (1..).zip(&service.segments).map(segment).collect(),
        stable: heaviest(service, &weights),
        versions,
        places,
        weights,
        buckets,
        instance: None,
        epoch: 1,
        rollout: 0,
        sample_rate: SAMPLE_RATE,
        home: Home::default(),
        file: None,
    }
}

/// The weight of a version.
pub(super) fn weight(record: &ServiceRecord, version: &Name) -> Weight {
    record.weights.get(version).copied().unwrap_or_default()
}

/// Buckets of the default segment that a version has.
pub(super) fn buckets(record: &ServiceRecord, version: &Name) -> u16 {
    let counts = record.buckets.counts();
    record.places.get(version).map_or(0, |place| counts[usize::from(*place) % VERSIONS])
}

/// The rollout that wants a change.
#[derive(Clone, Copy)]
pub(super) struct Dealer<'a> {
    pub(super) number: u64,
    pub(super) name: &'a Name,
}

impl<'a> Dealer<'a> {
    /// The rollout of a state.
    pub(super) fn of(state: &'a State) -> Self {
        Self { number: state.number, name: state.name() }
    }
}

/// The next change: other weights under a new epoch. `segments` are those that have others than the rest for now. A new
/// rollout deals the buckets anew, but only while one version has everything and all is settled: then nobody is moved by it.
pub(super) fn next(
    before: &ServiceRecord,
    service: &Service,
    weights: Weights,
    segments: &BTreeMap<Name, Weights>,
    rollout: Option<Dealer<'_>>,
) -> ServiceRecord {
    let number = rollout.map_or(0, |rollout| rollout.number);
    let base = balance::offset(&service.name, None);
    let anew = match rollout {
        _ if !before.home.is_settled() => None,
        Some(rollout) if rollout.number != before.rollout => Some(balance::offset(&service.name, Some(rollout.name))),
        Some(_) | None => (!before.buckets.is_ring()).then_some(base),
    };
    let reweighted = |buckets: &Ownership, weights: &Weights| {
        buckets.reweighted(&shares(service, &before.places, weights), anew, base)
    };
    let buckets = reweighted(&before.buckets, &weights);
    let segment = |(name, known): (&Name, &SegmentRecord)| {
        let own = known.weights.as_ref().filter(|_| service.segments.iter().any(|segment| segment.name == *name));
        let of = |weights: &Weights| reweighted(&known.buckets, weights);
        let buckets = segments.get(name).or(own).map_or_else(|| buckets.clone(), of);
        (name.clone(), SegmentRecord { buckets, ..known.clone() })
    };
    ServiceRecord {
        segments: before.segments.iter().map(segment).collect(),
        weights,
        buckets,
        rollout: number,
        epoch: before.epoch + 1,
        ..before.clone()
    }
}

/// The next change of one segment alone.
pub(super) fn next_of_segment(
    before: &ServiceRecord,
    service: &Service,
    segment: &Name,
    weights: Weights,
) -> Option<ServiceRecord> {
    let mut before = before.clone();
    before.segments.get_mut(segment)?.weights = Some(weights);
    let all = before.weights.clone();
    Some(next(&before, service, all, &BTreeMap::new(), None))
}

/// The same under another configuration of the service: nobody is moved who need not be. None where a version that has
/// weight is gone. What leaves keeps its place and number.
pub(super) fn carried_over(record: &ServiceRecord, service: &Service) -> Option<ServiceRecord> {
    let versions = names(service);
    let segments: Vec<&Name> = service.segments.iter().map(|segment| &segment.name).collect();
    let has_segments = segments.iter().all(|name| record.segments.contains_key(*name));
    if record.versions == versions && has_segments {
        return Some(record.clone());
    }
    let lost =
        |weights: &Weights| weights.iter().any(|(name, weight)| *weight > Weight::ZERO && !versions.contains(name));
    let of_file = |name: &Name| segments.contains(&name);
    let own = record.segments.iter().filter(|(name, _)| of_file(name)).filter_map(|(_, known)| known.weights.as_ref());
    if lost(&record.weights) || own.into_iter().any(lost) {
        return None;
    }
    let weights: Weights = versions.iter().map(|name| (name.clone(), weight(record, name))).collect();
    let stable = if versions.contains(&record.stable) { record.stable.clone() } else { heaviest(service, &weights) };
    let carried = placed(record, service)?;
    let changed = next(&ServiceRecord { stable, ..carried }, service, weights, &BTreeMap::new(), None);
    Some(ServiceRecord { epoch: record.epoch, rollout: record.rollout, ..changed })
}

/// The weights of the file under a new epoch. Versions that the file lacks leave, also those that had weight.
pub(super) fn of_file(record: &ServiceRecord, service: &Service) -> ServiceRecord {
    let Some(mut placed) = placed(record, service) else {
        return ServiceRecord { epoch: record.epoch + 1, ..initial(service) };
    };
    for segment in &service.segments {
        if let Some(known) = placed.segments.get_mut(&segment.name) {
            known.weights = own_weights(service, segment);
        }
    }
    let weights = initial_weights(service);
    placed.stable = heaviest(service, &weights);
    next(&placed, service, weights, &BTreeMap::new(), None)
}

/// Places and numbers for all that the file has; what it lacks keeps its own. None where there is no room.
fn placed(record: &ServiceRecord, service: &Service) -> Option<ServiceRecord> {
    let versions = names(service);
    let numbers: BTreeMap<Name, u8> =
        record.segments.iter().map(|(name, segment)| (name.clone(), segment.number)).collect();
    let segments: Vec<Name> = service.segments.iter().map(|segment| segment.name.clone()).collect();
    let free = (1..SEGMENTS as u8).filter(|number| record.instance != Some(*number));
    let numbers = assigned(&numbers, &segments, free)?;
    let places = assigned(&record.places, &versions, 0..VERSIONS as u8)?;
    let mut placed = ServiceRecord { versions, places, ..record.clone() };
    for segment in &service.segments {
        let new = || {
            let weights = own_weights(service, segment);
            SegmentRecord { number: numbers[&segment.name], weights, buckets: record.buckets.clone() }
        };
        placed.segments.entry(segment.name.clone()).or_insert_with(new);
    }
    Some(placed)
}

/// What keeps a changed file from being applied for now: places and numbers that are all in use.
pub(super) fn crowded(record: &ServiceRecord, service: &Service) -> Option<String> {
    let leaving = |known: Vec<&Name>, kept: &[Name]| {
        known.into_iter().filter(|name| !kept.contains(name)).map(Name::to_string).collect::<Vec<_>>()
    };
    let versions = leaving(record.places.keys().collect(), &names(service));
    let segments: Vec<Name> = service.segments.iter().map(|segment| segment.name.clone()).collect();
    let gone = leaving(record.segments.keys().collect(), &segments);
    let of_instance = usize::from(record.instance.is_some());
    let (what, mut gone) = if versions.len() + service.versions.len() > VERSIONS {
        ("versions", versions)
    } else if gone.len() + segments.len() + of_instance > SEGMENTS - 1 {
        ("segments", gone)
    } else {
        return None;
    };
    if what == "segments" && of_instance > 0 {
        gone.push("that of the canary instance".to_owned());
    }
    let (name, gone) = (&service.name, gone.join(", "));
    Some(format!("{name} would have too many {what} beside those that go ({gone}); reload again when they are gone"))
}

/// Numbers of what has one, and of what is new: the least free one. None where there is none.
fn assigned(
    known: &BTreeMap<Name, u8>,
    wanted: &[Name],
    numbers: impl Iterator<Item = u8> + Clone,
) -> Option<BTreeMap<Name, u8>> {
    let mut assigned = known.clone();
    for name in wanted {
        if !assigned.contains_key(name) {
            let free = numbers.clone().find(|number| assigned.values().all(|used| used != number))?;
            assigned.insert(name.clone(), free);
        }
    }
    Some(assigned)
}

/// What the kernel holds, as a record: buckets of each segment by number.
pub(super) fn from_kernel(
    record: &ServiceRecord,
    service: &Service,
    buckets: &[Ownership],
    epoch: u64,
    rollout: u64,
) -> ServiceRecord {
    let first = Ownership::found(std::sync::Arc::clone(buckets[0].owners()), &record.buckets);
    let first = if first == record.buckets { first } else { buckets[0].clone() };
    let segment = |(name, known): (&Name, &SegmentRecord)| {
        let buckets = buckets.get(usize::from(known.number)).unwrap_or(&first);
        let buckets = Ownership::found(std::sync::Arc::clone(buckets.owners()), &known.buckets);
        (name.clone(), SegmentRecord { buckets, ..known.clone() })
    };
    ServiceRecord {
        segments: record.segments.iter().map(segment).collect(),
        weights: weights_of(record, service, &first),
        buckets: first,
        epoch,
        rollout,
        ..record.clone()
    }
}

fn names(service: &Service) -> Vec<Name> {
    service.versions.iter().map(|version| version.name.clone()).collect()
}

/// Places and weights in the order of the file.
fn shares(service: &Service, places: &BTreeMap<Name, u8>, weights: &Weights) -> Vec<Share> {
    let share = |version: &Version| {
        let place = places.get(&version.name).copied()?;
        Some((place, weights.get(&version.name).copied().unwrap_or_default()))
    };
    service.versions.iter().filter_map(share).collect()
}

/// Weights of all versions of the file; what is left out is filled in.
pub(super) fn initial_weights(service: &Service) -> Weights {
    let weight = |(index, version): (usize, &Version)| {
        let default = if service.weights.is_empty() && index == 0 { Weight::FULL } else { Weight::ZERO };
        (version.name.clone(), service.weights.get(&version.name).copied().unwrap_or(default))
    };
    service.versions.iter().enumerate().map(weight).collect()
}

/// Weights that the file gives a segment; none where it goes with the service.
pub(super) fn own_weights(service: &Service, segment: &Segment) -> Option<Weights> {
    let weight = |name: Name| {
        let weight = segment.weights.get(&name).copied().unwrap_or_default();
        (name, weight)
    };
    (!segment.weights.is_empty()).then(|| names(service).into_iter().map(weight).collect())
}

/// The version with the greatest weight; the first of the file among equals.
pub(super) fn heaviest(service: &Service, weights: &Weights) -> Name {
    let weight = |version: &&Version| weights.get(&version.name).copied().unwrap_or_default();
    let heaviest = service.versions.iter().rev().max_by_key(weight);
    heaviest.expect("a service has at least one version").name.clone()
}

/// Weights as people write them: `v1=90 v2=10`, in the order of the file.
pub(super) fn said(service: &Service, weights: &Weights) -> String {
    let weight = |version: &Version| weights.get(&version.name).copied().unwrap_or_default();
    let parts: Vec<_> =
        service.versions.iter().map(|version| format!("{}={}", version.name, weight(version))).collect();
    parts.join(" ")
}

/// The weights that buckets in the kernel stand for. Hundredths are coarser than buckets, so of two versions rounding finds
/// them; of more, those that are known where they give these buckets.
fn weights_of(record: &ServiceRecord, service: &Service, buckets: &Ownership) -> Weights {
    let counts = buckets.counts();
    if counts == record.buckets.counts() {
        return record.weights.clone();
    }
    let of = |version: &Version| record.places.get(&version.name).map_or(0, |place| counts[usize::from(*place)]);
    let counts: Vec<u16> = service.versions.iter().map(of).collect();
    let hundredths = balance::shares::apportion(&counts, Weight::FULL.hundredths());
    let weight = |hundredths: u16| Weight::from_hundredths(hundredths).unwrap_or(Weight::FULL);
    names(service).into_iter().zip(hundredths.into_iter().map(weight)).collect()
}

/// Buckets of all segments that have another version.
pub(super) fn moved(before: &ServiceRecord, after: &ServiceRecord) -> u64 {
    let segment = |(name, new): (&Name, &SegmentRecord)| {
        before.segments.get(name).map_or(0, |old| u64::from(old.buckets.moved(&new.buckets)))
    };
    u64::from(before.buckets.moved(&after.buckets)) + after.segments.iter().map(segment).sum::<u64>()
}
