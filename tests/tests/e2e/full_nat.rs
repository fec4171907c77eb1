//! `full-nat`: backends see addresses and ports of a pool, so their answers come back whatever their routes are.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use grayxdp::lab::Process;
use grayxdp_tests::stand::{SERVER_PORT, Setup, Stand, VIP_PORT, eventually, within_five_deviations};

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of the long download.
const LONG: usize = 100_000_000;

/// A family of addresses, and the pool that stands for clients: nobody's addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Family {
    is_ipv4: bool,
    pub(crate) pool: &'static str,
}

pub(crate) const IPV4: Family = Family { is_ipv4: true, pool: "10.99.0.0/30" };
const IPV6: Family = Family { is_ipv4: false, pool: "fd00:99::/126" };

/// A stand whose backends have a route to the pool, and none to clients.
pub(crate) struct Translated {
    pub(crate) stand: Stand,
    family: Family,
}

impl Translated {
    pub(crate) fn new(family: Family, setup: Setup) -> Self {
        let mode = vec!["forwarding: full-nat".to_owned(), format!("sourcePool: [\"{}\"]", family.pool)];
        let fields = [setup.fields.clone(), mode].concat();
        let stand = Stand::new(Setup { serves: [false, false], fields, ..setup });
        let lab = stand.lab();
        lab.add_ipv6().unwrap();
        let translated = Self { stand, family };
        let lab = translated.stand.lab();
        let mut text = translated.stand.configuration();
        text = text.replace(&format!("vip: {}", lab.vip()), &format!("vip: \"{}\"", translated.target().ip()));
        for index in 0..2 {
            let (old, new) = (lab.backend_address(index), translated.backend(index));
            text = text.replace(&format!("{{address: {old},"), &format!("{{address: \"{new}\","));
            let gateway = match new {
                IpAddr::V4(address) => IpAddr::from([10, 0, address.octets()[2], 254]),
                IpAddr::V6(_) => {
                    let routes = lab.backend(index).output("ip", ["-6", "route", "show", "default"]).unwrap();
                    routes.split_whitespace().nth(2).unwrap().parse().unwrap()
                }
            };
            let flag = if family.is_ipv4 { "-4" } else { "-6" };
            lab.backend(index).output("ip", [flag, "route", "delete", "default"]).unwrap();
            lab.backend(index).ip(&[format!("route add {} via {gateway}", family.pool)]).unwrap();
        }
        translated.stand.write("grayxdp.yaml", &text);
        translated
    }

    pub(crate) fn target(&self) -> SocketAddr {
        let lab = self.stand.lab();
        let vip = if self.family.is_ipv4 { lab.vip().into() } else { lab.vip6().into() };
        SocketAddr::new(vip, VIP_PORT)
    }

    pub(crate) fn backend(&self, index: usize) -> IpAddr {
        let lab = self.stand.lab();
        if self.family.is_ipv4 { lab.backend_address(index).into() } else { lab.backend_address6(index).into() }
    }

    fn server(&self, index: usize) -> SocketAddr {
        SocketAddr::new(self.backend(index), SERVER_PORT)
    }

    fn source(&self, index: u16) -> IpAddr {
        let lab = self.stand.lab();
        if self.family.is_ipv4 { lab.sources().at(index.into()).into() } else { lab.source6(index).into() }
    }

    pub(crate) fn is_of_pool(&self, address: IpAddr) -> bool {
        let prefix = if self.family.is_ipv4 { "10.99.0." } else { "fd00:99::" };
        address.to_string().starts_with(prefix)
    }

