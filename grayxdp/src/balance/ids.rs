//! Numbers for names: assigned once, kept for as long as the name is configured, reused last.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use serde::{Deserialize, Serialize};

use crate::model::{
    Name,
    config::{Config, Protocol, Service, Version},
    kernel::{BackendId, ServiceId, VersionId},
};

/// Greatest number of a service.
const LAST_SERVICE: u16 = 4_096;
/// Greatest number of a version or a backend.
const LAST: u16 = u16::MAX;

/// Numbers that are used before any comes again.
const LEAST_ROUND: u16 = 64;

/// All numbers are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {limit} numbers of {what} are in use; remove some {what} by a reload first, then add the new ones")]
pub struct IdsExhausted {
    /// `services`, `versions` or `backends`.
    pub what: &'static str,
    /// How many there are.
    pub limit: u16,
}

/// A version by its names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VersionKey {
    /// The service.
    pub service: Name,
    /// The version.
    pub version: Name,
}

/// A backend by its names and its endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BackendKey {
    /// The service.
    pub service: Name,
    /// The version.
    pub version: Name,
    /// Address and port; the service's port where the backend has none of its own.
    pub address: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The virtual endpoint: a backend of another one is another backend, because its record in the kernel differs.
    pub virtual_address: SocketAddr,
}

impl BackendKey {
    /// The keys of a version's backends, in the order of the file.
    pub fn of<'a>(service: &'a Service, version: &'a Version) -> impl Iterator<Item = Self> + 'a {
        version.backends.iter().map(|backend| Self {
            service: service.name.clone(),
            version: version.name.clone(),
            address: SocketAddr::new(backend.address, service.port_of(backend)),
            protocol: service.protocol,
            virtual_address: SocketAddr::new(service.vip, service.only_port()),
        })
    }
}

/// Numbers of one kind. Written as the last number given and the pairs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written<K>", into = "Written<K>", bound(serialize = "K: Clone + Ord + Serialize"))]
#[serde(bound(deserialize = "K: Clone + Ord + Deserialize<'de>"))]
struct Numbers<K: Clone + Ord> {
    by_key: BTreeMap<K, u16>,
    by_number: BTreeMap<u16, K>,
    cursor: u16,
}

/// [`Numbers`] as the journal keeps them.
#[derive(Serialize, Deserialize)]
struct Written<K> {
    cursor: u16,
    numbers: Vec<(K, u16)>,
}

impl<K: Clone + Ord> From<Written<K>> for Numbers<K> {
    fn from(written: Written<K>) -> Self {
        let by_number = written.numbers.iter().map(|(key, number)| (*number, key.clone())).collect();
        Self { by_key: written.numbers.into_iter().collect(), by_number, cursor: written.cursor }
    }
}

impl<K: Clone + Ord> From<Numbers<K>> for Written<K> {
    fn from(numbers: Numbers<K>) -> Self {
        Self { cursor: numbers.cursor, numbers: numbers.by_key.into_iter().collect() }
    }
}

impl<K: Clone + Ord> Default for Numbers<K> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), by_number: BTreeMap::new(), cursor: 0 }
    }
}

impl<K: Clone + Ord> Numbers<K> {
    /// Gives each new key the next free number after the last one given, and round.
    ///
    /// The round is twice as long as there are keys: a number comes again late, and numbers stay small however often keys
    /// change, because the kernel's tables are as long as the greatest number.
    fn assign(&mut self, keys: impl IntoIterator<Item = K>, last: u16) -> Option<()> {
        for key in keys {
            if self.by_key.contains_key(&key) {
                continue;
            }
            let round = u16::try_from(self.by_key.len() * 2).unwrap_or(last).clamp(LEAST_ROUND, last);
            let after = (self.cursor..round).map(|number| number + 1);
            let number = after.chain(1..=round).find(|number| !self.by_number.contains_key(number))?;
            self.cursor = number;
            self.by_number.insert(number, key.clone());
            self.by_key.insert(key, number);
        }
        Some(())
    }

    fn retain(&mut self, keys: &BTreeSet<K>) {
        self.by_key.retain(|key, _| keys.contains(key));
        self.by_number.retain(|_, key| keys.contains(key));
    }
}

/// Which number stands for which service, version and backend.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdTable {
    services: Numbers<Name>,
    versions: Numbers<VersionKey>,
    backends: Numbers<BackendKey>,
}

impl IdTable {
    /// Gives numbers to what has none yet; all others stay.
    ///
    /// # Errors
    /// [`IdsExhausted`]; the table is then as before.
    pub fn assign(&mut self, config: &Config) -> Result<(), IdsExhausted> {
        let mut next = self.clone();
        let (services, versions, backends) = keys(config);
        let exhausted = |what, limit| IdsExhausted { what, limit };
        next.services.assign(services, LAST_SERVICE).ok_or(exhausted("services", LAST_SERVICE))?;
        next.versions.assign(versions, LAST).ok_or(exhausted("versions", LAST))?;
        next.backends.assign(backends, LAST).ok_or(exhausted("backends", LAST))?;
        *self = next;
        Ok(())
    }

    /// Forgets what is not in the configuration, but for these backends and their versions; those numbers become free.
    pub fn retain(&mut self, config: &Config, leaving: &BTreeSet<BackendId>) {
        let (services, versions, backends) = keys(config);
        let leaving: Vec<BackendKey> = leaving.iter().filter_map(|id| self.backend_key(*id)).cloned().collect();
        let of = |key: &BackendKey| VersionKey { service: key.service.clone(), version: key.version.clone() };
        let versions = versions.into_iter().chain(leaving.iter().map(of)).collect();
        self.services.retain(&services.into_iter().collect());
        self.versions.retain(&versions);
        self.backends.retain(&backends.into_iter().chain(leaving).collect());
    }

