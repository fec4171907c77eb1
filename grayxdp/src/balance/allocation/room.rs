//! Where each segment may go, and how far all of them can.

use super::{Cap, SAME, Segment};

/// Halvings after which a double has no more digits.
const HALVINGS: usize = 60;

/// Allowance for the rounding of a sum of shares.
const ROUNDING: f64 = 1e-13;

/// Where each segment may go.
#[derive(Debug)]
pub(super) struct Room {
    growing: bool,
    share: Vec<f64>,
    previous: Vec<f64>,
    max_step: Vec<f64>,
    /// The least and the greatest share of each.
    low: Vec<f64>,
    high: Vec<f64>,
    /// `(k, i)`: key segment `k` may not be ahead of `i`.
    pub(super) pairs: Vec<(usize, usize)>,
    /// Key segments that stand ahead already and wait.
    waiting: Vec<usize>,
}

/// The spread between which all shares lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    pub(super) least: f64,
    pub(super) greatest: f64,
}

/// The least and the greatest share of each segment, each itself an allowed allocation but for its total.
#[derive(Debug)]
pub(super) struct Bounds {
    pub(super) low: Vec<f64>,
    pub(super) high: Vec<f64>,
}

impl Room {
    pub(super) fn new(segments: &[Segment], target: f64) -> Self {
        let share: Vec<_> = segments.iter().map(|segment| segment.share).collect();
        let previous: Vec<_> = segments.iter().map(|segment| segment.previous).collect();
        let now: f64 = share.iter().zip(&previous).map(|(share, previous)| share * previous).sum();
        let growing = target >= now - SAME;
        let mut low = previous.clone();
        let mut high = previous.clone();
        for (index, segment) in segments.iter().enumerate() {
            match growing {
                true => high[index] = (segment.previous + segment.max_step).min(1.0),
                false => low[index] = (segment.previous - segment.max_step).max(0.0),
            }
        }
        let (mut pairs, mut waiting) = (Vec::new(), Vec::new());
        for key in (0..segments.len()).filter(|index| segments[*index].key) {
            let others = (0..segments.len()).filter(|index| !segments[*index].key);
            let (ahead, behind): (Vec<_>, Vec<_>) = others.partition(|other| previous[key] > previous[*other] + SAME);
            if growing && !ahead.is_empty() {
                high[key] = previous[key];
                waiting.push(key);
            } else {
                pairs.extend(behind.into_iter().map(|other| (key, other)));
            }
        }
        let max_step = segments.iter().map(|segment| segment.max_step).collect();
        Self { growing, share, previous, max_step, low, high, pairs, waiting }
    }

    pub(super) fn total_of(&self, shares: &[f64]) -> f64 {
        self.share.iter().zip(shares).map(|(share, candidate)| share * candidate).sum()
    }

    /// The greatest allocation in which nobody is above `ceiling`.
    fn greatest(&self, ceiling: f64) -> Vec<f64> {
        let mut shares: Vec<_> = self.high.iter().map(|high| high.min(ceiling)).collect();
        for (key, other) in &self.pairs {
            shares[*key] = shares[*key].min(shares[*other]);
        }
        shares
    }

    /// The least allocation in which nobody is below `floor`.
    fn least(&self, floor: f64) -> Vec<f64> {
        let mut shares: Vec<_> = self.low.iter().map(|low| low.max(floor)).collect();
        for (key, other) in &self.pairs {
            shares[*other] = shares[*other].max(shares[*key]);
        }
        shares
    }

    /// Stage 1: the total nearest to the target.
    pub(super) fn total(&self, target: f64, max_total_step: f64) -> f64 {
        match self.growing {
            true => {
                let most = self.total_of(&self.greatest(1.0));
                let now = self.total_of(&self.previous);
                target.min(now + max_total_step).min(most).max(now)
            }
            false => target.max(self.total_of(&self.least(0.0))),
        }
    }

    /// Stage 2: the smallest spread with that total.
    pub(super) fn level(&self, total: f64) -> Level {
        let least_high = self.greatest(1.0).into_iter().fold(1.0, f64::min);
        let greatest_low = self.least(0.0).into_iter().fold(0.0, f64::max);
        let least = last(0.0, least_high, |floor| self.total_of(&self.least(floor)) <= total + ROUNDING);
        let greatest =
            1.0 - last(0.0, 1.0 - greatest_low, |below| self.total_of(&self.greatest(1.0 - below)) >= total - ROUNDING);
        Level { least, greatest: greatest.max(least) }
    }

    /// The bounds of everybody at that spread.
    pub(super) fn between(&self, level: Level) -> Bounds {
        let low = self.least(level.least);
        let high = self.greatest(level.greatest);
        // Halving leaves them apart in the last digits.
        let high = high.iter().zip(&low).map(|(high, low)| high.max(*low)).collect();
        Bounds { low, high }
    }

    /// The limits that decided.
    pub(super) fn binding(&self, shares: &[f64], level: Level, (total, target, step): (f64, f64, f64)) -> Vec<Cap> {
        let short = (total - target).abs() > SAME;
        let growth = total - self.total_of(&self.previous);
        let mut caps = Vec::new();
        for (index, candidate) in shares.iter().enumerate() {
            let (moved, behind) = match self.growing {
                true => (candidate - self.previous[index], *candidate < level.greatest - SAME),
                false => (self.previous[index] - candidate, *candidate > level.least + SAME),
            };
            let ends = if self.growing { *candidate > 1.0 - SAME } else { *candidate < SAME };
            if !ends && moved > self.max_step[index] - SAME && !self.waiting.contains(&index) && (short || behind) {
                caps.push(Cap::MaxStep(index));
            } else if self.growing && self.held_by_key(index, shares) && (short || behind) {
                caps.push(Cap::Key(index));
            }
        }
        if self.growing && short && growth > step - SAME {
            caps.push(Cap::MaxTotalStep);
        }
        caps
    }

    fn held_by_key(&self, index: usize, shares: &[f64]) -> bool {
        let at = |(key, other): &(usize, usize)| *key == index && shares[index] > shares[*other] - SAME;
        self.waiting.contains(&index) || self.pairs.iter().any(at)
    }
}

/// The greatest number in `from..=to` that holds, where all smaller ones do; `from` where none does.
fn last(from: f64, to: f64, holds: impl Fn(f64) -> bool) -> f64 {
    if holds(to) {
        return to;
    }
    let (mut yes, mut no) = (from, to);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(yes, no);
        if holds(middle) { yes = middle } else { no = middle }
    }
    yes
}
