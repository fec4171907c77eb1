//! Sampled datagrams: first answers, and those that never come.

use std::{
    net::{SocketAddrV4, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use grayxdp::{analysis::Distribution, lab::UdpEcho, model::config::Protocol};

use crate::world::{World, assert_between, said};

const PATIENCE: Duration = Duration::from_secs(5);

/// Sends a datagram from each of some addresses; the sockets, still open.
fn send(world: &World, port: u16, flows: u64) -> Vec<UdpSocket> {
    world.lab.client().run(|| {
        let socket = |number| {
            let socket = UdpSocket::bind(SocketAddrV4::new(world.lab.sources().at(number), port)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect(world.vip()).unwrap();
            socket.send(&[b'?'; 100]).unwrap();
            socket
        };
        (0..flows).map(socket).collect()
    })
}

#[test]
fn a_first_answer_is_timed_from_the_first_datagram() {
    let world = World::new(Protocol::Udp);
    let server = world.lab.backend(1).run(|| UdpSocket::bind(world.server(2))).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let begin = Instant::now();
    let sockets = send(&world, 33_000, 20);
    thread::sleep(Duration::from_millis(400));
    for _ in 0..20 {
        let mut datagram = [0; 200];
        let (length, client) = server.recv_from(&mut datagram).unwrap();
        server.send_to(&datagram[..length], client).unwrap();
        server.send_to(&datagram[..length], client).unwrap();
    }
    sockets.iter().for_each(|socket| assert!(socket.recv(&mut [0; 200]).is_ok()));
    let most = begin.elapsed().as_secs_f64();
    let measured = world.signals(2, 1);
    assert_eq!((measured.flows, measured.unanswered, measured.attempts), (20, 0, 0), "{}", said(&measured));
    assert_eq!(measured.first_byte.count(), 20, "the second answer is none");
    let found = measured.first_byte.quantile(0.5, &Distribution::default());
    assert_between("first answer", found, 0.4, most);
    assert_eq!(measured.cell_attempts.iter().sum::<u64>(), 20);
}

#[test]
fn a_datagram_without_an_answer_within_three_seconds_is_a_failure() {
    let mut world = World::new(Protocol::Udp);
    let mute = world.lab.backend(1).run(|| UdpSocket::bind(world.server(2))).unwrap();
    let sockets = send(&world, 33_001, 10);
    thread::sleep(Duration::from_millis(2_500));
    world.sweep();
    assert_eq!(world.signals(2, 1).unanswered, 0, "three seconds are not over");
    let measured = world.wait(2, 1, |measured| measured.unanswered == 10);
    assert_eq!((measured.flows, measured.first_byte.count(), measured.first_byte_censored.count()), (10, 0, 10));
    assert_eq!(measured.cell_failures, measured.cell_attempts);
    // An answer after all changes nothing.
    mute.set_read_timeout(Some(PATIENCE)).unwrap();
    let (_, client) = mute.recv_from(&mut [0; 200]).unwrap();
    mute.send_to(b"late", client).unwrap();
    assert!(sockets.iter().any(|socket| socket.recv(&mut [0; 200]).is_ok()));
    let later = world.signals(2, 1);
    assert_eq!((later.unanswered, later.first_byte.count()), (10, 0));
}

#[test]
fn a_port_that_cannot_be_reached_is_a_failure_at_once() {
    let world = World::new(Protocol::Udp);
    // The kernel limits its ICMP errors to a few at once.
    let _sockets = send(&world, 33_002, 3);
    thread::sleep(Duration::from_millis(500));
    let measured = world.signals(2, 1);
    assert_eq!((measured.flows, measured.unanswered), (3, 3), "{}", said(&measured));
    let _echo = UdpEcho::start(world.lab.backend(1), "v2", world.server(2)).unwrap();
    let sockets = send(&world, 33_003, 3);
    sockets.iter().for_each(|socket| assert!(socket.recv(&mut [0; 200]).is_ok()));
    let measured = world.signals(2, 1);
    assert_eq!((measured.flows, measured.unanswered, measured.first_byte.count()), (6, 3, 3), "{}", said(&measured));
}
