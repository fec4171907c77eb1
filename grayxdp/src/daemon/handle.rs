//! The way in: requests go to the owner's thread one after the other, answers come back.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::{
    daemon::{memory, owner::Owner},
    health::Report,
    model::api::{ApiError, Request, Response},
    providers::{self, Told},
    telemetry::MetricsView,
};

/// Requests that may wait for the owner.
const QUEUE: usize = 64;

/// Questions that may be before the owner at once. A change or a tick waits for no more of them than that, however many
/// are asked: those who only read cannot keep a rollout from being judged or aborted.
const QUESTIONS: usize = 4;

/// What the owner is sent.
pub(super) enum Message {
    Request {
        request: Box<Request>,
        actor: String,
        reply: oneshot::Sender<Result<Response, ApiError>>,
    },
    Metrics {
        reply: oneshot::Sender<Result<MetricsView, ApiError>>,
    },
    Ready {
        reply: oneshot::Sender<()>,
    },
    Tick,
    /// The data path has an event to tell.
    Event,
    /// A health check found something new.
    Health(Report),
    /// Somebody outside answered about a metric.
    Measured(providers::Report),
    /// What became of a webhook's call or of news.
    Told(Told),
    Stop,
}

/// Asks the daemon. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    sender: mpsc::Sender<Message>,
    questions: Arc<Semaphore>,
}

/// A channel to an owner.
pub(super) fn channel() -> (Handle, mpsc::Receiver<Message>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Handle { sender, questions: Arc::new(Semaphore::new(QUESTIONS)) }, receiver)
}

impl Handle {
    /// Answers one request. `actor` is who asks, as `uid 1000 (name)`.
    ///
    /// # Errors
    /// Whose fault it is, in one line.
    pub async fn request(&self, request: Request, actor: impl Into<String>) -> Result<Response, ApiError> {
        let (changes, request, actor) = (request.changes(), Box::new(request), actor.into());
        let message = |reply| Message::Request { request, actor, reply };
        if changes { self.tell(message).await? } else { self.ask(message).await? }
    }

    /// Everything that one scrape shows, read from the kernel now.
    ///
    /// # Errors
    /// What could not be read.
    pub async fn metrics_view(&self) -> Result<MetricsView, ApiError> {
        self.ask(|reply| Message::Metrics { reply }).await?
    }

    /// Whether the split is in force: tables published, program attached.
    ///
    /// # Errors
    /// That the daemon ends.
    pub async fn ready(&self) -> Result<(), ApiError> {
        self.ask(|reply| Message::Ready { reply }).await
    }

    /// Asks something that changes nothing, when it is its turn.
    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, ApiError> {
        let _turn = self.questions.acquire().await.expect("the semaphore is never closed");
        self.tell(message).await
    }

    async fn tell<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, ApiError> {
        let ends = || ApiError::failed("the daemon is ending");
        let (reply, answer) = oneshot::channel();
        self.sender.send(message(reply)).await.map_err(|_| ends())?;
        answer.await.map_err(|_| ends())
    }

    /// How many more messages may wait.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.sender.capacity()
    }

    /// A second has passed. A tick that finds the queue full is left out: the owner is at work anyway.
    pub(super) fn tick(&self) {
        // Full or closed: the first is harmless, the second is seen by whoever waits for the owner's end.
        let _ = self.sender.try_send(Message::Tick);
    }

    /// Tells the owner what a health check found.
    pub(super) async fn health(&self, report: Report) {
        // Closed: whoever waits for the owner's end sees it.
        let _ = self.sender.send(Message::Health(report)).await;
    }

    /// Tells the owner of an event of the data path, from any thread. It does not keep the owner alive. An event that finds
    /// the queue full is left out: the next tick reads the same.
    pub(super) fn waker(&self) -> Box<dyn Fn() + Send> {
        let sender = self.sender.downgrade();
        Box::new(move || {
            if let Some(sender) = sender.upgrade() {
                // Full or closed: the first is made up for by the tick.
                let _ = sender.try_send(Message::Event);
            }
        })
    }

    /// Tells the owner what somebody outside measured.
    pub(super) async fn measured(&self, report: providers::Report) {
        // Closed: whoever waits for the owner's end sees it.
        let _ = self.sender.send(Message::Measured(report)).await;
    }

    /// Tells the owner what became of an errand.
    pub(super) async fn told(&self, told: Told) {
        // Closed: whoever waits for the owner's end sees it.
        let _ = self.sender.send(Message::Told(told)).await;
    }

    pub(super) async fn stop(&self) {
        // Closed means that it has stopped.
        let _ = self.sender.send(Message::Stop).await;
    }
}

/// Serves until told to stop or detached.
pub(super) fn serve(mut owner: Owner, mut messages: mpsc::Receiver<Message>) {
    memory::give_back();
    while let Some(message) = messages.blocking_recv() {
        // An asker who has gone away needs no answer.
        match message {
            Message::Request { request, actor, reply } => {
                let is_reload = matches!(*request, Request::Reload { .. });
                let _ = reply.send(owner.handle(*request, &actor));
                if is_reload {
                    memory::give_back();
                }
            }
            Message::Metrics { reply } => {
                let _ = reply.send(owner.metrics());
            }
            Message::Ready { reply } => {
                let _ = reply.send(());
            }
            Message::Tick => owner.tick(),
            Message::Event => owner.look_at_guards(),
            Message::Health(report) => owner.note_health(report),
            Message::Measured(report) => owner.note_measurement(report),
            Message::Told(told) => owner.note_told(told),
            Message::Stop => return,
        }
        if owner.detached {
            return;
        }
        // What fails together is published together.
        if messages.is_empty() {
            owner.follow_backends();
        }
    }
}
