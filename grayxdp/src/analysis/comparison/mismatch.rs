//! Whether new flows are divided as the buckets say: always on, and only promotion waits for it.

use serde::{Deserialize, Serialize};

use super::{Names, increments::Increment};
use crate::analysis::{
    Measured, Stratum,
    said::{evidence, grouped, percent},
    statistics::srm,
};

/// The sample-ratio mismatch of a rollout.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mismatch {
    live: Vec<Divided>,
    /// ln e of strata that are no more.
    closed: f64,
    /// Whether the alarm was reached.
    found: Option<String>,
}

/// New flows of a stratum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Divided {
    stratum: Stratum,
    share: f64,
    candidate: u64,
    stable: u64,
}

impl Divided {
    fn log_e(&self) -> f64 {
        srm::log_e(&[self.candidate, self.stable], &[self.share, 1.0 - self.share])
    }
}

/// New flows of a version; of datagrams those that are followed.
const fn begun(measured: &Measured) -> u64 {
    match measured.attempts + measured.unmarked {
        0 => measured.flows,
        begun => begun,
    }
}

impl Mismatch {
    pub(super) fn take(&mut self, increments: &[Increment], names: Names<'_>) {
        let is_live = |divided: &Divided| increments.iter().any(|of| of.stratum == Some(divided.stratum));
        self.closed += self.live.extract_if(.., |divided| !is_live(divided)).map(|gone| gone.log_e()).sum::<f64>();
        for increment in increments {
            let (Some(stratum), Some(share)) = (increment.stratum, increment.bucket_share) else { continue };
            if !(share > 0.0 && share < 1.0) {
                continue;
            }
            let (candidate, stable) = (begun(&increment.candidate), begun(&increment.stable));
            match self.live.iter_mut().find(|divided| divided.stratum == stratum) {
                Some(divided) => {
                    divided.candidate += candidate;
                    divided.stable += stable;
                }
                None => self.live.push(Divided { stratum, share, candidate, stable }),
            }
        }
        let log_e = self.log_e();
        if self.found.is_none() && log_e >= -srm::ALPHA.ln() {
            self.found = Some(self.sentence(log_e, names));
        }
    }

    fn log_e(&self) -> f64 {
        self.closed + self.live.iter().map(Divided::log_e).sum::<f64>()
    }

    fn sentence(&self, log_e: f64, names: Names<'_>) -> String {
        let most = self.live.iter().max_by(|one, other| one.log_e().total_cmp(&other.log_e()));
        let Some(Divided { stratum: _, share, candidate, stable }) = most else { return String::new() };
        let all = candidate + stable;
        let had = *candidate as f64 / all.max(1) as f64;
        format!(
            "{} had {} of {} new flows where its buckets are {}: e-value {}, alarm at 1,000",
            names.candidate,
            percent(had),
            grouped(all),
            percent(*share),
            evidence(log_e)
        )
    }

    /// What is wrong, once the alarm was reached.
    pub(super) fn found(&self) -> Option<&str> {
        self.found.as_deref()
    }

    /// Newest stratum's χ² and its p, for people.
    pub(super) fn chi_square(&self) -> Option<(f64, f64)> {
        let Divided { stratum: _, share, candidate, stable } = self.live.last()?;
        (candidate + stable > 0).then(|| srm::chi_square(&[*candidate, *stable], &[*share, 1.0 - share]))
    }

    /// e now.
    pub(super) fn e(&self) -> f64 {
        self.log_e().exp()
    }
}
