//! Which backend a packet of a service with a detail record goes to: DATAPATH's rules 1 to 6 on the packet's side.
//!
//! The *default* of a packet is the home backend of its slot in the home version of its bucket; the *choice* for a new flow
//! is the current backend of its slot in the current version of its bucket. A flow goes by its entry, else by the default;
//! what opens a flow goes by the choice. Packets of settled cells take the quick way and meet none of this.

pub(crate) mod decide;
mod stamp;
mod view;

use grayxdp_common::{
    cells::{DetailRecord, SlotState},
    explanation::Turn,
    hash::FlowHash,
    reason::Reason,
    records::NextHop,
};

use self::{
    decide::{about, by_default, datagram, defer, find_entries, go_on, open, open_fresh},
    view::{View, find_cells, see},
};
use crate::{
    exceptions::{self, Found},
    explain::{explains, note, turn},
    guard, tables,
    translate::Translated,
};

/// What a packet is to its flow.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    /// It opens the flow: a SYN, a QUIC Initial.
    First = 1,
    /// It belongs to a flow in progress.
    Later = 2,
    /// A RST.
    Reset = 3,
    /// A datagram of a protocol without opening.
    Datagram = 4,
}

/// The packet ends its side of the flow.
pub(crate) const FIN: u64 = 1;
/// The packet carries payload.
pub(crate) const PAYLOAD: u64 = 2;
/// The flow is one of QUIC.
pub(crate) const QUIC: u64 = 4;
/// The flow is one of UDP; said where a flow is only asked for.
pub(crate) const DATAGRAM: u64 = 16;
/// The numbers are those of a reply; said where a flow is only asked for.
pub(crate) const REPLY: u64 = 32;
/// The client's address is one of IPv6.
pub(crate) const IPV6: u64 = 64;
/// Answer: no place for a half-open entry.
pub(crate) const DEFERRED: u64 = 8;

/// A packet, as far as the choice depends on it, and what was decided.
#[repr(C)]
pub(crate) struct Question {
    /// Hash of the whole 5-tuple.
    pub(crate) flow: FlowHash,
    /// Index of the service's detail record.
    pub(crate) detail: u64,
    /// A [`Kind`].
    pub(crate) kind: u64,
    /// `FIN`, `PAYLOAD`, `QUIC`.
    pub(crate) flags: u64,
    /// Sequence number.
    pub(crate) sequence: u64,
    /// Acknowledgement number.
    pub(crate) acknowledged: u64,
    /// The client's address: see [`Question::source`].
    pub(crate) client: [u64; 2],
    /// Id of the service.
    pub(crate) service: u64,
    /// The flow's bucket.
    pub(crate) bucket: u64,
    /// The flow's slot.
    pub(crate) slot: u64,
    /// Class of the port.
    pub(crate) port_class: u64,
    /// DSCP of the packet.
    pub(crate) dscp: u64,
    /// Answer: the segment of a new flow.
    pub(crate) segment: u64,
    /// Answer: the backend.
    pub(crate) backend: u64,
}

impl Question {
    /// The client's address, to be looked for in a set of prefixes.
    #[inline(always)]
    pub(super) fn source(&self, set: u32) -> tables::Source {
        tables::Source { set, words: self.client, is_ipv6: self.flags & IPV6 != 0 }
    }
}

/// The way of a cell that decides a packet.
#[repr(C)]
pub(super) struct Cells {
    /// Segment of flows without an entry.
    pub(super) home_segment: u64,
    /// Segment of new flows.
    pub(super) segment: u64,
    /// The home segment's bucket.
    pub(super) home: u64,
    /// The current segment's bucket.
    pub(super) current: u64,
    /// Class now and at home differ (1), looks (2), pins (4): [`SlotState`] bits of the source's prefix.
    pub(super) prefix: u64,
}

/// The backend of a packet of settled cells; none where the long way is to be taken.
#[inline(always)]
pub(crate) fn settled(
    detail: &DetailRecord,
    kind: Kind,
    (flow, bucket, slot): (FlowHash, u16, u16),
    flags: impl FnOnce() -> u64,
    service: u16,
) -> Option<u16> {
    if kind == Kind::First {
        return None;
    }
    let cell = tables::bucket(detail.buckets, bucket);
    if kind == Kind::Later && !explains() && cell.looks() && !cell.differs() {
        return by_entry_alone(flow, bucket, flags(), service);
    }
    if cell.looks() || cell.differs() || guard::turn_of(detail, cell.current(), kind == Kind::Datagram) {
        return None;
    }
    let version = &detail.versions[usize::from(cell.current())];
    if version.states != 0 && tables::slot_state(version.states, slot) != SlotState(0) {
        return None;
    }
    let id = tables::backend_of_slot(version.current, version.first_current, slot)?;
    turn(Turn::Home);
    note(|explanation| {
        (explanation.home_backend, explanation.current_backend) = (id, id);
        (explanation.home_place, explanation.current_place) = (cell.home(), cell.current());
    });
    (id != 0).then_some(id)
}

