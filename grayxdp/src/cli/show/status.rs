//! `grayxdp status`: interfaces, services, the three shares of each version, backends.

use std::fmt::Write;

use crate::{
    cli::{
        show::{
            backends::{state, why},
            instant, percent, signals,
        },
        table::{Cell, Paint, Side, Table, Tone},
    },
    model::{
        api::{ServiceStatus, Status, VersionStatus},
        config::Forwarding,
        settling::{FlowTableStatus, FlowsStatus, SegmentStatus},
    },
};

/// How everything stands.
pub(crate) fn status(status: &Status, paint: Paint) -> String {
    let Status { version, pid, started, warnings, notes, interfaces, exceptions: _, flow_table, services } = status;
    let mut text = format!("grayxdp {version}, process {pid}, since {}\n", instant(*started));
    for warning in warnings {
        text.push_str(&paint.text(Tone::Bad, &format!("! {warning}")));
        text.push('\n');
    }
    for note in notes {
        text.push_str(&paint.text(Tone::Notable, &format!("- {note}")));
        text.push('\n');
    }
    let mut table = Table::new(0, &[("INTERFACE", Side::Left), ("MODE", Side::Left)]);
    for interface in interfaces {
        let tone = match interface.mode.as_str() {
            "native" => Tone::Good,
            "generic" => Tone::Notable,
            _ => Tone::Bad,
        };
        table.row(vec![Cell::plain(&interface.name), Cell::new(tone, &interface.mode)]);
    }
    text.push('\n');
    text.push_str(&table.render(paint));
    let FlowTableStatus { flows, places, expired } = flow_table;
    if *places > 0 {
        let _infallible = writeln!(text, "flow table: {flows} of {places} places taken; {expired} flows ended so far");
    }
    for service in services {
        text.push('\n');
        text.push_str(&one_service(service, paint));
    }
    text
}

fn one_service(service: &ServiceStatus, paint: Paint) -> String {
    let mut text = paint.text(Tone::Title, service.name.as_str());
    let _infallible = write!(text, "  {}", service.endpoint);
    if service.forwarding != Forwarding::Nat {
        let _infallible = write!(text, "  {}", service.forwarding.label());
    }
    let _infallible = write!(text, "  stable {}  epoch {}", service.stable, service.epoch);
    if let Some(rollout) = &service.rollout {
        text.push_str("  ");
        text.push_str(&paint.text(Tone::Notable, &format!("rollout {rollout}")));
    }
    text.push('\n');
    for prospect in &service.prospects {
        let _infallible = writeln!(text, "  {}: {}", prospect.metric, prospect.sentence);
    }
    if let Some(drift) = &service.drift {
        text.push_str(&paint.text(Tone::Notable, &format!("  drift: {drift}")));
        text.push('\n');
    }
    text.push_str(&versions(service).render(paint));
    if let Some(signals) = signals::table(service) {
        text.push_str(&signals.render(paint));
    }
    text.push_str(&backends(service).render(paint));
    text.push_str(&settling(service));
    let counted = service.reasons.iter().filter(|(_, count)| **count > 0);
    let counted: Vec<String> = counted.map(|(reason, count)| format!("{reason} {count}")).collect();
    if !counted.is_empty() {
        let _infallible = writeln!(text, "  not forwarded: {}", counted.join(", "));
    }
    text
}

/// Segments with weights of their own, and what is not settled yet.
fn settling(service: &ServiceStatus) -> String {
    let mut text = String::new();
    for SegmentStatus { name, weights, buckets: _ } in &service.segments {
        let said = weights.as_ref().map(|weights| {
            let said: Vec<String> = weights.iter().map(|(version, weight)| format!("{version}={weight}")).collect();
            said.join(" ")
        });
        let _infallible = writeln!(text, "  segment {name}: {}", said.as_deref().unwrap_or("goes with the service"));
    }
    let of = &service.settling;
    if !of.is_settled() {
        let cells = [
            (of.unsettled_buckets, "buckets"),
            (of.unsettled_slots, "slots"),
            (of.unsettled_sources, "source prefixes"),
        ];
        let cells: Vec<String> =
            cells.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        let cells = if cells.is_empty() { "no cells".to_owned() } else { cells.join(", ") };
        let entries = of.entries();
        let _infallible = writeln!(text, "  not settled: {cells}; {entries} flows have an exception entry");
    }
    if let Some(FlowsStatus { half_open, open, begun }) = &service.flows {
        let _infallible =
            writeln!(text, "  flows in the table: {open} open, {half_open} half-open; {begun} begun so far");
    }
    if of.choice_deferred > 0 {
        let _infallible = writeln!(text, "  new flows that no entry was left for: {}", of.choice_deferred);
    }
    text
}

