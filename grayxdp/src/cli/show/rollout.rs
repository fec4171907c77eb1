//! `grayxdp rollout list` and `rollout get`: where rollouts stand, one as a tree of its steps.

use std::{fmt::Write, time::Duration};

use crate::{
    cli::{
        show::instant,
        table::{Cell, Paint, Side, Table, Tone},
    },
    model::{
        api::{Progress, RolloutStatus, Standing},
        kernel::LeaseEnd,
        state::{RolloutState, Verdict},
    },
};

/// How a state looks: a sign and a colour.
const fn sign(state: RolloutState) -> (&'static str, Tone) {
    match state {
        RolloutState::Pending => ("◌", Tone::Faint),
        RolloutState::Progressing | RolloutState::Promoting => ("▶", Tone::Good),
        RolloutState::Paused => ("‖", Tone::Notable),
        RolloutState::Frozen => ("❄", Tone::Notable),
        RolloutState::RollingBack => ("◀", Tone::Bad),
        RolloutState::Promoted | RolloutState::Completed => ("✔", Tone::Good),
        RolloutState::RolledBack | RolloutState::Failed => ("✖", Tone::Bad),
    }
}

const fn verdict_tone(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Pass => Tone::Good,
        Verdict::Fail | Verdict::Error => Tone::Bad,
        Verdict::Inconclusive | Verdict::NoData => Tone::Notable,
    }
}

/// All rollouts, one a line.
pub(crate) fn list(rollouts: &[RolloutStatus], paint: Paint) -> String {
    let mut table = Table::new(
        0,
        &[
            ("ROLLOUT", Side::Left),
            ("SERVICE", Side::Left),
            ("STATE", Side::Left),
            ("STEP", Side::Right),
            ("WEIGHT", Side::Right),
            ("STARTED", Side::Left),
            ("MESSAGE", Side::Left),
        ],
    );
    for rollout in rollouts {
        table.row(vec![
            Cell::plain(&rollout.name),
            Cell::plain(&rollout.service),
            Cell::new(sign(rollout.state).1, rollout.state.label()),
            Cell::plain(step_of(rollout)),
            Cell::plain(format!("{} %", rollout.weight)),
            Cell::plain(instant(rollout.started)),
            Cell::plain(&rollout.message),
        ]);
    }
    table.render(paint)
}

/// `2/4`: the current step, counted from 1.
fn step_of(rollout: &RolloutStatus) -> String {
    let total = rollout.steps.len();
    format!("{}/{total}", (rollout.step + 1).min(total))
}

/// One line for logs and pipes: what a person who waits wants to know.
pub(crate) fn progress_line(rollout: &RolloutStatus) -> String {
    let RolloutStatus { name, state, weight, message, .. } = rollout;
    let parts = rollout.progress.as_ref().filter(|progress| progress.count > 1 && !progress.parts.is_empty());
    let part = parts.map_or_else(String::new, |of| format!(" ({} of {})", of.position, of.count));
    format!("{name}: {}, step {}{part}, weight {weight} %: {message}\n", state.label(), step_of(rollout))
}

/// One rollout: its steps as a tree, below them what the metrics found.
pub(crate) fn tree(rollout: &RolloutStatus, paint: Paint) -> String {
    let RolloutStatus { name, service, stable, candidate, state, message, weight, started, ended, epoch, .. } = rollout;
    let (mark, tone) = sign(*state);
    let mut text = format!("{}  {}\n", paint.text(Tone::Title, name.as_str()), paint.text(tone, state.label()));
    let _infallible = write!(text, "  {message}\n  service {service}, {stable} to {candidate}, epoch {epoch}\n");
    let _infallible = write!(text, "  started {}", instant(*started));
    if let Some(ended) = ended {
        let _infallible = write!(text, ", ended {}", instant(*ended));
    }
    if rollout.attempt > 1 {
        let _infallible = write!(text, ", attempt {}", rollout.attempt);
    }
    text.push_str(&guard(rollout, paint));
    let _infallible = write!(text, "\n\n{} {weight} %", paint.text(tone, &format!("{mark} {candidate}")));
    if let Some(left) = rollout.progress.as_ref().and_then(|progress| progress.seconds_left) {
        let _infallible = write!(text, ", all steps over in {} at the earliest", whole(left));
    }
    text.push('\n');
    for (index, step) in rollout.steps.iter().enumerate() {
        let is_last = index + 1 == rollout.steps.len();
        let branch = if is_last { "└─" } else { "├─" };
        let (mark, tone) = step_sign(rollout, index);
        let progress = rollout.progress.as_ref().filter(|progress| !progress.parts.is_empty());
        let (aside, below) = match progress {
            _ if index != rollout.step || state.is_final() => (String::new(), String::new()),
            Some(progress) => (way(progress), parts(rollout, progress, if is_last { "   " } else { "│  " }, paint)),
            None => (dwell(rollout), String::new()),
        };
        let _infallible = writeln!(text, "{branch} {}{aside}", paint.text(tone, &format!("{mark} {step}")));
        text.push_str(&below);
    }
    if !rollout.findings.is_empty() {
        text.push('\n');
        text.push_str(&findings(rollout).render(paint));
    }
    for prospect in &rollout.prospects {
        let _infallible = writeln!(text, "{}: {}", prospect.metric, prospect.sentence);
    }
    text
}

