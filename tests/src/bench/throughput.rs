//! Packets a second between namespaces: from a client through the load balancer's namespace into the backends, counted
//! where they end. All of it runs on one core, the generator included, so a figure is the cost of the whole way.
//!
//! The generator is `BPF_PROG_TEST_RUN` with live frames: a program writes each packet's headers anew and sends it out
//! of the client's interface.

use std::{net::SocketAddrV4, sync::Arc, thread, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use grayxdp::{
    datapath::{Capacity, ClockSource, Datapath, Settings},
    lab::Lab,
    model::{
        config::{Affinity, AttachMode, Interface, Protocol},
        kernel::{
            BackendId, Kernel as _, ServiceId, VersionId, Wanted, WantedBackend, WantedBuckets, WantedService,
            WantedVersion,
        },
    },
};
use grayxdp_common::SLOTS;

use crate::{
    bench::{
        ends::Ends,
        figure::{Figure, Mark},
        frames::{Client, Flows, feed},
        worlds,
    },
    packet::{Flags, Packet},
    subject::KEY,
};

/// Flows of a measurement.
const FLOWS: Flows = Flows { count: 4_096, hold: 1, port_bits: 9, address_bits: 0 };
/// Port of the virtual service.
const VIP_PORT: u16 = 80;
/// Port of the backends.
const PORT: u16 = 8_080;
/// Two versions of one backend each.
const BACKENDS: u16 = 2;
/// Packets sent before the timed ones.
const WARM_UP: u32 = 100_000;
/// Time in which packets still under way arrive.
const ARRIVAL: Duration = Duration::from_millis(50);

/// The part of all packets that must arrive. All works on one core, so packets are lost only where another program takes
/// it in between and the sender goes on before the forwarder does.
const LEAST: f64 = 0.95;
/// How often a measurement in which more were lost is done again.
const ATTEMPTS: usize = 8;

/// What forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The program under test, `nat`, at 90:10.
    Grayxdp,
    /// Destination NAT of the kernel, at 90:10.
    Nftables,
    /// The kernel without any NAT: packets are for a backend already.
    Forwarding,
    /// `bpf_redirect` and nothing else.
    Redirect,
}

/// Where packets end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sink {
    /// In the backend's kernel, as socket buffers.
    SocketBuffer,
    /// In a program that drops them.
    Xdp,
}

struct Case {
    path: &'static str,
    way: Way,
    sink: Sink,
    /// Timed packets.
    packets: u32,
}

#[rustfmt::skip]
const CASES: [Case; 5] = [
    Case { path: "nat at 90:10, into socket buffers", way: Way::Grayxdp, sink: Sink::SocketBuffer, packets: 2_000_000 },
    Case { path: "nftables DNAT at 90:10, into socket buffers", way: Way::Nftables, sink: Sink::SocketBuffer, packets: 1_000_000 },
    Case { path: "kernel forwarding, into socket buffers", way: Way::Forwarding, sink: Sink::SocketBuffer, packets: 1_000_000 },
    Case { path: "nat at 90:10, into XDP sinks", way: Way::Grayxdp, sink: Sink::Xdp, packets: 10_000_000 },
    Case { path: "plain redirect, into an XDP sink", way: Way::Redirect, sink: Sink::Xdp, packets: 10_000_000 },
];

/// What is compared: cases by index, and the least ratio.
const RATIOS: [(&str, usize, usize, f64); 2] = [
    ("nat ÷ nftables DNAT, both at 90:10, into socket buffers", 0, 1, 2.0),
    ("nat ÷ plain redirect, into an XDP sink", 3, 4, 0.8),
];

/// Measures all cases in turn, `rounds` times, each in namespaces made anew.
///
/// # Errors
/// No rights, no `nft`, or packets that do not arrive.
pub fn figures(rounds: usize) -> Result<Vec<Figure>> {
    ensure!(rounds > 0, "a median needs a round");
    let mut runs: [Vec<f64>; CASES.len()] = Default::default();
    for _ in 0..rounds {
        for (case, runs) in CASES.iter().zip(&mut runs) {
            runs.push(measure_undisturbed(case).with_context(|| case.path)?);
        }
    }
    let rates = CASES.iter().zip(&runs).map(|(case, mpps)| Figure::median(case.path, mpps, "Mpps"));
    let ratios = RATIOS.iter().map(|(path, case, other, least)| {
        let ratios: Vec<_> = runs[*case].iter().zip(&runs[*other]).map(|(one, other)| one / other).collect();
        Figure::median(*path, &ratios, "×").with_mark(Mark::AtLeast(*least))
    });
    Ok(rates.chain(ratios).collect())
}

/// Packets a second at the sink, in millions.
fn measure_undisturbed(case: &Case) -> Result<f64> {
    for _ in 0..ATTEMPTS {
        let (mpps, arrived) = measure(case)?;
        if arrived >= LEAST {
            return Ok(mpps);
        }
    }
    bail!("packets were lost {ATTEMPTS} times in a row: measure again when this machine does nothing else")
}

