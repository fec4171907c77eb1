//! Names of the maps, as in the object file and under the pin folder.

/// One [`crate::records::Control`]: where the live directories are and how replies leave.
pub const CONTROL: &str = "CONTROL";
/// Sets of the directories: (address, port, protocol) → service record, VIP, or backend.
pub const DIRECTORY: &str = "DIRECTORY";
/// Service records, immutable once a directory names them.
pub const SERVICES: &str = "SERVICES";
/// Slot tables: one array of backend ids a version.
pub const SLOTS: &str = "SLOTS";
/// Backend records by backend id.
pub const BACKENDS: &str = "BACKENDS";
/// Per-CPU traffic counters by backend id.
pub const COUNTERS: &str = "COUNTERS";
/// Per-CPU counts of drops and passes by service id.
pub const REASONS: &str = "REASONS";
/// Routes of replies by longest destination prefix.
pub const ROUTES: &str = "ROUTES";
/// One [`crate::records::RouteHeads`]: for most clients the route is known from the first half of their address.
pub const ROUTE_HEADS: &str = "ROUTE_HEADS";
/// Routes that the heads name.
pub const ROUTE_LEAVES: &str = "ROUTE_LEAVES";
/// Next hops of on-link clients by address.
pub const NEIGHBOURS: &str = "NEIGHBOURS";
/// Ethernet addresses of the attached interfaces by interface index.
pub const INTERFACES: &str = "INTERFACES";
/// Rare messages of the program for the daemon's log; the name is that of the `aya-log` crate.
pub const LOG: &str = "AYA_LOGS";
/// Monotonic time in nanoseconds for programs with a manual clock.
pub const CLOCK: &str = "CLOCK";
/// What the explaining instance found out about the last packet it was shown.
pub const EXPLANATION: &str = "EXPLANATION";

/// Bucket tables of services that have a detail record.
pub const BUCKETS: &str = "BUCKETS";
/// Slot states of versions whose slots are not all settled.
pub const SLOT_STATES: &str = "SLOT_STATES";
/// Stamps of buckets and slots.
pub const STAMPS: &str = "STAMPS";
/// Detail records.
pub const DETAILS: &str = "DETAILS";
/// Source prefixes of segments.
pub const PREFIXES: &str = "PREFIXES";
/// Classes of segments.
pub const CLASSES: &str = "CLASSES";
/// Fuses and leases.
pub const GUARDS: &str = "GUARDS";
/// Ring buffer of [`crate::guard::Event`]s.
pub const EVENTS: &str = "EVENTS";
/// The exception table.
pub const EXCEPTIONS: &str = "EXCEPTIONS";
/// Per-CPU counters of what the exception table had to do, by service id.
pub const EXCEPTION_COUNTERS: &str = "EXCEPTION_COUNTERS";
/// Marks of handshakes.
pub const MARKS: &str = "MARKS";
/// Samples of flows.
pub const FLOWS: &str = "FLOWS";
/// What is judged.
pub const SIGNALS: &str = "SIGNALS";
/// Ends of IPv6 backends by backend id.
pub const ENDS6: &str = "ENDS6";
/// Routes of IPv6 replies by longest destination prefix.
pub const ROUTES6: &str = "ROUTES6";
/// Next hops of on-link IPv6 clients by address.
pub const NEIGHBOURS6: &str = "NEIGHBOURS6";
/// IPv6 source prefixes of segments.
pub const PREFIXES6: &str = "PREFIXES6";
/// Programs that the live program goes on as: those of [`NEXT`], in this order. The explaining instance has one of its own, which is not pinned.
pub const PROGRAMS: &str = "PROGRAMS";
/// Backends whose packets keep their virtual endpoint, by backend id.
pub const TARGETS: &str = "TARGETS";
/// Where first pieces of datagrams went.
pub const FRAGMENTS: &str = "FRAGMENTS";

/// The flow table of `full-nat`.
pub const TRANSLATIONS: &str = "TRANSLATIONS";
/// Where clients' packets find their entry of it.
pub const SEATS: &str = "SEATS";
/// What half-open flows of it need.
pub const PERMITS: &str = "PERMITS";
/// Pools of `full-nat` by service id.
pub const POOLS: &str = "POOLS";
/// Where first pieces of datagrams of `full-nat` went.
pub const TRANSLATED_PIECES: &str = "TRANSLATED_PIECES";

/// The maps that live and explaining instances share and that outlive the daemon.
pub const PINNED: [&str; 38] = [
    CONTROL,
    DIRECTORY,
    SERVICES,
    SLOTS,
    BACKENDS,
    COUNTERS,
    REASONS,
    ROUTES,
    NEIGHBOURS,
    INTERFACES,
    LOG,
    ROUTE_HEADS,
    ROUTE_LEAVES,
    BUCKETS,
    SLOT_STATES,
    STAMPS,
    DETAILS,
    PREFIXES,
    CLASSES,
    GUARDS,
    EVENTS,
    EXCEPTIONS,
    EXCEPTION_COUNTERS,
    MARKS,
    FLOWS,
    SIGNALS,
    FRAGMENTS,
    ENDS6,
    ROUTES6,
    NEIGHBOURS6,
    PREFIXES6,
    PROGRAMS,
    TARGETS,
    TRANSLATIONS,
    SEATS,
    PERMITS,
    POOLS,
    TRANSLATED_PIECES,
];

/// Which packets the tracing program tells of.
pub const TRACE_FILTER: &str = "TRACE_FILTER";
/// What it tells.
pub const TRACES: &str = "TRACES";
/// By service id, what it is to copy.
pub const COPIES_ASKED: &str = "COPIES_ASKED";
/// Where it puts copies.
pub const COPIES: &str = "COPIES";
/// Bytes of the ring in which it tells that: some 1,400 packets.
pub const TRACE_BYTES: u32 = 1 << 19;

/// Name of the XDP program in the object file.
pub const PROGRAM: &str = "grayxdp";
/// Name of the program for IPv6, as which that one goes on.
pub const PROGRAM6: &str = "grayxdp6";
/// The programs as which others go on, by their index in [`PROGRAMS`]: that for IPv6, and those for `full-nat` of either family.
pub const NEXT: [&str; 3] = [PROGRAM6, "grayxdp_full", "grayxdp_full6"];
