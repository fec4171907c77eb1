//! Sampled flows: followed from their first packet to their end, or to their horizon.
//!
//! Each side writes the half words of its own direction; what both write, the state, changes by compare-and-swap, and who
//! changes it counts the change. A sample may lose anything, but counts nothing twice.

use grayxdp_common::hash::FlowHash;
use grayxdp_common::signals::{BYTES_SHIFT, CONNECT_TIMEOUT_NS, Conclusion, FlowSample, MeasureKey};
use grayxdp_ebpf::{
    follow::{Progress, Segment, Turn},
    packet::flags,
};

use super::{
    Seen, count, count_cell, record,
    sample::{Flow, Side},
};
use crate::tables;

/// Reads a word of a flow's sample, so that it is in the cache when it is asked for.
#[inline(always)]
pub(super) fn touch(flow: FlowHash) {
    is_followed(flow);
}

/// Whether the flow has a sample.
#[inline(always)]
pub(super) fn is_followed(flow: FlowHash) -> bool {
    let key = MeasureKey::of(flow);
    tables::flow_sample(key.index).is_some_and(|sample| Flow(sample).identity() == key.sample)
}

/// A client's segment of a sampled connection.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn measure_client_segment(hash: u64, epoch: u64, whence: u64, sequence: u64, bits: u64) -> u64 {
    segment_of_client(&Seen::of(hash, epoch, whence, sequence, bits));
    0
}

#[inline(always)]
fn segment_of_client(seen: &Seen) {
    let key = MeasureKey::of(seen.hash);
    let Some(flow) = tables::flow_sample(key.index).map(Flow) else { return };
    let segment = &seen.segment;
    if segment.flags & (flags::SYN | flags::ACK | flags::RST) == flags::SYN {
        begin(flow, &key, seen, segment);
    } else if flow.identity() == key.sample {
        follow(flow, seen, segment, Side::Client);
    }
}

/// A backend's segment of a sampled connection.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn measure_backend_segment(hash: u64, sequence: u64, bits: u64) -> u64 {
    segment_of_backend(&Seen::of(hash, 0, 0, sequence, bits));
    0
}

#[inline(always)]
fn segment_of_backend(seen: &Seen) {
    let key = MeasureKey::of(seen.hash);
    let Some(flow) = tables::flow_sample(key.index).map(Flow) else { return };
    if flow.identity() == key.sample {
        follow(flow, seen, &seen.segment, Side::Backend);
    }
}

/// A client's datagram of a sampled flow.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn measure_client_datagram(hash: u64, epoch: u64, whence: u64, sequence: u64, bits: u64) -> u64 {
    datagram_of_client(&Seen::of(hash, epoch, whence, sequence, bits));
    0
}

#[inline(always)]
fn datagram_of_client(seen: &Seen) {
    let key = MeasureKey::of(seen.hash);
    let Some(flow) = tables::flow_sample(key.index).map(Flow) else { return };
    if flow.identity() != key.sample {
        return begin_datagrams(flow, &key, seen);
    }
    let (state, until) = (flow.state(), flow.until());
    let has_lapsed = FlowSample::has_lapsed(until, seen.now_ns);
    if state & FlowSample::FLAG_ENDED != 0 {
        return if has_lapsed { begin_datagrams(flow, &key, seen) } else { flow.set_until(seen) };
    }
    if has_lapsed {
        if flow.change_state(state, state | FlowSample::FLAG_ENDED) {
            conclude(flow, state, until, seen.now_ns);
            flow.set_until(seen);
        }
        return;
    }
    flow.add_bytes(Side::Client, seen.segment.payload);
    give_up(flow, state, seen.now_ns);
}

/// A backend's datagram of a sampled flow.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn measure_backend_datagram(hash: u64, sequence: u64) -> u64 {
    datagram_of_backend(&Seen::of(hash, 0, 0, sequence, 0));
    0
}

#[inline(always)]
fn datagram_of_backend(seen: &Seen) {
    let key = MeasureKey::of(seen.hash);
    let Some(flow) = tables::flow_sample(key.index).map(Flow) else { return };
    if flow.identity() != key.sample {
        return;
    }
    let state = flow.state();
    if state & FlowSample::FLAG_ENDED != 0 || FlowSample::has_lapsed(flow.until(), seen.now_ns) {
        return;
    }
    flow.add_bytes(Side::Backend, seen.segment.payload);
    if state & FlowSample::FLAG_ANSWERED != 0 || give_up(flow, state, seen.now_ns) {
        return;
    }
    if flow.change_state(state, state | FlowSample::FLAG_ANSWERED) {
        first_byte(flow, state, seen.now_ns);
    }
}

