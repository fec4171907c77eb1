//! The XDP program: the entry point turns what became of a packet into the kernel's action.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![cfg_attr(not(feature = "old-kernels"), feature(core_intrinsics))]
#![cfg_attr(
    not(feature = "old-kernels"),
    expect(internal_features, reason = "compare-and-swap and fetch-or exist for this target only as intrinsics")
)]

mod answers;
mod atomic;
mod backward;
#[cfg(feature = "trace")]
mod copy;
mod detail;
mod errors;
mod exceptions;
mod explain;
mod family;
mod forward;
mod fragments;
mod guard;
mod measure;
mod resolve;
mod sizes;
mod tables;
#[cfg(feature = "trace")]
mod trace;
mod translate;
mod tunnel;
mod verifier;
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
use grayxdp_ebpf::{
    frame::Frame,
    packet::{Ip, Ip6},
};

use family::Family;

/// What became of a packet, in one word: the kernel's action, or why the packet does not leave as one of its service. One word,
/// because the ways of a packet meet here, and each further one would cost every packet.
#[derive(Clone, Copy)]
pub(crate) struct Outcome(u64);

impl Outcome {
    const COUNTED: u64 = 1 << 63;

    /// It is not ours.
    pub(crate) const NOT_OURS: Self = Self::done(xdp_action::XDP_PASS);

    /// All is done, and this is the kernel's action.
    #[inline(always)]
    pub(crate) const fn done(action: u32) -> Self {
        Self(action as u64)
    }

    /// It leaves by an interface.
    #[inline(always)]
    pub(crate) fn left(arrival: &Arrival, interface: u32) -> Self {
        if interface == arrival.interface {
            Self::done(xdp_action::XDP_TX)
        } else {
            // SAFETY: the helper takes plain numbers.
            Self::done(unsafe { bpf_redirect(interface, 0) } as u32)
        }
    }

    /// It does not leave as a packet of its service, and is counted.
    #[inline(always)]
    pub(crate) const fn counted(service: ServiceId, reason: Reason) -> Self {
        Self(Self::COUNTED | (service.0 as u64) << 32 | reason as u64)
    }

    /// Why it is counted, and for which service.
    #[inline(always)]
    const fn reason(self) -> Option<(ServiceId, Reason)> {
        if self.0 & Self::COUNTED == 0 {
            return None;
        }
        let reason = match Reason::from_number(self.0 as u32) {
            Some(reason) => reason,
            None => Reason::Fault,
        };
        Some((ServiceId((self.0 >> 32) as u16), reason))
    }

    /// Counts what is to be counted and gives the kernel's action: in exported functions, whose packets are never answered.
    #[inline(always)]
    pub(crate) fn action(self) -> u64 {
        let Some((service, reason)) = self.reason() else { return self.0 };
        tables::count_reason(service, reason);
        u64::from(action_of(reason))
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

/// Splits, rewrites, counts. In one piece with its entry, whose own frame of the stack would be one too many.
#[xdp]
#[inline(always)]
fn grayxdp(ctx: XdpContext) -> u32 {
    #[cfg(feature = "trace")]
    trace::trace_begin(ctx.ctx);
    let action = handle(&ctx);
    #[cfg(feature = "trace")]
    trace::trace_end(ctx.ctx, u64::from(action));
    action
}

/// The kernel's action for a packet.
#[inline(always)]
fn handle(ctx: &XdpContext) -> u32 {
    // SAFETY: the kernel gives the bounds of the packet, which is the program's alone while it runs.
    let frame = unsafe { Frame::new(ctx.data(), ctx.data_end()) };
    let arrival = Arrival { frame, interface: ctx.ingress_ifindex() as u32, context: ctx.ctx };
    finish::<Ip>(ctx, way::of(arrival))
}

/// The same for packets of IPv6: a program of its own, as which the other one goes on, so that neither has the other's stack.
#[xdp]
#[inline(always)]
fn grayxdp6(ctx: XdpContext) -> u32 {
    // What the other one began ends with it: it does not come back.
    #[cfg(feature = "trace")]
    trace::trace_begin(ctx.ctx);
    let action = finish::<Ip6>(&ctx, way::of6(Arrival::of(ctx.ctx)));
    #[cfg(feature = "trace")]
    trace::trace_end(ctx.ctx, u64::from(action));
    action
}

/// The same for packets of `full-nat` over IPv4, and for those that belong to its flows.
#[xdp]
#[inline(always)]
fn grayxdp_full(ctx: XdpContext) -> u32 {
    #[cfg(feature = "trace")]
    trace::trace_begin(ctx.ctx);
    let action = finish::<Ip>(&ctx, translate::of::<Ip>(Arrival::of(ctx.ctx)));
    #[cfg(feature = "trace")]
    trace::trace_end(ctx.ctx, u64::from(action));
    action
}

/// … over IPv6.
#[xdp]
#[inline(always)]
fn grayxdp_full6(ctx: XdpContext) -> u32 {
    #[cfg(feature = "trace")]
    trace::trace_begin(ctx.ctx);
    let action = finish::<Ip6>(&ctx, translate::of::<Ip6>(Arrival::of(ctx.ctx)));
    #[cfg(feature = "trace")]
    trace::trace_end(ctx.ctx, u64::from(action));
    action
}

/// Answers and counts what is to be, and gives the kernel's action.
#[inline(always)]
fn finish<I: Family>(ctx: &XdpContext, outcome: Outcome) -> u32 {
    let Some((service, reason)) = outcome.reason() else { return outcome.0 as u32 };
    let reason = answers::give::<I>(ctx.ctx, reason);
    let count = tables::count_reason(service, reason);
    if reason == Reason::Fault {
        report_fault(ctx, service, count);
    }
    action_of(reason)
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

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// `bpf_fib_lookup` is for programs under a GPL-compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
