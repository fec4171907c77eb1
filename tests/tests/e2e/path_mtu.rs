//! Errors and sizes end to end: paths whose packets must be shorter than those of the first link, datagrams in pieces, ports
//! without servers, the trace of a way.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket},
    os::fd::{FromRawFd, OwnedFd},
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
pub(crate) fn behind(router: &Namespace, network: u8) -> Namespace {
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
pub(crate) fn knows_path(host: &Namespace, destination: Ipv4Addr) -> bool {
    let route = host.output("ip", ["route", "get", &destination.to_string()]).unwrap();
    route.contains(&format!("mtu {MTU}"))
}

pub(crate) fn errors(stand: &Stand, direction: &str) -> f64 {
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
    upload(&stand, &server, address);
    assert!(errors(&stand, "reverse") > 0.0);
}

/// Uploads to a server at an address behind the service, over a path that the client must find to be narrow.
fn upload(stand: &Stand, server: &Namespace, address: Ipv4Addr) {
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
}

#[test]
fn an_upload_over_a_narrow_link_of_the_load_balancer_arrives_whole() {
    let mut stand = Stand::new(Setup { serves: [false, false], ..Setup::default() });
    stand.lab().balancer().ip(&[format!("link set backend1 mtu {MTU}")]).unwrap();
    stand.start();
    upload(&stand, stand.lab().backend(0), stand.lab().backend_address(0));
    assert!(stand.service().reasons.get("fragmentation_needed").is_some_and(|count| *count > 0));
}

/// Asks with a long datagram; what comes back is the server's name and the question.
fn ask_long(stand: &Stand, number: u64, length: usize) {
    let question: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
    let answer = stand.lab().client().run(|| {
        let socket = UdpSocket::bind((stand.lab().sources().at(number), 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(&question, stand.target()).unwrap();
        let mut answer = vec![0; 1 << 16];
        let length = socket.recv(&mut answer).unwrap();
        answer.truncate(length);
        answer
    });
    assert!(answer.ends_with(&question), "{} bytes of {length} come back", answer.len());
}

#[test]
fn datagrams_in_pieces_reach_their_backend_and_their_client() {
    let stand = Stand::running(Setup { protocol: "udp", v2_weight: 50, ..Setup::default() });
    (0..20).for_each(|number| ask_long(&stand, number, 9_000));
    assert_eq!(stand.service().reasons.get("fragment"), None);
}

#[test]
fn datagrams_that_may_be_cut_go_over_a_narrow_link_in_pieces() {
    let mut stand = Stand::new(Setup { protocol: "udp", ..Setup::default() });
    stand.lab().balancer().ip(&[format!("link set backend1 mtu {MTU}")]).unwrap();
    stand.lab().backend(0).ip(&[format!("link set eth0 mtu {MTU}")]).unwrap();
    stand.lab().client().sysctl("net/ipv4/ip_no_pmtu_disc", "1").unwrap();
    stand.start();
    ask_long(&stand, 1, 1_400);
    ask_long(&stand, 2, 5_000);
    assert!(stand.service().reasons.get("too_big_passed").is_some_and(|count| *count >= 2));
}

/// A socket that gets a host's ICMP messages.
fn icmp_messages(host: &Namespace) -> UdpSocket {
    let socket = host.run(|| {
        // SAFETY: the call takes three numbers.
        let descriptor =
            unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_ICMP) };
        assert!(descriptor >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: a new descriptor that nobody else has. What is asked of it, reading with a time limit, any socket can.
        UdpSocket::from(unsafe { OwnedFd::from_raw_fd(descriptor) })
    });
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Who sent the next ICMP message, its type and its code.
fn next_message(socket: &UdpSocket) -> (Ipv4Addr, u8, u8) {
    let mut packet = [0; 2_048];
    let length = socket.recv(&mut packet).unwrap();
    assert!(length >= 28, "{length}");
    let [a, b, c, d] = packet[12..16] else { unreachable!("four bytes") };
    (Ipv4Addr::new(a, b, c, d), packet[20], packet[21])
}

#[test]
fn the_way_of_a_datagram_through_the_virtual_address_can_be_traced() {
    let stand = Stand::running(Setup { protocol: "udp", ..Setup::default() });
    let messages = icmp_messages(stand.lab().client());
    let ask = |ttl: u32, port: u16| {
        let socket = stand.lab().client().run(|| UdpSocket::bind((stand.lab().sources().at(9), 0))).unwrap();
        socket.set_ttl(ttl).unwrap();
        socket.send_to(b"who is there?", (*stand.target().ip(), port)).unwrap();
        socket
    };
    let service = stand.target().port();
    let _first = ask(1, service);
    assert_eq!(next_message(&messages), (Ipv4Addr::new(10, 0, 0, 254), 11, 0), "the load balancer itself");
    let second = ask(2, service);
    second.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(second.recv(&mut [0; 64]).is_ok(), "the backend behind it");
    let _closed = ask(9, service + 1);
    assert_eq!(next_message(&messages), (*stand.target().ip(), 3, 3), "a port that no service has");
    let counted = || ["time_exceeded", "port_closed"].map(|reason| stand.service().reasons.get(reason).copied());
    eventually("both answers in status", counted, |counts| *counts == [Some(1); 2]);
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
