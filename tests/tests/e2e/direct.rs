//! Backends that answer clients directly: `dsr` and `ipip`, with the virtual address on each backend's loopback.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use grayxdp::lab::{Namespace, Process};
use grayxdp_tests::{
    decapsulator::Decapsulator,
    stand::{Setup, Stand, VIP_PORT, eventually, plan, within_five_deviations},
};

const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of the long download.
const LONG: usize = 100_000_000;

/// A family of addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Ipv4,
    Ipv6,
}
use Family::{Ipv4, Ipv6};

/// How packets reach backends.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Way {
    mode: &'static str,
    vip: Family,
    backend: Family,
}

const DSR: Way = Way { mode: "dsr", vip: Ipv4, backend: Ipv4 };
const DSR_IPV6: Way = Way { mode: "dsr", vip: Ipv6, backend: Ipv6 };
const IPIP: Way = Way { mode: "ipip", vip: Ipv4, backend: Ipv4 };
const IPIP_IPV6: Way = Way { mode: "ipip", vip: Ipv6, backend: Ipv6 };
const IPV4_IN_IPV6: Way = Way { mode: "ipip", vip: Ipv4, backend: Ipv6 };

/// A stand whose service keeps the virtual endpoint, which its backends have on their loopback.
struct Direct {
    stand: Stand,
    way: Way,
    ends: Vec<Decapsulator>,
}

impl Direct {
    fn new(way: Way, setup: Setup) -> Self {
        let fields = [setup.fields.clone(), vec![format!("forwarding: {}", way.mode)]].concat();
        let stand = Stand::new(Setup { serves: [false, false], fields, ..setup });
        let mut direct = Self { stand, way, ends: Vec::new() };
        let lab = direct.stand.lab();
        lab.add_ipv6().unwrap();
        let vip = direct.vip();
        let mut text = direct.stand.configuration().replace(", port: 8080", "");
        text = text.replace(&format!("vip: {}", lab.vip()), &format!("vip: \"{vip}\""));
        for index in 0..2 {
            let old = lab.backend_address(index).to_string();
            text = text.replace(&format!("{old},"), &format!("\"{}\",", direct.backend(index)));
            let (width, options) = if way.vip == Ipv4 { (32, "") } else { (128, " nodad") };
            lab.backend(index).ip(&[format!("address add {vip}/{width} dev lo{options}")]).unwrap();
            if way.mode == "ipip" {
                direct.ends.push(
                    Decapsulator::start(lab.backend(index), lab.far_interface(), direct.backend(index), vip).unwrap(),
                );
            }
        }
        direct.stand.write("grayxdp.yaml", &text);
        direct
    }

    /// Starts the daemon; its neighbours have answered.
    fn start(&mut self) {
        self.stand.start();
        let unresolved = || {
            let versions = self.stand.service().versions;
            versions.iter().flat_map(|version| &version.backends).filter(|backend| !backend.resolved).count()
        };
        eventually("the neighbours", unresolved, |count| *count == 0);
    }

    fn vip(&self) -> IpAddr {
        match self.way.vip {
            Ipv4 => self.stand.lab().vip().into(),
            Ipv6 => self.stand.lab().vip6().into(),
        }
    }

    fn target(&self) -> SocketAddr {
        SocketAddr::new(self.vip(), VIP_PORT)
    }

    fn backend(&self, index: usize) -> IpAddr {
        match self.way.backend {
            Ipv4 => self.stand.lab().backend_address(index).into(),
            Ipv6 => self.stand.lab().backend_address6(index).into(),
        }
    }

    fn source(&self, index: u16) -> IpAddr {
        match self.way.vip {
            Ipv4 => self.stand.lab().sources().at(index.into()).into(),
            Ipv6 => self.stand.lab().source6(index).into(),
        }
    }

