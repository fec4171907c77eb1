//! Marks: attempts, answers, refusals, timeouts, repeated SYNs, their times, their cells, their epochs.

use std::{collections::BTreeMap, net::SocketAddrV4, time::Duration};

use grayxdp::{
    analysis::Distribution,
    lab::{HttpServer, Traffic},
    model::config::Protocol,
};
use grayxdp_common::signals::client_cell;

use crate::{
    capture::{ACK, Capture, Captured, RST, SYN},
    servers::connect,
    world::{World, assert_between, quantile, said},
};

/// SYNs by flow, in their order.
fn syns(packets: &[Captured]) -> BTreeMap<SocketAddrV4, Vec<f64>> {
    let mut flows: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for packet in packets.iter().filter(|packet| packet.is(SYN, ACK)) {
        flows.entry(packet.source).or_default().push(packet.time);
    }
    flows
}

/// How many flows have a client in each cell.
fn cells<'a>(flows: impl Iterator<Item = &'a SocketAddrV4>) -> Vec<u64> {
    let mut cells = vec![0; 256];
    flows.for_each(|flow| cells[usize::from(client_cell(u32::from_ne_bytes(flow.ip().octets())))] += 1);
    cells
}

/// Times from the first SYN to the SYN-ACK, of each flow; `client` says which end of a packet is the client's.
fn connect_times(packets: &[Captured]) -> Vec<f64> {
    let flows = syns(packets);
    let answers = packets.iter().filter(|packet| packet.is(SYN | ACK, 0));
    let mut first = BTreeMap::new();
    answers.for_each(|answer| {
        first.entry(answer.destination).or_insert(answer.time);
    });
    first.iter().map(|(flow, time)| time - flows[flow][0]).collect()
}

#[test]
fn opened_refused_and_silent_handshakes_are_those_of_the_capture() {
    let mut world = World::new(Protocol::Tcp);
    let address = world.server(2);
    let server = HttpServer::start(world.lab.backend(1), "v2", address).unwrap();
    let send = |world: &World, requests: u64, milliseconds: u64| {
        let timeout = Duration::from_millis(milliseconds);
        let traffic = Traffic { timeout, ..Traffic::new(world.vip(), world.lab.sources()) };
        traffic.send(world.lab.client(), requests).unwrap()
    };

    // Epoch 1: a server that answers.
    let (near, far) = (Capture::begin(world.lab.client()), Capture::begin(world.lab.backend(1)));
    assert_eq!(send(&world, 500, 5_000).answered(), 500);
    let (near, far) = (near.end(), far.end());
    let measured = world.signals(2, 1);
    let flows = syns(&near);
    let answered = near.iter().filter(|packet| packet.is(SYN | ACK, 0)).count() as u64;
    assert_eq!((measured.attempts, measured.opened), (flows.len() as u64, answered), "{}", said(&measured));
    assert_eq!((measured.refused, measured.timeouts, measured.syn_retransmits, measured.unmarked), (0, 0, 0, 0));
    assert_eq!(measured.cell_attempts, cells(flows.keys()));
    assert_eq!(measured.cell_failures.iter().sum::<u64>(), 0);
    // The load balancer is between the two: it waits longer than the backend takes, and less long than the client waits.
    let (mut least, mut most) = (connect_times(&far), connect_times(&near));
    for part in [0.5, 0.9] {
        let found = measured.connect.quantile(part, &Distribution::default());
        assert_between("connect", found, quantile(&mut least, part), quantile(&mut most, part));
    }

    // Epoch 2: nobody listens.
    world.publish(0, 2);
    let near = Capture::begin(world.lab.client());
    assert_eq!(send(&world, 200, 5_000).failed(), 200);
    let near = near.end();
    let measured = world.signals(1, 2);
    let (flows, resets) = (syns(&near), near.iter().filter(|packet| packet.is(RST, SYN)).count() as u64);
    assert_eq!((measured.attempts, measured.refused), (flows.len() as u64, resets), "{}", said(&measured));
    assert_eq!((measured.opened, measured.timeouts), (0, 0));
    assert_eq!((measured.cell_attempts, measured.cell_failures), (cells(flows.keys()), cells(flows.keys())));
    assert_eq!(world.signals(2, 1).attempts, 500, "the epoch before still stands");

    // Epoch 3: a backend that drops SYNs. Clients give up after 4.5 s: by then each has sent three or more.
    world.nft(2, &["add table inet mute", "add chain inet mute input { type filter hook input priority 0; }"]);
    world.nft(2, &["add rule inet mute input tcp flags syn / syn,ack drop"]);
    world.publish(16_384, 3);
    assert_eq!(world.signals(2, 1).attempts, 0, "its place is the third epoch's now");
    let near = Capture::begin(world.lab.client());
    assert_eq!(send(&world, 32, 4_500).failed(), 32);
    let measured = world.wait(2, 3, |measured| measured.timeouts >= 32);
    let flows = syns(&near.end());
    assert!(flows.values().all(|times| times.len() >= 3), "{flows:?}");
    let expected = (flows.len() as u64, 0, 0, flows.len() as u64, flows.len() as u64);
    let counts = (measured.attempts, measured.opened, measured.refused, measured.timeouts, measured.syn_retransmits);
    assert_eq!(counts, expected, "{}", said(&measured));
    assert_eq!((measured.cell_attempts, measured.cell_failures), (cells(flows.keys()), cells(flows.keys())));
    drop(server);
}

