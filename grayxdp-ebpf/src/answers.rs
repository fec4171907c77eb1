//! What the program answers by itself: whether, how often, and with what.
//!
//! Nothing is answered to groups, to what came as a broadcast, to ICMP errors, to RSTs and to all but the first piece of a
//! datagram (RFC 1122, section 3.2.2); nor to a packet with IPv4 options, which is dropped and counted as what it is.

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_csum_diff, bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    macros::map,
    maps::PerCpuArray,
};
use grayxdp_common::{
    answers::{AnswerKind, AnswerMeters, next_due},
    reason::Reason,
};
use grayxdp_ebpf::{
    answer::{self, ERROR_HEAD, ERROR_LEN},
    answer6,
    frame::Frame,
    packet::{ETHERNET_LEN, Ip, Ip6, Network as _, Packet, TCP, flags},
};

use crate::{Arrival, explain::explains, family::Family, tables};

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
        Reason::BackendDown | Reason::FlowReset | Reason::UnknownFlow => Answering::Written(AnswerKind::Reset),
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
        | Reason::NoNextHop
        | Reason::NoHeadroom
        | Reason::TunnelError
        | Reason::UnknownFlowDropped
        | Reason::NoSourcePort
        | Reason::HalfOpenFull
        | Reason::FlowTableFull
        | Reason::AnswerLimited => Answering::None,
    }
}

