//! `ipip`: a packet goes to its backend inside another one, with the virtual endpoint in it.
//!
//! The parts are exported functions: the verifier looks at each once, and only packets of tunnels meet them.

use aya_ebpf::{bindings::xdp_md, helpers::bpf_xdp_adjust_head};
use grayxdp_common::{
    checksum::Delta,
    explanation::Step,
    ids::ServiceId,
    ipv6::Address6,
    reason::Reason,
    records::{NextHop, Target, TunnelKind},
};
use grayxdp_ebpf::{
    outer::{self, Ends, Ethernet, IPV4_LEN, IPV6_LEN, Inner},
    packet::{Ip, Ip6, Network as _, Packet},
    rewrite::TimeToLive,
};

use crate::{Arrival, Outcome, explain, family::Family, tables};

/// Set in what exported functions say of a packet that is to go into the tunnel to the backend in the low bits. They do not put it there
/// themselves: behind a call that may move the packet the verifier takes no view into it for sound any more.
pub(crate) const INTO_TUNNEL: u64 = 1 << 32;

/// What becomes of a packet that an exported function has decided about.
#[inline(always)]
pub(crate) fn decided<I: Family>(context: *mut xdp_md, said: u64) -> Outcome {
    let action = if said & INTO_TUNNEL == 0 { said } else { I::tunnel(context, said as u16) };
    Outcome::done(action as u32)
}

/// Whether a packet is too long for its tunnel and nobody may cut it; then what fits is left in the scratch for the answer.
#[inline(always)]
pub(crate) fn is_beyond<I: Family>(ip: I, id: u16) -> bool {
    let Some(target) = tables::target(id) else { return false };
    let is_beyond = is_longer(ip, target) && !may_be_cut(ip, target);
    if is_beyond && let Some(scratch) = tables::scratch() {
        // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
        unsafe { (*scratch).mtu = u64::from(target.mtu) };
    }
    is_beyond
}

#[inline(always)]
fn is_longer<I: Family>(ip: I, target: &Target) -> bool {
    target.mtu != 0 && ip.total_len() > u64::from(target.mtu)
}

/// Whether the kernel may cut the outer packet: routers do so with IPv4 only.
#[inline(always)]
fn may_be_cut<I: Family>(ip: I, target: &Target) -> bool {
    target.tunnel == TunnelKind::Ipv4 as u32 && !ip.must_not_be_fragmented()
}

/// Puts the packet of a context into the tunnel to a backend and sends it: the kernel's action.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn tunnel(context: *mut xdp_md, id: u64) -> u64 {
    enter::<Ip>(context, id as u16)
}

/// The same of IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn tunnel6(context: *mut xdp_md, id: u64) -> u64 {
    enter::<Ip6>(context, id as u16)
}

#[inline(always)]
fn enter<I: Family>(context: *mut xdp_md, id: u16) -> u64 {
    let arrival = Arrival::of(context);
    let (Some(backend), Some(target)) = (tables::backend(id), tables::target(id)) else {
        return Outcome::counted(ServiceId::NONE, Reason::Fault).action();
    };
    let counted = |reason| Outcome::counted(ServiceId(backend.service), reason).action();
    let Some(ip) = I::again(arrival) else { return counted(Reason::Malformed) };
    let hop = target.next_hop;
    explain::note_backend(Step::Backend, id, backend, &hop);
    let is_long = is_longer(ip, target);
    if is_long && !may_be_cut(ip, target) {
        return counted(Reason::TooBig);
    }
    let inner = inner_of(arrival, ip);
    let source = Address6([target.source.0[0], target.source.0[1] | u64::from(inner.hash & target.spread) << 32]);
    let ends = Ends { source, destination: target.address };
    ip.set_destination(ip.destination(), Delta::TTL_DECREMENT, TimeToLive::Decrement);
    // What is left to the kernel stays for this host.
    let towards = if is_long { NextHop::UNKNOWN } else { hop };
    let Some(ethernet) = Ethernet::towards(&towards, arrival.frame) else { return counted(Reason::Malformed) };
    let is_written = if target.tunnel == TunnelKind::Ipv6 as u32 {
        wrap::<IPV6_LEN>(context, &inner, &ends, ethernet)
    } else {
        wrap::<IPV4_LEN>(context, &inner, &ends, ethernet)
    };
    if !is_written {
        return counted(Reason::NoHeadroom);
    }
    if is_long {
        return counted(Reason::TooBigPassed);
    }
    if !hop.is_known() {
        return counted(Reason::UnresolvedBackend);
    }
    Outcome::left(&arrival, hop.interface).action()
}

/// Adds the outer header.
#[inline(always)]
fn wrap<const HEAD: usize>(context: *mut xdp_md, inner: &Inner, ends: &Ends, ethernet: Ethernet) -> bool {
    // SAFETY: the context is the program's own.
    if unsafe { bpf_xdp_adjust_head(context, -(HEAD as i32)) } != 0 {
        return false;
    }
    let frame = Arrival::of(context).frame;
    if HEAD == IPV6_LEN {
        ethernet.write(frame, true) && outer::ipv6(frame, inner, ends)
    } else {
        ethernet.write(frame, false) && outer::ipv4(frame, inner, ends)
    }
}

/// What of a packet shows outside.
#[inline(always)]
fn inner_of<I: Family>(arrival: Arrival, ip: I) -> Inner {
    let ports = Packet::of(arrival.frame, ip)
        .map_or(0, |packet| u64::from(packet.source_port) | u64::from(packet.destination_port) << 16);
    let ([high, low], _) = I::words(ip.source());
    // The multiplier of [`grayxdp_common::hash`]; which way a tunnel takes is no secret.
    let mixed = (high ^ low.rotate_left(29) ^ ports << 24).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Inner {
        length: ip.total_len(),
        traffic_class: ip.traffic_class(),
        protocol: I::INSIDE,
        identification: ip.outer_identification(),
        hash: (mixed >> 32) as u32,
    }
}

/// 1 if a packet is an ICMP error about one in a tunnel of this host's.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn tunnel_error(context: *mut xdp_md) -> u64 {
    let arrival = Arrival::of(context);
    let (Some(ip), Some(control)) = (Ip::again(arrival), tables::control()) else { return 0 };
    let tunnels = control.tunnels;
    u64::from(tunnels.mask != 0 && tunnels.holds(ip.destination) && outer::is_repeated(arrival.frame, ip))
}

/// The same of IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn tunnel_error6(context: *mut xdp_md) -> u64 {
    let arrival = Arrival::of(context);
    let (Some(ip), Some(control)) = (Ip6::again(arrival), tables::control()) else { return 0 };
    let tunnels = control.ipv6.tunnels;
    let is_ours = tunnels.mask != Address6([0; 2]) && tunnels.holds(ip.destination());
    u64::from(is_ours && outer::is_repeated6(arrival.frame, ip))
}
