//! What one service holds: weights, roles, places, and the buckets that follow from them.

use std::collections::BTreeMap;

use grayxdp_common::cells::{SEGMENTS, VERSIONS};

use crate::{
    balance::{self, Home, Ownership, Share},
    model::{
        Name, Weight,
        config::{Segment, Service, Version},
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
        home: Home::default(),
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
    let (what, gone) = if versions.len() + service.versions.len() > VERSIONS {
        ("versions", versions)
    } else if gone.len() + segments.len() + of_instance > SEGMENTS - 1 {
        ("segments", gone)
    } else {
        return None;
    };
    let (name, gone) = (&service.name, gone.join(", "));
    Some(format!("{name} would have too many {what} while {gone} leave; reload again when they are gone"))
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

#[cfg(test)]
mod tests {
    use grayxdp_common::BUCKETS;

    use super::*;
    use crate::config::load_config;

    fn service(versions: &[&str]) -> Service {
        let mut text =
            "interfaces: [{name: lo}]\nservices:\n- {name: s, vip: 192.0.2.1, port: 80, versions: [".to_owned();
        for (index, version) in versions.iter().enumerate() {
            text += &format!("{{name: {version}, backends: [{{address: 10.0.{index}.1}}]}}, ");
        }
        load_config(&(text + "]}\n"), "test").expect("a configuration").services.remove(0)
    }

    fn weights(pairs: &[(&str, u16)]) -> Weights {
        let pair = |(name, hundredths): &(&str, u16)| {
            (name.parse().expect("a name"), Weight::from_hundredths(*hundredths).expect("a weight"))
        };
        pairs.iter().map(pair).collect()
    }

    fn with(service: &Service, pairs: &[(&str, u16)]) -> ServiceRecord {
        next(&initial(service), service, weights(pairs), &BTreeMap::new(), None)
    }

    /// The name of each bucket's version.
    fn owners(record: &ServiceRecord) -> Vec<String> {
        let name =
            |place: &u8| record.places.iter().find(|(_, known)| *known == place).expect("a version").0.to_string();
        record.buckets.owners().iter().map(name).collect()
    }

    #[test]
    fn every_weight_is_found_again_in_its_buckets() {
        let service = service(&["v1", "v2"]);
        let unknown = with(&service, &[("v1", 5_000), ("v2", 5_000)]);
        for hundredths in (0..=10_000).step_by(37).filter(|hundredths| *hundredths != 5_000) {
            let wanted = weights(&[("v1", 10_000 - hundredths), ("v2", hundredths)]);
            let record = next(&initial(&service), &service, wanted.clone(), &BTreeMap::new(), None);
            assert_eq!(weights_of(&unknown, &service, &record.buckets), wanted);
        }
    }

    #[test]
    fn buckets_are_dealt_anew_only_while_one_version_has_everything() {
        let service = service(&["v1", "v2"]);
        let first = initial(&service);
        let (name, other): (Name, Name) = ("r".parse().expect("a name"), "s".parse().expect("a name"));
        let of = |before: &ServiceRecord, second: u16, number, name| {
            let weights = weights(&[("v1", 10_000 - second), ("v2", second)]);
            next(before, &service, weights, &BTreeMap::new(), Some(Dealer { number, name }))
        };
        let five = of(&first, 500, 3, &name);
        let offset = |record: &ServiceRecord| record.buckets.split().expect("a split").offset;
        assert_eq!((offset(&five), five.epoch), (balance::offset(&service.name, Some(&name)), 2));
        assert_eq!(moved(&first, &five), 819);
        let ten = of(&five, 1_000, 4, &other);
        assert_eq!((offset(&ten), moved(&five, &ten)), (offset(&five), 819));
        // One version has everything, but not for the flows in progress.
        let mut unsettled = first;
        unsettled.home.buckets.insert(0, "0*8192,1*8192".to_owned());
        assert_eq!(offset(&of(&unsettled, 500, 4, &other)), offset(&unsettled));
    }

    #[test]
    fn versions_that_change_places_in_the_file_move_nobody() {
        let (before, after) = (service(&["v1", "v2"]), service(&["v2", "v1"]));
        let record = with(&before, &[("v1", 7_500), ("v2", 2_500)]);
        let carried = carried_over(&record, &after).expect("all versions are there");
        assert_eq!(owners(&carried), owners(&record));
    }

    #[test]
    fn a_version_with_weight_cannot_be_carried_over_without_it() {
        let (before, after) = (service(&["v1", "v2"]), service(&["v2", "v3"]));
        assert_eq!(carried_over(&initial(&before), &after), None);
        let promoted = with(&before, &[("v1", 0), ("v2", 10_000)]);
        let carried = carried_over(&promoted, &after).expect("v1 has nothing");
        assert_eq!(carried.weights, weights(&[("v2", 10_000), ("v3", 0)]));
        // v1 leaves and keeps its place.
        assert_eq!(
            carried.places,
            [("v1", 0), ("v2", 1), ("v3", 2)].map(|(name, place)| (name.parse().expect("a name"), place)).into()
        );
        assert_eq!(moved(&promoted, &carried), 0);
    }

    #[test]
    fn a_ninth_version_waits_until_one_has_left() {
        let eight = service(&["a", "b", "c", "d", "e", "f", "g", "h"]);
        let other = service(&["a", "b", "c", "d", "e", "f", "g", "i"]);
        let record = initial(&eight);
        assert_eq!(carried_over(&record, &other), None);
        let why = crowded(&record, &other).expect("no place");
        assert_eq!(why, "s would have too many versions while h leave; reload again when they are gone");
        assert_eq!(crowded(&record, &eight), None);
        assert_eq!(record.buckets.counts()[0], BUCKETS);
    }
}
