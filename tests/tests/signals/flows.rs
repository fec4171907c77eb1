//! Sampled connections: first byte, resets, retransmits, zero windows, bytes.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddrV4, TcpStream},
    thread,
    time::{Duration, Instant},
};

use grayxdp::{analysis::Distribution, model::config::Protocol};

use crate::{
    capture::{Capture, Captured},
    servers::{ask, end_by_reset, request, serve},
    world::{World, assert_between, quantile, said},
};

fn sources(world: &World) -> impl Fn(u64) -> SocketAddrV4 + use<> {
    let sources = world.lab.sources();
    move |number| SocketAddrV4::new(sources.at(number), 30_000)
}

/// Reads the request to its end and answers after a while.
fn answer_late(mut stream: TcpStream) {
    let mut request = Vec::new();
    stream.read_to_end(&mut request).unwrap();
    thread::sleep(Duration::from_millis(300));
    stream.write_all(&[b'!'; 5_000]).unwrap();
}

/// Seconds from the first payload of each client to the first of its server, as seen by the client.
fn first_bytes(packets: &[Captured], vip: SocketAddrV4) -> Vec<f64> {
    let mut asked = BTreeMap::new();
    let mut answered = BTreeMap::new();
    for packet in packets.iter().filter(|packet| packet.payload > 0) {
        if packet.destination == vip {
            asked.entry(packet.source).or_insert(packet.time);
        } else {
            answered.entry(packet.destination).or_insert(packet.time);
        }
    }
    answered.iter().map(|(flow, time)| time - asked[flow]).collect()
}

#[test]
fn first_bytes_and_bytes_are_those_of_the_capture() {
    const FLOWS: u64 = 40;
    let mut world = World::new(Protocol::Tcp);
    let server = serve(world.lab.backend(1), world.server(2), FLOWS as usize, answer_late);
    let near = Capture::begin(world.lab.client());
    ask(world.lab.client(), sources(&world), world.vip(), FLOWS, |stream| request(stream, 700));
    server.join().unwrap();
    let near = near.end();
    let measured = world.wait(2, 1, |measured| measured.ended == FLOWS);
    assert_eq!((measured.flows, measured.lost), (FLOWS, 0), "{}", said(&measured));
    let mut times = first_bytes(&near, world.vip());
    assert_eq!((measured.first_byte.count(), times.len() as u64), (FLOWS, FLOWS));
    for part in [0.1, 0.5, 0.9] {
        let (found, most) = (measured.first_byte.quantile(part, &Distribution::default()), quantile(&mut times, part));
        assert_between("first byte", found, 0.3, most);
    }
    // 5,700 bytes of each, within the error of a cell.
    let mean = measured.payload_bytes() / measured.ended as f64;
    assert!((mean - 5_700.0).abs() <= 5_700.0 * 0.0625, "{mean} bytes a flow");
    assert_eq!((measured.reset_by_client, measured.reset_by_backend, measured.retransmits), (0, 0, 0));
}

#[test]
fn a_flow_that_ends_unanswered_is_a_censored_first_byte() {
    let mut world = World::new(Protocol::Tcp);
    let server = serve(world.lab.backend(1), world.server(2), 5, |mut stream| {
        let mut request = [0; 10];
        stream.read_exact(&mut request).unwrap();
        thread::sleep(Duration::from_millis(200));
        end_by_reset(&stream);
    });
    let begin = Instant::now();
    ask(world.lab.client(), sources(&world), world.vip(), 5, |mut stream| {
        stream.write_all(&[b'?'; 10]).unwrap();
        assert!(stream.read(&mut [0; 10]).is_err(), "reset");
    });
    server.join().unwrap();
    let most = begin.elapsed().as_secs_f64();
    let measured = world.wait(2, 1, |measured| measured.ended == 5);
    assert_eq!((measured.flows, measured.reset_by_backend, measured.reset_by_client), (5, 5, 0), "{}", said(&measured));
    assert_eq!(measured.first_byte.count(), 0);
    let none = Distribution::default();
    assert_between("censored", measured.first_byte_censored.quantile(0.5, &none), 0.2, most);
}

