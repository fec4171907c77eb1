//! Signals of a service's versions as a table.

use crate::{
    cli::table::{Cell, Side, Table, Tone},
    model::api::{ServiceStatus, VersionStatus},
};

/// One row a version; none where nothing was measured yet.
pub(super) fn table(service: &ServiceStatus) -> Option<Table> {
    const NUMBERS: [&str; 9] =
        ["HANDSHAKES", "REFUSED", "TIMEOUTS", "CONNECT P50", "P99", "FIRST BYTE P50", "P99", "RESETS", "RETRANSMITS"];
    let is_measured = |version: &VersionStatus| version.signals.attempts + version.signals.flows > 0;
    if !service.versions.iter().any(is_measured) {
        return None;
    }
    let columns: Vec<(&str, Side)> =
        [("MEASURED", Side::Left)].into_iter().chain(NUMBERS.map(|title| (title, Side::Right))).collect();
    let mut table = Table::new(2, &columns);
    for version in &service.versions {
        let signals = &version.signals;
        let alarm = |count: u64| match service.forwarding.sees_answers() {
            true => Cell::new(if count > 0 { Tone::Notable } else { Tone::Plain }, count),
            false => Cell::plain("-"),
        };
        table.row(vec![
            Cell::plain(&version.name),
            Cell::plain(signals.attempts),
            alarm(signals.refused),
            alarm(signals.timeouts),
            Cell::plain(time(signals.connect.median)),
            Cell::plain(time(signals.connect.p99)),
            Cell::plain(time(signals.first_byte.median)),
            Cell::plain(time(signals.first_byte.p99)),
            alarm(signals.reset_by_client + signals.reset_by_backend),
            Cell::plain(share(signals.retransmits, signals.segments)),
        ]);
    }
    Some(table)
}

/// `212 µs`, `3.4 ms`, `1.20 s`.
fn time(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds >= 1.0 => format!("{seconds:.2} s"),
        Some(seconds) if seconds >= 1e-3 => format!("{:.1} ms", seconds * 1e3),
        Some(seconds) => format!("{:.0} µs", seconds * 1e6),
    }
}

fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.2} %", part as f64 * 100.0 / whole as f64) }
}
