//! Records of backends. Who a backend is stays the same under its id; what becomes of its packets is one word, and the epoch
//! another, both written in place. Next hops belong to the thread that follows the neighbours.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem::offset_of,
    net::IpAddr,
};

use grayxdp_common::{
    ipv6::{Address6, Ends6},
    records::{BackendRecord, NextHop, Target, TunnelKind},
};

use super::{
    Memory, Tables,
    entries::{address6, raw, raw6},
    live::Live,
};
use crate::model::{
    config::{Affinity, Forwarding, Tunnel, width},
    kernel::{BackendId, BackendState, ExistingFlows, WantedBackend, WantedService, WantedVersion},
};

/// The word of flags, sample rate and guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Manner {
    flags: u16,
    sample_rate: u16,
    guard: u32,
}

impl Manner {
    const fn of(record: &BackendRecord) -> Self {
        Self { flags: record.flags, sample_rate: record.sample_rate, guard: record.guard }
    }

    const fn word(self) -> u64 {
        let ([a, b], [c, d], [e, f, g, h]) =
            (self.flags.to_ne_bytes(), self.sample_rate.to_ne_bytes(), self.guard.to_ne_bytes());
        u64::from_ne_bytes([a, b, c, d, e, f, g, h])
    }

    const fn with(self, flags: u16) -> Self {
        Self { flags: self.flags | flags, ..self }
    }

    /// With the greater sample rate of both: until the switch flows of either rate are answered.
    fn with_rate_of(self, other: Self) -> Self {
        Self { sample_rate: self.sample_rate.max(other.sample_rate), ..self }
    }

    const fn without(self, flags: u16) -> Self {
        Self { flags: self.flags & !flags, ..self }
    }
}

/// Who a backend is: its record, both its ends if they are of IPv6, and what else there is to a packet that keeps its virtual endpoint.
type Identity = (BackendRecord, Ends6, Target);

/// Who a backend is. Ends of two families are checked for: see [`super::check`].
fn identity(service: &WantedService, version: &WantedVersion, backend: &WantedBackend) -> Identity {
    match service.forwarding {
        Forwarding::Nat | Forwarding::FullNat => {
            let (record, ends) = rewritten(service, version, backend);
            (record, ends, Target::default())
        }
        Forwarding::Dsr => kept(service, version, backend),
        Forwarding::Ipip => {
            let (record, ends, target) = kept(service, version, backend);
            (record, ends, in_tunnel(target, &service.tunnel, backend.address))
        }
    }
}

/// The same by a tunnel.
fn in_tunnel(target: Target, tunnel: &Tunnel, backend: IpAddr) -> Target {
    let prefix = tunnel.source(backend);
    // The last word of the address: all of an IPv4 one.
    let free = u32::from(width(prefix.address) - prefix.length);
    Target {
        source: mapped(prefix.address),
        spread: u32::MAX.checked_shr(32_u32.saturating_sub(free)).unwrap_or(0).to_be(),
        tunnel: if backend.is_ipv4() { TunnelKind::Ipv4 } else { TunnelKind::Ipv6 } as u32,
        way_mtu: tunnel.mtu.map_or(0, u32::from),
        ..target
    }
}

/// A backend whose packets keep the virtual endpoint.
fn kept(service: &WantedService, version: &WantedVersion, backend: &WantedBackend) -> Identity {
    let target = Target { address: mapped(backend.address), ..Target::default() };
    let (address, ends) = match service.vip {
        IpAddr::V4(vip) => (raw(vip), Ends6::default()),
        IpAddr::V6(vip) => (0, Ends6 { address: raw6(vip), virtual_address: raw6(vip) }),
    };
    let record = BackendRecord::one_way(service.id, version.id, address);
    (BackendRecord { place: version.place, ..record }, ends, target)
}

/// An address of either family as one of IPv6.
fn mapped(address: IpAddr) -> Address6 {
    match address {
        IpAddr::V4(address) => raw6(address.to_ipv6_mapped()),
        IpAddr::V6(address) => raw6(address),
    }
}

/// A backend whose packets are rewritten to it.
fn rewritten(service: &WantedService, version: &WantedVersion, backend: &WantedBackend) -> (BackendRecord, Ends6) {
    let (port, virtual_port) = (backend.port.to_be(), service.ports.first().copied().unwrap_or(0).to_be());
    let place = version.place;
    match (service.vip, backend.address) {
        (IpAddr::V6(vip), IpAddr::V6(address)) => {
            let ends = Ends6 { address: raw6(address), virtual_address: raw6(vip) };
            (BackendRecord { place, ..BackendRecord::new6(service.id, version.id, &ends, virtual_port, port) }, ends)
        }
        (IpAddr::V4(vip), IpAddr::V4(address)) => {
            let record = BackendRecord::new(service.id, version.id, (raw(vip), virtual_port), (raw(address), port));
            (BackendRecord { place, ..record }, Ends6::default())
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            unreachable!("`check` refuses backends of another family")
        }
    }
}

