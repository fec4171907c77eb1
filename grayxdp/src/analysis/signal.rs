//! What a signal says of a version over an interval.

use std::time::Duration;

use grayxdp_common::records::SAMPLE_ALL;

use crate::{
    analysis::{Measured, Quantile},
    model::plan::{KernelSignal, Signal},
};

/// A signal's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// In the signal's unit; none where nothing says anything about it.
    pub value: Option<Quantile>,
    /// Handshakes, flows or segments that it rests on.
    pub samples: u64,
}

/// The value of a signal over an interval of `length`, in which `sample_rate` of [`SAMPLE_ALL`] flows were followed.
#[must_use]
pub fn read(of: &KernelSignal, measured: &Measured, length: Duration, sample_rate: u16) -> Reading {
    let quantile = of.quantile.unwrap_or(0.5);
    match of.signal {
        Signal::ConnectFailureRatio if is_datagrams(measured) => ratio(measured.unanswered, measured.flows),
        Signal::ConnectFailureRatio => ratio(measured.refused + measured.timeouts, measured.concluded()),
        Signal::SynTimeoutRatio => ratio(measured.timeouts, measured.concluded()),
        Signal::ResetRatio => ratio(measured.reset_by_client + measured.reset_by_backend, measured.ended),
        Signal::RetransmitRatio => ratio(measured.retransmits, measured.segments),
        Signal::ZeroWindowRatio => ratio(measured.zero_window, measured.flows),
        Signal::Connect => {
            let value = measured.connect.quantile(quantile, &Default::default());
            Reading { value: value.map(seconds), samples: measured.connect.count() }
        }
        Signal::FirstByte => {
            let value = measured.first_byte.quantile(quantile, &measured.first_byte_censored);
            Reading {
                value: value.map(seconds),
                samples: measured.first_byte.count() + measured.first_byte_censored.count(),
            }
        }
        Signal::BytesPerFlow => {
            let value = (measured.ended > 0).then(|| Quantile::At(measured.payload_bytes() / measured.ended as f64));
            Reading { value, samples: measured.ended }
        }
        Signal::FlowsPerSecond => {
            let begun = if is_datagrams(measured) {
                measured.flows as f64 * f64::from(SAMPLE_ALL) / f64::from(sample_rate.max(1))
            } else {
                (measured.attempts + measured.unmarked) as f64
            };
            let value = (!length.is_zero()).then(|| Quantile::At(begun / length.as_secs_f64()));
            Reading { value, samples: begun as u64 }
        }
    }
}

/// Whether the flows have no handshakes.
const fn is_datagrams(measured: &Measured) -> bool {
    measured.attempts == 0 && measured.unmarked == 0 && measured.flows > 0
}

fn ratio(part: u64, whole: u64) -> Reading {
    let value = (whole > 0).then(|| Quantile::At((part as f64 / whole as f64).min(1.0)));
    Reading { value, samples: whole }
}

fn seconds(nanoseconds: Quantile) -> Quantile {
    match nanoseconds {
        Quantile::At(value) => Quantile::At(value / 1e9),
        Quantile::Above(value) => Quantile::Above(value / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Measured {
        let mut measured = Measured {
            attempts: 110,
            opened: 90,
            refused: 6,
            timeouts: 4,
            unmarked: 10,
            flows: 50,
            ended: 40,
            reset_by_client: 1,
            reset_by_backend: 3,
            segments: 1_000,
            retransmits: 20,
            zero_window: 5,
            ..Measured::default()
        };
        (0..90).for_each(|_| measured.connect.record(2_000_000));
        (0..30).for_each(|_| measured.first_byte.record(300_000_000));
        (0..10).for_each(|_| measured.first_byte_censored.record(500_000_000));
        (0..40).for_each(|_| measured.bytes.record(10_000 << 4));
        measured
    }

    #[test]
    fn each_signal_is_the_quotient_that_its_name_says() {
        let length = Duration::from_secs(10);
        let read = |signal, quantile| read(&KernelSignal { signal, quantile }, &measured(), length, SAMPLE_ALL);
        for (signal, quantile, expected, samples) in [
            (Signal::ConnectFailureRatio, None, 0.1, 100),
            (Signal::SynTimeoutRatio, None, 0.04, 100),
            (Signal::ResetRatio, None, 0.1, 40),
            (Signal::RetransmitRatio, None, 0.02, 1_000),
            (Signal::ZeroWindowRatio, None, 0.1, 50),
            (Signal::Connect, Some(0.9), 0.002, 90),
            (Signal::FirstByte, Some(0.5), 0.3, 40),
            (Signal::BytesPerFlow, None, 10_000.0, 40),
            (Signal::FlowsPerSecond, None, 12.0, 120),
        ] {
            let found = read(signal, quantile);
            let Some(Quantile::At(value)) = found.value else { panic!("{signal:?} is known") };
            assert!((value - expected).abs() <= expected * 0.126, "{signal:?}: {value}, not {expected}");
            assert_eq!(found.samples, samples, "{signal:?}");
        }
        assert!(
            matches!(read(Signal::FirstByte, Some(0.99)).value, Some(Quantile::Above(_))),
            "a quarter went out of sight"
        );
    }

    #[test]
    fn without_handshakes_unanswered_datagrams_are_the_failures() {
        let udp = Measured { flows: 64, unanswered: 16, ..Measured::default() };
        let read =
            |signal| read(&KernelSignal { signal, quantile: None }, &udp, Duration::from_secs(8), SAMPLE_ALL / 64);
        assert_eq!(read(Signal::ConnectFailureRatio), Reading { value: Some(Quantile::At(0.25)), samples: 64 });
        assert_eq!(read(Signal::FlowsPerSecond).value, Some(Quantile::At(512.0)), "one of 64 is followed");
        assert_eq!(read(Signal::Connect).value, None);
    }
}
