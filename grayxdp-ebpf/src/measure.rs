//! Signals: marks of handshakes, samples of flows, and what they count. See `grayxdp_common::signals`.
//!
//! A packet that is neither SYN, SYN-ACK nor RST, of a flow that is not sampled, costs one comparison.

mod flows;
mod marks;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use grayxdp_common::{
    counters::BackendCounters,
    explanation::Turn,
    hash::{Flow, FlowHash},
    records::{BackendRecord, ServiceRecord},
    signals::{Histogram, Signals, client_cell},
};
use grayxdp_ebpf::{
    packet::{Packet, flags},
    rewrite::Checksum,
};

pub(crate) use marks::Answer;

use crate::tables;

/// A client's packet on its way to a backend, as far as measuring needs it.
#[derive(Clone, Copy)]
pub(crate) struct Forward {
    /// Hash of the whole 5-tuple, also with `affinity: client`.
    pub(crate) hash: FlowHash,
    /// Place of the signals: base of the service + version place × segments + segment.
    pub(crate) place: u16,
    /// The service's epoch.
    pub(crate) epoch: u64,
    /// As [`grayxdp_common::records::ServiceRecord::sample_rate`].
    pub(crate) sample_rate: u16,
    /// Ticks for which a flow is followed.
    pub(crate) horizon_ticks: u32,
    /// Every SYN leaves a mark.
    pub(crate) measures: bool,
    /// No place for its half-open entry: the packet does not go where its version's split says, and is not judged.
    pub(crate) deferred: bool,
    /// Where it goes.
    pub(crate) backend: u16,
}

/// Bits of the word at byte 12 of a TCP header, as the kernel's machine loads it: length, flags, window.
const FLAG_BITS: u32 = ((flags::SYN | flags::RST | flags::FIN) as u32) << 8;

/// The word at byte 12 of a TCP header if it is rare: SYN, RST or FIN, or a window of zero; else 0.
#[inline(always)]
pub(crate) fn rare_word(checksum: Checksum) -> u32 {
    let Checksum::Tcp(header) = checksum else { return 0 };
    let word: u32 = header.read(12);
    if word & FLAG_BITS == 0 && word > 0xffff { 0 } else { word }
}

/// The TCP flags in a word of [`rare_word`].
#[inline(always)]
pub(crate) const fn flags_of(word: u32) -> u8 {
    (word >> 8) as u8
}

/// Whether a word of [`rare_word`] that is not 0 has a zero window that counts: Linux sends one with each RST.
#[inline(always)]
pub(crate) const fn window_is_zero(word: u32) -> bool {
    word <= 0xffff && flags_of(word) & (flags::SYN | flags::RST) == 0
}

/// Measures a client's packet that goes to a backend. True for a SYN that was repeated before any answer, once a
/// handshake: a connect failure.
#[inline(always)]
pub(crate) fn forward(packet: &Packet, checksum: Checksum, flow: &Forward) -> bool {
    let is_sampled = flow.hash.sample() < flow.sample_rate;
    let is_tcp = matches!(checksum, Checksum::Tcp(_));
    let is_syn = flags_of(rare_word(checksum)) & (flags::SYN | flags::ACK | flags::RST) == flags::SYN;
    let is_marked = is_syn && (is_sampled || flow.measures);
    if !is_sampled && !is_marked {
        return false;
    }
    tables::note(|explanation| {
        explanation.turns |= if is_sampled { Turn::Sampled.bit() } else { 0 };
        explanation.turns |= if is_marked { Turn::Measured.bit() } else { 0 };
    });
    if tables::explains() {
        return false;
    }
    let seen = Seen::of(packet, checksum, flow);
    if is_marked && flow.deferred {
        unmarked(flow.place, flow.epoch, flow.backend);
        return false;
    }
    let repeated = is_marked && marks::attempt(&seen);
    if is_sampled {
        if is_tcp { flows::segment_of_client(&seen) } else { flows::datagram_of_client(&seen) }
    }
    repeated
}

/// Measures a backend's packet; says what it meant to a handshake that is measured.
#[inline(always)]
pub(crate) fn reverse(packet: &Packet, checksum: Checksum, backend: &BackendRecord, hash: FlowHash) -> Answer {
    let is_sampled = hash.sample() < backend.sample_rate;
    let answers_syn = flags_of(rare_word(checksum)) & (flags::SYN | flags::RST) != 0;
    let is_marked = answers_syn && (is_sampled || backend.flags & BackendRecord::FLAG_MEASURES != 0);
    if (!is_sampled && !is_marked) || tables::explains() {
        return Answer::Nothing;
    }
    let seen = Seen::back(packet, checksum, hash);
    let answer = if is_marked { marks::answer(&seen) } else { Answer::Nothing };
    if is_sampled {
        let is_tcp = matches!(checksum, Checksum::Tcp(_));
        if is_tcp { flows::segment_of_backend(&seen) } else { flows::datagram_of_backend(&seen) }
    }
    answer
}

