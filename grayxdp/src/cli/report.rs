//! `grayxdp rollout history` and `rollout report`: what became of a rollout, as Markdown or as one HTML file.

use std::{collections::BTreeSet, fmt::Write};

use crate::{
    cli::{
        exit::CliError,
        picture::{self, Line},
        show::instant,
        table::{Cell, Paint, Side, Table},
    },
    model::{Name, api::RolloutRecord, event::Event},
};

/// Events that say little in a report.
const QUIET: [&str; 1] = ["subStepReached"];

/// The timeline of a run, one event a line.
pub(super) fn history(record: &RolloutRecord, paint: Paint) -> String {
    let mut table = Table::new(
        0,
        &[
            ("TIME", Side::Left),
            ("EVENT", Side::Left),
            ("BY", Side::Left),
            ("MESSAGE", Side::Left),
            ("REASON", Side::Left),
        ],
    );
    for event in &record.events {
        table.row(vec![
            Cell::plain(instant(event.time)),
            Cell::plain(&event.kind),
            Cell::plain(&event.actor),
            Cell::plain(&event.message),
            Cell::plain(event.reason.as_deref().unwrap_or_default()),
        ]);
    }
    let (name, state) = (&record.status.name, record.status.state.label());
    let runs: Vec<_> = record.runs.iter().map(ToString::to_string).collect();
    format!("{name}, run {} of {}: {state}\n\n{}", record.number, runs.join(", "), table.render(paint))
}

/// The report as Markdown.
pub(super) fn markdown(record: &RolloutRecord) -> String {
    let mut text = String::new();
    let status = &record.status;
    let _infallible = write!(text, "# Rollout {}\n\n", status.name);
    for (what, said) in facts(record) {
        let _infallible = writeln!(text, "- **{what}**: {}", in_markdown(&said));
    }
    text.push_str("\n## Weights\n\n");
    let segments = segments(record);
    let _infallible = writeln!(text, "| time | epoch | {} |", joined(segments.iter().map(|name| format!("{name} %"))));
    let _infallible = writeln!(text, "| --- | ---: | {} |", joined(segments.iter().map(|_| "---:".to_owned())));
    for at in &record.weights {
        let weights = segments.iter().map(|name| at.weights.get(*name).map(ToString::to_string).unwrap_or_default());
        let _infallible = writeln!(text, "| {} | {} | {} |", at.time, at.epoch, joined(weights));
    }
    if !status.findings.is_empty() {
        text.push_str("\n## Metrics\n\n| metric | last verdict | looks | in words |\n| --- | --- | --- | --- |\n");
        for [metric, verdict, looks, sentence] in metrics(record) {
            let _infallible = writeln!(text, "| {metric} | {verdict} | {looks} | {} |", in_markdown(&sentence));
        }
    }
    text.push_str("\n## What happened\n\n| time | event | by | message | reason |\n| --- | --- | --- | --- | --- |\n");
    for event in told(record) {
        let reason = event.reason.as_deref().unwrap_or_default();
        let (actor, message, reason) = (in_markdown(&event.actor), in_markdown(&event.message), in_markdown(reason));
        let _infallible = writeln!(text, "| {} | {} | {actor} | {message} | {reason} |", event.time, event.kind);
    }
    let plan = serde_json::to_string_pretty(&record.plan).expect("a plan is plain JSON");
    let _infallible = write!(text, "\n## Plan\n\n```json\n{plan}\n```\n");
    text
}

/// The report as one HTML file that needs nothing else.
///
/// # Errors
/// What could not be drawn.
pub(super) fn html(record: &RolloutRecord) -> Result<String, CliError> {
    let status = &record.status;
    let title = format!("Rollout {}", status.name);
    let mut body = format!("<h1>{}</h1>\n<dl>\n", escaped(&title));
    for (what, said) in facts(record) {
        let _infallible = writeln!(body, "<dt>{what}</dt><dd>{}</dd>", escaped(&said));
    }
    let _infallible = write!(body, "</dl>\n<h2>Weights</h2>\n{}\n", drawn(record)?);
    let rows = record.weights.iter().map(|at| {
        let weights = segments(record).into_iter().map(|name| {
            let weight = at.weights.get(name).map(ToString::to_string).unwrap_or_default();
            format!("{name} {weight} %")
        });
        vec![at.time.to_string(), at.epoch.to_string(), weights.collect::<Vec<_>>().join(", ")]
    });
    body.push_str(&html_table(&["time", "epoch", "candidate"], rows));
    body.push_str("<h2>Metrics</h2>\n");
    let rows = metrics(record).into_iter().map(|row| row.to_vec());
    body.push_str(&html_table(&["metric", "last verdict", "looks", "in words"], rows));
    body.push_str("<h2>What happened</h2>\n");
    let rows = told(record).map(|event| {
        let reason = event.reason.clone().unwrap_or_default();
        vec![event.time.to_string(), event.kind.clone(), event.actor.clone(), event.message.clone(), reason]
    });
    body.push_str(&html_table(&["time", "event", "by", "message", "reason"], rows));
    let plan = serde_json::to_string_pretty(&record.plan).expect("a plan is plain JSON");
    let _infallible = write!(body, "<h2>Plan</h2>\n<pre>{}</pre>\n", escaped(&plan));
    let style = include_str!("report/style.css");
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{}</title>\n<style>\n{style}</style>\n\
         </head>\n<body>\n{body}</body>\n</html>\n",
        escaped(&title)
    ))
}

