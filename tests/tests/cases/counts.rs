//! What the program counts, by name: the names of reasons are those of the metrics, those of counters their fields'.

use std::collections::BTreeMap;

use grayxdp::model::kernel::{BackendCounters, BackendId, Counters, Reason, ServiceId};
use grayxdp_common::signals::ExceptionCounters;

use crate::{
    format::{Counted, Counts},
    tables::Names,
};

/// What was counted between two readings; what did not change is left out.
pub(crate) fn between(before: &Counters, after: &Counters, names: &Names) -> Counted {
    let mut counted = Counted::default();
    let service = |id: ServiceId| name_of(&names.services, id.0);
    let backend = |id: BackendId| name_of(&names.backends, id.0);
    for (key, count) in &after.reasons {
        let earlier = before.reasons.get(key).copied().unwrap_or(0);
        add(&mut counted.reasons, service(key.0), (key.1.label(), count - earlier));
    }
    for (id, counters) in &after.backends {
        let earlier = of_backend(&before.backends.get(id).copied().unwrap_or_default());
        for ((name, count), (_, earlier)) in of_backend(counters).into_iter().zip(earlier) {
            add(&mut counted.backends, backend(*id), (name, count - earlier));
        }
    }
    for (id, counters) in &after.exceptions {
        let earlier = of_exceptions(&before.exceptions.get(id).copied().unwrap_or_default());
        for ((name, count), (_, earlier)) in of_exceptions(counters).into_iter().zip(earlier) {
            add(&mut counted.exceptions, service(*id), (name, count - earlier));
        }
    }
    counted
}

fn add(counts: &mut Counts, of: String, (name, count): (&str, u64)) {
    if count != 0 {
        counts.entry(of).or_default().insert(name.to_owned(), count);
    }
}

/// The name of what is counted; none of what belongs to no service.
fn name_of(names: &BTreeMap<String, u16>, id: u16) -> String {
    if id == 0 {
        return String::new();
    }
    let found = names.iter().find(|(_, number)| **number == id);
    found.map_or_else(|| format!("number {id}"), |(name, _)| name.clone())
}

/// Names that are neither of the file nor of a counter.
pub(crate) fn unknown<'a>(counted: &'a Counted, names: &Names) -> Vec<&'a str> {
    let reasons: Vec<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
    let backends = of_backend(&BackendCounters::default()).map(|(name, _)| name);
    let exceptions = of_exceptions(&ExceptionCounters::default()).map(|(name, _)| name);
    [
        outside(&counted.reasons, &names.services, &reasons),
        outside(&counted.backends, &names.backends, &backends),
        outside(&counted.exceptions, &names.services, &exceptions),
    ]
    .concat()
}

fn outside<'a>(counts: &'a Counts, owners: &BTreeMap<String, u16>, counters: &[&str]) -> Vec<&'a str> {
    let strangers = counts.keys().filter(|owner| !owner.is_empty() && !owners.contains_key(*owner));
    let unknown = counts.values().flat_map(BTreeMap::keys).filter(|name| !counters.contains(&name.as_str()));
    strangers.chain(unknown).map(String::as_str).collect()
}

fn of_backend(counters: &BackendCounters) -> [(&'static str, u64); 16] {
    let BackendCounters {
        packets_forward,
        bytes_forward,
        packets_reverse,
        bytes_reverse,
        syns,
        syn_acks,
        refusals,
        resets_reverse,
        resets_forward,
        fins_forward,
        fins_reverse,
        zero_windows_forward,
        zero_windows_reverse,
        unmarked,
        icmp_errors_forward,
        icmp_errors_reverse,
    } = *counters;
    [
        ("packetsForward", packets_forward),
        ("bytesForward", bytes_forward),
        ("packetsReverse", packets_reverse),
        ("bytesReverse", bytes_reverse),
        ("syns", syns),
        ("synAcks", syn_acks),
        ("refusals", refusals),
        ("resetsReverse", resets_reverse),
        ("resetsForward", resets_forward),
        ("finsForward", fins_forward),
        ("finsReverse", fins_reverse),
        ("zeroWindowsForward", zero_windows_forward),
        ("zeroWindowsReverse", zero_windows_reverse),
        ("unmarked", unmarked),
        ("icmpErrorsForward", icmp_errors_forward),
        ("icmpErrorsReverse", icmp_errors_reverse),
    ]
}

fn of_exceptions(counters: &ExceptionCounters) -> [(&'static str, u64); 7] {
    let ExceptionCounters {
        half_open,
        completed,
        pinned,
        pins_refused,
        choice_deferred,
        failovers,
        by_entry,
        reserved: _,
    } = *counters;
    [
        ("halfOpen", half_open),
        ("completed", completed),
        ("pinned", pinned),
        ("pinsRefused", pins_refused),
        ("choiceDeferred", choice_deferred),
        ("failovers", failovers),
        ("byEntry", by_entry),
    ]
}
