//! The way to a client by the kernel's own tables.

use core::mem::{MaybeUninit, offset_of};

use aya_ebpf::{
    bindings::{
        BPF_FIB_LKUP_RET_FWD_DISABLED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS,
        BPF_FIB_LKUP_RET_UNSUPP_LWT, bpf_fib_lookup as FibLookup, xdp_md,
    },
    helpers::bpf_fib_lookup,
};
use grayxdp_common::{
    reason::Reason,
    records::{BackendRecord, InterfaceRecord, NextHop},
};
use grayxdp_ebpf::packet::{Ip, Ip6};

use super::Client;
use crate::{Arrival, family::Family, tables};

/// Writes a next hop field by field: the whole at once becomes a call.
///
/// # Safety
/// The place must be writable.
#[inline(always)]
pub(crate) unsafe fn leave(place: *mut NextHop, hop: NextHop) {
    // SAFETY: by the caller's word.
    unsafe {
        (&raw mut (*place).head).write_volatile(hop.head);
        (&raw mut (*place).tail).write_volatile(hop.tail);
        (&raw mut (*place).interface).write_volatile(hop.interface);
    }
}

/// Asks the kernel's own tables for the way to the client that a packet of a backend is for, and leaves it in the scratch; 1 if they
/// forward nothing there.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn hop_by_kernel(context: *mut xdp_md, id: u64, port_and_protocol: u64) -> u64 {
    asked::<Ip>(context, id, port_and_protocol)
}

/// The same of IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn hop_by_kernel6(context: *mut xdp_md, id: u64, port_and_protocol: u64) -> u64 {
    asked::<Ip6>(context, id, port_and_protocol)
}

#[inline(always)]
fn asked<I: Family>(context: *mut xdp_md, id: u64, port_and_protocol: u64) -> u64 {
    let arrival = Arrival::of(context);
    let (Some(ip), Some(scratch)) = (I::beginning(arrival), tables::scratch()) else { return 0 };
    let (Some(backend), Some(ends)) = (tables::backend(id as u16), I::ends(id as u16)) else { return 0 };
    let client = Client::of(ip.destination(), port_and_protocol);
    let mut hop = NextHop::UNKNOWN;
    let refused = by_kernel::<I>(arrival, &client, (backend, ends), &mut hop);
    // SAFETY: as above.
    unsafe { leave(&raw mut (*scratch).hop, hop) };
    u64::from(refused.is_some())
}

/// Asks the kernel's own tables.
#[inline(always)]
pub(crate) fn by_kernel<I: Family>(
    arrival: Arrival,
    to: &Client<I::Address>,
    (backend, ends): (&BackendRecord, I::Ends),
    hop: &mut NextHop,
) -> Option<Reason> {
    let mut place = Aligned(MaybeUninit::<FibLookup>::uninit());
    let query = zeroed(&mut place);
    query.l4_protocol = to.protocol;
    query.sport = backend.virtual_port;
    query.dport = to.port;
    query.ifindex = arrival.interface;
    I::ask(query, I::virtual_address_of(backend, ends), to.address);
    // SAFETY: the context is the program's own, the structure lives on the stack and its size is given.
    let answer = unsafe { bpf_fib_lookup(arrival.context.cast(), query, size_of::<FibLookup>() as i32, 0) } as u32;
    match answer {
        BPF_FIB_LKUP_RET_SUCCESS => {
            // By a device that takes no packets from here the kernel sends it.
            if tables::interface(query.ifindex)
                .is_some_and(|interface| interface.flags & InterfaceRecord::FLAG_TAKES_PACKETS != 0)
            {
                *hop = hop_of(query);
            }
            None
        }
        BPF_FIB_LKUP_RET_NO_NEIGH | BPF_FIB_LKUP_RET_FWD_DISABLED | BPF_FIB_LKUP_RET_UNSUPP_LWT => None,
        _ => Some(Reason::NoRoute),
    }
}

/// An empty question. Zeroed by eight stores, because the compiler's own way is a loop over bytes that costs more than the
/// kernel's whole look-up.
#[inline(always)]
fn zeroed(place: &mut Aligned<MaybeUninit<FibLookup>>) -> &mut FibLookup {
    const WORDS: usize = size_of::<FibLookup>() / size_of::<u64>();
    const { assert!(WORDS * size_of::<u64>() == size_of::<FibLookup>()) };
    let words = place.0.as_mut_ptr().cast::<u64>();
    let mut word = 0;
    while word < WORDS {
        // SAFETY: within the structure, which is aligned for words; volatile keeps the stores as they are written.
        unsafe { words.add(word).write_volatile(0) };
        word += 1;
    }
    // SAFETY: every byte was written, and all-zero is a valid value of this plain C structure.
    unsafe { place.0.assume_init_mut() }
}

/// Aligned for 8-byte words.
#[repr(align(8))]
struct Aligned<T>(T);

/// The Ethernet addresses and the interface of an answer.
///
/// Read by aligned loads: the verifier refuses others from the stack. The kernel's machine is little-endian here.
#[inline(always)]
fn hop_of(answer: &FibLookup) -> NextHop {
    let start = core::ptr::from_ref(answer).cast::<u8>();
    let (source, destination) = (offset_of!(FibLookup, smac), offset_of!(FibLookup, dmac));
    const { assert!(offset_of!(FibLookup, smac) % 4 == 0 && offset_of!(FibLookup, dmac) % 4 == 2) };
    // SAFETY: within the structure, and aligned as asserted; volatile keeps the loads as they are written.
    let (s0, s4, d0, d2) = unsafe {
        (
            start.add(source).cast::<u32>().read_volatile(),
            start.add(source + 4).cast::<u16>().read_volatile(),
            start.add(destination).cast::<u16>().read_volatile(),
            start.add(destination + 2).cast::<u32>().read_volatile(),
        )
    };
    NextHop {
        head: u64::from(d0) | (u64::from(d2) << 16) | (u64::from(s0) << 48),
        tail: (s0 >> 16) | (u32::from(s4) << 16),
        interface: answer.ifindex,
    }
}
