//! Metrics of settling and of the exception table.

use crate::telemetry::{MetricsView, family::Family};

/// How far services are from being settled, and the table that keeps what differs meanwhile.
pub(super) fn families(view: &MetricsView) -> Vec<Family> {
    const SERVICE: &[&str] = &["service"];
    const KIND: &[&str] = &["service", "kind"];
    let mut unsettled = Family::gauge(
        "grayxdp_unsettled_cells",
        KIND,
        "Buckets, slots and source prefixes whose flows in progress go elsewhere than new ones.",
    );
    let mut settled = Family::counter(
        "grayxdp_settled_total",
        KIND,
        "Cells that settled since the daemon began; kind idle: nobody used them, pinned: all their flows had entries, window: UDP.",
    );
    let mut entries = Family::gauge(
        "grayxdp_exception_entries",
        &["service", "state"],
        "Entries in the exception table at the newest sweep; state half_open, pin, or established.",
    );
    let mut inserts = Family::counter(
        "grayxdp_exception_inserts_total",
        KIND,
        "Entries made in the exception table; kind handshake: for a SYN, pin: for a flow in progress.",
    );
    let mut refused =
        Family::counter("grayxdp_exception_refused_total", SERVICE, "Pins that found no place in the exception table.");
    let mut deferred = Family::counter(
        "grayxdp_choice_deferred_total",
        SERVICE,
        "SYNs that found no place in the exception table and went where their flow's later packets go.",
    );
    for service in &view.services {
        let (name, settling) = (service.name.as_str(), &service.settling);
        unsettled.count([name, "bucket"], settling.unsettled_buckets);
        unsettled.count([name, "slot"], settling.unsettled_slots);
        unsettled.count([name, "source"], settling.unsettled_sources);
        settled.count([name, "idle"], settling.settled_idle);
        settled.count([name, "pinned"], settling.settled_pinned);
        settled.count([name, "window"], settling.settled_window);
        entries.count([name, "half_open"], settling.half_open);
        entries.count([name, "pin"], settling.pins);
        entries.count([name, "established"], settling.established);
        inserts.count([name, "handshake"], settling.handshakes_inserted);
        inserts.count([name, "pin"], settling.pins_inserted);
        refused.count([name], settling.pins_refused);
        deferred.count([name], settling.choice_deferred);
    }
    let mut places = Family::gauge("grayxdp_exception_places", &[], "Places in the exception table.");
    places.count([], view.exceptions.places);
    let mut expired = Family::counter(
        "grayxdp_exception_expired_total",
        &["kind"],
        "Entries that the daemon removed since it began; kind ended: silent or closed for too long, needless: equal to a settled default.",
    );
    expired.count(["ended"], view.exceptions.expired);
    expired.count(["needless"], view.exceptions.needless);
    vec![unsettled, settled, entries, inserts, refused, deferred, places, expired]
}

/// The flow table of `full-nat`.
pub(super) fn flow_families(view: &MetricsView) -> Vec<Family> {
    let mut flows = Family::gauge(
        "grayxdp_flow_table_entries",
        &["service", "state"],
        "Flows of full-nat at the newest sweep; state half_open: handshakes and datagrams without an answer, or open.",
    );
    let mut begun = Family::counter(
        "grayxdp_flow_table_inserts_total",
        &["service"],
        "Flows of full-nat that got an address and a port of the pool.",
    );
    for service in &view.services {
        let Some(of) = &service.flows else { continue };
        let name = service.name.as_str();
        flows.count([name, "half_open"], of.half_open);
        flows.count([name, "open"], of.open);
        begun.count([name], of.begun);
    }
    let mut places = Family::gauge("grayxdp_flow_table_places", &[], "Flows of full-nat that there is room for.");
    places.count([], view.flow_table.places);
    let mut expired = Family::counter(
        "grayxdp_flow_table_expired_total",
        &[],
        "Flows of full-nat that the daemon removed since it began: silent or closed for too long.",
    );
    expired.count([], view.flow_table.expired);
    vec![flows, begun, places, expired]
}