/// How a backend is to be dealt with once its service is live; but for marks of the epoch before.
fn manner(service: &WantedService, version: &WantedVersion, backend: &WantedBackend, live: &Live) -> Manner {
    let guard = service.guard.filter(|guard| [guard.candidate, guard.stable].contains(&version.place));
    let is = |place: Option<u8>| place == Some(version.place);
    let state = match backend.state {
        BackendState::Up | BackendState::Draining => 0,
        BackendState::Down { resets: false } => BackendRecord::FLAG_DOWN,
        BackendState::Down { resets: true } => BackendRecord::FLAG_DOWN | BackendRecord::FLAG_RESETS,
    };
    let flags = [
        (live.detail.is_some(), BackendRecord::FLAG_WATCHED),
        (service.affinity == Affinity::Client, BackendRecord::FLAG_CLIENT_AFFINITY),
        (is(guard.map(|guard| guard.candidate)), BackendRecord::FLAG_CANDIDATE),
        (is(guard.map(|guard| guard.stable)), BackendRecord::FLAG_STABLE),
        (guard.is_some_and(|guard| guard.no_stable), BackendRecord::FLAG_NO_STABLE),
        (service.measures, BackendRecord::FLAG_MEASURES),
        (version.existing == ExistingFlows::Reset, BackendRecord::FLAG_ENDS),
        (version.existing == ExistingFlows::Move, BackendRecord::FLAG_MOVES),
        (service.quic, BackendRecord::FLAG_QUIC),
        (!service.forwarding.sees_answers(), BackendRecord::FLAG_ONE_WAY),
        (service.forwarding == Forwarding::Ipip, BackendRecord::FLAG_TUNNEL),
    ];
    let index = live.detail.map_or(0, |detail| detail.guard);
    Manner { flags: state, sample_rate: service.sample_rate, guard: guard.map_or(0, |_| index) }
        .with(flags.into_iter().filter(|(is_set, _)| *is_set).fold(0, |all, (_, flag)| all | flag))
}

impl Tables {
    /// Before the switch: who new backends are; all are watched from now on if they are to be, and marks of the epoch before
    /// count no more where the epoch is about to change.
    pub(super) fn prepare_backends(&mut self, service: &WantedService, live: &Live) {
        let backends = service.versions.iter().flat_map(|version| &version.backends);
        if backends.clone().any(|backend| self.leaving.contains_key(&backend.id)) {
            self.pools.grace().wait();
            self.leaving.clear();
        }
        let old = self.live.get(&service.id);
        for version in &service.versions {
            for backend in &version.backends {
                let (identity, ends, target) = identity(service, version, backend);
                let manner = manner(service, version, backend, live);
                let index = u32::from(backend.id.0);
                if self.memory.ends.read(index) != ends {
                    self.memory.ends.write(index, &ends);
                }
                let is_tunnel = service.forwarding == Forwarding::Ipip;
                let target = if is_tunnel { self.reached(target) } else { target };
                if self.memory.targets.read(index) != target {
                    self.memory.targets.write(index, &target);
                }
                if !self.backends.contains_key(&backend.id) {
                    let next_hop = match service.forwarding {
                        Forwarding::Nat | Forwarding::FullNat => self.hop(backend.address, true),
                        Forwarding::Dsr => self.hop(backend.address, false),
                        Forwarding::Ipip => NextHop::UNKNOWN,
                    };
                    let Manner { flags, sample_rate, guard } = manner;
                    let epoch = service.epoch;
                    let record = BackendRecord { next_hop, flags, sample_rate, guard, epoch, ..identity };
                    self.memory.backends.write(index, &record);
                    continue;
                }
                let now = self.memory.backends.read(index);
                let kept = if old.is_some_and(|old| old.record.epoch == live.record.epoch) {
                    BackendRecord::FLAG_WATCHED | BackendRecord::FLAG_PREVIOUS_EPOCH
                } else {
                    BackendRecord::FLAG_WATCHED
                };
                let manner = manner.with(now.flags & kept).with_rate_of(Manner::of(&now));
                let BackendRecord { next_hop, flags, sample_rate, guard, epoch, .. } = now;
                let record = BackendRecord { next_hop, flags, sample_rate, guard, epoch, ..identity };
                self.memory.backends.write(index, &record);
                self.memory.write_manner(index, Manner::of(&now), manner);
            }
        }
    }

