//! Following a connection: what its segments say, checked against numbers made by hand and against a plain model.

use grayxdp_common::signals::{Conclusion, FlowSample};
use grayxdp_ebpf::{
    follow::{Progress, Segment, Turn},
    packet::flags::{ACK, FIN, RST, SYN},
};
use proptest::prelude::*;

fn segment(sequence: u32, payload: u32, flags: u8) -> Segment {
    Segment { sequence, payload, flags, window_is_zero: false }
}

#[test]
fn a_segment_is_a_retransmit_if_it_begins_below_what_was_sent() {
    let highest = 1_000;
    for (name, sequence, payload, flags, expected) in [
        ("the next one", 1_000, 100, ACK, (1_100, 100, false)),
        ("the whole of one sent before", 900, 100, ACK, (1_000, 0, true)),
        ("half of it new", 950, 100, ACK, (1_050, 50, true)),
        ("one behind a hole: the hole counts as sent", 1_200, 100, ACK, (1_300, 300, false)),
        ("a bare acknowledgement", 1_000, 0, ACK, (1_000, 0, false)),
        ("a keep-alive probe of one byte", 999, 1, ACK, (1_000, 0, false)),
        ("a window probe without payload", 999, 0, ACK, (1_000, 0, false)),
        ("a FIN", 1_000, 0, FIN | ACK, (1_001, 0, false)),
        ("payload and FIN", 1_000, 10, FIN | ACK, (1_011, 10, false)),
        ("the FIN again", 1_000 - 1, 0, FIN | ACK, (1_000, 0, false)),
    ] {
        let progress = Progress::next(highest, &segment(sequence, payload, flags));
        assert_eq!((progress.highest, progress.fresh, progress.is_repeated), expected, "{name}");
    }
    let syn = Progress::first(&segment(u32::MAX, 20, SYN));
    assert_eq!((syn.highest, syn.fresh, syn.is_repeated), (20, 20, false), "Fast Open, and the numbers wrap");
}

proptest! {
    /// Segments of a stream in any order, some sent twice: all of its bytes are counted once, and what is sent in order
    /// is no retransmit.
    #[test]
    fn every_byte_of_a_stream_counts_once(start: u32, lengths in prop::collection::vec(1_u32..1_460, 1..40), again: u64) {
        let mut highest = Progress::first(&segment(start.wrapping_sub(1), 0, SYN)).highest;
        let (mut at, mut fresh, mut repeated, mut expected) = (start, 0_u64, 0, 0);
        for (index, length) in lengths.iter().enumerate() {
            let times = if again >> (index % 64) & 1 == 1 { 2 } else { 1 };
            for time in 0..times {
                let progress = Progress::next(highest, &segment(at, *length, ACK));
                highest = progress.highest;
                fresh += u64::from(progress.fresh);
                repeated += u32::from(progress.is_repeated);
                expected += u32::from(time > 0 && *length > 1);
            }
            at = at.wrapping_add(*length);
        }
        prop_assert_eq!(fresh, lengths.iter().map(|length| u64::from(*length)).sum::<u64>());
        prop_assert_eq!((repeated, highest), (expected, at));
    }
}

/// The events of segments one after another; `c` is sent by the client.
fn events(script: &[(char, u32, u8)]) -> Vec<u64> {
    let mut state = FlowSample::FLAG_SEQ_FORWARD;
    let one = |(side, payload, flags): &(char, u32, u8)| {
        let segment = segment(0, *payload, *flags);
        let turn = if *side == 'c' { Turn::of_client(state, &segment) } else { Turn::of_backend(state, &segment) };
        state = turn.state;
        turn.events
    };
    script.iter().map(one).collect()
}

#[test]
fn the_first_byte_is_the_first_answer_to_the_first_question() {
    let (opened, asked, first, over, reset) = (Turn::OPENED, Turn::ASKED, Turn::FIRST_BYTE, Turn::OVER, Turn::RESET);
    let usual = [('b', 0, SYN | ACK), ('c', 0, ACK), ('c', 80, ACK), ('c', 80, ACK), ('b', 0, ACK), ('b', 900, ACK)];
    assert_eq!(events(&usual), [opened | asked, 0, asked, 0, 0, first]);
    let speaks_first = [('b', 0, SYN | ACK), ('b', 50, ACK), ('c', 80, ACK), ('b', 900, ACK)];
    assert_eq!(events(&speaks_first), [opened | asked, first, 0, 0], "timed from the SYN-ACK");
    let fast_open = [('c', 80, SYN), ('b', 0, SYN | ACK), ('b', 900, ACK)];
    assert_eq!(events(&fast_open), [asked, opened, first]);
    let repeated = [('b', 0, SYN | ACK), ('b', 0, SYN | ACK)];
    assert_eq!(events(&repeated), [opened | asked, 0]);
    let closed = [('b', 0, SYN | ACK), ('c', 0, FIN | ACK), ('b', 0, ACK), ('b', 9, FIN | ACK)];
    assert_eq!(events(&closed), [opened | asked, 0, 0, first | over]);
    assert_eq!(events(&[('b', 0, RST | ACK)]), [over], "refused: no reset of an open connection");
    assert_eq!(events(&[('b', 0, SYN | ACK), ('c', 0, RST)]), [opened | asked, reset | over]);
    assert_eq!(events(&[('b', 80, ACK)]), [0], "nothing was opened");
}

#[test]
fn a_zero_window_counts_once_a_flow() {
    let stalled = Segment { window_is_zero: true, ..segment(0, 0, ACK) };
    let state = Turn::of_backend(0, &segment(0, 0, SYN | ACK)).state;
    let first = Turn::of_client(state, &stalled);
    assert_eq!((first.events, Turn::of_backend(first.state, &stalled).events), (Turn::ZERO_WINDOW, 0));
    assert_eq!(Turn::of_client(0, &stalled).events, 0, "not before it is open");
}

#[test]
fn what_a_lapsed_sample_leaves_depends_on_how_far_it_came() {
    let (open, asked, answered) = (FlowSample::FLAG_OPEN, FlowSample::FLAG_ASKED, FlowSample::FLAG_ANSWERED);
    let (udp, ended) = (FlowSample::FLAG_UDP, FlowSample::FLAG_ENDED);
    let (over, censored, unanswered) = (Conclusion::ENDED, Conclusion::CENSORED, Conclusion::UNANSWERED);
    let (asked_ns, until) = (5 << 29, 100);
    for (name, state, expected) in [
        ("no answer to the SYN: the mark counts that", 0, 0),
        ("open, nothing was asked", open, over),
        ("open, asked", open | asked, over | censored),
        ("answered", open | asked | answered, over),
        ("a datagram without answer", udp | asked, over | censored | unanswered),
        ("a datagram with one", udp | asked | answered, over),
        ("a UDP flow that is counted already", udp | asked | answered | ended, 0),
    ] {
        let conclusion = Conclusion::of(state, asked_ns, until, 1_000 << 29);
        assert_eq!((conclusion.events, conclusion.age_ns), (expected, 95 << 29), "{name}: seen until its horizon only");
    }
    assert_eq!(Conclusion::of(open | asked, asked_ns, until, 8 << 29).age_ns, 3 << 29, "ended before its horizon");
}
