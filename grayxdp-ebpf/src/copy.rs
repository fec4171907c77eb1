//! Copies of datagrams for a candidate that is to see what stable is asked: a part of the tracing program. A packet is copied after
//! it was rewritten; nothing about its way depends on it.

use aya_ebpf::{
    bindings::xdp_md,
    macros::map,
    maps::{Array, PerfEventArray},
    programs::XdpContext,
};
use grayxdp_common::{
    copies::{self, Copied, LONGEST},
    explanation::{Explanation, Step},
};

use crate::Arrival;

#[map(name = "COPY_RATES")]
static RATES: Array<u32> = Array::with_max_entries(copies::SERVICES, 0);
/// Not a ring buffer: helpers of such cannot read a packet, and reserving the longest for each would waste most of it.
#[map(name = "COPIES")]
static COPIES: PerfEventArray<Copied> = PerfEventArray::new(0);

/// Whether the datagrams of any service are asked for.
#[inline(always)]
pub(crate) fn is_any_asked_for() -> bool {
    RATES.get(0).is_some_and(|rate| *rate != 0)
}

/// Copies a packet that went to a backend, if its flow's are asked for. What finds no room is counted by the kernel.
#[inline(always)]
pub(crate) fn copy(context: *mut xdp_md, explanation: &Explanation) {
    let (service, hash) = (u32::from(explanation.service), explanation.hash);
    if explanation.step != Step::Backend as u32 || service == 0 {
        return;
    }
    if !RATES.get(service).is_some_and(|rate| copies::is_copied(hash, *rate)) {
        return;
    }
    let frame = Arrival::of(context).frame.len() as u32;
    let length = if frame < LONGEST { frame } else { LONGEST };
    COPIES.output(&XdpContext::new(context), Copied { hash, service, length }, length);
}
