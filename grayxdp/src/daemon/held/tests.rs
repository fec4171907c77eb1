//! What a service holds as versions, segments and weights come and go.

use grayxdp_common::BUCKETS;

use super::*;
use crate::config::load_config;

fn service(versions: &[&str]) -> Service {
    let mut text = "interfaces: [{name: lo}]\nservices:\n- {name: s, vip: 192.0.2.1, port: 80, versions: [".to_owned();
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
    let name = |place: &u8| record.places.iter().find(|(_, known)| *known == place).expect("a version").0.to_string();
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
    assert_eq!(why, "s would have too many versions beside those that go (h); reload again when they are gone");
    assert_eq!(crowded(&record, &eight), None);
    assert_eq!(record.buckets.counts()[0], BUCKETS);
}
