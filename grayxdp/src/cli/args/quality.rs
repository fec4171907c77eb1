//! The words of `quality`.

use clap::Subcommand;

use super::ChangeArguments;
use crate::model::{Name, api::NamedMatrix};

/// The quality of models.
#[derive(Debug, Subcommand)]
pub enum QualityCommand {
    /// Post the confusion matrices of a rollout's models: true positives, false positives, false negatives
    #[command(after_help = "Example:\n  grayxdp quality post recsys-v2 v1=80/15/20 v2=85/10/15")]
    Post {
        /// The rollout
        rollout: Name,
        /// The counts of the candidate, and of stable where the plan has a `margin`
        #[arg(required = true, value_name = "VERSION=TP/FP/FN")]
        matrices: Vec<NamedMatrix>,
        /// Which metric of the plan; needed where several are posted
        #[arg(long, value_name = "M")]
        metric: Option<Name>,
        /// Options of changes.
        #[command(flatten)]
        change: ChangeArguments,
    },
}
