//! Metrics of signals.

use crate::{
    analysis::Measured,
    model::kernel::BackendCounters,
    telemetry::{MetricsView, family::Family},
};

const LABELS: &[&str] = &["service", "version"];

/// Each version's signals and totals, with its labels.
fn versions(view: &MetricsView) -> impl Iterator<Item = (&str, &str, &Measured, &BackendCounters)> {
    view.services.iter().flat_map(|service| {
        let service_name = service.name.as_str();
        service
            .versions
            .iter()
            .map(move |version| (service_name, version.name.as_str(), &version.measured, &version.totals))
    })
}

/// Times from question to answer.
pub(super) fn times(view: &MetricsView) -> [Family; 2] {
    let mut connect =
        Family::times("grayxdp_connect_seconds", LABELS, "Time from SYN to SYN-ACK of measured handshakes.");
    let mut first_byte = Family::times(
        "grayxdp_first_byte_seconds",
        LABELS,
        "Time from the client's first payload (UDP: datagram) to the backend's, of followed flows.",
    );
    for (service, version, measured, _) in versions(view) {
        connect.distribution([service, version], &measured.connect);
        first_byte.distribution([service, version], &measured.first_byte);
    }
    [connect, first_byte]
}

/// Counts of measured handshakes, of followed flows, and of what stalls a connection.
pub(super) fn counts(view: &MetricsView) -> [Family; 5] {
    let mut handshakes = Family::counter(
        "grayxdp_measured_handshakes_total",
        &["service", "version", "event"],
        "Handshakes that left a mark, by what became of them; unmarked: SYNs that could not be measured.",
    );
    let mut flows = Family::counter(
        "grayxdp_followed_flows_total",
        &["service", "version", "event"],
        "Sampled flows, by what became of them; lost: they found no place.",
    );
    let mut segments = Family::counter(
        "grayxdp_followed_segments_total",
        LABELS,
        "TCP segments with payload of followed flows, either way.",
    );
    let mut retransmits = Family::counter(
        "grayxdp_retransmits_total",
        LABELS,
        "TCP segments of followed flows that begin below the highest sequence number seen.",
    );
    let mut zero_windows = Family::counter(
        "grayxdp_zero_windows_total",
        &["service", "version", "side"],
        "TCP packets with a window of zero, by the side that takes no more data: client or backend.",
    );
    for (service, version, measured, totals) in versions(view) {
        for (event, count) in [
            ("begun", measured.attempts),
            ("opened", measured.opened),
            ("refused", measured.refused),
            ("timeout", measured.timeouts),
            ("syn_repeated", measured.syn_retransmits),
            ("unmarked", measured.unmarked),
        ] {
            handshakes.count([service, version, event], count);
        }
        for (event, count) in [
            ("begun", measured.flows),
            ("ended", measured.ended),
            ("reset_by_client", measured.reset_by_client),
            ("reset_by_backend", measured.reset_by_backend),
            ("zero_window", measured.zero_window),
            ("unanswered", measured.unanswered),
            ("lost", measured.lost),
        ] {
            flows.count([service, version, event], count);
        }
        segments.count([service, version], measured.segments);
        retransmits.count([service, version], measured.retransmits);
        zero_windows.count([service, version, "client"], totals.zero_windows_forward);
        zero_windows.count([service, version, "backend"], totals.zero_windows_reverse);
    }
    [handshakes, flows, segments, retransmits, zero_windows]
}
