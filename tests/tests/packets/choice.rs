//! The program's choice against the pure functions that user space has.

use std::{collections::BTreeMap, net::SocketAddrV4};

use grayxdp::model::{
    config::{Affinity, Protocol},
    kernel::{
        BackendId, Kernel as _, Question, Split, VersionId, Wanted, WantedBackend, WantedBuckets, WantedService,
        WantedVersion,
    },
};
use grayxdp_common::{
    BUCKETS, SLOTS,
    hash::{Flow, FlowHash},
};
use grayxdp_tests::{
    bench::case::verdict,
    host,
    packet::{Flags, Packet},
    size::Size,
    subject::KEY,
};

use crate::{
    random::Random,
    world::{NAMES, WEB, endpoint, on_host, service, vip},
};

const FLOWS: usize = 100_000;
const BACKENDS: u16 = 3;
/// Cyclic: the second version's buckets begin near the end and go on at the beginning.
const SPLIT: Split = Split { offset: 15_000, threshold: 4_915 };

fn backend(id: BackendId) -> SocketAddrV4 {
    endpoint([10, 9, 1, id.0 as u8], 8000 + id.0)
}

/// A version of three backends whose slots are drawn at random.
fn version(id: u16, random: &mut Random) -> WantedVersion {
    let ids: Vec<BackendId> = (0..BACKENDS).map(|n| BackendId(id * 10 + n)).collect();
    let wanted = |id: &BackendId| WantedBackend::up(*id, *backend(*id).ip(), backend(*id).port());
    let slots = (0..SLOTS).map(|_| random.pick(&ids)).collect();
    WantedVersion::settled(VersionId(id), (id as u8 + 1) % 2, ids.iter().map(wanted).collect(), slots)
}

/// A service over TCP by flow and one over UDP by client, each with two versions.
fn wanted(random: &mut Random) -> Wanted {
    let mut two = |versions: [u16; 2], like: WantedService, affinity| WantedService {
        versions: versions.map(|id| version(id, random)).into(),
        buckets: WantedBuckets::Split(SPLIT),
        affinity,
        ..like
    };
    let web = two([1, 2], service(WEB, Protocol::Tcp, true), Affinity::Flow);
    let names = two([3, 4], service(NAMES, Protocol::Udp, true), Affinity::Client);
    Wanted { services: vec![web, names], direct_access: Vec::new() }
}

fn neighbours(wanted: &Wanted) -> Vec<String> {
    let versions = wanted.services.iter().flat_map(|service| &service.versions);
    versions
        .flat_map(|version| &version.backends)
        .map(|it| host::neighbour(host::NEAR, host::ipv4(it.address)))
        .collect()
}

/// Version index, bucket, slot and backend of a flow by the pure functions.
fn reference(service: &WantedService, client: SocketAddrV4) -> (usize, u16, u16, BackendId) {
    let raw = |address: &std::net::Ipv4Addr| u32::from_ne_bytes(address.octets());
    let ports = match service.affinity {
        Affinity::Flow => (client.port().to_be(), service.ports[0].to_be()),
        Affinity::Client => (0, 0),
    };
    let flow = Flow {
        source: raw(client.ip()),
        destination: raw(&host::ipv4(service.vip)),
        source_port: ports.0,
        destination_port: ports.1,
        protocol: service.protocol.number(),
    };
    let hash = FlowHash::of(&flow, &KEY);
    let index = SPLIT.version_of(hash.bucket());
    (index, hash.bucket(), hash.slot(), service.versions[index].slots.current[usize::from(hash.slot())])
}

fn packet(service: &WantedService, client: SocketAddrV4) -> Packet {
    let to = SocketAddrV4::new(host::ipv4(service.vip), service.ports[0]);
    match service.protocol {
        Protocol::Tcp => Packet::tcp(client, to, Flags::ACK),
        Protocol::Udp => Packet::udp(client, to),
    }
}

