//! The data path between namespaces: what it rewrites is delivered, in both topologies, with checksums that hold.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    net::{SocketAddrV4, TcpStream, UdpSocket},
    sync::Arc,
    time::Duration,
};

use grayxdp::{
    datapath::{Capacity, ClockSource, Datapath, Settings},
    lab::{Arms, Failure, HttpServer, Lab, Traffic, UdpEcho, download},
    model::{
        config::{Affinity, AttachMode, Interface, Protocol},
        kernel::{
            BackendId, Kernel, ServiceId, Split, VersionId, Wanted, WantedBackend, WantedBuckets, WantedService,
            WantedVersion,
        },
    },
};
use grayxdp_common::{SLOTS, hash::HashKey};
use grayxdp_tests::size::Size;

const PORT: u16 = 8_080;
const BUCKETS: f64 = 16_384.0;
/// `v1` has the first backend, `v2` the second.
const BACKENDS: u16 = 2;

/// A service on the lab's VIP; `v2` gets `buckets` of 16,384.
fn wanted(lab: &Lab, protocol: Protocol, buckets: u16) -> Wanted {
    let version = |number: u16| {
        let backend = WantedBackend::up(BackendId(number), lab.backend_address(usize::from(number - 1)), PORT);
        let slots = vec![backend.id; SLOTS];
        WantedVersion::settled(VersionId(number), number as u8 - 1, vec![backend], Arc::from(slots))
    };
    let service = WantedService {
        id: ServiceId(1),
        vip: lab.vip().into(),
        protocol,
        affinity: Affinity::Flow,
        versions: (1..=BACKENDS).map(version).collect(),
        buckets: WantedBuckets::Split(Split { offset: 0, threshold: buckets }),
        ..WantedService::default()
    };
    Wanted { services: vec![service], direct_access: Vec::new() }
}

/// Loads, fills and attaches the data path on the lab's load balancer.
fn attached(lab: &Lab, wanted: &Wanted) -> Datapath {
    lab.ping().unwrap();
    let interface = |name: String| Interface { name, mode: AttachMode::Native };
    let settings = Settings {
        pin_dir: "/sys/fs/bpf/grayxdp".into(),
        interfaces: lab.interfaces().into_iter().map(interface).collect(),
        hash_key: HashKey([0x1234_5678, 0x9abc_def0, 0x0fed_cba9, 0x8765_4321]),
        capacity: Capacity::of(wanted).with_room(),
        clock: ClockSource::Monotonic,
    };
    lab.balancer().run(|| {
        let mut datapath = Datapath::open(settings).unwrap();
        datapath.publish(wanted).unwrap();
        datapath.attach().unwrap();
        datapath
    })
}

fn vip(lab: &Lab) -> SocketAddrV4 {
    SocketAddrV4::new(lab.vip(), 80)
}

fn servers(lab: &Lab) -> Vec<HttpServer> {
    let start = |index| {
        let address = SocketAddrV4::new(lab.backend_address(index), PORT);
        HttpServer::start(lab.backend(index), &format!("v{}", index + 1), address).unwrap()
    };
    (0..usize::from(BACKENDS)).map(start).collect()
}

/// Sends requests through the VIP at several weights and compares each split with five binomial standard deviations.
fn splits(arms: Arms, requests: u64) {
    let lab = Lab::builder().arms(arms).backends(usize::from(BACKENDS)).build().unwrap();
    let _servers = servers(&lab);
    let mut datapath = attached(&lab, &wanted(&lab, Protocol::Tcp, 0));
    // 1 %, 10 %, 50 %, in buckets.
    for buckets in [164, 1_638, 8_192] {
        datapath.publish(&wanted(&lab, Protocol::Tcp, buckets)).unwrap();
        let tally = Traffic::new(vip(&lab), lab.sources()).send(lab.client(), requests).unwrap();
        assert_eq!(tally.failed(), 0, "{tally:?}");
        let (share, count) = (f64::from(buckets) / BUCKETS, requests as f64);
        let deviations = (tally.by_version("v2") as f64 - count * share) / (count * share * (1.0 - share)).sqrt();
        assert!(deviations.abs() < 5.0, "{deviations:.1} standard deviations at {buckets} buckets: {tally:?}");
    }
}

