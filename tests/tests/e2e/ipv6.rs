//! IPv6 end to end: programs that nobody here wrote, a long download, datagrams whole and in pieces, narrow paths.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{Ipv6Addr, Shutdown, SocketAddrV6, TcpListener, TcpStream, UdpSocket},
    process::Stdio,
    thread,
    time::Duration,
};

use grayxdp::lab::{Namespace, Process};
use grayxdp_tests::stand::{SERVER_PORT, Setup, Stand, VIP_PORT, eventually, within_five_deviations};

const PATIENCE: Duration = Duration::from_secs(10);
/// What a narrow path takes; the least that IPv6 asks of any.
const MTU: u32 = 1_280;
/// Bytes of the long download.
const LONG: usize = 100_000_000;

/// A stand whose service, backends and clients have IPv6 addresses only.
fn stand(setup: Setup) -> Stand {
    let stand = Stand::new(Setup { serves: [false, false], ..setup });
    let lab = stand.lab();
    lab.add_ipv6().unwrap();
    let mut text = stand.configuration().replace(&lab.vip().to_string(), &format!("\"{}\"", lab.vip6()));
    for index in 0..2 {
        let (old, new) = (lab.backend_address(index).to_string(), lab.backend_address6(index).to_string());
        text = text.replace(&old, &format!("\"{new}\""));
    }
    stand.write("grayxdp.yaml", &text);
    stand
}

/// nginx on a backend; it answers with these words, and `/big` with [`LONG`] bytes.
fn nginx(stand: &Stand, backend: usize, answer: &str) -> Process {
    let folder = stand.file(answer);
    fs::create_dir(&folder).unwrap();
    let bytes: Vec<u8> = (0..LONG).map(|n| ((n * 31) >> 3) as u8).collect();
    fs::write(folder.join("big"), bytes).unwrap();
    let configuration = format!(
        "daemon off; master_process off; worker_processes 1; pid {0}/pid; error_log {0}/error.log;\n\
         events {{}}\n\
         http {{ access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy;\n\
         fastcgi_temp_path {0}/fastcgi; uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi;\n\
         server {{ listen [{1}]:{SERVER_PORT}; root {0}; location = / {{ return 200 '{answer}'; }} }} }}\n",
        folder.display(),
        stand.lab().backend_address6(backend),
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, configuration).unwrap();
    let namespace = stand.lab().backend(backend);
    let mut command = namespace.command("nginx");
    command.arg("-c").arg(&file).arg("-p").arg(&folder);
    let process = namespace.start(&mut command).unwrap();
    let end = SocketAddrV6::new(stand.lab().backend_address6(backend), SERVER_PORT, 0, 0);
    eventually("nginx", || namespace.run(|| TcpStream::connect(end).is_ok()), |ready| *ready);
    process
}

fn target(stand: &Stand) -> SocketAddrV6 {
    SocketAddrV6::new(stand.lab().vip6(), VIP_PORT, 0, 0)
}

/// Runs a line of the shell where clients are.
fn shell(stand: &Stand, line: &str) -> String {
    stand.lab().client().output("sh", ["-c", line]).unwrap()
}

