//! Following things: events as they happen, a rollout until it ends.
//!
//! A daemon that restarts meanwhile is waited for: the rollout goes on with it.

use std::time::{Duration, Instant};

use crate::{
    cli::{
        args::Format,
        exit::{CliError, Exit},
        output::{Output, write},
        remote::{Remote, unexpected},
        show,
    },
    control::ClientError,
    model::{
        Name, Weight,
        api::{Request, Response, RolloutStatus},
        event::Event,
        state::RolloutState,
    },
};

/// Time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Time that a daemon may be away.
const RESTART_TIME: Duration = Duration::from_secs(30);

/// Most events in one answer.
const EVENTS_LIMIT: usize = 1_000;

/// What somebody who waits for a rollout wants of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// Its end.
    End,
    /// That stable has everything again.
    RolledBack,
}

/// With which exit status the wait is over; none while it goes on.
const fn outcome(state: RolloutState, goal: Goal) -> Option<Exit> {
    match (state, goal) {
        (RolloutState::Promoted | RolloutState::Completed, Goal::End)
        | (RolloutState::RolledBack, Goal::RolledBack) => Some(Exit::Done),
        (RolloutState::RolledBack, Goal::End) => Some(Exit::RolledBack),
        (RolloutState::Paused, Goal::End) => Some(Exit::WaitsForOperator),
        (RolloutState::Failed, Goal::End | Goal::RolledBack)
        | (RolloutState::Promoted | RolloutState::Completed, Goal::RolledBack) => Some(Exit::Failed),
        (RolloutState::Paused, Goal::RolledBack)
        | (
            RolloutState::Pending
            | RolloutState::Progressing
            | RolloutState::Frozen
            | RolloutState::Promoting
            | RolloutState::RollingBack,
            Goal::End | Goal::RolledBack,
        ) => None,
    }
}

