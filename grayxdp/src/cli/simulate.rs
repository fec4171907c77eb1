//! `grayxdp plan simulate`: the engine under a virtual clock, without a daemon.

use std::{fmt::Write, time::Duration};

use crate::{
    cli::{
        args::Simulation,
        exit::{CliError, Exit},
        files::{read_config, read_plan, traffic, write},
        output::Output,
        picture::{self, Line},
        table::{Cell, Paint, Side, Table, Tone},
    },
    config::check_plan,
    model::{config::duration::said, state::RolloutState},
    rollout::simulation::{Simulated, simulate},
};

/// Events that the timeline leaves out of its text.
const QUIET: [&str; 1] = ["verdict"];

/// Simulates a plan and shows what became of it.
pub(super) fn run(asked: &Simulation, output: Output) -> Result<Exit, CliError> {
    let premises = &asked.premises;
    let plan = read_plan(&premises.file)?;
    let config = premises.config.as_deref().map(read_config).transpose()?;
    if let Some(config) = &config {
        check_plan(&plan, config).map_err(|error| CliError::Input(error.to_string()))?;
    }
    let mut traffic = traffic(premises)?.unwrap_or_default();
    traffic.seed = asked.seed.unwrap_or(traffic.seed);
    if let Some(failures) = asked.failures.filter(|ratio| !(0.0..=1.0).contains(ratio)) {
        return Err(CliError::Input(format!("--failures {failures}: not a part of all; give one from 0 to 1")));
    }
    traffic.candidate.failure_ratio = asked.failures.unwrap_or(traffic.candidate.failure_ratio);
    let service = config.as_ref().and_then(|config| config.services.iter().find(|of| of.name == plan.spec.service));
    let simulated = simulate(&plan, service, &traffic);
    if let Some(file) = &asked.svg {
        write(file, &drawn(&simulated)?)?;
    }
    output.answer(&simulated, |paint| text(&simulated, paint))?;
    Ok(match simulated.state {
        RolloutState::Promoted | RolloutState::Completed => Exit::Done,
        RolloutState::RolledBack | RolloutState::RollingBack => Exit::RolledBack,
        RolloutState::Paused | RolloutState::Frozen => Exit::WaitsForOperator,
        RolloutState::Pending | RolloutState::Progressing | RolloutState::Promoting => Exit::TimedOut,
        RolloutState::Failed => Exit::Failed,
    })
}

fn drawn(simulated: &Simulated) -> Result<String, CliError> {
    let names = simulated.weights.iter().flat_map(|at| at.weights.keys());
    let names: std::collections::BTreeSet<_> = names.collect();
    let line = |name: &&crate::model::Name| {
        let points = simulated.weights.iter();
        let point = |at: &crate::rollout::simulation::WeightsAt| Some((at.at, at.weights.get(*name)?.ratio() * 100.0));
        Line { name: name.to_string(), points: points.filter_map(point).collect() }
    };
    let lines: Vec<_> = names.iter().map(line).collect();
    let marks: Vec<_> = simulated.detections.iter().map(|detection| detection.at).collect();
    let title = format!("{}: {}", simulated.name, simulated.state.label());
    picture::weights(&title, &lines, &marks, simulated.seconds).map_err(CliError::Failed)
}

fn text(simulated: &Simulated, paint: Paint) -> String {
    let mut text = String::new();
    let mut table = Table::new(0, &[("AT", Side::Right), ("EVENT", Side::Left), ("MESSAGE", Side::Left)]);
    for moment in simulated.timeline.iter().filter(|moment| !QUIET.contains(&moment.kind.as_str())) {
        table.row(vec![Cell::plain(span(moment.at)), Cell::plain(&moment.kind), Cell::plain(&moment.message)]);
    }
    text.push_str(&table.render(paint));
    text.push('\n');
    let tone = match simulated.state {
        RolloutState::Promoted | RolloutState::Completed => Tone::Good,
        RolloutState::RolledBack | RolloutState::RollingBack | RolloutState::Failed => Tone::Bad,
        RolloutState::Pending
        | RolloutState::Progressing
        | RolloutState::Paused
        | RolloutState::Frozen
        | RolloutState::Promoting => Tone::Notable,
    };
    let state = paint.text(tone, simulated.state.label());
    let Simulated { flows, candidate_flows, stable_failures, candidate_failures, .. } = simulated;
    let part = |part: u64, of: u64| if of == 0 { 0.0 } else { part as f64 / of as f64 * 100.0 };
    let mut line = |what: &str, said: String| {
        let _infallible = writeln!(text, "{what:<18} {said}");
    };
    line("end", format!("{state} after {}: {}", span(simulated.seconds), simulated.message));
    line("all at the candidate", simulated.seconds_to_full.map_or_else(|| "never".to_owned(), span));
    line(
        "flows",
        format!("{flows}, of them {candidate_flows} ({:.2} %) to the candidate", part(*candidate_flows, *flows)),
    );
    line("refused", {
        let (stable, candidate) =
            (part(*stable_failures, flows - candidate_flows), part(*candidate_failures, *candidate_flows));
        format!("{candidate_failures} ({candidate:.3} %) by the candidate, {stable_failures} ({stable:.3} %) by stable")
    });
    line("clients exposed", format!("at most {:.2} % at one time", simulated.clients_exposed * 100.0));
    if let Some(division) = &simulated.division {
        line("division", division.sentence.clone());
    }
    for detection in &simulated.detections {
        let said = match (&detection.seconds, &detection.by) {
            (Some(seconds), Some(by)) => format!("found after {}: {by}", span(*seconds)),
            _ => "never found".to_owned(),
        };
        line("incident", format!("at {}: {said}", span(detection.at)));
    }
    for (metric, verdicts) in &simulated.verdicts {
        let said: Vec<_> = verdicts.iter().map(|(verdict, count)| format!("{} {count}", verdict.label())).collect();
        line("looks", format!("{metric}: {}", said.join(", ")));
    }
    text
}

/// Seconds as `1h 30m`.
fn span(seconds: f64) -> String {
    said(Duration::from_secs(seconds.round().max(0.0) as u64))
}