#[test]
fn two_arms_split_connections_by_weight_and_lose_none() {
    splits(Arms::Two, Size::of_this_run().pick(20_000, 100_000));
}

#[test]
fn one_arm_splits_connections_by_weight_and_loses_none() {
    splits(Arms::One, Size::of_this_run().pick(3_000, 20_000));
}

#[test]
fn a_download_through_the_vip_arrives_whole() {
    let lab = Lab::builder().backends(usize::from(BACKENDS)).build().unwrap();
    let _servers = servers(&lab);
    let _datapath = attached(&lab, &wanted(&lab, Protocol::Tcp, 8_192));
    let bytes = Size::of_this_run().pick(20, 500) * 1_000_000;
    let arrived = download(lab.client(), lab.sources().at(5), vip(&lab), bytes, Duration::from_secs(5)).unwrap();
    assert_eq!((arrived.bytes, arrived.intact), (bytes, true));
}

#[test]
fn datagrams_reach_a_backend_and_come_back_from_the_vip() {
    for arms in [Arms::Two, Arms::One] {
        let lab = Lab::builder().arms(arms).backends(usize::from(BACKENDS)).build().unwrap();
        let address = SocketAddrV4::new(lab.backend_address(1), PORT);
        let _echo = UdpEcho::start(lab.backend(1), "v2", address).unwrap();
        let _datapath = attached(&lab, &wanted(&lab, Protocol::Udp, 16_384));
        for length in [0, 1, 7, 1_200] {
            let answer = lab.client().run(|| {
                let socket = UdpSocket::bind((lab.sources().at(9), 0)).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
                socket.connect(vip(&lab)).unwrap();
                socket.send(&vec![b'x'; length]).unwrap();
                let mut answer = vec![0; 2_048];
                let received = socket.recv(&mut answer).unwrap();
                answer.truncate(received);
                answer
            });
            assert_eq!(answer, [b"v2/10.0.2.1 ".to_vec(), vec![b'x'; length]].concat(), "{arms:?}");
        }
    }
}

#[test]
fn a_refusal_by_a_backend_reaches_the_client_as_one() {
    let lab = Lab::builder().backends(usize::from(BACKENDS)).build().unwrap();
    let _datapath = attached(&lab, &wanted(&lab, Protocol::Tcp, 8_192));
    let tally = Traffic::new(vip(&lab), lab.sources()).send(lab.client(), 200).unwrap();
    assert_eq!(tally.failures.get(&Failure::Refused), Some(&200), "{tally:?}");
}

#[test]
fn the_load_balancer_itself_still_reaches_a_backends_service_port() {
    let lab = Lab::builder().backends(usize::from(BACKENDS)).build().unwrap();
    let _servers = servers(&lab);
    let _datapath = attached(&lab, &wanted(&lab, Protocol::Tcp, 8_192));
    lab.balancer().run(|| {
        for index in 0..usize::from(BACKENDS) {
            let address = SocketAddrV4::new(lab.backend_address(index), PORT);
            TcpStream::connect_timeout(&address.into(), Duration::from_secs(3)).unwrap();
        }
    });
}

#[test]
fn what_is_for_no_service_passes_through_the_kernel_untouched() {
    let lab = Lab::builder().backends(usize::from(BACKENDS)).build().unwrap();
    let wanted = wanted(&lab, Protocol::Tcp, 8_192);
    let address = SocketAddrV4::new(lab.backend_address(0), PORT + 1);
    let _server = HttpServer::start(lab.backend(0), "other", address).unwrap();
    let _datapath = attached(&lab, &wanted);
    let tally = Traffic::new(address, lab.sources()).send(lab.client(), 100).unwrap();
    assert_eq!(tally.by_version("other"), 100, "{tally:?}");
    lab.ping().unwrap();
}
