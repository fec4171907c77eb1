//! What became of the copies of a shadow release.

use std::ops::AddAssign;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What became of the copies of a shadow release: datagrams, then flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ShadowCounts {
    /// Copies that the program made and the daemon got.
    pub copied: u64,
    /// Copies for which the kernel had no room, of all services together.
    pub lost: u64,
    /// Copies that were not sent: too many at once, no backend of the candidate up, cut or in fragments.
    pub dropped: u64,
    /// Copies that were sent to the candidate.
    pub sent: u64,
    /// Datagrams that the candidate answered with; they were thrown away.
    pub answers: u64,
    /// Flows that the candidate was sent.
    pub flows: u64,
    /// … of them answered within three seconds.
    pub answered: u64,
    /// … of them refused, or not answered within three seconds.
    pub unanswered: u64,
}

impl ShadowCounts {
    /// In words: `90 copies: 88 sent, 2 dropped, 0 lost; 9 flows: 8 answered, 1 unanswered; 80 answers thrown away`.
    #[must_use]
    pub fn said(&self) -> String {
        let Self { copied, lost, dropped, sent, answers, flows, answered, unanswered } = self;
        format!(
            "{copied} copies: {sent} sent, {dropped} dropped, {lost} lost; {flows} flows: {answered} answered, {unanswered} unanswered; \
             {answers} answers thrown away"
        )
    }
}

impl AddAssign for ShadowCounts {
    fn add_assign(&mut self, other: Self) {
        let Self { copied, lost, dropped, sent, answers, flows, answered, unanswered } = other;
        self.copied += copied;
        self.lost += lost;
        self.dropped += dropped;
        self.sent += sent;
        self.answers += answers;
        self.flows += flows;
        self.answered += answered;
        self.unanswered += unanswered;
    }
}
