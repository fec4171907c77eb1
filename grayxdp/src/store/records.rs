//! What the journal keeps, as types.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    balance::{Home, Ownership, ids::BackendKey},
    model::{Name, Weight, config::Service, kernel::SAMPLE_RATE},
};

/// A service's weights and roles, and who has which of its buckets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRecord {
    /// Its versions in the order of the file.
    pub versions: Vec<Name>,
    /// Where each version stands in the data path, those that leave included. A place is kept for as long as anything
    /// refers to it.
    pub places: BTreeMap<Name, u8>,
    /// Weight of each version of the file.
    pub weights: BTreeMap<Name, Weight>,
    /// The stable version.
    pub stable: Name,
    /// Who owns which bucket for new flows.
    pub buckets: Ownership,
    /// Segments beside the default one, those that leave included.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub segments: BTreeMap<Name, SegmentRecord>,
    /// Number of the segment of a canary instance, for as long as anything refers to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<u8>,
    /// Rises with every applied change of weights.
    pub epoch: u64,
    /// Number of the rollout that set this; 0: none.
    pub rollout: u64,
    /// Flows that are followed in this epoch while a rollout runs, of [`grayxdp_common::records::SAMPLE_ALL`].
    #[serde(default = "rest")]
    pub sample_rate: u16,
    /// Where flows without an exception entry go.
    #[serde(default)]
    pub home: Home,
    /// What the file said of it: the next start may find another file, and what that lacks is to drain.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "shared")]
    pub file: Option<Arc<Service>>,
}

/// The rate where no rollout runs.
const fn rest() -> u16 {
    SAMPLE_RATE
}

/// What is shared in memory is written out in the journal.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        shared: &Option<Arc<T>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        shared.as_deref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Arc<T>>, D::Error> {
        Ok(Option::<T>::deserialize(deserializer)?.map(Arc::new))
    }
}

/// A segment's weights and buckets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentRecord {
    /// Its number in the data path, from 1.
    pub number: u8,
    /// Weights of its own; none: it goes with the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<BTreeMap<Name, Weight>>,
    /// Who owns which bucket for new flows.
    pub buckets: Ownership,
}

/// What the journal knows of a service; at least one of the two is there.
#[derive(Clone, Debug, PartialEq)]
pub struct JournaledService {
    /// Its name.
    pub name: Name,
    /// What the kernel was last known to hold.
    pub applied: Option<ServiceRecord>,
    /// What it was to hold next, and may hold already.
    pub intent: Option<ServiceRecord>,
}

/// What the data path held of a service from a time on.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// Since when.
    pub time: jiff::Timestamp,
    /// The service.
    pub service: Name,
    /// Weights and buckets; without its home tables and backends.
    pub record: ServiceRecord,
}

impl Applied {
    /// Of a record: what says which version a new flow gets, and no more.
    #[must_use]
    pub fn of(time: jiff::Timestamp, service: &Name, record: &ServiceRecord) -> Self {
        let file = record.file.as_deref().map(|file| {
            let mut file = file.clone();
            file.versions.iter_mut().for_each(|version| version.backends.clear());
            Arc::new(file)
        });
        let record = ServiceRecord { home: Home::default(), file, ..record.clone() };
        Self { time, service: service.clone(), record }
    }
}

/// A rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct JournaledRollout {
    /// Unique for ever; from 1.
    pub number: u64,
    /// Its name; several rollouts, one after the other, may have it.
    pub name: Name,
    /// Its plan, as JSON.
    pub plan: serde_json::Value,
    /// The engine's state, as JSON.
    pub state: serde_json::Value,
    /// When it began.
    pub started: jiff::Timestamp,
    /// When it ended.
    pub ended: Option<jiff::Timestamp>,
}

/// What is to be known of a backend after a restart, beyond the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JournaledBackend {
    /// The backend.
    pub key: BackendKey,
    /// What an operator wants of it.
    pub wish: Wish,
    /// Who wanted that.
    pub actor: Option<String>,
    /// Why, as given.
    pub reason: Option<String>,
    /// Whether it answered its health checks.
    pub is_healthy: bool,
    /// Since when it is so, on the wall clock.
    pub since: Duration,
}

/// What an operator wants of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Wish {
    /// Nothing special.
    #[default]
    Enabled,
    /// No new flows.
    Drained,
    /// No flows.
    Disabled,
}