/// An ICMP error for a datagram of a sampled flow.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn measure_unreachable(hash: u64) -> u64 {
    unreachable(&Seen::of(hash, 0, 0, 0, 0));
    0
}

#[inline(always)]
fn unreachable(seen: &Seen) {
    let key = MeasureKey::of(seen.hash);
    let Some(flow) = tables::flow_sample(key.index).map(Flow) else { return };
    let state = flow.state();
    let waits = state & FlowSample::FLAG_UDP != 0 && state & (FlowSample::FLAG_ANSWERED | FlowSample::FLAG_ENDED) == 0;
    if flow.identity() == key.sample && waits && flow.change_state(state, state | FlowSample::FLAG_ANSWERED) {
        count(FlowSample::place(state), flow.epoch(), |signals| {
            signals.unanswered += 1;
            count_cell(&mut signals.cell_failures, FlowSample::cell(state));
        });
    }
}

/// A datagram that was not answered in time is counted; true if this one was, whoever counted it.
#[inline(always)]
fn give_up(flow: Flow, state: u64, now_ns: u64) -> bool {
    let waited = now_ns.wrapping_sub(flow.asked_ns());
    if state & FlowSample::FLAG_ANSWERED != 0 || waited <= CONNECT_TIMEOUT_NS || waited >> 63 != 0 {
        return false;
    }
    if flow.change_state(state, state | FlowSample::FLAG_ANSWERED) {
        count(FlowSample::place(state), flow.epoch(), |signals| {
            signals.unanswered += 1;
            count_cell(&mut signals.cell_failures, FlowSample::cell(state));
            record(&mut signals.first_byte_censored, waited);
        });
    }
    true
}

/// Follows a connection whose SYN this is.
#[inline(always)]
fn begin(flow: Flow, key: &MeasureKey, seen: &Seen, segment: &Segment) {
    let progress = Progress::first(segment);
    let identity = flow.identity();
    // The same SYN again, or one that crossed its answer.
    if identity == key.sample && flow.highest(Side::Client) == progress.highest {
        return;
    }
    if !take(flow, identity, identity == key.sample, seen) {
        return;
    }
    let asks = if segment.payload > 0 { FlowSample::FLAG_ASKED } else { 0 };
    flow.write(key, seen, FlowSample::FLAG_SEQ_FORWARD | asks, u64::from(progress.highest), u64::from(progress.fresh));
}

/// Follows a flow whose first datagram this is.
#[inline(always)]
fn begin_datagrams(flow: Flow, key: &MeasureKey, seen: &Seen) {
    let identity = flow.identity();
    if !take(flow, identity, identity == key.sample, seen) {
        return;
    }
    flow.write(key, seen, FlowSample::FLAG_UDP | FlowSample::FLAG_ASKED, 0, u64::from(seen.segment.payload));
    count(seen.place, seen.epoch, |signals| {
        signals.flows += 1;
        count_cell(&mut signals.cell_attempts, seen.cell);
    });
}

/// Claims a place that is free, lapsed, or the flow's own; what was followed there is concluded.
#[inline(always)]
fn take(flow: Flow, identity: u64, is_own: bool, seen: &Seen) -> bool {
    let (state, until) = (flow.state(), flow.until());
    let is_free = identity == 0;
    let has_lapsed = FlowSample::has_lapsed(until, seen.now_ns);
    let may_take = is_free || is_own || (has_lapsed && identity != FlowSample::CLAIMED);
    if !may_take || !flow.change_identity(identity, FlowSample::CLAIMED) {
        count(seen.place, seen.epoch, |signals| signals.lost += 1);
        return false;
    }
    if !is_free {
        conclude(flow, state, until, seen.now_ns);
    }
    true
}

/// A segment of a connection that is followed.
#[inline(always)]
fn follow(flow: Flow, seen: &Seen, segment: &Segment, side: Side) {
    let (state, until) = (flow.state(), flow.until());
    if FlowSample::has_lapsed(until, seen.now_ns) {
        return end(flow, seen, state, until);
    }
    advance(flow, state, flow.epoch(), segment, side);
    // The other direction may have changed the state meanwhile on another CPU: once more, then.
    if !turn(flow, seen, segment, side) {
        turn(flow, seen, segment, side);
    }
}

