//! Asks all who are to be asked for values, each at its own time, and tells what they answer.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    analysis::Answer,
    model::{Name, plan::Provider},
    providers::{command, http, prometheus, web::within},
};

/// Wait before the first further try; the next waits twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// Whose value it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The service of the rollout.
    pub service: Name,
    /// Number of the rollout.
    pub rollout: u64,
    /// The metric.
    pub metric: Name,
}

/// Somebody to be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Who, and what; names stand in place of placeholders.
    pub provider: Provider,
    /// Time between two questions.
    pub interval: Duration,
}

/// All who are to be asked. Exchanged as a whole; what stays the same goes on as it is.
pub type Targets = Arc<BTreeMap<Key, Target>>;

/// What somebody answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// About what.
    pub key: Key,
    /// The answer.
    pub answer: Answer,
}

/// Asks until the sender of `targets` or the receiver of `reports` is gone.
pub async fn run(mut targets: watch::Receiver<Targets>, reports: mpsc::Sender<Report>) {
    let mut running: BTreeMap<Key, (Target, AbortHandle)> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let wanted = targets.borrow_and_update().clone();
        running.retain(|key, (target, task)| {
            let stays = wanted.get(key) == Some(target) && !task.is_finished();
            if !stays {
                task.abort();
            }
            stays
        });
        for (key, target) in wanted.iter() {
            running.entry(key.clone()).or_insert_with(|| {
                let task = tasks.spawn(repeat(key.clone(), target.clone(), reports.clone()));
                (target.clone(), task)
            });
        }
        tokio::select! {
            changed = targets.changed() => if changed.is_err() { return },
            // One that was aborted is forgotten already; one that died is begun anew.
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => if ended.is_ok() { return },
        }
    }
}

/// Asks one until nobody listens.
async fn repeat(key: Key, target: Target, reports: mpsc::Sender<Report>) {
    let mut times = interval(target.interval);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        times.tick().await;
        let answer = ask(&target.provider).await;
        if reports.send(Report { key: key.clone(), answer }).await.is_err() {
            return;
        }
    }
}

/// Said of what comes by itself.
const NOT_ASKED: &str = "nobody is asked for it";

/// One answer, after as many tries as the plan allows.
async fn ask(provider: &Provider) -> Answer {
    let (timeout, retries) = match provider {
        Provider::Kernel(_) | Provider::Posted(_) => return Answer::Failed(NOT_ASKED.to_owned()),
        Provider::Prometheus(query) => (query.timeout, query.retries),
        Provider::Http(query) => (query.timeout, query.retries),
        Provider::Command(query) => (query.timeout, query.retries),
    };
    let mut wait = FIRST_WAIT;
    for left in (0..=retries).rev() {
        let answer = within(timeout, ask_once(provider)).await;
        match answer {
            Ok(answer) => return answer,
            Err(why) if left == 0 => return Answer::Failed(why),
            Err(_) => {
                sleep(wait).await;
                wait *= 2;
            }
        }
    }
    Answer::Failed("it was never asked".to_owned())
}

async fn ask_once(provider: &Provider) -> Result<Answer, String> {
    match provider {
        Provider::Kernel(_) | Provider::Posted(_) => Err(NOT_ASKED.to_owned()),
        Provider::Prometheus(query) => prometheus::ask(query).await,
        Provider::Http(query) => http::ask(query).await,
        Provider::Command(query) => command::ask(query).await,
    }
}

#[cfg(test)]
mod tests;
