//! What stands before, beside and behind the load balancer in the lab: the generator, a plain redirect, a sink.

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX},
    helpers::bpf_redirect,
    macros::map,
    maps::{Array, PerCpuArray},
    programs::XdpContext,
};

use crate::{
    layout::{FLOOD, HEADERS_LEN, Setup},
    yardstick::{add, replaced32},
};

#[map]
static EGRESS: Array<u32> = Array::with_max_entries(1, 0);
#[map]
static SUNK: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Bytes up to the end of an IPv4 header's source address.
const SOURCE_END: usize = 30;
const TCP: u8 = 6;

/// Sends a prepared TCP packet from a client, with the checksums of its flow: those of the first flow were written.
#[inline(always)]
pub(crate) fn send(ctx: &XdpContext, setup: &Setup) -> u32 {
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + HEADERS_LEN > end {
        return XDP_ABORTED;
    }
    let (ip_checksum, tcp_checksum) = ((start + 24) as *mut u16, (start + 50) as *mut u16);
    // SAFETY: all lies within the HEADERS_LEN bytes checked above.
    unsafe {
        let (address, port) = (((start + 26) as *const u32).read_unaligned(), *((start + 34) as *const u16));
        let address = replaced32(setup.address.to_be(), address);
        let port = u32::from(!(setup.port as u16).to_be()) + u32::from(port);
        *ip_checksum = add(*ip_checksum, address);
        *tcp_checksum = add(*tcp_checksum, address + port);
    }
    XDP_TX
}

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
    if source_of_tcp(ctx).is_some() {
        count();
    }
    XDP_DROP
}

#[inline(always)]
pub(crate) fn filter(ctx: &XdpContext) -> u32 {
    match source_of_tcp(ctx) {
        Some(source) if source & FLOOD.1 == FLOOD.0 => {
            count();
            XDP_DROP
        }
        Some(_) | None => XDP_PASS,
    }
}

/// The source address of a TCP packet over IPv4, host order.
#[inline(always)]
fn source_of_tcp(ctx: &XdpContext) -> Option<u32> {
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + SOURCE_END > end {
        return None;
    }
    // SAFETY: all lie within the bytes checked above.
    let (ethertype, protocol, source) = unsafe {
        (*((start + 12) as *const u16), *((start + 23) as *const u8), ((start + 26) as *const u32).read_unaligned())
    };
    (ethertype == 0x0800_u16.to_be() && protocol == TCP).then_some(u32::from_be(source))
}

#[inline(always)]
fn count() {
    if let Some(count) = SUNK.get_ptr_mut(0) {
        // SAFETY: the value is this CPU's own.
        unsafe { *count += 1 };
    }
}
