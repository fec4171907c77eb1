//! ICMP errors end to end: paths whose packets must be shorter than those of the first link, ports without servers.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use grayxdp::lab::{Namespace, download};
use grayxdp_tests::stand::{SERVER_PORT, Setup, Stand, eventually};

/// What the narrow path takes.
const MTU: u32 = 1_280;
const PATIENCE: Duration = Duration::from_secs(10);

/// A host at 10.`network`.0.1 behind one of the lab's, which becomes a router that sends it no packet longer than [`MTU`].
/// The host's own link is wide: it announces segments that do not fit the path.
fn behind(router: &Namespace, network: u8) -> Namespace {
    let host = Namespace::new("behind").unwrap();
    router.sysctl("net/ipv4/ip_forward", "1").unwrap();
    router
        .ip(&[
            format!("link add behind0 type veth peer name eth0 netns {}", host.path().display()),
            format!("address add 10.{network}.0.254/24 dev behind0"),
            "link set behind0 up".to_owned(),
            format!("route add 10.{network}.0.1/32 dev behind0 mtu {MTU}"),
        ])
        .unwrap();
    host.ip(&[
        "link set lo up".to_owned(),
        format!("address add 10.{network}.0.1/24 dev eth0"),
        "link set eth0 up".to_owned(),
        format!("route add default via 10.{network}.0.254"),
    ])
    .unwrap();
    host.output("ethtool", ["-K", "eth0", "tx", "off"]).unwrap();
    host
}

/// Whether a host has learnt that a path is narrow.
fn knows_path(host: &Namespace, destination: Ipv4Addr) -> bool {
    let route = host.output("ip", ["route", "get", &destination.to_string()]).unwrap();
    route.contains(&format!("mtu {MTU}"))
}

fn errors(stand: &Stand, direction: &str) -> f64 {
    stand.metrics().sum("grayxdp_icmp_errors_total", &[("direction", direction)])
}

#[test]
fn an_upload_over_a_narrow_path_behind_the_load_balancer_arrives_whole() {
    let mut stand = Stand::new(Setup { serves: [false, false], ..Setup::default() });
    let server = behind(stand.lab().backend(0), 77);
    let address = Ipv4Addr::new(10, 77, 0, 1);
    stand.lab().balancer().ip(&["route add 10.77.0.0/24 via 10.0.1.1".to_owned()]).unwrap();
    let text = stand.configuration().replace("10.0.1.1", &address.to_string());
    stand.write("grayxdp.yaml", &text);
    stand.start();
    let bytes = 2_000_000;
    let listener = server.run(|| TcpListener::bind((address, SERVER_PORT))).unwrap();
    let received = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).map(|_| all)
    });
    let sent: Vec<u8> = (0..bytes).map(|n: u32| (n % 251) as u8).collect();
    stand.lab().client().run(|| {
        let mut stream = TcpStream::connect(stand.target()).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&sent).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    });
    assert!(received.join().unwrap().unwrap() == sent, "each byte arrives");
    assert!(knows_path(stand.lab().client(), *stand.target().ip()), "the client knows the path to the virtual address");
    assert!(errors(&stand, "reverse") > 0.0);
}

#[test]
fn a_download_over_a_narrow_path_to_the_client_arrives_whole_from_every_backend() {
    let mut stand = Stand::new(Setup { pools: [vec![1], vec![1]], v2_weight: 50, ..Setup::default() });
    let client = behind(stand.lab().client(), 78);
    let address = Ipv4Addr::new(10, 78, 0, 1);
    stand.lab().balancer().ip(&["route add 10.78.0.0/24 via 10.0.0.1".to_owned()]).unwrap();
    stand.start();
    let both_know = || (0..2).all(|index| knows_path(stand.lab().backend(index), address));
    let mut downloads = 0;
    while !both_know() {
        let came = download(&client, address, stand.target(), 500_000, PATIENCE).unwrap();
        assert!(came.intact, "{came:?}");
        downloads += 1;
        assert!(downloads < 40, "no backend of {downloads} was told");
    }
    assert!(errors(&stand, "forward") >= 2.0);
}

#[test]
fn a_client_learns_at_once_that_no_server_has_its_port() {
    let stand = Stand::running(Setup { protocol: "udp", serves: [false, false], ..Setup::default() });
    let error = stand.lab().client().run(|| {
        let socket = UdpSocket::bind((stand.lab().sources().at(5), 0)).unwrap();
        socket.connect(stand.target()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send(b"anybody there?").unwrap();
        socket.recv(&mut [0; 64]).unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    eventually("the error in the metrics", || errors(&stand, "reverse"), |count| *count > 0.0);
}
