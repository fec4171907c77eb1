//! `full-nat` while things change: pools and backends, the first service of the mode, narrow paths, one link for all, bad pools.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use grayxdp::lab::Arms;
use grayxdp_tests::stand::{SERVER_PORT, Setup, Stand};

use crate::{
    full_nat::{IPV4, PATIENCE, Translated, get},
    path_mtu::{behind, errors, knows_path},
    trace::traced,
};

#[test]
fn pools_and_backends_come_and_go_while_connections_live() {
    let mut translated = Translated::new(IPV4, Setup { v2_weight: 50, ..Setup::default() });
    let _servers = [(0, "first"), (1, "second")].map(|(index, answer)| translated.nginx(index, answer));
    translated.stand.start();
    let mut connections: Vec<_> = (0..20).map(|_| translated.connect()).collect();
    let seen: Vec<_> = connections.iter_mut().map(get).collect();
    for index in 0..2 {
        translated
            .stand
            .lab()
            .backend(index)
            .ip(&[format!("route add 10.98.0.1/32 via 10.0.{}.254", index + 1)])
            .unwrap();
    }
    let text = fs::read_to_string(translated.stand.config_file()).unwrap();
    let moved = text.replace(IPV4.pool, "10.98.0.1");
    translated.stand.write("grayxdp.yaml", &moved);
    let _ = translated.stand.done(&["reload"]);
    let now: Vec<_> = connections.iter_mut().map(get).collect();
    assert_eq!(now, seen, "who has an address of the old pool keeps it");
    for _ in 0..10 {
        let (_, from) = get(&mut translated.connect());
        assert_eq!(from.to_string(), "10.98.0.1", "new flows have one of the new pool");
    }
    // The second version's only backend is replaced by the first's neighbour under another port, and comes back.
    let second = format!("{{address: \"{}\"", translated.backend(1));
    let without = moved.replace(&second, "{address: \"10.0.2.77\"");
    translated.stand.write("grayxdp.yaml", &without);
    let _ = translated.stand.done(&["reload"]);
    assert_eq!(connections.iter_mut().map(get).collect::<Vec<_>>(), seen, "a backend that leaves drains");
    translated.stand.write("grayxdp.yaml", &moved);
    let _ = translated.stand.done(&["reload"]);
    assert_eq!(connections.iter_mut().map(get).collect::<Vec<_>>(), seen, "… and comes back");
    let other = moved
        .replace("forwarding: full-nat", "forwarding: nat")
        .replace("sourcePool: [\"10.98.0.1\"]", "onDown: reset");
    translated.stand.write("grayxdp.yaml", &other);
    let refused = translated.stand.cli(&["reload"]);
    assert!(!refused.status.success(), "{}", String::from_utf8_lossy(&refused.stdout));
    assert_eq!(connections.iter_mut().map(get).collect::<Vec<_>>(), seen);
}

#[test]
fn clients_and_backends_on_one_link_are_served_by_full_nat_only() {
    let pool = "10.0.250.1";
    let text = |stand: &Stand, fields: &str| {
        let nat = stand.configuration();
        nat.replace("  announce: false\n", &format!("  announce: true\n{fields}"))
    };
    let new = || Stand::new(Setup { arms: Arms::One, ..Setup::default() });
    let mut stand = new();
    let connects = |stand: &Stand| {
        let own = "10.0.0.1:0".parse::<SocketAddr>().unwrap();
        let target = SocketAddr::from(stand.target());
        stand.lab().client().run(|| {
            let stream = TcpStream::connect_timeout(&target, Duration::from_millis(2_500)).ok()?;
            Some(stream.local_addr().unwrap().ip() == own.ip())
        })
    };
    let nat = text(&stand, "");
    stand.write("grayxdp.yaml", &nat);
    stand.start();
    assert_eq!(connects(&stand), None, "with nat the answer bypasses the load balancer");
    drop(stand);
    let mut stand = new();
    let full = text(&stand, &format!("  forwarding: full-nat\n  sourcePool: [{pool}]\n"));
    stand.write("grayxdp.yaml", &full);
    stand.start();
    assert_eq!(connects(&stand), Some(true), "the client speaks from its own address on the link");
    let reasons = stand.service().reasons;
    assert!(reasons.get("arp").is_some_and(|count| *count > 0), "the pool's address is announced: {reasons:?}");
    let pinged = stand.lab().client().output("ping", ["-c", "1", "-W", "5", pool]).unwrap();
    assert!(pinged.contains(" 0% packet loss"), "{pinged}");
}

