//! A virtual machine while it runs: started, listened to, ended in time.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;

use super::kernels::Kernel;
use crate::test::Counts;

/// How long a kernel may take for everything: emulation is slow, and slower on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60 * 60);
/// Begins what the tests say about the programs of the data path.
const FIGURES: &str = "figures: ";
/// Begins what the machine's first process says.
const STEP: &str = "vm: ";
/// Last lines of the kernel's log that are shown when a machine fails.
const LAST_LINES: usize = 20;

/// What came out of one machine.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) counts: Counts,
    /// What the tests said about the programs of the data path: words of `name=value`.
    pub(super) figures: Vec<String>,
    /// Whether it came to its end.
    is_done: bool,
    /// The test program that runs, and what it counted so far.
    running: Option<(String, Counts)>,
}

/// Boots a kernel with an initial file system and reads what it says, to its end or to the end of patience.
pub(super) fn boot(kernel: &Kernel, initial: &Path, console: &Path) -> anyhow::Result<Report> {
    let mut guest = start(kernel, initial, console)?;
    let lines = lines_of(guest.stdout.take().expect("it was asked for"));
    let end = Instant::now() + PATIENCE;
    let mut report = Report::default();
    let is_late = loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => report.take(&line),
            Err(error) => break error == RecvTimeoutError::Timeout,
        }
    };
    guest.kill().context("the virtual machine cannot be ended")?;
    guest.wait()?;
    if is_late {
        println!("error: {}: not at its end after {} min", kernel.release, PATIENCE.as_secs() / 60);
    }
    if !report.is_done {
        report.give_up(&fs::read_to_string(console).unwrap_or_default());
    }
    Ok(report)
}

fn start(kernel: &Kernel, initial: &Path, console: &Path) -> anyhow::Result<Child> {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "2", "-m", "1536"]);
    command.args(["-nodefaults", "-display", "none", "-no-reboot"]);
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(initial);
    command.args(["-append", "console=ttyS0 panic=-1 loglevel=4 rdinit=/init"]);
    // The kernel's own log, and what the tests say.
    command.arg("-serial").arg(format!("file:{}", console.display())).args(["-serial", "stdio"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.spawn().context("qemu-system-x86_64 could not be started")
}

/// Lines as they come; the channel ends with the machine.
fn lines_of(output: impl Read + Send + 'static) -> Receiver<String> {
    let (send, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if send.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                break;
            }
        }
    });
    lines
}

impl Report {
    fn take(&mut self, line: &str) {
        println!("{line}");
        if let Some(figures) = line.strip_prefix(FIGURES) {
            self.figures.push(figures.to_owned());
        } else if let Some(counts) = Counts::of_line_with_filtered(line)
            && let Some((_, of_program)) = &mut self.running
        {
            of_program.add(counts);
        } else if let Some(step) = line.strip_prefix(STEP) {
            self.step(step);
        }
    }

    fn step(&mut self, step: &str) {
        match step.split(' ').collect::<Vec<_>>().as_slice() {
            ["begin", name] => self.running = Some(((*name).to_owned(), Counts::default())),
            ["end", _, status] => {
                let (_, counts) = self.running.take().unwrap_or_default();
                self.counts.add(counts.of_ended(*status == "0"));
            }
            ["done"] => self.is_done = true,
            _ => {}
        }
    }

    /// The machine ended before its work did.
    fn give_up(&mut self, log: &str) {
        let (name, counts) = self.running.take().unwrap_or_default();
        self.counts.add(counts);
        self.counts.failed += 1;
        let what = if log.contains("Kernel panic") { "the kernel panicked" } else { "the machine ended early" };
        let place = if name.is_empty() { "outside of the tests".to_owned() } else { format!("in `{name}`") };
        println!("error: {what}, {place}; the end of its log:");
        let lines: Vec<_> = log.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(LAST_LINES)).for_each(|line| println!("  {line}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lines: &[&str]) -> Report {
        let mut report = Report::default();
        lines.iter().for_each(|line| report.take(line));
        report
    }

    const FINE: &str = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 1.2s";

    #[test]
    fn a_machine_that_comes_to_its_end_says_what_passed() {
        let report = report(&["vm: begin packets", "figures: program=x", FINE, "vm: end packets 0", "vm: done"]);
        assert_eq!((report.counts, report.is_done), (Counts { passed: 3, failed: 0, skipped: 3 }, true));
        assert_eq!(report.figures, ["program=x"]);
    }

    #[test]
    fn a_program_that_dies_without_a_result_is_a_failure() {
        let report = report(&["vm: begin packets", "vm: end packets 101", "vm: begin rules", FINE, "vm: end rules 0"]);
        assert_eq!(report.counts, Counts { passed: 3, failed: 1, skipped: 3 });
    }

    #[test]
    fn a_kernel_that_panics_is_a_failure() {
        let mut report = report(&["vm: begin packets", "test a ... ok"]);
        report.give_up("Kernel panic - not syncing");
        assert_eq!(report.counts, Counts { passed: 0, failed: 1, skipped: 0 });
    }
}
