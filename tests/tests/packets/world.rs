//! The services and neighbours that all packet cases share, and how a case is run.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use etherparse::{Icmpv4Type, icmpv4::TimeExceededCode};
use grayxdp::model::{
    config::{Affinity, Protocol},
    kernel::{
        BackendCounters, BackendId, Counters, Reason, ServiceId, Split, VersionId, Wanted, WantedBackend,
        WantedBuckets, WantedService, WantedVersion,
    },
};
use grayxdp_common::{SLOTS, records::NextHop};
use grayxdp_tests::{bench::case::verdict, host, packet::Packet, subject::Subject};

/// TCP, announced.
pub(crate) const WEB: ServiceId = ServiceId(1);
/// UDP at the same address.
pub(crate) const NAMES: ServiceId = ServiceId(2);
/// TCP, its backend has no next hop; not announced.
pub(crate) const LOST: ServiceId = ServiceId(3);
/// TCP without any backend.
pub(crate) const EMPTY: ServiceId = ServiceId(4);
/// TCP, its backend is behind another interface.
pub(crate) const FAR: ServiceId = ServiceId(5);
/// TCP at an address that this host also has.
pub(crate) const LOCAL: ServiceId = ServiceId(6);

/// A service's virtual endpoint.
pub(crate) fn vip(service: ServiceId) -> SocketAddrV4 {
    match service.0 {
        1 => endpoint([192, 0, 2, 10], 80),
        2 => endpoint([192, 0, 2, 10], 53),
        n => endpoint([192, 0, 2, 10 + n as u8], 80),
    }
}

/// The only backend of a service.
pub(crate) fn backend(service: ServiceId) -> SocketAddrV4 {
    endpoint([10, 9, 0, service.0 as u8], 8080 + service.0)
}

/// Id of the only backend of a service.
pub(crate) fn backend_id(service: ServiceId) -> BackendId {
    BackendId(service.0 * 10)
}

/// A client behind the gateway.
pub(crate) fn client() -> SocketAddrV4 {
    endpoint([10, 64, 0, 1], 40_000)
}

/// An address and a port.
pub(crate) fn endpoint(address: [u8; 4], port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(address.into(), port)
}

/// Next hop of a service's backend.
pub(crate) fn hop(service: ServiceId) -> NextHop {
    host::hop(if service == FAR { host::FAR } else { host::NEAR }, *backend(service).ip())
}

/// Next hop of most replies.
pub(crate) fn gateway() -> NextHop {
    host::hop(host::NEAR, host::GATEWAY)
}

/// A service with one version that has one backend, or none.
pub(crate) fn service(id: ServiceId, protocol: Protocol, has_backend: bool) -> WantedService {
    let backend = WantedBackend::up(backend_id(id), *backend(id).ip(), backend(id).port());
    let slot = if has_backend { backend.id } else { BackendId::NONE };
    let backends = if has_backend { vec![backend] } else { Vec::new() };
    WantedService {
        id,
        vip: (*vip(id).ip()).into(),
        ports: vec![vip(id).port()],
        protocol,
        affinity: Affinity::Flow,
        announce: id == WEB || id == NAMES,
        versions: vec![WantedVersion::settled(VersionId(id.0), 0, backends, Arc::from(vec![slot; SLOTS]))],
        buckets: WantedBuckets::Split(Split::default()),
        ..WantedService::default()
    }
}

/// Runs a test with all services in place on a host that `more` lines of `ip` add to.
pub(crate) fn in_world(more: &[String], test: impl FnOnce(&mut Subject) + Send) {
    let services = vec![
        service(WEB, Protocol::Tcp, true),
        service(NAMES, Protocol::Udp, true),
        service(LOST, Protocol::Tcp, true),
        service(EMPTY, Protocol::Tcp, false),
        service(FAR, Protocol::Tcp, true),
        service(LOCAL, Protocol::Tcp, true),
    ];
    let mut lines = vec![
        format!("addr add {}/32 dev lo", vip(LOCAL).ip()),
        format!("route add {}/32 dev {}", backend(FAR).ip(), host::name(host::FAR)),
    ];
    lines.extend([WEB, NAMES, FAR, LOCAL].map(|id| host::neighbour(hop(id).interface, *backend(id).ip())));
    lines.extend_from_slice(more);
    on_host(&lines, &Wanted { services, direct_access: Vec::new() }, test);
}