/// Fuse and lease, a line each.
fn guard(rollout: &RolloutStatus, paint: Paint) -> String {
    let mut text = String::new();
    if let Some(fuse) = &rollout.fuse {
        let window = humantime::format_duration(Duration::from_secs_f64(fuse.window_seconds));
        let (ratio, failures) = (fuse.ratio * 100.0, fuse.failures);
        let _infallible = match &fuse.tripped {
            Some(what) => write!(text, "\n  fuse {}: {what}", paint.text(Tone::Bad, "tripped")),
            None => write!(
                text,
                "\n  fuse armed: {failures} failures so far; trips above {} within {window}, at least {ratio} %",
                fuse.limit
            ),
        };
    }
    if let Some(lease) = &rollout.lease {
        let end = match lease.on_expiry {
            LeaseEnd::Stable => "new flows go to stable",
            LeaseEnd::Hold => "the weight stays",
        };
        let _infallible = match lease.remaining_seconds {
            _ if lease.expired => write!(text, "\n  lease {}: {end}", paint.text(Tone::Bad, "expired")),
            Some(left) => write!(text, "\n  lease {left:.0} s of {:.0} s left, then {end}", lease.duration_seconds),
            None => write!(text, "\n  lease of {:.0} s, then {end}", lease.duration_seconds),
        };
    }
    if let Some(counts) = &rollout.shadow {
        let _infallible = write!(text, "\n  {}", counts.said());
    }
    for hook in &rollout.hooks {
        let (name, kind, calls) = (&hook.name, hook.r#type.label(), hook.calls);
        let said = match &hook.error {
            Some(error) => paint.text(Tone::Notable, error),
            None if hook.awaited => "is being asked".to_owned(),
            None if calls == 0 => "not asked yet".to_owned(),
            None => paint.text(Tone::Good, "yes"),
        };
        let _infallible = write!(text, "\n  webhook {name} ({kind}): {said}");
    }
    for outlet in &rollout.outlets {
        let said = match &outlet.error {
            Some(error) => {
                format!(", {} waiting, {} lost: {}", outlet.waiting, outlet.lost, paint.text(Tone::Bad, error))
            }
            None => format!(", {} waiting", outlet.waiting),
        };
        let _infallible = write!(text, "\n  {}: {} delivered{said}", outlet.outlet, outlet.delivered);
    }
    text
}

fn step_sign(rollout: &RolloutStatus, index: usize) -> (&'static str, Tone) {
    let reached = match rollout.state {
        RolloutState::Promoted | RolloutState::Completed => true,
        RolloutState::Pending
        | RolloutState::Progressing
        | RolloutState::Paused
        | RolloutState::Frozen
        | RolloutState::Promoting
        | RolloutState::RollingBack
        | RolloutState::RolledBack
        | RolloutState::Failed => index < rollout.step,
    };
    if reached {
        ("✔", Tone::Good)
    } else if index == rollout.step {
        sign(rollout.state)
    } else {
        ("·", Tone::Faint)
    }
}

/// Whole seconds as `12m`.
fn whole(seconds: f64) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(seconds.max(0.0) as u64))
}