#[test]
fn nginx_answers_curl_over_ipv6_and_a_long_download_is_whole() {
    let mut stand = stand(Setup { v2_weight: 50, ..Setup::default() });
    let _servers = [(0, "first"), (1, "second")].map(|(backend, answer)| nginx(&stand, backend, answer));
    stand.start();
    let url = format!("http://{}", target(&stand));
    let mut answers = BTreeMap::new();
    for source in 1..=60 {
        let from = stand.lab().source6(source);
        let answer = shell(&stand, &format!("curl -g -sS --fail --max-time 20 --interface {from} '{url}/'"));
        *answers.entry(answer).or_insert(0_u64) += 1;
    }
    assert_eq!(answers.keys().collect::<Vec<_>>(), ["first", "second"]);
    assert!(within_five_deviations(answers["first"], 60, 0.5), "{answers:?}");
    let came = shell(&stand, &format!("curl -g -sS --fail --max-time 60 '{url}/big' | sha256sum"));
    let sent = stand.lab().client().output("sha256sum", [stand.file("first").join("big").as_os_str()]).unwrap();
    assert_eq!(came.split_whitespace().next(), sent.split_whitespace().next(), "each byte of {LONG}");
    let told = stand.done(&[
        "explain",
        "--src",
        &format!("[{}]:40000", stand.lab().source6(1)),
        "--dst",
        &target(&stand).to_string(),
    ]);
    assert!(
        told.contains(&stand.lab().backend_address6(0).to_string())
            || told.contains(&stand.lab().backend_address6(1).to_string()),
        "{told}"
    );
}

/// Answers each datagram with its name and the datagram.
fn echo(stand: &Stand, backend: usize, name: &'static str) {
    let end = SocketAddrV6::new(stand.lab().backend_address6(backend), SERVER_PORT, 0, 0);
    let socket = stand.lab().backend(backend).run(|| UdpSocket::bind(end)).unwrap();
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

/// Whether a datagram of a flow comes back; one that is lost is sent again.
fn is_answered(stand: &Stand, flow: u16) -> bool {
    stand.lab().client().run(|| {
        let socket = UdpSocket::bind((stand.lab().source6(flow), 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        (0..5).any(|_| {
            socket.send_to(b"?", target(stand)).unwrap();
            socket.recv_from(&mut [0; 16]).is_ok()
        })
    })
}

#[test]
fn a_daemon_that_dies_while_somebody_traces_leaves_ipv6_as_it_was() {
    let mut stand = stand(Setup { protocol: "udp", v2_weight: 50, ..Setup::default() });
    echo(&stand, 0, "v1/");
    echo(&stand, 1, "v2/");
    stand.start();
    assert!(is_answered(&stand, 1), "before");
    let before = stand.snapshot();
    let mut command = stand.cli_command(&["trace", "--duration", "5m"]);
    let trace = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the tracing program", || stand.snapshot().programs, |programs| *programs != before.programs);
    stand.kill();
    assert!(!trace.wait_with_output().unwrap().status.success(), "its daemon died");
    // What the kernel does when nobody holds an array it does a while later.
    thread::sleep(Duration::from_millis(500));
    assert!((1..=20).all(|flow| is_answered(&stand, flow)), "while no daemon runs");
    stand.start();
    assert!((1..=20).all(|flow| is_answered(&stand, flow)), "with the next one");
    assert_eq!(stand.snapshot().pins, before.pins);
}

#[test]
fn datagrams_over_ipv6_come_back_whole_and_in_pieces() {
    let mut stand = stand(Setup { protocol: "udp", v2_weight: 50, ..Setup::default() });
    echo(&stand, 0, "v1/");
    echo(&stand, 1, "v2/");
    stand.start();
    let mut of_first = 0;
    for flow in 1..=200_u16 {
        let length = if flow % 10 == 0 { 9_000 } else { usize::from(flow) };
        let question: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        let answer = stand.lab().client().run(|| {
            let socket = UdpSocket::bind((stand.lab().source6(flow), 0)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.send_to(&question, target(&stand)).unwrap();
            let mut answer = vec![0; 1 << 16];
            let length = socket.recv(&mut answer).unwrap();
            answer.truncate(length);
            answer
        });
        assert!(
            answer.ends_with(&question) && answer.len() == question.len() + 3,
            "{} bytes of {length}",
            answer.len()
        );
        of_first += u64::from(answer.starts_with(b"v1/"));
    }
    assert!(within_five_deviations(of_first, 200, 0.5), "{of_first} of 200 by v1");
    assert_eq!(stand.service().reasons.get("fragment"), None);
    for index in 0..2 {
        let end = SocketAddrV6::new(stand.lab().backend_address6(index), SERVER_PORT, 0, 0);
        stand.lab().backend(index).run(|| UdpSocket::bind("[::]:0").unwrap().send_to(b"end", end)).unwrap();
    }
}

/// Uploads to a server at an address behind the service, over a path that the client must find to be narrow.
fn upload(stand: &Stand, server: &Namespace, address: Ipv6Addr) {
    let listener = server.run(|| TcpListener::bind((address, SERVER_PORT))).unwrap();
    let received = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).map(|_| all)
    });
    let sent: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 251) as u8).collect();
    stand.lab().client().run(|| {
        let mut stream = TcpStream::connect(target(stand)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&sent).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    });
    assert!(received.join().unwrap().unwrap() == sent, "each byte arrives");
    let route = stand.lab().client().output("ip", ["route", "get", &target(stand).ip().to_string()]).unwrap();
    assert!(route.contains(&format!("mtu {MTU}")), "the client knows the path to the virtual address: {route}");
}

