//! Once a second: handshakes that nothing answered in time, and sampled flows whose horizon ended, are counted and let go.
//!
//! The counts are each CPU's own, which its program changes without a lock. The daemon adds to those of the CPU that it runs on and
//! stays on it meanwhile: the one instruction that adds cannot be interrupted by the program there.

use std::{mem::offset_of, sync::atomic::Ordering, time::Duration};

use grayxdp_common::signals::{
    BYTES_SHIFT, CONNECT_TIMEOUT_NS, Conclusion, FlowSample, Histogram, Mark, MarkHead, MarkTail, Signals,
};

use super::{
    mapped::{Mappable, Mapped},
    tables::{Tables, TablesError},
};

/// How often at least what lapsed is looked for while no rollout runs.
const AT_REST: Duration = Duration::from_secs(4);
/// Bytes of a table that are mapped at a time.
const WINDOW_BYTES: usize = 1 << 20;
/// Ticks for which a UDP flow whose horizon ended is not taken for a new one: 69 s.
const ENDED_TICKS: u32 = 1 << 7;
/// Bits of a mark's time.
const MARK_TIME_BITS: u32 = 52;

/// The tables of marks and sampled flows.
pub(super) struct Lapsed {
    marks: Mappable<Mark>,
    flows: Mappable<FlowSample>,
    /// When a sweep is due where nothing is judged by it.
    due: Duration,
}

/// What is to be counted: one more at some offsets of the signals of a place and epoch.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    place: u16,
    epoch: u64,
    offsets: Vec<usize>,
}

impl Lapsed {
    /// Of the two tables.
    pub(super) const fn new(marks: Mappable<Mark>, flows: Mappable<FlowSample>) -> Self {
        Self { marks, flows, due: Duration::ZERO }
    }

    /// Finds what lapsed before a monotonic time, and counts it. Not each time where no rollout is judged by it.
    pub(super) fn sweep(&mut self, tables: &Tables, now: Duration) -> Result<(), TablesError> {
        let is_judged = tables.sources().values().any(|service| service.measures);
        if !is_judged && now < self.due {
            return Ok(());
        }
        self.due = now + AT_REST;
        let now_ns = now.as_nanos() as u64;
        let mut findings = Vec::new();
        in_windows(&self.marks, |window, index| findings.extend(lapsed_mark(window, index, now_ns)))?;
        in_windows(&self.flows, |window, index| findings.extend(lapsed_flow(window, index, now_ns)))?;
        if findings.is_empty() {
            return Ok(());
        }
        findings.sort();
        let cpu = OneCpu::stay()?;
        for same in findings.chunk_by(|one, other| (one.place, one.epoch) == (other.place, other.epoch)) {
            count(tables, same, cpu.number)?;
        }
        Ok(())
    }
}

fn in_windows<T: aya::Pod>(map: &Mappable<T>, mut look: impl FnMut(&Mapped<T>, u32)) -> Result<(), TablesError> {
    let length = (WINDOW_BYTES / size_of::<T>()) as u32;
    let mut first = 0;
    while first < map.len() {
        let count = length.min(map.len() - first);
        let window = map.window(first, count)?;
        (first..first + count).for_each(|index| look(&window, index));
        first += count;
    }
    Ok(())
}

/// A mark whose SYN nothing answered in time.
fn lapsed_mark(window: &Mapped<Mark>, index: u32, now_ns: u64) -> Option<Finding> {
    let word = window.at(index, offset_of!(Mark, head));
    let head = MarkHead(word.load(Ordering::Acquire));
    if head.state() != MarkHead::WAITING {
        return None;
    }
    let tail = MarkTail(window.at(index, offset_of!(Mark, tail)).load(Ordering::Acquire));
    let age_ns = tail.age_ns(now_ns);
    // A mark may be younger than the time that is given.
    if age_ns <= CONNECT_TIMEOUT_NS || age_ns >> (MARK_TIME_BITS - 1) != 0 {
        return None;
    }
    let timed_out = head.with_state(MarkHead::TIMED_OUT).0;
    word.compare_exchange(head.0, timed_out, Ordering::SeqCst, Ordering::Relaxed).ok()?;
    let mut offsets = vec![offset_of!(Signals, timeouts)];
    if !tail.is_repeated() {
        offsets.push(cell_failure(tail.cell()));
    }
    Some(Finding { place: head.signals(), epoch: head.epoch(), offsets })
}

/// A sampled flow whose horizon ended, or a datagram that nothing answered in time.
fn lapsed_flow(window: &Mapped<FlowSample>, index: u32, now_ns: u64) -> Option<Finding> {
    let load = |offset: usize| window.at(index, offset).load(Ordering::Acquire);
    let identity = load(offset_of!(FlowSample, identity));
    if identity == 0 || identity == FlowSample::CLAIMED {
        return None;
    }
    let state = load(offset_of!(FlowSample, state));
    let (until, asked_ns) = (load(offset_of!(FlowSample, until)), load(offset_of!(FlowSample, asked_ns)));
    let change = |offset: usize, old: u64, new: u64| {
        window.at(index, offset).compare_exchange(old, new, Ordering::SeqCst, Ordering::Relaxed).ok()
    };
    let (place, epoch) = (FlowSample::place(state), load(offset_of!(FlowSample, epoch)));
    let is_udp = state & FlowSample::FLAG_UDP != 0;
    if !FlowSample::has_lapsed(until, now_ns) {
        let waited = now_ns.wrapping_sub(asked_ns);
        let is_open = state & (FlowSample::FLAG_ANSWERED | FlowSample::FLAG_ENDED) == 0;
        if !is_udp || !is_open || waited <= CONNECT_TIMEOUT_NS || waited >> 63 != 0 {
            return None;
        }
        change(offset_of!(FlowSample, state), state, state | FlowSample::FLAG_ANSWERED)?;
        let offsets = vec![
            offset_of!(Signals, unanswered),
            cell_failure(FlowSample::cell(state)),
            in_histogram(offset_of!(Signals, first_byte_censored), waited),
        ];
        return Some(Finding { place, epoch, offsets });
    }
    let bytes = load(offset_of!(FlowSample, bytes));
    if is_udp && state & FlowSample::FLAG_ENDED == 0 {
        change(offset_of!(FlowSample, state), state, state | FlowSample::FLAG_ENDED)?;
        window.store(index, offset_of!(FlowSample, until), u64::from((until as u32).wrapping_add(ENDED_TICKS)));
    } else {
        change(offset_of!(FlowSample, identity), identity, 0)?;
    }
    let conclusion = Conclusion::of(state, asked_ns, until, now_ns);
    let offsets = concluded(conclusion, FlowSample::cell(state), bytes);
    (!offsets.is_empty()).then_some(Finding { place, epoch, offsets })
}

