use std::{
    net::Ipv4Addr,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use grayxdp_common::explanation::Explanation;
use tokio::net::UdpSocket;

use super::*;
use crate::model::kernel::Copy;

/// Time in the tests: what they set.
static NOW: AtomicU64 = AtomicU64::new(0);

fn now() -> Duration {
    Duration::from_millis(NOW.load(Ordering::SeqCst))
}

/// One test at a time reads the clock.
async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static LOCK: OnceLock<tokio::sync::Mutex<()>> = OnceLock::new();
    LOCK.get_or_init(Default::default).lock().await
}

const SERVICE: ServiceId = ServiceId(3);

fn target(backends: &[SocketAddr], run: u64) -> ShadowTarget {
    let backend = |address: &SocketAddr| ShadowBackend { address: address.ip(), port: Some(address.port()), weight: 1 };
    ShadowTarget {
        run: (run, 1),
        epoch: 7,
        candidate: VersionId(2),
        backends: backends.iter().map(backend).collect(),
        counts: Arc::default(),
    }
}

fn targets(target: ShadowTarget) -> ShadowTargets {
    Arc::new(BTreeMap::from([(SERVICE, Arc::new(target))]))
}

/// A datagram of a client, on its way to a version.
fn copy(client: u16, version: u16, payload: &[u8]) -> Copied {
    let explanation = Explanation {
        service: SERVICE.0,
        version,
        hash: u64::from(client).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        ..Default::default()
    };
    let client = SocketAddr::from((Ipv4Addr::new(10, 64, 0, 1), client));
    let content = Content::Datagram(payload.to_vec());
    Copied::Packet(Box::new(Copy { client, port: 53, explanation, content }))
}

/// The sender of a shadow release and the clients' side of it.
struct Stage {
    targets: watch::Sender<ShadowTargets>,
    sink: CopySink,
    counts: Arc<Counts>,
}

fn stage(target: ShadowTarget, most: usize) -> Stage {
    let counts = Arc::clone(&target.counts);
    let (targets, watched) = watch::channel(self::targets(target));
    let (sink, datagrams) = shadow_queue(watched.clone());
    tokio::spawn(shadow(watched, datagrams, most, now));
    Stage { targets, sink, counts }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} does not come about");
}

async fn server() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
    let address = socket.local_addr().expect("an address");
    (socket, address)
}

async fn received(server: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut datagram = vec![0; 100];
    let (length, from) = server.recv_from(&mut datagram).await.expect("a datagram");
    datagram.truncate(length);
    (datagram, from)
}

#[tokio::test]
async fn each_flow_has_a_socket_and_its_first_answer_is_timed() {
    let _alone = alone().await;
    let (server, address) = server().await;
    let stage = stage(target(&[address], 1), 100);
    for (client, payload) in [(1_000, b"one"), (2_000, b"two"), (1_000, b"six")] {
        (stage.sink)(copy(client, 1, payload));
    }
    // What went to the candidate anyway needs no copy.
    (stage.sink)(copy(3_000, 2, b"own"));
    let mut got = [received(&server).await, received(&server).await, received(&server).await];
    got.sort();
    let payloads: Vec<_> = got.iter().map(|(payload, _)| payload.as_slice()).collect();
    assert_eq!(payloads, [&b"one"[..], b"six", b"two"]);
    assert_eq!(got[0].1, got[1].1, "a flow keeps its socket");
    assert_ne!(got[0].1, got[2].1, "another has another");
    NOW.fetch_add(50, Ordering::SeqCst);
    server.send_to(b"answer", got[0].1).await.expect("an answer");
    server.send_to(b"again", got[0].1).await.expect("an answer");
    until("two answers", || stage.counts.all().answers == 2).await;
    let all = stage.counts.all();
    assert_eq!((all.copied, all.sent, all.dropped, all.flows, all.answered), (3, 3, 0, 2, 1));
    let measured = &stage.counts.measured()[&7];
    assert_eq!((measured.flows, measured.first_byte.count(), measured.unanswered), (2, 1, 0));
    let found = measured.first_byte.quantile(0.5, &Default::default()).expect("a time").least() / 1e6;
    assert!((found - 50.0).abs() < 4.0, "50 ms, not {found}");
    assert_eq!(measured.cell_attempts.iter().sum::<u64>(), 2);
}

