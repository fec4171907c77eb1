//! The thread around the owner, and who watches over it.

use super::*;
use crate::daemon::{Daemon, DaemonError, handle, reload_signal, start_with_clock};

async fn daemon(host: &Host) -> Daemon {
    let kernel = host.kernel.clone();
    let clock = Box::new(host.clock.clone());
    start_with_clock(host.config_path(), clock, false, move |_| Ok(Box::new(kernel))).await.expect("a daemon")
}

#[tokio::test]
async fn a_stopped_daemon_leaves_the_kernel_forwarding() {
    let host = Host::new();
    let daemon = daemon(&host).await;
    let handle = daemon.handle();
    handle.ready().await.expect("ready");
    assert!(handle.metrics_view().await.is_ok());
    daemon.run(reload_signal().expect("signals"), async {}).await.expect("an ordinary end");
    assert!(host.kernel.memory().attached);
    assert!(!host.kernel.memory().detached);
    let error = handle.request(Request::Status, "uid 0 (root)").await.expect_err("it has ended");
    assert_eq!(error.message, "the daemon is ending");
}

#[tokio::test]
async fn detach_answers_and_ends_the_daemon() {
    let host = Host::new();
    let daemon = daemon(&host).await;
    let handle = daemon.handle();
    let running = tokio::spawn(daemon.run(reload_signal().expect("signals"), std::future::pending()));
    handle.request(Request::Detach { options: ChangeOptions::default() }, "uid 0 (root)").await.expect("done");
    running.await.expect("no panic").expect("an ordinary end");
    assert!(host.kernel.memory().detached);
}

#[tokio::test]
async fn an_owner_that_dies_ends_the_daemon_with_one_line() {
    let host = Host::new();
    let daemon = daemon(&host).await;
    host.kernel.memory().panics = true;
    let end = daemon.run(reload_signal().expect("signals"), std::future::pending()).await;
    let Err(error @ DaemonError::OwnerDied) = end else { panic!("it went on") };
    assert!(!error.to_string().contains('\n'));
}

#[tokio::test]
async fn of_two_starts_at_once_for_one_service_one_is_a_conflict() {
    let host = Host::new();
    let daemon = daemon(&host).await;
    let request = || Request::RolloutStart { plan: Box::new(canary()), options: ChangeOptions::default() };
    let (first, second) = (daemon.handle(), daemon.handle());
    let (first, second) = tokio::join!(first.request(request(), "a"), second.request(request(), "b"));
    let errors: Vec<_> = [first, second].into_iter().filter_map(Result::err).collect();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].class, crate::model::api::ErrorClass::Conflict);
}

#[tokio::test]
async fn a_start_that_fails_says_why_in_one_line() {
    let host = Host::new();
    host.configure("services: [{name: Bad}]\n");
    let kernel = host.kernel.clone();
    let clock = Box::new(host.clock.clone());
    let start = start_with_clock(host.config_path(), clock, false, move |_| Ok(Box::new(kernel))).await;
    let error = start.expect_err("a refusal").to_string();
    assert!(error.contains("grayxdp.yaml") && !error.contains('\n'), "{error}");
}

#[tokio::test]
async fn however_many_ask_changes_and_ticks_find_room() {
    // The owner is at work, and takes nothing.
    let (handle, messages) = handle::channel();
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let (status, scrape) = (handle.clone(), handle.clone());
        asked.spawn(async move { status.request(Request::Status, "a").await.map(drop) });
        asked.spawn(async move { scrape.metrics_view().await.map(drop) });
    }
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!((32..64).contains(&handle.room()), "{} places are left", handle.room());
    drop(messages);
    while let Some(ended) = asked.join_next().await {
        ended.expect("no panic").expect_err("nobody answers any more");
    }
}
