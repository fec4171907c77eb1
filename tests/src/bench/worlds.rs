//! The hosts and services that the program under test is measured with.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    sync::Arc,
};

use anyhow::Result;
use grayxdp::{
    datapath::Capacity,
    lab::Namespace,
    model::{
        config::{Affinity, Protocol},
        kernel::{
            BackendId, ServiceId, Split, VersionId, Wanted, WantedBackend, WantedBuckets, WantedService, WantedVersion,
        },
    },
};
use grayxdp_common::{BUCKETS, SLOTS, records::NextHop};

use crate::{
    bench::{
        case::{Expected, PathCounter},
        harness::{Harness, Slot},
    },
    host,
    subject::Subject,
};

/// Services where there are many.
pub const MANY: u16 = 64;
/// First of a hundred networks of 2^16 addresses.
pub const FIRST_OF_HUNDRED: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 0);
/// The gateway of those networks.
const SECOND_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 253);

/// A tenth of all buckets for the second version.
pub const TENTH: Split = Split { offset: 4_000, threshold: BUCKETS / 10 };
/// All buckets for the first version.
pub const AT_REST: Split = Split { offset: 0, threshold: 0 };

/// One flow in 64 is followed, as the daemon has it.
const SAMPLE_RATE: u16 = 512;

/// Backends of a version.
const BACKENDS: u16 = 3;
/// Id of the first backend of the second version of the first service.
pub(super) const SECOND_VERSION_BACKEND: u16 = BACKENDS + 1;

/// A host with the program under test and the services that it knows.
pub struct World {
    /// The host.
    pub host: Namespace,
    /// The program.
    pub slot: Slot,
    /// Where replies go.
    pub gateway: Ipv4Addr,
    subject: Arc<Subject>,
    backends: Vec<u16>,
}

/// Which way packets go that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To backends.
    Forward,
    /// To clients.
    Reverse,
}

impl World {
    /// One service over TCP and the like over UDP, two versions at 90:10; all replies go by one gateway.
    ///
    /// # Errors
    /// If the host cannot be made or the kernel refuses the program.
    pub fn one_service(harness: &mut Harness) -> Result<Self> {
        Self::new(harness, one_service(), &[], host::GATEWAY)
    }

    /// [`MANY`] services, two versions each, of which the second owns some buckets.
    ///
    /// # Errors
    /// As above.
    pub fn many_services(harness: &mut Harness, split: Split) -> Result<Self> {
        Self::services(harness, MANY, split)
    }

    /// So many services of two versions.
    ///
    /// # Errors
    /// As above.
    pub fn services(harness: &mut Harness, count: u16, split: Split) -> Result<Self> {
        let like = |n| WantedService { buckets: WantedBuckets::Split(split), ..service(n, n, Protocol::Tcp) };
        Self::new(harness, (0..count).map(like).collect(), &[], host::GATEWAY)
    }

    /// One service; clients in a hundred networks that have routes of their own.
    ///
    /// # Errors
    /// As above.
    pub fn hundred_routes(harness: &mut Harness) -> Result<Self> {
        let [first, second, ..] = FIRST_OF_HUNDRED.octets();
        let routes = (0..100).map(|n| format!("route add {first}.{}.0.0/16 via {SECOND_GATEWAY}", second + n));
        let lines: Vec<_> = routes.chain([host::neighbour(host::NEAR, SECOND_GATEWAY)]).collect();
        Self::new(harness, one_service(), &lines, SECOND_GATEWAY)
    }

    /// One service; only the kernel knows how replies go.
    ///
    /// # Errors
    /// As above.
    pub fn routes_of_the_kernel(harness: &mut Harness) -> Result<Self> {
        // A next-hop object, which only the kernel follows.
        let lines = [
            format!("nexthop add id 7 via {} dev {}", host::GATEWAY, host::name(host::NEAR)),
            "route replace default nhid 7".to_owned(),
        ];
        Self::new(harness, one_service(), &lines, host::GATEWAY)
    }

    fn new(harness: &mut Harness, services: Vec<WantedService>, more: &[String], gateway: Ipv4Addr) -> Result<Self> {
        Self::sized(harness, services, more, gateway, |capacity| capacity)
    }

    /// Services in tables of another size than usual.
    ///
    /// # Errors
    /// As above.
    pub fn of_size(
        harness: &mut Harness,
        services: Vec<WantedService>,
        resize: impl Fn(Capacity) -> Capacity,
    ) -> Result<Self> {
        Self::sized(harness, services, &[], host::GATEWAY, resize)
    }

    /// The folder of the program's maps, inside the host.
    #[must_use]
    pub fn map_folder(&self) -> PathBuf {
        self.subject.datapath.map_folder().to_owned()
    }

