//! Every state with every kind of input.

use super::*;
use crate::{
    model::{
        kernel::LeaseEnd,
        plan::{Lease, Windows},
        shadow::ShadowCounts,
    },
    rollout::{Awaits, Cause, Flight},
};

/// Next states, of a rollout at 25 % (pending: at nothing; rolling back and promoting: on their way) before its commands
/// are carried out. `-` is no change; `!` is a refusal in one line, with no change.
const TABLE: &str = "
                   | pending     progressing  paused       frozen       promoting    rollingBack  promoted rolledBack completed failed
 tick, waiting     | -           -            -            -            -            -            -        -          -         -
 tick, step over   | -           -            -            -            -            -            -        -          -         -
 tick, breach      | -           rollingBack  rollingBack  rollingBack  rollingBack  -            -        -          -         -
 tick, unobserved  | -           -            -            -            -            -            -        -          -         -
 pause             | paused      paused       !            !            !            !            !        !          !         !
 resume            | !           !            progressing  progressing  !            !            !        !          !         !
 promote           | !           -            progressing  !            !            !            !        !          !         !
 promote --full    | promoting   promoting    promoting    !            !            !            !        !          !         !
 abort             | rollingBack rollingBack  rollingBack  rollingBack  rollingBack  !            !        !          !         !
 journaled         | -           -            -            -            promoted     -            -        -          -         -
 journal failed    | -           -            -            -            -            -            -        -          -         -
 published         | progressing -            -            -            -            rolledBack   -        -          -         -
 publish failed    | -           -            -            -            -            -            -        -          -         -
 restarted, same   | -           -            -            -            -            -            -        -          -         -
 restarted, less   | rolledBack  rolledBack   rolledBack   rolledBack   rolledBack   rolledBack   -        -          -         -
 restarted, more   | frozen      frozen       frozen       frozen       frozen       -            -        -          -         -
 rebooted          | paused      paused       -            -            paused       -            -        -          -         -
 foreign weights   | frozen      frozen       frozen       -            frozen       -            -        -          -         -
 tripped           | rollingBack rollingBack  rollingBack  rollingBack  rollingBack  -            -        -          -         -
 lease expired     | paused      paused       -            paused       paused       -            -        -          -         -
 no stable         | -           -            -            -            -            -            -        -          -         -
 answered          | -           -            -            -            -            -            -        -          -         -
 retry             | !           !            !            !            !            !            !        pending    !         pending
 back              | !           -            -            -            !            !            !        !          !         !
 freeze            | frozen      frozen       frozen       !            !            !            !        !          !         !
 accelerate        | -           -            -            !            !            !            !        !          !         !
 undo              | !           !            !            !            !            !            rollingBack !       !         !
 apply             | -           -            -            -            !            !            !        !          !         !
 tick, outage      | -           frozen       -            -            -            -            -        -          -         -
 tick, deadline    | -           rollingBack  -            -            rollingBack  -            -        -          -         -
 tick, closed      | -           -            -            -            -            -            -        -          -         -
 shares            | -           -            -            -            -            -            -        -          -         -
 copied            | -           -            -            -            -            -            -        -          -         -
";

/// State, input, expected: every cell of the table.
fn cells() -> Vec<(RolloutState, &'static str, &'static str)> {
    let mut rows = TABLE.lines().filter_map(|line| line.split_once('|'));
    let (_, states) = rows.next().expect("a head");
    let named = |label: &str| RolloutState::ALL.into_iter().find(|state| state.label() == label).expect("a state");
    let states: Vec<_> = states.split_whitespace().map(named).collect();
    let cells = rows.flat_map(|(input, row)| {
        states
            .iter()
            .copied()
            .zip(row.split_whitespace())
            .map(|(state, next)| (state, input.trim(), next))
            .collect::<Vec<_>>()
    });
    cells.collect()
}

/// A window of one minute, on another day of the week.
fn never_open() -> Windows {
    let window = serde_json::json!({"days": ["sun"], "from": "03:00", "to": "03:01"});
    serde_json::from_value(serde_json::json!({"timeZone": "UTC", "allow": [window]})).expect("windows")
}

