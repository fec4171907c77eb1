//! Where flows go without an entry, as far as that is settled: for the sweep of the exception table.

use std::{cell::OnceCell, sync::Arc};

use grayxdp_common::BUCKETS;

use super::{
    entry_life::Life,
    tables::{Live, Tables},
};
use crate::model::kernel::{BackendId, Bucket, LeaseEnd, ServiceId, SlotState, WantedBuckets, WantedService};

/// No version: buckets about which segments disagree, or which are not settled.
const NONE: u8 = u8::MAX;

/// The settled defaults of all services, by backend.
pub(super) struct Defaults {
    services: Vec<ServiceDefaults>,
    /// Index in `services` plus one, by backend id.
    by_backend: Vec<u16>,
}

/// The settled defaults of one service.
pub(super) struct ServiceDefaults {
    /// Its number.
    pub(super) id: ServiceId,
    /// How long its entries live.
    pub(super) life: Life,
    source: Arc<WantedService>,
    is_tripped: bool,
    /// Place of the version that owns the bucket now and at home, in all segments; made when it is first asked for.
    settled: OnceCell<Box<[u8]>>,
}

impl Defaults {
    /// Of what is published; none before this process has published.
    pub(super) fn of(tables: &Tables) -> Option<Self> {
        let sources = tables.sources();
        if !tables.live().keys().all(|id| sources.contains_key(id)) {
            return None;
        }
        let tripped: Vec<_> = tables
            .guards()
            .into_iter()
            .filter(|guard| guard.tripped.is_some() || guard.expired.is_some())
            .map(|guard| guard.service)
            .collect();
        let services: Vec<_> = tables
            .live()
            .iter()
            .map(|(id, live)| ServiceDefaults::of(live, &sources[id], tripped.contains(id)))
            .collect();
        let mut by_backend = vec![0; usize::from(u16::MAX) + 1];
        for (index, service) in (1..).zip(&services) {
            let backends = service.source.versions.iter().flat_map(|version| &version.backends);
            backends.for_each(|backend| by_backend[usize::from(backend.id.0)] = index);
        }
        Some(Self { services, by_backend })
    }

    /// The service of a backend.
    pub(super) fn service_of(&self, backend: u16) -> Option<&ServiceDefaults> {
        self.services.get(usize::from(self.by_backend[usize::from(backend)].checked_sub(1)?))
    }
}

impl ServiceDefaults {
    fn of(live: &Live, source: &Arc<WantedService>, is_tripped: bool) -> Self {
        let life = Life::new(source.idle_timeout, source.closing_timeout);
        let source = Arc::clone(source);
        Self { id: live.record.service, life, source, is_tripped, settled: OnceCell::new() }
    }

    /// Place of the version that a settled bucket belongs to.
    fn place(&self, bucket: u16) -> u8 {
        match &self.source.buckets {
            WantedBuckets::Split(split) => split.version_of(bucket) as u8,
            WantedBuckets::Cells(segments) => {
                let made = || settled(segments, lost_place(&self.source, self.is_tripped));
                self.settled.get_or_init(made)[usize::from(bucket & (BUCKETS - 1))]
            }
        }
    }

    /// The backend of a flow without an entry, where bucket and slot are settled.
    pub(super) fn backend(&self, bucket: u16, slot: u16) -> Option<u16> {
        let place = self.place(bucket);
        let versions = &self.source.versions;
        let version = match versions.as_slice() {
            [only] => only,
            versions => versions.iter().find(|version| version.place == place)?,
        };
        let slots = &version.slots;
        let state =
            slots.states.as_ref().map_or(Some(SlotState(0)), |states| states.get(usize::from(slot)).copied())?;
        let backend = *slots.home.get(usize::from(slot))?;
        (!state.has(SlotState::UNSETTLED) && backend != BackendId::NONE).then_some(backend.0)
    }
}

/// Place of the candidate that a guard has turned off: its buckets are unsettled from then on.
fn lost_place(service: &WantedService, is_tripped: bool) -> Option<u8> {
    let guard = service.guard.filter(|guard| is_tripped && !guard.no_stable)?;
    // An expired lease that only holds the weight turns nothing off; to take it for tripped keeps entries a little longer.
    (guard.fuse.is_some() || guard.lease == Some(LeaseEnd::Stable)).then_some(guard.candidate)
}

fn settled(segments: &[Arc<[Bucket]>], lost: Option<u8>) -> Box<[u8]> {
    let owner =
        |bucket: Bucket| if bucket.is_settled() && Some(bucket.current()) != lost { bucket.home() } else { NONE };
    let mut owners: Box<[u8]> =
        segments.first().map_or_else(Box::default, |first| first.iter().copied().map(owner).collect());
    for segment in segments.iter().skip(1) {
        for (place, bucket) in owners.iter_mut().zip(segment.iter()) {
            if *place != owner(*bucket) {
                *place = NONE;
            }
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_settled_where_all_segments_own_it_alike_and_no_guard_has_turned_its_version_off() {
        let buckets = |places: [(u8, u8); 4]| -> Arc<[Bucket]> {
            places.into_iter().map(|(current, home)| Bucket::new(current, home, false, false)).collect()
        };
        let first = buckets([(0, 0), (1, 1), (1, 0), (0, 0)]);
        let second = buckets([(0, 0), (1, 1), (1, 0), (1, 1)]);
        assert_eq!(settled(&[Arc::clone(&first)], None)[..], [0, 1, NONE, 0]);
        assert_eq!(settled(&[Arc::clone(&first), second], None)[..], [0, 1, NONE, NONE]);
        assert_eq!(settled(&[first], Some(1))[..], [0, NONE, NONE, 0]);
    }
}
