//! What the program answers by itself: whether, how often, and with what.
//!
//! Nothing is answered to groups, to what came as a broadcast, to ICMP errors, to RSTs and to all but the first piece of a
//! datagram (RFC 1122, section 3.2.2); nor to a packet with IPv4 options, which is dropped and counted as what it is.

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    macros::map,
    maps::PerCpuArray,
};
use grayxdp_common::{
    answers::{AnswerKind, AnswerMeters, next_due},
    directory::EndpointKey,
    reason::Reason,
};
use grayxdp_ebpf::{
    answer::{self, ERROR_HEAD, ERROR_LEN, RESET_LEN},
    packet::{Ip, Packet, TCP, flags},
};

use crate::{Arrival, explain::explains, tables};

#[map(name = "ANSWERS")]
static METERS: PerCpuArray<AnswerMeters> = PerCpuArray::with_max_entries(1, 0);

/// What is to be done about an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answering {
    /// There is none.
    None,
    /// It was written over the packet already.
    Written(AnswerKind),
    /// It is to be written.
    Wanted,
}

#[inline(always)]
const fn answering(reason: Reason) -> Answering {
    match reason {
        Reason::NoService | Reason::TtlExpired | Reason::TooBig => Answering::Wanted,
        Reason::Echo => Answering::Written(AnswerKind::Echo),
        Reason::Arp => Answering::Written(AnswerKind::Arp),
        Reason::BackendDown | Reason::FlowReset => Answering::Written(AnswerKind::Reset),
        Reason::Malformed
        | Reason::Fragment
        | Reason::NoBackend
        | Reason::Icmp
        | Reason::NoRoute
        | Reason::Fault
        | Reason::UnresolvedBackend
        | Reason::UnresolvedClient
        | Reason::DirectAccess
        | Reason::LocalAddress
        | Reason::DeferredNowhere
        | Reason::BackendDownDropped
        | Reason::FlowResetDropped
        | Reason::TimeExceeded
        | Reason::PortClosed
        | Reason::FragmentationNeeded
        | Reason::TooBigPassed
        | Reason::AnswerLimited => Answering::None,
    }
}

/// Answers a packet where its reason asks for it, and says what it is to be counted as.
#[inline(always)]
pub(crate) fn give(context: *mut xdp_md, reason: Reason) -> Reason {
    match answering(reason) {
        Answering::None => reason,
        Answering::Written(kind) if answer_allowed(kind as u64) == 0 => Reason::AnswerLimited,
        Answering::Written(AnswerKind::Reset) if !cut(context, RESET_LEN) => {
            if reason == Reason::FlowReset {
                Reason::FlowResetDropped
            } else {
                Reason::BackendDownDropped
            }
        }
        Answering::Written(_) => reason,
        Answering::Wanted => match Reason::from_number(answer_packet(context, reason as u64) as u32) {
            Some(reason) => reason,
            None => Reason::Fault,
        },
    }
}

/// Cuts what lies behind an answer that was written over the head of a longer packet.
#[inline(always)]
fn cut(context: *mut xdp_md, length: usize) -> bool {
    // The mask keeps the compiler from subtracting a number from a packet pointer, which the verifier refuses.
    let excess = length as i64 - (Arrival::of(context).frame.len() & 0xffff) as i64;
    // SAFETY: the context is the program's own.
    unsafe { bpf_xdp_adjust_tail(context, excess as i32) == 0 }
}

/// Whether one more answer of a kind is not too many; it is counted as given. The instance that explains gives none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn answer_allowed(kind: u64) -> u64 {
    if explains() {
        return 1;
    }
    let Some(meters) = METERS.get_ptr_mut(0) else { return 0 };
    // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
    let due = unsafe { &mut (*meters).0[kind as usize & 7] };
    match next_due(*due, tables::coarse_ns(), AnswerKind::from_number(kind)) {
        Some(next) => {
            *due = next;
            1
        }
        None => 0,
    }
}

/// Writes the answer that a reason asks for; the number of the reason that the packet is counted under.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn answer_packet(context: *mut xdp_md, reason: u64) -> u64 {
    const NO_SERVICE: u64 = Reason::NoService as u64;
    const TTL_EXPIRED: u64 = Reason::TtlExpired as u64;
    const TOO_BIG: u64 = Reason::TooBig as u64;
    let answered = match reason {
        NO_SERVICE => refuse(context),
        TTL_EXPIRED => own_address(context)
            .and_then(|from| error(context, from, answer::TIME_EXCEEDED, AnswerKind::Error, Reason::TimeExceeded)),
        TOO_BIG => own_address(context).and_then(|from| {
            // SAFETY: as in `answer_allowed`.
            let mtu = tables::scratch().map_or(0, |scratch| unsafe { (*scratch).mtu });
            let message = answer::fragmentation_needed(mtu as u16);
            error(context, from, message, AnswerKind::Error, Reason::FragmentationNeeded)
        }),
        _ => None,
    };
    answered.map_or(reason, |reason| reason as u64)
}

/// Refuses what is for a port without service: RST for TCP, port unreachable for UDP.
#[inline(always)]
fn refuse(context: *mut xdp_md) -> Option<Reason> {
    let frame = Arrival::of(context).frame;
    let ip = Ip::of(frame)?;
    if ip.protocol != TCP {
        return error(context, ip.destination, answer::PORT_UNREACHABLE, AnswerKind::Refusal, Reason::PortClosed);
    }
    let packet = Packet::of(frame, ip)?;
    let header = packet.tcp(frame)?;
    if !answer::may_answer(frame, ip) || header.read::<u8>(13) & flags::RST != 0 {
        return None;
    }
    if answer_allowed(AnswerKind::Refusal as u64) == 0 {
        return Some(Reason::AnswerLimited);
    }
    (answer::reset(frame, &packet, header) && cut(context, RESET_LEN)).then_some(Reason::PortClosed)
}

/// The address that errors about packets on their way come from: that of the interface at which they arrived, else the
/// virtual address that they are for.
#[inline(always)]
fn own_address(context: *mut xdp_md) -> Option<u32> {
    let arrival = Arrival::of(context);
    let own = tables::interface(arrival.interface).map_or(0, |interface| interface.ipv4);
    if own != 0 {
        return Some(own);
    }
    let destination = Ip::of(arrival.frame)?.destination;
    tables::look_up(tables::control()?.directory, EndpointKey::address(destination)).map(|_| destination)
}

/// Turns a packet into an ICMP error about itself.
#[inline(always)]
fn error(context: *mut xdp_md, from: u32, message: answer::Message, kind: AnswerKind, done: Reason) -> Option<Reason> {
    let frame = Arrival::of(context).frame;
    if !answer::may_be_repeated(frame, Ip::of(frame)?) {
        return None;
    }
    if answer_allowed(kind as u64) == 0 {
        return Some(Reason::AnswerLimited);
    }
    // SAFETY: the context is the program's own.
    if unsafe { bpf_xdp_adjust_head(context, -(ERROR_HEAD as i32)) } != 0 {
        return None;
    }
    (answer::error(Arrival::of(context).frame, from, message) && cut(context, ERROR_LEN)).then_some(done)
}
