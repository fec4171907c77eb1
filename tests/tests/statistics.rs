//! False alarms and power of the judges, on simulated rollouts with fixed seeds: the same as `cargo xtask statistics`, smaller.

use grayxdp_tests::{
    size::Size,
    statistics::{
        tables::{MOST, failing, null, slower},
        traffic::Share,
        trial::Tried,
    },
};

#[test]
fn judges_that_claim_to_be_valid_at_every_look_alarm_no_oftener_than_they_say() {
    let same = null(Size::of_this_run().times(30, 2_000));
    for judge in Tried::ALL.into_iter().filter(|judge| judge.is_sequential()) {
        let alarmed = same.alarmed(judge);
        assert!(alarmed <= MOST, "{}: {:.1} %", judge.label(), alarmed * 100.0);
    }
    // A test that is not made for it is wrong several times as often: the simulation is one that can catch a judge.
    assert!(same.alarmed(Tried::PeekedZ) > 2.0 * MOST, "{:.1} %", same.alarmed(Tried::PeekedZ) * 100.0);
}

#[test]
fn candidates_that_are_worse_are_found() {
    let count = Size::of_this_run().times(3, 200);
    for outcome in &failing(Share::Half, count)[1..] {
        assert!(outcome.alarmed(Tried::CountEProcess) > 0.9, "{}", outcome.what);
    }
    let slower = slower(Share::Half, count);
    for judge in [Tried::Median, Tried::Asymptotic] {
        assert!(slower[1].alarmed(judge) > 0.9, "{}: {}", slower[1].what, judge.label());
    }
}
