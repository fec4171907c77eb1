//! The programs before, beside and behind the load balancer in the lab: generator, redirect, sink, filter.

use std::{
    ffi::CString,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf, TestRun, TestRunAttrs, TestRunOptions,
    maps::{Array, PerCpuArray},
    programs::{Xdp, XdpMode},
};
use grayxdp::lab::Lab;

use crate::bench::{
    harness::{self, Feed},
    layout::{self, Setup, Target},
};

/// Frames that the generator makes at a time.
const BATCH: u32 = 64;

/// The benchmark's own programs at the ends of a lab.
pub struct Ends {
    ebpf: Ebpf,
}

impl Ends {
    /// Loads them.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn load() -> Result<Self> {
        let mut ebpf = Ebpf::load(harness::OBJECT).context("the benchmark's object could not be loaded")?;
        for name in ["send", "redirect", "sink", "filter"] {
            let program: &mut Xdp = ebpf.program_mut(name).context(name)?.try_into()?;
            program.load().context(name)?;
        }
        Ok(Self { ebpf })
    }

    /// Lets the first so many backends count TCP packets, and drop all.
    ///
    /// # Errors
    /// A backend has another program.
    pub fn attach_sinks(&mut self, lab: &Lab, backends: usize) -> Result<()> {
        self.attach_to_backends("sink", lab, backends)
    }

    /// Lets the first so many backends count and drop what comes from [`layout::FLOOD`]; all else passes.
    ///
    /// # Errors
    /// A backend has another program.
    pub fn attach_filters(&mut self, lab: &Lab, backends: usize) -> Result<()> {
        self.attach_to_backends("filter", lab, backends)
    }

    fn attach_to_backends(&mut self, name: &str, lab: &Lab, backends: usize) -> Result<()> {
        let program: &mut Xdp = self.ebpf.program_mut(name).with_context(|| name.to_owned())?.try_into()?;
        for backend in 0..backends {
            lab.backend(backend).run(|| program.attach(lab.far_interface(), XdpMode::Driver).map(drop))?;
        }
        Ok(())
    }

    /// Sends all that comes from the client to the first backend.
    ///
    /// # Errors
    /// The load balancer has another program.
    pub fn attach_redirect(&mut self, lab: &Lab) -> Result<()> {
        let interfaces = lab.interfaces();
        let mut egress: Array<_, u32> = self.ebpf.map_mut(layout::EGRESS).context(layout::EGRESS)?.try_into()?;
        egress.set(0, lab.balancer().run(|| index_of(&interfaces[1]))?, 0)?;
        let program: &mut Xdp = self.ebpf.program_mut("redirect").context("redirect")?.try_into()?;
        lab.balancer().run(|| program.attach(&interfaces[0], XdpMode::Driver).map(drop))?;
        Ok(())
    }

    /// Says what the generator sends.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn feed(&mut self, feed: &Feed) -> Result<()> {
        let mut targets: Array<_, Target> = self.ebpf.map_mut(layout::TARGETS).context(layout::TARGETS)?.try_into()?;
        targets.set(0, feed.targets[0], 0)?;
        let mut setup: Array<_, Setup> = self.ebpf.map_mut(layout::SETUP).context(layout::SETUP)?.try_into()?;
        Ok(setup.set(0, feed.setup, 0)?)
    }

    /// Sends packets from the client, and how long that took.
    ///
    /// # Errors
    /// The kernel has no live frames.
    pub fn send(&self, lab: &Lab, feed: &Feed, packets: u32) -> Result<Duration> {
        lab.client().run(|| self.send_here(lab.far_interface(), feed, packets))
    }

    /// The same on a thread that is in the client's namespace already.
    ///
    /// # Errors
    /// The kernel has no live frames, or there is no such interface.
    pub fn send_here(&self, interface: &str, feed: &Feed, packets: u32) -> Result<Duration> {
        let program: &Xdp = self.ebpf.program("send").context("send")?.try_into()?;
        let context = harness::context(u32::try_from(feed.frame.len())?, index_of(interface)?);
        let options = TestRunOptions {
            data_in: Some(&feed.frame),
            ctx_in: Some(&context),
            repeat: packets,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::default()
        };
        let start = Instant::now();
        program.test_run(options).context("the kernel refused to send live frames")?;
        Ok(start.elapsed())
    }

    /// Packets that sinks and filters have dropped.
    ///
    /// # Errors
    /// The count cannot be read.
    pub fn sunk(&self) -> Result<u64> {
        let counter: PerCpuArray<_, u64> = self.ebpf.map(layout::SUNK).context(layout::SUNK)?.try_into()?;
        Ok(counter.get(&0, 0)?.iter().sum())
    }
}

fn index_of(interface: &str) -> Result<u32> {
    let name = CString::new(interface)?;
    // SAFETY: the name is a C string that lives through the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    ensure!(index != 0, "there is no interface {interface}");
    Ok(index)
}
