//! How many of the new flows are followed: as many as the sample table has room for.
//!
//! A place of the table is taken if it is free or lapsed, so a new sample finds none with the probability that the table is
//! full by. A sample stays to the end of its flow, at longest for the horizon. So the rate that keeps [`LOAD`] of the places live at
//! most, however long flows last, is
//!
//! ```text
//! rate = LOAD · places ÷ (horizon · new flows a second · services that share the table)
//! ```
//!
//! (Little's law: J. D. C. Little, Operations Research 9, 1961), at least one flow in 64, at most all. It is the same for all versions
//! and chosen when an epoch begins; in it nothing changes, also where traffic does.

use std::time::Duration;

use grayxdp_common::{records::SAMPLE_ALL, signals::FLOW_PLACES};

use crate::model::kernel::SAMPLE_RATE;

/// Part of the places that are live at most.
const LOAD: f64 = 0.25;

/// A rate stays for the next epoch while it is within this factor of what would be chosen: a lower one loses sight of flows that
/// began under the higher one.
const NEAR: f64 = 1.5;

/// Flows that are followed, of [`SAMPLE_ALL`], in an epoch that begins at `flows_per_second` new flows a second, none where nothing
/// is known of them. `services` measure at the same time; `before` is the rate of the epoch before.
#[must_use]
pub fn rate(flows_per_second: Option<f64>, horizon: Duration, services: usize, before: u16) -> u16 {
    let Some(flows) = flows_per_second.filter(|flows| flows.is_finite()) else { return before.max(SAMPLE_RATE) };
    let live = flows.max(0.0) * horizon.as_secs_f64() * services.max(1) as f64;
    let room = LOAD * f64::from(FLOW_PLACES);
    let part = if live > room { room / live } else { 1.0 };
    let fits = ((part * f64::from(SAMPLE_ALL)) as u16).clamp(SAMPLE_RATE, SAMPLE_ALL);
    let quotient = f64::from(before) / f64::from(fits);
    if before > SAMPLE_RATE && (NEAR.recip()..=NEAR).contains(&quotient) { before } else { fits }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn chosen(flows: f64) -> f64 {
        f64::from(rate(Some(flows), MINUTE, 1, SAMPLE_RATE)) / f64::from(SAMPLE_ALL)
    }

    #[test]
    fn a_quarter_of_the_table_is_what_flows_of_a_minute_fill() {
        // 16,384 ÷ 4 ÷ 60 s = 68.27 flows a second.
        assert!((chosen(200.0) - 68.27 / 200.0).abs() < 1e-4, "{}", chosen(200.0));
        assert!((chosen(1_000.0) - 0.068_27).abs() < 1e-4, "{}", chosen(1_000.0));
        assert_eq!((chosen(0.0), chosen(60.0)), (1.0, 1.0), "little traffic is followed as a whole");
        assert_eq!((chosen(1e6), chosen(f64::INFINITY)), (1.0 / 64.0, 1.0 / 64.0), "never less than one in 64");
        let of_two = rate(Some(200.0), MINUTE, 2, SAMPLE_RATE);
        assert!(of_two.abs_diff(rate(Some(400.0), MINUTE, 1, SAMPLE_RATE)) <= 1, "two services share the table");
        assert_eq!(rate(Some(200.0), MINUTE / 4, 1, SAMPLE_RATE), SAMPLE_ALL, "shorter horizons leave more room");
    }

    #[test]
    fn a_rate_stays_where_traffic_is_much_the_same_or_unknown() {
        let before = rate(Some(200.0), MINUTE, 1, SAMPLE_RATE);
        for flows in [150.0, 200.0, 280.0] {
            assert_eq!(rate(Some(flows), MINUTE, 1, before), before, "{flows} flows a second");
        }
        assert_eq!(rate(None, MINUTE, 1, before), before);
        assert!(rate(Some(400.0), MINUTE, 1, before) < before && rate(Some(100.0), MINUTE, 1, before) > before);
        assert_eq!(rate(None, MINUTE, 1, 0), SAMPLE_RATE);
    }

    proptest! {
        #[test]
        fn whatever_came_before_the_table_has_room(flows in 0.0..4_000.0_f64, before in any::<u16>()) {
            let rate = rate(Some(flows), MINUTE, 1, before);
            prop_assert!((SAMPLE_RATE..=SAMPLE_ALL).contains(&rate) || rate == before);
            let live = flows * 60.0 * f64::from(rate) / f64::from(SAMPLE_ALL);
            prop_assert!(live <= LOAD * NEAR * f64::from(FLOW_PLACES) + 1.0, "{live}");
        }
    }
}