/// Runs a test with some services on a host that `more` lines of `ip` add to.
pub(crate) fn on_host(more: &[String], wanted: &Wanted, test: impl FnOnce(&mut Subject) + Send) {
    let namespace = host::host(more).expect("tests of the kernel need root and `ip`");
    namespace.run(|| test(&mut Subject::open(wanted).expect("tests of the kernel need one that takes the program")));
}

/// Runs all cases of a test in the usual world.
pub(crate) fn run_in_world(cases: &[Case]) {
    in_world(&[], |subject| run(subject, cases));
}

/// What one packet adds to the counters.
pub(crate) type Change = Counters;

/// Nothing is counted.
pub(crate) fn nothing() -> Change {
    Counters::default()
}

/// One packet of a service is counted under a reason.
pub(crate) fn reason(service: ServiceId, reason: Reason) -> Change {
    Counters { reasons: BTreeMap::from([((service, reason), 1)]), ..Counters::default() }
}

/// One packet to a backend is counted, and what its flags add.
pub(crate) fn forward(service: ServiceId, packet: &Packet, flags: BackendCounters) -> Change {
    let counters = BackendCounters { packets_forward: 1, bytes_forward: packet.bytes().len() as u64, ..flags };
    Counters { backends: BTreeMap::from([(backend_id(service), counters)]), ..Counters::default() }
}

/// One packet from a backend is counted, and what its flags add.
pub(crate) fn reverse(service: ServiceId, packet: &Packet, flags: BackendCounters) -> Change {
    let counters = BackendCounters { packets_reverse: 1, bytes_reverse: packet.bytes().len() as u64, ..flags };
    Counters { backends: BTreeMap::from([(backend_id(service), counters)]), ..Counters::default() }
}

/// No flags.
pub(crate) const PLAIN: BackendCounters = BackendCounters {
    packets_forward: 0,
    bytes_forward: 0,
    packets_reverse: 0,
    bytes_reverse: 0,
    syns: 0,
    syn_acks: 0,
    refusals: 0,
    resets_reverse: 0,
    resets_forward: 0,
    fins_forward: 0,
    fins_reverse: 0,
    zero_windows_forward: 0,
    zero_windows_reverse: 0,
    unmarked: 0,
    icmp_errors_forward: 0,
    icmp_errors_reverse: 0,
};

/// One packet and what must become of it.
pub(crate) struct Case {
    /// What it is about.
    pub(crate) name: &'static str,
    /// The packet.
    pub(crate) input: Vec<u8>,
    /// What the program says.
    pub(crate) verdict: u32,
    /// The packet afterwards; of a dropped one nothing is asked.
    pub(crate) output: Vec<u8>,
    /// What is counted.
    pub(crate) change: Change,
}

impl Case {
    /// The packet passes as it came.
    pub(crate) fn untouched(name: &'static str, input: Vec<u8>, change: Change) -> Self {
        Self { name, verdict: verdict::PASS, output: input.clone(), input, change }
    }

    /// The packet is dropped.
    pub(crate) fn dropped(name: &'static str, input: Vec<u8>, change: Change) -> Self {
        Self { name, verdict: verdict::DROP, output: Vec::new(), input, change }
    }

    /// The packet leaves changed.
    pub(crate) fn sent(name: &'static str, verdict: u32, input: &Packet, output: &Packet, change: Change) -> Self {
        Self { name, input: input.bytes(), verdict, output: output.bytes(), change }
    }
}

/// The packet as it goes to a service's backend.
pub(crate) fn to_backend(service: ServiceId, packet: &Packet) -> Packet {
    let hop = hop(service);
    Packet { destination: backend(service), macs: (hop.source(), hop.destination()), ..packet.clone() }
        .with_ttl(packet.ttl - 1)
}

