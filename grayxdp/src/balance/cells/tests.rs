//! Cells against a plain restatement of the rules, one cell at a time, in whole seconds.

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;

use super::*;

const LEN: usize = 6;
const IDLE: i64 = 60;
const SETTLE_AFTER: i64 = 20;
const LAPSE_SECONDS: i64 = 4;

fn at(second: i64) -> Moment {
    Moment::of(Duration::from_secs(second.unsigned_abs()))
}

fn policy() -> Policy {
    let span = |seconds: i64| Span::of(Duration::from_secs(seconds.unsigned_abs()));
    Policy { idle: span(IDLE), settle_after: span(SETTLE_AFTER), pressure: Pressure::Low, learns: false }
}

/// The rules as the model of the design says them.
#[derive(Clone, Debug)]
struct Plain {
    current: u8,
    home: u8,
    seen: i64,
    changed: i64,
    deferred: i64,
    restart: i64,
    equal: i64,
    look: bool,
}

impl Plain {
    const fn new(owner: u8) -> Self {
        const AGO: i64 = -1_000_000;
        Self {
            current: owner,
            home: owner,
            seen: AGO,
            changed: AGO,
            deferred: AGO,
            restart: AGO,
            equal: AGO,
            look: false,
        }
    }

    fn give(&mut self, owner: u8, now: i64) {
        if owner == self.current {
            return;
        }
        let was = self.home == self.current;
        self.current = owner;
        self.look = true;
        if self.home == owner {
            self.equal = now;
        } else {
            self.changed = now;
            if was {
                self.restart = now;
            }
        }
    }

    fn pinning(&self, now: i64) -> bool {
        self.home != self.current && now - self.changed.max(self.restart) >= SETTLE_AFTER
    }

    fn settle(&mut self, now: i64) {
        if self.home == self.current || now - self.deferred <= LAPSE_SECONDS {
            return;
        }
        let idle = now - self.seen.max(self.changed) > IDLE;
        let pinned = now - self.changed.max(self.restart) > SETTLE_AFTER + IDLE;
        if idle || pinned {
            self.home = self.current;
            self.equal = now;
        }
    }
}

/// What happens in a second.
#[derive(Clone, Debug)]
enum Act {
    Give(Vec<u8>),
    Stamp { seen: Vec<u16>, deferred: Vec<u16>, refused: Vec<u16> },
    Sweep(BTreeSet<usize>),
    Nothing,
}

fn act() -> impl Strategy<Value = Act> {
    let some = || prop::collection::vec(0..LEN as u16, 0..3);
    prop_oneof![
        1 => prop::collection::vec(0_u8..3, LEN).prop_map(Act::Give),
        6 => (some(), some(), some()).prop_map(|(seen, deferred, refused)| Act::Stamp { seen, deferred, refused }),
        6 => some().prop_map(|seen| Act::Stamp { seen, deferred: Vec::new(), refused: Vec::new() }),
        6 => prop::collection::btree_set(0..LEN, 0..3).prop_map(Act::Sweep),
        30 => Just(Act::Nothing),
    ]
}

