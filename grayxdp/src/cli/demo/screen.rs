//! What the demo shows: a line that moves in colour on a terminal, a plain line a second elsewhere.

use std::{
    cell::Cell,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use crate::model::state::RolloutState;

use super::follow::Phase;

/// Time between two plain lines.
const PLAIN_PACE: Duration = Duration::from_secs(1);
/// Width of the bar, in characters.
const BAR_WIDTH: usize = 16;

const BOLD: &str = "\x1b[1m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const CYAN: &str = "\x1b[36m";
const PLAIN: &str = "\x1b[0m";

/// How it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// Not at all.
    Silent,
    /// Line after line.
    Plain,
    /// In colour, the last line redrawn.
    Colour,
}

/// Where it is shown.
#[derive(Debug)]
pub(super) struct Screen {
    style: Style,
    shown: Cell<Option<Instant>>,
}

/// A phase as it is shown.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) service: String,
    pub(super) stable: String,
    pub(super) candidate: String,
    pub(super) phase: Phase,
}

impl Screen {
    /// On standard output: in colour on a terminal, unless `NO_COLOR` is set.
    pub(super) fn new() -> Self {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { style: if colour { Style::Colour } else { Style::Plain }, shown: Cell::new(None) }
    }

    /// Nowhere.
    pub(super) fn silent() -> Self {
        Self { style: Style::Silent, shown: Cell::new(None) }
    }

    /// What comes next.
    pub(super) fn headline(&self, text: &str) {
        self.line("");
        self.line(&self.painted(BOLD, text));
    }

    /// A line that stays.
    pub(super) fn line(&self, text: &str) {
        match self.style {
            Style::Silent => {}
            Style::Plain => write_out(&format!("{text}\n")),
            Style::Colour => write_out(&format!("\r\x1b[K{text}\n")),
        }
    }

    /// How a phase stands.
    pub(super) fn live(&self, live: &Live) {
        match self.style {
            Style::Silent => {}
            Style::Plain => {
                if self.shown.get().is_none_or(|shown| shown.elapsed() >= PLAIN_PACE) {
                    self.shown.set(Some(Instant::now()));
                    self.line(&self.text(live));
                }
            }
            // A line that is too long for the terminal is cut, since one that wraps cannot be redrawn.
            Style::Colour => write_out(&format!("\r\x1b[K\x1b[?7l{}\x1b[?7h", self.text(live))),
        }
    }

    /// How a phase ended.
    pub(super) fn keep(&self, live: &Live) {
        self.shown.set(Some(Instant::now()));
        self.line(&format!("{} in {:.1} s", self.text(live), live.phase.duration_seconds));
    }

    /// Leaves the moving line.
    pub(super) fn finish(&self) {
        match self.style {
            Style::Silent | Style::Plain => {}
            Style::Colour => write_out("\r\x1b[K"),
        }
    }

    /// A state, green when the candidate won and red when it lost.
    pub(super) fn state(&self, state: RolloutState) -> String {
        let colour = match state {
            RolloutState::Promoted | RolloutState::Completed => GREEN,
            RolloutState::RolledBack | RolloutState::Failed => RED,
            RolloutState::Pending
            | RolloutState::Progressing
            | RolloutState::Paused
            | RolloutState::Frozen
            | RolloutState::Promoting
            | RolloutState::RollingBack => CYAN,
        };
        self.painted(colour, state.label())
    }

    fn text(&self, live: &Live) -> String {
        let Live { service, stable, candidate, phase } = live;
        let observed = phase.observed_percent.map_or_else(|| "   –".to_owned(), |percent| format!("{percent:4.1}"));
        let failed = format!("{:>6} failed", grouped(phase.failed));
        let failed = if phase.failed == 0 { failed } else { self.painted(RED, &failed) };
        let bar = match self.style {
            Style::Silent | Style::Plain => candidate.clone(),
            Style::Colour => self.bar(stable, candidate, phase.observed_percent.unwrap_or(0.0)),
        };
        format!(
            "{service:<7} {bar} wanted {:>5.1} % observed {observed:>5} % {:>8} requests {failed}",
            phase.wanted_percent,
            grouped(phase.requests)
        )
    }

    /// The stable version's share from the left, the candidate's from the right.
    fn bar(&self, stable: &str, candidate: &str, percent: f64) -> String {
        let of_candidate = ((percent / 100.0 * BAR_WIDTH as f64).round() as usize).min(BAR_WIDTH);
        let (left, right) = ("━".repeat(BAR_WIDTH - of_candidate), "━".repeat(of_candidate));
        format!("{stable} {}{} {candidate}", self.painted(GREEN, &left), self.painted(CYAN, &right))
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        match self.style {
            Style::Silent | Style::Plain => text.to_owned(),
            Style::Colour => format!("{colour}{text}{PLAIN}"),
        }
    }
}

/// A reader that has gone away is no reason to stop.
fn write_out(text: &str) {
    let mut output = io::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        assert_eq!([7, 999, 1_000, 1_234_567].map(grouped), ["7", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn elsewhere_than_on_a_terminal_nothing_is_painted() {
        let screen = Screen { style: Style::Plain, shown: Cell::new(None) };
        assert_eq!(screen.state(RolloutState::Promoted), "promoted");
    }
}
