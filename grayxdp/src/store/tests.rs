//! What the journal keeps, and what it refuses.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::*;
use crate::{
    balance::{Home, IdTable},
    model::{Name, Weight, event::Event},
};

pub(super) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub(super) fn record(epoch: u64) -> ServiceRecord {
    let second = Weight::from_hundredths(1_050).expect("a weight");
    ServiceRecord {
        versions: vec![name("v1"), name("v2")],
        weights: [(name("v1"), second.complement()), (name("v2"), second)].into(),
        stable: name("v1"),
        places: [(name("v1"), 0), (name("v2"), 1)].into(),
        buckets: "0/1@16000+1720".parse().expect("an ownership"),
        segments: BTreeMap::new(),
        instance: None,
        home: Home::default(),
        file: None,
        epoch,
        rollout: 3,
        sample_rate: 11_184,
    }
}

pub(super) fn event(second: i64, message: &str) -> Event {
    Event {
        id: 0,
        time: jiff::Timestamp::from_second(second).expect("a time"),
        actor: "daemon".into(),
        service: Some(name("recsys")),
        rollout: None,
        kind: "weightsApplied".into(),
        message: message.into(),
        reason: None,
    }
}

fn rollout(number: u64, text: &str, ended: Option<i64>) -> JournaledRollout {
    let time = |second| jiff::Timestamp::from_nanosecond(i128::from(second) * 1_000_000_000 + 7).expect("a time");
    JournaledRollout {
        number,
        name: name(text),
        plan: serde_json::json!({"spec": {"service": "recsys"}}),
        state: serde_json::json!({"step": number}),
        started: time(1_000),
        ended: ended.map(time),
    }
}

fn temporary() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("journal.db");
    (directory, path)
}

fn open(path: &Path) -> Journal {
    Journal::open(path).expect("a sound journal")
}

fn recsys(journal: &Journal) -> JournaledService {
    let [service] = journal.services().expect("readable").try_into().expect("one service");
    service
}

#[test]
fn an_intent_becomes_applied_and_both_outlive_the_daemon() {
    let (_directory, path) = temporary();
    let mut journal = open(&path);
    journal.begin_intent(&name("recsys"), &record(1)).expect("written");
    drop(journal);
    let mut journal = open(&path);
    let expected = JournaledService { name: name("recsys"), applied: None, intent: Some(record(1)) };
    assert_eq!(recsys(&journal), expected);
    journal.mark_applied(&name("recsys"), 1).expect("written");
    journal.begin_intent(&name("recsys"), &record(2)).expect("written");
    drop(journal);
    let expected = JournaledService { name: name("recsys"), applied: Some(record(1)), intent: Some(record(2)) };
    assert_eq!(recsys(&open(&path)), expected);
}

#[test]
fn an_intent_of_another_epoch_is_not_marked_applied() {
    let (_directory, path) = temporary();
    let mut journal = open(&path);
    journal.begin_intent(&name("recsys"), &record(2)).expect("written");
    let error = journal.mark_applied(&name("recsys"), 1).expect_err("another epoch").to_string();
    assert!(error.starts_with("no intent with epoch 1 is journaled for service recsys"), "{error}");
    assert_eq!(recsys(&journal).intent, Some(record(2)));
}

#[test]
fn a_withdrawn_intent_leaves_what_was_applied() {
    let (_directory, path) = temporary();
    let mut journal = open(&path);
    journal.begin_intent(&name("recsys"), &record(1)).expect("written");
    journal.withdraw_intent(&name("recsys")).expect("written");
    assert!(!journal.has_services().expect("readable"));
    journal.adopt(&name("recsys"), &record(1)).expect("written");
    journal.begin_intent(&name("recsys"), &record(2)).expect("written");
    journal.withdraw_intent(&name("recsys")).expect("written");
    assert_eq!((recsys(&journal).applied, recsys(&journal).intent), (Some(record(1)), None));
}

#[test]
fn adopting_replaces_what_was_applied_and_meant() {
    let (_directory, path) = temporary();
    let mut journal = open(&path);
    journal.begin_intent(&name("recsys"), &record(1)).expect("written");
    journal.adopt(&name("recsys"), &record(9)).expect("written");
    assert_eq!((recsys(&journal).applied, recsys(&journal).intent), (Some(record(9)), None));
    journal.forget(&name("recsys")).expect("written");
    assert!(!journal.has_services().expect("readable"));
}

