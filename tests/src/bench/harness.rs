//! Runs programs in the kernel and takes the time: each behind a wrapper that gives it a fresh packet every time.
//!
//! `BPF_PROG_TEST_RUN` does not restore the packet between repeats, so a program that rewrites would see its own
//! output. The wrapper restores length and headers, steps to the next flow, and tail-calls the program. Net cost is
//! wrapper and program less wrapper and `XDP_PASS`, both with the same packets.

use std::{
    mem,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result, bail, ensure};
use aya::{
    Ebpf, TestRun, TestRunOptions,
    maps::{Array, HashMap, PerCpuArray, ProgramArray},
    programs::{ProgramError, ProgramFd, Xdp},
};

use grayxdp::lab::Namespace;

use crate::{
    bench::{
        case::verdict,
        layout::{self, NatBackend, NatBackend6, NatKey, NatKey6, Setup, Target},
    },
    host::{NEAR, own_mac},
};

// SAFETY: plain numbers; the fields fill the size (asserted below), so there is no padding.
unsafe impl aya::Pod for Setup {}
// SAFETY: as above.
unsafe impl aya::Pod for Target {}
// SAFETY: as above.
unsafe impl aya::Pod for NatKey {}
// SAFETY: as above.
unsafe impl aya::Pod for NatBackend {}
// SAFETY: as above.
unsafe impl aya::Pod for NatKey6 {}
// SAFETY: as above.
unsafe impl aya::Pod for NatBackend6 {}
const _: () = assert!(mem::size_of::<Setup>() == 192 && mem::size_of::<Target>() == 16);
const _: () = assert!(mem::size_of::<NatKey>() == 8 && mem::size_of::<NatBackend>() == 20);

/// The benchmark's object file.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("GRAYXDP_BENCH_OBJECT"));

/// Runs before the timed ones of a measurement.
const WARM_UP_RUNS: u32 = 100_000;

/// A slot of the wrappers' program array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u32);

impl Slot {
    /// Does nothing: the floor.
    pub const PASS: Self = Self(0);
    /// Sends the packet back with its Ethernet addresses swapped.
    pub const SWAP: Self = Self(1);
    /// One-lookup NAT.
    pub const YARDSTICK: Self = Self(2);
    /// One-lookup NAT of IPv6.
    pub const YARDSTICK6: Self = Self(3);
}

/// What the wrapper gives to a program.
#[derive(Clone, Debug)]
pub struct Feed {
    /// The frame; its headers and how they vary are in `setup`.
    pub frame: Vec<u8>,
    /// Headers and flows.
    pub setup: Setup,
    /// What flows are for, by the low bits of their number.
    pub targets: Vec<Target>,
}

/// Puts tables into the state that a measurement begins with, after the warm-up.
pub type Prepare<'a> = &'a (dyn Fn() -> Result<()> + Sync);

/// What came out of one measurement.
#[derive(Clone, Debug)]
pub struct Run {
    /// Thread CPU time of one packet, wrapper included.
    pub gross_ns: f64,
    /// The program's verdict about the last packet.
    pub verdict: u32,
    /// The last packet as the program left it.
    pub output: Vec<u8>,
    /// The last packet as the program got it.
    pub input: Vec<u8>,
    /// All packets, those of the warm-up included.
    pub packets: u64,
}

/// The wrappers and the programs behind them.
pub struct Harness {
    ebpf: Ebpf,
    slots: u32,
}