    /// nginx on a backend, at the virtual endpoint; it answers with these words, and `/big` with [`LONG`] bytes.
    fn nginx(&self, index: usize, answer: &str) -> Process {
        let folder = self.stand.file(answer);
        fs::create_dir(&folder).unwrap();
        let (big, shared) = (folder.join("big"), self.stand.file("big"));
        if !shared.exists() {
            fs::write(&shared, (0..LONG).map(|n| ((n * 31) >> 3) as u8).collect::<Vec<_>>()).unwrap();
        }
        fs::hard_link(&shared, big).unwrap();
        let configuration = format!(
            "daemon off; master_process off; worker_processes 1; pid {0}/pid; error_log {0}/error.log;\n\
             events {{}}\n\
             http {{ access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy;\n\
             fastcgi_temp_path {0}/fastcgi; uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi;\n\
             server {{ listen {1}; root {0}; location = / {{ return 200 '{answer}'; }} }} }}\n",
            folder.display(),
            self.target(),
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, configuration).unwrap();
        let namespace = self.stand.lab().backend(index);
        let mut command = namespace.command("nginx");
        command.arg("-c").arg(&file).arg("-p").arg(&folder);
        let process = namespace.start(&mut command).unwrap();
        let is_ready = || namespace.run(|| TcpStream::connect(self.target()).is_ok());
        eventually("nginx", is_ready, |ready| *ready);
        process
    }