    /// nginx on a backend; it answers with these words and the client's address as it sees it, and `/big` with [`LONG`] bytes.
    pub(crate) fn nginx(&self, index: usize, answer: &str) -> Process {
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
             server {{ listen {1}; root {0}; location = / {{ return 200 '{answer} $remote_addr|'; }} }} }}\n",
            folder.display(),
            self.server(index),
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, configuration).unwrap();
        let namespace = self.stand.lab().backend(index);
        let mut command = namespace.command("nginx");
        command.arg("-c").arg(&file).arg("-p").arg(&folder);
        let process = namespace.start(&mut command).unwrap();
        let is_ready = || namespace.run(|| TcpStream::connect(self.server(index)).is_ok());
        eventually("nginx", is_ready, |ready| *ready);
        process
    }

    /// Answers each datagram with its name and the datagram.
    fn echo(&self, index: usize, name: &'static str) {
        let socket = self.stand.lab().backend(index).run(|| UdpSocket::bind(self.server(index))).unwrap();
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if &buffer[..length] == b"end" {
                    return;
                }
                let _ = socket.send_to(&[name.as_bytes(), &buffer[..length]].concat(), from);
            }
        });
    }

    /// Ends what [`Self::echo`] began.
    fn end_echo(&self, index: usize) {
        let own = SocketAddr::new(self.backend(index), 0);
        let server = self.server(index);
        self.stand.lab().backend(index).run(|| UdpSocket::bind(own).unwrap().send_to(b"end", server)).unwrap();
    }

    /// A socket of a client that waits a while for answers.
    fn asker(&self, from: IpAddr) -> UdpSocket {
        let socket = self.stand.lab().client().run(|| UdpSocket::bind((from, 0))).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket
    }

    /// Asks by a datagram, again where nothing comes back.
    fn ask(&self, socket: &UdpSocket, question: &[u8]) -> Vec<u8> {
        let mut answer = vec![0; 1 << 16];
        for _ in 0..5 {
            let _ = socket.send_to(question, self.target());
            if let Ok(length) = socket.recv(&mut answer) {
                answer.truncate(length);
                return answer;
            }
        }
        panic!("no answer to {} bytes", question.len());
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = self.stand.lab().client().run(|| TcpStream::connect(self.target())).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn shell(&self, line: &str) -> String {
        self.stand.lab().client().output("sh", ["-c", line]).unwrap()
    }
}

/// Asks nginx over a connection: who answers, and whom it sees.
pub(crate) fn get(stream: &mut TcpStream) -> (String, IpAddr) {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let (mut answer, mut buffer) = (String::new(), [0; 4_096]);
    while !answer.ends_with('|') {
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "{answer}");
        answer.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    said(answer.rsplit('\n').next().unwrap())
}

fn said(line: &str) -> (String, IpAddr) {
    let (who, from) = line.trim().trim_end_matches('|').split_once(' ').unwrap();
    (who.to_owned(), from.parse().unwrap())
}

/// Counts that are of the machine's haste, not of the packets.
fn is_of_haste(reason: &str) -> bool {
    reason == "unresolved_backend" || reason == "unresolved_client"
}

/// curl of both versions, the split, a long download with its hash, and what the commands say.
fn serves_http(family: Family) {
    let mut translated = Translated::new(family, Setup { v2_weight: 50, ..Setup::default() });
    let _servers = [(0, "first"), (1, "second")].map(|(index, answer)| translated.nginx(index, answer));
    translated.stand.start();
    let url = format!("http://{}", translated.target());
    let mut of_first = 0;
    for index in 1..=60 {
        let from = translated.source(index);
        let answer = translated.shell(&format!("curl -g -sS --fail --max-time 20 --interface {from} '{url}/'"));
        let (who, seen) = said(&answer);
        assert!(translated.is_of_pool(seen), "the server sees {seen}");
        of_first += u64::from(who == "first");
    }
    assert!(within_five_deviations(of_first, 60, 0.5), "{of_first} of 60 by v1");
    let came = translated.shell(&format!("curl -g -sS --fail --max-time 60 '{url}/big' | sha256sum"));
    let file = translated.stand.file("big");
    let sent = translated.stand.lab().client().output("sha256sum", [file.as_os_str()]).unwrap();
    assert_eq!(came.split_whitespace().next(), sent.split_whitespace().next(), "each byte of {LONG}");
    let begun = || translated.stand.service().flows.expect("flows of full-nat are known").begun;
    let before = begun();
    let source = SocketAddr::new(translated.source(1), 40_000).to_string();
    let told = translated.stand.done(&["explain", "--src", &source, "--dst", &translated.target().to_string()]);
    assert!(told.contains("forwarded") && told.contains("a new flow gets an address and a port of the pool"), "{told}");
    assert_eq!(begun(), before, "to explain opens nothing");
    assert!(before >= 61, "{before} flows begun");
    eventually("the sweep", || translated.stand.service().flows.unwrap().open, |open| *open > 0);
    let status = translated.stand.done(&["status"]);
    assert!(status.contains("  full-nat  ") && status.contains("flows in the table: "), "{status}");
    assert!(status.contains(" of 262144 places taken"), "{status}");
    let metrics = translated.stand.metrics();
    assert!(metrics.sum("grayxdp_flow_table_inserts_total", &[]) >= 61.0);
    let service = translated.stand.service();
    assert!(service.reasons.keys().all(|reason| is_of_haste(reason)), "{:?}", service.reasons);
    assert!(service.versions.iter().all(|version| version.totals.packets_reverse > 0), "answers come by");
}

