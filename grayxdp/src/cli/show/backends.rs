//! `grayxdp backend list`: which backends take flows, and why not.

use crate::{
    cli::{
        show::instant,
        table::{Cell, Paint, Side, Table, Tone},
    },
    model::api::{Availability, BackendStatus, ListedBackend},
};

/// Backends, one a line.
pub(crate) fn backends(listed: &[ListedBackend], paint: Paint) -> String {
    let columns = ["SERVICE", "BACKEND", "STATE", "SINCE", "FLOWS", "SLOTS", "WHY"];
    let side = |title| if title == "SLOTS" { Side::Right } else { Side::Left };
    let mut table = Table::new(0, &columns.map(|title| (title, side(title))));
    for ListedBackend { service, version, backend } in listed {
        table.row(vec![
            Cell::plain(service),
            Cell::plain(format!("{version}/{}", backend.address)),
            state(backend),
            Cell::plain(backend.since.map_or_else(|| "-".to_owned(), instant)),
            Cell::plain(flows(backend)),
            Cell::plain(backend.slots),
            Cell::plain(why(backend)),
        ]);
    }
    table.render(paint)
}

/// The state in its colour.
pub(crate) fn state(backend: &BackendStatus) -> Cell {
    let tone = match backend.state {
        Availability::Up => Tone::Good,
        Availability::Draining => Tone::Notable,
        Availability::Down => Tone::Bad,
    };
    Cell::new(tone, backend.state.label())
}

/// Which flows it has.
const fn flows(backend: &BackendStatus) -> &'static str {
    match (backend.state, backend.drained) {
        (Availability::Up, _) => "all",
        (Availability::Draining | Availability::Down, Some(true)) => "none left",
        (Availability::Draining | Availability::Down, Some(false) | None) => "in progress",
    }
}

/// Why it does not take all flows, or that a check failed that has not yet brought it down.
pub(crate) fn why(backend: &BackendStatus) -> String {
    let failing = || backend.check_error.as_ref().map(|error| format!("last check: {error}"));
    backend.why.clone().or_else(failing).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::show::samples;

    #[test]
    fn backends_are_shown_with_their_state_and_why() {
        let pool = |version: usize| samples::status().services[0].versions[version].backends[0].clone();
        let listed = |version: &str, backend| ListedBackend {
            service: samples::name("web"),
            version: samples::name(version),
            backend,
        };
        let drained = BackendStatus {
            state: Availability::Draining,
            why: Some("drained by uid 0 (root): disk".to_owned()),
            since: Some("2026-03-01T09:00:00.25Z".parse().expect("a time")),
            drained: Some(true),
            slots: 0,
            ..pool(1)
        };
        let failing = BackendStatus { check_error: Some("connection refused".to_owned()), ..pool(0) };
        let expected = "\
SERVICE  BACKEND           STATE     SINCE                 FLOWS      SLOTS  WHY
web      v1/10.0.1.1:8080  up        -                     all        16381  last check: connection refused
web      v2/10.0.2.1:8080  draining  2026-03-01 09:00:00Z  none left      0  drained by uid 0 (root): disk
";
        assert_eq!(backends(&[listed("v1", failing), listed("v2", drained)], Paint::Bare), expected);
    }
}
