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
/// Next hops of on-link clients by address.
pub const NEIGHBOURS: &str = "NEIGHBOURS";
/// Ethernet addresses of the attached interfaces by interface index.
pub const INTERFACES: &str = "INTERFACES";
/// Rare messages of the program for the daemon's log; the name is that of the `aya-log` crate.
pub const LOG: &str = "AYA_LOGS";
/// What the explaining instance found out about the last packet it was shown.
pub const EXPLANATION: &str = "EXPLANATION";

/// The maps that live and explaining instances share and that outlive the daemon.
pub const PINNED: [&str; 11] =
    [CONTROL, DIRECTORY, SERVICES, SLOTS, BACKENDS, COUNTERS, REASONS, ROUTES, NEIGHBOURS, INTERFACES, LOG];

/// Name of the XDP program in the object file.
pub const PROGRAM: &str = "grayxdp";
