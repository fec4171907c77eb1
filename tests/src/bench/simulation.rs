//! How long a simulated fortnight takes.

use std::time::Instant;

use anyhow::{Result, ensure};
use grayxdp::{
    model::{plan::Plan, state::RolloutState, traffic::Traffic},
    rollout::simulation::simulate,
};
use serde_json::json;

use crate::bench::figure::{Figure, Mark};

/// Simulations of each plan; the median is shown.
const ROUNDS: usize = 5;

/// A ramp of a fortnight, looked at every minute: by plain limits, and by the judges that compare.
///
/// # Errors
/// A simulation that does not end in a promotion after a fortnight.
pub fn figures() -> Result<Vec<Figure>> {
    let limits = json!([
        {"name": "errors", "provider": {"kernel": {"signal": "connectFailureRatio"}}, "thresholdRange": {"max": 0.02},
         "failureLimit": 2},
        {"name": "latency", "provider": {"kernel": {"signal": "firstByte", "quantile": 0.9}},
         "thresholdRange": {"max": "200ms"}, "failureLimit": 2},
    ]);
    let judges = json!([
        {"name": "errors", "provider": {"kernel": {"signal": "connectFailureRatio"}}},
        {"name": "latency", "provider": {"kernel": {"signal": "firstByte", "quantile": 0.9}},
         "judge": {"type": "quantileTest", "tolerateRatio": 1.2}},
    ]);
    Ok(vec![
        fortnight("plain limits", &limits)?.with_mark(Mark::AtMost(2.0)),
        fortnight("judges that compare", &judges)?,
    ])
}

fn fortnight(what: &str, metrics: &serde_json::Value) -> Result<Figure> {
    let plan: Plan = serde_json::from_value(json!({
        "apiVersion": "grayxdp.io/v1", "kind": "Rollout", "metadata": {"name": "recsys-v2"},
        "spec": {
            "service": "recsys", "stable": "v1", "candidate": "v2",
            "strategy": {"canary": {"ramp": {"curve": "cubic", "from": 5, "duration": "14d", "interval": "1h"}}},
            "analysis": {"interval": "1m", "metrics": metrics},
        },
    }))?;
    let traffic: Traffic = serde_json::from_value(json!({"flowsPerSecond": 8000, "nightly": 0.2}))?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let simulated = simulate(&plan, None, &traffic);
        rounds.push(start.elapsed().as_secs_f64());
        ensure!(simulated.state == RolloutState::Promoted, "{what}: {}", simulated.message);
        ensure!(simulated.seconds >= 14.0 * 86_400.0, "{what}: over after {} s", simulated.seconds);
    }
    Ok(Figure::median(format!("a simulated fortnight, {what}"), &rounds, "s"))
}
