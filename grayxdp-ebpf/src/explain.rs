//! What the explaining instance, and the tracing one, write down about a packet; nothing of it is in the live program.

use aya_ebpf::{macros::map, maps::Array};
use grayxdp_common::{
    explanation::{Explanation, Step, Turn},
    records::{BackendRecord, NextHop},
};

#[map(name = "EXPLANATION")]
static EXPLANATION: Array<Explanation> = Array::with_max_entries(1, 0);

/// Whether this is the program that explains: it counts nothing and writes down what it does. A constant of the compiler's, because
/// one of the verifier's costs a load wherever it is asked for.
#[inline(always)]
pub(crate) const fn explains() -> bool {
    cfg!(feature = "explain")
}

/// Notes what decided the way of a packet.
#[inline(always)]
pub(crate) fn turn(turn: Turn) {
    note(|explanation| explanation.turns |= turn.bit());
}

/// Whether the instance that explains noted a turn of this packet.
#[inline(always)]
pub(crate) fn is_noted(turn: Turn) -> bool {
    explains() && EXPLANATION.get(0).is_some_and(|explanation| explanation.turns & turn.bit() != 0)
}

/// Writes into the explanation, in the instances that have one.
#[inline(always)]
pub(crate) fn note(write: impl FnOnce(&mut Explanation)) {
    if notes()
        && let Some(explanation) = in_hand()
    {
        // SAFETY: the explaining instance is run once at a time; the tracing one has a value for each CPU.
        write(unsafe { &mut *explanation });
    }
}

/// Whether this is a program that writes down what it does.
#[inline(always)]
pub(crate) const fn notes() -> bool {
    cfg!(any(feature = "explain", feature = "trace"))
}

#[cfg(not(feature = "trace"))]
#[inline(always)]
fn in_hand() -> Option<*mut Explanation> {
    EXPLANATION.get_ptr_mut(0)
}

#[cfg(feature = "trace")]
#[inline(always)]
fn in_hand() -> Option<*mut Explanation> {
    crate::trace::explanation()
}

/// Writes down the backend that a packet without ports goes to or comes from, and where it leaves.
#[inline(always)]
pub(crate) fn note_backend(step: Step, id: u16, backend: &BackendRecord, hop: &NextHop) {
    note(|explanation| {
        explanation.step = step as u32;
        (explanation.service, explanation.version, explanation.backend) = (backend.service, backend.version, id);
        explanation.next_hop = *hop;
    });
}