#[test]
fn rollouts_are_kept_by_number_and_found_by_name() {
    let (_directory, path) = temporary();
    let mut journal = open(&path);
    assert_eq!(journal.next_rollout_number().expect("readable"), 1);
    for (number, text) in [(1, "a"), (2, "b"), (3, "a")] {
        journal.save_rollout(&rollout(number, text, None)).expect("written");
    }
    journal.save_rollout(&rollout(3, "a", Some(2_000))).expect("written");
    assert_eq!(journal.rollout(&name("a")).expect("readable"), Some(rollout(3, "a", Some(2_000))));
    assert_eq!(journal.rollout(&name("c")).expect("readable"), None);
    let numbers: Vec<u64> = journal.rollouts().expect("readable").iter().map(|rollout| rollout.number).collect();
    assert_eq!(numbers, [3, 2, 1]);
    // A number does not come again when its rollout is pruned; one that runs is not pruned.
    assert_eq!(journal.prune(jiff::Timestamp::from_second(3_000).expect("a time")).expect("written"), 1);
    assert_eq!(journal.next_rollout_number().expect("readable"), 4);
    assert_eq!(journal.rollouts().expect("readable").len(), 2);
}

#[test]
fn events_are_numbered_paged_and_pruned_by_time() {
    let (_directory, path) = temporary();
    let mut journal = open(&path);
    let ids: Vec<u64> =
        (1..=5).map(|n| journal.append_event(&event(n * 100, &format!("event {n}"))).expect("written")).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5]);
    let numbers = |journal: &Journal, after, limit| -> Vec<u64> {
        journal.events(after, limit).expect("readable").iter().map(|event| event.id).collect()
    };
    assert_eq!(numbers(&journal, 0, 100), ids);
    assert_eq!(numbers(&journal, 1, 2), [4, 5]);
    assert_eq!(journal.events(4, 1).expect("readable"), [Event { id: 5, ..event(500, "event 5") }]);
    assert_eq!(journal.prune(jiff::Timestamp::from_second(600).expect("a time")).expect("written"), 5);
    assert_eq!(journal.append_event(&event(700, "next")).expect("written"), 6);
}

#[test]
fn numbers_of_names_come_back() {
    let (_directory, path) = temporary();
    let mut journal = open(&path);
    assert_eq!(journal.ids().expect("readable"), IdTable::default());
    let text = "interfaces: [{name: eth0}]\nservices:\n- name: a\n  vip: 192.0.2.1\n  port: 80\n  \
                versions: [{name: v1, backends: [{address: 10.0.0.1}]}]\n";
    let config = crate::config::load_config(text, "g.yaml").expect("good");
    let mut ids = IdTable::default();
    ids.assign(&config).expect("room");
    journal.save_ids(&ids).expect("written");
    drop(journal);
    assert_eq!(open(&path).ids().expect("readable"), ids);
}

#[test]
fn a_failed_transaction_leaves_nothing() {
    let (_directory, path) = temporary();
    let mut journal = open(&path);
    let result: Result<(), StoreError> = journal.transaction(|journal| {
        journal.append_event(&event(1, "half"))?;
        journal.adopt(&name("recsys"), &record(1))?;
        journal.mark_applied(&name("recsys"), 2)
    });
    assert!(result.is_err());
    assert!(journal.events(0, 10).expect("readable").is_empty() && !journal.has_services().expect("readable"));
}

#[test]
fn a_second_daemon_is_refused_and_named() {
    let (directory, path) = temporary();
    let first = open(&path);
    let error = Journal::open(&path).expect_err("locked").to_string();
    let expected = format!("another grayxdp daemon (process {}) uses this stateDir", std::process::id());
    assert!(error.contains(&expected) && error.contains(&*directory.path().to_string_lossy()), "{error}");
    drop(first);
    open(&path);
}

#[test]
fn a_full_disk_is_one_line_and_later_writes_work_again() {
    let (_directory, path) = temporary();
    let mut journal = open(&path);
    journal.append_event(&event(1, "before")).expect("written");
    let pages = |journal: &Journal, name: &str, value: i64| {
        journal.connection().pragma_update_and_check(None, name, value, |row| row.get::<_, i64>(0)).expect("set")
    };
    pages(&journal, "max_page_count", 1);
    let long = event(2, &"x".repeat(100_000));
    let error = journal.append_event(&long).expect_err("full");
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert_eq!(error.to_string().lines().count(), 1);
    assert_eq!(journal.events(0, 10).expect("still readable").len(), 1);
    pages(&journal, "max_page_count", 1_000_000);
    assert_eq!(journal.append_event(&long).expect("written"), 2);
}

