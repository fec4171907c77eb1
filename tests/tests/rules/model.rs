//! The model alone. Needs no root.

use grayxdp_tests::{
    rules::{
        Rule,
        history::{Alone, Failure, Length, Summary, run},
    },
    size::Size,
};

/// Histories in which a rule that is left out must show.
const HISTORIES: u64 = 400;

fn history(seed: u64, left: Option<Rule>) -> Result<Summary, Box<Failure>> {
    run(seed, left, Length::USUAL, |_| Ok(Alone))
}

#[test]
fn every_packet_of_a_live_flow_goes_to_its_own_backend() {
    let mut total = Summary::default();
    let histories = Size::of_this_run().pick(150, 20_000);
    let seeds = crate::seeds(histories);
    for seed in seeds.clone() {
        match history(seed, None) {
            Ok(summary) => total += summary,
            Err(failure) => panic!("{failure}"),
        }
    }
    println!("histories {seeds:?}: {total:?}");
    if seeds != (0..histories) {
        return;
    }
    assert!(total.settled.iter().all(|count| *count > histories), "all ways of settling happen: {total:?}");
    assert!(total.deferred > 0 && total.refused > 0, "tables are full at times: {total:?}");
}

#[test]
fn each_rule_that_is_left_out_moves_a_flow() {
    let caught = |rule: &Rule| (0..HISTORIES).find_map(|seed| history(seed, Some(*rule)).err());
    let mut missed = Vec::new();
    for rule in Rule::ALL {
        match caught(rule) {
            Some(failure) => println!("{rule:?}: history {}, step {}: {}", failure.seed, failure.step, failure.what),
            None => missed.push(*rule),
        }
    }
    assert!(missed.is_empty(), "left out and not missed in {HISTORIES} histories: {missed:?}");
}
