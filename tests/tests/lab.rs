//! The lab by itself: the kernel forwards, nothing of grayxdp is loaded.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    io::ErrorKind,
    net::{SocketAddrV4, TcpStream, UdpSocket},
    process::Command,
    thread,
    time::Duration,
};

use grayxdp::{
    lab::{Arms, Failure, HttpServer, Lab, LastingFlows, LastingTraffic, Traffic, UdpEcho, download},
    model::config::Protocol,
};

use grayxdp_tests::stand::{Capture, Seen};

const PORT: u16 = 8_080;

fn endpoint(lab: &Lab, backend: usize) -> SocketAddrV4 {
    SocketAddrV4::new(lab.backend_address(backend), PORT)
}

/// Builds a lab of two backends, each with a server, and sends requests to each.
fn every_backend_answers(arms: Arms) {
    let lab = Lab::builder().arms(arms).backends(2).build().unwrap();
    lab.ping().unwrap();
    for (backend, version) in [(0, "v1"), (1, "v2")] {
        let target = endpoint(&lab, backend);
        let _server = HttpServer::start(lab.backend(backend), version, target).unwrap();
        let tally = Traffic::new(target, lab.sources()).send(lab.client(), 300).unwrap();
        assert_eq!(tally.by_version(version), 300, "{tally:?}");
        assert_eq!(tally.failed(), 0, "{tally:?}");
    }
}

#[test]
fn a_two_armed_lab_carries_requests_to_every_backend() {
    every_backend_answers(Arms::Two);
}

#[test]
fn a_one_armed_lab_carries_requests_to_every_backend() {
    every_backend_answers(Arms::One);
}

#[test]
fn two_labs_at_once_do_not_meet() {
    let labs = [0, 1].map(|_| Lab::builder().backends(1).build().unwrap());
    let _server = HttpServer::start(labs[0].backend(0), "v1", endpoint(&labs[0], 0)).unwrap();
    let traffic = || Traffic::new(endpoint(&labs[0], 0), labs[0].sources());
    assert_eq!(traffic().send(labs[0].client(), 10).unwrap().by_version("v1"), 10);
    assert_eq!(traffic().send(labs[1].client(), 10).unwrap().failures[&Failure::Refused], 10);
}

#[test]
fn requests_to_a_port_without_a_server_are_refused_and_silence_times_out() {
    let lab = Lab::builder().backends(1).build().unwrap();
    let refused = Traffic::new(endpoint(&lab, 0), lab.sources()).send(lab.client(), 50).unwrap();
    assert_eq!(refused.failures[&Failure::Refused], 50, "{refused:?}");
    lab.backend(0).ip(&["link set eth0 down".to_owned()]).unwrap();
    let traffic = Traffic { timeout: Duration::from_millis(200), ..Traffic::new(endpoint(&lab, 0), lab.sources()) };
    let silent = traffic.send(lab.client(), 40).unwrap();
    assert_eq!(silent.failures[&Failure::TimedOut], 40, "{silent:?}");
}

#[test]
fn a_connection_that_is_kept_carries_many_requests() {
    let lab = Lab::builder().backends(1).build().unwrap();
    let _server = HttpServer::start(lab.backend(0), "v1", endpoint(&lab, 0)).unwrap();
    let traffic = Traffic { requests_per_connection: 10, clients: 4, ..Traffic::new(endpoint(&lab, 0), lab.sources()) };
    let tally = traffic.send(lab.client(), 400).unwrap();
    assert_eq!(tally.by_version("v1"), 400, "{tally:?}");
    let opened = lab.backend(0).run(|| {
        let counters = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
        let tcp: Vec<Vec<String>> = counters
            .lines()
            .filter(|line| line.starts_with("Tcp:"))
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect();
        let column = tcp[0].iter().position(|name| name == "PassiveOpens").unwrap();
        tcp[1][column].parse::<u64>().unwrap()
    });
    assert!((40..=48).contains(&opened), "{opened} connections for 400 requests of 10 each by four clients");
}

#[test]
fn a_server_that_ends_takes_its_connections_along() {
    let lab = Lab::builder().backends(1).build().unwrap();
    let server = HttpServer::start(lab.backend(0), "v1", endpoint(&lab, 0)).unwrap();
    let running = Traffic { pause: Duration::from_millis(5), ..Traffic::new(endpoint(&lab, 0), lab.sources()) }
        .start(lab.client())
        .unwrap();
    while running.tally().by_version("v1") < 100 {
        thread::sleep(Duration::from_millis(5));
    }
    drop(server);
    while running.tally().failed() < 100 {
        thread::sleep(Duration::from_millis(5));
    }
    let tally = running.stop();
    assert!(tally.failures[&Failure::Refused] >= 50, "{tally:?}");
}

#[test]
fn a_download_arrives_whole() {
    let lab = Lab::builder().backends(1).build().unwrap();
    let _server = HttpServer::start(lab.backend(0), "v1", endpoint(&lab, 0)).unwrap();
    let bytes = 5_000_001;
    let arrived =
        download(lab.client(), lab.sources().at(7), endpoint(&lab, 0), bytes, Duration::from_secs(5)).unwrap();
    assert_eq!((arrived.bytes, arrived.intact), (bytes, true));
}