    /// Answers each datagram to the virtual endpoint with its name and the datagram.
    fn echo(&self, index: usize, name: &'static str) {
        let socket = self.stand.lab().backend(index).run(|| UdpSocket::bind(self.target())).unwrap();
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if &buffer[..length] == b"end" {
                    return;
                }
                socket.send_to(&[name.as_bytes(), &buffer[..length]].concat(), from).unwrap();
            }
        });
    }

    /// Ends what [`Self::echo`] began.
    fn end_echo(&self, index: usize) {
        let any = match self.way.vip {
            Ipv4 => "0.0.0.0:0",
            Ipv6 => "[::]:0",
        };
        self.stand.lab().backend(index).run(|| UdpSocket::bind(any).unwrap().send_to(b"end", self.target())).unwrap();
    }

    /// Asks by a datagram; again where nothing comes back, for what is too long for a tunnel is lost once before its sender knows.
    fn ask(&self, from: IpAddr, question: &[u8]) -> Vec<u8> {
        self.stand.lab().client().run(|| {
            let socket = UdpSocket::bind((from, 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            let mut answer = vec![0; 1 << 16];
            for _ in 0..5 {
                // What the kernel learns of the path is an error of the next call.
                let _ = socket.send_to(question, self.target());
                if let Ok(length) = socket.recv(&mut answer) {
                    answer.truncate(length);
                    return answer;
                }
            }
            panic!("no answer to {} bytes from {from}", question.len());
        })
    }

    /// Runs a line of the shell where clients are.
    fn shell(&self, line: &str) -> String {
        let client: &Namespace = self.stand.lab().client();
        client.output("sh", ["-c", line]).unwrap()
    }
}

/// curl of both versions, the split, a long download with its hash, and what the commands say.
fn serves_http(way: Way) {
    let mut direct = Direct::new(way, Setup { v2_weight: 50, ..Setup::default() });
    let _servers = [(0, "first"), (1, "second")].map(|(index, answer)| direct.nginx(index, answer));
    direct.start();
    let url = format!("http://{}", direct.target());
    let mut of_first = 0;
    for index in 1..=60 {
        let from = direct.source(index);
        let answer = direct.shell(&format!("curl -g -sS --fail --max-time 20 --interface {from} '{url}/'"));
        assert!(answer == "first" || answer == "second", "{answer}");
        of_first += u64::from(answer == "first");
    }
    assert!(within_five_deviations(of_first, 60, 0.5), "{of_first} of 60 by v1");
    let came = direct.shell(&format!("curl -g -sS --fail --max-time 60 '{url}/big' | sha256sum"));
    let file = direct.stand.file("first").join("big");
    let sent = direct.stand.lab().client().output("sha256sum", [file.as_os_str()]).unwrap();
    assert_eq!(came.split_whitespace().next(), sent.split_whitespace().next(), "each byte of {LONG}");
    let source = SocketAddr::new(direct.source(1), 40_000).to_string();
    let told = direct.stand.done(&["explain", "--src", &source, "--dst", &direct.target().to_string()]);
    let names = |index| told.contains(&direct.backend(index).to_string());
    assert!(told.contains("forwarded") && (names(0) || names(1)), "{told}");
    assert!(told.contains("next hop  backend"), "{told}");
    let status = direct.stand.done(&["status"]);
    assert!(status.contains(&format!("  {}  ", way.mode)), "{status}");
    let service = direct.stand.service();
    // Two cores serve all of this: a neighbour that answers late costs a packet, which is sent again.
    let others = service.reasons.keys().find(|reason| *reason != "unresolved_backend");
    assert_eq!(others, None, "{:?}", service.reasons);
    let totals: Vec<_> = service.versions.iter().map(|version| version.totals.packets_reverse).collect();
    assert_eq!(totals, [0, 0], "answers do not come by");
    assert!(direct.ends.iter().all(|end| end.taken() > 0), "each backend got its packets by its tunnel");
}

#[test]
fn dsr_serves_http_over_ipv4() {
    serves_http(DSR);
}

#[test]
fn dsr_serves_http_over_ipv6() {
    serves_http(DSR_IPV6);
}

#[test]
fn ipip_serves_http_over_ipv4() {
    serves_http(IPIP);
}

#[test]
fn ipip_serves_http_over_ipv6() {
    serves_http(IPIP_IPV6);
}

#[test]
fn ipip_serves_http_over_ipv4_by_backends_of_ipv6() {
    serves_http(IPV4_IN_IPV6);
}

/// Datagrams, whole and in pieces, come back from the version that the weights say.
fn echoes_datagrams(way: Way) {
    let mut direct = Direct::new(way, Setup { protocol: "udp", v2_weight: 50, ..Setup::default() });
    direct.echo(0, "v1/");
    direct.echo(1, "v2/");
    direct.start();
    let mut of_first = 0;
    for flow in 1..=100_u16 {
        let length = if flow % 20 == 0 { 9_000 } else { usize::from(flow) };
        let question: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        let answer = direct.ask(direct.source(flow), &question);
        assert!(
            answer.ends_with(&question) && answer.len() == question.len() + 3,
            "{} bytes of {length}",
            answer.len()
        );
        of_first += u64::from(answer.starts_with(b"v1/"));
    }
    assert!(within_five_deviations(of_first, 100, 0.5), "{of_first} of 100 by v1");
    (0..2).for_each(|index| direct.end_echo(index));
}

#[test]
fn dsr_takes_datagrams_of_ipv4() {
    echoes_datagrams(DSR);
}

#[test]
fn dsr_takes_datagrams_of_ipv6() {
    echoes_datagrams(DSR_IPV6);
}

#[test]
fn ipip_takes_datagrams_of_ipv4() {
    echoes_datagrams(IPIP);
}

#[test]
fn ipip_takes_datagrams_of_ipv6() {
    echoes_datagrams(IPIP_IPV6);
}

#[test]
fn ipip_takes_datagrams_of_ipv4_to_backends_of_ipv6() {
    echoes_datagrams(IPV4_IN_IPV6);
}

/// An upload finds out what fits into the tunnel, and arrives whole.
fn uploads(way: Way, inner_mtu: u32) {
    let mut direct = Direct::new(way, Setup::default());
    direct.start();
    let listener = direct.stand.lab().backend(0).run(|| TcpListener::bind(direct.target())).unwrap();
    let received = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).map(|_| all)
    });
    let sent: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 251) as u8).collect();
    direct.stand.lab().client().run(|| {
        let mut stream = TcpStream::connect(direct.target()).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&sent).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    });
    assert!(received.join().unwrap().unwrap() == sent, "each byte arrives");
    let route = direct.stand.lab().client().output("ip", ["route", "get", &direct.vip().to_string()]).unwrap();
    assert!(route.contains(&format!("mtu {inner_mtu}")), "the client knows what fits: {route}");
    assert!(direct.stand.service().reasons.get("fragmentation_needed").is_some_and(|count| *count > 0));
}