fn client(random: &mut Random) -> SocketAddrV4 {
    let [a, b, c, d, e, ..] = random.next().to_le_bytes();
    endpoint([10, 64 | (a & 63), b, c], 1024 + u16::from_le_bytes([d, e]) % 64_000)
}

#[test]
fn random_flows_go_where_the_pure_functions_say() {
    let mut random = Random(1);
    let wanted = wanted(&mut random);
    on_host(&neighbours(&wanted), &wanted, |subject| {
        let mut second = BTreeMap::from([(WEB, 0_u64), (NAMES, 0)]);
        for _ in 0..FLOWS / 2 {
            for service in &wanted.services {
                let client = client(&mut random);
                let (index, .., id) = reference(service, client);
                let (verdict, output) =
                    subject.run(&packet(service, client).bytes(), host::NEAR).expect("the kernel runs the packet");
                assert_eq!(verdict, verdict::TX, "{client}");
                assert_eq!(output[30..34], backend(id).ip().octets(), "{client}: {id:?}");
                assert_eq!(output[36..38], backend(id).port().to_be_bytes(), "{client}: {id:?}");
                *second.entry(service.id).or_default() += index as u64;
            }
        }
        let (n, share) = ((FLOWS / 2) as f64, f64::from(SPLIT.threshold) / f64::from(BUCKETS));
        let deviation = (n * share * (1.0 - share)).sqrt();
        for (service, count) in second {
            let off = (count as f64 - n * share).abs() / deviation;
            assert!(off < 5.0, "{service:?}: {count} of {n} flows, {off} standard deviations from the weight");
        }
    });
}

#[test]
fn a_client_keeps_its_backend_whatever_its_port_with_affinity_to_clients() {
    let mut random = Random(2);
    let wanted = wanted(&mut random);
    let names = &wanted.services[1];
    on_host(&neighbours(&wanted), &wanted, |subject| {
        for _ in 0..20 {
            let address = *client(&mut random).ip();
            let mut first = None;
            for port in (1024..60_000).step_by(1_777) {
                let frame = packet(names, SocketAddrV4::new(address, port)).bytes();
                let (_, output) = subject.run(&frame, host::NEAR).expect("the kernel runs the packet");
                let went_to = output[30..34].to_vec();
                assert_eq!(first.get_or_insert_with(|| went_to.clone()), &went_to, "{address}:{port}");
            }
        }
    });
}

#[test]
fn explain_says_the_whole_way_and_counts_nothing() {
    let mut random = Random(3);
    let wanted = wanted(&mut random);
    on_host(&neighbours(&wanted), &wanted, |subject| {
        let before = subject.counters().expect("counters can be read");
        for _ in 0..Size::of_this_run().times(500, 20_000) {
            for service in &wanted.services {
                let client = client(&mut random);
                let (index, bucket, slot, id) = reference(service, client);
                let to = SocketAddrV4::new(host::ipv4(service.vip), service.ports[0]);
                let way = subject
                    .datapath
                    .explain(client.into(), to.into(), service.protocol, Question::First { dscp: 0 })
                    .expect("the program explains");
                let told = way.explanation;
                assert_eq!(way.reason, None, "{client}");
                assert_eq!((told.bucket, told.slot, told.current_place), (bucket, slot, index as u8), "{client}");
                assert_eq!((told.service, told.version), (service.id.0, service.versions[index].id.0), "{client}");
                assert_eq!(told.backend, id.0, "{client}");
                assert_eq!(told.next_hop, host::hop(host::NEAR, *backend(id).ip()), "{client}");
            }
        }
        let elsewhere = SocketAddrV4::new(*vip(WEB).ip(), 81);
        let refused = subject.datapath.explain(
            client(&mut random).into(),
            elsewhere.into(),
            Protocol::Tcp,
            Question::First { dscp: 0 },
        );
        assert_eq!(refused.expect("the program explains").reason, Some(grayxdp::model::kernel::Reason::PortClosed));
        assert_eq!(subject.counters().expect("counters can be read"), before);
    });
}