#[test]
fn an_answer_that_comes_after_a_change_counts_for_the_epoch_of_its_syn() {
    let mut world = World::new(Protocol::Tcp);
    let _server = HttpServer::start(world.lab.backend(1), "v2", world.server(2)).unwrap();
    world.nft(2, &["add table inet mute", "add chain inet mute input { type filter hook input priority 0; }"]);
    world.nft(2, &["add rule inet mute input tcp flags syn / syn,ack drop"]);
    let (source, target) = (SocketAddrV4::new(world.lab.sources().at(7), 40_007), world.vip());
    let near = Capture::begin(world.lab.client());
    let connecting = world.lab.client().spawn(move || connect(source, target).unwrap()).unwrap();
    world.wait(2, 1, |measured| measured.attempts == 1);
    world.publish(16_384, 2);
    world.nft(2, &["delete table inet mute"]);
    drop(connecting.join().unwrap());
    let measured = world.wait(2, 1, |measured| measured.opened == 1);
    assert_eq!((measured.attempts, measured.syn_retransmits, measured.timeouts), (1, 1, 0), "{}", said(&measured));
    let later = world.signals(2, 2);
    assert_eq!((later.attempts, later.opened, later.syn_retransmits), (0, 0, 0), "nothing of epoch 2");
    let times = connect_times(&near.end());
    let found = measured.connect.quantile(0.5, &Distribution::default());
    assert_between("connect after a repeated SYN", found, times[0] - 0.005, times[0]);
}

#[test]
fn an_answer_that_comes_two_epochs_later_counts_nowhere() {
    let mut world = World::new(Protocol::Tcp);
    let _server = HttpServer::start(world.lab.backend(1), "v2", world.server(2)).unwrap();
    world.nft(2, &["add table inet mute", "add chain inet mute input { type filter hook input priority 0; }"]);
    world.nft(2, &["add rule inet mute input tcp flags syn / syn,ack drop"]);
    let (source, target) = (SocketAddrV4::new(world.lab.sources().at(8), 40_008), world.vip());
    let connecting = world.lab.client().spawn(move || connect(source, target).unwrap()).unwrap();
    world.wait(2, 1, |measured| measured.attempts == 1);
    (2..=3).for_each(|epoch| world.publish(16_384, epoch));
    world.nft(2, &["delete table inet mute"]);
    drop(connecting.join().unwrap());
    world.sweep();
    for epoch in 1..=3 {
        let measured = world.signals(2, epoch);
        assert_eq!((measured.attempts, measured.opened, measured.syn_retransmits), (0, 0, 0), "epoch {epoch}");
    }
}