#[test]
fn an_upload_over_ipip_learns_what_fits_into_the_tunnel() {
    uploads(IPIP, 1_480);
}

#[test]
fn an_upload_over_ipip_of_ipv6_learns_what_fits_into_the_tunnel() {
    uploads(IPIP_IPV6, 1_460);
}

/// A connection stays where it is while all weight moves, also past the daemon's death and the next one's start.
fn keeps_connections(way: Way) {
    let mut direct = Direct::new(way, Setup::default());
    let _servers = [(0, "first"), (1, "second")].map(|(index, answer)| direct.nginx(index, answer));
    direct.start();
    let ask = |stream: &mut TcpStream| {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let (mut answer, mut buffer) = (String::new(), [0; 4_096]);
        while !answer.ends_with("first") && !answer.ends_with("second") {
            let length = stream.read(&mut buffer).unwrap();
            assert!(length > 0, "{answer}");
            answer.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
        answer.ends_with("first")
    };
    let connect = || {
        let stream = direct.stand.lab().client().run(|| TcpStream::connect(direct.target())).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let mut old = connect();
    assert!(ask(&mut old), "all are v1's");
    let _ = direct.stand.done(&["weights", "set", "recsys", "v1=0", "v2=100"]);
    let mut new = connect();
    assert!(!ask(&mut new) && !ask(&mut new), "new ones are v2's");
    assert!(ask(&mut old), "this one is still v1's");
    let _ = direct.stand.done(&["weights", "set", "recsys", "v1=100", "v2=0"]);
    assert!(!ask(&mut new) && ask(&mut old), "neither moves back");
    direct.stand.kill();
    assert!(!ask(&mut new) && ask(&mut old), "nobody is needed");
    direct.start();
    assert!(!ask(&mut new) && ask(&mut old), "the next daemon finds all as it was");
    let service = direct.stand.service();
    // Two cores serve all of this: a neighbour that answers late costs a packet, which is sent again.
    let others = service.reasons.keys().find(|reason| *reason != "unresolved_backend");
    assert_eq!(others, None, "{:?}", service.reasons);
    assert!(service.versions.iter().flat_map(|version| &version.backends).all(|backend| backend.resolved));
}

#[test]
fn a_connection_over_dsr_stays_where_it_is_when_all_weight_moves() {
    keeps_connections(DSR);
}

#[test]
fn a_connection_over_ipip_stays_where_it_is_when_all_weight_moves() {
    keeps_connections(IPV4_IN_IPV6);
}

#[test]
fn what_cannot_be_seen_is_said_and_refused() {
    let direct = Direct::new(
        DSR,
        Setup { fields: vec!["fuse: {limit: 20, ratio: 0.5, window: 1s}".to_owned()], ..Setup::default() },
    );
    let config = direct.stand.config_file().display().to_string();
    let told = direct.stand.done(&["check", &config]);
    assert!(
        told.contains(
            "with dsr answers do not come by: signals for plans: flowsPerSecond; the fuse counts repeated SYNs only"
        ),
        "{told}"
    );
    let plan = direct.stand.write("plan.yaml", &plan("unseen", &[(100, "")], true)).display().to_string();
    let refused = direct.stand.cli(&["plan", "lint", &plan, "--config", &config]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("connectFailureRatio is not available: with `dsr` nothing of what backends of service `recsys` answer comes by"), "{said}");
}
