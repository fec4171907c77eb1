//! `explain`: the way of one packet, in names.

use std::net::{SocketAddr, UdpSocket};

use grayxdp_common::{
    explanation::{Explanation, Step, Turn},
    records::NextHop,
};

use crate::{
    balance::ids::BackendKey,
    daemon::owner::Owner,
    model::{
        api::{ApiError, Explained},
        config::{DEFAULT_SEGMENT, Protocol},
        kernel::{BackendId, Question, Reason, ServiceId, VersionId, Way},
    },
};

/// Client, virtual endpoint, protocol.
type Flow = (SocketAddr, SocketAddr, Protocol);

/// Greatest DSCP: six bits.
const MAX_DSCP: u8 = 63;

impl Owner {
    /// The way of a flow's first packet, and of one in progress; only of the latter with `later`.
    pub(super) fn explain(&mut self, flow: Flow, dscp: u8, later: bool) -> Result<Explained, ApiError> {
        if dscp > MAX_DSCP {
            return Err(ApiError::input(format!("DSCP {dscp}; use 0 to {MAX_DSCP}")));
        }
        let in_progress = self.explain_one(flow, Question::Later)?;
        if later {
            return Ok(in_progress);
        }
        let first = self.explain_one(flow, Question::First { dscp })?;
        Ok(Explained { later: Some(Box::new(in_progress)), ..first })
    }

    fn explain_one(&mut self, flow: Flow, question: Question) -> Result<Explained, ApiError> {
        let (source, destination, protocol) = flow;
        let way = self.kernel.explain(source, destination, protocol, question);
        let way = way.map_err(|error| ApiError::failed(error.to_string()))?;
        Ok(self.told_way(&way, destination, matches!(question, Question::First { .. })))
    }

    /// A way in names; `destination` is the packet's, which a backend may keep the port of.
    pub(super) fn told_way(&self, way: &Way, destination: SocketAddr, is_first: bool) -> Explained {
        let seen: Explanation = way.explanation;
        let ids = &self.layout.ids;
        let came = |step: Step| seen.step >= step as u32;
        let chosen = came(Step::Service).then_some(());
        let backend = came(Step::Backend).then_some(());
        let segment = if is_first { seen.current_segment } else { seen.home_segment };
        Explained {
            fate: fate(way.reason, &seen).to_owned(),
            reason: way.reason.map(|reason| reason.label().to_owned()),
            service: ids.service_name(ServiceId(seen.service)).cloned(),
            hash: chosen.map(|()| format!("{:016x}", seen.hash)),
            bucket: chosen.map(|()| seen.bucket),
            version: ids.version_key(VersionId(seen.version)).map(|key| key.version.clone()),
            slot: backend.map(|()| seen.slot),
            backend: ids.backend_key(BackendId(seen.backend)).map(|key| end(key, destination)),
            next_hop: Some(seen.next_hop).filter(NextHop::is_known).map(|hop| said(&hop)),
            epoch: chosen.map(|()| seen.epoch),
            segment: chosen.and_then(|()| self.segment(ServiceId(seen.service), segment)),
            choice: self.named(seen.current_backend, destination),
            home: self.named(seen.home_backend, destination),
            entry: self.named(seen.entry_backend, destination),
            turns: turns(seen.turns),
            later: None,
        }
    }

    /// `v2/10.0.2.1:8080`; none for no backend.
    fn named(&self, backend: u16, destination: SocketAddr) -> Option<String> {
        let key = self.layout.ids.backend_key(BackendId(backend))?;
        Some(format!("{}/{}", key.version, end(key, destination)))
    }

    /// The name of a segment; none where the service has only the default one.
    fn segment(&self, service: ServiceId, number: u8) -> Option<String> {
        let record = self.layout.services.get(self.layout.ids.service_name(service)?)?;
        let known = record.segments.iter().find(|(_, segment)| segment.number == number);
        match known {
            Some((name, _)) => Some(name.to_string()),
            None if record.instance == Some(number) => Some("the canary instance's".to_owned()),
            None if record.segments.is_empty() && record.instance.is_none() => None,
            None => Some(DEFAULT_SEGMENT.to_owned()),
        }
    }
}

/// Where a backend is met by a packet for a virtual endpoint.
fn end(key: &BackendKey, destination: SocketAddr) -> SocketAddr {
    let port = if key.address.port() == 0 { destination.port() } else { key.address.port() };
    SocketAddr::new(key.address.ip(), port)
}

/// What decided, in words.
fn turns(bits: u64) -> Vec<String> {
    Turn::ALL.iter().filter(|turn| bits & turn.bit() != 0).map(|turn| turn.label().to_owned()).collect()
}

fn fate(reason: Option<Reason>, seen: &Explanation) -> &'static str {
    use grayxdp_common::reason::Fate;
    match reason.map(Reason::fate) {
        Some(Fate::Dropped) => "dropped",
        Some(Fate::Passed) => "passed",
        Some(Fate::Answered) => "answered",
        None if seen.step == Step::NotOurs as u32 => "passed",
        None => "forwarded",
    }
}

/// The name of an interface of this host, by its index.
pub(super) fn interface_name(index: u32) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0");
    let name = socket.and_then(|socket| Ok(rustix::net::netdevice::index_to_name(&socket, index)?));
    name.unwrap_or_else(|_| format!("interface {index}"))
}

/// `eth1 via 02:00:00:00:00:01`.
fn said(hop: &NextHop) -> String {
    let interface = interface_name(hop.interface);
    let octets: Vec<_> = hop.destination().iter().map(|octet| format!("{octet:02x}")).collect();
    format!("{interface} via {}", octets.join(":"))
}
