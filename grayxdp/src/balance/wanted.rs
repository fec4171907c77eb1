//! From configuration, numbers and applied weights to all that the kernel is to hold.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    balance::{
        ids::{BackendKey, IdTable},
        maglev::{SlotBackend, slot_table},
    },
    model::{
        Name,
        config::{Config, Service, Version},
        kernel::{
            BackendId, BackendState, ExistingFlows, SAMPLE_RATE, Split, VersionId, Wanted, WantedBackend,
            WantedBuckets, WantedService, WantedSlots, WantedVersion,
        },
    },
};

/// What decides a service's buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AppliedSplit {
    /// Who owns which bucket.
    pub split: Split,
    /// Rises with every applied change of weights.
    pub epoch: u64,
    /// Number of the rollout that wants this; 0: none.
    pub rollout: u64,
}

/// The slot tables of a configuration, built once: a change of weights alone needs no new ones.
#[derive(Clone, Debug, Default)]
pub struct Pools {
    pools: BTreeMap<VersionId, Pool>,
}

#[derive(Clone, Debug)]
struct Pool {
    backends: Vec<SlotBackend>,
    slots: Arc<[BackendId]>,
}

impl Pools {
    /// Builds the table of every version, but takes over from `previous` what has the same backends.
    ///
    /// # Panics
    /// If `ids` lacks a number of the configuration.
    #[must_use]
    pub fn build(config: &Config, ids: &IdTable, previous: &Self) -> Self {
        let versions =
            config.services.iter().flat_map(|service| service.versions.iter().map(move |version| (service, version)));
        let pools = versions.map(|(service, version)| {
            let id = version_id(ids, service, version);
            let backends = backends(ids, service, version);
            let kept = previous.pools.get(&id).filter(|pool| pool.backends == backends).cloned();
            (id, kept.unwrap_or_else(|| Pool { slots: slot_table(&backends), backends }))
        });
        Self { pools: pools.collect() }
    }

    /// All that the kernel is to hold; `config` and `ids` are those that the pools were built of.
    ///
    /// # Panics
    /// If they are others.
    #[must_use]
    pub fn wanted(&self, config: &Config, ids: &IdTable, applied: &dyn Fn(&Name) -> AppliedSplit) -> Wanted {
        let direct_access = config.direct_access.iter().map(|prefix| (prefix.address, prefix.length)).collect();
        let services = config.services.iter().map(|service| {
            let AppliedSplit { split, epoch, rollout } = applied(&service.name);
            WantedService {
                id: ids.service(&service.name).expect("every configured service was given a number"),
                vip: service.vip,
                ports: service.virtual_ports().to_vec(),
                protocol: service.protocol,
                forwarding: service.forwarding,
                tunnel: config.tunnel.clone(),
                source_pool: service.pool_addresses().collect(),
                affinity: service.affinity,
                announce: service.announce,
                versions: (0..)
                    .zip(&service.versions)
                    .map(|(place, version)| self.version(ids, service, place, version))
                    .collect(),
                buckets: WantedBuckets::Split(split),
                epoch,
                rollout,
                sample_rate: if service.forwarding.sees_answers() { SAMPLE_RATE } else { 0 },
                flow_horizon: service.flow_horizon,
                ..WantedService::default()
            }
        });
        Wanted { services: services.collect(), direct_access }
    }

    fn version(&self, ids: &IdTable, service: &Service, place: u8, version: &Version) -> WantedVersion {
        let id = version_id(ids, service, version);
        let pool = self.pools.get(&id).expect("the pools were built of this configuration");
        let backends = pool.backends.iter().map(|&SlotBackend { id, address, port, weight: _ }| WantedBackend {
            id,
            address,
            port,
            state: BackendState::Up,
        });
        let slots = WantedSlots::settled(Arc::clone(&pool.slots));
        WantedVersion { id, place, backends: backends.collect(), slots, existing: ExistingFlows::Stay, failover: None }
    }
}

/// All that the kernel is to hold, with tables built for this one call; [`Pools`] keeps them between calls.
///
/// # Panics
/// If `ids` lacks a number of the configuration.
#[must_use]
pub fn wanted(config: &Config, ids: &IdTable, applied: &dyn Fn(&Name) -> AppliedSplit) -> Wanted {
    Pools::build(config, ids, &Pools::default()).wanted(config, ids, applied)
}

fn version_id(ids: &IdTable, service: &Service, version: &Version) -> VersionId {
    ids.version(&service.name, &version.name).expect("every configured version was given a number")
}

