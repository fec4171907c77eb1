//! `explain`: the way of one packet, in names.

use std::net::{SocketAddrV4, UdpSocket};

use grayxdp_common::{
    explanation::{Explanation, Step},
    records::NextHop,
};

use crate::{
    daemon::owner::Owner,
    model::{
        api::{ApiError, Explained},
        config::Protocol,
        kernel::{BackendId, Question, Reason, ServiceId, VersionId},
    },
};

impl Owner {
    pub(super) fn explain(
        &mut self,
        source: SocketAddrV4,
        destination: SocketAddrV4,
        protocol: Protocol,
        dscp: u8,
    ) -> Result<Explained, ApiError> {
        let way = self.kernel.explain(source, destination, protocol, Question::First { dscp });
        let way = way.map_err(|error| ApiError::failed(error.to_string()))?;
        let seen: Explanation = way.explanation;
        let ids = &self.layout.ids;
        let came = |step: Step| seen.step >= step as u32;
        let chosen = came(Step::Service).then_some(());
        let backend = came(Step::Backend).then_some(());
        Ok(Explained {
            fate: fate(way.reason, &seen).to_owned(),
            reason: way.reason.map(|reason| reason.label().to_owned()),
            service: ids.service_name(ServiceId(seen.service)).cloned(),
            hash: chosen.map(|()| format!("{:016x}", seen.hash)),
            bucket: chosen.map(|()| seen.bucket),
            version: ids.version_key(VersionId(seen.version)).map(|key| key.version.clone()),
            slot: backend.map(|()| seen.slot),
            backend: ids.backend_key(BackendId(seen.backend)).map(|key| key.address),
            next_hop: Some(seen.next_hop).filter(NextHop::is_known).map(|hop| said(&hop)),
            epoch: chosen.map(|()| seen.epoch),
        })
    }
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

/// `eth1 via 02:00:00:00:00:01`.
fn said(hop: &NextHop) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0");
    let name = socket.and_then(|socket| Ok(rustix::net::netdevice::index_to_name(&socket, hop.interface)?));
    let interface = name.unwrap_or_else(|_| format!("interface {}", hop.interface));
    let octets: Vec<_> = hop.destination().iter().map(|octet| format!("{octet:02x}")).collect();
    format!("{interface} via {}", octets.join(":"))
}