/// The same, and the part of all packets that arrived.
fn measure(case: &Case) -> Result<(f64, f64)> {
    let mut lab = Lab::builder().backends(usize::from(BACKENDS)).build()?;
    lab.ping()?;
    lab.clear_backends();
    let mut ends = Ends::load()?;
    match case.sink {
        Sink::SocketBuffer => sink_socket_buffers(&lab)?,
        Sink::Xdp => ends.attach_sinks(&lab, BACKENDS.into())?,
    }
    let _datapath = match case.way {
        Way::Grayxdp => Some(attached(&lab)?),
        Way::Nftables => {
            nftables(&lab)?;
            None
        }
        Way::Forwarding => {
            receive_frames(&lab)?;
            None
        }
        Way::Redirect => {
            ends.attach_redirect(&lab)?;
            None
        }
    };
    let target = match case.way {
        Way::Grayxdp | Way::Nftables | Way::Redirect => SocketAddrV4::new(lab.vip(), VIP_PORT),
        Way::Forwarding => SocketAddrV4::new(lab.backend_address(0), PORT),
    };
    let packet = Packet::tcp(SocketAddrV4::new(lab.sources().at(0), 32_768), target, Flags::ACK);
    let packet = Packet { macs: (lab.client_mac(), lab.balancer_mac()), ..packet };
    let count = |ends: &Ends| match case.sink {
        Sink::SocketBuffer => socket_buffers(&lab),
        Sink::Xdp => ends.sunk(),
    };
    let feed = feed(&packet, Client::Source, FLOWS, &[target]);
    ends.feed(&feed)?;
    ends.send(&lab, &feed, WARM_UP)?;
    thread::sleep(ARRIVAL);
    let before = count(&ends)?;
    let time = ends.send(&lab, &feed, case.packets)?;
    thread::sleep(ARRIVAL);
    let arrived = (count(&ends)? - before) as f64;
    Ok((arrived / time.as_secs_f64() / 1e6, arrived / f64::from(case.packets)))
}

/// Counts and drops what reaches a backend's kernel with the address and port that a rewrite gives it.
fn sink_socket_buffers(lab: &Lab) -> Result<()> {
    for backend in 0..usize::from(BACKENDS) {
        let rules = format!(
            "table ip sink {{ chain in {{ type filter hook prerouting priority -400; \
             ip daddr {} tcp dport {PORT} counter drop; }}; }}",
            lab.backend_address(backend)
        );
        lab.backend(backend).output("nft", [&rules])?;
    }
    Ok(())
}

/// Packets that the backends' kernels counted.
fn socket_buffers(lab: &Lab) -> Result<u64> {
    let counted = (0..usize::from(BACKENDS)).map(|backend| -> Result<u64> {
        let rules = lab.backend(backend).output("nft", ["list", "ruleset"])?;
        let number = rules.split("counter packets ").nth(1).and_then(|rest| rest.split(' ').next());
        Ok(number.context("the sink has no counter")?.parse()?)
    });
    counted.sum()
}

/// The program under test on the load balancer.
fn attached(lab: &Lab) -> Result<Datapath> {
    let version = |number: u16| {
        let address = lab.backend_address(usize::from(number) - 1);
        let backend = WantedBackend::up(BackendId(number), address, PORT);
        let slots = Arc::from(vec![backend.id; SLOTS]);
        WantedVersion::settled(VersionId(number), number as u8 - 1, vec![backend], slots)
    };
    let service = WantedService {
        id: ServiceId(1),
        vip: lab.vip().into(),
        ports: vec![VIP_PORT],
        protocol: Protocol::Tcp,
        affinity: Affinity::Flow,
        versions: (1..=BACKENDS).map(version).collect(),
        buckets: WantedBuckets::Split(worlds::TENTH),
        ..WantedService::default()
    };
    let wanted = Wanted { services: vec![service], direct_access: Vec::new() };
    let interface = |name: String| Interface { name, mode: AttachMode::Native };
    let settings = Settings {
        pin_dir: "/sys/fs/bpf/grayxdp".into(),
        interfaces: lab.interfaces().into_iter().map(interface).collect(),
        hash_key: KEY,
        capacity: Capacity::of(&wanted).with_room(),
        clock: ClockSource::Monotonic,
    };
    lab.balancer().run(|| {
        let mut datapath = Datapath::open(settings)?;
        datapath.publish(&wanted)?;
        datapath.attach()?;
        Ok(datapath)
    })
}

/// The same split by nftables. Its connection tracking is told not to mind that no connection was ever opened.
///
/// # Errors
/// There is no `nft`, or it refuses the rules.
pub fn nftables(lab: &Lab) -> Result<()> {
    let ends = (0..10).map(|part| format!("{part} : {} . {PORT}", lab.backend_address(usize::from(part == 9))));
    let rules = format!(
        "table ip nat {{ chain pre {{ type nat hook prerouting priority dstnat; ip daddr {} meta l4proto tcp \
         th dport {VIP_PORT} dnat to jhash ip saddr . th sport mod 10 map {{ {} }}; }}; }}",
        lab.vip(),
        ends.collect::<Vec<_>>().join(", ")
    );
    lab.balancer().output("nft", [&rules])?;
    lab.balancer().sysctl("net/netfilter/nf_conntrack_tcp_be_liberal", "1")?;
    receive_frames(lab)
}

/// Lets the load balancer's kernel take frames from the generator where no program of its own does.
fn receive_frames(lab: &Lab) -> Result<()> {
    lab.balancer().output("ethtool", ["-K", &lab.interfaces()[0], "gro", "on"])?;
    Ok(())
}
