//! What one service holds: weights, roles, and the buckets that follow from them.

use std::collections::BTreeMap;

use grayxdp_common::BUCKETS;

use crate::{
    balance::{self, AppliedSplit},
    model::{
        Name, Weight,
        config::{Service, Version},
        kernel::Split,
    },
    rollout::State,
    store::ServiceRecord,
};

/// What the file wants where the journal knows nothing.
pub(super) fn initial(service: &Service) -> ServiceRecord {
    let weights = initial_weights(service);
    let split = split(service, &weights, balance::offset(&service.name, None));
    ServiceRecord {
        versions: names(service),
        stable: heaviest(service, &weights),
        weights,
        split,
        epoch: 1,
        rollout: 0,
    }
}

/// What decides the service's buckets in the kernel.
pub(super) const fn applied(record: &ServiceRecord) -> AppliedSplit {
    AppliedSplit { split: record.split, epoch: record.epoch, rollout: record.rollout }
}

/// The weight of a version.
pub(super) fn weight(record: &ServiceRecord, version: &Name) -> Weight {
    record.weights.get(version).copied().unwrap_or_default()
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

/// The next change: other weights under a new epoch. A new rollout deals the buckets anew, but only while one version
/// has everything: then nobody is moved by it.
pub(super) fn next(
    before: &ServiceRecord,
    service: &Service,
    weights: BTreeMap<Name, Weight>,
    rollout: Option<Dealer<'_>>,
) -> ServiceRecord {
    let number = rollout.map_or(0, |rollout| rollout.number);
    let settled = before.weights.values().any(|weight| *weight == Weight::FULL);
    let offset = match rollout {
        Some(rollout) if settled && rollout.number != before.rollout => {
            balance::offset(&service.name, Some(rollout.name))
        }
        Some(_) | None => before.split.offset,
    };
    let split = split(service, &weights, offset);
    ServiceRecord { weights, split, rollout: number, epoch: before.epoch + 1, ..before.clone() }
}

/// The same under another configuration of the service: nobody is moved who need not be. None where a version that has
/// weight is gone.
pub(super) fn carried_over(record: &ServiceRecord, service: &Service) -> Option<ServiceRecord> {
    let versions = names(service);
    if record.versions == versions {
        return Some(record.clone());
    }
    let lost = |(name, weight): (&Name, &Weight)| *weight > Weight::ZERO && !versions.contains(name);
    if record.weights.iter().any(lost) {
        return None;
    }
    let weights: BTreeMap<_, _> = versions.iter().map(|name| (name.clone(), weight(record, name))).collect();
    let stable = if versions.contains(&record.stable) { record.stable.clone() } else { heaviest(service, &weights) };
    let Split { offset, threshold } = record.split;
    let offset = if swapped(&record.versions, &versions) { (offset + threshold) % BUCKETS } else { offset };
    let split = split(service, &weights, offset);
    Some(ServiceRecord { versions, weights, stable, split, ..record.clone() })
}

/// What the kernel holds, as a record.
pub(super) fn from_kernel(
    record: &ServiceRecord,
    service: &Service,
    split: Split,
    epoch: u64,
    rollout: u64,
) -> ServiceRecord {
    ServiceRecord { weights: weights_of(service, split), split, epoch, rollout, ..record.clone() }
}

fn names(service: &Service) -> Vec<Name> {
    service.versions.iter().map(|version| version.name.clone()).collect()
}

fn split(service: &Service, weights: &BTreeMap<Name, Weight>, offset: u16) -> Split {
    let weight = |version: &Version| weights.get(&version.name).copied().unwrap_or_default();
    let weights: Vec<_> = service.versions.iter().map(weight).collect();
    balance::split(&weights, offset)
}

/// Weights of all versions of the file; what is left out is filled in.
pub(super) fn initial_weights(service: &Service) -> BTreeMap<Name, Weight> {
    let weight = |(index, version): (usize, &Version)| {
        let default = if service.weights.is_empty() && index == 0 { Weight::FULL } else { Weight::ZERO };
        (version.name.clone(), service.weights.get(&version.name).copied().unwrap_or(default))
    };
    service.versions.iter().enumerate().map(weight).collect()
}

/// The version with the greatest weight; the first of the file among equals.
pub(super) fn heaviest(service: &Service, weights: &BTreeMap<Name, Weight>) -> Name {
    let weight = |version: &&Version| weights.get(&version.name).copied().unwrap_or_default();
    let heaviest = service.versions.iter().rev().max_by_key(weight);
    heaviest.expect("a service has at least one version").name.clone()
}

/// Weights as people write them: `v1=90 v2=10`, in the order of the file.
pub(super) fn said(service: &Service, weights: &BTreeMap<Name, Weight>) -> String {
    let weight = |version: &Version| weights.get(&version.name).copied().unwrap_or_default();
    let parts: Vec<_> =
        service.versions.iter().map(|version| format!("{}={}", version.name, weight(version))).collect();
    parts.join(" ")
}

/// The weights that a split in the kernel stands for: hundredths are coarser than buckets, so rounding finds them.
pub(super) fn weights_of(service: &Service, split: Split) -> BTreeMap<Name, Weight> {
    let hundredths = (u32::from(split.threshold) * u32::from(Weight::FULL.hundredths()) + u32::from(BUCKETS) / 2)
        / u32::from(BUCKETS);
    let second = u16::try_from(hundredths).ok().and_then(Weight::from_hundredths).unwrap_or(Weight::FULL);
    let names = service.versions.iter().map(|version| version.name.clone());
    names.zip([second.complement(), second]).collect()
}

/// Buckets that have another version under another split.
pub(super) fn moved(before: Split, after: Split) -> u16 {
    let differs = |bucket: &u16| before.version_of(*bucket) != after.version_of(*bucket);
    u16::try_from((0..BUCKETS).filter(differs).count()).expect("at most all buckets")
}

/// Whether the two versions of a service changed places in the file.
fn swapped(before: &[Name], after: &[Name]) -> bool {
    match (before, after) {
        ([first, second], [new_first, new_second]) => first == new_second || second == new_first,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
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

    fn weights(pairs: &[(&str, u16)]) -> BTreeMap<Name, Weight> {
        let pair = |(name, hundredths): &(&str, u16)| {
            (name.parse().expect("a name"), Weight::from_hundredths(*hundredths).expect("a weight"))
        };
        pairs.iter().map(pair).collect()
    }

    fn with(service: &Service, pairs: &[(&str, u16)]) -> ServiceRecord {
        next(&initial(service), service, weights(pairs), None)
    }

    #[test]
    fn every_weight_is_found_again_in_its_split() {
        let service = service(&["v1", "v2"]);
        for hundredths in 0..=10_000 {
            let wanted = weights(&[("v1", 10_000 - hundredths), ("v2", hundredths)]);
            assert_eq!(weights_of(&service, split(&service, &wanted, 77)), wanted);
        }
    }

    #[test]
    fn buckets_are_dealt_anew_only_while_one_version_has_everything() {
        let service = service(&["v1", "v2"]);
        let first = initial(&service);
        let (name, other): (Name, Name) = ("r".parse().expect("a name"), "s".parse().expect("a name"));
        let five =
            next(&first, &service, weights(&[("v1", 9_500), ("v2", 500)]), Some(Dealer { number: 3, name: &name }));
        assert_eq!((five.split.offset, five.epoch), (balance::offset(&service.name, Some(&name)), 2));
        assert_eq!(moved(first.split, five.split), 819);
        let ten =
            next(&five, &service, weights(&[("v1", 9_000), ("v2", 1_000)]), Some(Dealer { number: 4, name: &other }));
        assert_eq!((ten.split.offset, moved(five.split, ten.split)), (five.split.offset, 819));
    }

    #[test]
    fn versions_that_change_places_in_the_file_move_nobody() {
        let (before, after) = (service(&["v1", "v2"]), service(&["v2", "v1"]));
        let record = with(&before, &[("v1", 7_500), ("v2", 2_500)]);
        let carried = carried_over(&record, &after).expect("all versions are there");
        for bucket in 0..BUCKETS {
            let owner = &before.versions[record.split.version_of(bucket)].name;
            assert_eq!(&after.versions[carried.split.version_of(bucket)].name, owner);
        }
    }

    #[test]
    fn a_version_with_weight_cannot_be_carried_over_without_it() {
        let (before, after) = (service(&["v1", "v2"]), service(&["v2", "v3"]));
        assert_eq!(carried_over(&initial(&before), &after), None);
        let promoted = with(&before, &[("v1", 0), ("v2", 10_000)]);
        let carried = carried_over(&promoted, &after).expect("v1 has nothing");
        assert_eq!(carried.weights, weights(&[("v2", 10_000), ("v3", 0)]));
    }
}