    /// Services of IPv6 on a host with these lines of `ip`.
    ///
    /// # Errors
    /// As above.
    pub(super) fn of_lines(harness: &mut Harness, services: Vec<WantedService>, lines: &[String]) -> Result<Self> {
        Self::made(harness, services, lines, host::GATEWAY, |capacity| capacity)
    }

    fn sized(
        harness: &mut Harness,
        services: Vec<WantedService>,
        more: &[String],
        gateway: Ipv4Addr,
        resize: impl Fn(Capacity) -> Capacity,
    ) -> Result<Self> {
        let versions = services.iter().flat_map(|service| &service.versions);
        let backends: Vec<u16> = versions.flat_map(|version| &version.backends).map(|backend| backend.id.0).collect();
        let neighbours = backends.iter().map(|&id| host::neighbour(host::NEAR, *backend(id).ip()));
        let lines: Vec<_> = neighbours.chain(more.iter().cloned()).collect();
        Self::made(harness, services, &lines, gateway, resize)
    }

    fn made(
        harness: &mut Harness,
        services: Vec<WantedService>,
        lines: &[String],
        gateway: Ipv4Addr,
        resize: impl Fn(Capacity) -> Capacity,
    ) -> Result<Self> {
        let versions = services.iter().flat_map(|service| &service.versions);
        let backends: Vec<u16> = versions.flat_map(|version| &version.backends).map(|backend| backend.id.0).collect();
        let host = host::host(lines)?;
        let wanted = Wanted { services, direct_access: Vec::new() };
        let capacity = resize(Capacity::of(&wanted).with_room());
        let (subject, program) = host.run(|| -> Result<_> {
            let mut subject = Subject::open_with(&wanted, capacity)?;
            let program = subject.program()?;
            Ok((subject, program))
        })?;
        Ok(Self { host, slot: harness.add(&program)?, gateway, subject: Arc::new(subject), backends })
    }

    /// The packet goes to one of the backends.
    #[must_use]
    pub fn to_any_backend(&self) -> Expected {
        Expected::To(self.backends.iter().map(|&id| (backend(id), hop(id))).collect())
    }

    /// Counts packets to or from all backends.
    #[must_use]
    pub fn counter(&self, direction: Direction) -> PathCounter {
        let subject = Arc::clone(&self.subject);
        Box::new(move |_| {
            let counters = subject.counters()?;
            let packets = counters.backends.values().map(|counters| match direction {
                Direction::Forward => counters.packets_forward,
                Direction::Reverse => counters.packets_reverse,
            });
            Ok(packets.sum())
        })
    }
}

/// A service's virtual endpoint.
#[must_use]
pub fn virtual_endpoint(number: u16) -> SocketAddrV4 {
    SocketAddrV4::new((u32::from(Ipv4Addr::new(192, 0, 2, 10)) + u32::from(number)).into(), 80)
}

/// A backend's endpoint.
#[must_use]
pub fn backend(id: u16) -> SocketAddrV4 {
    let [high, low] = id.to_be_bytes();
    SocketAddrV4::new(Ipv4Addr::new(10, 9, high, low), 8080)
}

/// A backend's next hop.
#[must_use]
pub fn hop(id: u16) -> NextHop {
    host::hop(host::NEAR, *backend(id).ip())
}

fn one_service() -> Vec<WantedService> {
    vec![service(0, 0, Protocol::Tcp), service(1, 0, Protocol::Udp)]
}

/// A service with two versions, the second at 10 %; `number` tells it apart, `address` is where it is.
pub(super) fn service(number: u16, address: u16, protocol: Protocol) -> WantedService {
    service_of(number, address, protocol, BACKENDS)
}

/// The same with another number of backends a version.
pub(super) fn service_of(number: u16, address: u16, protocol: Protocol, backends: u16) -> WantedService {
    let count = backends;
    let version = |index: u16| {
        let first = (number * 2 + index) * count + 1;
        let backends = (first..first + count)
            .map(|id| WantedBackend::up(BackendId(id), *backend(id).ip(), backend(id).port()))
            .collect();
        let slots = (0..SLOTS).map(|slot| BackendId(first + (slot % usize::from(count)) as u16)).collect();
        WantedVersion::settled(VersionId(number * 2 + index + 1), index as u8, backends, slots)
    };
    let endpoint = virtual_endpoint(address);
    WantedService {
        id: ServiceId(number + 1),
        vip: (*endpoint.ip()).into(),
        ports: vec![endpoint.port()],
        protocol,
        affinity: Affinity::Flow,
        versions: vec![version(0), version(1)],
        buckets: WantedBuckets::Split(TENTH),
        sample_rate: SAMPLE_RATE,
        ..WantedService::default()
    }
}