/// The packet as it goes back to the client by a next hop.
pub(crate) fn to_client(service: ServiceId, packet: &Packet, hop: NextHop) -> Packet {
    Packet { source: vip(service), macs: (hop.source(), hop.destination()), ..packet.clone() }.with_ttl(packet.ttl - 1)
}

/// The ICMP error that the program sends about a packet that came in by [`host::NEAR`].
pub(crate) fn error_about(packet: &Packet, from: Ipv4Addr, message: Icmpv4Type) -> Packet {
    let macs = (packet.macs.1, packet.macs.0);
    Packet { macs, identification: 0, dscp: 48, ..Packet::icmp_about(from, message, packet, 28) }
}

/// A packet whose time to live ran out: answered by this host's address.
pub(crate) fn time_exceeded(name: &'static str, packet: &Packet, service: ServiceId) -> Case {
    let message = Icmpv4Type::TimeExceeded(TimeExceededCode::TtlExceededInTransit);
    let answer = error_about(packet, host::NEAR_ADDRESS, message);
    Case::sent(name, verdict::TX, packet, &answer, reason(service, Reason::TimeExceeded))
}

/// Runs all cases and reports every one that fails.
pub(crate) fn run(subject: &mut Subject, cases: &[Case]) {
    let failures: Vec<String> = cases.iter().filter_map(|case| failure_of(subject, case)).collect();
    assert!(failures.is_empty(), "{} of {} cases fail:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

fn failure_of(subject: &mut Subject, case: &Case) -> Option<String> {
    let before = subject.counters().expect("counters can be read");
    let (verdict, output) = subject.run(&case.input, host::NEAR).expect("the kernel runs the packet");
    let after = subject.counters().expect("counters can be read");
    let change = difference(&before, &after);
    if verdict != case.verdict {
        return Some(format!("{}: verdict {verdict}, not {}; counted {change:?}", case.name, case.verdict));
    }
    if verdict != verdict::DROP && output != case.output {
        return Some(format!("{}: packet\n{output:02x?}, not\n{:02x?}", case.name, case.output));
    }
    (change != case.change).then(|| format!("{}: counted {change:?}, not {:?}", case.name, case.change))
}

/// What was counted between two readings; what did not change is left out.
pub(crate) fn difference(before: &Counters, after: &Counters) -> Counters {
    let old = |id: &BackendId| before.backends.get(id).copied().unwrap_or(PLAIN);
    let backends = after.backends.iter().map(|(id, new)| (*id, subtract(new, &old(id))));
    let reasons = after.reasons.iter().map(|(key, new)| (*key, new - before.reasons.get(key).copied().unwrap_or(0)));
    Counters {
        backends: backends.filter(|(_, change)| *change != PLAIN).collect(),
        reasons: reasons.filter(|(_, change)| *change != 0).collect(),
        ..Counters::default()
    }
}

fn subtract(new: &BackendCounters, old: &BackendCounters) -> BackendCounters {
    BackendCounters {
        packets_forward: new.packets_forward - old.packets_forward,
        bytes_forward: new.bytes_forward - old.bytes_forward,
        packets_reverse: new.packets_reverse - old.packets_reverse,
        bytes_reverse: new.bytes_reverse - old.bytes_reverse,
        syns: new.syns - old.syns,
        syn_acks: new.syn_acks - old.syn_acks,
        refusals: new.refusals - old.refusals,
        resets_reverse: new.resets_reverse - old.resets_reverse,
        resets_forward: new.resets_forward - old.resets_forward,
        fins_forward: new.fins_forward - old.fins_forward,
        fins_reverse: new.fins_reverse - old.fins_reverse,
        zero_windows_forward: new.zero_windows_forward - old.zero_windows_forward,
        zero_windows_reverse: new.zero_windows_reverse - old.zero_windows_reverse,
        unmarked: new.unmarked - old.unmarked,
        icmp_errors_forward: new.icmp_errors_forward - old.icmp_errors_forward,
        icmp_errors_reverse: new.icmp_errors_reverse - old.icmp_errors_reverse,
    }
}
