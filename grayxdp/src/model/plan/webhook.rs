//! Who is asked and who is told while a rollout runs.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Name, config::duration, plan::SecretSource};

/// Somebody who is asked, or told, at a point of the rollout. Flagger's payload is posted; a status from 200 to 299 is a yes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Webhook {
    /// Its name.
    pub name: Name,
    /// When it is called.
    pub r#type: HookType,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Where the address is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_from: Option<SecretSource>,
    /// Headers that are no secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Headers whose values are read elsewhere, as `Authorization`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers_from: BTreeMap<String, SecretSource>,
    /// How long an answer may take, `100ms..=5m`.
    #[serde(default = "default_timeout", with = "duration")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// How often it is called again at once where there was no answer, at most 10.
    #[serde(default)]
    pub retries: u32,
    /// What it means that there was no answer, and for `pre-rollout` and `rollout` that it was no yes.
    #[serde(default)]
    pub on_error: HookError,
    /// What is posted besides.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

const fn default_timeout() -> Duration {
    Duration::from_secs(10)
}

/// When a webhook is called: Flagger's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HookType {
    /// Before anything is exposed, until it says yes.
    ConfirmRollout,
    /// Once before anything is exposed, after `confirm-rollout`.
    PreRollout,
    /// At every look while the candidate is exposed.
    Rollout,
    /// Before every step that raises exposure, until it says yes.
    ConfirmTrafficIncrease,
    /// Before 100 %, until it says yes.
    ConfirmPromotion,
    /// After the end.
    PostRollout,
    /// At every look; a yes rolls back.
    Rollback,
    /// At every event of the rollout.
    Event,
}

impl HookType {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::ConfirmRollout,
        Self::PreRollout,
        Self::Rollout,
        Self::ConfirmTrafficIncrease,
        Self::ConfirmPromotion,
        Self::PostRollout,
        Self::Rollback,
        Self::Event,
    ];

    /// The name in files.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::ConfirmRollout => "confirm-rollout",
            Self::PreRollout => "pre-rollout",
            Self::Rollout => "rollout",
            Self::ConfirmTrafficIncrease => "confirm-traffic-increase",
            Self::ConfirmPromotion => "confirm-promotion",
            Self::PostRollout => "post-rollout",
            Self::Rollback => "rollback",
            Self::Event => "event",
        }
    }

    /// Whether the rollout waits for its yes.
    #[must_use]
    pub const fn is_waited_for(self) -> bool {
        match self {
            Self::ConfirmRollout
            | Self::PreRollout
            | Self::Rollout
            | Self::ConfirmTrafficIncrease
            | Self::ConfirmPromotion => true,
            Self::PostRollout | Self::Rollback | Self::Event => false,
        }
    }

    /// Whether a no means "not yet".
    #[must_use]
    pub const fn is_confirmation(self) -> bool {
        match self {
            Self::ConfirmRollout | Self::ConfirmTrafficIncrease | Self::ConfirmPromotion => true,
            Self::PreRollout | Self::Rollout | Self::PostRollout | Self::Rollback | Self::Event => false,
        }
    }
}

/// What it means that a webhook could not be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum HookError {
    /// Nothing advances until it says yes.
    #[default]
    Hold,
    /// `onFailure` runs.
    Rollback,
    /// It goes on, and an event says so.
    Ignore,
}

/// Somebody who is told what happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Notification {
    /// The form of what is posted.
    pub r#type: NotificationType,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Where the address is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_from: Option<SecretSource>,
    /// Headers that are no secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Headers whose values are read elsewhere, as `Authorization`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers_from: BTreeMap<String, SecretSource>,
    /// How long an answer may take, `100ms..=5m`.
    #[serde(default = "default_timeout", with = "duration")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// Kinds of events, as `paused`; where they are left out, all but `verdict` and `subStepReached`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
}

/// The form of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum NotificationType {
    /// The event and where the rollout stands, as JSON.
    Generic,
    /// A message for an incoming webhook of Slack, and of all who take the same form.
    Slack,
}
