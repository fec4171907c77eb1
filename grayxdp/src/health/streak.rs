//! Rise and fall.

/// How a backend stands, and how many answers in a row say otherwise.
///
/// ```text
///          `fall` bad answers in a row
///   up ───────────────────────────────► down
///      ◄───────────────────────────────
///          `rise` good answers in a row
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streak {
    up: bool,
    against: u32,
    rise: u32,
    fall: u32,
}

impl Streak {
    /// A backend that is up or down to begin with. `rise` and `fall` are at least 1.
    #[must_use]
    pub const fn new(up: bool, rise: u32, fall: u32) -> Self {
        Self { up, against: 0, rise, fall }
    }

    /// Whether it is up.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.up
    }

    /// Counts one answer; true if the backend changes sides by it.
    pub const fn count(&mut self, good: bool) -> bool {
        if good == self.up {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let needed = if self.up { self.fall } else { self.rise };
        let changes = self.against >= needed;
        if changes {
            (self.up, self.against) = (good, 0);
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sides after each answer: `+` good, `-` bad.
    fn sides(up: bool, answers: &str) -> String {
        let mut streak = Streak::new(up, 2, 3);
        answers
            .chars()
            .map(|answer| {
                let before = streak.is_up();
                assert_eq!(streak.count(answer == '+'), before != streak.is_up());
                if streak.is_up() { 'u' } else { 'd' }
            })
            .collect()
    }

    #[test]
    fn it_falls_after_three_bad_answers_in_a_row_and_rises_after_two_good_ones() {
        assert_eq!(sides(true, "+---+-++-"), "uuudddduu");
        assert_eq!(sides(true, "--+--+--+"), "uuuuuuuuu");
        assert_eq!(sides(false, "+-+-++"), "dddddu");
    }
}
