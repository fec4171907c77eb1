//! What packets count for a backend.

use grayxdp::model::kernel::BackendCounters;

use super::read::{Datagram, Ends, TCP, byte, long, word};

/// A packet to a backend.
pub(super) fn forward_bytes(frame: &[u8]) -> BackendCounters {
    BackendCounters { packets_forward: 1, bytes_forward: frame.len() as u64, ..BackendCounters::default() }
}

/// A packet from a backend.
pub(super) fn reverse_bytes(frame: &[u8]) -> BackendCounters {
    BackendCounters { packets_reverse: 1, bytes_reverse: frame.len() as u64, ..BackendCounters::default() }
}

/// What the flags and the window of a segment count.
struct Bits {
    fin: u64,
    syn: bool,
    ack: bool,
    rst: bool,
    zero_window: u64,
    is_first_number: bool,
}

impl Bits {
    fn of(frame: &[u8], datagram: &Datagram, ends: &Ends) -> Option<Self> {
        if datagram.protocol != TCP {
            return None;
        }
        let bits = byte(frame, ends.at + 13)?;
        let (syn, rst) = (bits & 2 != 0, bits & 4 != 0);
        Some(Self {
            fin: u64::from(bits & 1),
            syn,
            ack: bits & 16 != 0,
            rst,
            // A segment without header length and flags is none, and has no window.
            zero_window: u64::from(long(frame, ends.at + 12)? != 0 && word(frame, ends.at + 14)? == 0 && !syn && !rst),
            is_first_number: long(frame, ends.at + 4)? == 0,
        })
    }
}

/// The same with what its flags and window say.
pub(super) fn forward_traffic(frame: &[u8], datagram: &Datagram, ends: &Ends) -> BackendCounters {
    let Some(bits) = Bits::of(frame, datagram, ends) else { return forward_bytes(frame) };
    BackendCounters {
        syns: u64::from(bits.syn && !bits.ack && !bits.rst),
        resets_forward: u64::from(bits.rst),
        fins_forward: bits.fin,
        zero_windows_forward: bits.zero_window,
        ..forward_bytes(frame)
    }
}

/// The same with what its flags and window say.
pub(super) fn reverse_traffic(frame: &[u8], datagram: &Datagram, ends: &Ends) -> BackendCounters {
    let Some(bits) = Bits::of(frame, datagram, ends) else { return reverse_bytes(frame) };
    BackendCounters {
        syn_acks: u64::from(bits.syn && bits.ack && !bits.rst),
        refusals: u64::from(bits.rst && bits.is_first_number),
        resets_reverse: u64::from(bits.rst && !bits.is_first_number),
        fins_reverse: bits.fin,
        zero_windows_reverse: bits.zero_window,
        ..reverse_bytes(frame)
    }
}