#[tokio::test]
async fn a_refusal_counts_at_once_and_silence_after_three_seconds() {
    let _alone = alone().await;
    let (silent, deaf) = server().await;
    let (gone, refusing) = server().await;
    drop(gone);
    let refused = stage(target(&[refusing], 1), 100);
    (refused.sink)(copy(1_000, 1, b"one"));
    (refused.sink)(copy(1_000, 1, b"two"));
    until("a refusal", || refused.counts.all().unanswered == 1).await;
    let waiting = stage(target(&[deaf], 1), 100);
    (waiting.sink)(copy(1_000, 1, b"one"));
    let _ = received(&silent).await;
    assert_eq!(waiting.counts.all().unanswered, 0);
    until("the end of patience", || waiting.counts.all().unanswered == 1).await;
    let measured = &waiting.counts.measured()[&7];
    assert_eq!((measured.unanswered, measured.first_byte_censored.count()), (1, 1));
    assert_eq!(measured.cell_failures.iter().sum::<u64>(), 1);
    assert_eq!(refused.counts.all().unanswered, 1, "once a flow");
    assert_eq!(refused.counts.measured()[&7].first_byte_censored.count(), 0);
}

#[tokio::test]
async fn what_cannot_be_sent_is_counted() {
    let nobody = stage(target(&[], 1), 100);
    (nobody.sink)(copy(1_000, 1, b"one"));
    until("a drop", || nobody.counts.all().dropped == 1).await;
    (nobody.sink)(Copied::Lost(5));
    let all = nobody.counts.all();
    assert_eq!((all.copied, all.lost, all.sent, all.flows), (1, 5, 0, 0));

    let (_server, address) = server().await;
    let crowded = stage(target(&[address], 1), 4);
    (0..3).for_each(|client| (crowded.sink)(copy(client, 1, b"one")));
    until("the third flow", || crowded.counts.all().dropped == 1).await;
    assert_eq!(crowded.counts.all().flows, 2, "half of the descriptors");
}

#[tokio::test]
async fn another_release_begins_its_flows_anew_and_the_end_closes_them() {
    let (server, address) = server().await;
    let stage = stage(target(&[address], 1), 100);
    (stage.sink)(copy(1_000, 1, b"one"));
    let (_, first) = received(&server).await;
    let next = target(&[address], 2);
    let counts = Arc::clone(&next.counts);
    stage.targets.send(targets(next)).expect("somebody listens");
    (stage.sink)(copy(1_000, 1, b"two"));
    let (_, second) = received(&server).await;
    assert_ne!(first, second);
    assert_eq!((stage.counts.all().flows, counts.all().flows), (1, 1));
    stage.targets.send(ShadowTargets::default()).expect("somebody listens");
    (stage.sink)(copy(1_000, 1, b"two"));
    assert_eq!(counts.all().copied, 1);
}

#[test]
fn servers_have_their_part_of_the_flows_by_weight_also_within_a_sample() {
    let server = |last: u8, weight| ShadowBackend { address: Ipv4Addr::new(10, 0, 0, last).into(), port: None, weight };
    let target = ShadowTarget { backends: [server(1, 1), server(2, 3)].into(), ..target(&[], 1) };
    let hashes = (0..400_000_u64).map(|n| n.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ n << 40);
    let sampled: Vec<u64> = hashes.filter(|hash| crate::model::kernel::is_copied(*hash, 3_276)).take(20_000).collect();
    let first = SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), 53));
    let part = sampled.iter().filter(|hash| target.backend(**hash, 53) == Some(first)).count();
    // A quarter of 20,000, give or take five standard deviations of 61.
    assert!(sampled.len() == 20_000 && (4_694..=5_306).contains(&part), "{part} of {}", sampled.len());
}
