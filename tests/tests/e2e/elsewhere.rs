//! Packets that are not of the service: the host's own, the backends' own, other ports of the virtual address.

use std::{io::ErrorKind, net::SocketAddrV4, net::UdpSocket, time::Duration};

use grayxdp::lab::{Arms, HttpServer};
use grayxdp_tests::stand::{SERVER_PORT, Setup, Stand, eventually, get, try_flow};

fn backend(stand: &Stand, index: usize, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(stand.lab().backend_address(index), port)
}

/// The host asks a backend's service port, as a health check does, while clients are served.
fn the_host_reaches_its_backends(arms: Arms) {
    let stand = Stand::running(Setup { arms, v2_weight: 50, ..Setup::default() });
    let running = stand.traffic().start(stand.lab().client()).unwrap();
    for _ in 0..50 {
        for (index, who) in [(0, "v1/10.0.1.1"), (1, "v2/10.0.2.1")] {
            let answer = get(stand.lab().balancer(), backend(&stand, index, SERVER_PORT), "/").unwrap();
            assert_eq!(answer, (200, who.to_owned()));
        }
    }
    assert_eq!(running.stop().failed(), 0);
    let passed: u64 = stand.service().reasons.get("direct_access").copied().unwrap_or_default();
    assert!(passed >= 100 * 3, "SYN-ACK, answer and FIN of a hundred connections passed: {passed}");
}

#[test]
fn the_host_reaches_its_backends_service_ports_with_two_arms() {
    the_host_reaches_its_backends(Arms::Two);
}

#[test]
fn the_host_reaches_its_backends_service_ports_with_one_arm() {
    the_host_reaches_its_backends(Arms::One);
}

#[test]
fn backends_own_connections_and_other_ports_pass_untouched() {
    let stand = Stand::running(Setup::default());
    let lab = stand.lab();
    let of_client = SocketAddrV4::new(lab.sources().at(3), 9_000);
    let _client = HttpServer::start(lab.client(), "client", of_client).unwrap();
    let _other = HttpServer::start(lab.backend(0), "other", backend(&stand, 0, 9_090)).unwrap();
    for _ in 0..20 {
        assert_eq!(get(lab.backend(0), of_client, "/").unwrap().1, "client/10.64.0.3");
        assert_eq!(get(lab.client(), backend(&stand, 0, 9_090), "/").unwrap().1, "other/10.0.1.1");
        assert_eq!(get(lab.balancer(), of_client, "/").unwrap().1, "client/10.64.0.3");
    }
    let totals = stand.service().versions[0].totals;
    assert_eq!((totals.packets_forward, totals.packets_reverse), (0, 0), "nothing of it is the service's");
}

#[test]
fn a_prefix_with_direct_access_talks_to_backends_past_the_virtual_address() {
    let direct = "10.64.32.0/19".to_owned();
    let stand = Stand::running(Setup { direct_access: vec![direct], ..Setup::default() });
    let sources = stand.lab().sources();
    let port = |port| SocketAddrV4::new(sources.at(8_192 + 5), port);
    let target = backend(&stand, 0, SERVER_PORT);
    let answer = try_flow(stand.lab().client(), target, port(40_000), Duration::from_secs(3));
    assert_eq!(answer.unwrap(), "v1/10.0.1.1");
    let served = stand.traffic();
    let served = grayxdp::lab::Traffic { sources: sources.slice(0, 8_192), ..served };
    assert_eq!(served.send(stand.lab().client(), 200).unwrap().failed(), 0);
}

/// Packets that the host's own network stack forwarded.
fn forwarded(stand: &Stand) -> u64 {
    stand.lab().balancer().run(|| {
        let text = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
        let lines: Vec<Vec<&str>> =
            text.lines().filter(|line| line.starts_with("Ip:")).map(|line| line.split(' ').collect()).collect();
        let column = lines[0].iter().position(|name| *name == "ForwDatagrams").unwrap();
        lines[1][column].parse().unwrap()
    })
}

/// Sends 50 datagrams to a port of the virtual address that has no service; how many packets came back.
fn come_back(stand: &Stand) -> u64 {
    let before = forwarded(stand);
    stand.lab().client().run(|| {
        let socket = UdpSocket::bind((stand.lab().sources().at(1), 0)).unwrap();
        for _ in 0..50 {
            socket.send_to(b"anybody there?", (*stand.target().ip(), 81)).unwrap();
        }
    });
    forwarded(stand) - before
}

#[test]
fn a_packet_for_another_port_is_counted_and_never_goes_back_to_the_router() {
    let mut stand = Stand::new(Setup::default());
    stand.lab().ping().unwrap();
    // The way of most hosts: what is for nobody here goes back to the router that brought it.
    stand.lab().balancer().ip(&["route add default via 10.0.0.1".to_owned()]).unwrap();
    assert!(come_back(&stand) >= 50, "without grayxdp the kernel sends them back");
    stand.start();
    let returned = come_back(&stand);
    assert!(returned < 10, "{returned} of 50 came back");
    let closed = SocketAddrV4::new(*stand.target().ip(), 81);
    let from = SocketAddrV4::new(stand.lab().sources().at(2), 41_000);
    let answer = try_flow(stand.lab().client(), closed, from, Duration::from_secs(5));
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let metrics = || get(stand.lab().balancer(), grayxdp_tests::stand::HTTP.parse().unwrap(), "/metrics").unwrap().1;
    let counted = |text: &String| {
        let lines =
            text.lines().filter(|line| line.starts_with("grayxdp_answered_total") && line.contains("port_closed"));
        lines.filter_map(|line| line.split(' ').next_back()?.parse::<u64>().ok()).sum::<u64>() >= 51
    };
    eventually("answers for a closed port", metrics, counted);
    assert_eq!(stand.send(200).failed(), 0);
}

#[test]
fn the_virtual_address_answers_a_ping() {
    let stand = Stand::running(Setup::default());
    let (source, vip) = (stand.lab().sources().at(4).to_string(), stand.target().ip().to_string());
    let said =
        stand.lab().client().output("ping", ["-n", "-c", "3", "-i", "0.2", "-W", "2", "-I", &source, &vip]).unwrap();
    assert!(said.contains("3 received"), "{said}");
    let echoes = || stand.service().reasons.get("echo").copied();
    eventually("echoes in status", echoes, |echoes| *echoes == Some(3));
}