/// `rollout get -w`: shows a rollout until nothing more happens by itself.
pub(super) async fn rollout(remote: &Remote, name: &Name) -> Result<Exit, CliError> {
    let mut view = View::new(remote.output);
    let mut patience = Duration::ZERO;
    loop {
        let rollout = look(remote, name, patience).await?;
        patience = RESTART_TIME;
        view.show(&rollout)?;
        if rollout.state.is_final() {
            return Ok(Exit::Done);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// `--wait`: people see the way, programs the end.
pub(super) async fn until(
    remote: &Remote,
    name: &Name,
    goal: Goal,
    timeout: Option<Duration>,
) -> Result<Exit, CliError> {
    let output = remote.output;
    let mut view = View::new(output);
    let mut last = None;
    let waited = async {
        loop {
            let rollout = last.insert(look(remote, name, RESTART_TIME).await?);
            if output.format == Format::Text {
                view.show(rollout)?;
            }
            if let Some(exit) = outcome(rollout.state, goal) {
                return Ok(exit);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    let ended = match timeout {
        Some(timeout) => tokio::time::timeout(timeout, waited).await,
        None => Ok(waited.await),
    };
    if let (Some(rollout), Format::Json | Format::Yaml) = (&last, output.format) {
        output.answer(rollout, |paint| show::rollout(rollout, paint))?;
    }
    ended.unwrap_or_else(|_| {
        let state = last.as_ref().map_or("unknown", |rollout| rollout.state.label());
        Err(CliError::TimedOut(format!(
            "{name} is {state} at the end of --timeout, and goes on: `grayxdp rollout get {name} -w`"
        )))
    })
}

async fn look(remote: &Remote, name: &Name, patience: Duration) -> Result<RolloutStatus, CliError> {
    let response = patient(remote, &Request::RolloutGet { name: name.clone() }, patience).await?;
    let Response::Rollout(rollout) = response else { return Err(unexpected(&response)) };
    Ok(*rollout)
}

/// `events`, with `-f` for ever.
pub(super) async fn events(remote: &Remote, after: u64, limit: usize, follow: bool) -> Result<Exit, CliError> {
    let output = remote.output;
    let first = some_events(remote, after, limit, Duration::ZERO).await?;
    if !follow {
        output.answer(&first, |paint| first.iter().map(|event| show::event(event, paint)).collect())?;
        return Ok(Exit::Done);
    }
    let (mut after, mut events) = (after, first);
    loop {
        for event in &events {
            output.next_answer(event, |paint| show::event(event, paint))?;
            after = after.max(event.id);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
        events = some_events(remote, after, EVENTS_LIMIT, RESTART_TIME).await?;
    }
}

async fn some_events(remote: &Remote, after: u64, limit: usize, patience: Duration) -> Result<Vec<Event>, CliError> {
    let response = patient(remote, &Request::Events { after, limit }, patience).await?;
    let Response::Events(events) = response else { return Err(unexpected(&response)) };
    Ok(events)
}

/// Asks, and asks again while the daemon is away for no longer than `patience`.
async fn patient(remote: &Remote, request: &Request, patience: Duration) -> Result<Response, CliError> {
    let since = Instant::now();
    loop {
        match remote.client.request(request).await {
            Ok(response) => return Ok(response),
            Err(ClientError::NoDaemon(_) | ClientError::Broken { .. }) if since.elapsed() < patience => {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
            Err(
                error @ (ClientError::NoDaemon(_)
                | ClientError::Denied(_)
                | ClientError::Refused(_)
                | ClientError::Silent(_)
                | ClientError::Broken { .. }),
            ) => return Err(error.into()),
        }
    }
}

/// A rollout on a terminal, drawn over itself; elsewhere a line for each change.
struct View {
    output: Output,
    drawn_lines: usize,
    last: Option<(RolloutState, usize, Weight, String)>,
}

impl View {
    fn new(output: Output) -> Self {
        Self { output, drawn_lines: 0, last: None }
    }

    fn show(&mut self, rollout: &RolloutStatus) -> Result<(), CliError> {
        if self.output.format == Format::Text && self.output.redraws {
            let text = show::rollout(rollout, self.output.paint);
            let drawing = drawing(self.drawn_lines, &text);
            self.drawn_lines = text.lines().count();
            return write(&drawing);
        }
        let now = (rollout.state, rollout.step, rollout.weight, rollout.message.clone());
        if self.last.as_ref() != Some(&now) {
            self.output.next_answer(rollout, |_| show::progress_line(rollout))?;
            self.last = Some(now);
        }
        Ok(())
    }
}

/// Text over the lines drawn before. Lines are cut at the edge, not wrapped, so that their number is known.
fn drawing(drawn_lines: usize, text: &str) -> String {
    let back = if drawn_lines > 0 { format!("\x1b[{drawn_lines}A\r\x1b[J") } else { String::new() };
    format!("{back}\x1b[?7l{text}\x1b[?7h")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_says_how_the_wait_ended() {
        let table = [
            (RolloutState::Pending, None, None),
            (RolloutState::Progressing, None, None),
            (RolloutState::Paused, Some(5), None),
            (RolloutState::Frozen, None, None),
            (RolloutState::Promoting, None, None),
            (RolloutState::RollingBack, None, None),
            (RolloutState::Promoted, Some(0), Some(1)),
            (RolloutState::RolledBack, Some(3), Some(0)),
            (RolloutState::Completed, Some(0), Some(1)),
            (RolloutState::Failed, Some(1), Some(1)),
        ];
        for (state, end, back) in table {
            assert_eq!(outcome(state, Goal::End).map(Exit::status), end, "{state:?}");
            assert_eq!(outcome(state, Goal::RolledBack).map(Exit::status), back, "{state:?}");
        }
    }

    #[test]
    fn a_drawing_replaces_the_one_before() {
        assert_eq!(drawing(0, "a\n"), "\x1b[?7la\n\x1b[?7h");
        assert_eq!(drawing(2, "a\n"), "\x1b[2A\r\x1b[J\x1b[?7la\n\x1b[?7h");
    }
}