#[test]
fn a_datagram_comes_back_with_the_name_of_who_got_it() {
    let lab = Lab::builder().backends(1).build().unwrap();
    let _server = UdpEcho::start(lab.backend(0), "v1", endpoint(&lab, 0)).unwrap();
    let answer = lab.client().run(|| {
        let socket = UdpSocket::bind((lab.sources().at(3), 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        socket.send_to(b"hello", endpoint(&lab, 0)).unwrap();
        let mut answer = [0; 64];
        let (length, _) = socket.recv_from(&mut answer).unwrap();
        String::from_utf8(answer[..length].to_vec()).unwrap()
    });
    assert_eq!(answer, "v1/10.0.1.1 hello");
}

#[test]
fn the_balancer_reaches_a_backend_itself_and_keeps_its_pins_to_itself() {
    let lab = Lab::builder().backends(1).build().unwrap();
    let _server = HttpServer::start(lab.backend(0), "v1", endpoint(&lab, 0)).unwrap();
    lab.balancer().run(|| TcpStream::connect(endpoint(&lab, 0)).unwrap());
    lab.balancer().run(|| std::fs::create_dir("/sys/fs/bpf/of_the_lab").unwrap());
    assert!(lab.balancer().output("ls", ["/sys/fs/bpf"]).unwrap().contains("of_the_lab"));
    assert_eq!(std::fs::metadata("/sys/fs/bpf/of_the_lab").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_process_inside_ends_with_its_guard() {
    let lab = Lab::builder().backends(1).build().unwrap();
    let mut process = lab.balancer().start(lab.balancer().command("sleep").arg("100")).unwrap();
    let pid = process.child().id();
    assert!(Command::new("kill").args(["-0", &pid.to_string()]).status().unwrap().success());
    drop(process);
    assert!(!Command::new("kill").args(["-0", &pid.to_string()]).output().unwrap().status.success());
}

/// Lasting flows of a backend, each with its first answer.
fn lasting(lab: &Lab, protocol: Protocol, count: u64) -> LastingFlows {
    let pauses = (Duration::from_millis(400), Duration::from_millis(100));
    let traffic = LastingTraffic {
        silence: pauses.0,
        longest_pause: pauses.1,
        timeout: Duration::from_secs(5),
        ..LastingTraffic::new(protocol, endpoint(lab, 0), lab.sources())
    };
    let flows = traffic.start(lab.client()).unwrap();
    flows.begin("first", count);
    eventually(|| flows.living().len() as u64 == count);
    flows
}

fn eventually(holds: impl Fn() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("it does not come about");
}

#[test]
fn lasting_connections_are_answered_to_their_end() {
    let lab = Lab::builder().backends(1).build().unwrap();
    let _server = HttpServer::start(lab.backend(0), "v1", endpoint(&lab, 0)).unwrap();
    let flows = lasting(&lab, Protocol::Tcp, 300);
    flows.begin("second", 50);
    eventually(|| flows.living().len() == 350);
    let lives = flows.finish();
    assert_eq!((lives.all().ended, lives.all().harmed()), (350, 0), "{lives:?}");
    assert_eq!((lives.steps["first"].begun, lives.steps["second"].begun), (300, 50));
}

#[test]
fn lasting_connections_that_are_cut_off_are_counted_at_once() {
    let lab = Lab::builder().backends(1).build().unwrap();
    let server = HttpServer::start(lab.backend(0), "v1", endpoint(&lab, 0)).unwrap();
    let flows = lasting(&lab, Protocol::Tcp, 50);
    drop(server);
    eventually(|| flows.tally().all().broken == 50);
    assert!(flows.living().is_empty());
    assert_eq!(flows.finish().harms.len(), 50);
}

#[test]
fn a_flow_of_datagrams_that_another_server_answers_has_moved() {
    let lab = Lab::builder().backends(1).build().unwrap();
    let server = UdpEcho::start(lab.backend(0), "v1", endpoint(&lab, 0)).unwrap();
    let flows = lasting(&lab, Protocol::Udp, 50);
    assert_eq!(flows.tally().all().harmed(), 0);
    drop(server);
    let _other = UdpEcho::start(lab.backend(0), "v2", endpoint(&lab, 0)).unwrap();
    eventually(|| flows.tally().all().harmed() == 50);
    let all = flows.finish().all();
    // The socket of a client is told when nobody serves for a moment.
    assert_eq!((all.moved + all.broken, all.ended), (50, 0));
    assert!(all.moved > 0, "{all:?}");
}

#[test]
fn a_capture_sees_every_connection_from_both_ends() {
    let lab = Lab::builder().backends(1).build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ends = [("client", lab.client()), ("backend", lab.backend(0))];
    let start = |(name, namespace)| Capture::start(namespace, lab.far_interface(), folder.path().join(name));
    let captures = ends.map(start);
    let tally = Traffic::new(endpoint(&lab, 0), lab.sources()).send(lab.client(), 400).unwrap();
    assert_eq!(tally.failures[&Failure::Refused], 400);
    let [client, backend] = captures.map(Capture::stop);
    for seen in [&client, &backend] {
        assert_eq!(seen.iter().filter(|packet| packet.is_syn()).count(), 400);
        assert_eq!(seen.iter().filter(|packet| packet.is_rst()).count(), 400);
    }
    let syns = |seen: &[Seen]| -> Vec<_> { seen.iter().filter(|packet| packet.is_syn()).copied().collect() };
    let later = |sent: &&Seen| {
        let arrived = syns(&backend).into_iter().find(|syn| (syn.source, syn.sequence) == (sent.source, sent.sequence));
        arrived.is_some_and(|arrived| arrived.seconds >= sent.seconds)
    };
    assert_eq!(syns(&client).iter().filter(later).count(), 400, "one clock for both");
}
