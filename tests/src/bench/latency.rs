//! What memory costs here: one read that waits for the one before it, in tables of several sizes. Where a packet's entry lies in
//! no cache, no program is faster than this.

use std::{hint::black_box, time::Instant};

use crate::bench::figure::Figure;

/// Bytes of a cache line.
const LINE: usize = 64;
/// Sizes of the tables in MiB: of exceptions and marks for 65,536 flows, both, and of exceptions for a million.
const SIZES: [usize; 4] = [1, 2, 4, 32];
/// Timed reads in a round.
const READS: usize = 500_000;
/// Rounds.
const ROUNDS: usize = 5;

/// Nanoseconds of one read in each size.
#[must_use]
pub fn figures() -> Vec<Figure> {
    SIZES.iter().map(|&size| figure(size)).collect()
}

fn figure(mebibytes: usize) -> Figure {
    let chain = chain((mebibytes << 20) / LINE);
    let mut at = 0;
    let mut walk = |reads: usize| {
        let began = Instant::now();
        for _ in 0..reads {
            at = chain[at * (LINE / size_of::<usize>())];
        }
        black_box(at);
        began.elapsed().as_nanos() as f64 / reads as f64
    };
    walk(READS);
    let rounds: Vec<f64> = (0..ROUNDS).map(|_| walk(READS)).collect();
    Figure::median(format!("memory: one dependent read in {mebibytes} MiB"), &rounds, "ns")
}

/// One cycle through all lines, each naming the next, in an order that no prefetcher guesses (Sattolo's shuffle).
fn chain(lines: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lines).collect();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for last in (1..lines).rev() {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(last, (random >> 33) as usize % last);
    }
    let mut chain = vec![0; lines * (LINE / size_of::<usize>())];
    order.iter().enumerate().for_each(|(line, next)| chain[line * (LINE / size_of::<usize>())] = *next);
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_leads_through_every_line() {
        let (lines, mut at, mut steps) = (1_000, 0, 0);
        let chain = chain(lines);
        loop {
            at = chain[at * (LINE / size_of::<usize>())];
            steps += 1;
            if at == 0 {
                break;
            }
        }
        assert_eq!(steps, lines);
    }
}
