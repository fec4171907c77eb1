//! What really went over an interface, as tshark reads it.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use grayxdp::lab::{Namespace, Process};
use tempfile::TempDir;

/// A capture that runs.
pub(crate) struct Capture {
    process: Process,
    folder: TempDir,
}

/// A packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Captured {
    /// Seconds.
    pub(crate) time: f64,
    /// Where from.
    pub(crate) source: SocketAddrV4,
    /// Where to.
    pub(crate) destination: SocketAddrV4,
    /// TCP flags.
    pub(crate) flags: u16,
    /// Bytes of payload.
    pub(crate) payload: u64,
    /// tshark's own analysis: a retransmission of any kind. One that follows the lost segment within 3 ms it takes for one out
    /// of order, which a sender's own segments never are.
    pub(crate) is_repeated: bool,
    /// The window is zero, and that counts: neither SYN nor RST.
    pub(crate) has_zero_window: bool,
}

/// TCP flags.
pub(crate) const SYN: u16 = 2;
pub(crate) const RST: u16 = 4;
pub(crate) const ACK: u16 = 16;

impl Captured {
    /// Whether some flags are set and others are not.
    pub(crate) const fn is(&self, set: u16, not_set: u16) -> bool {
        self.flags & set == set && self.flags & not_set == 0
    }
}

const FIELDS: [&str; 14] = [
    "frame.time_epoch",
    "ip.src",
    "ip.dst",
    "tcp.srcport",
    "tcp.dstport",
    "udp.srcport",
    "udp.dstport",
    "tcp.flags",
    "tcp.len",
    "udp.length",
    "tcp.analysis.retransmission",
    "tcp.analysis.spurious_retransmission",
    "tcp.analysis.out_of_order",
    "tcp.window_size_value",
];

impl Capture {
    /// Begins to capture TCP and UDP on the interface of a client or backend; when this returns, it does.
    pub(crate) fn begin(namespace: &Namespace) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = namespace.command("dumpcap");
        // Headers only and much room, so that a busy machine loses no packet.
        command
            .args(["-q", "-p", "-s", "128", "-B", "64", "-i", "eth0", "-f", "tcp or udp", "-w"])
            .arg(folder.path().join("packets"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = namespace.start(&mut command).expect("dumpcap is there: `cargo xtask setup` installs tshark");
        let end = Instant::now() + Duration::from_secs(20);
        while std::fs::metadata(folder.path().join("packets")).map_or(0, |file| file.len()) == 0 {
            assert!(Instant::now() < end, "dumpcap begins");
            thread::sleep(Duration::from_millis(50));
        }
        // The file is there a moment before the socket is.
        thread::sleep(Duration::from_millis(300));
        Self { process, folder }
    }

    /// Ends it; all packets in their order.
    pub(crate) fn end(mut self) -> Vec<Captured> {
        thread::sleep(Duration::from_millis(500));
        self.process.signal(libc::SIGINT).unwrap();
        self.process.child().wait().unwrap();
        read(&self.folder.path().join("packets"))
    }
}

fn read(file: &Path) -> Vec<Captured> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).args(["-n", "-T", "fields", "-E", "separator=,", "-E", "occurrence=f"]);
    FIELDS.iter().for_each(|field| {
        command.args(["-e", field]);
    });
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(packet).collect()
}

fn packet(line: &str) -> Captured {
    let fields: Vec<&str> = line.split(',').collect();
    assert_eq!(fields.len(), FIELDS.len(), "{line}");
    let field = |name: &str| fields[FIELDS.iter().position(|field| *field == name).unwrap()];
    let number = |name: &str| field(name).parse::<u64>().unwrap_or(0);
    let end = |address: &str, tcp: &str, udp: &str| {
        let port = if field(tcp).is_empty() { number(udp) } else { number(tcp) };
        SocketAddrV4::new(field(address).parse::<Ipv4Addr>().unwrap(), port as u16)
    };
    let flags = u16::from_str_radix(field("tcp.flags").trim_start_matches("0x"), 16).unwrap_or(0);
    let udp_payload = number("udp.length").saturating_sub(8);
    Captured {
        time: field("frame.time_epoch").parse().unwrap(),
        source: end("ip.src", "tcp.srcport", "udp.srcport"),
        destination: end("ip.dst", "tcp.dstport", "udp.dstport"),
        flags,
        payload: number("tcp.len") + udp_payload,
        is_repeated: !field("tcp.analysis.retransmission").is_empty()
            || !field("tcp.analysis.spurious_retransmission").is_empty()
            || !field("tcp.analysis.out_of_order").is_empty(),
        has_zero_window: field("tcp.window_size_value") == "0" && flags & (SYN | RST) == 0,
    }
}
