//! The program under test: loaded by the product's own data path, fed by hand.

use std::{path::Path, time::Duration};

use anyhow::Result;
use aya::programs::ProgramFd;
use grayxdp::{
    datapath::{Capacity, ClockSource, Datapath, Settings},
    model::kernel::{Counters, Kernel as _, Wanted},
};
use grayxdp_common::hash::HashKey;

use crate::bench::harness;

/// The hash key of all tests.
pub const KEY: HashKey =
    HashKey([0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344, 0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89]);

/// The loaded program and its tables. Made and used on one thread inside a host's namespace.
pub struct Subject {
    /// The product's own side of it.
    pub datapath: Datapath,
}

impl Subject {
    /// Loads the program and gives it tables; attaches it nowhere.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn open(wanted: &Wanted) -> Result<Self> {
        Self::open_with(wanted, Capacity::of(wanted).with_room())
    }

    /// The same with tables of a size of one's own.
    ///
    /// # Errors
    /// As above.
    pub fn open_with(wanted: &Wanted, capacity: Capacity) -> Result<Self> {
        Self::load(wanted, capacity, ClockSource::Monotonic)
    }

    /// The same with a clock that only [`Self::set_clock`] moves.
    ///
    /// # Errors
    /// As above.
    pub fn open_timeless(wanted: &Wanted, capacity: Capacity) -> Result<Self> {
        Self::load(wanted, capacity, ClockSource::Manual)
    }

    fn load(wanted: &Wanted, capacity: Capacity, clock: ClockSource) -> Result<Self> {
        let settings = Settings {
            pin_dir: Path::new("/sys/fs/bpf/grayxdp").to_owned(),
            interfaces: Vec::new(),
            hash_key: KEY,
            capacity,
            clock,
        };
        let mut datapath = Datapath::open(settings)?;
        datapath.publish(wanted)?;
        Ok(Self { datapath })
    }

    /// What one packet becomes that comes in by an interface: verdict and bytes.
    ///
    /// # Errors
    /// If the kernel refuses to run it.
    pub fn run(&mut self, frame: &[u8], interface: u32) -> Result<(u32, Vec<u8>)> {
        let mut output = vec![0; frame.len() + 64];
        let (verdict, length) = harness::test_run(self.datapath.program()?, frame, interface, &mut output, 1)?;
        output.truncate(length);
        Ok((verdict, output))
    }

    /// Sets the program's time.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn set_clock(&mut self, monotonic: Duration) -> Result<()> {
        Ok(self.datapath.set_clock(monotonic)?)
    }

    /// All counters.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn counters(&self) -> Result<Counters> {
        Ok(self.datapath.counters()?)
    }

    /// The program, to be put behind a wrapper.
    ///
    /// # Errors
    /// If it cannot be held.
    pub fn program(&mut self) -> Result<ProgramFd> {
        Ok(self.datapath.program()?.fd()?.try_clone()?)
    }
}