    /// The number of a service.
    #[must_use]
    pub fn service(&self, name: &Name) -> Option<ServiceId> {
        self.services.by_key.get(name).copied().map(ServiceId)
    }

    /// The number of a version.
    #[must_use]
    pub fn version(&self, service: &Name, version: &Name) -> Option<VersionId> {
        let key = VersionKey { service: service.clone(), version: version.clone() };
        self.versions.by_key.get(&key).copied().map(VersionId)
    }

    /// The number of a backend.
    #[must_use]
    pub fn backend(&self, key: &BackendKey) -> Option<BackendId> {
        self.backends.by_key.get(key).copied().map(BackendId)
    }

    /// The service of a number.
    #[must_use]
    pub fn service_name(&self, id: ServiceId) -> Option<&Name> {
        self.services.by_number.get(&id.0)
    }

    /// The version of a number.
    #[must_use]
    pub fn version_key(&self, id: VersionId) -> Option<&VersionKey> {
        self.versions.by_number.get(&id.0)
    }

    /// The backend of a number.
    #[must_use]
    pub fn backend_key(&self, id: BackendId) -> Option<&BackendKey> {
        self.backends.by_number.get(&id.0)
    }
}

/// All keys of a configuration, in the order of the file.
fn keys(config: &Config) -> (Vec<Name>, Vec<VersionKey>, Vec<BackendKey>) {
    let services = config.services.iter().map(|service| service.name.clone()).collect();
    let pools = || config.services.iter().flat_map(|service| service.versions.iter().map(move |pool| (service, pool)));
    let key = |(service, pool): (&Service, &Version)| VersionKey {
        service: service.name.clone(),
        version: pool.name.clone(),
    };
    (services, pools().map(key).collect(), pools().flat_map(|(service, pool)| BackendKey::of(service, pool)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::wanted::tests::{config, name};

    fn number_of_service(ids: &IdTable, service: &str) -> Option<u16> {
        ids.service(&name(service)).map(|id| id.0)
    }

    #[test]
    fn numbers_begin_at_one_and_lead_back_to_names() {
        let config = config(&["a", "b"], 2);
        let mut ids = IdTable::default();
        ids.assign(&config).expect("room");
        assert_eq!((number_of_service(&ids, "a"), number_of_service(&ids, "b")), (Some(1), Some(2)));
        let versions: Vec<_> = ["v1", "v2"].map(|version| ids.version(&name("b"), &name(version))).to_vec();
        assert_eq!(versions, [Some(VersionId(3)), Some(VersionId(4))]);
        let service = &config.services[1];
        let keys: Vec<BackendKey> = BackendKey::of(service, &service.versions[1]).collect();
        let id = ids.backend(&keys[1]).expect("assigned");
        assert_eq!((id, ids.backend_key(id)), (BackendId(8), Some(&keys[1])));
        assert_eq!(ids.service_name(ServiceId(2)), Some(&name("b")));
        assert_eq!(ids.version_key(VersionId(4)).map(|key| key.version.as_str()), Some("v2"));
        assert_eq!(ids.backend_key(BackendId::NONE), None);
    }

    #[test]
    fn a_number_stays_with_its_name_and_a_freed_one_is_not_given_at_once() {
        let mut ids = IdTable::default();
        ids.assign(&config(&["a", "b"], 1)).expect("room");
        ids.retain(&config(&["b"], 1), &BTreeSet::new());
        assert_eq!(number_of_service(&ids, "a"), None);
        ids.assign(&config(&["c", "b"], 1)).expect("room");
        assert_eq!((number_of_service(&ids, "b"), number_of_service(&ids, "c")), (Some(2), Some(3)));
    }

    #[test]
    fn freed_numbers_come_again_after_all_others() {
        let mut numbers = Numbers::<u32>::default();
        numbers.assign(0..63, 64).expect("room");
        numbers.retain(&(0..63).filter(|key| *key != 1).collect());
        numbers.assign([100], 64).expect("the last");
        numbers.assign([101], 64).expect("the second, freed");
        assert_eq!((numbers.by_key[&100], numbers.by_key[&101]), (64, 2));
        assert_eq!(numbers.assign([102], 64), None);
    }

    #[test]
    fn numbers_stay_small_however_often_keys_change() {
        let mut numbers = Numbers::<u32>::default();
        for change in 0..1_000 {
            let keys: BTreeSet<u32> = (change * 7..change * 7 + 100).collect();
            numbers.retain(&keys);
            numbers.assign(keys, LAST).expect("room");
        }
        assert!(numbers.by_number.keys().all(|number| *number <= 200), "{:?}", numbers.by_number.keys().last());
    }

    #[test]
    fn exhaustion_is_refused_and_leaves_the_table_as_it_was() {
        let names: Vec<String> = (0..=LAST_SERVICE).map(|n| format!("s{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut ids = IdTable::default();
        let error = ids.assign(&config(&names, 1)).expect_err("one too many");
        assert!(error.to_string().starts_with("all 4096 numbers of services are in use"), "{error}");
        assert_eq!(ids, IdTable::default());
    }

    #[test]
    fn a_written_table_reads_back_with_its_cursor() {
        let mut ids = IdTable::default();
        ids.assign(&config(&["a", "b"], 2)).expect("room");
        ids.retain(&config(&["a"], 2), &BTreeSet::new());
        let text = serde_json::to_string(&ids).expect("serialisable");
        let mut back: IdTable = serde_json::from_str(&text).expect("readable");
        assert_eq!(back, ids);
        back.assign(&config(&["a", "z"], 2)).expect("room");
        assert_eq!(number_of_service(&back, "z"), Some(3));
    }
}