#[test]
fn full_nat_serves_http_over_ipv4() {
    serves_http(IPV4);
}

#[test]
fn full_nat_serves_http_over_ipv6() {
    serves_http(IPV6);
}

/// Datagrams, whole and in pieces, come back from the version that the weights say.
fn echoes_datagrams(family: Family) {
    let mut translated = Translated::new(family, Setup { protocol: "udp", v2_weight: 50, ..Setup::default() });
    translated.echo(0, "v1/");
    translated.echo(1, "v2/");
    translated.stand.start();
    let mut of_first = 0;
    for flow in 1..=100_u16 {
        let length = if flow % 20 == 0 { 9_000 } else { usize::from(flow) };
        let question: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        let answer = translated.ask(&translated.asker(translated.source(flow)), &question);
        assert!(answer.ends_with(&question) && answer.len() == question.len() + 3, "{} of {length}", answer.len());
        of_first += u64::from(answer.starts_with(b"v1/"));
    }
    assert!(within_five_deviations(of_first, 100, 0.5), "{of_first} of 100 by v1");
    let old = translated.asker(translated.source(200));
    let home = translated.ask(&old, b"one");
    let all = if home.starts_with(b"v1/") { ["v1=0", "v2=100"] } else { ["v1=100", "v2=0"] };
    let _ = translated.stand.done(&["weights", "set", "recsys", all[0], all[1]]);
    assert_eq!(translated.ask(&old, b"one"), home, "who talks stays");
    assert_ne!(
        translated.ask(&translated.asker(translated.source(201)), b"one"),
        home,
        "who comes does not wait for a window"
    );
    (0..2).for_each(|index| translated.end_echo(index));
}

#[test]
fn full_nat_takes_datagrams_of_ipv4() {
    echoes_datagrams(IPV4);
}

#[test]
fn full_nat_takes_datagrams_of_ipv6() {
    echoes_datagrams(IPV6);
}

/// A connection stays where it is while all weight moves, also past the daemon's death and the next one's start.
fn keeps_connections(family: Family) {
    let mut translated = Translated::new(family, Setup::default());
    let _servers = [(0, "first"), (1, "second")].map(|(index, answer)| translated.nginx(index, answer));
    translated.stand.start();
    let mut old = translated.connect();
    let first = get(&mut old);
    assert_eq!(first.0, "first", "all are v1's");
    let _ = translated.stand.done(&["weights", "set", "recsys", "v1=0", "v2=100"]);
    let mut new = translated.connect();
    let second = get(&mut new);
    assert_eq!(second.0, "second", "new ones are v2's");
    assert_eq!(get(&mut old), first, "this one is still v1's");
    let _ = translated.stand.done(&["weights", "set", "recsys", "v1=100", "v2=0"]);
    assert!(get(&mut new) == second && get(&mut old) == first, "neither moves back");
    translated.stand.kill();
    assert!(get(&mut new) == second && get(&mut old) == first, "nobody is needed");
    translated.stand.start();
    assert!(get(&mut new) == second && get(&mut old) == first, "the next daemon finds all as it was");
    assert_eq!(get(&mut translated.connect()).0, "first");
    let service = translated.stand.service();
    assert!(service.reasons.keys().all(|reason| is_of_haste(reason)), "{:?}", service.reasons);
}

#[test]
fn a_connection_over_full_nat_stays_where_it_is_when_all_weight_moves() {
    keeps_connections(IPV4);
}

#[test]
fn a_connection_over_full_nat_of_ipv6_stays_where_it_is_when_all_weight_moves() {
    keeps_connections(IPV6);
}
