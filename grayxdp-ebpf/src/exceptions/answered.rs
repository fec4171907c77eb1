//! What a backend's packet changes about its flow's entries.

use grayxdp_common::{
    exceptions::{EntryState, Head, Tail},
    hash::FlowHash,
};

use super::{Found, NO_ENTRY, SENT_WINDOW, entry, find, touch};
use crate::{atomic, explain::explains};

/// What a backend's packet is to its flow.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Answer {
    /// The number of a SYN-ACK; of QUIC any datagram.
    SynAck,
    /// A RST.
    Reset,
    /// Anything else.
    Other,
}

/// What a backend sent.
#[derive(Clone, Copy)]
pub(crate) struct Said {
    /// Hash of the whole 5-tuple, seen as the client's packet.
    pub(crate) flow: FlowHash,
    /// The flow's bucket.
    pub(crate) bucket: u16,
    /// Id of the backend.
    pub(crate) backend: u16,
    /// What it is.
    pub(crate) answer: Answer,
    /// Sequence and acknowledgement number of a TCP segment; of a datagram there are none.
    pub(crate) numbers: Option<(u32, u32)>,
    /// It ends its side of the flow.
    pub(crate) is_fin: bool,
    /// There is payload.
    pub(crate) has_payload: bool,
}

const SYN_ACK: u64 = 1 << 32;
const RESET: u64 = 1 << 33;
const FIN: u64 = 1 << 34;
const PAYLOAD: u64 = 1 << 35;
const NUMBERED: u64 = 1 << 36;

/// Tells the entries of a flow what its backend sent: the number of its SYN-ACK, the confirmation of a pin, the end.
#[inline(always)]
pub(crate) fn answered(said: Said) {
    // Here and not there, where the arguments would have no use then: the verifier wants all of them given.
    if explains() {
        return;
    }
    let mut what = u64::from(said.bucket) | u64::from(said.backend) << 16;
    what |= match said.answer {
        Answer::SynAck => SYN_ACK,
        Answer::Reset => RESET,
        Answer::Other => 0,
    };
    what |= if said.is_fin { FIN } else { 0 } | if said.has_payload { PAYLOAD } else { 0 };
    let (sequence, acknowledged) = said.numbers.unwrap_or((1, 1));
    what |= if said.numbers.is_some() { NUMBERED } else { 0 };
    exceptions_answered(said.flow.0, what, u64::from(sequence) | u64::from(acknowledged) << 32);
}

/// Exported, so that what it needs lies on no other's stack.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn exceptions_answered(flow: u64, what: u64, numbers: u64) -> u64 {
    let (sequence, acknowledged) = (numbers as u32, (numbers >> 32) as u32);
    let backend = (what >> 16) as u16;
    let mut found = Found {
        half_open: NO_ENTRY,
        established: NO_ENTRY,
        half_open_head: Head(0),
        half_open_tail: 0,
        established_head: Head(0),
    };
    find(FlowHash(flow), what & 0xffff, &mut found);
    // How far behind a SYN its answer may acknowledge; of QUIC anything.
    let acknowledges = if what & NUMBERED != 0 { SENT_WINDOW } else { u32::MAX };
    if what & SYN_ACK != 0
        && found.half_open != NO_ENTRY
        && found.half_open_head.backend() == backend
        && acknowledged.wrapping_sub(found.half_open_tail as u32).wrapping_sub(1) < acknowledges
    {
        if let Some(entry) = entry(found.half_open) {
            // 0 stands for "none seen": such a number is remembered as the one before.
            let number = if sequence == 0 { u32::MAX } else { sequence };
            let (tail, high) = (found.half_open_tail, u64::from(number) << 32);
            // It fails where on another CPU a new SYN came or the entry was completed: the word is that one's then.
            // SAFETY: the second word of an entry.
            atomic::exchange(unsafe { entry.add(1) }, tail, high | (tail & 0xffff_ffff));
        }
        return 0;
    }
    if found.established == NO_ENTRY || found.established_head.backend() != backend {
        return 0;
    }
    let head = found.established_head;
    if head.state_bits() == EntryState::Pin as u8
        && what & RESET == 0
        && let Some(entry) = entry(found.established)
    {
        atomic::exchange(entry, head.0, head.with_state(EntryState::Established).0);
    }
    let fin = if what & FIN != 0 { Tail::FIN_REVERSE } else { 0 };
    touch(found.established, if what & RESET != 0 { Tail::RESET } else { fin }, what & PAYLOAD != 0);
    0
}
