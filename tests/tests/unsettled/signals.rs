//! Signals: counted by the program, completed by the daemon, kept for one epoch more.

use std::{net::SocketAddrV4, time::Duration};

use grayxdp::model::kernel::{Kernel as _, SignalKey, Signals, VersionId, Wanted, WantedService};

use crate::world::{CLIENT, Says, World, from_backend, moving, only, to_vip};

fn measured(epoch: u64) -> Wanted {
    only(WantedService { measures: true, epoch, ..moving(1, 1) })
}

fn signals(world: &mut World, epoch: u64) -> Option<Box<Signals>> {
    let all = world.kernel().signals(None).expect("signals are read");
    all.get(&SignalKey { version: VersionId(2), segment: 0, epoch }).cloned()
}

fn client(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(*CLIENT.ip(), port)
}

#[test]
fn a_handshake_that_nothing_answers_is_a_timeout_after_three_seconds_once() {
    let mut world = World::new("timeout", &measured(5));
    world.run(&to_vip(client(1), Says::Syn(1_000)));
    world.run(&to_vip(client(2), Says::Syn(1_000)));
    world.run(&from_backend(2, client(2), Says::SynAck(5_000, 1_001)));
    world.observe();
    let found = signals(&mut world, 5).expect("counted");
    assert_eq!((found.attempts, found.opened, found.timeouts), (2, 1, 0));
    for _ in 0..3 {
        world.advance(Duration::from_secs(4));
        world.observe();
    }
    let found = signals(&mut world, 5).expect("counted");
    assert_eq!((found.attempts, found.opened, found.timeouts), (2, 1, 1));
    assert_eq!(found.cell_failures.0.iter().sum::<u32>(), 1);
}

#[test]
fn signals_of_the_epoch_before_stay_and_older_ones_are_gone() {
    let mut world = World::new("epochs", &measured(5));
    world.run(&to_vip(client(1), Says::Syn(1_000)));
    world.publish(&measured(6));
    world.run(&from_backend(2, client(1), Says::SynAck(5_000, 1_001)));
    world.run(&to_vip(client(2), Says::Syn(1_000)));
    let (old, new) = (signals(&mut world, 5).expect("kept"), signals(&mut world, 6).expect("counted"));
    assert_eq!((old.attempts, old.opened, new.attempts, new.opened), (1, 1, 1, 0));
    world.publish(&measured(7));
    assert!(signals(&mut world, 5).is_none() && signals(&mut world, 7).is_none());
    assert_eq!(signals(&mut world, 6).expect("kept").attempts, 1);
    world.publish(&measured(9));
    assert!(world.kernel().signals(None).expect("signals are read").is_empty());
}

#[test]
fn a_sampled_flow_that_outlives_its_horizon_ends_there() {
    let mut wanted = measured(5);
    wanted.services[0].sample_rate = grayxdp_common::records::SAMPLE_ALL;
    let mut world = World::new("horizon", &wanted);
    world.run(&to_vip(CLIENT, Says::Syn(1_000)));
    world.run(&from_backend(2, CLIENT, Says::SynAck(5_000, 1_001)));
    world.advance(Duration::from_secs(59));
    world.observe();
    assert_eq!(signals(&mut world, 5).expect("counted").ended, 0);
    world.advance(Duration::from_secs(3));
    world.observe();
    world.observe();
    let found = signals(&mut world, 5).expect("counted");
    assert_eq!((found.flows, found.ended), (1, 1));
}
