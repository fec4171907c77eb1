//! `grayxdp demo`: two releases in a lab of namespaces; a sound one is promoted, a broken one is rolled back.

mod follow;
mod interrupt;
mod screen;
mod stage;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::ensure;
use serde::Serialize;

use crate::{
    lab::Traffic,
    model::{Name, state::RolloutState},
};

use follow::{Release, follow};
use interrupt::Interrupt;
use screen::Screen;
use stage::Stage;

/// Shows a release in a lab on this machine.
///
/// Builds namespaces with real servers, sends real requests by many clients, and releases two versions: a sound one,
/// which is promoted, and one that refuses connections, which is rolled back by itself. Needs root; leaves nothing
/// behind.
///
/// Example: grayxdp demo --duration 60s
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// How long all of it takes, about; at least 30s.
    #[arg(long, default_value = "45s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// Prints nothing but one JSON object at the end.
    #[arg(long)]
    pub json: bool,
}

/// The shortest demo in which each step has time for a verdict.
const SHORTEST: Duration = Duration::from_secs(30);
/// What it takes besides the three pauses of the first release: building, last looks, windows that must close.
const BESIDES: Duration = Duration::from_secs(20);
/// How long the end of a release is shown.
const AFTERGLOW: Duration = Duration::from_secs(2);
/// How many clients ask each service, and how long each waits between two requests.
const CLIENTS: usize = 48;
const PAUSE: Duration = Duration::from_millis(60);
/// What a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// What the demo came to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    /// Whether the sound version was promoted and the broken one rolled back.
    ok: bool,
    duration_seconds: f64,
    releases: Vec<Release>,
}

/// One release that is shown.
struct Act {
    service: &'static str,
    stable: &'static str,
    candidate: &'static str,
    plan: String,
    end: RolloutState,
    headline: &'static str,
}

/// Runs the demo.
///
/// Exit status 0 only if the first release was promoted and the second rolled back.
///
/// # Errors
/// The lab cannot be built, or the daemon does not start or answer: one line.
pub fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.duration >= SHORTEST, "--duration is at least {}", humantime::format_duration(SHORTEST));
    let interrupt = Interrupt::install()?;
    let screen = if args.json { Screen::silent() } else { Screen::new() };
    let result = perform(args.duration, &screen, &interrupt);
    screen.finish();
    if interrupt.is_set() {
        eprintln!("interrupted: everything is taken down");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let report = result?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        conclude(&report, &screen);
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn perform(duration: Duration, screen: &Screen, interrupt: &Interrupt) -> anyhow::Result<Report> {
    let start = Instant::now();
    screen
        .headline("A lab: a client, a load balancer with grayxdp, five backends, each a network namespace of its own");
    let stage = Stage::build(interrupt)?;
    let modes: Vec<_> = stage.status()?.interfaces.into_iter().map(|i| format!("{} {}", i.name, i.mode)).collect();
    screen.line(&format!("XDP on the load balancer: {}", modes.join(", ")));
    let (mut releases, mut ok) = (Vec::new(), true);
    for act in acts(duration) {
        screen.headline(act.headline);
        let traffic = Traffic {
            clients: CLIENTS,
            pause: PAUSE,
            timeout: Duration::from_secs(2),
            ..Traffic::new(stage.endpoint(act.service), stage.sources())
        };
        let running = traffic.start(stage.client())?;
        let release = follow(&stage, &act, &running, screen, interrupt)?;
        ok &= release.state == act.end;
        releases.push(release);
    }
    Ok(Report { ok, duration_seconds: start.elapsed().as_secs_f64(), releases })
}

/// The two releases.
fn acts(duration: Duration) -> [Act; 2] {
    let pause = duration.saturating_sub(BESIDES) / 3;
    [
        Act {
            service: "recsys",
            stable: "v1",
            candidate: "v2",
            plan: plan("recsys-v2", "recsys", &[5, 25, 50], pause, 0.05),
            end: RolloutState::Promoted,
            headline: "recsys v2 is sound: 5, 25, 50, 100 percent of new connections",
        },
        Act {
            service: "search",
            stable: "v1",
            candidate: "v2",
            plan: plan("search-v2", "search", &[10, 50], pause, 0.05),
            end: RolloutState::RolledBack,
            headline: "search v2 refuses connections: its plan allows 5 percent of them to fail",
        },
    ]
}

/// A canary plan that ends at 100 %, judged by what the kernel sees of connections.
fn plan(name: &str, service: &str, weights_percent: &[u8], pause: Duration, max_ratio: f64) -> String {
    let steps: String = weights_percent
        .iter()
        .map(|weight| format!("      - {{setWeight: {weight}, pause: {{duration: {}ms}}}}\n", pause.as_millis()))
        .collect();
    format!(
        "apiVersion: grayxdp.io/v1
kind: Rollout
metadata: {{name: {name}}}
spec:
  service: {service}
  stable: v1
  candidate: v2
  strategy:
    canary:
      steps:
{steps}      - {{setWeight: 100}}
  analysis:
    interval: 1s
    metrics:
    - {{name: refused, provider: {{kernel: {{signal: connectFailureRatio}}}}, thresholdRange: {{max: {max_ratio}}}, minSamples: 10}}
  onFailure: {{action: rollback}}
"
    )
}

/// The last words.
fn conclude(report: &Report, screen: &Screen) {
    screen.headline("What happened");
    for release in &report.releases {
        screen.line(&format!(
            "{} {}: {}; {} of {} requests failed",
            release.service,
            release.candidate,
            screen.state(release.state),
            screen::grouped(release.failed),
            screen::grouped(release.requests),
        ));
        for sentence in [&release.message, &release.reason].into_iter().filter(|sentence| !sentence.is_empty()) {
            screen.line(&format!("  {sentence}"));
        }
    }
    screen.line(&format!("{:.0} s in all; the lab is gone", report.duration_seconds));
}

/// The rollout that a service's plan starts.
fn rollout_name(act: &Act) -> Name {
    format!("{}-{}", act.service, act.candidate).parse().expect("services and versions of the demo have short names")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_pauses_after_each_weight_but_the_last() {
        let text = plan("recsys-v2", "recsys", &[5, 25], Duration::from_millis(6_500), 0.05);
        let steps: Vec<_> = text.lines().filter(|line| line.contains("setWeight")).map(str::trim).collect();
        assert_eq!(
            steps,
            [
                "- {setWeight: 5, pause: {duration: 6500ms}}",
                "- {setWeight: 25, pause: {duration: 6500ms}}",
                "- {setWeight: 100}",
            ]
        );
    }
}