/// Hash of the whole 5-tuple of a client's packet, where `choice` is the one that its service chooses by.
#[inline(always)]
pub(crate) fn hash(packet: &Packet, service: &ServiceRecord, choice: FlowHash) -> FlowHash {
    if service.flags & ServiceRecord::FLAG_CLIENT_AFFINITY == 0 {
        return choice;
    }
    FlowHash::of(&packet.flow(), &tables::hash_key())
}

/// Hash of the whole 5-tuple of a backend's packet, as its client's packets have it.
#[inline(always)]
pub(crate) fn reverse_hash(packet: &Packet, backend: &BackendRecord) -> FlowHash {
    let flow = Flow {
        source: packet.ip.destination,
        destination: backend.virtual_address,
        source_port: packet.destination_port,
        destination_port: if backend.virtual_port == 0 { packet.source_port } else { backend.virtual_port },
        protocol: packet.ip.protocol,
    };
    FlowHash::of(&flow, &tables::hash_key())
}

/// What the rare parts need of a packet: words only, because the verifier wants aligned reads of the stack.
struct Seen {
    hash: u64,
    now_ns: u64,
    place: u64,
    epoch: u64,
    backend: u64,
    horizon: u64,
    cell: u64,
    sequence: u64,
    payload: u64,
    flags: u64,
    window_is_zero: u64,
}

impl Seen {
    #[inline(always)]
    fn of(packet: &Packet, checksum: Checksum, flow: &Forward) -> Self {
        Self {
            place: u64::from(flow.place),
            epoch: flow.epoch,
            backend: u64::from(flow.backend),
            horizon: u64::from(flow.horizon_ticks),
            cell: u64::from(client_cell(packet.ip.source)),
            ..Self::back(packet, checksum, flow.hash)
        }
    }

    #[inline(always)]
    fn back(packet: &Packet, checksum: Checksum, hash: FlowHash) -> Self {
        // SAFETY: the helper takes nothing.
        let now_ns = unsafe { bpf_ktime_get_ns() };
        let mut seen = Self {
            hash: hash.0,
            now_ns,
            place: 0,
            epoch: 0,
            backend: 0,
            horizon: 0,
            cell: 0,
            sequence: 0,
            payload: 0,
            flags: 0,
            window_is_zero: 0,
        };
        let before = packet.offset - grayxdp_ebpf::packet::ETHERNET_LEN;
        let behind_ip = packet.ip.total_len().wrapping_sub(before as u64);
        let header_len = if let Checksum::Tcp(header) = checksum {
            let word: u32 = header.read(12);
            seen.sequence = u64::from(u32::from_be(header.read(4)));
            seen.flags = u64::from(flags_of(word));
            seen.window_is_zero = u64::from(window_is_zero(word));
            u64::from(word & 0xf0) >> 2
        } else {
            8
        };
        seen.payload = behind_ip.saturating_sub(header_len) & 0xffff;
        seen
    }
}

/// Changes the counts of a place, if they are of the given epoch (its low twelve bits are compared).
#[inline(always)]
fn count(place: u16, epoch: u64, change: impl FnOnce(&mut Signals)) {
    let Some(signals) = tables::signals(place, epoch & 1) else { return };
    // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU; the daemon clears it
    // while no count belongs to it.
    let signals = unsafe { &mut *signals };
    if (signals.epoch ^ epoch) & 0xfff == 0 {
        change(signals);
    }
}

/// Counts a value in its cell.
#[inline(always)]
fn record(histogram: &mut Histogram, value: u64) {
    let mut cell = Histogram::cell(value);
    // SAFETY: a register is given its own value. The compiler must not know the bound of the cell already: then it leaves out the check that
    // the verifier wants to see.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) cell, options(pure, nomem, nostack, preserves_flags)) };
    if let Some(count) = histogram.0.get_mut(cell) {
        *count += 1;
    }
}

/// Counts a SYN that was to be measured and could not be.
#[inline(always)]
fn unmarked(place: u16, epoch: u64, backend: u16) {
    count(place, epoch, |signals| signals.unmarked += 1);
    tables::count(backend, |counters: &mut BackendCounters| counters.unmarked += 1);
}
