//! From a [`MetricsView`] to the Prometheus text format. The names are those of the interface description.

use grayxdp_common::reason::Fate;
use prometheus::{TextEncoder, proto::MetricFamily};

use crate::{
    model::{
        kernel::{BackendCounters, Reason},
        state::{RolloutState, Verdict},
    },
    telemetry::{MetricsView, exceptions, family::Family, guards, shadow, signals},
};

/// The encoder refused the metrics: a fault of grayxdp.
#[derive(Debug, thiserror::Error)]
#[error("the metrics could not be written: {0}")]
pub struct RenderError(#[from] prometheus::Error);

/// All metrics in the Prometheus text format.
///
/// # Errors
/// Only where the encoder finds a family malformed.
pub fn render(view: &MetricsView) -> Result<String, RenderError> {
    let mut families = Vec::new();
    families.extend(traffic(view));
    families.extend(connections(view));
    families.extend(signals::times(view));
    families.extend(signals::counts(view));
    families.extend(reasons(view));
    families.extend(weights(view));
    families.extend(exceptions::families(view));
    families.extend(exceptions::flow_families(view));
    families.extend(rollouts(view));
    families.push(guards::backends(view));
    families.extend(guards::rollouts(view));
    families.extend(shadow::rollouts(view));
    families.push(shadow::flow_log(view));
    families.push(news(view));
    families.push(build_info());
    let families: Vec<MetricFamily> = families.into_iter().filter_map(Family::finish).collect();
    Ok(TextEncoder::new().encode_to_string(&families)?)
}

/// Each version's totals, with its labels.
fn versions(view: &MetricsView) -> impl Iterator<Item = (&str, &str, &BackendCounters)> {
    view.services.iter().flat_map(|service| {
        service.versions.iter().map(|version| (service.name.as_str(), version.name.as_str(), &version.totals))
    })
}

fn traffic(view: &MetricsView) -> [Family; 4] {
    const LABELS: &[&str] = &["service", "version", "direction"];
    let mut packets = Family::counter(
        "grayxdp_packets_total",
        LABELS,
        "Packets forwarded; direction forward is to the backends, reverse back to the clients.",
    );
    let mut bytes =
        Family::counter("grayxdp_bytes_total", LABELS, "Bytes forwarded, Ethernet headers included, by direction.");
    let mut backends = Family::counter(
        "grayxdp_backend_packets_total",
        &["service", "version", "backend", "direction"],
        "Packets forwarded, by backend.",
    );
    let mut errors = Family::counter(
        "grayxdp_icmp_errors_total",
        LABELS,
        "Of the packets forwarded, ICMP errors about packets of the version, by direction.",
    );
    for (service, version, totals) in versions(view) {
        packets.count([service, version, "forward"], totals.packets_forward);
        packets.count([service, version, "reverse"], totals.packets_reverse);
        bytes.count([service, version, "forward"], totals.bytes_forward);
        bytes.count([service, version, "reverse"], totals.bytes_reverse);
        errors.count([service, version, "forward"], totals.icmp_errors_forward);
        errors.count([service, version, "reverse"], totals.icmp_errors_reverse);
    }
    for service in &view.services {
        for version in &service.versions {
            for backend in &version.backends {
                let (address, counters) = (backend.address.to_string(), backend.counters);
                let labels = |direction| [service.name.as_str(), version.name.as_str(), address.as_str(), direction];
                backends.count(labels("forward"), counters.packets_forward);
                backends.count(labels("reverse"), counters.packets_reverse);
            }
        }
    }
    [packets, bytes, backends, errors]
}

fn connections(view: &MetricsView) -> [Family; 4] {
    const LABELS: &[&str] = &["service", "version"];
    let mut attempts =
        Family::counter("grayxdp_connect_attempts_total", LABELS, "TCP SYNs sent to backends, repeated ones included.");
    let mut opened = Family::counter(
        "grayxdp_flows_opened_total",
        LABELS,
        "TCP SYN-ACKs from backends, repeated ones included: an upper bound of the handshakes that completed.",
    );
    let mut failures = Family::counter(
        "grayxdp_connect_failures_total",
        &["service", "version", "kind"],
        "TCP connections that failed to open; kind refused: answered by an RST with sequence number 0, kind timeout: measured handshakes without any answer.",
    );
    let mut resets = Family::counter(
        "grayxdp_resets_total",
        &["service", "version", "side", "phase"],
        "TCP RSTs by the side that sent them, client or backend; phase connect: RSTs of backends that refuse a connection.",
    );
    for (service, version, totals) in versions(view) {
        attempts.count([service, version], totals.syns);
        opened.count([service, version], totals.syn_acks);
        failures.count([service, version, "refused"], totals.refusals);
        resets.count([service, version, "client", "established"], totals.resets_forward);
        resets.count([service, version, "backend", "connect"], totals.refusals);
        resets.count([service, version, "backend", "established"], totals.resets_reverse);
    }
    for service in &view.services {
        for version in &service.versions {
            let labels = [service.name.as_str(), version.name.as_str(), "timeout"];
            failures.count(labels, version.measured.timeouts);
        }
    }
    [attempts, opened, failures, resets]
}

fn reasons(view: &MetricsView) -> [Family; 3] {
    const LABELS: &[&str] = &["service", "reason"];
    let mut drops = Family::counter("grayxdp_drops_total", LABELS, "Packets dropped, by reason.");
    let mut passed =
        Family::counter("grayxdp_passed_total", LABELS, "Packets left to the kernel's network stack, by reason.");
    let mut answered = Family::counter("grayxdp_answered_total", LABELS, "Packets answered by the program, by reason.");
    let services = view.services.iter().map(|service| (service.name.as_str(), &service.reasons));
    for (service, counts) in services.chain([("", &view.unassigned_reasons)]) {
        for reason in Reason::ALL {
            let count = counts.get(reason).copied().unwrap_or_default();
            let labels = [service, reason.label()];
            match reason.fate() {
                Fate::Dropped => drops.count(labels, count),
                Fate::Passed => passed.count(labels, count),
                Fate::Answered => answered.count(labels, count),
            }
        }
    }
    [drops, passed, answered]
}

fn weights(view: &MetricsView) -> [Family; 2] {
    let mut weights = Family::gauge(
        "grayxdp_weight_ratio",
        &["service", "segment", "version"],
        "Share of new flows that the kernel gives the version, 0 to 1; an empty segment is the default one.",
    );
    let mut moves = Family::counter(
        "grayxdp_bucket_moves_total",
        &["service"],
        "Buckets (of 16,384) that changed their version by changes of weights.",
    );
    for service in &view.services {
        for version in &service.versions {
            let ratio = f64::from(version.buckets) / f64::from(grayxdp_common::BUCKETS);
            weights.ratio([service.name.as_str(), "", version.name.as_str()], ratio);
        }
        for segment in &service.segments {
            for (version, buckets) in &segment.buckets {
                let ratio = f64::from(*buckets) / f64::from(grayxdp_common::BUCKETS);
                weights.ratio([service.name.as_str(), segment.name.as_str(), version.as_str()], ratio);
            }
        }
        moves.count([service.name.as_str()], service.bucket_moves);
    }
    [weights, moves]
}

fn rollouts(view: &MetricsView) -> [Family; 2] {
    let mut states = Family::gauge(
        "grayxdp_rollout_state",
        &["rollout", "service", "state"],
        "1 for the state in which the rollout stands, 0 for all others.",
    );
    let mut verdicts = Family::counter(
        "grayxdp_rollout_verdicts_total",
        &["rollout", "metric", "verdict"],
        "Looks at a metric of a rollout, by what was found.",
    );
    for rollout in &view.rollouts {
        for state in RolloutState::ALL {
            let labels = [rollout.name.as_str(), rollout.service.as_str(), state.label()];
            states.count(labels, u64::from(state == rollout.state));
        }
        for (metric, counts) in &rollout.verdicts {
            for verdict in Verdict::ALL {
                let count = counts.get(&verdict).copied().unwrap_or_default();
                verdicts.count([rollout.name.as_str(), metric.as_str(), verdict.label()], count);
            }
        }
    }
    [states, verdicts]
}

fn news(view: &MetricsView) -> Family {
    let mut news = Family::counter(
        "grayxdp_notifications_total",
        &["service", "result"],
        "News of rollouts that was to be told outside: delivered or lost.",
    );
    for (service, (delivered, lost)) in &view.news {
        news.count([service.as_str(), "delivered"], *delivered);
        news.count([service.as_str(), "lost"], *lost);
    }
    news
}

fn build_info() -> Family {
    let mut info = Family::gauge("grayxdp_build_info", &["version"], "Always 1; the version of the daemon.");
    info.count([env!("CARGO_PKG_VERSION")], 1);
    info
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        analysis::Measured,
        model::{
            Name,
            settling::{ExceptionTableStatus, FlowTableStatus, FlowsStatus, SegmentStatus, SettlingStatus},
            shadow::ShadowCounts,
        },
        telemetry::{BackendMetrics, RolloutMetrics, ServiceMetrics, VersionMetrics},
    };

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    fn view() -> MetricsView {
        let counters = BackendCounters {
            packets_forward: 11,
            packets_reverse: 12,
            bytes_forward: 1_300,
            bytes_reverse: 1_400,
            syns: 5,
            syn_acks: 4,
            refusals: 1,
            resets_reverse: 2,
            resets_forward: 3,
            ..BackendCounters::default()
        };
        let address = "10.0.1.1:8080".parse().expect("an address");
        let backends = vec![BackendMetrics { address, is_up: true, counters }];
        let totals = BackendCounters { packets_forward: 20, ..counters };
        let totals = BackendCounters { zero_windows_forward: 8, icmp_errors_reverse: 2, ..totals };
        let mut measured = Measured { attempts: 9, timeouts: 2, retransmits: 3, lost: 4, ..Measured::default() };
        for nanoseconds in [10_000, 20_000, 1_000_000] {
            measured.connect.record(nanoseconds);
        }
        let versions = vec![VersionMetrics { name: name("v1"), buckets: 4_096, totals, measured, backends }];
        let reasons = BTreeMap::from([(Reason::Fragment, 6), (Reason::Echo, 7)]);
        MetricsView {
            news: BTreeMap::from([(name("web"), (5, 1))]),
            flow_log: Some((90, 4)),
            services: vec![ServiceMetrics {
                name: name("web"),
                versions,
                reasons,
                segments: vec![SegmentStatus {
                    name: name("asia"),
                    weights: None,
                    buckets: [(name("v1"), 8_192)].into(),
                }],
                settling: SettlingStatus {
                    unsettled_buckets: 77,
                    established: 31,
                    settled_pinned: 12,
                    choice_deferred: 5,
                    ..SettlingStatus::default()
                },
                flows: Some(FlowsStatus { half_open: 2, open: 5, begun: 90 }),
                bucket_moves: 819,
            }],
            exceptions: ExceptionTableStatus { entries: 31, places: 65_536, expired: 3, needless: 2 },
            flow_table: FlowTableStatus { flows: 7, places: 262_144, expired: 5 },
            unassigned_reasons: BTreeMap::from([(Reason::NoService, 9)]),
            rollouts: vec![RolloutMetrics {
                name: name("web-v2"),
                service: name("web"),
                state: RolloutState::Paused,
                fuse_tripped: true,
                lease_remaining: Some(29.5),
                shadow: Some(ShadowCounts { copied: 9, lost: 2, answered: 5, ..ShadowCounts::default() }),
                verdicts: BTreeMap::from([(name("errors"), BTreeMap::from([(Verdict::NoData, 3)]))]),
            }],
        }
    }

    #[test]
    fn each_value_stands_under_its_name_and_labels() {
        let text = render(&view()).expect("sound families");
        for line in [
            r#"grayxdp_packets_total{service="web",version="v1",direction="forward"} 20"#,
            r#"grayxdp_packets_total{service="web",version="v1",direction="reverse"} 12"#,
            r#"grayxdp_bytes_total{service="web",version="v1",direction="forward"} 1300"#,
            r#"grayxdp_backend_packets_total{service="web",version="v1",backend="10.0.1.1:8080",direction="forward"} 11"#,
            r#"grayxdp_flow_table_entries{service="web",state="open"} 5"#,
            r#"grayxdp_flow_table_inserts_total{service="web"} 90"#,
            "grayxdp_flow_table_places 262144",
            "grayxdp_flow_table_expired_total 5",
            r#"grayxdp_icmp_errors_total{service="web",version="v1",direction="reverse"} 2"#,
            r#"grayxdp_connect_attempts_total{service="web",version="v1"} 5"#,
            r#"grayxdp_flows_opened_total{service="web",version="v1"} 4"#,
            r#"grayxdp_connect_failures_total{service="web",version="v1",kind="refused"} 1"#,
            r#"grayxdp_connect_failures_total{service="web",version="v1",kind="timeout"} 2"#,
            r#"grayxdp_resets_total{service="web",version="v1",side="client",phase="established"} 3"#,
            r#"grayxdp_resets_total{service="web",version="v1",side="backend",phase="connect"} 1"#,
            r#"grayxdp_resets_total{service="web",version="v1",side="backend",phase="established"} 2"#,
            r#"grayxdp_connect_seconds_bucket{service="web",version="v1",le="0.000016384"} 1"#,
            r#"grayxdp_connect_seconds_bucket{service="web",version="v1",le="0.000032768"} 2"#,
            r#"grayxdp_connect_seconds_bucket{service="web",version="v1",le="0.001048576"} 3"#,
            r#"grayxdp_connect_seconds_bucket{service="web",version="v1",le="+Inf"} 3"#,
            r#"grayxdp_connect_seconds_count{service="web",version="v1"} 3"#,
            r#"grayxdp_first_byte_seconds_count{service="web",version="v1"} 0"#,
            r#"grayxdp_measured_handshakes_total{service="web",version="v1",event="begun"} 9"#,
            r#"grayxdp_followed_flows_total{service="web",version="v1",event="lost"} 4"#,
            r#"grayxdp_retransmits_total{service="web",version="v1"} 3"#,
            r#"grayxdp_zero_windows_total{service="web",version="v1",side="client"} 8"#,
            r#"grayxdp_drops_total{service="web",reason="fragment"} 6"#,
            r#"grayxdp_drops_total{service="web",reason="malformed"} 0"#,
            r#"grayxdp_drops_total{service="",reason="no_service"} 9"#,
            r#"grayxdp_passed_total{service="web",reason="direct_access"} 0"#,
            r#"grayxdp_answered_total{service="web",reason="echo"} 7"#,
            r#"grayxdp_weight_ratio{service="web",segment="",version="v1"} 0.25"#,
            r#"grayxdp_weight_ratio{service="web",segment="asia",version="v1"} 0.5"#,
            r#"grayxdp_unsettled_cells{service="web",kind="bucket"} 77"#,
            r#"grayxdp_settled_total{service="web",kind="pinned"} 12"#,
            r#"grayxdp_exception_entries{service="web",state="established"} 31"#,
            r#"grayxdp_choice_deferred_total{service="web"} 5"#,
            r#"grayxdp_exception_places 65536"#,
            r#"grayxdp_exception_expired_total{kind="needless"} 2"#,
            r#"grayxdp_bucket_moves_total{service="web"} 819"#,
            r#"grayxdp_rollout_state{rollout="web-v2",service="web",state="paused"} 1"#,
            r#"grayxdp_rollout_state{rollout="web-v2",service="web",state="progressing"} 0"#,
            r#"grayxdp_notifications_total{service="web",result="lost"} 1"#,
            r#"grayxdp_rollout_verdicts_total{rollout="web-v2",metric="errors",verdict="noData"} 3"#,
            r#"grayxdp_backend_up{service="web",version="v1",backend="10.0.1.1:8080"} 1"#,
            r#"grayxdp_fuse_tripped{rollout="web-v2",service="web"} 1"#,
            r#"grayxdp_lease_remaining_seconds{rollout="web-v2",service="web"} 29.5"#,
            r#"grayxdp_shadow_datagrams_total{rollout="web-v2",service="web",result="lost"} 2"#,
            r#"grayxdp_flow_log_lines_total{result="lost"} 4"#,
            r#"grayxdp_shadow_flows_total{rollout="web-v2",service="web",result="answered"} 5"#,
            r#"grayxdp_rollout_verdicts_total{rollout="web-v2",metric="errors",verdict="pass"} 0"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn every_family_has_help_and_type_once() {
        let text = render(&view()).expect("sound families");
        let heads: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        assert_eq!(heads.len(), 42);
        assert_eq!(heads.len(), text.lines().filter(|line| line.starts_with("# HELP")).count());
        for head in heads {
            assert_eq!(head.contains("_total "), head.ends_with(" counter"), "{head}");
        }
    }

    #[test]
    fn a_daemon_without_services_still_says_what_it_is() {
        let text = render(&MetricsView::default()).expect("sound families");
        assert!(text.contains(concat!("grayxdp_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1\n")));
    }

    #[test]
    fn the_page_of_metrics_names_each_metric_and_each_reason() {
        let page = include_str!("../../../docs/metrics.md");
        let text = render(&view()).expect("sound families");
        let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        for word in names.chain(Reason::ALL.iter().map(|reason| reason.label())) {
            assert!(page.contains(&format!("| `{word}` |")), "{word}");
        }
    }
}
