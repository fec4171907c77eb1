//! Cost of a packet against size: services, backends, source prefixes, flows.

use anyhow::Result;
use grayxdp::model::config::Protocol;
use serde::Serialize;

use crate::{
    bench::{
        case::Case,
        cases::{self, CLIENT},
        frames::{Client, Flows, feed},
        harness::Harness,
        report::Row,
        run::{self, Effort},
        unsettled,
        worlds::{self, World},
    },
    packet::{Flags, Packet},
};

/// Several lines over one axis.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curves {
    /// What the axis counts: `services`.
    pub against: &'static str,
    /// The lines.
    pub lines: Vec<Line>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// The path of the packet.
    pub path: String,
    /// Size and figure.
    pub points: Vec<(u64, Row)>,
}

/// Measures all curves.
///
/// # Errors
/// If a host cannot be made, the kernel refuses the program, or a packet went another way than intended.
pub fn all(effort: Effort) -> Result<Vec<Curves>> {
    [services, backends, prefixes, flows].iter().map(|curve| curve(effort)).collect()
}

/// Cases of one curve, each with its size.
type Sized = Vec<(u64, Case)>;

fn measure(
    against: &'static str,
    harness: &mut Harness,
    world: &World,
    cases: Sized,
    effort: Effort,
) -> Result<Curves> {
    let (sizes, cases): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    let baselines = cases::baselines(&world.host);
    let skipped = baselines.len();
    let cases: Vec<Case> = baselines.into_iter().chain(cases).collect();
    let rows = run::measure(harness, &cases, effort)?;
    let mut lines: Vec<Line> = Vec::new();
    for (size, row) in sizes.into_iter().zip(rows.into_iter().skip(skipped)) {
        match lines.iter_mut().find(|line| line.path == row.path) {
            Some(line) => line.points.push((size, row)),
            None => lines.push(Line { path: row.path.clone(), points: vec![(size, row)] }),
        }
    }
    Ok(Curves { against, lines })
}

/// A million flows over some services, half of them by 90:10.
fn services(effort: Effort) -> Result<Curves> {
    let mut harness = Harness::new(&cases::nat())?;
    let (mut sized, mut first) = (Sized::new(), None);
    for count in [1_u16, 4, 16, 64, 256, 1_024] {
        for (path, split) in [("all at rest", worlds::AT_REST), ("all at 90:10", worlds::TENTH)] {
            let world = World::services(&mut harness, count, split)?;
            let targets: Vec<_> = (0..count).map(worlds::virtual_endpoint).collect();
            let packet = Packet::tcp(CLIENT, targets[0], Flags::ACK);
            let case = unsettled::case(&world, path, Flags::ACK, Flows::MILLION, f64::MAX);
            let feed = feed(&packet, Client::Source, Flows::MILLION, &targets);
            sized.push((u64::from(count), Case { feed, mark: None, ..case }));
            first.get_or_insert(world);
        }
    }
    let world = first.expect("there are sizes");
    measure("services", &mut harness, &world, sized, effort)
}

/// A million flows over one service whose two versions have half of the backends each.
fn backends(effort: Effort) -> Result<Curves> {
    let mut harness = Harness::new(&cases::nat())?;
    let (mut sized, mut first) = (Sized::new(), None);
    for count in [2_u16, 10, 100, 1_000, 10_000] {
        let service = worlds::service_of(0, 0, Protocol::Tcp, count / 2);
        let world = World::of_size(&mut harness, vec![service], |capacity| capacity)?;
        for (path, flags, flows) in
            [("established", Flags::ACK, Flows::MILLION), ("SYN of a new flow", Flags::SYN, Flows::NEW)]
        {
            let case = unsettled::case(&world, path, flags, flows, f64::MAX);
            sized.push((u64::from(count), Case { mark: None, ..case }));
        }
        first.get_or_insert(world);
    }
    let world = first.expect("there are sizes");
    measure("backends", &mut harness, &world, sized, effort)
}

/// New flows of a service with segments by source.
fn prefixes(effort: Effort) -> Result<Curves> {
    let mut harness = Harness::new(&cases::nat())?;
    let (mut sized, mut first) = (Sized::new(), None);
    for count in [1_u32, 10, 100, 1_000, 10_000] {
        for (path, flags, flows, differ) in [
            ("SYN, buckets do not differ", Flags::SYN, Flows::NEW, false),
            ("established, buckets differ", Flags::ACK, Flows::MILLION, true),
        ] {
            let world = World::of_size(&mut harness, vec![unsettled::segments(count, differ)], |capacity| capacity)?;
            let case = unsettled::case(&world, path, flags, flows, f64::MAX);
            sized.push((u64::from(count), Case { mark: None, ..case }));
            first.get_or_insert(world);
        }
    }
    let world = first.expect("there are sizes");
    measure("source prefixes", &mut harness, &world, sized, effort)
}

/// Flows that are settled, and flows with an entry in a table that is half full of them.
fn flows(effort: Effort) -> Result<Curves> {
    let mut harness = Harness::new(&cases::nat())?;
    let settled = World::of_size(&mut harness, vec![worlds::service(0, 0, Protocol::Tcp)], |capacity| capacity)?;
    let mut sized = Sized::new();
    for count in [1_u64, 1 << 10, 1 << 13, 1 << 16, 1 << 18, 1 << 20, 4_000_000] {
        let flows = Flows { count, hold: if count <= 1 << 10 { 977 } else { 1 }, ..Flows::ONE };
        let case = unsettled::case(&settled, "established, settled", Flags::ACK, flows, f64::MAX);
        sized.push((count, Case { mark: None, ..case }));
        let sets_log2 = count.next_power_of_two().ilog2().saturating_sub(1).max(4);
        let world = World::of_size(&mut harness, vec![unsettled::unsettled()], |capacity| {
            grayxdp::datapath::Capacity { exception_sets_log2: sets_log2, ..capacity }
        })?;
        let case = unsettled::with_entries(&world, flows, f64::MAX, sets_log2);
        sized.push((count, Case { mark: None, ..case }));
    }
    measure("flows", &mut harness, &settled, sized, effort)
}

/// The curves as tables.
#[must_use]
pub fn table(curves: &[Curves]) -> String {
    let line = |against: &str, line: &Line| {
        let points = line.points.iter().map(|(size, row)| format!("{size}: {:.2} ± {:.2}", row.ratio, row.spread()));
        format!("{against}: {}\n    {}\n", line.path, points.collect::<Vec<_>>().join("\n    "))
    };
    curves.iter().flat_map(|curves| curves.lines.iter().map(|one| line(curves.against, one))).collect()
}
