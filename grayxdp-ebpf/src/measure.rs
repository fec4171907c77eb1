//! Signals: marks of handshakes, samples of flows, and what they count. See `grayxdp_common::signals`.
//!
//! A packet that is neither SYN, SYN-ACK nor RST, of a flow that is not sampled, costs one comparison.

mod flows;
mod marks;
mod sample;

use grayxdp_common::{
    counters::BackendCounters,
    explanation::Turn,
    hash::{Flow, FlowHash},
    ipv6::Address,
    records::BackendRecord,
    signals::{CLIENT_CELLS, CellCounts, Histogram, MeasureKey, Signals},
};
use grayxdp_ebpf::{
    follow::Segment,
    packet::{ETHERNET_LEN, Network, Packet, flags},
    rewrite::Checksum,
};

pub(crate) use marks::{Answer, touch as touch_mark};

use crate::{
    explain::{self, explains},
    family::Family,
    tables,
    verifier::unknown,
};

/// A client's packet on its way to a backend, as far as measuring needs it.
#[derive(Clone, Copy)]
pub(crate) struct Forward {
    /// Hash of the whole 5-tuple, also with `affinity: client`.
    pub(crate) hash: FlowHash,
    /// The service's epoch.
    pub(crate) epoch: u64,
    /// It is followed: see [`grayxdp_common::records::ServiceRecord::sample_rate`].
    pub(crate) is_sampled: bool,
    /// Ticks for which a flow is followed.
    pub(crate) horizon_ticks: u32,
    /// It is a SYN.
    pub(crate) is_syn: bool,
    /// Every SYN leaves a mark.
    pub(crate) measures: bool,
    /// No place for its half-open entry: the packet does not go where its version's split says, and is not judged.
    pub(crate) deferred: bool,
    /// Nothing of what its backend answers comes by.
    pub(crate) is_unseen: bool,
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

/// Measures a client's packet that goes to a backend. `place` says where the signals are: base of the service + version
/// place × segments + segment; it is asked only for a packet that is measured. True for a SYN that was repeated before any answer, once a
/// handshake: a connect failure.
#[inline(always)]
pub(crate) fn forward<I: Family>(
    packet: &Packet<I>,
    checksum: Checksum,
    flow: &Forward,
    place: impl FnOnce() -> u16,
) -> bool {
    let is_sampled = flow.is_sampled;
    let is_tcp = matches!(checksum, Checksum::Tcp(_));
    let is_syn = flow.is_syn;
    let is_marked = is_syn && (is_sampled || flow.measures);
    if !is_sampled && !is_marked {
        return false;
    }
    explain::note(|explanation| {
        explanation.turns |= if is_sampled { Turn::Sampled.bit() } else { 0 };
        explanation.turns |= if is_marked { Turn::Measured.bit() } else { 0 };
    });
    if explains() {
        return false;
    }
    // A connection is followed from its SYN on.
    if is_tcp && !is_syn && !flows::is_followed(flow.hash) {
        return false;
    }
    let place = place();
    if is_marked && flow.deferred {
        unmarked(place, flow.epoch, flow.backend);
        return false;
    }
    begin(flow.hash, is_marked, is_sampled);
    let whence = u64::from(place) | (u64::from(flow.backend) << 16) | (u64::from(flow.horizon_ticks) << 32);
    let (hash, mut segment) = (flow.hash.0, words_of(packet, checksum, packet.ip.source()));
    segment.1 |= if flow.is_unseen { UNSEEN } else { 0 };
    let repeated = is_marked && marks::measure_attempt(hash, flow.epoch, whence, segment.0, segment.1) != 0;
    if is_sampled {
        if is_tcp {
            flows::measure_client_segment(hash, flow.epoch, whence, segment.0, segment.1);
        } else {
            flows::measure_client_datagram(hash, flow.epoch, whence, segment.0, segment.1);
        }
    }
    repeated
}

/// Measures a backend's packet; says what it meant to a handshake that is measured.
#[inline(always)]
pub(crate) fn reverse<I: Family>(
    packet: &Packet<I>,
    checksum: Checksum,
    backend: &BackendRecord,
    ends: I::Ends,
) -> Answer {
    reverse_of(packet, checksum, backend, &reverse_flow(packet, backend, ends))
}

/// The same of a flow that is known.
#[inline(always)]
pub(crate) fn reverse_of<I: Family>(
    packet: &Packet<I>,
    checksum: Checksum,
    backend: &BackendRecord,
    flow: &Flow<I::Address>,
) -> Answer {
    let is_sampled = I::Address::sample(flow, &tables::hash_key()) < backend.sample_rate;
    let answers_syn = flags_of(rare_word(checksum)) & (flags::SYN | flags::RST) != 0;
    let is_marked = answers_syn && (is_sampled || backend.flags & BackendRecord::FLAG_MEASURES != 0);
    if (!is_sampled && !is_marked) || explains() {
        return Answer::Nothing;
    }
    let hash = I::Address::hash(flow, &tables::hash_key());
    if !is_marked && !flows::is_followed(hash) {
        return Answer::Nothing;
    }
    begin(hash, is_marked, is_sampled);
    let (hash, segment) = (hash.0, words_of(packet, checksum, flow.source));
    let answer = if is_marked { Answer::of(marks::measure_answer(hash, segment.1)) } else { Answer::Nothing };
    if is_sampled {
        if matches!(checksum, Checksum::Tcp(_)) {
            flows::measure_backend_segment(hash, segment.0, segment.1);
        } else {
            flows::measure_backend_datagram(hash, segment.0);
        }
    }
    answer
}

/// Measures an ICMP error about a datagram: a backend that cannot be reached does not answer it.
#[inline(always)]
pub(crate) fn unreachable<A: Address>(flow: &Flow<A>, backend: &BackendRecord) {
    if A::sample(flow, &tables::hash_key()) < backend.sample_rate && !explains() {
        let hash = A::hash(flow, &tables::hash_key());
        begin(hash, false, true);
        flows::measure_unreachable(hash.0);
    }
}

/// Before the rare parts: reads early what they will ask of large tables, so that the cache misses pass together, and the
/// time once for all of them.
#[inline(always)]
fn begin(hash: FlowHash, is_marked: bool, is_sampled: bool) {
    if is_marked {
        marks::touch(hash);
    }
    if is_sampled {
        flows::touch(hash);
    }
    if let Some(scratch) = tables::scratch() {
        // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
        unsafe { (*scratch).now_ns = tables::precise_ns() };
    }
}

/// The whole 5-tuple of a backend's packet, as its client's packets have it.
#[inline(always)]
pub(crate) fn reverse_flow<I: Family>(packet: &Packet<I>, backend: &BackendRecord, ends: I::Ends) -> Flow<I::Address> {
    Flow {
        source: packet.ip.destination(),
        destination: I::virtual_address_of(backend, ends),
        source_port: packet.destination_port,
        destination_port: if backend.virtual_port == 0 { packet.source_port } else { backend.virtual_port },
        protocol: packet.ip.protocol(),
    }
}

/// What the rare parts need of a packet, in two words: sequence number and length of the payload; flags, cell of the
/// client, zero window.
///
/// The rare parts are global functions, which the verifier follows once and not on every way that leads to them; so they
/// take numbers.
#[inline(always)]
fn words_of<I: Network>(packet: &Packet<I>, checksum: Checksum, client: I::Address) -> (u64, u64) {
    let before = packet.offset - ETHERNET_LEN;
    let behind_ip = packet.ip.total_len().wrapping_sub(before as u64);
    let (mut sequence, mut bits, mut header_len) = (0, 0, 8);
    if let Checksum::Tcp(header) = checksum {
        let word: u32 = header.read(12);
        sequence = u32::from_be(header.read(4));
        bits = u64::from(flags_of(word)) | (u64::from(window_is_zero(word)) << 16);
        header_len = u64::from(word & 0xf0) >> 2;
    }
    let payload = behind_ip.saturating_sub(header_len);
    (u64::from(sequence) | (payload << 32), bits | (u64::from(client.cell()) << 8))
}

/// Set in the second word of [`words_of`] where nothing of what the backend answers comes by.
const UNSEEN: u64 = 1 << 17;

/// A packet as the rare parts see it.
struct Seen {
    hash: FlowHash,
    now_ns: u64,
    place: u16,
    epoch: u64,
    backend: u16,
    horizon_ticks: u32,
    cell: u8,
    is_unseen: bool,
    segment: Segment,
}

impl Seen {
    /// From what [`words_of`] made.
    #[inline(always)]
    fn of(hash: u64, epoch: u64, whence: u64, sequence_and_payload: u64, bits: u64) -> Self {
        let segment = Segment {
            sequence: sequence_and_payload as u32,
            payload: (sequence_and_payload >> 32) as u32,
            flags: bits as u8,
            window_is_zero: bits >> 16 & 1 != 0,
        };
        let (place, backend, horizon_ticks) = (whence as u16, (whence >> 16) as u16, (whence >> 32) as u32);
        let cell = (bits >> 8) as u8;
        // SAFETY: as in `begin`, which wrote it.
        let now_ns = tables::scratch().map_or(0, |scratch| unsafe { (*scratch).now_ns });
        let is_unseen = bits & UNSEEN != 0;
        Self { hash: FlowHash(hash), now_ns, place, epoch, backend, horizon_ticks, cell, is_unseen, segment }
    }

    /// The flow's identity in the sample table.
    #[inline(always)]
    fn identity(&self) -> u64 {
        MeasureKey::of(self.hash).sample
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
    if let Some(count) = histogram.0.get_mut(unknown(Histogram::cell(value))) {
        *count += 1;
    }
}

/// Counts in the cell of a client.
#[inline(always)]
fn count_cell(cells: &mut CellCounts, cell: u8) {
    cells.0[unknown(usize::from(cell)) & (CLIENT_CELLS - 1)] += 1;
}

/// Counts a SYN that was to be measured and could not be.
#[inline(always)]
fn unmarked(place: u16, epoch: u64, backend: u16) {
    count(place, epoch, |signals| signals.unmarked += 1);
    tables::count(backend, |counters: &mut BackendCounters| counters.unmarked += 1);
}