#[test]
fn resets_are_counted_for_the_side_that_sent_them() {
    let mut world = World::new(Protocol::Tcp);
    let server = serve(world.lab.backend(1), world.server(2), 12, |mut stream| {
        let mut first = [0; 1];
        stream.read_exact(&mut first).unwrap();
        stream.write_all(b"!").unwrap();
        if first == *b"b" {
            // Nothing of the client may be under way any more: a RST would answer it too.
            stream.read_exact(&mut first).unwrap();
            end_by_reset(&stream);
        } else {
            let _ended_either_way = stream.read(&mut first);
        }
    });
    // Four end by the client's RST, four by the backend's, four in peace.
    let client = |how: u8| {
        move |mut stream: TcpStream| {
            stream.write_all(&[how]).unwrap();
            stream.read_exact(&mut [0; 1]).unwrap();
            match how {
                b'c' => end_by_reset(&stream),
                b'b' => {
                    stream.write_all(b"!").unwrap();
                    drop(stream.read(&mut [0; 1]));
                }
                _ => {
                    stream.shutdown(Shutdown::Write).unwrap();
                    stream.read_to_end(&mut Vec::new()).unwrap();
                }
            }
        }
    };
    let from = |port: u16| {
        let sources = world.lab.sources();
        move |number| SocketAddrV4::new(sources.at(number), port)
    };
    for (how, port) in [(b'c', 31_000), (b'b', 31_001), (b'p', 31_002)] {
        ask(world.lab.client(), from(port), world.vip(), 4, client(how));
    }
    server.join().unwrap();
    let measured = world.wait(2, 1, |measured| measured.ended == 12);
    let counts = (measured.flows, measured.reset_by_client, measured.reset_by_backend);
    assert_eq!(counts, (12, 4, 4), "{}", said(&measured));
    let counters = world.counters(2);
    assert_eq!((counters.resets_forward, counters.resets_reverse, counters.refusals), (4, 4, 0));
}

#[test]
fn retransmits_are_those_that_the_senders_capture_shows() {
    let mut world = World::new(Protocol::Tcp);
    // Lost behind the load balancer: both copies pass it.
    world.nft(2, &["add table inet lossy", "add chain inet lossy input { type filter hook input priority 0; }"]);
    world.nft(2, &["add rule inet lossy input tcp dport 8080 meta length > 500 numgen inc mod 7 == 6 drop"]);
    let server = serve(world.lab.backend(1), world.server(2), 4, |mut stream| {
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    let (near, far) = (Capture::begin(world.lab.client()), Capture::begin(world.lab.backend(1)));
    ask(world.lab.client(), sources(&world), world.vip(), 4, |stream| request(stream, 400_000));
    server.join().unwrap();
    let (near, far) = (near.end(), far.end());
    let measured = world.wait(2, 1, |measured| measured.ended == 4);
    let sent: Vec<_> = near.iter().filter(|packet| packet.destination == world.vip() && packet.payload > 0).collect();
    let answers = far.iter().filter(|packet| packet.source == world.server(2) && packet.payload > 0).count();
    let repeated = sent.iter().filter(|packet| packet.is_repeated).count() as u64;
    assert!(repeated >= 10, "{repeated} repeated of {}: enough were lost", sent.len());
    assert_eq!(measured.segments, (sent.len() + answers) as u64, "{}", said(&measured));
    assert_eq!(measured.retransmits, repeated, "{}", said(&measured));
    let mean = measured.payload_bytes() / measured.ended as f64;
    assert!((mean - 400_000.0).abs() <= 400_000.0 * 0.0625, "{mean} bytes a flow: repeated ones once");
}

#[test]
fn a_reader_that_stops_shows_as_a_zero_window() {
    let mut world = World::new(Protocol::Tcp);
    let server = serve(world.lab.backend(1), world.server(2), 6, |mut stream| {
        let mut first = [0; 1];
        stream.read_exact(&mut first).unwrap();
        if first == *b"s" {
            thread::sleep(Duration::from_millis(1_500));
        }
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    let far = Capture::begin(world.lab.backend(1));
    for (port, how, bytes) in [(32_000, b's', 12_000_000), (32_001, b'r', 1_000)] {
        let sources = world.lab.sources();
        let from = move |number| SocketAddrV4::new(sources.at(number), port);
        ask(world.lab.client(), from, world.vip(), 3, move |mut stream| {
            stream.write_all(&[how]).unwrap();
            stream.write_all(&vec![0; bytes]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
        });
    }
    server.join().unwrap();
    let measured = world.wait(2, 1, |measured| measured.ended == 6);
    let stalls: Vec<_> = far.end().into_iter().filter(|packet| packet.has_zero_window).collect();
    let flows: std::collections::BTreeSet<_> = stalls.iter().map(|packet| packet.destination).collect();
    assert_eq!(flows.len(), 3, "those whose reader stopped");
    assert_eq!((measured.zero_window, measured.flows), (3, 6), "{}", said(&measured));
    assert_eq!(world.counters(2).zero_windows_reverse, stalls.len() as u64);
}