/// The backend of a flow with an established entry and nothing else: the entry decides, whatever the cells say.
#[inline(always)]
fn by_entry_alone(flow: FlowHash, bucket: u16, flags: u64, service: u16) -> Option<u16> {
    let backend = exceptions::go_on(flow, bucket, flags);
    if backend == 0 {
        return None;
    }
    tables::count_exceptions(u32::from(service), |counters| counters.by_entry += 1);
    Some(backend)
}

/// What the stages of a decision hand on to each other. It lies in a map of this CPU's own and not on the stack: so each
/// stage is a function of its own that the verifier looks at once, and not on every way that leads to it.
#[repr(C)]
pub(crate) struct Scratch {
    pub(crate) question: Question,
    cells: Cells,
    view: View,
    found: Found,
    /// Monotonic time of a packet that is measured, in nanoseconds.
    pub(crate) now_ns: u64,
    /// Where an ICMP error leaves.
    pub(crate) hop: NextHop,
    /// What the link takes that a packet is too long for.
    pub(crate) mtu: u64,
    /// What the extension headers of an IPv6 packet say, if it has some.
    pub(crate) extensions: u64,
    /// The flow of `full-nat` in hand.
    pub(crate) translated: Translated,
}

/// Decides the way of any other packet, of which the scratch holds the question. 0: to its `backend`; else a [`Reason`]
/// plus one.
#[inline(always)]
pub(crate) fn resolve(kind: Kind) -> u32 {
    if detail_see() != 0 {
        return failed(Reason::Fault);
    }
    if kind == Kind::First && detail_open_fresh() == 0 {
        return 0;
    }
    if detail_find_entries() != 0 {
        return failed(Reason::Fault);
    }
    let answer = match kind {
        Kind::First => detail_open(),
        Kind::Datagram => detail_datagram(),
        Kind::Later | Kind::Reset => detail_go_on(),
    };
    if answer != OTHERWISE {
        answer as u32
    } else if kind == Kind::First {
        detail_defer() as u32
    } else {
        detail_by_default() as u32
    }
}

/// The backend that the client's next packet of the scratch's flow would go to; 0 for none. Changes nothing.
#[inline(always)]
pub(crate) fn about_flow() -> u64 {
    if detail_see() != 0 || detail_find_entries() != 0 { 0 } else { detail_about() }
}

/// The backend of a new flow of the scratch's question, whatever was before; 0 for none.
#[inline(always)]
pub(crate) fn choice() -> u64 {
    if detail_see() != 0 {
        return 0;
    }
    // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
    tables::scratch().map_or(0, |scratch| unsafe { (*scratch).view.choice })
}

/// What a stage says when another one is to go on: what opens a flow is deferred, anything else goes by home. Not called
/// from the stage itself, because their stacks together would be too deep.
const OTHERWISE: u64 = 1 << 40;

/// A stage: what the scratch holds and the service's detail record. 1 where one is not there.
macro_rules! stages {
    ($($(#[$doc:meta])* $name:ident = $stage:ident;)*) => {
        $(
            $(#[$doc])*
            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $name() -> u64 {
                let Some(scratch) = tables::scratch() else { return 1 };
                // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
                let scratch = unsafe { &mut *scratch };
                let Some(detail) = tables::detail(scratch.question.detail as u32) else { return 1 };
                let Scratch { question, cells, view, found, .. } = scratch;
                $stage(question, detail, cells, view, found)
            }
        )*
    };
}

stages! {
    /// Segments and buckets, default and choice.
    detail_see = look_and_see;
    /// What opens a flow that has no entry yet: the common case, in one pass over one set.
    detail_open_fresh = open_fresh;
    /// The flow's entries.
    detail_find_entries = find_entries;
    /// What opens a flow.
    detail_open = open;
    /// A packet of a flow in progress, or a RST.
    detail_go_on = go_on;
    /// UDP.
    detail_datagram = datagram;
    /// What found no place.
    detail_defer = defer;
    /// By home.
    detail_by_default = by_default;
    /// A question about a flow.
    detail_about = about;
}

const fn failed(reason: Reason) -> u32 {
    reason as u32 + 1
}

const fn refused(reason: Reason) -> u64 {
    failed(reason) as u64
}

/// Sets words to 0, each by a store of its own: together they become a loop over bytes.
#[inline(always)]
fn zero<const N: usize>(words: [&mut u64; N]) {
    for word in words {
        // SAFETY: a reference is valid to write.
        unsafe { core::ptr::from_mut(word).write_volatile(0) };
    }
}

#[inline(always)]
fn look_and_see(
    question: &mut Question,
    detail: &DetailRecord,
    cells: &mut Cells,
    view: &mut View,
    found: &mut Found,
) -> u64 {
    find_cells(question, detail, cells, view, found);
    see(question, detail, cells, view, found)
}