    /// After the switch: nothing that is not looked up is watched, and the new epoch counts. `continues`: it follows the old
    /// one, so that marks of that still count.
    pub(super) fn settle_backends(&self, service: &WantedService, live: &Live, change: EpochChange) {
        for version in &service.versions {
            for backend in &version.backends {
                let index = u32::from(backend.id.0);
                let now = self.memory.backends.read(index);
                if now.epoch != service.epoch {
                    self.memory.backends.store(index, offset_of!(BackendRecord, epoch), service.epoch);
                }
                let manner = manner(service, version, backend, live).without(BackendRecord::FLAG_PREVIOUS_EPOCH);
                let manner = manner.with(match change {
                    EpochChange::None => now.flags & BackendRecord::FLAG_PREVIOUS_EPOCH,
                    EpochChange::Next => BackendRecord::FLAG_PREVIOUS_EPOCH,
                    EpochChange::Other => 0,
                });
                self.memory.write_manner(index, Manner::of(&now), manner);
            }
        }
    }

    /// Tells the tables where backends are reached now, and by which interfaces only the kernel reaches some.
    pub(in crate::datapath) fn set_next_hops(
        &mut self,
        hops: HashMap<IpAddr, NextHop>,
        by_kernel: BTreeMap<IpAddr, u32>,
        behind_routers: BTreeSet<IpAddr>,
        mtus: BTreeMap<u32, u32>,
    ) {
        (self.hops, self.by_kernel, self.behind_routers, self.mtus) = (hops, by_kernel, behind_routers, mtus);
        for (id, address) in &self.backends {
            let index = u32::from(id.0);
            if self.has(*id, BackendRecord::FLAG_TUNNEL) {
                let target = self.memory.targets.read(index);
                self.write_target(index, &target, &self.reached(target));
            } else {
                self.write_next_hop(*id, &self.hop(*address, !self.has(*id, BackendRecord::FLAG_ONE_WAY)));
            }
        }
    }

    /// Whether a backend's record has a flag.
    pub(super) fn has(&self, id: BackendId, flag: u16) -> bool {
        self.memory.backends.read(u32::from(id.0)).flags & flag != 0
    }

    /// The end of a tunnel as it is reached now.
    fn reached(&self, target: Target) -> Target {
        let address = address6(target.address).to_canonical();
        let next_hop = self.hop(address, true);
        let link = self.mtus.get(&next_hop.interface).copied().unwrap_or(0);
        let tunnel = Tunnel { mtu: u16::try_from(target.way_mtu).ok().filter(|mtu| *mtu != 0), ..Tunnel::default() };
        Target { next_hop, mtu: tunnel.inner_mtu(address, link), ..target }
    }

    fn write_target(&self, index: u32, now: &Target, wanted: &Target) {
        let targets = &self.memory.targets;
        if now.next_hop != wanted.next_hop {
            for (at, word) in [0, 8].into_iter().zip(wanted.next_hop.words()) {
                targets.store(index, offset_of!(Target, next_hop) + at, word);
            }
        }
        if now.mtu != wanted.mtu {
            let word = u64::from(wanted.mtu) | u64::from(wanted.way_mtu) << 32;
            targets.store(index, offset_of!(Target, mtu), word);
        }
    }

    /// Where packets to a backend leave. One that keeps its virtual address cannot pass a router, which would send it back here.
    pub(super) fn hop(&self, address: IpAddr, may_be_routed: bool) -> NextHop {
        if !may_be_routed && self.behind_routers.contains(&address) {
            return NextHop::UNKNOWN;
        }
        self.hops.get(&address).copied().unwrap_or(NextHop::UNKNOWN)
    }

    fn write_next_hop(&self, id: BackendId, hop: &NextHop) {
        let (offset, words) = (offset_of!(BackendRecord, next_hop), hop.words());
        if self.memory.backends.read(u32::from(id.0)).next_hop != *hop {
            self.memory.backends.store(u32::from(id.0), offset, words[0]);
            self.memory.backends.store(u32::from(id.0), offset + 8, words[1]);
        }
    }
}

impl Memory {
    fn write_manner(&self, index: u32, now: Manner, manner: Manner) {
        if now != manner {
            self.backends.store(index, offset_of!(BackendRecord, flags), manner.word());
        }
    }
}

/// How a service's epoch changes with a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EpochChange {
    /// It stays.
    None,
    /// To the one after it, with signals at the same places.
    Next,
    /// To any other, or to signals at other places.
    Other,
}

impl EpochChange {
    /// From one record to the next.
    pub(super) fn between(old: Option<&Live>, new: &Live) -> Self {
        let Some(old) = old else { return Self::Other };
        let is_in_place = old.record.signals == new.record.signals && old.segments() == new.segments();
        match new.record.epoch.checked_sub(old.record.epoch) {
            Some(0) if is_in_place => Self::None,
            Some(1) if is_in_place => Self::Next,
            Some(_) | None => Self::Other,
        }
    }
}
