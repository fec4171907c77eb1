//! What a client's packet counts for its backend.

use grayxdp_common::counters::BackendCounters;
use grayxdp_ebpf::{packet::flags, rewrite::Checksum};

use crate::{Arrival, explain::explains, measure, tables};

/// Counts a client's packet for its backend.
#[inline(always)]
pub(crate) fn count(arrival: Arrival, id: u16, checksum: Checksum) {
    if explains() {
        return;
    }
    tables::count(id, |counters| {
        counters.packets_forward += 1;
        counters.bytes_forward += arrival.frame.len();
        count_flags(measure::rare_word(checksum), counters);
    });
}

#[inline(always)]
fn count_flags(word: u32, counters: &mut BackendCounters) {
    if word == 0 {
        return;
    }
    let bits = measure::flags_of(word);
    if bits & (flags::SYN | flags::ACK | flags::RST) == flags::SYN {
        counters.syns += 1;
        if bits & flags::FIN == 0 {
            return;
        }
    }
    if measure::window_is_zero(word) {
        counters.zero_windows_forward += 1;
    }
    if bits & flags::RST != 0 {
        counters.resets_forward += 1;
    }
    if bits & flags::FIN != 0 {
        counters.fins_forward += 1;
    }
}