/// What a segment changes about its connection; false if the state changed meanwhile, and nothing was counted.
#[inline(always)]
fn turn(flow: Flow, seen: &Seen, segment: &Segment, side: Side) -> bool {
    let (state, epoch, asked_ns) = (flow.state(), flow.epoch(), flow.asked_ns());
    let turn = if side == Side::Client { Turn::of_client(state, segment) } else { Turn::of_backend(state, segment) };
    let new = turn.state | known(side);
    // The time is there before the state that says so.
    if turn.has(Turn::ASKED) {
        flow.set_asked(seen.now_ns);
    }
    if new != state && !flow.change_state(state, new) {
        return false;
    }
    if turn.has(Turn::FIRST_BYTE) {
        time_first_byte(state, epoch, asked_ns, seen.now_ns);
    }
    if turn.has(Turn::OPENED | Turn::ZERO_WINDOW) {
        count(FlowSample::place(state), epoch, |signals| {
            signals.flows += u64::from(turn.has(Turn::OPENED));
            signals.zero_window += u64::from(turn.has(Turn::ZERO_WINDOW));
        });
    }
    if turn.has(Turn::OVER) && flow.change_identity(seen.identity(), 0) {
        conclude(flow, new, flow.until(), seen.now_ns);
        if turn.has(Turn::RESET) {
            count(FlowSample::place(state), epoch, |signals| {
                let by_client = side == Side::Client;
                signals.reset_by_client += u64::from(by_client);
                signals.reset_by_backend += u64::from(!by_client);
            });
        }
    }
    true
}

/// The flag that says that the highest sequence number of a side is known.
#[inline(always)]
const fn known(side: Side) -> u64 {
    match side {
        Side::Client => FlowSample::FLAG_SEQ_FORWARD,
        Side::Backend => FlowSample::FLAG_SEQ_REVERSE,
    }
}

/// Bytes, segments and retransmits.
#[inline(always)]
fn advance(flow: Flow, state: u64, epoch: u64, segment: &Segment, side: Side) {
    if segment.flags & flags::RST != 0 {
        return;
    }
    let is_first = state & known(side) == 0;
    if !is_first && segment.flags & flags::SYN != 0 {
        return;
    }
    let highest = flow.highest(side);
    let progress = if is_first { Progress::first(segment) } else { Progress::next(highest, segment) };
    if is_first || progress.highest != highest {
        flow.set_highest(side, progress.highest);
    }
    if segment.payload == 0 {
        return;
    }
    flow.add_bytes(side, progress.fresh);
    count(FlowSample::place(state), epoch, |signals| {
        signals.segments += 1;
        signals.retransmits += u64::from(progress.is_repeated);
    });
}

/// Nothing more is counted of a connection.
#[inline(always)]
fn end(flow: Flow, seen: &Seen, state: u64, until: u64) {
    if flow.change_identity(seen.identity(), 0) {
        conclude(flow, state, until, seen.now_ns);
    }
}

/// Counts what the end of a flow leaves, for the place and epoch of its first packet.
#[inline(always)]
fn conclude(flow: Flow, state: u64, until: u64, now_ns: u64) {
    let conclusion = Conclusion::of(state, flow.asked_ns(), until, now_ns);
    if conclusion.events == 0 {
        return;
    }
    let bytes = (flow.bytes(Side::Client) + flow.bytes(Side::Backend)) << BYTES_SHIFT;
    count(FlowSample::place(state), flow.epoch(), |signals| {
        signals.ended += 1;
        record(&mut signals.bytes, bytes);
        if conclusion.events & Conclusion::CENSORED != 0 {
            record(&mut signals.first_byte_censored, conclusion.age_ns);
        }
        if conclusion.events & Conclusion::UNANSWERED != 0 {
            signals.unanswered += 1;
            count_cell(&mut signals.cell_failures, FlowSample::cell(state));
        }
    });
}

#[inline(always)]
fn first_byte(flow: Flow, state: u64, now_ns: u64) {
    time_first_byte(state, flow.epoch(), flow.asked_ns(), now_ns);
}

#[inline(always)]
fn time_first_byte(state: u64, epoch: u64, asked_ns: u64, now_ns: u64) {
    count(FlowSample::place(state), epoch, |signals| {
        record(&mut signals.first_byte, now_ns.wrapping_sub(asked_ns));
    });
}
