//! Signals of one version as plain sums: what the data path counted, and what came in between two readings.

use grayxdp_common::signals::{BYTES_SHIFT, CLIENT_CELLS, Histogram};
use serde::{Deserialize, Serialize};

use crate::{
    analysis::{histogram::Distribution, sparse},
    model::kernel::Signals,
};

/// A count for each of the 256 cells of clients.
pub type ClientCells = Vec<u64>;

macro_rules! measured {
    ($($(#[$doc:meta])* $count:ident,)*) => {
        /// Signals of one version, summed over what it was made from.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct Measured {
            $($(#[$doc])* pub $count: u64,)*
            /// From SYN to SYN-ACK, in nanoseconds.
            pub connect: Distribution,
            /// From the first question to the first byte of the answer, in nanoseconds.
            pub first_byte: Distribution,
            /// Ages at which flows went out of sight before their first byte, in nanoseconds.
            pub first_byte_censored: Distribution,
            /// Payload of ended followed flows, in bytes × 2^[`BYTES_SHIFT`].
            pub bytes: Distribution,
            /// Measured handshakes (UDP: followed flows) by cell of their client.
            #[serde(with = "sparse::clients")]
            pub cell_attempts: ClientCells,
            /// … of them failed.
            #[serde(with = "sparse::clients")]
            pub cell_failures: ClientCells,
        }

        impl Default for Measured {
            fn default() -> Self {
                Self {
                    $($count: 0,)*
                    connect: Distribution::default(),
                    first_byte: Distribution::default(),
                    first_byte_censored: Distribution::default(),
                    bytes: Distribution::default(),
                    cell_attempts: vec![0; CLIENT_CELLS],
                    cell_failures: vec![0; CLIENT_CELLS],
                }
            }
        }

        impl Measured {
            /// Adds what another holds.
            pub fn add(&mut self, other: &Self) {
                $(self.$count += other.$count;)*
                self.each(other, |sum, more| *sum += more);
            }

            /// What was added since an earlier reading of the same counts; none where any of them fell.
            #[must_use]
            pub fn since(&self, earlier: &Self) -> Option<Self> {
                let mut grown = self.clone();
                $(grown.$count = self.$count.checked_sub(earlier.$count)?;)*
                let mut fell = false;
                grown.each(earlier, |now, before| {
                    fell |= *now < before;
                    *now = now.saturating_sub(before);
                });
                (!fell).then_some(grown)
            }
        }

        impl From<&Signals> for Measured {
            fn from(signals: &Signals) -> Self {
                let wide = |counts: &[u32]| counts.iter().map(|&count| u64::from(count)).collect();
                let distribution = |histogram: &Histogram| Distribution::from_cells(wide(&histogram.0));
                Self {
                    $($count: signals.$count,)*
                    connect: distribution(&signals.connect),
                    first_byte: distribution(&signals.first_byte),
                    first_byte_censored: distribution(&signals.first_byte_censored),
                    bytes: distribution(&signals.bytes),
                    cell_attempts: wide(&signals.cell_attempts.0),
                    cell_failures: wide(&signals.cell_failures.0),
                }
            }
        }
    };
}

measured! {
    /// Measured handshakes.
    attempts,
    /// … that a SYN-ACK answered.
    opened,
    /// … that a RST answered.
    refused,
    /// … that nothing answered within three seconds.
    timeouts,
    /// … whose SYN was repeated before any answer.
    syn_retransmits,
    /// SYNs that could not be measured; they are not judged.
    unmarked,
    /// Followed flows.
    flows,
    /// … of which nothing more is counted.
    ended,
    /// … that a RST of the client ended.
    reset_by_client,
    /// … that a RST of the backend ended.
    reset_by_backend,
    /// Segments of followed flows with payload.
    segments,
    /// … of them repeated.
    retransmits,
    /// Followed flows with a zero window.
    zero_window,
    /// Flows that were to be followed and found no place.
    lost,
    /// UDP: followed flows that nothing answered within three seconds, or an ICMP error.
    unanswered,
}

impl Measured {
    /// Handshakes whose end is known.
    #[must_use]
    pub const fn concluded(&self) -> u64 {
        self.opened + self.refused + self.timeouts
    }

    /// Bytes of payload of ended followed flows: the sum of the middles of their cells.
    #[must_use]
    pub fn payload_bytes(&self) -> f64 {
        self.bytes.sum() / f64::from(1_u32 << BYTES_SHIFT)
    }

    /// Combines all cells with another's.
    fn each(&mut self, other: &Self, mut with: impl FnMut(&mut u64, u64)) {
        let pairs = [
            (self.connect.cells_mut(), other.connect.cells()),
            (self.first_byte.cells_mut(), other.first_byte.cells()),
            (self.first_byte_censored.cells_mut(), other.first_byte_censored.cells()),
            (self.bytes.cells_mut(), other.bytes.cells()),
            (&mut self.cell_attempts[..], &other.cell_attempts[..]),
            (&mut self.cell_failures[..], &other.cell_failures[..]),
        ];
        for (own, others) in pairs {
            own.iter_mut().zip(others).for_each(|(own, other)| with(own, *other));
        }
    }
}
