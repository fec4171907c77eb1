//! Packets that are longer than what the link takes by which they are to leave.

use grayxdp_common::records::NextHop;
use grayxdp_ebpf::packet::Network;

use crate::tables;

/// What becomes of a packet by its length.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// It fits.
    Fits,
    /// Too long, and it must not be fragmented.
    Refused,
    /// Too long, and the kernel may fragment it.
    Fragmented,
}

/// What becomes of a packet that is longer than the shortest link here takes, by its own way out.
#[inline(always)]
pub(crate) fn of<I: Network>(ip: I, hop: &NextHop) -> Size {
    if !is_beyond(ip, hop) {
        Size::Fits
    } else if ip.must_not_be_fragmented() {
        Size::Refused
    } else {
        Size::Fragmented
    }
}

/// Whether a packet is longer than its way out takes.
#[inline(always)]
pub(crate) fn is_beyond<I: Network>(ip: I, hop: &NextHop) -> bool {
    size_beyond(u64::from(hop.interface), ip.total_len()) != 0
}

/// 1 if a packet is longer than what an interface takes; then that is left in the scratch for the answer.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn size_beyond(interface: u64, length: u64) -> u64 {
    let Some(record) = tables::interface(interface as u32) else { return 0 };
    let mtu = u64::from(record.mtu);
    if mtu == 0 || length <= mtu {
        return 0;
    }
    if let Some(scratch) = tables::scratch() {
        // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
        unsafe { (*scratch).mtu = mtu };
    }
    1
}
