//! The rules of the exception scheme: no history goes wrong, each rule that is left out makes one go wrong, and the program
//! in the kernel does as the model says.

mod model;
mod program;

use std::ops::Range;

/// The histories of a run: so many, or the one that `GRAYXDP_HISTORY` names, to look at it again.
fn seeds(count: u64) -> Range<u64> {
    match std::env::var("GRAYXDP_HISTORY") {
        Ok(number) => {
            let seed: u64 = number.parse().expect("GRAYXDP_HISTORY is the number of a history");
            seed..seed + 1
        }
        Err(_) => 0..count,
    }
}
