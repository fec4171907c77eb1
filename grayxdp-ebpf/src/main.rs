//! The XDP program: the entry point turns what became of a packet into the kernel's action.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(internal_features, reason = "compare-and-swap and fetch-or exist for this target only as intrinsics")]

mod answers;
mod atomic;
mod backward;
mod detail;
mod errors;
mod exceptions;
mod forward;
mod fragments;
mod guard;
mod measure;
mod resolve;
mod sizes;
mod tables;
mod way;

use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    helpers::bpf_redirect,
    macros::xdp,
    programs::XdpContext,
};
use aya_log_ebpf::error;
use grayxdp_common::{
    ids::ServiceId,
    reason::{Fate, Reason},
};
use grayxdp_ebpf::frame::Frame;

/// What became of a packet.
pub(crate) enum Outcome {
    /// It is not ours.
    NotOurs,
    /// It leaves by an interface.
    Forwarded(u32),
    /// It does not leave as a packet of its service, and is counted.
    Counted(ServiceId, Reason),
    /// All is done, and this is the kernel's action. For the rare ways: so they do not meet with the common ones.
    Done(u32),
}

impl Outcome {
    /// Does what is left to do and gives the kernel's action, or [`UNDECIDED`] for what is not ours: for exported functions, whose
    /// packets are never answered.
    #[inline(always)]
    pub(crate) fn finish(self, interface: u32) -> u64 {
        u64::from(match self {
            Self::NotOurs => UNDECIDED,
            Self::Done(action) => action,
            Self::Forwarded(out) => leave(interface, out),
            Self::Counted(service, reason) => {
                tables::count_reason(service, reason);
                action_of(reason)
            }
        })
    }
}

/// What exported functions say of a packet that is not theirs: an action that the program never takes.
pub(crate) const UNDECIDED: u32 = xdp_action::XDP_ABORTED;

/// The arriving packet.
#[derive(Clone, Copy)]
pub(crate) struct Arrival {
    /// Its bytes.
    pub(crate) frame: Frame,
    /// Where it came in.
    pub(crate) interface: u32,
    /// What helpers want to see.
    pub(crate) context: *mut xdp_md,
}

impl Arrival {
    /// The packet of a context, which must be the program's own; for exported functions.
    #[inline(always)]
    pub(crate) fn of(context: *mut xdp_md) -> Self {
        let (start, end): (usize, usize);
        // SAFETY: reads two fields of the context. Written so, because the compiler takes them for numbers of 32 bits and may
        // shift such a one to and fro once it is a packet pointer, which the verifier refuses.
        unsafe {
            core::arch::asm!(
                "{start} = *(u32 *)({context} + 0)",
                "{end} = *(u32 *)({context} + 4)",
                context = in(reg) context,
                start = out(reg) start,
                end = lateout(reg) end,
                options(readonly, nostack, preserves_flags),
            );
        }
        // SAFETY: the kernel gives the bounds of the packet, which is the program's alone while it runs.
        let frame = unsafe { Frame::new(start, end) };
        Self { frame, interface: XdpContext::new(context).ingress_ifindex() as u32, context }
    }
}

/// Splits, rewrites, counts.
#[xdp]
#[inline(always)]
fn grayxdp(ctx: XdpContext) -> u32 {
    // SAFETY: the kernel gives the bounds of the packet, which is the program's alone while it runs.
    let frame = unsafe { Frame::new(ctx.data(), ctx.data_end()) };
    let arrival = Arrival { frame, interface: ctx.ingress_ifindex() as u32, context: ctx.ctx };
    match way::of(arrival) {
        Outcome::NotOurs => xdp_action::XDP_PASS,
        Outcome::Forwarded(interface) => leave(arrival.interface, interface),
        Outcome::Done(action) => action,
        Outcome::Counted(service, reason) => {
            let reason = answers::give(ctx.ctx, reason);
            let count = tables::count_reason(service, reason);
            if reason == Reason::Fault {
                report_fault(&ctx, service, count);
            }
            action_of(reason)
        }
    }
}

/// Tells the daemon of a fault of its own: the first, second, fourth, eighth …, so that a flood of them is a few lines.
#[inline(always)]
fn report_fault(ctx: &XdpContext, service: ServiceId, count: u64) {
    if count.is_power_of_two() {
        error!(ctx, "service {}: the tables name what is not there; {} packets dropped on one CPU", service.0, count);
    }
}

#[inline(always)]
fn action_of(reason: Reason) -> u32 {
    match reason.fate() {
        Fate::Dropped => xdp_action::XDP_DROP,
        Fate::Passed => xdp_action::XDP_PASS,
        Fate::Answered => xdp_action::XDP_TX,
    }
}

#[inline(always)]
fn leave(came_by: u32, interface: u32) -> u32 {
    if interface == came_by {
        xdp_action::XDP_TX
    } else {
        // SAFETY: the helper takes plain numbers.
        unsafe { bpf_redirect(interface, 0) as u32 }
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// `bpf_fib_lookup` is for programs under a GPL-compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
