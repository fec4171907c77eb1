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
}

impl Outcome {
    const FORWARDED: u64 = 1 << 62;
    const COUNTED: u64 = 1 << 63;

    /// As one number, in which exported functions say it.
    #[inline(always)]
    pub(crate) const fn word(self) -> u64 {
        match self {
            Self::NotOurs => 0,
            Self::Forwarded(interface) => Self::FORWARDED | interface as u64,
            Self::Counted(service, reason) => Self::COUNTED | (service.0 as u64) << 32 | reason as u64,
        }
    }

    /// From such a number.
    #[inline(always)]
    pub(crate) const fn of_word(word: u64) -> Self {
        if word & Self::COUNTED != 0 {
            let reason = match Reason::from_number(word as u32) {
                Some(reason) => reason,
                None => Reason::Fault,
            };
            Self::Counted(ServiceId((word >> 32) as u16), reason)
        } else if word & Self::FORWARDED != 0 {
            Self::Forwarded(word as u32)
        } else {
            Self::NotOurs
        }
    }
}

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
    /// The packet of a context, which must be the program's own.
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
    let arrival = Arrival::of(ctx.ctx);
    match way::of(arrival) {
        Outcome::NotOurs => xdp_action::XDP_PASS,
        Outcome::Forwarded(interface) => leave(&arrival, interface),
        Outcome::Counted(service, reason) => {
            let reason = answers::give(ctx.ctx, reason);
            let count = tables::count_reason(service, reason);
            if reason == Reason::Fault {
                report_fault(&ctx, service, count);
            }
            match reason.fate() {
                Fate::Dropped => xdp_action::XDP_DROP,
                Fate::Passed => xdp_action::XDP_PASS,
                Fate::Answered => xdp_action::XDP_TX,
            }
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
fn leave(arrival: &Arrival, interface: u32) -> u32 {
    if interface == arrival.interface {
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
