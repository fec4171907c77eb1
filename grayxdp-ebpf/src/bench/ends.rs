//! What stands beside and behind the load balancer in the lab: a plain redirect, and a sink.

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP},
    helpers::bpf_redirect,
    macros::map,
    maps::{Array, PerCpuArray},
    programs::XdpContext,
};

#[map]
static EGRESS: Array<u32> = Array::with_max_entries(1, 0);
#[map]
static SUNK: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Bytes up to the end of an IPv4 header's protocol.
const PROTOCOL_END: usize = 24;
const TCP: u8 = 6;

#[inline(always)]
pub(crate) fn redirect() -> u32 {
    match EGRESS.get(0) {
        // SAFETY: the helper takes plain numbers.
        Some(interface) => unsafe { bpf_redirect(*interface, 0) as u32 },
        None => XDP_ABORTED,
    }
}

#[inline(always)]
pub(crate) fn sink(ctx: &XdpContext) -> u32 {
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + PROTOCOL_END > end {
        return XDP_DROP;
    }
    // SAFETY: both lie within the bytes checked above.
    let (ethertype, protocol) = unsafe { (*((start + 12) as *const u16), *((start + 23) as *const u8)) };
    if ethertype == 0x0800_u16.to_be()
        && protocol == TCP
        && let Some(count) = SUNK.get_ptr_mut(0)
    {
        // SAFETY: the value is this CPU's own.
        unsafe { *count += 1 };
    }
    XDP_DROP
}
