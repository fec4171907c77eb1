//! Which backend a packet of a service with a detail record goes to: DATAPATH's rules 1 to 6 on the packet's side.
//!
//! The *default* of a packet is the home backend of its slot in the home version of its bucket; the *choice* for a new flow
//! is the current backend of its slot in the current version of its bucket. A flow goes by its entry, else by the default;
//! what opens a flow goes by the choice. Packets of settled cells take the quick way and meet none of this.

use grayxdp_common::{
    cells::{Bucket, DetailRecord, NO_DSCP, PrefixKey, SegmentClass, SlotState, VersionDetail},
    exceptions::Tail,
    explanation::Turn,
    hash::FlowHash,
    reason::Reason,
    records::BackendRecord,
};

use crate::{
    exceptions::{self, Found, NO_ENTRY},
    guard,
    tables::{self, StampKind, note, turn},
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
    /// The client's address.
    pub(crate) source: u64,
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

/// The way of a cell that decides a packet.
#[repr(C)]
struct Cells {
    /// Segment of flows without an entry.
    home_segment: u64,
    /// Segment of new flows.
    segment: u64,
    /// The home segment's bucket.
    home: u64,
    /// The current segment's bucket.
    current: u64,
    /// Class now and at home differ (1), looks (2), pins (4): [`SlotState`] bits of the source's prefix.
    prefix: u64,
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
    if kind == Kind::Later && !tables::explains() && cell.looks() && !cell.differs() {
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
    /// Stamps.
    detail_stamp = stamp;
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

/// Rule 2 for a SYN that nothing is remembered of. 0: done; else the longer way is to be taken.
#[inline(always)]
fn open_fresh(question: &mut Question, _: &DetailRecord, _: &mut Cells, view: &mut View, _: &mut Found) -> u64 {
    let needs_entry = view.choice != view.default || view.unsettled != 0;
    if tables::explains() || view.looks == 0 || view.choice == 0 || !needs_entry || question.flags & QUIC != 0 {
        return 1;
    }
    if !exceptions::insert_fresh(question.flow, question.bucket, view.choice as u16, question.sequence as u32) {
        return 1;
    }
    tables::count_exceptions(question.service as u32, |counters| counters.half_open += 1);
    to(question, view.choice)
}

/// Finds the segments of the packet and its buckets in them.
#[inline(always)]
fn find_cells(question: &mut Question, detail: &DetailRecord, cells: &mut Cells, _: &mut View, _: &mut Found) -> u64 {
    let bucket = question.bucket as u16;
    zero([&mut cells.home_segment, &mut cells.segment, &mut cells.prefix]);
    let base = tables::bucket(detail.buckets, bucket);
    let is_first = question.kind == Kind::First as u64;
    let asks_segment = is_first || question.kind == Kind::Datagram as u64;
    if detail.segments > 1 && (asks_segment || base.differs()) {
        find_segments(question, detail, is_first, cells);
    }
    cells.home = u64::from(bucket_of(detail, base, cells.home_segment, bucket).0);
    cells.current = u64::from(bucket_of(detail, base, cells.segment, bucket).0);
    question.segment = cells.segment;
    0
}

#[inline(always)]
fn bucket_of(detail: &DetailRecord, base: Bucket, segment: u64, bucket: u16) -> Bucket {
    if segment == 0 { base } else { tables::bucket(detail.buckets + segment as u32, bucket) }
}

/// The segments by source, port and DSCP. The DSCP counts on what opens a flow, and for the choice only.
#[inline(always)]
fn find_segments(question: &Question, detail: &DetailRecord, is_first: bool, cells: &mut Cells) {
    turn(Turn::Segment);
    let (mut home, mut current) = (0, 0);
    if detail.prefixes != 0
        && let Some(prefix) = tables::prefix(PrefixKey { set: detail.prefixes, address: question.source as u32 })
    {
        turn(Turn::SourcePrefix);
        (home, current) = (prefix.home, prefix.current);
        cells.prefix = u64::from(prefix.state);
        if home != current {
            turn(Turn::PrefixUnsettled);
        }
    }
    let dscp = if is_first && detail.flags & DetailRecord::FLAG_DSCP != 0 {
        turn(Turn::Dscp);
        question.dscp as u8
    } else {
        NO_DSCP
    };
    let port = question.port_class as u8;
    cells.home_segment =
        u64::from(tables::segment(detail.classes + u32::from(home), SegmentClass::index(port, NO_DSCP)));
    cells.segment = u64::from(tables::segment(detail.classes + u32::from(current), SegmentClass::index(port, dscp)));
    note(|explanation| {
        (explanation.home_segment, explanation.current_segment) = (cells.home_segment as u8, cells.segment as u8);
        (explanation.port_class, explanation.dscp) = (port, dscp);
    });
}

/// Everything that the rules ask for once the cells are known.
#[repr(C)]
struct View {
    /// Backend of a flow without an entry.
    default: u64,
    /// Backend of a new flow.
    choice: u64,
    /// Place of the home version.
    home_place: u64,
    /// Place of the version of new flows, with the guard's word.
    place: u64,
    /// Home and current differ: of the bucket (1), of the home slot (2), of the prefix (4).
    unsettled: u64,
    /// Cells that pin: the same bits.
    pins: u64,
    /// Whether entries may be there.
    looks: u64,
    /// The guard turned the bucket's candidate off.
    turned: u64,
    /// What is to be stamped: the same bits.
    stamps: u64,
    /// With what: a [`StampKind`].
    stamp_kind: u64,
}

const BUCKET: u64 = 1;
const SLOT: u64 = 2;
const PREFIX: u64 = 4;

#[inline(always)]
fn find_entries(question: &mut Question, _: &DetailRecord, _: &mut Cells, view: &mut View, found: &mut Found) -> u64 {
    // Only these two are asked before the others are written.
    (found.half_open, found.established) = (NO_ENTRY, NO_ENTRY);
    if view.looks != 0 {
        turn(Turn::Looked);
        exceptions::find(question.flow, question.bucket, found);
        note_entry(found);
    }
    0
}

/// Tells of the flow's entry: the established one, or else the half-open one.
#[inline(always)]
fn note_entry(found: &Found) {
    note(|explanation| {
        if found.established != NO_ENTRY {
            (explanation.entry_backend, explanation.entry_state) =
                (found.established_head.backend(), found.established_head.state_bits());
        } else if found.half_open != NO_ENTRY {
            (explanation.entry_backend, explanation.entry_state) =
                (found.half_open_head.backend(), found.half_open_head.state_bits());
        }
    });
}

/// Default, choice, and what is unsettled about them.
#[inline(always)]
fn see(question: &mut Question, detail: &DetailRecord, cells: &mut Cells, view: &mut View, _: &mut Found) -> u64 {
    zero([&mut view.unsettled, &mut view.pins]);
    let (home, current, slot) = (Bucket(cells.home as u8), Bucket(cells.current as u8), question.slot as u16);
    let is_first = question.kind == Kind::First as u64;
    // The places are of three bits, and there are eight versions.
    let home_version: &VersionDetail = &detail.versions[usize::from(home.home() & 7)];
    let home_state = state_of(home_version, slot);
    let Some(default) = tables::backend_of_slot(home_version.home, home_version.first_home, slot) else { return 1 };
    (view.default, view.home_place) = (u64::from(default), u64::from(home.home()));

    let looks_at_lease = is_first || question.kind == Kind::Datagram as u64;
    let turned = guard::turn_of(detail, current.current(), looks_at_lease);
    view.turned = u64::from(turned);
    let mut place = if turned { detail.stable } else { current.current() } & 7;
    let mut version = &detail.versions[usize::from(place)];
    if version.flags & VersionDetail::FLAG_FAILOVER != 0 {
        place = (version.flags & VersionDetail::FAILOVER_PLACE) as u8;
        version = &detail.versions[usize::from(place)];
        turn(Turn::Failover);
        if is_first {
            tables::count_exceptions(question.service as u32, |counters| counters.failovers += 1);
        }
    }
    let state = state_of(version, slot);
    view.place = u64::from(place);
    let Some(choice) = tables::backend_of_slot(version.current, version.first_current, slot) else { return 1 };
    view.choice = u64::from(choice);
    if detail.instance != 0
        && u64::from(detail.instance_segment) == cells.segment
        && !guard::turn_of(detail, detail.candidate, looks_at_lease)
        && is_open(detail, u64::from(detail.instance))
    {
        turn(Turn::Instance);
        view.choice = u64::from(detail.instance);
    }

    // The bucket of the home segment decides what is stamped; a guard turns it as it turns the choice.
    let home_turned = guard::is_turned(detail, home.current());
    let effective = if home_turned { detail.stable } else { home.current() };
    if effective != home.home() {
        view.unsettled |= BUCKET;
        turn(Turn::BucketUnsettled);
    }
    if home_state.has(SlotState::UNSETTLED) {
        view.unsettled |= SLOT;
        turn(Turn::SlotUnsettled);
    }
    if cells.prefix & u64::from(SlotState::UNSETTLED) != 0 {
        view.unsettled |= PREFIX;
    }
    if home.pins() {
        view.pins |= BUCKET;
    }
    if home_state.has(SlotState::PINS) {
        view.pins |= SLOT;
    }
    if cells.prefix & u64::from(SlotState::PINS) != 0 {
        view.pins |= PREFIX;
    }
    let slots = home_state.0 | state.0 | cells.prefix as u8;
    view.looks = view.unsettled
        | u64::from(home.looks())
        | u64::from(current.looks())
        | u64::from(turned)
        | u64::from(slots & (SlotState::LOOKS | SlotState::UNSETTLED));
    note(|explanation| {
        (explanation.home_backend, explanation.current_backend) = (view.default as u16, view.choice as u16);
        (explanation.home_place, explanation.current_place) = (view.home_place as u8, view.place as u8);
    });
    0
}

#[inline(always)]
fn state_of(version: &VersionDetail, slot: u16) -> SlotState {
    if version.states == 0 { SlotState(0) } else { tables::slot_state(version.states, slot) }
}

/// Whether a flow may begin at a backend: it is up, and no guard turned its version off.
#[inline(always)]
fn is_open(detail: &DetailRecord, backend: u64) -> bool {
    let Some(record) = tables::backend(backend as u16) else { return false };
    if record.flags & (BackendRecord::FLAG_DOWN | BackendRecord::FLAG_ENDS) != 0 {
        turn(Turn::Down);
        return false;
    }
    record.flags & BackendRecord::FLAG_CANDIDATE == 0 || !guard::is_turned(detail, detail.candidate)
}

/// Rule 2: what opens a flow.
#[inline(always)]
fn open(question: &mut Question, detail: &DetailRecord, _: &mut Cells, view: &mut View, found: &mut Found) -> u64 {
    let is_quic = question.flags & QUIC != 0;
    if is_quic && found.established != NO_ENTRY && is_open(detail, u64::from(found.established_head.backend())) {
        // An Initial of a flow that is known already: the client goes on with its handshake.
        return by_entry(question, found);
    }
    if found.half_open != NO_ENTRY
        && (is_quic || found.half_open_tail as u32 == question.sequence as u32)
        && is_open(detail, u64::from(found.half_open_head.backend()))
    {
        turn(Turn::SynRepeated);
        exceptions::refresh_half_open(found);
        return to(question, u64::from(found.half_open_head.backend()));
    }
    if view.choice == 0 {
        return refused(Reason::NoBackend);
    }
    // By unsettled cells choice and default may agree now and part before the handshake ends.
    if view.choice == view.default && view.unsettled == 0 && found.established == NO_ENTRY {
        turn(Turn::Chosen);
        if found.half_open != NO_ENTRY {
            exceptions::clear(found.half_open, found.half_open_head);
        }
        return to(question, view.choice);
    }
    if exceptions::insert_half_open(question.flow, question.bucket, found, view.choice as u16, question.sequence as u32)
    {
        turn(Turn::Chosen);
        turn(Turn::HalfOpen);
        tables::count_exceptions(question.service as u32, |counters| counters.half_open += 1);
        return to(question, view.choice);
    }
    OTHERWISE
}

/// No place for a half-open entry: the SYN goes where its flow's later packets will go.
#[inline(always)]
fn defer(question: &mut Question, detail: &DetailRecord, _: &mut Cells, view: &mut View, found: &mut Found) -> u64 {
    turn(Turn::Deferred);
    question.flags |= DEFERRED;
    mark(view, BUCKET | SLOT | PREFIX, StampKind::Deferred);
    mark(view, view.unsettled, StampKind::Seen);
    tables::count_exceptions(question.service as u32, |counters| counters.choice_deferred += 1);
    let target = if found.established == NO_ENTRY { view.default } else { u64::from(found.established_head.backend()) };
    if found.established != NO_ENTRY {
        turn(Turn::Entry);
        // The entry may be about to end: it is the new flow's from now on.
        exceptions::touch(found.established, 0, true);
    } else {
        turn(Turn::Home);
    }
    if target == 0 || !is_open(detail, target) {
        return refused(Reason::DeferredNowhere);
    }
    to(question, target)
}

/// Rules 3 and 4: a packet of a flow in progress, or a RST.
#[inline(always)]
fn go_on(question: &mut Question, _: &DetailRecord, _: &mut Cells, view: &mut View, found: &mut Found) -> u64 {
    if found.half_open != NO_ENTRY && question.kind == Kind::Later as u64 && completes(question, found) {
        turn(Turn::Completed);
        tables::count_exceptions(question.service as u32, |counters| counters.completed += 1);
        if found.established != NO_ENTRY {
            exceptions::clear(found.established, found.established_head);
        }
        let backend = u64::from(found.half_open_head.backend());
        if view.unsettled == 0 && view.turned == 0 && backend == view.default {
            exceptions::clear(found.half_open, found.half_open_head);
        } else {
            exceptions::complete(found, question.slot as u16);
        }
        return decided(question, backend);
    }
    if found.established != NO_ENTRY {
        let backend = u64::from(found.established_head.backend());
        exceptions::touch_forward(found, question.kind == Kind::Reset as u64, question.flags);
        turn(Turn::Entry);
        return decided(question, backend);
    }
    OTHERWISE
}

/// Whether the packet's numbers are those of the handshake that a half-open entry remembers.
#[inline(always)]
fn completes(question: &Question, found: &Found) -> bool {
    let (initial, answered) = (found.half_open_tail as u32, (found.half_open_tail >> 32) as u32);
    if answered == 0 {
        return false;
    }
    if question.flags & QUIC != 0 {
        return true;
    }
    let sent = (question.sequence as u32).wrapping_sub(initial).wrapping_sub(1);
    let acknowledged = (question.acknowledged as u32).wrapping_sub(answered).wrapping_sub(1);
    sent < exceptions::SENT_WINDOW && acknowledged < exceptions::ACKNOWLEDGED_WINDOW
}

/// UDP: no opening. Inside the learning window every flow without an entry goes by home and is pinned.
#[inline(always)]
fn datagram(question: &mut Question, _: &DetailRecord, _: &mut Cells, view: &mut View, found: &mut Found) -> u64 {
    if found.established != NO_ENTRY {
        let backend = u64::from(found.established_head.backend());
        if stays(backend) {
            exceptions::touch_forward(found, false, question.flags);
            turn(Turn::Entry);
            return decided(question, backend);
        }
        turn(Turn::Moved);
        exceptions::clear(found.established, found.established_head);
    }
    if view.turned != 0 || view.default == 0 || !stays(view.default) {
        return chosen(question, view);
    }
    OTHERWISE
}

/// Whether a UDP flow of a backend stays there.
#[inline(always)]
fn stays(backend: u64) -> bool {
    const DEAD: u16 = BackendRecord::FLAG_DOWN | BackendRecord::FLAG_RESETS;
    tables::backend(backend as u16)
        .is_some_and(|record| record.flags & DEAD != DEAD && record.flags & BackendRecord::FLAG_MOVES == 0)
}

#[inline(always)]
fn chosen(question: &mut Question, view: &View) -> u64 {
    turn(Turn::Chosen);
    if view.choice == 0 { refused(Reason::NoBackend) } else { to(question, view.choice) }
}

/// By home; stamps what is unsettled, and pins the flow where a cell says so.
#[inline(always)]
fn by_default(question: &mut Question, _: &DetailRecord, _: &mut Cells, view: &mut View, _: &mut Found) -> u64 {
    let may_pin = question.kind != Kind::Reset as u64;
    let tail_flags = if question.kind == Kind::Datagram as u64 { Tail::UDP } else { 0 };
    turn(Turn::Home);
    if view.default == 0 {
        return refused(Reason::NoBackend);
    }
    if view.unsettled != 0 {
        mark(view, view.unsettled, StampKind::Seen);
    }
    let pins = view.pins & view.unsettled;
    if may_pin && pins != 0 {
        if exceptions::insert_pin(question.flow, question.bucket, view.default as u16, question.slot as u16, tail_flags)
        {
            turn(Turn::Pinned);
            tables::count_exceptions(question.service as u32, |counters| counters.pinned += 1);
        } else {
            turn(Turn::PinRefused);
            mark(view, pins, StampKind::Refused);
            tables::count_exceptions(question.service as u32, |counters| counters.pins_refused += 1);
        }
    }
    to(question, view.default)
}

/// Stamps some of bucket, slot and prefix.
#[inline(always)]
fn mark(view: &mut View, which: u64, kind: StampKind) {
    if !tables::explains() {
        (view.stamps, view.stamp_kind) = (which, kind as u64);
        detail_stamp();
    }
}

#[inline(always)]
fn stamp(question: &mut Question, detail: &DetailRecord, cells: &mut Cells, view: &mut View, _: &mut Found) -> u64 {
    let (which, kind) = (view.stamps, view.stamp_kind);
    if which & BUCKET != 0 && detail.bucket_stamps != 0 {
        tables::stamp(detail.bucket_stamps + cells.home_segment as u32, question.bucket as u16, kind);
        if cells.segment != cells.home_segment {
            tables::stamp(detail.bucket_stamps + cells.segment as u32, question.bucket as u16, kind);
        }
    }
    if which & SLOT != 0 {
        stamp_slot(&detail.versions[view.home_place as usize & 7], question.slot as u16, kind);
        if kind == StampKind::Deferred as u64 && view.place != view.home_place {
            stamp_slot(&detail.versions[view.place as usize & 7], question.slot as u16, kind);
        }
    }
    if which & PREFIX != 0 && cells.prefix != 0 {
        tables::stamp_prefix(PrefixKey { set: detail.prefixes, address: question.source as u32 }, kind);
    }
    0
}

#[inline(always)]
fn stamp_slot(version: &VersionDetail, slot: u16, kind: u64) {
    if version.stamps != 0 {
        tables::stamp(u32::from(version.stamps), slot, kind);
    }
}

#[inline(always)]
fn by_entry(question: &mut Question, found: &Found) -> u64 {
    turn(Turn::Entry);
    exceptions::touch_forward(found, false, question.flags);
    to(question, u64::from(found.established_head.backend()))
}

/// By an entry.
#[inline(always)]
fn decided(question: &mut Question, backend: u64) -> u64 {
    tables::count_exceptions(question.service as u32, |counters| counters.by_entry += 1);
    to(question, backend)
}

#[inline(always)]
fn to(question: &mut Question, backend: u64) -> u64 {
    question.backend = backend;
    0
}
