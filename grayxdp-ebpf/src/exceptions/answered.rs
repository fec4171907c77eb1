//! What a backend's packet changes about its flow's entries.

use grayxdp_common::{
    exceptions::{EntryState, Head},
    hash::FlowHash,
};

use super::{Found, NO_ENTRY, entry, find, touch};
use crate::{atomic, explain::explains};

/// What a backend sent of a flow that has entries: the number of its SYN-ACK, the confirmation of a pin, the end.
#[inline(never)]
pub(crate) fn answered(said: &Said) -> u32 {
    if explains() {
        return 0;
    }
    let mut found = Found {
        half_open: NO_ENTRY,
        established: NO_ENTRY,
        half_open_head: Head(0),
        half_open_tail: 0,
        established_head: Head(0),
    };
    find(said.flow, said.bucket, &mut found);
    if said.answer == Answer::SynAck as u64
        && found.half_open != NO_ENTRY
        && u64::from(found.half_open_head.backend()) == said.backend
        && (said.acknowledged as u32).wrapping_sub(found.half_open_tail as u32).wrapping_sub(1)
            < said.acknowledges as u32
    {
        if let Some(entry) = entry(found.half_open) {
            // 0 stands for "none seen": such a number is remembered as the one before.
            let number = if said.sequence == 0 { u32::MAX } else { said.sequence as u32 };
            let (tail, high) = (found.half_open_tail, u64::from(number) << 32);
            // It fails where on another CPU a new SYN came or the entry was completed: the word is that one's then.
            // SAFETY: the second word of an entry.
            atomic::exchange(unsafe { entry.add(1) }, tail, high | (tail & 0xffff_ffff));
        }
        return 0;
    }
    if found.established == NO_ENTRY || u64::from(found.established_head.backend()) != said.backend {
        return 0;
    }
    let head = found.established_head;
    if head.state_bits() == EntryState::Pin as u8
        && said.answer != Answer::Reset as u64
        && let Some(entry) = entry(found.established)
    {
        atomic::exchange(entry, head.0, head.with_state(EntryState::Established).0);
    }
    touch(found.established, said.ends, said.has_payload != 0);
    0
}

/// What a backend's packet is to its flow.
#[derive(Clone, Copy)]
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
#[repr(C)]
pub(crate) struct Said {
    /// Hash of the whole 5-tuple, seen as the client's packet.
    pub(crate) flow: FlowHash,
    /// `Tail` bits of what ends.
    pub(crate) ends: u64,
    /// The flow's bucket.
    pub(crate) bucket: u64,
    /// Id of the backend.
    pub(crate) backend: u64,
    /// An [`Answer`].
    pub(crate) answer: u64,
    /// Sequence number.
    pub(crate) sequence: u64,
    /// Acknowledgement number.
    pub(crate) acknowledged: u64,
    /// How far behind a SYN a SYN-ACK may acknowledge: [`SENT_WINDOW`], of QUIC anything.
    pub(crate) acknowledges: u64,
    /// Whether there is payload: 1.
    pub(crate) has_payload: u64,
}
