//! A process that is killed while it writes leaves a journal with all that it was told is written, and no half.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use super::{
    Journal, StoreError,
    tests::{event, name, record},
};

/// Set for the process that is to be killed: the journal's path.
const VICTIM: &str = "GRAYXDP_TEST_VICTIM";
/// The test below, which starts itself as that process.
const THIS: &str = "store::crash_tests::a_killed_writer_leaves_all_that_was_acknowledged_and_no_half";

/// The process that is to be killed: writes without end, event n and epoch n in one transaction, and says n when it is
/// written.
fn write_until_killed(path: &Path) -> ! {
    let mut journal = Journal::open(path).expect("a sound journal");
    loop {
        let written: Result<u64, StoreError> = journal.transaction(|journal| {
            let id = journal.append_event(&event(1, "written"))?;
            journal.adopt(&name("recsys"), &record(id))?;
            Ok(id)
        });
        println!("\nwritten {}", written.expect("room"));
    }
}

#[test]
fn a_killed_writer_leaves_all_that_was_acknowledged_and_no_half() {
    if let Some(path) = std::env::var_os(VICTIM) {
        write_until_killed(Path::new(&path));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("journal.db");
    let mut before = 0;
    for round in 0..6_u64 {
        let mut victim = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", THIS, "--nocapture"])
            .env(VICTIM, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let output = BufReader::new(victim.stdout.take().expect("piped"));
        let numbers =
            || output.lines().map_while(Result::ok).filter_map(|line| line.strip_prefix("written ")?.parse().ok());
        let mut numbers = numbers();
        let first: u64 = numbers.next().expect("it writes");
        std::thread::sleep(Duration::from_millis(7 * round));
        victim.kill().expect("killed");
        victim.wait().expect("gone");
        let acknowledged = numbers.last().unwrap_or(first);
        let journal = Journal::open(&path).expect("sound after the kill");
        let events: Vec<u64> = journal.events(0, usize::MAX).expect("readable").iter().map(|event| event.id).collect();
        let last = *events.last().expect("at least what was acknowledged");
        assert_eq!(first, before + 1, "the next process goes on where the last one ended");
        assert!(last >= acknowledged, "{acknowledged} was acknowledged, {last} is there");
        assert_eq!(events, (1..=last).collect::<Vec<_>>(), "a prefix without holes");
        let services = journal.services().expect("readable");
        assert_eq!(services[0].applied.as_ref().map(|record| record.epoch), Some(last), "no half of a transaction");
        before = last;
    }
}