/// The table as people read it: what is in `docs/rollouts.md`.
fn as_markdown() -> String {
    let mut rows = TABLE.lines().filter_map(|line| line.split_once('|'));
    let (_, states) = rows.next().expect("a head");
    let states: Vec<_> = states.split_whitespace().collect();
    let head = format!("| input | {} |\n|{}\n", states.join(" | "), " --- |".repeat(states.len() + 1));
    let rows = rows.map(|(input, cells)| {
        let cells: Vec<_> = cells.split_whitespace().map(|cell| if cell == "!" { "refused" } else { cell }).collect();
        format!("| {} | {} |\n", input.trim(), cells.join(" | "))
    });
    std::iter::once(head).chain(rows).collect()
}

/// `GRAYXDP_WRITE_DOCS=1` writes it.
#[test]
fn the_table_in_the_documentation_is_this_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/rollouts.md");
    let text = std::fs::read_to_string(path).expect("docs/rollouts.md");
    let (begin, end) = ("<!-- table: begin -->\n", "<!-- table: end -->");
    let (before, rest) = text.split_once(begin).expect("a begin");
    let (found, after) = rest.split_once(end).expect("an end");
    if std::env::var_os("GRAYXDP_WRITE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{begin}{}{end}{after}", as_markdown())).expect("written");
    } else {
        assert_eq!(found, as_markdown(), "GRAYXDP_WRITE_DOCS=1 writes it");
    }
}

fn flight(step: usize, weight: Weight, awaits: Awaits) -> Flight {
    Flight { step, exposure: Exposure::of(weight), binding: Vec::new(), awaits }
}

/// A rollout in a state, at step 1 (25 %) of the plan where something is exposed.
fn state_in(phase: RolloutState) -> State {
    let mut world = World::new(plan());
    let pending = phase == RolloutState::Pending;
    if !pending {
        world.seconds(12);
        assert_eq!((world.state.step, world.state.phase), (1, RolloutState::Progressing));
    }
    let mut state = world.state;
    state.phase = phase;
    state.plan.spec.lease = Some(Lease { duration: Duration::from_secs(30), on_expiry: LeaseEnd::Stable });
    let weight = if phase == RolloutState::RollingBack { Weight::ZERO } else { percent(5) };
    state.flight = match phase {
        RolloutState::RollingBack | RolloutState::Pending => Some(flight(0, weight, Awaits::Publishing)),
        RolloutState::Promoting => Some(flight(3, Weight::FULL, Awaits::Promotion)),
        RolloutState::Paused | RolloutState::Frozen => {
            state.cause = Some(Cause::Operator);
            None
        }
        RolloutState::Progressing
        | RolloutState::Promoted
        | RolloutState::RolledBack
        | RolloutState::Completed
        | RolloutState::Failed => None,
    };
    state
}

/// Connections of the candidate up to now, all refused or all answered.
fn observed(state: &State, now: Now, refused: bool) -> History {
    let mut history = History::new(Duration::from_secs(10));
    let begin = state.since.as_secs();
    for second in begin..=now.monotonic.as_secs() {
        let syns = (second - begin) * 250;
        let (syn_acks, refusals) = if refused { (0, syns) } else { (syns, 0) };
        let versions = [(name("v2"), Reading { syns, syn_acks, refusals })].into();
        history.push(Sample { at: Duration::from_secs(second), versions });
    }
    history
}