#[test]
fn a_journal_that_takes_no_writes_is_one_line_and_later_writes_work_again() {
    let (_directory, path) = temporary();
    let mut journal = open(&path);
    journal.connection().pragma_update(None, "query_only", true).expect("set");
    let error = journal.adopt(&name("recsys"), &record(1)).expect_err("read-only");
    assert!(matches!(error, StoreError::NotWritable { .. }), "{error}");
    journal.connection().pragma_update(None, "query_only", false).expect("set");
    journal.adopt(&name("recsys"), &record(1)).expect("written");
}

/// Opens what is at `path`, which must be refused in one line and stay as it is.
fn refused(path: &Path) -> String {
    let before = fs::read(path).expect("there");
    let error = Journal::open(path).expect_err("refused").to_string();
    assert_eq!(fs::read(path).expect("there"), before, "the file was changed");
    assert!(error.starts_with(&*path.to_string_lossy()) && error.lines().count() == 1, "{error}");
    error
}

/// A journal of many pages, closed and without a log beside it.
fn large(path: &Path) {
    let mut journal = open(path);
    for second in 0..200 {
        journal.append_event(&event(second, &"x".repeat(500))).expect("written");
    }
}

#[test]
fn a_damaged_journal_is_refused_and_left_alone() {
    let (_directory, path) = temporary();
    large(&path);
    let sound = fs::read(&path).expect("there");
    let overwritten = |range: std::ops::Range<usize>| {
        let mut bytes = sound.clone();
        bytes[range].fill(0xa5);
        bytes
    };
    let damaged = [
        ("cut", sound[..sound.len() / 2].to_vec()),
        ("a page", overwritten(8_192..12_288)),
        ("the header", overwritten(0..16)),
        ("text", b"not a database at all, but long enough to be looked at".repeat(30)),
    ];
    for (what, bytes) in damaged {
        fs::write(&path, bytes).expect("written");
        let error = refused(&path);
        assert!(error.contains("the journal is damaged") && error.contains("move it"), "{what}: {error}");
    }
    fs::write(&path, sound).expect("written");
    assert_eq!(open(&path).events(0, 1_000).expect("readable").len(), 200);
}

#[test]
fn a_foreign_an_empty_and_a_newer_file_are_refused_and_left_alone() {
    let (_directory, path) = temporary();
    let foreign = rusqlite::Connection::open(&path).expect("made");
    foreign.execute_batch("CREATE TABLE other (x)").expect("made");
    drop(foreign);
    assert!(refused(&path).contains("not a journal of grayxdp; move it away"));
    fs::write(&path, []).expect("written");
    assert!(refused(&path).contains("not a journal of grayxdp"));
    fs::remove_file(&path).expect("removed");
    open(&path).connection().pragma_update(None, "user_version", 4).expect("set");
    assert!(refused(&path).contains("the journal has version 4, this release writes 3"));
}

#[test]
fn a_log_without_its_journal_is_not_replayed_into_a_new_one() {
    let (directory, path) = temporary();
    fs::write(directory.path().join("journal.db-wal"), b"left over").expect("written");
    let error = Journal::open(&path).expect_err("refused").to_string();
    assert!(error.contains("journal.db-wal is there"), "{error}");
    assert!(!path.exists());
}

#[test]
fn a_journal_that_was_only_half_made_is_made_again() {
    let (directory, path) = temporary();
    fs::write(directory.path().join("journal.db.new"), b"half").expect("written");
    assert!(!open(&path).has_services().expect("readable"));
}

#[test]
fn a_journal_that_is_removed_while_in_use_takes_no_writes_until_it_is_back() {
    let (_directory, path) = temporary();
    let mut journal = Journal::open(&path).expect("a journal");
    let aside = path.with_extension("aside");
    fs::rename(&path, &aside).expect("it is there");
    let error = journal.adopt(&name("recsys"), &record(7)).expect_err("nobody would read it");
    assert!(matches!(error, StoreError::Gone { .. }), "{error}");
    fs::rename(&aside, &path).expect("it is there");
    journal.adopt(&name("recsys"), &record(7)).expect("it is back");
    assert_eq!(journal.services().expect("services").len(), 1);
}