fn play(cells: &mut Cells<u8>, plain: &mut [Plain], act: &Act, now: i64) {
    match act {
        Act::Give(owners) => {
            cells.give(&owners.clone().into(), at(now));
            plain.iter_mut().zip(owners).for_each(|(cell, owner)| cell.give(*owner, now));
        }
        Act::Stamp { seen, deferred, refused } => {
            let stamps = CellStamps { seen: seen.clone(), deferred: deferred.clone(), refused: refused.clone() };
            cells.take(&stamps, at(now));
            let unsettled = |cell: &Plain| cell.home != cell.current;
            for cell in seen.iter().chain(deferred).map(|index| usize::from(*index)) {
                plain[cell].seen = if unsettled(&plain[cell]) { now } else { plain[cell].seen };
            }
            deferred.iter().for_each(|index| plain[usize::from(*index)].deferred = now);
            refused.iter().for_each(|index| plain[usize::from(*index)].restart = now);
        }
        Act::Sweep(lives) => {
            cells.swept(at(now), |index| lives.contains(&index));
            for (index, cell) in plain.iter_mut().enumerate() {
                let old = cell.home == cell.current && now - cell.equal > LAPSE_SECONDS;
                cell.look &= !old || lives.contains(&index);
            }
        }
        Act::Nothing => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_history_goes_as_the_plain_rules_say(acts in prop::collection::vec(act(), 1..600)) {
        let mut cells = Cells::settled(vec![0_u8; LEN].into());
        let mut plain = vec![Plain::new(0); LEN];
        for (now, act) in (1_000..).zip(&acts) {
            play(&mut cells, &mut plain, act, now);
            cells.settle(at(now), &policy());
            cells.took_effect(at(now), at(now));
            plain.iter_mut().for_each(|cell| cell.settle(now));
            for (index, cell) in plain.iter().enumerate() {
                let unsettled = cell.home != cell.current;
                let expected = CellState { unsettled, looks: unsettled || cell.look, pins: cell.pinning(now) };
                prop_assert_eq!((cells.current()[index], cells.home()[index]), (cell.current, cell.home));
                prop_assert_eq!(cells.state(index), expected, "cell {} at {}: {:?}", index, now, cell);
            }
            prop_assert_eq!(cells.is_settled(), cells.unsettled() == 0);
        }
    }
}

/// One cell given from 0 to 1 at second 1,000.
fn given() -> Cells<u8> {
    let mut cells = Cells::settled(vec![0_u8].into());
    assert_eq!(cells.give(&vec![1].into(), at(1_000)), 1);
    cells.took_effect(at(1_000), at(1_000));
    cells
}

fn turn(cells: &mut Cells<u8>, second: i64, policy: &Policy) -> Turn {
    let turn = cells.settle(at(second), policy);
    cells.took_effect(at(second), at(second));
    turn
}

#[test]
fn a_table_over_a_quarter_full_pins_at_once_and_one_over_three_quarters_not_at_all() {
    assert_eq!((Pressure::of(25, 100), Pressure::of(26, 100)), (Pressure::Low, Pressure::Quarter));
    assert_eq!((Pressure::of(75, 100), Pressure::of(76, 100)), (Pressure::Quarter, Pressure::ThreeQuarters));
    let mut cells = given();
    let quarter = Policy { pressure: Pressure::Quarter, ..policy() };
    assert_eq!(turn(&mut cells, 1_001, &quarter).pins, 1);
    let full = Policy { pressure: Pressure::ThreeQuarters, ..policy() };
    assert_eq!(turn(&mut cells, 1_040, &full).pins, 1);
    assert!(!cells.state(0).pins);
    // Pinning begins anew, and so does the time until it settles.
    let seen = CellStamps { seen: vec![0_u16], ..CellStamps::default() };
    turn(&mut cells, 1_050, &policy());
    cells.take(&seen, at(1_109));
    assert_eq!(turn(&mut cells, 1_110, &policy()).settled.sum(), 0);
    assert_eq!(turn(&mut cells, 1_111, &policy()).settled, Settled { pinned: 1, ..Settled::default() });
}

#[test]
fn a_window_of_udp_pins_at_once_and_settles_what_was_touched() {
    let learns = Policy { learns: true, ..policy() };
    let mut cells = Cells::settled(vec![0_u8; 2].into());
    cells.give(&vec![1, 0].into(), at(1_000));
    assert_eq!(turn(&mut cells, 1_000, &learns).pins, 1);
    cells.give(&vec![1, 1].into(), at(1_020));
    turn(&mut cells, 1_020, &learns);
    assert_eq!(turn(&mut cells, 1_030, &learns).settled.sum(), 0);
    assert_eq!(turn(&mut cells, 1_031, &learns).settled, Settled { window: 1, ..Settled::default() });
    assert_eq!((**cells.home()).to_vec(), [1, 0]);
    assert_eq!(cells.settle_at_once(at(1_032)).window, 1);
    assert!(cells.is_settled() && cells.state(1).looks);
}

#[test]
fn nothing_settles_on_nobody() {
    let mut slots = Cells::settled(vec![BackendId(7)].into());
    slots.give(&vec![BackendId::NONE].into(), at(1_000));
    assert_eq!(slots.settle(at(9_000), &policy()).settled.sum(), 0);
    slots.give(&vec![BackendId(8)].into(), at(9_000));
    assert_eq!(slots.settle(at(9_100), &policy()).settled.idle, 1);
}

#[test]
fn what_took_effect_late_counts_from_there() {
    let mut cells = Cells::settled(vec![0_u8].into());
    cells.give(&vec![1].into(), at(1_000));
    cells.took_effect(at(1_000), at(1_003));
    assert_eq!(cells.settle(at(1_063), &policy()).settled.sum(), 0);
    assert_eq!(cells.settle(at(1_064), &policy()).settled.sum(), 1);
}

#[test]
fn kept_cells_look_until_a_sweep_after_their_cause_has_gone() {
    let mut cells = Cells::settled(vec![0_u8; 2].into());
    assert!(cells.keep_looking(Some(&[true, false]), at(1_000)));
    assert!(!cells.keep_looking(Some(&[true, false]), at(1_010)));
    assert_eq!(cells.swept(at(1_020), |_| false), 0);
    assert!(cells.keep_looking(None, at(1_030)));
    assert_eq!((cells.swept(at(1_034), |_| false), cells.swept(at(1_035), |_| false)), (0, 1));
    assert!(cells.is_quiet());
}

#[test]
fn a_restored_table_forgets_looks_and_an_adopted_one_keeps_them() {
    let (current, home): (Arc<[u8]>, Arc<[u8]>) = (vec![1, 1].into(), vec![0, 1].into());
    let restored = Cells::restored(Arc::clone(&current), Arc::clone(&home), at(1_000));
    assert_eq!((restored.state(0).looks, restored.state(1).looks), (true, false));
    let state = |index| CellState { looks: true, pins: index == 0, unsettled: index == 0 };
    let adopted = Cells::adopted(current, home, state, at(1_000));
    assert_eq!((adopted.state(0), adopted.state(1)), (state(0), state(1)));
    assert!(Cells::restored(vec![3_u8].into(), vec![3].into(), at(1)).is_quiet());
}