/// `  (3 of 24, 5.02 of 100 %, 13days 22h left)`.
fn way(progress: &Progress) -> String {
    let share = format!("{:.2}", progress.share * 100.0);
    let share = share.trim_end_matches('0').trim_end_matches('.');
    let target = progress.target.map_or_else(|| format!("{share} %"), |target| format!("{share} of {target} %"));
    let position = (progress.count > 1).then(|| format!("{} of {}", progress.position, progress.count));
    let left = progress.step_seconds_left.map(|left| format!("{} left", whole(left)));
    let said: Vec<_> = [position, Some(target), left].into_iter().flatten().collect();
    format!("  ({})", said.join(", "))
}

/// The parts of the current step, a line each.
fn parts(rollout: &RolloutStatus, progress: &Progress, indent: &str, paint: Paint) -> String {
    let mut text = String::new();
    for (index, part) in progress.parts.iter().enumerate() {
        let branch = if index + 1 == progress.parts.len() { "└─" } else { "├─" };
        let ((mark, tone), aside) = match part.standing {
            Standing::Done => (("✔", Tone::Good), String::new()),
            Standing::Now => (sign(rollout.state), now(rollout)),
            Standing::Ahead => {
                (("·", Tone::Faint), part.due_seconds.map_or_else(String::new, |due| format!("  in {}", whole(due))))
            }
        };
        let said = paint.text(tone, &format!("{mark} {}", part.what));
        let _infallible = writeln!(text, "{indent}{branch} {said}{aside}");
    }
    text
}

/// What the present part waits for: caps that bind, or the end of its pause.
fn now(rollout: &RolloutStatus) -> String {
    match rollout.binding.as_slice() {
        [] => dwell(rollout),
        binding => format!("  ({})", binding.join(", ")),
    }
}

/// `  (12m of 30m)`, or how long it has waited for an operator.
fn dwell(rollout: &RolloutStatus) -> String {
    let passed = whole(rollout.dwell_seconds);
    match rollout.pause_seconds {
        Some(pause) => format!("  ({passed} of {})", whole(pause)),
        None => format!("  ({passed})"),
    }
}

