//! How a history begins.

use crate::{
    random::Random,
    rules::{Setup, cell::Waits},
};

/// Class of the source prefixes that a canary instance takes.
pub(super) const INSTANCE_CLASS: usize = 2;
/// Segment of the canary instance.
pub(super) const INSTANCE_SEGMENT: usize = 3;

/// Draws one: TCP or UDP, two to four versions, with and without segments, tables large, small and full.
pub(super) fn draw(random: &mut Random) -> Setup {
    let udp = random.chance(0.2);
    let versions = random.pick(&[2, 2, 3, 4]);
    let segmented = random.chance(0.5);
    Setup {
        udp,
        backends: (0..versions).map(|_| random.pick(&[1, 2, 3])).collect(),
        classes: if segmented { classes(random, udp) } else { vec![[[0; 2]; 2]] },
        prefixes: if segmented { (0..4).map(|_| random.below(2)).collect() } else { Vec::new() },
        cells: (32, 17),
        waits: Waits { idle_ms: 60_000, settle_after_ms: 20_000, window_ms: 30_000, learns: udp },
        closing_ms: 15_000,
        failover: random.chance(0.7),
        capacity: random.pick(&[100_000, 100_000, 60, 25]),
        refusals: random.pick(&[0.0, 0.0, 0.05, 0.5]),
    }
}

/// Which segment classes, port classes and the DSCP lead to; for UDP the DSCP counts for nothing.
fn classes(random: &mut Random, udp: bool) -> Vec<[[usize; 2]; 2]> {
    let by_dscp = random.chance(0.5) && !udp;
    let mut class = || {
        [0; 2].map(|_| {
            let plain = random.below(3);
            [plain, if by_dscp { random.below(3) } else { plain }]
        })
    };
    vec![class(), class(), [[INSTANCE_SEGMENT; 2]; 2]]
}
