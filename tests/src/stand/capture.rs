//! What passes an interface, by dumpcap and tshark: an account that nothing of grayxdp has a hand in.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use grayxdp::lab::{Namespace, Process};

use super::{PATIENCE, eventually, wait};

/// Kernel buffer of a capture, in MiB: nothing is to be lost.
const BUFFER_MIB: &str = "64";
/// Packets under way at the end of a capture reach it in this time.
const ARRIVAL: Duration = Duration::from_millis(300);

/// A capture of TCP packets under way.
pub struct Capture {
    process: Process,
    file: PathBuf,
}

/// A captured TCP packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// When, in seconds since 1970; all captures read one clock.
    pub seconds: f64,
    /// From whom.
    pub source: SocketAddrV4,
    /// To whom.
    pub destination: SocketAddrV4,
    /// TCP flags as in the header: FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
    pub flags: u16,
    /// Sequence number.
    pub sequence: u32,
}

impl Seen {
    /// Whether it opens a connection.
    #[must_use]
    pub fn is_syn(&self) -> bool {
        self.flags & 0x12 == 2
    }

    /// Whether it cuts a connection off, or refuses it.
    #[must_use]
    pub fn is_rst(&self) -> bool {
        self.flags & 4 != 0
    }
}

impl Capture {
    /// Captures on an interface of a namespace into a file; returns when it has begun.
    ///
    /// # Panics
    /// If dumpcap is missing or does not begin.
    #[must_use]
    pub fn start(namespace: &Namespace, interface: &str, file: PathBuf) -> Self {
        let mut command = namespace.command("dumpcap");
        command.args(["-q", "-i", interface, "-f", "tcp", "-s", "100", "-B", BUFFER_MIB, "-w"]).arg(&file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = namespace.start(&mut command).expect("dumpcap is there: `cargo xtask setup` installs tshark");
        // The file is begun when the socket is open.
        eventually("a capture", || file.metadata().map_or(0, |data| data.len()), |bytes| *bytes > 0);
        thread::sleep(ARRIVAL);
        Self { process, file }
    }

    /// Ends the capture, and returns its packets in the order of their times.
    #[must_use]
    pub fn stop(mut self) -> Vec<Seen> {
        thread::sleep(ARRIVAL);
        self.process.signal(libc::SIGINT).expect("dumpcap runs");
        assert!(wait(&mut self.process, PATIENCE).is_some(), "dumpcap goes on");
        let fields = ["frame.time_epoch", "ip.src", "tcp.srcport", "ip.dst", "tcp.dstport", "tcp.flags", "tcp.seq"];
        let mut command = Command::new("tshark");
        command.arg("-n").arg("-r").arg(&self.file).args(["-o", "tcp.relative_sequence_numbers:FALSE", "-T", "fields"]);
        let output = command.args(fields.iter().flat_map(|field| ["-e", field])).output().expect("tshark is there");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("tshark prints numbers");
        let mut seen: Vec<_> = text.lines().map(of_line).collect();
        seen.sort_by(|one, other| one.seconds.total_cmp(&other.seconds));
        seen
    }
}

fn of_line(line: &str) -> Seen {
    let fields: Vec<_> = line.split('\t').collect();
    let [seconds, source, source_port, destination, destination_port, flags, sequence] = fields[..] else {
        panic!("tshark printed {line:?}")
    };
    let end = |address: &str, port: &str| {
        let address: Ipv4Addr = address.parse().expect("an address");
        SocketAddrV4::new(address, port.parse().expect("a port"))
    };
    Seen {
        seconds: seconds.parse().expect("a time"),
        source: end(source, source_port),
        destination: end(destination, destination_port),
        flags: u16::from_str_radix(flags.trim_start_matches("0x"), 16).expect("flags"),
        sequence: sequence.parse().expect("a number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_tshark_is_read() {
        let seen = of_line("1700000000.000001000\t10.64.0.1\t40000\t10.0.2.1\t8080\t0x0002\t305419896");
        assert_eq!(seen.source, "10.64.0.1:40000".parse().unwrap());
        assert_eq!((seen.is_syn(), seen.is_rst(), seen.sequence), (true, false, 0x1234_5678));
        assert!(!Seen { flags: 0x12, ..seen }.is_syn() && Seen { flags: 0x14, ..seen }.is_rst());
    }
}
