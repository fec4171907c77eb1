//! Copies of shadow releases, and the flow log, which rests on the same.

use crate::telemetry::{MetricsView, family::Family};

/// What became of the copies of each shadow release.
pub(super) fn rollouts(view: &MetricsView) -> [Family; 2] {
    const LABELS: &[&str] = &["rollout", "service", "result"];
    let mut datagrams = Family::counter(
        "grayxdp_shadow_datagrams_total",
        LABELS,
        "Datagrams of a shadow release: copied, of these sent or dropped; lost for want of room; answers of the candidate.",
    );
    let mut flows = Family::counter(
        "grayxdp_shadow_flows_total",
        LABELS,
        "Flows of a shadow release: sent, and of these answered or unanswered.",
    );
    for rollout in &view.rollouts {
        let Some(counts) = rollout.shadow else { continue };
        let labels = |result| [rollout.name.as_str(), rollout.service.as_str(), result];
        let of_datagrams = [
            ("copied", counts.copied),
            ("sent", counts.sent),
            ("dropped", counts.dropped),
            ("lost", counts.lost),
            ("answers", counts.answers),
        ];
        of_datagrams.into_iter().for_each(|(result, count)| datagrams.count(labels(result), count));
        let of_flows = [("sent", counts.flows), ("answered", counts.answered), ("unanswered", counts.unanswered)];
        of_flows.into_iter().for_each(|(result, count)| flows.count(labels(result), count));
    }
    [datagrams, flows]
}

/// Lines of the flow log.
pub(super) fn flow_log(view: &MetricsView) -> Family {
    let mut lines = Family::counter(
        "grayxdp_flow_log_lines_total",
        &["result"],
        "Lines of the flow log: written, or lost because there was no time or no room for them.",
    );
    if let Some((written, lost)) = view.flow_log {
        lines.count(["written"], written);
        lines.count(["lost"], lost);
    }
    lines
}
