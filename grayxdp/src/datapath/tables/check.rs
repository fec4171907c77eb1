//! Whether what is wanted can be held at all, and whether these maps have room for it.

use grayxdp_common::{
    BUCKETS, SLOTS,
    cells::{PORTS, SEGMENTS, VERSIONS},
};

use super::{super::directory, Memory, Tables, TablesError, entries::wanted_entries, segments::has_doubles};
use crate::{
    datapath::Capacity,
    model::config::Forwarding,
    model::kernel::{ExistingFlows, Wanted, WantedBuckets, WantedService, WantedVersion},
};

/// Refuses what no maps could hold: a fault of the caller.
pub(in crate::datapath) fn check(wanted: &Wanted) -> Result<(), TablesError> {
    wanted.services.iter().try_for_each(|service| {
        let wrong = |what: &str| TablesError::Wrong(format!("service {}: {what}", service.id.0));
        check_family(service)
            .and_then(|()| check_versions(service))
            .and_then(|()| check_buckets(service))
            .map_err(wrong)
    })
}

fn check_family(service: &WantedService) -> Result<(), &'static str> {
    let is_ipv4 = service.vip.is_ipv4();
    let takes_both = is_ipv4 && service.forwarding == Forwarding::Ipip;
    let prefixes = service.segments.iter().flat_map(|segments| segments.prefixes.iter());
    let mut others = prefixes.filter(|prefix| prefix.length > 0 && prefix.address.is_ipv4() != is_ipv4);
    let mut backends = service.versions.iter().flat_map(|version| &version.backends);
    if others.next().is_some() || backends.any(|backend| backend.address.is_ipv4() != is_ipv4 && !takes_both) {
        Err("its addresses are of two families")
    } else {
        Ok(())
    }
}

fn check_versions(service: &WantedService) -> Result<(), &'static str> {
    let mut places: Vec<_> = service.versions.iter().map(|version| version.place).collect();
    places.sort_unstable();
    places.dedup();
    let is_place = |place: u8| places.binary_search(&place).is_ok();
    let has_all_slots = |version: &WantedVersion| {
        let slots = &version.slots;
        slots.current.len() >= SLOTS
            && slots.home.len() >= SLOTS
            && slots.states.as_ref().is_none_or(|states| states.len() >= SLOTS)
    };
    if places.len() != service.versions.len() || places.last().is_some_and(|last| usize::from(*last) >= VERSIONS) {
        Err("its versions have no places of their own")
    } else if !(1..=PORTS).contains(&service.ports.len()) {
        Err("it has no ports, or too many")
    } else if !service.versions.iter().all(has_all_slots) {
        Err("a version lacks slots")
    } else if service.versions.iter().filter_map(|version| version.failover).any(|place| !is_place(place)) {
        Err("the version that takes over is none of its own")
    } else if service.guard.is_some_and(|guard| !is_place(guard.candidate) || !is_place(guard.stable)) {
        Err("the guard is for versions that are none of its own")
    } else {
        Ok(())
    }
}

fn check_buckets(service: &WantedService) -> Result<(), &'static str> {
    match &service.buckets {
        WantedBuckets::Split(_) => {
            let is_plain = |version: &WantedVersion| {
                version.slots.states.is_none() && version.existing == ExistingFlows::Stay && version.failover.is_none()
            };
            if service.versions.iter().all(is_plain)
                && service.segments.is_none()
                && service.instance.is_none()
                && service.guard.is_none()
            {
                Ok(())
            } else {
                Err("what is unsettled, has segments, a canary instance or a guard needs its buckets one by one")
            }
        }
        WantedBuckets::Cells(cells) => {
            let has_all_buckets = cells.iter().all(|buckets| buckets.len() == usize::from(BUCKETS));
            let has_segments = match &service.segments {
                Some(segments) => {
                    !segments.classes.is_empty()
                        && segments.classes.iter().all(|class| class.len() == PORTS * 128)
                        && !has_doubles(&segments.prefixes)
                }
                None => cells.len() == 1,
            };
            if !(1..=SEGMENTS).contains(&cells.len()) || !has_all_buckets {
                Err("its segments lack buckets")
            } else if !has_segments {
                Err("nothing says how its segments are found")
            } else if service.instance.is_some_and(|instance| usize::from(instance.segment) >= cells.len()) {
                Err("its canary instance is for a segment that it does not have")
            } else {
                Ok(())
            }
        }
    }
}

impl Tables {
    /// Whether the maps have room for what is wanted.
    pub(in crate::datapath) fn has_room_for(&self, wanted: &Wanted) -> bool {
        self.check_room(wanted).is_ok()
    }

    pub(super) fn check_room(&self, wanted: &Wanted) -> Result<(), TablesError> {
        let Memory { services, backends, slots, buckets, states, stamps, classes, guards, .. } = &self.memory;
        let need = Capacity::of(wanted);
        let full = [
            (need.services * 2 >= services.len(), "so many services"),
            (need.backends >= backends.len(), "so many backends"),
            (need.slot_tables >= slots.len(), "so many versions"),
            (need.bucket_tables >= buckets.len(), "so many unsettled services"),
            (need.slot_states >= states.len(), "so many unsettled versions"),
            (need.stamps >= stamps.len(), "so many unsettled services"),
            (need.classes > classes.len(), "so many segments"),
            (need.guards >= guards.len(), "so many guards"),
            (need.signals > self.memory.signal_places(), "so many signals"),
            (need.translates && self.memory.pools.translations.len() <= 1, "the flows of full-nat"),
            (need.translates && need.services >= self.memory.pools.pools.len(), "so many pools"),
        ];
        if let Some((_, what)) = full.into_iter().find(|(is_full, _)| *is_full) {
            return Err(TablesError::Full(what));
        }
        let pooled = self.pooled(wanted)?;
        let keys: Vec<_> = wanted_entries(wanted, &self.local, self.keys(), &pooled, |_| 0).into_iter().collect();
        directory::build(&keys, 0, self.region_log2).map(drop).ok_or(TablesError::Full("so many endpoints"))
    }
}