fn versions(service: &ServiceStatus) -> Table {
    const NUMBERS: [&str; 8] = ["WANTED", "OBSERVED", "LIVE", "NEW FLOWS/S", "SYN", "SYN-ACK", "REFUSED", "RESET"];
    let columns: Vec<(&str, Side)> =
        [("VERSION", Side::Left)].into_iter().chain(NUMBERS.map(|title| (title, Side::Right))).collect();
    let mut table = Table::new(2, &columns);
    for version in &service.versions {
        let VersionStatus { name, weight, observed, live, flows_per_second, totals, .. } = version;
        let alarm = |count: u64| Cell::new(if count > 0 { Tone::Notable } else { Tone::Plain }, count);
        table.row(vec![
            Cell::plain(name),
            Cell::plain(format!("{weight} %")),
            Cell::plain(percent(*observed)),
            Cell::plain(percent(*live)),
            Cell::plain(format!("{flows_per_second:.1}")),
            Cell::plain(totals.syns),
            Cell::plain(totals.syn_acks),
            alarm(totals.refusals),
            alarm(totals.resets),
        ]);
    }
    table
}

fn backends(service: &ServiceStatus) -> Table {
    let mut table = Table::new(
        2,
        &[
            ("BACKEND", Side::Left),
            ("VERSION", Side::Left),
            ("WEIGHT", Side::Right),
            ("SLOTS", Side::Right),
            ("STATE", Side::Left),
            ("NEXT HOP", Side::Left),
            ("PACKETS TO", Side::Right),
            ("FROM", Side::Right),
            ("", Side::Left),
        ],
    );
    for version in &service.versions {
        for backend in &version.backends {
            let next_hop =
                if backend.resolved { Cell::new(Tone::Good, "resolved") } else { Cell::new(Tone::Bad, "unresolved") };
            table.row(vec![
                Cell::plain(backend.address),
                Cell::plain(&version.name),
                Cell::plain(backend.weight),
                Cell::plain(backend.slots),
                state(backend),
                next_hop,
                Cell::plain(backend.totals.packets_forward),
                Cell::plain(backend.totals.packets_reverse),
                Cell::plain(why(backend)),
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::show::samples;

    #[test]
    fn status_shows_wanted_observed_and_live_shares() {
        let expected = "\
grayxdp 0.1.0, process 812, since 2026-03-01 09:00:00Z
! no next hop for 10.0.2.1
- this kernel is old

INTERFACE  MODE
eth0       native

web  192.0.2.10:80/tcp  stable v1  epoch 3  rollout web-v2
  errors: 30m show 2.0 % or more; a pass takes 4m
  drift: the file says v1 100, v2 0
  VERSION  WANTED  OBSERVED    LIVE  NEW FLOWS/S  SYN  SYN-ACK  REFUSED  RESET
  v1         95 %    94.8 %  95.1 %        189.6   10        9        0      0
  v2          5 %         -       -          0.0   10        9        0      0
  MEASURED  HANDSHAKES  REFUSED  TIMEOUTS  CONNECT P50     P99  FIRST BYTE P50     P99  RESETS  RETRANSMITS
  v1                10        1         0       212 µs  3.4 ms         20.0 ms  1.20 s       3       0.50 %
  v2                 0        0         0            -       -               -       -       0            -
  BACKEND        VERSION  WEIGHT  SLOTS  STATE  NEXT HOP    PACKETS TO  FROM
  10.0.1.1:8080  v1            1  16381  up     resolved           100    90
  10.0.2.1:8080  v2            1  16381  up     unresolved         100    90
  not settled: 819 buckets; 12 flows have an exception entry
  not forwarded: fragment 6
";
        assert_eq!(status(&samples::status(), Paint::Bare), expected);
    }
}