#[test]
fn an_upload_over_ipv6_by_a_narrow_link_of_the_load_balancer_arrives_whole() {
    let mut stand = stand(Setup::default());
    stand.lab().balancer().ip(&[format!("link set backend1 mtu {MTU}")]).unwrap();
    stand.start();
    upload(&stand, stand.lab().backend(0), stand.lab().backend_address6(0));
    assert!(stand.service().reasons.get("fragmentation_needed").is_some_and(|count| *count > 0));
}

#[test]
fn an_upload_over_ipv6_over_a_narrow_path_behind_the_load_balancer_arrives_whole() {
    let mut stand = stand(Setup::default());
    let (router, server) = (stand.lab().backend(0), Namespace::new("behind").unwrap());
    router.sysctl("net/ipv6/conf/all/forwarding", "1").unwrap();
    router
        .ip(&[
            format!("link add behind0 type veth peer name eth0 netns {}", server.path().display()),
            "address add fd77::254/64 dev behind0 nodad".to_owned(),
            "link set behind0 up".to_owned(),
            format!("route add fd77::1/128 dev behind0 mtu {MTU}"),
            // Forwarding took the route away that the lab made.
            format!("route replace default via {} dev eth0", "fd00:0:1::254"),
        ])
        .unwrap();
    server
        .ip(&[
            "link set lo up".to_owned(),
            "address add fd77::1/64 dev eth0 nodad".to_owned(),
            "link set eth0 up".to_owned(),
            "route add default via fd77::254".to_owned(),
        ])
        .unwrap();
    server.output("ethtool", ["-K", "eth0", "tx", "off"]).unwrap();
    let first = stand.lab().backend_address6(0).to_string();
    stand.lab().balancer().ip(&[format!("route add fd77::/64 via {first}")]).unwrap();
    let text = stand.configuration().replace(&format!("\"{first}\""), "\"fd77::1\"");
    stand.write("grayxdp.yaml", &text);
    stand.start();
    upload(&stand, &server, "fd77::1".parse().unwrap());
    let errors = stand.metrics().sum("grayxdp_icmp_errors_total", &[("direction", "reverse")]);
    assert!(errors > 0.0, "{errors}");
}

#[test]
fn an_announced_ipv6_address_on_the_link_is_found_by_its_neighbours() {
    let mut stand = stand(Setup { announce: true, ..Setup::default() });
    let _server = nginx(&stand, 0, "first");
    stand.start();
    // Now the client takes the virtual address for a neighbour's.
    let interface = stand.lab().far_interface();
    stand.lab().client().ip(&[format!("route add {}/128 dev {interface}", stand.lab().vip6())]).unwrap();
    let answer = shell(&stand, &format!("curl -g -sS --fail --max-time 20 'http://{}/'", target(&stand)));
    assert_eq!(answer, "first");
    assert!(stand.service().reasons.get("arp").is_some_and(|count| *count > 0), "{:?}", stand.service().reasons);
}
