//! Calls webhooks and delivers notifications, so that nobody waits: each call is a task, each endpoint of notifications has a
//! queue of its own in which they keep their order.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::{
    sync::mpsc::{self, error::TrySendError},
    task::JoinSet,
    time::sleep,
};

use crate::{
    model::Name,
    providers::web::{Failure, Post, post},
};

/// Notifications of one endpoint that wait; later ones are dropped and counted.
const QUEUE: usize = 256;

/// Tries of one notification.
const TRIES: u32 = 9;

/// Wait before the second try; the next waits twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Whose errand it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Whose {
    /// The service of the rollout.
    pub service: Name,
    /// Number of the rollout.
    pub rollout: u64,
    /// The webhook, or the index of the notification in the plan.
    pub outlet: Outlet,
}

/// Where an errand goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outlet {
    /// A webhook of the plan.
    Hook(Name),
    /// What replaces the backends of a rolling release.
    Replace,
    /// A notification of the plan, by its index.
    Notification(usize),
}

/// Something to be sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Errand {
    /// A webhook whose answer is awaited.
    Call {
        /// Whose.
        whose: Whose,
        /// Number of the call.
        call: u64,
        /// What is sent.
        post: Post,
        /// Further tries at once where there was no answer.
        retries: u32,
    },
    /// News that nobody waits for.
    Note {
        /// Whose.
        whose: Whose,
        /// What is sent.
        post: Post,
    },
}

/// What became of an errand.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A webhook's answer.
    Answered {
        /// Number of the call.
        call: u64,
        /// No error: a status from 200 to 299.
        result: Result<(), Failure>,
    },
    /// News arrived.
    Delivered,
    /// A try failed; more follow unless `is_last`.
    Undelivered {
        /// Why.
        why: String,
        /// Whether it is given up.
        is_last: bool,
    },
    /// News was dropped: too much waits already.
    Dropped,
}

/// What became of whose errand.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Whose.
    pub whose: Whose,
    /// What.
    pub outcome: Outcome,
}

/// Runs errands until nobody has any more, or nobody listens.
pub async fn deliver(mut errands: mpsc::UnboundedReceiver<Errand>, told: mpsc::Sender<Told>) {
    let mut tasks = JoinSet::new();
    let mut queues: BTreeMap<Whose, mpsc::Sender<Post>> = BTreeMap::new();
    loop {
        tokio::select! {
            errand = errands.recv() => match errand {
                None => return,
                Some(Errand::Call { whose, call, post, retries }) => {
                    tasks.spawn(ask(whose, call, post, retries, told.clone()));
                }
                Some(Errand::Note { whose, post }) => {
                    let queue = queues.entry(whose.clone()).or_insert_with(|| {
                        let (sender, receiver) = mpsc::channel(QUEUE);
                        tasks.spawn(work_off(whose.clone(), receiver, told.clone()));
                        sender
                    });
                    if let Err(TrySendError::Full(_) | TrySendError::Closed(_)) = queue.try_send(post)
                        && told.send(Told { whose, outcome: Outcome::Dropped }).await.is_err()
                    {
                        return;
                    }
                    retire(&mut queues);
                }
            },
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
        }
    }
}

/// Of the rollouts of a service only the newest two have news: the queues of older ones end when they are empty.
fn retire(queues: &mut BTreeMap<Whose, mpsc::Sender<Post>>) {
    let rollouts: BTreeSet<_> = queues.keys().map(|whose| (whose.service.clone(), whose.rollout)).collect();
    queues.retain(|whose, _| {
        let newer = rollouts.iter().filter(|(service, rollout)| *service == whose.service && *rollout > whose.rollout);
        newer.count() < 2
    });
}

/// One webhook, one answer.
async fn ask(whose: Whose, call: u64, errand: Post, retries: u32, told: mpsc::Sender<Told>) {
    let mut wait = FIRST_WAIT / 4;
    let mut result = post(&errand).await;
    for _ in 0..retries {
        let Err(Failure::NoAnswer(_)) = result else { break };
        sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
        result = post(&errand).await;
    }
    // Nobody listens at the daemon's end.
    let _ = told.send(Told { whose, outcome: Outcome::Answered { call, result } }).await;
}

