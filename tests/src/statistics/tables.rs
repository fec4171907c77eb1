//! What is tried, and what came of it.

use super::{
    traffic::{LOOKS, Own, Shape, Share},
    trial::{Alarms, Tried, rollouts},
};

/// Level at which false alarms are counted.
pub const NULL_ALPHA: f64 = 0.05;
/// Most false alarms of a judge that claims to be valid at every look.
pub const MOST: f64 = 0.065;
/// Level at which power is measured: that of a plan that says nothing.
pub const POWER_ALPHA: f64 = 0.01;

/// Rollouts of one kind and what they came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was different about the candidate.
    pub what: String,
    /// A rollout each.
    pub alarms: Vec<Alarms>,
}

impl Outcome {
    /// Runs them.
    #[must_use]
    pub fn of(what: impl Into<String>, shape: Shape, alpha: f64, count: u32) -> Self {
        Self { what: what.into(), alarms: rollouts(shape, alpha, count) }
    }

    /// Part of the rollouts in which a judge had alarmed by a look, from 1.
    #[must_use]
    pub fn alarmed_by(&self, judge: Tried, look: usize) -> f64 {
        let alarmed = self.alarms.iter().filter(|alarms| alarms[index(judge)].is_some_and(|at| at <= look));
        alarmed.count() as f64 / self.alarms.len() as f64
    }

    /// Part of the rollouts in which a judge alarmed at all.
    #[must_use]
    pub fn alarmed(&self, judge: Tried) -> f64 {
        self.alarmed_by(judge, LOOKS)
    }

    /// The look at which half of all rollouts had alarmed; none where fewer did.
    #[must_use]
    pub fn median_look(&self, judge: Tried) -> Option<usize> {
        let mut looks: Vec<_> = self.alarms.iter().filter_map(|alarms| alarms[index(judge)]).collect();
        looks.sort_unstable();
        looks.get(self.alarms.len().div_ceil(2) - 1).copied()
    }
}

fn index(judge: Tried) -> usize {
    Tried::ALL.iter().position(|tried| *tried == judge).expect("it is one of all")
}

/// Two versions that are the same.
#[must_use]
pub fn null(count: u32) -> Outcome {
    Outcome::of("nothing", Shape::null(), NULL_ALPHA, count)
}

/// Noise of the candidate's own, with as many failures as stable has.
#[must_use]
pub fn own_noise(count: u32) -> Vec<Outcome> {
    let kinds = [
        ("failures alone", Own::Nothing),
        ("clusters of 2", Own::Clusters(2)),
        ("clusters of 3", Own::Clusters(3)),
        ("clusters of 5", Own::Clusters(5)),
        ("flapping backend", Own::Flapping),
    ];
    kinds.map(|(what, own)| Outcome::of(what, Shape { own, ..Shape::null() }, NULL_ALPHA, count)).into()
}

/// Candidates that fail more often.
#[must_use]
pub fn failing(share: Share, count: u32) -> Vec<Outcome> {
    let of = |failing: f64| {
        let shape = Shape { failing, share, ..Shape::null() };
        Outcome::of(format!("fails {failing} times as often"), shape, POWER_ALPHA, count)
    };
    [1.5, 2.0, 5.0].map(of).into()
}

/// Candidates that are slower.
#[must_use]
pub fn slower(share: Share, count: u32) -> Vec<Outcome> {
    let of = |slower: f64| {
        let shape = Shape { slower, share, ..Shape::null() };
        Outcome::of(format!("{:.0} % slower", (slower - 1.0) * 100.0), shape, POWER_ALPHA, count)
    };
    [1.1, 1.2, 1.5].map(of).into()
}

/// False alarms as a table of Markdown.
#[must_use]
pub fn null_table(null: &Outcome) -> String {
    let mut text =
        "| judge | valid at every look | alarmed by look 60 | 120 | 180 |\n| --- | --- | --- | --- | --- |\n"
            .to_owned();
    for judge in Tried::ALL {
        let by = [60, 120, LOOKS].map(|look| percent(null.alarmed_by(judge, look)));
        let claims = if judge.is_sequential() { "yes" } else { "no" };
        text.push_str(&format!("| {} | {claims} | {} |\n", judge.label(), by.join(" | ")));
    }
    text
}

/// False alarms with noise of the candidate's own, as a table of Markdown.
#[must_use]
pub fn own_noise_table(outcomes: &[Outcome]) -> String {
    let mut text = "| the candidate's failures | with the guard | without |\n| --- | --- | --- |\n".to_owned();
    for outcome in outcomes {
        let alarmed = [Tried::CountEProcess, Tried::Unguarded].map(|judge| percent(outcome.alarmed(judge)));
        text.push_str(&format!("| {} | {} |\n", outcome.what, alarmed.join(" | ")));
    }
    text
}

/// Power and median time to detection, as a table of Markdown.
#[must_use]
pub fn power_table(ramp: &[Outcome], half: &[Outcome], judges: &[Tried]) -> String {
    let mut text = "| candidate | judge | ramp 5 → 50 %: found | median | half of the flows: found | median |\n\
                    | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for (ramp, half) in ramp.iter().zip(half) {
        for judge in judges {
            let of = |outcome: &Outcome| {
                let median =
                    outcome.median_look(*judge).map_or_else(|| "–".to_owned(), |look| format!("{} s", look * 10));
                format!("{} | {median}", percent(outcome.alarmed(*judge)))
            };
            text.push_str(&format!("| {} | {} | {} | {} |\n", ramp.what, judge.label(), of(ramp), of(half)));
        }
    }
    text
}

fn percent(part: f64) -> String {
    format!("{:.2} %", part * 100.0)
}
