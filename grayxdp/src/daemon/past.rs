//! What was: the tables of the data path as they were at a time, and what the journal knows of a rollout.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use grayxdp_common::{
    hash::{Flow, FlowHash, HashKey},
    ipv6::{Address as _, Address6},
};

use crate::{
    daemon::{names::not_found, owner::Owner, rollouts::read_state},
    model::{
        Name, Weight,
        api::{ApiError, AppliedWeights, Explained, RolloutRecord},
        config::{Affinity, DEFAULT_SEGMENT, Match, Protocol, Service},
        time,
    },
    store::{Applied, ServiceRecord},
};

/// Tables that wait for the journal; the oldest goes where there are more.
const MOST_WAITING: usize = 4_096;

/// What was put into the data path and is not in the journal's history yet.
#[derive(Debug, Default)]
pub(super) struct Past {
    waiting: Vec<Applied>,
    /// The epoch that was noted last, by service.
    noted: BTreeMap<Name, u64>,
}

impl Owner {
    /// Notes what a service has in the data path since now, where that is new.
    pub(super) fn note_applied(&mut self, service: &Name) {
        let Some(record) = self.layout.services.get(service) else { return };
        if self.past.noted.insert(service.clone(), record.epoch) == Some(record.epoch) {
            return;
        }
        let time = time::timestamp(self.clock.now().wall);
        let file = record.file.clone().or_else(|| self.layout.service(service).cloned().map(std::sync::Arc::new));
        let record = ServiceRecord { file, ..record.clone() };
        self.past.waiting.push(Applied::of(time, service, &record));
        if self.past.waiting.len() > MOST_WAITING {
            self.past.waiting.remove(0);
        }
    }

    /// Writes what waits; what cannot be written waits on.
    pub(super) fn write_past(&mut self) {
        let services: Vec<_> = self.layout.services.keys().cloned().collect();
        services.iter().for_each(|service| self.note_applied(service));
        if self.past.waiting.is_empty() {
            return;
        }
        let written = self.journal.append_applied(&self.past.waiting);
        if written.is_ok() {
            self.past.waiting.clear();
        }
        self.note_journal(written);
    }

    /// Which version a new flow got at a time, from the tables that the journal has.
    pub(super) fn explain_at(
        &mut self,
        (source, destination, protocol): (SocketAddr, SocketAddr, Protocol),
        dscp: u8,
        at: jiff::Timestamp,
    ) -> Result<Explained, ApiError> {
        if at > time::timestamp(self.clock.now().wall) {
            return Err(ApiError::input(format!("{at} is not past: leave `--at` out to ask about now")));
        }
        self.write_past();
        let tables = self.journal.applied_at(at).map_err(|error| ApiError::failed(error.to_string()))?;
        let meets = |applied: &&Applied| {
            applied.record.file.as_ref().is_some_and(|service| is_met(service, destination, protocol))
        };
        let Some(applied) = tables.iter().filter(meets).max_by_key(|applied| applied.time) else {
            return Err(ApiError::not_found(format!("the journal knows no service at {destination} at {at}")));
        };
        Ok(explained(applied, source, destination, dscp, &self.hash_key))
    }

    /// All that the journal knows of a run of a rollout; of the newest where no number is given.
    pub(super) fn record_of_run(&mut self, name: &Name, number: Option<u64>) -> Result<RolloutRecord, ApiError> {
        self.write_past();
        let failed = |error: crate::store::StoreError| ApiError::failed(error.to_string());
        let all = self.journal.rollouts().map_err(failed)?;
        let mut runs = all.iter().filter(|rollout| rollout.name == *name);
        let wanted = |number: &u64| all.iter().find(|rollout| rollout.name == *name && rollout.number == *number);
        let found = match number {
            None => runs.next(),
            Some(number) => wanted(&number),
        };
        let Some(found) = found else {
            return Err(match number {
                Some(number) if all.iter().any(|rollout| rollout.name == *name) => ApiError::not_found(format!(
                    "rollout {name} has no run {number}; see `grayxdp rollout history {name}`"
                )),
                Some(_) | None => not_found("rollout", name, all.iter().map(|rollout| &rollout.name)),
            });
        };
        let state = read_state(found).map_err(ApiError::failed)?;
        let running = self.engines.get(state.service()).filter(|engine| engine.state.number == found.number);
        let state = running.map_or(state, |engine| engine.state.clone());
        let next = all.iter().rev().find(|rollout| rollout.name == *name && rollout.number > found.number);
        let until = next.map_or(jiff::Timestamp::MAX, |next| next.started);
        let events = self.journal.events_of(name, found.started, until).map_err(failed)?;
        let applied = self.journal.applied_by(found.number).map_err(failed)?;
        let weights = applied.iter().map(|applied| weights_of(applied, state.candidate())).collect();
        let runs = all.iter().filter(|rollout| rollout.name == *name).map(|rollout| rollout.number).collect();
        let (number, plan) = (found.number, found.plan.clone());
        Ok(RolloutRecord { number, runs, status: self.status_of(&state), plan, events, weights })
    }
}

