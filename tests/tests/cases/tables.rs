//! From a file's configurations to what the kernel is to hold. Names become numbers, the same in all configurations of a file.

use std::{collections::BTreeMap, sync::Arc};

use grayxdp::model::kernel::{
    self, BackendId, BackendState, ServiceId, SlotState, VersionId, Wanted, WantedBackend, WantedBuckets,
    WantedInstance, WantedPrefix, WantedSegments, WantedService, WantedSlots, WantedVersion,
};
use grayxdp_common::{
    BUCKETS, SLOTS,
    cells::{NO_DSCP, PORTS, SegmentClass},
};

use crate::format::{Bucket, Class, ExistingFlows, File, Rule, Segments, Service, Slots, SourcePrefix, State, Version};

/// Numbers of everything that has a name in a file.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) services: BTreeMap<String, u16>,
    versions: BTreeMap<(String, String), u16>,
    pub(crate) backends: BTreeMap<String, u16>,
}

impl Names {
    /// Numbers everything from 1 on.
    pub(crate) fn of(file: &File) -> Self {
        let mut names = Self::default();
        for service in file.configurations.values().flatten() {
            number(&mut names.services, service.name.clone());
            for version in &service.versions {
                number(&mut names.versions, (service.name.clone(), version.name.clone()));
                for backend in &version.backends {
                    number(&mut names.backends, backend.name.clone());
                }
            }
        }
        names
    }

    fn backend(&self, name: &str) -> BackendId {
        BackendId(*self.backends.get(name).unwrap_or_else(|| panic!("no backend is called `{name}`")))
    }
}

fn number<K: Ord>(numbers: &mut BTreeMap<K, u16>, key: K) {
    let next = numbers.len() as u16 + 1;
    numbers.entry(key).or_insert(next);
}

/// What the kernel is to hold of all configurations together: for the size of its tables.
pub(crate) fn largest(file: &File, names: &Names) -> Wanted {
    let services = file.configurations.keys().flat_map(|name| wanted(file, names, name, 1).services).collect();
    Wanted { services, direct_access: Vec::new() }
}

/// What the kernel is to hold of one configuration.
pub(crate) fn wanted(file: &File, names: &Names, configuration: &str, epoch: u64) -> Wanted {
    let services = file.configurations.get(configuration).map_or(&[][..], Vec::as_slice);
    Wanted {
        services: services.iter().map(|service| WantedService { epoch, ..service_of(service, names) }).collect(),
        direct_access: file.direct_access.iter().map(|prefix| (prefix.address, prefix.length)).collect(),
    }
}

fn service_of(service: &Service, names: &Names) -> WantedService {
    let place = |name: &str| {
        let found = service.versions.iter().position(|version| version.name == name);
        found.unwrap_or_else(|| panic!("{} has no version `{name}`", service.name)) as u8
    };
    let bucket = |bucket: &Bucket| {
        let (current, home) = (place(&bucket.current), place(&bucket.home));
        // The flag means the one where both are the same, and the other where they are not.
        let flag = if current == home { bucket.looks } else { bucket.pins };
        Arc::from(vec![kernel::Bucket::new(current, home, flag, bucket.differs); usize::from(BUCKETS)])
    };
    WantedService {
        id: ServiceId(names.services[&service.name]),
        vip: (service.vip),
        ports: service.ports.clone(),
        protocol: service.protocol,
        quic: service.quic,
        forwarding: service.forwarding,
        source_pool: service.source_pool.clone(),
        affinity: service.affinity,
        announce: service.announce,
        versions: service.versions.iter().map(|it| version_of(service, it, place(&it.name), &place, names)).collect(),
        buckets: match service.split {
            Some(split) => WantedBuckets::Split(kernel::Split { offset: split.offset, threshold: split.threshold }),
            None => WantedBuckets::Cells(service.buckets.iter().map(bucket).collect()),
        },
        segments: service.segments.as_ref().map(|segments| segments_of(segments, &service.ports)),
        instance: service
            .instance
            .as_ref()
            .map(|instance| WantedInstance { backend: names.backend(&instance.backend), segment: instance.segment }),
        ..WantedService::default()
    }
}

fn version_of(
    service: &Service,
    version: &Version,
    own_place: u8,
    place: &impl Fn(&str) -> u8,
    names: &Names,
) -> WantedVersion {
    let backends = version.backends.iter().map(|backend| WantedBackend {
        state: match backend.state {
            State::Up => BackendState::Up,
            State::Draining => BackendState::Draining,
            State::DownReset => BackendState::Down { resets: true },
            State::DownKeep => BackendState::Down { resets: false },
        },
        ..WantedBackend::up(names.backend(&backend.name), backend.address, backend.port)
    });
    WantedVersion {
        id: VersionId(names.versions[&(service.name.clone(), version.name.clone())]),
        place: own_place,
        backends: backends.collect(),
        slots: slots_of(&version.slots, names),
        existing: match version.existing_flows {
            ExistingFlows::Stay => kernel::ExistingFlows::Stay,
            ExistingFlows::Reset => kernel::ExistingFlows::Reset,
            ExistingFlows::Move => kernel::ExistingFlows::Move,
        },
        failover: version.failover.as_deref().map(place),
    }
}

fn slots_of(slots: &Slots, names: &Names) -> WantedSlots {
    let repeated = |pattern: &[Option<String>]| -> Arc<[BackendId]> {
        let ids: Vec<BackendId> =
            pattern.iter().map(|name| name.as_deref().map_or(BackendId::NONE, |name| names.backend(name))).collect();
        ids.into_iter().cycle().take(SLOTS).collect()
    };
    let settled = WantedSlots::settled(repeated(&slots.current));
    let home = slots.home.as_deref().map_or_else(|| Arc::clone(&settled.current), repeated);
    if home == settled.current && !slots.looks {
        return settled;
    }
    let bits = |current: &BackendId, home: &BackendId| {
        let unsettled = if current == home { 0 } else { SlotState::UNSETTLED | SlotState::LOOKS };
        let looks = if slots.looks { SlotState::LOOKS } else { 0 };
        SlotState(unsettled | looks | if slots.pins && unsettled != 0 { SlotState::PINS } else { 0 })
    };
    let states = settled.current.iter().zip(home.iter()).map(|(current, home)| bits(current, home)).collect();
    WantedSlots { current: settled.current, home, states: Some(states) }
}

fn segments_of(segments: &Segments, ports: &[u16]) -> WantedSegments {
    let prefix = |it: &SourcePrefix| WantedPrefix {
        address: it.prefix.address,
        length: it.prefix.length,
        current: it.current,
        home: it.home,
        state: SlotState(if it.current == it.home { 0 } else { SlotState::UNSETTLED | SlotState::LOOKS }),
    };
    WantedSegments {
        prefixes: segments.prefixes.iter().map(prefix).collect(),
        classes: segments.classes.iter().map(|class| class_of(class, ports)).collect(),
        by_dscp: segments.by_dscp,
    }
}

fn class_of(class: &Class, ports: &[u16]) -> Vec<u8> {
    let mut segments = vec![class.segment; PORTS * 128];
    let applies = |rule: &Rule, port: u16, dscp: u8| {
        rule.port.is_none_or(|wanted| wanted == port) && rule.dscp.is_none_or(|wanted| wanted == dscp)
    };
    for (port_class, port) in ports.iter().enumerate() {
        for dscp in 0..=NO_DSCP {
            for rule in class.rules.iter().filter(|rule| applies(rule, *port, dscp)) {
                segments[SegmentClass::index(port_class as u8, dscp)] = rule.segment;
            }
        }
    }
    segments
}
