//! `grayxdp trace`: packets as they go, told by the program itself; without it nothing is left of it.

use std::{process::Stdio, thread, time::Duration};

use grayxdp::model::api::TracedPacket;
use grayxdp_tests::stand::{Setup, Stand, ask_udp, assert_one_line, eventually, send_raw};

/// The packets that a trace shows while `happens`, which begins once the tracing program is attached.
pub(crate) fn traced(stand: &Stand, words: &[&str], happens: impl FnOnce()) -> Vec<TracedPacket> {
    let before = stand.snapshot().programs;
    let words = [&["-o", "json", "trace"], words].concat();
    let trace = stand.cli_command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the tracing program", || stand.snapshot().programs, |programs| *programs != before);
    happens();
    let output = trace.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
    lines.map(|packet| packet.unwrap()).collect()
}

#[test]
fn a_request_is_shown_from_syn_to_fin_with_what_became_of_each_packet() {
    let stand = Stand::running(Setup { v2_weight: 100, ..Setup::default() });
    let before = stand.snapshot();
    let running = stand.traffic().start(stand.lab().client()).unwrap();
    let client = format!("{}", stand.lab().sources().at(7));
    let seen = traced(&stand, &["--host", &client, "-n", "8", "--duration", "60s"], || {});
    let tally = running.stop();
    assert_eq!(tally.failed(), 0, "the programs change places without losing a packet: {tally:?}");
    assert_eq!(seen.len(), 8);
    let syn = seen.iter().find(|seen| seen.packet.flags.as_deref() == Some("S")).expect("a SYN is among them");
    assert_eq!((syn.way.fate.as_str(), syn.way.version.as_ref().map(|name| name.as_str())), ("forwarded", Some("v2")));
    let target = stand.target().to_string();
    assert!(syn.packet.source.starts_with(&client) && syn.packet.destination == target, "{syn:?}");
    let left = syn.left.as_ref().expect("it left");
    assert_eq!(left.destination, syn.way.backend.expect("a backend").to_string());
    assert_eq!(left.ttl, syn.packet.ttl.map(|ttl| ttl - 1));
    assert!(!syn.way.turns.is_empty());
    let answer = seen.iter().find(|seen| seen.packet.flags.as_deref() == Some("S.")).expect("its answer");
    assert_eq!(answer.left.as_ref().map(|left| left.source.as_str()), Some(target.as_str()));
    assert!(answer.way.next_hop.is_some(), "{answer:?}");
    let after = eventually("the usual program", || stand.snapshot(), |after| after.programs == before.programs);
    assert_eq!(after.pins, before.pins);
}

#[test]
fn dropped_packets_are_shown_with_their_reason_and_others_left_out() {
    let stand = Stand::running(Setup::default());
    let running = stand.traffic().start(stand.lab().client()).unwrap();
    let (vip, from) = (*stand.target().ip(), stand.lab().sources().at(9));
    let seen = traced(&stand, &["--dropped", "-n", "3", "--duration", "60s"], || {
        for port in 1..=3 {
            // A RST for a port without service is never answered.
            let line = format!("{from} {vip} {port}");
            stand.lab().client().run(|| send_reset(&line));
        }
    });
    assert_eq!(running.stop().failed(), 0);
    assert_eq!(seen.len(), 3);
    for packet in seen {
        assert_eq!((packet.way.fate.as_str(), packet.way.reason.as_deref()), ("dropped", Some("no_service")));
        assert_eq!((packet.packet.flags.as_deref(), packet.left), (Some("R"), None));
    }
}

/// Sends a RST through a raw socket: source, destination, port.
fn send_reset(words: &str) {
    let [from, to, port] = words.split(' ').collect::<Vec<_>>()[..] else { panic!("three words") };
    let mut segment = Vec::new();
    let (from, to): (std::net::Ipv4Addr, std::net::Ipv4Addr) = (from.parse().unwrap(), to.parse().unwrap());
    let builder = etherparse::PacketBuilder::ipv4(from.octets(), to.octets(), 64);
    builder.tcp(4_000, port.parse().unwrap(), 1, 0).rst().write(&mut segment, &[]).unwrap();
    send_raw(to, &segment);
}

#[test]
fn datagrams_of_another_service_are_told_apart_and_time_ends_a_trace() {
    let stand = Stand::running(Setup::default());
    let seen = traced(&stand, &["--protocol", "udp", "--duration", "2s"], || {
        let from = std::net::SocketAddrV4::new(stand.lab().sources().at(3), 5_000);
        // Nobody serves UDP there: the answer is an ICMP error.
        let _ = stand.lab().client().run(|| ask_udp(stand.lab().client(), stand.target(), from, "hello"));
    });
    assert!(!seen.is_empty() && seen.iter().all(|seen| seen.packet.protocol == "udp"), "{seen:?}");
    assert_eq!((seen[0].way.fate.as_str(), seen[0].way.reason.as_deref()), ("answered", Some("port_closed")));
    assert_eq!(seen[0].left.as_ref().map(|left| left.protocol.as_str()), Some("icmp"));
}

#[test]
fn one_traces_at_a_time_and_who_goes_away_or_dies_leaves_nothing_behind() {
    let mut stand = Stand::running(Setup::default());
    let before = stand.snapshot();
    let begin = |stand: &Stand| {
        let mut trace = stand.cli_command(&["trace", "--duration", "5m"]);
        let trace = trace.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("the tracing program", || stand.snapshot().programs, |programs| *programs != before.programs);
        trace
    };
    let mut first = begin(&stand);
    let second = stand.cli(&["trace"]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(second.status.code() == Some(1) && said.contains("uid 0 (root) traces already"), "{said}");
    // Killed, it asks no more; after a while the daemon sees that.
    first.kill().unwrap();
    first.wait().unwrap();
    thread::sleep(Duration::from_secs(1));
    eventually("the usual program", || stand.snapshot().programs, |programs| *programs == before.programs);
    // A daemon that dies while somebody traces: the next one gives the interfaces its own program.
    let third = begin(&stand);
    let tracing = stand.snapshot().programs;
    stand.kill();
    stand.start();
    let ended = third.wait_with_output().unwrap();
    assert!(!ended.status.success(), "its daemon died");
    let after = stand.snapshot();
    assert!(after.programs.iter().all(|(interface, program)| tracing.get(interface) != Some(program)), "{after:?}");
    assert_eq!(after.pins, before.pins);
    assert_eq!(stand.send(50).failed(), 0);
}

#[test]
fn wrong_words_are_one_line_and_change_nothing() {
    let stand = Stand::running(Setup::default());
    let before = stand.snapshot();
    for (option, value, named) in [
        ("--host", "10.0.0.300", "10.0.0.300"),
        ("--src", "10.0.0.1/8", "10.9.0.0/16"),
        ("--port", "0", "--port"),
        ("--service", "nobody", "nobody"),
        ("-n", "0", "use 1 to 100000"),
        ("--duration", "1h", "use up to 10m"),
    ] {
        assert_one_line(&stand.cli(&["trace", option, value]), 2, &[named]);
    }
    stand.assert_unchanged(&before, "refused traces");
}
