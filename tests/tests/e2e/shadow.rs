//! Shadow releases with real servers: the candidate gets copies of a part of the flows, clients are answered by stable alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use grayxdp::model::{api::TracedPacket, shadow::ShadowCounts, state::RolloutState};
use grayxdp_tests::stand::{
    SERVER_PORT, SERVICE, Setup, Stand, VIP_PORT, assert_one_line, eventually, within, within_five_deviations,
};

/// Long enough for looks on two busy cores.
const LONG: Duration = Duration::from_secs(90);

/// Datagrams of each flow.
const DATAGRAMS: usize = 3;

/// A server that keeps what it got; it answers, or is deaf.
struct Server {
    got: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    fn start(stand: &Stand, backend: usize, is_six: bool, answers: Option<&'static str>) -> Self {
        let address = match is_six {
            true => stand.lab().backend_address6(backend).into(),
            false => stand.lab().backend_address(backend).into(),
        };
        let socket =
            stand.lab().backend(backend).run(|| UdpSocket::bind(SocketAddr::new(address, SERVER_PORT))).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        make_room(&socket);
        let (got, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (kept, stopped) = (Arc::clone(&got), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                kept.lock().unwrap().push(buffer[..length].to_vec());
                if let Some(name) = answers {
                    socket.send_to(&[name.as_bytes(), &buffer[..length]].concat(), from).unwrap();
                }
            }
        });
        Self { got, stop, thread: Some(thread) }
    }

    fn got(&self) -> Vec<Vec<u8>> {
        self.got.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

/// A server that gets no time for a while on a busy machine loses nothing.
fn make_room(socket: &UdpSocket) {
    let (bytes, length) = (64_i32 << 20, size_of::<i32>() as libc::socklen_t);
    // SAFETY: the option is a number, which lives through the call.
    let set = unsafe {
        let value = (&raw const bytes).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, value, length)
    };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

/// A stand of UDP without servers.
fn stand(is_six: bool) -> Stand {
    let mut stand = Stand::new(Setup { protocol: "udp", serves: [false, false], ..Setup::default() });
    if is_six {
        let lab = stand.lab();
        lab.add_ipv6().unwrap();
        let mut text = stand.configuration().replace(&lab.vip().to_string(), &format!("\"{}\"", lab.vip6()));
        for index in 0..2 {
            let (old, new) = (lab.backend_address(index).to_string(), lab.backend_address6(index).to_string());
            text = text.replace(&old, &format!("\"{new}\""));
        }
        stand.write("grayxdp.yaml", &text);
    }
    stand.start();
    stand
}

fn plan(name: &str, sample: u8, duration: &str) -> String {
    format!(
        "apiVersion: grayxdp.io/v1\nkind: Rollout\nmetadata: {{name: {name}}}\nspec:\n  service: {SERVICE}\n  candidate: v2\n  \
         strategy:\n    shadow: {{sample: {sample}, duration: {duration}}}\n  analysis:\n    interval: 1s\n    metrics:\n    \
         - {{name: errors, provider: {{kernel: {{signal: connectFailureRatio}}}}, thresholdRange: {{max: 0.05}}, minSamples: 10}}\n    \
         - {{name: latency, provider: {{kernel: {{signal: firstByte, quantile: 0.5}}}}, thresholdRange: {{max: 2s}}, minSamples: 10}}\n"
    )
}

/// What a datagram of a flow carries: lengths differ, from a few bytes to a frame's.
fn payload(flow: u16, datagram: usize) -> Vec<u8> {
    let mut bytes = format!("{flow}/{datagram}/").into_bytes();
    bytes.extend((0..usize::from(flow) * 7 % 1_300).map(|n| ((n * 31) >> 2) as u8));
    bytes
}

/// Asks in flows of their own, and asserts that each datagram is answered once, by stable. A datagram that is lost fails it.
fn ask(stand: &Stand, is_six: bool, flows: std::ops::Range<u16>) {
    let target: SocketAddr = match is_six {
        true => (stand.lab().vip6(), VIP_PORT).into(),
        false => stand.target().into(),
    };
    stand.lab().client().run(|| {
        for flow in flows {
            let source = match is_six {
                true => stand.lab().source6(flow + 1).into(),
                false => stand.lab().sources().at(u64::from(flow)).into(),
            };
            let socket = UdpSocket::bind(SocketAddr::new(source, 20_000 + flow % 10_000)).unwrap();
            socket.connect(target).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut buffer = vec![0; 1 << 16];
            for datagram in 0..DATAGRAMS {
                let payload = payload(flow, datagram);
                socket.send(&payload).unwrap();
                let length = socket.recv(&mut buffer).unwrap();
                assert_eq!(buffer[..length], [b"v1/", &payload[..]].concat(), "flow {flow}");
            }
            socket.set_nonblocking(true).unwrap();
            let more = socket.recv(&mut buffer).map_err(|error| error.kind());
            assert_eq!(more, Err(io::ErrorKind::WouldBlock), "flow {flow} is answered once");
        }
    });
}

fn state(stand: &Stand, name: &str) -> RolloutState {
    stand.rollout(name).state
}

/// Starts a shadow and waits until packets are copied: the interfaces run the program that does it.
fn begin(stand: &Stand, name: &str, plan: &str) {
    let before = stand.snapshot().programs;
    stand.start_rollout(name, plan);
    eventually("the copying program", || stand.snapshot().programs, |programs| *programs != before);
}

/// Flows go on until the rollout is in a state.
fn ask_until(stand: &Stand, is_six: bool, name: &str, wanted: RolloutState) {
    let mut flow = 20_000;
    let look = || {
        ask(stand, is_six, flow..flow + 40);
        flow = if flow < 60_000 { flow + 40 } else { 20_000 };
        (state(stand, name), stand.rollout(name).message)
    };
    within(LONG, "the end", look, |(state, _)| *state == wanted);
}

/// What the candidate got, by flow; asserts that it is what clients sent, each datagram once.
fn by_flow(got: Vec<Vec<u8>>) -> BTreeMap<u16, BTreeSet<usize>> {
    let mut flows: BTreeMap<u16, BTreeSet<usize>> = BTreeMap::new();
    for datagram in got {
        let head: Vec<_> = datagram.splitn(3, |byte| *byte == b'/').take(2).map(<[u8]>::to_vec).collect();
        let number = |index: usize| std::str::from_utf8(&head[index]).unwrap().parse::<u16>().unwrap();
        let (flow, index) = (number(0), usize::from(number(1)));
        assert_eq!(datagram, payload(flow, index), "flow {flow}");
        assert!(flows.entry(flow).or_default().insert(index), "flow {flow}, datagram {index}, twice");
    }
    flows
}

fn goes_to_its_good_end(is_six: bool) {
    const FLOWS: u16 = 600;
    let stand = stand(is_six);
    let _stable = Server::start(&stand, 0, is_six, Some("v1/"));
    let candidate = Server::start(&stand, 1, is_six, Some("v2/"));
    ask(&stand, is_six, 0..1);
    let before = stand.snapshot();
    begin(&stand, "shadow", &plan("shadow", 25, "1h"));
    ask(&stand, is_six, 1_000..1_000 + FLOWS);
    let sent = || stand.rollout("shadow").shadow.unwrap_or_default();
    let quiet = || {
        // Counts are told once a second.
        let before = (sent(), candidate.got().len() as u64);
        thread::sleep(Duration::from_secs(2));
        (before, (sent(), candidate.got().len() as u64))
    };
    let all_there = |(before, after): &(_, (ShadowCounts, u64))| {
        let (counts, got) = after;
        before == after && *got > 0 && [counts.copied, counts.sent, counts.answers] == [*got; 3]
    };
    within(LONG, "all that was copied", quiet, all_there);
    let flows = by_flow(candidate.got());
    assert!(within_five_deviations(flows.len() as u64, u64::from(FLOWS), 0.25), "{} of {FLOWS} flows", flows.len());
    assert!(flows.values().all(|datagrams| datagrams.len() == DATAGRAMS), "all of a flow, or nothing: {flows:?}");
    let counts = sent();
    assert_eq!((counts.lost, counts.dropped, counts.flows), (0, 0, flows.len() as u64), "{counts:?}");
    assert_eq!(stand.v2(), 0.0);
    let metrics = stand.metrics();
    let labels = [("rollout", "shadow"), ("service", SERVICE), ("result", "sent")];
    assert_eq!(metrics.sum("grayxdp_shadow_datagrams_total", &labels), counts.sent as f64);

    let file = stand.write("short.yaml", &plan("shadow", 25, "2s"));
    let _ = stand.done(&["rollout", "apply", &file.to_string_lossy()]);
    ask_until(&stand, is_six, "shadow", RolloutState::Completed);
    let rollout = stand.rollout("shadow");
    assert!(rollout.message.contains(" unanswered"), "{}", rollout.message);
    assert_eq!((stand.service().stable.as_str(), stand.v2()), ("v1", 0.0));
    let after = eventually("the usual program", || stand.snapshot(), |after| after.programs == before.programs);
    assert_eq!(after.pins, before.pins);
    let report = stand.done(&["rollout", "report", "shadow"]);
    assert!(report.contains("copies:") && report.contains("answers thrown away"), "{report}");
}

#[test]
fn a_shadow_copies_its_sample_whole_and_completes() {
    goes_to_its_good_end(false);
}

#[test]
fn a_shadow_over_ipv6_copies_its_sample_whole_and_completes() {
    goes_to_its_good_end(true);
}

#[test]
fn candidates_that_refuse_or_are_deaf_are_found_by_copies_and_no_client_hears_of_it() {
    let stand = stand(false);
    let _stable = Server::start(&stand, 0, false, Some("v1/"));
    begin(&stand, "refusing", &plan("refusing", 50, "1h"));
    ask_until(&stand, false, "refusing", RolloutState::RolledBack);
    let rollout = stand.rollout("refusing");
    // Of refusals the kernel tells few a second: the others are found by their silence.
    assert!(rollout.message.contains(" broke its limit"), "{}", rollout.message);
    let counts = rollout.shadow.unwrap();
    assert!(counts.unanswered >= 10 && counts.answered == 0 && counts.answers == 0, "{counts:?}");

    let _deaf = Server::start(&stand, 1, false, None);
    begin(&stand, "deaf", &plan("deaf", 50, "1h"));
    ask_until(&stand, false, "deaf", RolloutState::RolledBack);
    assert_eq!((stand.v2(), stand.service().stable.as_str()), (0.0, "v1"));
}

#[test]
fn a_shadow_goes_on_beside_a_trace_and_after_the_death_of_its_daemon() {
    let mut stand = stand(false);
    let _stable = Server::start(&stand, 0, false, Some("v1/"));
    let candidate = Server::start(&stand, 1, false, Some("v2/"));
    begin(&stand, "shadow", &plan("shadow", 100, "1h"));
    let has = |flow: u16| {
        let got = candidate.got();
        (0..DATAGRAMS).all(|datagram| got.contains(&payload(flow, datagram)))
    };
    ask(&stand, false, 1..2);
    eventually("a copy", || has(1), |has| *has);

    let words = ["-o", "json", "trace", "-n", "6", "--duration", "60s"];
    let trace = stand.cli_command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut flow = 100;
    let mut trace = trace;
    while trace.try_wait().unwrap().is_none() {
        ask(&stand, false, flow..flow + 1);
        flow += 1;
        thread::sleep(Duration::from_millis(20));
    }
    let output = trace.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let packets = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<TracedPacket>();
    assert_eq!(packets.map(Result::unwrap).count(), 6);
    eventually("copies beside the trace", || (100..flow).all(has), |has| *has);
    ask(&stand, false, 5_000..5_001);
    eventually("a copy after the trace", || has(5_000), |has| *has);

    stand.kill();
    ask(&stand, false, 6_000..6_010);
    stand.start();
    assert_eq!(state(&stand, "shadow"), RolloutState::Progressing);
    let mut flow = 7_000;
    let again = || {
        flow += 1;
        ask(&stand, false, flow..flow + 1);
        has(flow - 1)
    };
    within(LONG, "copies after the restart", again, |has| *has);
    let copying = stand.snapshot().programs;
    let _ = stand.done(&["rollout", "abort", "shadow"]);
    assert_eq!(state(&stand, "shadow"), RolloutState::RolledBack);
    eventually("the usual program", || stand.snapshot().programs, |programs| *programs != copying);
    let got = candidate.got().len();
    ask(&stand, false, 9_000..9_010);
    assert_eq!(candidate.got().len(), got, "nothing is copied any more");
}

#[test]
fn a_shadow_of_tcp_is_refused_with_the_reason() {
    let stand = Stand::running(Setup::default());
    let file = stand.write("shadow.yaml", &plan("shadow", 10, "1h"));
    assert_one_line(&stand.cli(&["rollout", "start", &file.to_string_lossy()]), 2, &["is tcp", "only udp has shadows"]);
}