fn backends(ids: &IdTable, service: &Service, version: &Version) -> Vec<SlotBackend> {
    let backend = |(key, weight): (BackendKey, u16)| SlotBackend {
        id: ids.backend(&key).expect("every configured backend was given a number"),
        address: key.address.ip(),
        port: key.address.port(),
        weight,
    };
    let weights = version.backends.iter().map(|backend| backend.weight);
    BackendKey::of(service, version).zip(weights).map(backend).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::Ipv4Addr;

    use grayxdp_common::BUCKETS;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        balance::shares::split,
        model::{
            Weight,
            config::{Backend, Control, Http, Interface},
        },
    };

    pub(in crate::balance) fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    /// Services with versions `v1` and `v2` of so many backends each.
    pub(in crate::balance) fn config(services: &[&str], backends: u8) -> Config {
        let pool = |service: usize, version: u8| Version {
            name: name(&format!("v{version}")),
            backends: (1..=backends)
                .map(|last| Backend {
                    address: Ipv4Addr::new(10, service as u8, version, last).into(),
                    port: (last > 1).then_some(8_080),
                    weight: 1,
                })
                .collect(),
        };
        let service = |(index, text): (usize, &&str)| Service {
            versions: vec![pool(index, 1), pool(index, 2)],
            ..Service::new(name(text), Ipv4Addr::new(192, 0, 2, 10), 80 + index as u16)
        };
        Config {
            interfaces: vec![Interface { name: "eth0".into(), mode: Default::default() }],
            state_dir: "/var/lib/grayxdp".into(),
            pin_dir: "/sys/fs/bpf/grayxdp".into(),
            control: Control::default(),
            http: Http::default(),
            hash_key_file: None,
            flow_log: None,
            direct_access: vec!["10.9.0.0/16".to_owned().try_into().expect("a prefix")],
            tunnel: Default::default(),
            history_retention: std::time::Duration::from_secs(86_400),
            exceptions: 1_000_000,
            translations: 1 << 18,
            services: services.iter().enumerate().map(service).collect(),
        }
    }

    fn percent(second: u16) -> [Weight; 2] {
        let second = Weight::from_hundredths(second).expect("at most 100 %");
        [second.complement(), second]
    }

    /// Index of the version of each bucket.
    fn owners(wanted: &Wanted) -> Vec<usize> {
        let WantedBuckets::Split(split) = wanted.services[0].buckets else { panic!("no split") };
        (0..BUCKETS).map(|bucket| split.version_of(bucket)).collect()
    }

    fn assigned(config: &Config) -> IdTable {
        let mut ids = IdTable::default();
        ids.assign(config).expect("room");
        ids
    }

    #[test]
    fn everything_configured_is_wanted() {
        let config = config(&["a", "b"], 2);
        let applied = AppliedSplit { split: split(&percent(1_000), 99), epoch: 7, rollout: 3 };
        let wanted = wanted(&config, &assigned(&config), &|_| applied);
        assert_eq!(wanted.direct_access, [(Ipv4Addr::new(10, 9, 0, 0).into(), 16)]);
        let service = &wanted.services[1];
        assert_eq!((&service.buckets, service.epoch, service.rollout), (&WantedBuckets::Split(applied.split), 7, 3));
        assert_eq!((service.ports.as_slice(), service.versions.len()), ([81].as_slice(), 2));
        let ends: Vec<_> = service.versions[1].backends.iter().map(|end| (end.id.0, end.address, end.port)).collect();
        // A backend without a port has the service's.
        assert_eq!(ends, [(7, Ipv4Addr::new(10, 1, 2, 1).into(), 81), (8, Ipv4Addr::new(10, 1, 2, 2).into(), 8_080)]);
        assert!(service.versions[1].slots.current.iter().all(|id| [7, 8].contains(&id.0)));
    }

    #[test]
    fn tables_of_pools_that_did_not_change_are_taken_over() {
        let before = config(&["a"], 2);
        let mut after = before.clone();
        after.services[0].versions[1].backends.pop();
        let ids = assigned(&before);
        let old = Pools::build(&before, &ids, &Pools::default());
        let new = Pools::build(&after, &ids, &old);
        let slots = |pools: &Pools, id| Arc::clone(&pools.pools[&VersionId(id)].slots);
        assert!(Arc::ptr_eq(&slots(&old, 1), &slots(&new, 1)));
        assert_ne!(slots(&old, 2), slots(&new, 2));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn raising_v2_moves_only_the_extra_buckets(a in 0_u16..=10_000, b in 0_u16..=10_000, start in 0..BUCKETS) {
            let (low, high) = (a.min(b), a.max(b));
            let config = config(&["recsys"], 1);
            let ids = assigned(&config);
            let pools = Pools::build(&config, &ids, &Pools::default());
            let at = |second| {
                let applied = AppliedSplit { split: split(&percent(second), start), epoch: 1, rollout: 1 };
                pools.wanted(&config, &ids, &|_| applied)
            };
            let (before, after) = (owners(&at(low)), owners(&at(high)));
            let extra = f64::from(high - low) * f64::from(BUCKETS) / 10_000.0;
            let gained = before.iter().zip(&after).filter(|&(old, new)| old < new).count() as f64;
            prop_assert!((gained - extra).abs() <= 1.0, "{} gained, {} extra", gained, extra);
            prop_assert!(before.iter().zip(&after).all(|(old, new)| old <= new), "somebody was moved back");
        }

        #[test]
        fn a_change_of_backends_never_changes_a_buckets_version(second in 0_u16..=10_000, backends in 1_u8..20) {
            let applied = AppliedSplit { split: split(&percent(second), 5_000), epoch: 1, rollout: 1 };
            let of = |config: &Config| owners(&wanted(config, &assigned(config), &|_| applied));
            prop_assert_eq!(of(&config(&["recsys"], backends)), of(&config(&["recsys"], backends + 3)));
        }
    }
}
