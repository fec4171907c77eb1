//! DATAPATH's rules 2 to 4 on the packet's side: what opens a flow, what goes on with one, what finds no entry.

use grayxdp_common::{
    cells::DetailRecord, exceptions::Tail, explanation::Turn, reason::Reason, records::BackendRecord,
};

use super::{
    Cells, DATAGRAM, DEFERRED, Kind, OTHERWISE, QUIC, Question, REPLY, refused,
    stamp::stamp,
    view::{BUCKET, PREFIX, SLOT, View},
};
use crate::{
    exceptions::{self, Found, NO_ENTRY},
    explain::{explains, note, turn},
    guard,
    tables::{self, StampKind},
};

/// Rule 2 for a SYN that nothing is remembered of. 0: done; else the longer way is to be taken.
#[inline(always)]
pub(super) fn open_fresh(
    question: &mut Question,
    _: &DetailRecord,
    _: &mut Cells,
    view: &mut View,
    _: &mut Found,
) -> u64 {
    let needs_entry = view.choice != view.default || view.unsettled != 0;
    if explains() || view.looks == 0 || view.choice == 0 || !needs_entry || question.flags & QUIC != 0 {
        return 1;
    }
    if !exceptions::insert_fresh(question.flow, question.bucket, view.choice as u16, question.sequence as u32) {
        return 1;
    }
    tables::count_exceptions(question.service as u32, |counters| counters.half_open += 1);
    to(question, view.choice)
}