/// Answers a packet where its reason asks for it, and says what it is to be counted as.
#[inline(always)]
pub(crate) fn give<I: Family>(context: *mut xdp_md, reason: Reason) -> Reason {
    match answering(reason) {
        Answering::None => reason,
        Answering::Written(kind) if answer_allowed(kind as u64) == 0 => Reason::AnswerLimited,
        Answering::Written(AnswerKind::Reset) if !cut(context, I::RESET_LEN) => {
            if reason == Reason::FlowReset {
                Reason::FlowResetDropped
            } else if reason == Reason::UnknownFlow {
                Reason::UnknownFlowDropped
            } else {
                Reason::BackendDownDropped
            }
        }
        Answering::Written(_) => reason,
        Answering::Wanted => match Reason::from_number(I::answer(context, reason) as u32) {
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
pub(crate) extern "C" fn answer_packet(context: *mut xdp_md, reason: u64) -> u64 {
    const NO_SERVICE: u64 = Reason::NoService as u64;
    const TTL_EXPIRED: u64 = Reason::TtlExpired as u64;
    const TOO_BIG: u64 = Reason::TooBig as u64;
    let answered = match reason {
        NO_SERVICE => refuse::<Ip>(context),
        TTL_EXPIRED => own_address::<Ip>(context)
            .and_then(|from| error(context, from, answer::TIME_EXCEEDED, AnswerKind::Error, Reason::TimeExceeded)),
        TOO_BIG => own_address::<Ip>(context).and_then(|from| {
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
fn refuse<I: Refusing>(context: *mut xdp_md) -> Option<Reason> {
    let arrival = Arrival::of(context);
    let ip = I::again(arrival)?;
    if ip.protocol() != TCP {
        return I::refuse_port(context, ip.destination());
    }
    let packet = Packet::of(arrival.frame, ip)?;
    let header = packet.tcp(arrival.frame)?;
    // Written first: what is not answered is not counted as an answer given.
    if header.read::<u8>(13) & flags::RST != 0 || !I::reset(arrival, &packet, header) {
        return None;
    }
    if answer_allowed(AnswerKind::Refusal as u64) == 0 {
        return Some(Reason::AnswerLimited);
    }
    cut(context, I::RESET_LEN).then_some(Reason::PortClosed)
}

/// The address that errors about packets on their way come from: that of the interface at which they arrived, else the
/// virtual address that they are for.
#[inline(always)]
fn own_address<I: Family>(context: *mut xdp_md) -> Option<I::Address> {
    let arrival = Arrival::of(context);
    if let Some(interface) = tables::interface(arrival.interface)
        && let Some(own) = I::own_address(&interface)
    {
        return Some(own);
    }
    let destination = I::again(arrival)?.destination();
    tables::look_up(tables::control()?.directory, I::address_key(destination)).map(|_| destination)
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

/// The same of IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn answer_packet6(context: *mut xdp_md, reason: u64) -> u64 {
    const NO_SERVICE: u64 = Reason::NoService as u64;
    const TTL_EXPIRED: u64 = Reason::TtlExpired as u64;
    const TOO_BIG: u64 = Reason::TooBig as u64;
    let answered = match reason {
        NO_SERVICE => refuse::<Ip6>(context),
        TTL_EXPIRED => own_address::<Ip6>(context)
            .and_then(|from| error6(context, from, answer6::TIME_EXCEEDED, AnswerKind::Error, Reason::TimeExceeded)),
        TOO_BIG => own_address::<Ip6>(context).and_then(|from| {
            // SAFETY: as in `answer_allowed`.
            let mtu = tables::scratch().map_or(0, |scratch| unsafe { (*scratch).mtu });
            error6(context, from, answer6::too_big(mtu as u32), AnswerKind::Error, Reason::FragmentationNeeded)
        }),
        _ => None,
    };
    answered.map_or(reason, |reason| reason as u64)
}

/// What refusing a port has for each family.
trait Refusing: Family {
    fn refuse_port(context: *mut xdp_md, from: Self::Address) -> Option<Reason>;
}

impl Refusing for Ip {
    #[inline(always)]
    fn refuse_port(context: *mut xdp_md, from: u32) -> Option<Reason> {
        error(context, from, answer::PORT_UNREACHABLE, AnswerKind::Refusal, Reason::PortClosed)
    }
}

impl Refusing for Ip6 {
    #[inline(always)]
    fn refuse_port(context: *mut xdp_md, from: Self::Address) -> Option<Reason> {
        error6(context, from, answer6::PORT_UNREACHABLE, AnswerKind::Refusal, Reason::PortClosed)
    }
}

/// Turns a packet into an ICMPv6 error about itself, which repeats up to 512 bytes of it.
#[inline(always)]
fn error6(
    context: *mut xdp_md,
    from: <Ip6 as grayxdp_ebpf::packet::Network>::Address,
    message: answer6::Message,
    kind: AnswerKind,
    done: Reason,
) -> Option<Reason> {
    let arrival = Arrival::of(context);
    if !answer6::may_be_repeated(arrival.frame, Ip6::again(arrival)?) {
        return None;
    }
    if answer_allowed(kind as u64) == 0 {
        return Some(Reason::AnswerLimited);
    }
    let repeated = answer_repeated6(context);
    let (length, sum) = ((repeated >> 32) as usize & 0x3ff, repeated as u32);
    if length == 0 {
        return None;
    }
    // SAFETY: the context is the program's own.
    if unsafe { bpf_xdp_adjust_head(context, -(answer6::ERROR_HEAD as i32)) } != 0 {
        return None;
    }
    let whole = ETHERNET_LEN + answer6::ERROR_HEAD + length;
    (answer6::error(Arrival::of(context).frame, from, message, length, sum) && cut(context, whole)).then_some(done)
}

/// How many bytes of a packet an error repeats (high half), and their sum: the verifier wants lengths that it knows.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn answer_repeated6(context: *mut xdp_md) -> u64 {
    let arrival = Arrival::of(context);
    let Some(ip) = Ip6::again(arrival) else { return 0 };
    let length = ip.total_len();
    let mut repeated = sum_of::<512>(arrival.frame, length);
    if repeated == 0 {
        repeated = sum_of::<256>(arrival.frame, length);
    }
    if repeated == 0 {
        repeated = sum_of::<128>(arrival.frame, length);
    }
    if repeated == 0 {
        repeated = sum_of::<64>(arrival.frame, length);
    }
    if repeated == 0 { sum_of::<48>(arrival.frame, length) } else { repeated }
}

/// The sum of the first `N` bytes of the packet in a frame; 0 where it is shorter.
#[inline(always)]
fn sum_of<const N: usize>(frame: Frame, length: u64) -> u64 {
    if length < N as u64 {
        return 0;
    }
    let Some(bytes) = frame.at::<[u8; N]>(ETHERNET_LEN) else { return 0 };
    // SAFETY: the bytes lie within the frame.
    let sum = unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, bytes.start().cast(), N as u32, 0) };
    (N as u64) << 32 | (sum as u32 as u64)
}