impl Harness {
    /// Loads the benchmark's own programs; the yardstick knows `nat`.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn new(nat: &[(NatKey, NatBackend)]) -> Result<Self> {
        let mut ebpf = Ebpf::load(OBJECT).context("the benchmark's object could not be loaded")?;
        for (_, program) in ebpf.programs_mut() {
            <&mut Xdp>::try_from(program)?.load().context("a program of the benchmark was refused")?;
        }
        let mut harness = Self { ebpf, slots: 0 };
        for name in ["pass", "swap", "yardstick", "yardstick6"] {
            let program: &Xdp = harness.ebpf.program(name).context(name)?.try_into()?;
            let program = program.fd()?.try_clone()?;
            harness.add(&program)?;
        }
        let mut map: HashMap<_, NatKey, NatBackend> =
            harness.ebpf.map_mut(layout::NAT).context(layout::NAT)?.try_into()?;
        for (key, backend) in nat {
            map.insert(key, backend, 0)?;
        }
        Ok(harness)
    }

    /// Tells the IPv6 yardstick what it is to know.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn teach_ipv6(&mut self, key: NatKey6, backend: NatBackend6) -> Result<()> {
        let mut map: HashMap<_, NatKey6, NatBackend6> =
            self.ebpf.map_mut(layout::NAT6).context(layout::NAT6)?.try_into()?;
        Ok(map.insert(key, backend, 0)?)
    }

    /// Puts a program behind a wrapper of its own.
    ///
    /// # Errors
    /// If there is no slot left, or the kernel finds the program unfit to be called from a wrapper.
    pub fn add(&mut self, program: &ProgramFd) -> Result<Slot> {
        ensure!(self.slots < layout::SLOTS, "all {} slots of the program array are taken", layout::SLOTS);
        let mut programs: ProgramArray<_> =
            self.ebpf.map_mut(layout::PROGRAMS).context(layout::PROGRAMS)?.try_into()?;
        programs.set(self.slots, program, 0).context("a program could not be put into the program array")?;
        self.slots += 1;
        Ok(Slot(self.slots - 1))
    }

    /// Packets that the yardstick forwarded so far.
    ///
    /// # Errors
    /// If its counter cannot be read.
    pub fn yardstick_packets(&self) -> Result<u64> {
        let counters: PerCpuArray<_, u64> =
            self.ebpf.map(layout::NAT_PACKETS).context(layout::NAT_PACKETS)?.try_into()?;
        Ok(counters.get(&0, 0)?.iter().sum())
    }

    /// Runs the program in a slot after a warm-up and takes the time of `runs` packets that come in at `host`.
    ///
    /// # Errors
    /// If the kernel refuses, or a call fell through.
    pub fn run(&mut self, host: &Namespace, slot: Slot, feed: &Feed, runs: u32, prepare: Prepare<'_>) -> Result<Run> {
        host.run(|| self.run_here(slot, feed, runs, prepare))
    }

    fn run_here(&mut self, slot: Slot, feed: &Feed, runs: u32, prepare: Prepare<'_>) -> Result<Run> {
        self.write(feed)?;
        self.call(slot, feed, WARM_UP_RUNS)?;
        prepare()?;
        let start_ns = thread_cpu_time_ns();
        let (verdict, output) = self.call(slot, feed, runs)?;
        let gross_ns = (thread_cpu_time_ns() - start_ns) as f64 / f64::from(runs);
        let setup: Array<_, Setup> = self.ebpf.map(layout::SETUP).context(layout::SETUP)?.try_into()?;
        let after = setup.get(&0, 0)?;
        ensure!(after.fell_through == 0, "{} tail calls of slot {} fell through", after.fell_through, slot.0);
        let packets = u64::from(WARM_UP_RUNS) + u64::from(runs);
        let input = feed.input_of(after.flow);
        Ok(Run { gross_ns, verdict, output, input, packets })
    }

    /// Writes what the wrapper is to give.
    fn write(&mut self, feed: &Feed) -> Result<()> {
        let mut targets: Array<_, Target> = self.ebpf.map_mut(layout::TARGETS).context(layout::TARGETS)?.try_into()?;
        for (index, target) in feed.targets.iter().enumerate() {
            targets.set(u32::try_from(index)?, target, 0)?;
        }
        let mut setup: Array<_, Setup> = self.ebpf.map_mut(layout::SETUP).context(layout::SETUP)?.try_into()?;
        setup.set(0, feed.setup, 0).context("the wrapper's setup could not be written")
    }

    /// Runs a wrapper `runs` times; the verdict and bytes of the last packet.
    fn call(&mut self, slot: Slot, feed: &Feed, runs: u32) -> Result<(u32, Vec<u8>)> {
        let name = format!("wrapper_{}", slot.0);
        let wrapper: &Xdp = self.ebpf.program(&name).context(name)?.try_into()?;
        let mut output = vec![0; feed.frame.len() + 64];
        let result = test_run(wrapper, &feed.frame, NEAR, &mut output, runs)?;
        output.truncate(result.1);
        Ok((result.0, output))
    }
}

/// Whether this kernel lets a test run say where a packet comes in (Linux 5.15).
static TAKES_CONTEXT: AtomicBool = AtomicBool::new(true);

/// Runs an XDP program on a frame that seems to come in by an interface: verdict and length of the output.
///
/// Older kernels let it come in by the loopback. What leaves by the interface is then redirected there: that is told by its source
/// address, and taken for the `XDP_TX` that it would be.
///
/// # Errors
/// If the kernel refuses to run it.
pub fn test_run(program: &Xdp, frame: &[u8], interface: u32, output: &mut [u8], runs: u32) -> Result<(u32, usize)> {
    let context = context(u32::try_from(frame.len())?, interface);
    if TAKES_CONTEXT.load(Ordering::Relaxed) {
        match run_once(program, frame, Some(&context), output, runs) {
            Err(error) if is_refusal(&error) => {}
            result => return result.context("the kernel refused the test run"),
        }
    }
    let (verdict, length) = run_once(program, frame, None, output, runs).context("the kernel refused the test run")?;
    TAKES_CONTEXT.store(false, Ordering::Relaxed);
    let leaves_there = verdict == verdict::REDIRECT && output.get(6..12) == Some(&own_mac(interface)[..]);
    Ok((if leaves_there { verdict::TX } else { verdict }, length))
}

fn run_once(
    program: &Xdp,
    frame: &[u8],
    context: Option<&[u8]>,
    output: &mut [u8],
    runs: u32,
) -> Result<(u32, usize), ProgramError> {
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(output),
        ctx_in: context,
        repeat: runs,
        ..TestRunOptions::default()
    };
    program.test_run(options).map(|result| (result.return_value, result.data_size_out as usize))
}

fn is_refusal(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::EINVAL))
}

/// The context of a frame of a length that seems to come in by an interface: the six fields of `struct xdp_md`.
pub(super) fn context(length: u32, interface: u32) -> [u8; 24] {
    let mut context = [0; 24];
    for (field, value) in context.chunks_exact_mut(4).zip([0, length, 0, interface, 0, 0]) {
        field.copy_from_slice(&value.to_ne_bytes());
    }
    context
}

/// Keeps this thread on one CPU, so that per-CPU caches and counters are the same for all cases.
///
/// # Errors
/// If the kernel refuses.
pub fn pin_thread(cpu: usize) -> Result<()> {
    // SAFETY: an all-zero set is a valid, empty one.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the set is this function's own and `cpu` is checked by the macro.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set lives until the call returns and its size is given.
    if unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set) } != 0 {
        bail!("the thread could not be kept on CPU {cpu}: {}", std::io::Error::last_os_error());
    }
    Ok(())
}

/// CPU time of this thread.
fn thread_cpu_time_ns() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure lives until the call returns; this clock always exists.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "every thread has a CPU clock");
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
