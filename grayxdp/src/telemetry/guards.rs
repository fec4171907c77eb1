//! Backends that take flows, fuses and leases.

use crate::telemetry::{MetricsView, family::Family};

/// Whether each backend takes new flows.
pub(super) fn backends(view: &MetricsView) -> Family {
    let labels = &["service", "version", "backend"];
    let mut up = Family::gauge("grayxdp_backend_up", labels, "1 for a backend that takes new flows, else 0.");
    for service in &view.services {
        for version in &service.versions {
            for backend in &version.backends {
                let address = backend.address.to_string();
                let labels = [service.name.as_str(), version.name.as_str(), address.as_str()];
                up.ratio(labels, f64::from(u8::from(backend.is_up)));
            }
        }
    }
    up
}

/// Fuse and lease of each rollout.
pub(super) fn rollouts(view: &MetricsView) -> [Family; 2] {
    const LABELS: &[&str] = &["rollout", "service"];
    let mut tripped =
        Family::gauge("grayxdp_fuse_tripped", LABELS, "1 for a rollout that its fuse stopped in this attempt, else 0.");
    let mut remaining = Family::gauge(
        "grayxdp_lease_remaining_seconds",
        LABELS,
        "Time for which the candidate's weight holds without the daemon.",
    );
    for rollout in &view.rollouts {
        let labels = [rollout.name.as_str(), rollout.service.as_str()];
        tripped.ratio(labels, f64::from(u8::from(rollout.fuse_tripped)));
        if let Some(seconds) = rollout.lease_remaining {
            remaining.ratio(labels, seconds);
        }
    }
    [tripped, remaining]
}
