//! A lab with the data path on its load balancer, fed by hand: every handshake is measured, every flow is sampled.

use std::{
    net::SocketAddrV4,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use grayxdp::{
    analysis::{Measured, Quantile},
    datapath::{Capacity, ClockSource, Datapath, Settings},
    lab::Lab,
    model::{
        config::{AttachMode, Interface, Protocol},
        kernel::{
            BackendCounters, BackendId, Kernel as _, ServiceId, SignalKey, Split, VersionId, Wanted, WantedBackend,
            WantedBuckets, WantedService, WantedVersion,
        },
    },
};
use grayxdp_common::{SLOTS, records::SAMPLE_ALL};
use grayxdp_tests::subject::KEY;

/// Where servers listen.
pub(crate) const PORT: u16 = 8_080;

/// The lab and the data path. `v1` has the first backend, `v2` the second.
pub(crate) struct World {
    pub(crate) lab: Lab,
    datapath: Datapath,
    protocol: Protocol,
}

impl World {
    /// All new flows go to `v2`, in epoch 1.
    pub(crate) fn new(protocol: Protocol) -> Self {
        let lab = Lab::builder().build().unwrap();
        lab.ping().unwrap();
        let wanted = wanted(&lab, protocol, 16_384, 1);
        let interface = |name: String| Interface { name, mode: AttachMode::Native };
        let settings = Settings {
            pin_dir: "/sys/fs/bpf/grayxdp".into(),
            interfaces: lab.interfaces().into_iter().map(interface).collect(),
            hash_key: KEY,
            capacity: Capacity::of(&wanted).with_room(),
            clock: ClockSource::Monotonic,
        };
        let datapath = lab.balancer().run(|| {
            let mut datapath = Datapath::open(settings).unwrap();
            datapath.publish(&wanted).unwrap();
            datapath.attach().unwrap();
            datapath
        });
        Self { lab, datapath, protocol }
    }

    /// Gives `buckets` of 16,384 to `v2` in a new epoch.
    pub(crate) fn publish(&mut self, buckets: u16, epoch: u64) {
        self.datapath.publish(&wanted(&self.lab, self.protocol, buckets, epoch)).unwrap();
    }

    /// Where clients ask.
    pub(crate) fn vip(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.lab.vip(), 80)
    }

    /// Where a version's server listens.
    pub(crate) fn server(&self, version: u16) -> SocketAddrV4 {
        SocketAddrV4::new(self.lab.backend_address(usize::from(version - 1)), PORT)
    }

    /// What was counted of a version in an epoch so far; zeros where the data path says nothing of it.
    pub(crate) fn signals(&self, version: u16, epoch: u64) -> Measured {
        let key = SignalKey { version: VersionId(version), segment: 0, epoch };
        self.datapath
            .signals(None)
            .unwrap()
            .get(&key)
            .map(|signals| Measured::from(signals.as_ref()))
            .unwrap_or_default()
    }

    /// The counters of a version's backend.
    pub(crate) fn counters(&self, version: u16) -> BackendCounters {
        self.datapath.counters().unwrap().backends[&BackendId(version)]
    }

    /// Lets what lapsed be counted, as the daemon does once a second.
    pub(crate) fn sweep(&mut self) {
        self.datapath.observe(monotonic()).unwrap();
    }

    /// Sweeps for as long as the signals of a version and an epoch are not as wanted, for ten seconds at most.
    pub(crate) fn wait(&mut self, version: u16, epoch: u64, is_wanted: impl Fn(&Measured) -> bool) -> Measured {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            self.sweep();
            let measured = self.signals(version, epoch);
            if is_wanted(&measured) {
                return measured;
            }
            assert!(Instant::now() < end, "{}", said(&measured));
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Runs `nft` commands on a version's backend.
    pub(crate) fn nft(&self, version: u16, lines: &[&str]) {
        let script = lines.join("\n") + "\n";
        self.lab.backend(usize::from(version - 1)).output("nft", [script]).unwrap();
    }
}

/// The counts without the cells.
pub(crate) fn said(measured: &Measured) -> String {
    format!(
        "attempts {} opened {} refused {} timeouts {} repeated {} unmarked {} flows {} ended {} resets {}/{} segments {} \
         retransmits {} zero windows {} lost {} unanswered {}",
        measured.attempts,
        measured.opened,
        measured.refused,
        measured.timeouts,
        measured.syn_retransmits,
        measured.unmarked,
        measured.flows,
        measured.ended,
        measured.reset_by_client,
        measured.reset_by_backend,
        measured.segments,
        measured.retransmits,
        measured.zero_window,
        measured.lost,
        measured.unanswered
    )
}

/// Asserts that a quantile (in nanoseconds) lies between two times (in seconds), give or take a cell of the histogram.
pub(crate) fn assert_between(what: &str, quantile: Option<Quantile>, least: f64, most: f64) {
    let Some(Quantile::At(found)) = quantile else { panic!("{what}: {quantile:?}") };
    let found = found / 1e9;
    assert!(least * 0.87 <= found && found <= most * 1.13, "{what}: {found} s is not within {least} s and {most} s");
}

/// A quantile of values by their ranks.
pub(crate) fn quantile(values: &mut [f64], quantile: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (quantile * values.len() as f64).ceil() as usize;
    values[rank.clamp(1, values.len()) - 1]
}

fn wanted(lab: &Lab, protocol: Protocol, buckets: u16, epoch: u64) -> Wanted {
    let version = |number: u16| {
        let backend = WantedBackend::up(BackendId(number), lab.backend_address(usize::from(number - 1)), PORT);
        let slots = vec![backend.id; SLOTS];
        WantedVersion::settled(VersionId(number), number as u8 - 1, vec![backend], Arc::from(slots))
    };
    let service = WantedService {
        id: ServiceId(1),
        vip: lab.vip().into(),
        protocol,
        versions: (1..=2).map(version).collect(),
        buckets: WantedBuckets::Split(Split { offset: 0, threshold: buckets }),
        epoch,
        rollout: 1,
        measures: true,
        sample_rate: SAMPLE_ALL,
        ..WantedService::default()
    };
    Wanted { services: vec![service], direct_access: Vec::new() }
}

/// The clock of the data path.
fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is valid to write, and the clock exists everywhere.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