fn findings(rollout: &RolloutStatus) -> Table {
    let mut table = Table::new(
        0,
        &[
            ("METRIC", Side::Left),
            ("VERDICT", Side::Left),
            ("SAMPLES", Side::Right),
            ("LOOKS", Side::Left),
            ("", Side::Left),
        ],
    );
    for finding in &rollout.findings {
        let looks = rollout.verdicts.get(&finding.metric).into_iter().flatten().filter(|(_, count)| **count > 0);
        let looks: Vec<String> = looks.map(|(verdict, count)| format!("{} {count}", verdict.label())).collect();
        table.row(vec![
            Cell::plain(&finding.metric),
            Cell::new(verdict_tone(finding.verdict), finding.verdict.label()),
            Cell::plain(finding.samples),
            Cell::plain(looks.join(", ")),
            Cell::plain(&finding.sentence),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::show::samples,
        model::{
            api::{FuseStatus, LeaseStatus, ProgressPart},
            state::Prospect,
        },
    };

    #[test]
    fn a_rollout_is_a_tree_of_its_steps() {
        let expected = "\
web-v2  progressing
  25 % for 30m
  service web, v1 to v2, epoch 3
  started 2026-03-01 09:00:00Z

▶ v2 25 %
├─ ✔ setWeight 5, pause 30m
├─ ▶ setWeight 25, pause 30m  (12m of 30m)
└─ · setWeight 100

METRIC  VERDICT  SAMPLES  LOOKS
errors  pass        1200  pass 71, noData 1  v2 refuses 0.4 % of 1,200 connections; limit 1 %
";
        assert_eq!(tree(&samples::rollout(RolloutState::Progressing), Paint::Bare), expected);
    }

    #[test]
    fn a_ramp_shows_its_points() {
        let part = |what: &str, standing, due_seconds| ProgressPart { what: what.to_owned(), standing, due_seconds };
        let mut rollout = samples::rollout(RolloutState::Progressing);
        rollout.steps = ["setWeight 5, pause 30m", "ramp linear 25 to 75 in 1h"].map(str::to_owned).to_vec();
        rollout.progress = Some(Progress {
            share: 0.25,
            target: Some(samples::weight("75")),
            position: 1,
            count: 3,
            parts: vec![
                part("25 %", Standing::Now, None),
                part("50 %", Standing::Ahead, Some(1_080.0)),
                part("75 %", Standing::Ahead, Some(2_880.0)),
            ],
            step_seconds_left: Some(2_880.0),
            seconds_left: Some(2_880.0),
        });
        let expected = "\
▶ v2 25 %, all steps over in 48m at the earliest
├─ ✔ setWeight 5, pause 30m
└─ ▶ ramp linear 25 to 75 in 1h  (1 of 3, 25 of 75 %, 48m left)
   ├─ ▶ 25 %  (12m of 30m)
   ├─ · 50 %  in 18m
   └─ · 75 %  in 48m
";
        let text = tree(&rollout, Paint::Bare);
        assert!(text.contains(expected), "{text}");
        assert!(progress_line(&rollout).contains("step 2/2 (1 of 3), weight 25 %"));
        rollout.binding = vec!["asia's cap of 25 points".to_owned()];
        assert!(tree(&rollout, Paint::Bare).contains("├─ ▶ 25 %  (asia's cap of 25 points)\n"));
    }

    #[test]
    fn fuse_and_lease_are_shown_while_armed_and_when_they_acted() {
        let fuse = FuseStatus { limit: 20, ratio: 0.5, window_seconds: 1.0, failures: 3, tripped: None };
        let (duration_seconds, on_expiry) = (30.0, LeaseEnd::Stable);
        let lease = LeaseStatus { duration_seconds, on_expiry, remaining_seconds: Some(29.4), expired: false };
        let mut rollout = samples::rollout(RolloutState::Progressing);
        (rollout.fuse, rollout.lease) = (Some(fuse.clone()), Some(lease.clone()));
        let text = tree(&rollout, Paint::Bare);
        assert!(text.contains("  fuse armed: 3 failures so far; trips above 20 within 1s, at least 50 %\n"), "{text}");
        assert!(text.contains("  lease 29 s of 30 s left, then new flows go to stable\n"), "{text}");
        rollout.attempt = 2;
        rollout.fuse = Some(FuseStatus { tripped: Some("23 connections to v2 failed".to_owned()), ..fuse });
        rollout.lease = Some(LeaseStatus { expired: true, ..lease });
        let text = tree(&rollout, Paint::Bare);
        assert!(text.contains(", attempt 2\n  fuse tripped: 23 connections to v2 failed\n"), "{text}");
        assert!(text.contains("  lease expired: new flows go to stable\n"), "{text}");
    }

    #[test]
    fn what_a_step_can_show_stands_below_what_was_found() {
        let mut rollout = samples::rollout(RolloutState::Progressing);
        let metric = "errors".parse().expect("a name");
        let sentence = "at 200 new flows a second 30m of this step show nothing".to_owned();
        rollout.prospects = vec![Prospect { metric, detectable: None, seconds_needed: None, sentence }];
        let text = tree(&rollout, Paint::Bare);
        assert!(
            text.ends_with("limit 1 %\nerrors: at 200 new flows a second 30m of this step show nothing\n"),
            "{text}"
        );
    }

    #[test]
    fn an_ended_rollout_shows_where_it_ended() {
        let back = tree(&samples::rollout(RolloutState::RolledBack), Paint::Bare);
        assert!(
            back.contains("├─ ✔ setWeight 5, pause 30m\n├─ ✖ setWeight 25, pause 30m\n└─ · setWeight 100"),
            "{back}"
        );
        let promoted = tree(&samples::rollout(RolloutState::Promoted), Paint::Bare);
        assert!(promoted.contains("└─ ✔ setWeight 100"), "{promoted}");
    }

    #[test]
    fn a_rollout_in_one_line() {
        let paused = samples::rollout(RolloutState::Paused);
        assert_eq!(progress_line(&paused), "web-v2: paused, step 2/3, weight 25 %: 25 % for 30m\n");
        let expected = "\
ROLLOUT  SERVICE  STATE   STEP  WEIGHT  STARTED               MESSAGE
web-v2   web      paused   2/3    25 %  2026-03-01 09:00:00Z  25 % for 30m
";
        assert_eq!(list(&[paused], Paint::Bare), expected);
    }
}