fn drawn(record: &RolloutRecord) -> Result<String, CliError> {
    let status = &record.status;
    let begin = status.started.as_second() as f64;
    let last = record.events.last().map_or(status.started, |event| event.time);
    let end = (status.ended.unwrap_or(last).as_second() as f64 - begin).max(1.0);
    let line = |name: &Name| {
        let point = |at: &crate::model::api::AppliedWeights| {
            Some(((at.time.as_second() as f64 - begin).max(0.0), at.weights.get(name)?.ratio() * 100.0))
        };
        Line { name: name.to_string(), points: record.weights.iter().filter_map(point).collect() }
    };
    let lines: Vec<_> = segments(record).into_iter().map(line).collect();
    let bad = ["rollingBack", "fuseTripped", "frozen"];
    let marks = record.events.iter().filter(|event| bad.contains(&event.kind.as_str()));
    let marks: Vec<_> = marks.map(|event| event.time.as_second() as f64 - begin).collect();
    let title = format!("{}: share of new flows of {}", status.name, status.candidate);
    picture::weights(&title, &lines, &marks, end).map_err(CliError::Failed)
}

fn facts(record: &RolloutRecord) -> Vec<(&'static str, String)> {
    let status = &record.status;
    let mut facts = vec![
        ("state", status.state.label().to_owned()),
        ("in words", status.message.clone()),
        ("service", status.service.to_string()),
        ("versions", format!("{} to {}", status.stable, status.candidate)),
        ("run", format!("{}, attempt {}", record.number, status.attempt)),
        ("started", status.started.to_string()),
    ];
    facts.extend(status.shadow.map(|counts| ("copies", counts.said())));
    facts.extend(status.ended.map(|ended| ("ended", ended.to_string())));
    facts.extend(record.events.first().map(|event| ("by", event.actor.clone())));
    facts.extend(record.events.first().and_then(|event| Some(("reason", event.reason.clone()?))));
    facts
}

/// Metric, last verdict, looks, sentence.
fn metrics(record: &RolloutRecord) -> Vec<[String; 4]> {
    let status = &record.status;
    let row = |finding: &crate::model::state::Finding| {
        let looks = status.verdicts.get(&finding.metric).into_iter().flatten();
        let looks: Vec<_> = looks.map(|(verdict, count)| format!("{} {count}", verdict.label())).collect();
        [finding.metric.to_string(), finding.verdict.label().to_owned(), looks.join(", "), finding.sentence.clone()]
    };
    status.findings.iter().map(row).collect()
}

fn told(record: &RolloutRecord) -> impl Iterator<Item = &Event> {
    record.events.iter().filter(|event| !QUIET.contains(&event.kind.as_str()))
}

fn segments(record: &RolloutRecord) -> BTreeSet<&Name> {
    record.weights.iter().flat_map(|at| at.weights.keys()).collect()
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(" | ")
}

fn in_markdown(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ").replace('<', "&lt;")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn html_table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = "<table>\n<tr>".to_owned();
    head.iter().for_each(|cell| {
        let _infallible = write!(table, "<th>{cell}</th>");
    });
    table.push_str("</tr>\n");
    for row in rows {
        table.push_str("<tr>");
        row.iter().for_each(|cell| {
            let _infallible = write!(table, "<td>{}</td>", escaped(cell));
        });
        table.push_str("</tr>\n");
    }
    table.push_str("</table>\n");
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{cli::show, model::state::RolloutState};

    fn record() -> RolloutRecord {
        let event = |second: i64, kind: &str, message: &str| {
            json!({"id": second, "time": jiff::Timestamp::constant(1_767_600_000 + second, 0), "actor": "uid 0 (root)",
                   "kind": kind, "message": message, "reason": "release <7>"})
        };
        let weights = |second: i64, weight: u8| {
            json!({"time": jiff::Timestamp::constant(1_767_600_000 + second, 0), "epoch": second,
                   "weights": {"asia": 5, "default": weight}})
        };
        serde_json::from_value(json!({
            "number": 7, "runs": [7, 3], "status": show::samples::rollout(RolloutState::RolledBack),
            "plan": {"kind": "Rollout"},
            "events": [event(0, "rolloutStarted", "v2 | is released"), event(60, "rollingBack", "errors broke its limit"),
                       event(61, "subStepReached", "a sub-step")],
            "weights": [weights(1, 10), weights(60, 0)],
        }))
        .expect("a record")
    }

    #[test]
    fn a_report_has_weights_metrics_events_and_the_plan() {
        let text = markdown(&record());
        for said in [
            "# Rollout web-v2",
            "- **state**: rolledBack",
            "- **run**: 7, attempt 1",
            "- **reason**: release &lt;7>",
            "| time | epoch | asia % | default % |",
            "| 2026-01-05T08:00:01Z | 1 | 5 | 10 |",
            "| errors | pass |",
            "| v2 \\| is released |",
            "errors broke its limit",
            "\"kind\": \"Rollout\"",
        ] {
            assert!(text.contains(said), "{text}\nlacks: {said}");
        }
        assert!(!text.contains("a sub-step"));
    }

    #[test]
    fn the_html_needs_nothing_else_and_shows_what_was_said_as_text() {
        let text = html(&record()).expect("drawn");
        assert!(text.starts_with("<!DOCTYPE html>") && text.contains("<svg") && text.contains("</html>"));
        assert!(text.contains("release &lt;7&gt;") && !text.contains("release <7>"));
        for outside in ["<script", "<link", "src=", "@import", "href="] {
            assert!(!text.contains(outside), "{outside}");
        }
    }
}