/// The news of one endpoint, one after the other.
async fn work_off(whose: Whose, mut posts: mpsc::Receiver<Post>, told: mpsc::Sender<Told>) {
    while let Some(errand) = posts.recv().await {
        let mut wait = FIRST_WAIT;
        for left in (0..TRIES).rev() {
            let outcome = match post(&errand).await {
                Ok(()) => Outcome::Delivered,
                Err(failure) => {
                    Outcome::Undelivered { is_last: left == 0 || failure.is_final(), why: failure.to_string() }
                }
            };
            let is_done = match &outcome {
                Outcome::Undelivered { is_last, why: _ } => *is_last,
                Outcome::Delivered | Outcome::Dropped | Outcome::Answered { .. } => true,
            };
            if told.send(Told { whose: whose.clone(), outcome }).await.is_err() {
                return;
            }
            if is_done {
                break;
            }
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, sync::Arc};

    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        sync::Mutex,
        time::{Instant, timeout},
    };

    use super::*;
    use crate::providers::Web;

    /// A server that gives these statuses one after the other, the last for ever, and keeps the bodies.
    async fn server(statuses: &'static [u16]) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = listener.local_addr().expect("bound");
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let kept = bodies.clone();
        tokio::spawn(async move {
            let mut turn = 0;
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut text = String::new();
                while !text.ends_with('}') {
                    let mut buffer = [0; 4_096];
                    let read = stream.read(&mut buffer).await.expect("read");
                    text.push_str(&String::from_utf8_lossy(&buffer[..read]));
                }
                let status = statuses[turn.min(statuses.len() - 1)];
                turn += 1;
                kept.lock().await.push(text.split_once("\r\n\r\n").expect("a body").1.to_owned());
                let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.expect("written");
            }
        });
        (address, bodies)
    }

    fn whose(outlet: Outlet) -> Whose {
        Whose { service: "recsys".parse().expect("a name"), rollout: 3, outlet }
    }

    fn posted(address: SocketAddr, number: u32) -> Post {
        let web =
            Web { address: Ok(format!("http://{address}/")), headers: BTreeMap::new(), headers_from: BTreeMap::new() };
        Post { web, body: json!({ "number": number }), timeout: Duration::from_millis(500) }
    }

    async fn next(told: &mut mpsc::Receiver<Told>) -> Told {
        timeout(Duration::from_secs(10), told.recv()).await.expect("in time").expect("something")
    }

    #[tokio::test]
    async fn news_keeps_its_order_over_failures_and_a_dead_endpoint_delays_no_other() {
        let (flaky, bodies) = server(&[503, 200]).await;
        // It accepts and never answers.
        let dead = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let (sender, errands) = mpsc::unbounded_channel();
        let (telling, mut told) = mpsc::channel(64);
        let courier = tokio::spawn(deliver(errands, telling));
        let (good, bad) = (whose(Outlet::Notification(0)), whose(Outlet::Notification(1)));
        let begin = Instant::now();
        for number in 0..3 {
            for (whose, address) in [(&bad, dead.local_addr().expect("bound")), (&good, flaky)] {
                let note = Errand::Note { whose: whose.clone(), post: posted(address, number) };
                sender.send(note).expect("taken");
            }
        }
        let (mut delivered, mut failures) = (0, Vec::new());
        while delivered < 3 {
            match next(&mut told).await {
                Told { whose, outcome: Outcome::Delivered } if whose == good => delivered += 1,
                Told { whose, outcome: Outcome::Undelivered { why, is_last: false } } => failures.push((whose, why)),
                other => panic!("{other:?}"),
            }
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        assert!(failures.contains(&(good, "HTTP status 503".to_owned())), "{failures:?}");
        assert!(failures.contains(&(bad, "no answer within 500ms".to_owned())), "{failures:?}");
        let numbers: Vec<_> = bodies.lock().await.clone();
        assert_eq!(numbers, ["{\"number\":0}", "{\"number\":0}", "{\"number\":1}", "{\"number\":2}"]);
        drop(sender);
        courier.await.expect("it ends by itself");
    }

    #[tokio::test]
    async fn what_an_endpoint_refuses_is_not_sent_again_and_too_much_is_dropped() {
        let (refusing, bodies) = server(&[404]).await;
        let (sender, errands) = mpsc::unbounded_channel();
        let (telling, mut told) = mpsc::channel(1_024);
        let _courier = tokio::spawn(deliver(errands, telling));
        let whose_first = whose(Outlet::Notification(0));
        sender.send(Errand::Note { whose: whose_first, post: posted(refusing, 1) }).expect("taken");
        let refused = next(&mut told).await.outcome;
        assert_eq!(refused, Outcome::Undelivered { why: "HTTP status 404".to_owned(), is_last: true });
        assert_eq!(bodies.lock().await.len(), 1);
        let dead = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = dead.local_addr().expect("bound");
        for number in 0..300 {
            let whose = whose(Outlet::Notification(1));
            sender.send(Errand::Note { whose, post: posted(address, number) }).expect("taken");
        }
        // One is under way, 256 wait.
        let mut dropped = 0;
        while dropped < 43 {
            match next(&mut told).await.outcome {
                Outcome::Dropped => dropped += 1,
                Outcome::Undelivered { is_last: false, .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_call_is_repeated_where_there_was_no_answer_and_a_no_is_an_answer() {
        let (sender, errands) = mpsc::unbounded_channel();
        let (telling, mut told) = mpsc::channel(8);
        let _courier = tokio::spawn(deliver(errands, telling));
        let mut call = async |address, retries| {
            let (whose, post) = (whose(Outlet::Hook("gate".parse().expect("a name"))), posted(address, 1));
            sender.send(Errand::Call { whose, call: 7, post, retries }).expect("taken");
            match next(&mut told).await.outcome {
                Outcome::Answered { call: 7, result } => result,
                other => panic!("{other:?}"),
            }
        };
        let (yes, _) = server(&[200]).await;
        assert_eq!(call(yes, 0).await, Ok(()));
        let (no, bodies) = server(&[403]).await;
        assert_eq!(call(no, 3).await, Err(Failure::Refused { status: 403, why: "HTTP status 403".to_owned() }));
        assert_eq!(bodies.lock().await.len(), 1, "a no is an answer");
        let dead = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let begin = Instant::now();
        let late = call(dead.local_addr().expect("bound"), 1).await;
        assert_eq!(late, Err(Failure::NoAnswer("no answer within 500ms".to_owned())));
        assert!(begin.elapsed() >= Duration::from_millis(1_000), "twice: {:?}", begin.elapsed());
    }
}