fn weights_of(applied: &Applied, candidate: &Name) -> AppliedWeights {
    let of = |weights: &BTreeMap<Name, Weight>| weights.get(candidate).copied().unwrap_or_default();
    let record = &applied.record;
    let rest: Name = DEFAULT_SEGMENT.parse().expect("a name");
    let own = record.segments.iter();
    let own = own.map(|(name, segment)| (name.clone(), of(segment.weights.as_ref().unwrap_or(&record.weights))));
    let weights = own.chain([(rest, of(&record.weights))]).collect();
    AppliedWeights { time: applied.time, epoch: record.epoch, weights }
}

fn is_met(service: &Service, destination: SocketAddr, protocol: Protocol) -> bool {
    service.vip == destination.ip()
        && service.protocol == protocol
        && service.virtual_ports().contains(&destination.port())
}

/// As the data path chooses: a segment, a bucket, its owner.
fn explained(applied: &Applied, source: SocketAddr, destination: SocketAddr, dscp: u8, key: &HashKey) -> Explained {
    let record = &applied.record;
    let file = record.file.as_deref();
    let is_by_client = file.is_some_and(|service| match service.affinity {
        Affinity::Client => true,
        Affinity::Flow => false,
    });
    let ports = if is_by_client { (0, 0) } else { (source.port().to_be(), destination.port().to_be()) };
    let protocol = file.map_or(Protocol::Tcp, |service| service.protocol).number();
    let hash = hash_of((source.ip(), destination.ip()), ports, protocol, key);
    let segment = file.and_then(|service| segment_of(service, source, destination.port(), dscp));
    let buckets = segment.and_then(|name| record.segments.get(name)).map_or(&record.buckets, |own| &own.buckets);
    let place = buckets.owners()[usize::from(hash.bucket())];
    let version = record.places.iter().find(|(_, own)| **own == place).map(|(name, _)| name.clone());
    let mut turns = vec![format!("the tables of {}", applied.time)];
    if record.instance.is_some() {
        turns.push("clients of a canary instance or a preview went to the candidate all the same".to_owned());
    }
    let has_segments = !record.segments.is_empty();
    Explained {
        fate: "forwarded".to_owned(),
        service: Some(applied.service.clone()),
        hash: Some(format!("{:016x}", hash.0)),
        bucket: Some(hash.bucket()),
        version,
        epoch: Some(record.epoch),
        segment: has_segments.then(|| segment.map_or_else(|| DEFAULT_SEGMENT.to_owned(), ToString::to_string)),
        turns,
        ..Explained::default()
    }
}

/// The data path's hash of a flow, whose ports are in network order; of ends of two families there is no flow.
fn hash_of((source, destination): (IpAddr, IpAddr), ports: (u16, u16), protocol: u8, key: &HashKey) -> FlowHash {
    let (source_port, destination_port) = ports;
    match (source, destination) {
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let [source, destination] = [source, destination].map(|address| Address6::from_bytes(address.octets()));
            Address6::hash(&Flow { source, destination, source_port, destination_port, protocol }, key)
        }
        (source, destination) => {
            let wire = |address: IpAddr| match address {
                IpAddr::V4(address) => u32::from_ne_bytes(address.octets()),
                IpAddr::V6(_) => 0,
            };
            let (source, destination) = (wire(source), wire(destination));
            FlowHash::of(&Flow { source, destination, source_port, destination_port, protocol }, key)
        }
    }
}

/// Among segments that match, the longest source prefix decides, then a port, then a DSCP, then the order in the file.
fn segment_of(service: &Service, source: SocketAddr, port: u16, dscp: u8) -> Option<&Name> {
    let length = |rule: &Match| match rule.sources.is_empty() {
        true => Some(-1),
        false => rule.sources.iter().filter(|prefix| prefix.contains(source.ip())).map(|p| i16::from(p.length)).max(),
    };
    let fits = |rule: &Match| {
        let Match { sources: _, dscp: dscps, ports } = rule;
        (ports.is_empty() || ports.contains(&port)) && (dscps.is_empty() || dscps.contains(&dscp))
    };
    let own = service.segments.iter().enumerate().filter(|(_, segment)| fits(&segment.r#match));
    let ranked = own.filter_map(|(order, segment)| {
        let rule = &segment.r#match;
        let rank = (length(rule)?, !rule.ports.is_empty(), !rule.dscp.is_empty(), std::cmp::Reverse(order));
        Some((rank, &segment.name))
    });
    ranked.max_by_key(|(rank, _)| *rank).map(|(_, name)| name)
}