fn run(state: State, input: &str) -> (State, Vec<Command>) {
    let last = state.last_tick.unwrap_or(Now { monotonic: state.since, wall: state.started });
    let later = |seconds| {
        let time = Duration::from_secs(seconds);
        Now { monotonic: last.monotonic + time, wall: last.wall + time }
    };
    let kernel = InKernel { weight: state.weight, epoch: state.epoch, rollout: 7, in_segments: false };
    let (less, more) = (Weight::ZERO, percent(60));
    let operator = |action| Input::Operator { action, actor: "uid 0 (root)".to_owned(), reason: None };
    let awaited = state.flight.as_ref().map_or(Weight::ZERO, |flight| flight.exposure.weight);
    let history = observed(&state, later(4), input == "tick, breach");
    let input = match input {
        "tick, unobserved" => Input::Tick { observed: None },
        "tick, waiting" | "tick, step over" | "tick, breach" => Input::Tick { observed: Some(&history) },
        "pause" => operator(RolloutAction::Pause),
        "resume" => operator(RolloutAction::Resume),
        "promote" => operator(RolloutAction::Promote { full: false }),
        "promote --full" => operator(RolloutAction::Promote { full: true }),
        "abort" => operator(RolloutAction::Abort),
        "journaled" => {
            Input::Journaled(if state.phase == RolloutState::Promoting { Record::Promotion } else { Record::State })
        }
        "journal failed" => Input::JournalFailed(Record::State, "disk full".to_owned()),
        "published" => Input::Published { weight: awaited, epoch: state.epoch + 1 },
        "publish failed" => Input::PublishFailed { weight: awaited, message: "no memory".to_owned() },
        "restarted, same" => Input::Restarted { kernel: Some(kernel) },
        "restarted, less" => {
            Input::Restarted { kernel: Some(InKernel { weight: less, epoch: state.epoch + 2, ..kernel }) }
        }
        "restarted, more" => {
            Input::Restarted { kernel: Some(InKernel { weight: more, epoch: state.epoch + 2, ..kernel }) }
        }
        "rebooted" => Input::Restarted { kernel: None },
        "foreign weights" => {
            let kernel = InKernel { weight: more, epoch: state.epoch + 1, rollout: 0, in_segments: false };
            Input::ForeignWeights { kernel, by: "uid 0 (root)".to_owned() }
        }
        "tripped" => Input::Tripped { what: "23 connections to v2 failed".to_owned(), failures: 23 },
        "lease expired" => Input::LeaseExpired,
        "answered" => Input::Answered { hook: name("gate"), call: 1, answer: crate::rollout::HookAnswer::Yes },
        "no stable" => Input::NoStable,
        "retry" => operator(RolloutAction::Retry),
        "back" => operator(RolloutAction::Back),
        "freeze" => operator(RolloutAction::Freeze),
        "accelerate" => operator(RolloutAction::Accelerate),
        "undo" => operator(RolloutAction::Undo),
        "apply" => Input::Apply { plan: Box::new(plan()), actor: "uid 0 (root)".to_owned(), reason: None },
        "tick, outage" => Input::Tick { observed: None },
        "tick, deadline" | "tick, closed" => Input::Tick { observed: Some(&history) },
        "copied" => Input::Copied(ShadowCounts { copied: 5, ..ShadowCounts::default() }),
        "shares" => Input::Shares([(name("asia"), 0.4)].into()),
        other => panic!("no such input: {other}"),
    };
    let mut state = state;
    if matches!(input, Input::Tick { .. }) {
        state.since_look = Duration::from_secs(2);
    }
    step(state, input, later(4))
}

#[test]
fn every_state_has_its_answer_to_every_input() {
    let cells = cells();
    assert_eq!(cells.len(), 10 * 33, "ten states, thirty-three kinds of input");
    for (phase, input, expected) in cells {
        let mut before = state_in(phase);
        match input {
            "tick, step over" => before.dwell = Duration::from_secs(10),
            "tick, outage" => before.metrics.values_mut().for_each(|record| record.consecutive_errors = 4),
            "tick, deadline" => before.plan.spec.progress_deadline = Some(Duration::from_secs(1)),
            "tick, closed" => before.plan.spec.windows = Some(never_open()),
            _ => {}
        }
        let (after, commands) = run(before.clone(), input);
        let what = format!("{} + {input}: {} ({})", phase.label(), after.phase.label(), after.message);
        let refusals = commands.iter().filter(|command| matches!(command, Command::Refuse(_))).count();
        match expected {
            "-" => assert_eq!((after.phase, refusals), (phase, 0), "{what}"),
            "!" => {
                assert_eq!((refusals, commands.len()), (1, 1), "{what}");
                assert_eq!(after, before, "{what}");
            }
            next => assert_eq!((after.phase.label(), refusals), (next, 0), "{what}"),
        }
    }
}

#[test]
fn ended_rollouts_ask_for_nothing_whatever_comes() {
    let asks = |(phase, input, _): &(RolloutState, &str, &str)| phase.is_final() && *input != "undo";
    for (phase, input, _) in cells().into_iter().filter(asks) {
        let (_, commands) = run(state_in(phase), input);
        assert!(!commands.iter().any(|command| matches!(command, Command::Publish(_))), "{phase:?} {input}");
    }
}

#[test]
fn every_state_survives_the_journal() {
    for phase in RolloutState::ALL {
        let state = state_in(phase);
        let json = serde_json::to_string(&state).expect("JSON");
        assert_eq!(serde_json::from_str::<State>(&json).expect("a state"), state);
    }
}