#[test]
fn paths_that_are_narrow_behind_routers_are_found_out_in_both_directions() {
    let mut translated = Translated::new(IPV4, Setup::default());
    let lab = translated.stand.lab();
    // A server behind a backend, and a client behind the client: each router tells of its narrow link.
    let (server, client) = (behind(lab.backend(0), 77), behind(lab.client(), 78));
    let routes = ["route add 10.77.0.0/24 via 10.0.1.1".to_owned(), "route add 10.78.0.0/24 via 10.0.0.1".to_owned()];
    lab.balancer().ip(&routes).unwrap();
    let text = fs::read_to_string(translated.stand.config_file()).unwrap().replace("\"10.0.1.1\"", "10.77.0.1");
    translated.stand.write("grayxdp.yaml", &text);
    translated.stand.start();
    let target = translated.target();
    let listener = server.run(|| TcpListener::bind(("10.77.0.1", SERVER_PORT))).unwrap();
    let served = thread::spawn(move || {
        let (mut stream, from) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
        (all, from.ip())
    });
    let sent: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 251) as u8).collect();
    let came = client.run(|| {
        let mut stream = TcpStream::connect(target).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&sent).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    });
    let (received, seen) = served.join().unwrap();
    assert!(received == sent && came == sent, "each byte arrives, and comes back");
    assert!(translated.is_of_pool(seen), "{seen}");
    assert!(knows_path(&client, translated.stand.lab().vip()), "the client knows the path to the virtual address");
    let IpAddr::V4(seen) = seen else { unreachable!("the pool is of IPv4") };
    assert!(knows_path(&server, seen), "the server knows the path to the pool");
    for direction in ["forward", "reverse"] {
        assert!(errors(&translated.stand, direction) > 0.0, "errors went {direction}");
    }
}

#[test]
fn pools_that_cannot_be_are_refused_in_one_line() {
    let stand = Stand::new(Setup { serves: [false, false], ..Setup::default() });
    let refused = |fields: &str| {
        let text = stand.configuration().replace("  announce: false\n", &format!("  announce: false\n{fields}"));
        let file = stand.write("pool.yaml", &text).display().to_string();
        let output = stand.cli(&["check", &file]);
        assert_eq!(output.status.code(), Some(2), "{fields}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(told.trim().lines().count(), 1, "{told}");
        told
    };
    for (fields, said) in [
        ("  forwarding: full-nat\n", "has no `sourcePool`"),
        ("  sourcePool: [10.99.0.1]\n", "which forwards by `nat`"),
        ("  forwarding: full-nat\n  sourcePool: [10.0.1.1]\n", "is a backend of service `recsys`"),
        ("  forwarding: full-nat\n  sourcePool: [192.0.2.10]\n", "is the VIP of service `recsys`"),
        ("  forwarding: full-nat\n  sourcePool: [10.99.0.0/24]\n", "more than 64 addresses"),
        ("  forwarding: full-nat\n  sourcePool: [10.99.0.1, 10.99.0.0/31]\n", "stands twice"),
        ("  forwarding: full-nat\n  sourcePool: [\"fd00::1\"]\n", "use addresses of IPv4"),
        ("  forwarding: full-nat\n  sourcePool: [127.0.0.1]\n", "a loopback address"),
    ] {
        let told = refused(fields);
        assert!(told.contains(said), "{fields}: {told}");
    }
}

#[test]
fn the_first_service_of_full_nat_comes_by_a_reload_and_is_traced() {
    let mut translated = Translated::new(IPV4, Setup::default());
    let _server = translated.nginx(0, "first");
    let text = fs::read_to_string(translated.stand.config_file()).unwrap();
    // At first the service has another address, and `nat`: then there is no flow table.
    let mode = format!("  forwarding: full-nat\n  sourcePool: [\"{}\"]\n", IPV4.pool);
    let service = text.split("services:\n").nth(1).unwrap();
    let other = service.replace("name: recsys", "name: other").replace(&mode, "").replace("192.0.2.10", "192.0.2.11");
    let head = text.split("services:\n").next().unwrap();
    translated.stand.write("grayxdp.yaml", &format!("{head}services:\n{}", other.replace("8080", "8081")));
    translated.stand.start();
    assert!(!translated.stand.done(&["status"]).contains("flow table"), "nobody needs it");
    translated.stand.write("grayxdp.yaml", &format!("{head}services:\n{service}{}", other.replace("8080", "8081")));
    let _ = translated.stand.done(&["reload"]);
    let mut connection = translated.connect();
    let seen = get(&mut connection);
    assert!(translated.is_of_pool(seen.1), "{}", seen.1);
    let target = translated.target().to_string();
    let told = traced(&translated.stand, &["--host", "192.0.2.10", "-n", "1", "--duration", "60s"], || {
        assert_eq!(get(&mut connection), seen);
    });
    assert_eq!((told[0].way.fate.as_str(), told[0].packet.destination.as_str()), ("forwarded", target.as_str()));
    let left = told[0].left.as_ref().expect("it left");
    assert!(
        left.source.starts_with("10.99.0.") && left.destination == translated.backend(0).to_string() + ":8080",
        "{left:?}"
    );
    let back = traced(&translated.stand, &["--host", "10.99.0.0/30", "-n", "1", "--duration", "60s"], || {
        assert_eq!(get(&mut connection), seen);
    });
    assert_eq!(back[0].left.as_ref().map(|left| left.source.as_str()), Some(target.as_str()), "{back:?}");
}
