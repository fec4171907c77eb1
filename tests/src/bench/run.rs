//! A whole benchmark: rounds of all cases interleaved, so that what slows the machine down for a while slows all.

use anyhow::Result;

use crate::bench::{
    case::{Baseline, Case},
    harness::{Harness, Slot},
    report::{Row, median},
};

/// How long to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Rounds; the median of them is the figure.
    pub rounds: usize,
    /// Timed packets of a case in one round.
    pub runs: u32,
}

/// Measures all cases. The first must be the yardstick with TCP, the second with UDP.
///
/// # Errors
/// If a program did something else than its case is about.
///
/// # Panics
/// If there are fewer than two cases or no round.
pub fn measure(harness: &mut Harness, cases: &[Case], effort: Effort) -> Result<Vec<Row>> {
    let mut nets_ns = vec![Vec::with_capacity(effort.rounds); cases.len()];
    for _ in 0..effort.rounds {
        for (case, nets_ns) in cases.iter().zip(&mut nets_ns) {
            nets_ns.push(net_ns(harness, case, effort.runs)?);
        }
    }
    let (tcp_ns, udp_ns) = (median(&nets_ns[0]), median(&nets_ns[1]));
    let ipv6 = cases.iter().position(|case| case.slot == Slot::YARDSTICK6);
    let ipv6_ns = ipv6.map_or(f64::NAN, |index| median(&nets_ns[index]));
    let row = |(case, nets_ns): (&Case, &Vec<f64>)| {
        let baseline_ns = match case.baseline {
            Baseline::Tcp => tcp_ns,
            Baseline::Udp => udp_ns,
            Baseline::Ipv6 => ipv6_ns,
        };
        Row::new(case.path, case.feed.setup.flows, nets_ns, baseline_ns, case.mark)
    };
    Ok(cases.iter().zip(&nets_ns).map(row).collect())
}

/// Cost of one packet of a case in one round: with the program, less with `XDP_PASS`.
fn net_ns(harness: &mut Harness, case: &Case, runs: u32) -> Result<f64> {
    let runs = case.runs.unwrap_or(runs);
    let nothing = || Ok(());
    let floor = harness.run(&case.host, Slot::PASS, &case.feed, runs, &nothing)?;
    let count = |harness: &Harness| case.counter.as_ref().map_or(Ok(0), |counter| counter(harness));
    let before = count(harness)?;
    let run = harness.run(&case.host, case.slot, &case.feed, runs, case.prepare.as_deref().unwrap_or(&nothing))?;
    case.check(&run, count(harness)? - before)?;
    Ok(run.gross_ns - floor.gross_ns)
}