/// What the end of a flow counts.
fn concluded(conclusion: Conclusion, cell: u8, bytes: u64) -> Vec<usize> {
    if conclusion.events == 0 {
        return Vec::new();
    }
    let payload = ((bytes & 0xffff_ffff) + (bytes >> 32)) << BYTES_SHIFT;
    let mut offsets = vec![offset_of!(Signals, ended), in_histogram(offset_of!(Signals, bytes), payload)];
    if conclusion.events & Conclusion::CENSORED != 0 {
        offsets.push(in_histogram(offset_of!(Signals, first_byte_censored), conclusion.age_ns));
    }
    if conclusion.events & Conclusion::UNANSWERED != 0 {
        offsets.extend([offset_of!(Signals, unanswered), cell_failure(cell)]);
    }
    offsets
}

const fn cell_failure(cell: u8) -> usize {
    offset_of!(Signals, cell_failures) + cell as usize * size_of::<u32>()
}

const fn in_histogram(histogram: usize, value: u64) -> usize {
    histogram + Histogram::cell(value) * size_of::<u32>()
}

/// Counts findings of one place and epoch, unless the place counts for another epoch by now.
fn count(tables: &Tables, findings: &[Finding], cpu: u32) -> Result<(), TablesError> {
    let Some(Finding { place, epoch, .. }) = findings.first() else { return Ok(()) };
    let memory = tables.memory();
    if u32::from(*place) >= memory.signal_places() || cpu >= memory.cpus {
        return Ok(());
    }
    let at = memory.signals_at(u32::from(*place), (epoch & 1) as u32)?;
    let index = at.indices().start + cpu;
    let counted = at.window().at(index, offset_of!(Signals, epoch)).load(Ordering::Acquire);
    if (counted ^ epoch) & 0xfff == 0 {
        for offset in findings.iter().flat_map(|finding| &finding.offsets) {
            at.window().at(index, offset & !7).fetch_add(one_at(*offset), Ordering::Relaxed);
        }
    }
    Ok(())
}

/// One, as the word around an offset has it: a whole word, or half of one.
fn one_at(offset: usize) -> u64 {
    if offset < offset_of!(Signals, connect) {
        return 1;
    }
    let mut bytes = [0; size_of::<u64>()];
    bytes[offset & 7..][..size_of::<u32>()].copy_from_slice(&1_u32.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

/// The calling thread stays on one CPU for as long as this lives.
struct OneCpu {
    number: u32,
    before: libc::cpu_set_t,
}

impl OneCpu {
    fn stay() -> std::io::Result<Self> {
        // SAFETY: an all-zero set is a valid one; the calls read or fill it and no more.
        unsafe {
            let mut before: libc::cpu_set_t = std::mem::zeroed();
            let size = size_of::<libc::cpu_set_t>();
            if libc::sched_getaffinity(0, size, &raw mut before) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            let number = libc::sched_getcpu();
            let mut one: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(number as usize, &mut one);
            if number < 0 || libc::sched_setaffinity(0, size, &raw const one) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(Self { number: number as u32, before })
        }
    }
}

impl Drop for OneCpu {
    fn drop(&mut self) {
        // SAFETY: the set that the thread had before.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const self.before) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_added_to_the_half_of_the_word_that_the_offset_names() {
        assert_eq!(one_at(offset_of!(Signals, timeouts)), 1);
        let [low, high] = [cell_failure(4), cell_failure(5)].map(|offset| one_at(offset).to_ne_bytes());
        assert_eq!((low, high), ([1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0]));
    }

    #[test]
    fn the_end_of_a_flow_counts_what_its_sample_says() {
        let open = FlowSample::FLAG_OPEN | FlowSample::FLAG_ASKED;
        let conclusion = Conclusion::of(open, 1_000, 1, 5_000);
        let bytes = 100 | (28 << 32);
        let expected = [
            offset_of!(Signals, ended),
            in_histogram(offset_of!(Signals, bytes), 128 << BYTES_SHIFT),
            in_histogram(offset_of!(Signals, first_byte_censored), 4_000),
        ];
        assert_eq!(concluded(conclusion, 3, bytes), expected);
        assert!(concluded(Conclusion::of(0, 1_000, 1, 5_000), 3, bytes).is_empty());
    }

    #[test]
    fn a_thread_stays_on_its_cpu_and_may_leave_it_again() {
        let stay = OneCpu::stay().expect("affinity can be set");
        // SAFETY: plain calls.
        assert_eq!(unsafe { libc::sched_getcpu() }, stay.number as i32);
        let before = stay.before;
        drop(stay);
        let after = OneCpu::stay().expect("affinity can be set").before;
        // SAFETY: both sets are initialised.
        assert!(unsafe { libc::CPU_EQUAL(&before, &after) });
    }
}
