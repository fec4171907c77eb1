//! Where the next packet of a flow would go, asked without changing anything: for what belongs to a flow and is no packet of
//! it, or has no ports.
//!
//! The flow's entry decides, else the default. Nothing is opened, completed, pinned, refreshed or stamped.

use grayxdp_common::{directory::Entry, hash::Flow, ids::ServiceId, ipv6::Address as _, records::ServiceRecord};
use grayxdp_ebpf::packet::UDP;

use crate::{detail, family::Family, forward, tables};

/// What [`ask`] and those who use it say: the backend is in the low bits.
pub(crate) const TO_BACKEND: u64 = 1 << 60;
/// The scratch holds the question which backend it is: [`choice`] answers it.
pub(crate) const ASKS: u64 = 2 << 60;
/// Of a backend's packet, which is in the low bits.
pub(crate) const TO_CLIENT: u64 = 3 << 60;
/// The bits that say which of them it is.
pub(crate) const WHICH: u64 = 3 << 60;
/// The bits of a backend's id.
pub(crate) const ID: u64 = 0xffff;

/// Finds the backend of a client's flow, or asks for it; 0 for a fault. The numbers are those of a TCP segment, with
/// [`detail::REPLY`] in `flags` of a reply.
#[inline(always)]
pub(crate) fn ask<I: Family>(
    flow: &Flow<I::Address>,
    service: &ServiceRecord,
    entry: Entry,
    numbers: (u32, u32),
    flags: u64,
) -> u64 {
    let Some(scratch) = tables::scratch() else { return 0 };
    // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
    let question = unsafe { &mut (*scratch).question };
    let whole = I::Address::hash(flow, &tables::hash_key());
    let hash = if service.flags & ServiceRecord::FLAG_CLIENT_AFFINITY == 0 {
        whole
    } else {
        I::Address::hash(&flow.with_ports(0, 0), &tables::hash_key())
    };
    question.service = u64::from(service.service.0);
    if service.detail == 0 {
        return TO_BACKEND | forward::choose(hash, service).map_or(0, u64::from);
    }
    question.flow = whole;
    question.detail = u64::from(service.detail);
    question.kind = detail::Kind::Later as u64;
    let (client, family) = I::words(flow.source);
    question.flags = flags | family | if flow.protocol == UDP { detail::DATAGRAM } else { 0 };
    question.sequence = u64::from(numbers.0);
    question.acknowledged = u64::from(numbers.1);
    question.client = client;
    question.bucket = u64::from(hash.bucket());
    question.slot = u64::from(hash.slot());
    question.port_class = u64::from(entry.port_class());
    question.dscp = 0;
    ASKS
}

/// The backend that the scratch's question asks for; 0 for none.
#[inline(always)]
pub(crate) fn choice() -> u64 {
    detail::about_flow()
}

/// The service that was asked for last.
#[inline(always)]
pub(crate) fn service() -> ServiceId {
    // SAFETY: as in `ask`, which wrote it.
    ServiceId(tables::scratch().map_or(0, |scratch| unsafe { (*scratch).question.service }) as u16)
}