#[inline(always)]
pub(super) fn find_entries(
    question: &mut Question,
    _: &DetailRecord,
    _: &mut Cells,
    view: &mut View,
    found: &mut Found,
) -> u64 {
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

/// Whether a flow may begin at a backend: it is up, and no guard turned its version off.
#[inline(always)]
pub(crate) fn is_open(detail: &DetailRecord, backend: u64) -> bool {
    let Some(record) = tables::backend(backend as u16) else { return false };
    if record.flags & (BackendRecord::FLAG_DOWN | BackendRecord::FLAG_ENDS) != 0 {
        turn(Turn::Down);
        return false;
    }
    !is_off(detail, record)
}

/// Whether a guard turned a backend's version off.
#[inline(always)]
fn is_off(detail: &DetailRecord, backend: &BackendRecord) -> bool {
    backend.flags & BackendRecord::FLAG_CANDIDATE != 0 && guard::is_turned(detail, detail.candidate)
}

/// Rule 2: what opens a flow.
#[inline(always)]
pub(super) fn open(
    question: &mut Question,
    detail: &DetailRecord,
    _: &mut Cells,
    view: &mut View,
    found: &mut Found,
) -> u64 {
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
pub(super) fn defer(
    question: &mut Question,
    detail: &DetailRecord,
    cells: &mut Cells,
    view: &mut View,
    found: &mut Found,
) -> u64 {
    turn(Turn::Deferred);
    question.flags |= DEFERRED;
    stamp(question, cells, view, BUCKET | SLOT | PREFIX, StampKind::Deferred);
    stamp(question, cells, view, view.unsettled, StampKind::Seen);
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
pub(super) fn go_on(
    question: &mut Question,
    detail: &DetailRecord,
    _: &mut Cells,
    view: &mut View,
    found: &mut Found,
) -> u64 {
    let is_unseen = is_one_way(detail);
    if found.half_open != NO_ENTRY && question.kind == Kind::Later as u64 && completes(question, found, is_unseen) {
        turn(Turn::Completed);
        tables::count_exceptions(question.service as u32, |counters| counters.completed += 1);
        if found.established != NO_ENTRY {
            exceptions::clear(found.established, found.established_head);
        }
        let backend = u64::from(found.half_open_head.backend());
        if view.unsettled == 0 && view.turned == 0 && backend == view.default {
            exceptions::clear(found.half_open, found.half_open_head);
        } else {
            exceptions::complete(found, question.slot as u16, if is_unseen { Tail::UNCONFIRMED } else { 0 });
        }
        return decided(question, backend);
    }
    if found.established != NO_ENTRY {
        let backend = u64::from(found.established_head.backend());
        touch(question, found, is_unseen);
        turn(Turn::Entry);
        return decided(question, backend);
    }
    OTHERWISE
}

/// Whether the packet's numbers are those of the handshake that a half-open entry remembers; where answers do not come by, the
/// client's own number has to do.
#[inline(always)]
fn completes(question: &Question, found: &Found, is_unseen: bool) -> bool {
    let (initial, answered) = (found.half_open_tail as u32, (found.half_open_tail >> 32) as u32);
    if answered == 0 && !is_unseen {
        return false;
    }
    if question.flags & QUIC != 0 {
        return true;
    }
    let sent = (question.sequence as u32).wrapping_sub(initial).wrapping_sub(1);
    let acknowledged = (question.acknowledged as u32).wrapping_sub(answered).wrapping_sub(1);
    sent < exceptions::SENT_WINDOW && (is_unseen || acknowledged < exceptions::ACKNOWLEDGED_WINDOW)
}

/// Whether nothing of what backends answer comes by.
#[inline(always)]
fn is_one_way(detail: &DetailRecord) -> bool {
    detail.flags & DetailRecord::FLAG_ONE_WAY != 0
}

/// A client's packet of an entry keeps it alive.
#[inline(always)]
fn touch(question: &Question, found: &Found, is_unseen: bool) {
    let is_reset = question.kind == Kind::Reset as u64;
    if is_unseen {
        exceptions::touch_unseen(found, is_reset, question.flags);
    } else {
        exceptions::touch_forward(found, is_reset, question.flags);
    }
}

/// UDP: no opening. Inside the learning window every flow without an entry goes by home and is pinned.
#[inline(always)]
pub(super) fn datagram(
    question: &mut Question,
    detail: &DetailRecord,
    _: &mut Cells,
    view: &mut View,
    found: &mut Found,
) -> u64 {
    if found.established != NO_ENTRY {
        let backend = u64::from(found.established_head.backend());
        if stays(backend) {
            touch(question, found, is_one_way(detail));
            turn(Turn::Entry);
            return decided(question, backend);
        }
        turn(Turn::Moved);
        exceptions::clear(found.established, found.established_head);
    }
    if leaves_home(detail, view) { chosen(question, view) } else { OTHERWISE }
}

/// Whether a UDP flow without an entry is chosen for anew: a guard turned off the version that is its home, or the backend there
/// takes it no more. A flow that is at home with another version stays there, whatever the guard does to who would get new ones.
#[inline(always)]
fn leaves_home(detail: &DetailRecord, view: &View) -> bool {
    let is_off = |backend: u64| tables::backend(backend as u16).is_none_or(|record| is_off(detail, record));
    view.default == 0 || !stays(view.default) || (view.turned != 0 && is_off(view.default))
}

/// Whether a UDP flow of a backend stays there.
#[inline(always)]
pub(crate) fn stays(backend: u64) -> bool {
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
pub(super) fn by_default(
    question: &mut Question,
    _: &DetailRecord,
    cells: &mut Cells,
    view: &mut View,
    _: &mut Found,
) -> u64 {
    let may_pin = question.kind != Kind::Reset as u64;
    let tail_flags = if question.kind == Kind::Datagram as u64 { Tail::UDP } else { 0 };
    turn(Turn::Home);
    if view.default == 0 {
        return refused(Reason::NoBackend);
    }
    if view.unsettled != 0 {
        stamp(question, cells, view, view.unsettled, StampKind::Seen);
    }
    let pins = view.pins & view.unsettled;
    if may_pin && pins != 0 {
        if exceptions::insert_pin(question.flow, question.bucket, view.default as u16, question.slot as u16, tail_flags)
        {
            turn(Turn::Pinned);
            tables::count_exceptions(question.service as u32, |counters| counters.pinned += 1);
        } else {
            turn(Turn::PinRefused);
            stamp(question, cells, view, pins, StampKind::Refused);
            tables::count_exceptions(question.service as u32, |counters| counters.pins_refused += 1);
        }
    }
    to(question, view.default)
}

/// The backend that the flow's next packet goes to; 0 for none. Nothing is changed.
#[inline(always)]
pub(super) fn about(
    question: &mut Question,
    detail: &DetailRecord,
    _: &mut Cells,
    view: &mut View,
    found: &mut Found,
) -> u64 {
    let is_datagram = question.flags & DATAGRAM != 0;
    let is_unseen = is_one_way(detail);
    if found.half_open != NO_ENTRY && is_unseen {
        let is_alone = found.established == NO_ENTRY;
        if is_datagram || is_alone || (question.flags & REPLY == 0 && completes(question, found, true)) {
            return u64::from(found.half_open_head.backend());
        }
    } else if found.half_open != NO_ENTRY {
        // What the backend of a handshake sent begins with the number of its SYN-ACK; QUIC has no numbers.
        let answered = (found.half_open_tail >> 32) as u32;
        let behind = (question.sequence as u32).wrapping_sub(answered);
        let is_of_reply = question.flags & REPLY != 0 && behind <= exceptions::ACKNOWLEDGED_WINDOW;
        if answered != 0
            && (is_datagram || is_of_reply || (question.flags & REPLY == 0 && completes(question, found, false)))
        {
            return u64::from(found.half_open_head.backend());
        }
    }
    let established = u64::from(found.established_head.backend());
    if found.established != NO_ENTRY && (!is_datagram || stays(established)) {
        return established;
    }
    if is_datagram && leaves_home(detail, view) {
        return view.choice;
    }
    view.default
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
