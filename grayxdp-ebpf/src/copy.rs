//! Copies of packets, for a candidate that is to see what stable is asked and for the flow log: a part of the tracing program. A
//! packet is copied after it was rewritten; nothing about its way depends on it.

use aya_ebpf::{
    bindings::xdp_md,
    macros::map,
    maps::{Array, PerfEventArray},
    programs::XdpContext,
};
use grayxdp_common::{
    copies::{self, Asked, Copied, LONGEST},
    explanation::Step,
    trace::Traced,
};

use crate::{Arrival, tables};

#[map(name = "COPIES_ASKED")]
static ASKED: Array<Asked> = Array::with_max_entries(copies::SERVICES, 0);
/// Not a ring buffer: helpers of such cannot read a packet, and reserving the longest for each would waste most of it.
#[map(name = "COPIES")]
static COPIES: PerfEventArray<Copied> = PerfEventArray::new(0);

/// Whether copies of any service are asked for.
#[inline(always)]
pub(crate) fn is_any_asked_for() -> bool {
    ASKED.get(0).is_some_and(|asked| asked.whole != 0)
}

/// Copies a packet that went to a backend, if its flow is asked for. What finds no room is counted by the kernel.
#[inline(always)]
pub(crate) fn copy(context: *mut xdp_md, traced: &mut Traced, is_told: bool) {
    let (service, hash) = (traced.explanation.service, traced.explanation.hash);
    if traced.explanation.step != Step::Backend as u32 || traced.explanation.family == 0 {
        return;
    }
    let Some(asked) = ASKED.get(u32::from(service)) else { return };
    let is_whole = copies::is_copied(hash, asked.whole);
    let is_first = traced.explanation.opens != 0 && copies::is_copied(hash, asked.first);
    if !is_whole && !is_first {
        return;
    }
    let frame = if is_whole { Arrival::of(context).frame.len() as u32 } else { 0 };
    let length = if frame < LONGEST { frame } else { LONGEST };
    if !is_told {
        traced.time_ns = tables::precise_ns();
    }
    traced.length_out = length;
    // SAFETY: a map's value that begins as what is told, which is plain data.
    let copied = unsafe { &*core::ptr::from_ref(traced).cast::<Copied>() };
    COPIES.output(&XdpContext::new(context), copied, length);
}
