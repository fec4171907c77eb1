//! Protocols that nobody here wrote, over every way: DNS by dnsmasq and dig, QUIC by quinn, traceroute, a port scan.

mod quic;

use std::net::SocketAddr;

use grayxdp::lab::Process;
use grayxdp_tests::stand::{Setup, VIP_PORT, eventually, within_five_deviations};

use crate::ways::{
    DSR, DSR_IPV6, FULL_NAT, FULL_NAT_IPV6, Front, IPIP, IPIP_IPV6, IPV4_IN_IPV6, Ipv4, Ipv6, NAT, NAT_IPV6, Way,
};

/// A test of each way.
macro_rules! over_each_way {
    ($test:ident: $($name:ident = $way:expr),* $(,)?) => { $(
        #[test]
        fn $name() {
            $test($way);
        }
    )* };
}

over_each_way! { answers_names:
    dns_over_nat = NAT, dns_over_nat_ipv6 = NAT_IPV6, dns_over_dsr = DSR, dns_over_dsr_ipv6 = DSR_IPV6,
    dns_over_full_nat = FULL_NAT, dns_over_full_nat_ipv6 = FULL_NAT_IPV6,
    dns_over_ipip = IPIP, dns_over_ipip_ipv6 = IPIP_IPV6, dns_over_ipv4_in_ipv6 = IPV4_IN_IPV6,
}
over_each_way! { shows_its_hops_and_no_other_ports:
    traceroute_and_scan_over_nat = NAT, traceroute_and_scan_over_nat_ipv6 = NAT_IPV6,
    traceroute_and_scan_over_full_nat = FULL_NAT, traceroute_and_scan_over_full_nat_ipv6 = FULL_NAT_IPV6,
    traceroute_and_scan_over_dsr = DSR, traceroute_and_scan_over_dsr_ipv6 = DSR_IPV6,
    traceroute_and_scan_over_ipip = IPIP, traceroute_and_scan_over_ipip_ipv6 = IPIP_IPV6,
    traceroute_and_scan_over_ipv4_in_ipv6 = IPV4_IN_IPV6,
}
over_each_way! { serves_quic:
    quic_over_nat = NAT, quic_over_nat_ipv6 = NAT_IPV6, quic_over_dsr = DSR, quic_over_dsr_ipv6 = DSR_IPV6,
    quic_over_full_nat = FULL_NAT, quic_over_full_nat_ipv6 = FULL_NAT_IPV6,
    quic_over_ipip = IPIP, quic_over_ipip_ipv6 = IPIP_IPV6, quic_over_ipv4_in_ipv6 = IPV4_IN_IPV6,
}

/// Bytes of an answer that needs pieces on the way.
const LONG_ANSWER: usize = 2_500;

/// dnsmasq on a backend: `who.test` is its name, `long.test` a text of [`LONG_ANSWER`] bytes.
fn dnsmasq(front: &Front, index: usize, name: &str) -> Process {
    let end = front.end(index);
    let long: Vec<String> = (0..LONG_ANSWER / 250).map(|_| "x".repeat(250)).collect();
    let namespace = front.stand.lab().backend(index);
    let mut command = namespace.command("dnsmasq");
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--pid-file=",
        "--user=root",
    ]);
    command.args([
        "--bind-interfaces".to_owned(),
        format!("--port={}", end.port()),
        format!("--listen-address={}", end.ip()),
    ]);
    command.args([format!("--txt-record=who.test,{name}"), format!("--txt-record=long.test,{}", long.join(","))]);
    command.arg("--edns-packet-max=4096");
    let process = namespace.start(&mut command).unwrap();
    let asks = || namespace.output("dig", question(end, "who.test", &[])).unwrap_or_default();
    eventually("dnsmasq", asks, |answer| answer.contains(name));
    process
}

/// The words of dig.
fn question(end: SocketAddr, name: &str, more: &[&str]) -> Vec<String> {
    let words = [format!("@{}", end.ip()), "-p".to_owned(), end.port().to_string(), "+short".to_owned()];
    let words = words.into_iter().chain(["+tries=3", "+time=2", "+notcp", "+ignore"].map(str::to_owned));
    words.chain(more.iter().map(|word| (*word).to_owned())).chain(["TXT".to_owned(), name.to_owned()]).collect()
}

fn answers_names(way: Way) {
    let mut front = Front::new(way, Setup { protocol: "udp", v2_weight: 50, ..Setup::default() });
    let _servers = [(0, "v1"), (1, "v2")].map(|(index, name)| dnsmasq(&front, index, name));
    front.start();
    let ask = |flow: u16, name: &str, more: &[&str]| {
        let source = front.source(flow).to_string();
        let more = [&["-b", &source], more].concat();
        front.stand.lab().client().output("dig", question(front.target(), name, &more)).unwrap()
    };
    let of_first = (1..=60).filter(|flow| match ask(*flow, "who.test", &[]).trim() {
        "\"v1\"" => true,
        "\"v2\"" => false,
        other => panic!("{other}"),
    });
    let of_first = of_first.count() as u64;
    assert!(within_five_deviations(of_first, 60, 0.5), "{of_first} of 60 by v1");
    for flow in 61..=64 {
        let answer = ask(flow, "long.test", &["+bufsize=4096"]);
        assert_eq!(answer.matches('x').count(), LONG_ANSWER, "in pieces, and whole");
    }
    assert_eq!(front.stand.service().reasons.get("fragment"), None);
}

fn shows_its_hops_and_no_other_ports(way: Way) {
    let mut front = Front::new(way, Setup { v2_weight: 50, ..Setup::default() });
    let _servers =
        [(0, "first"), (1, "second")].map(|(index, name)| front.stand.nginx(index, front.end(index), name, name, 1));
    front.start();
    let (vip, source) = (front.vip(), front.source(1));
    let (family, table) = if way.vip == Ipv4 { ("-4", "ip") } else { ("-6", "ip6") };

    let trace = front.shell(&format!("traceroute {family} -n -T -p {VIP_PORT} -s {source} -q 1 -w 2 -m 4 {vip} 2>&1"));
    let hops: Vec<&str> = trace.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    let [balancer, end] = hops[..] else { panic!("{trace}") };
    assert_eq!(end, vip.to_string(), "{trace}");
    let own = front.stand.lab().balancer().output("ip", ["-o", "address"]).unwrap();
    assert!(own.contains(&format!(" {balancer}/")), "{balancer} is an address of the load balancer: {own}");

    // Whatever came back to where it came from would be seen here.
    let counter = format!(
        "nft add table inet scan\nnft add chain inet scan seen '{{ type filter hook prerouting priority 0; }}'\n\
         nft add rule inet scan seen {table} daddr {vip} counter\n"
    );
    let _ = front.shell(&counter);
    let family = if way.vip == Ipv6 { "-6" } else { "" };
    let scan = |how: &str| {
        let log = front.shell(&format!(
            "nmap {family} -n -Pn {how} -T4 --max-retries 3 --host-timeout 60s -S {source} -e {} -oG - {vip}",
            front.stand.lab().far_interface()
        ));
        log.lines()
            .find_map(|line| line.split_once("Ports: ").map(|(_, ports)| ports.to_owned()))
            .unwrap_or_else(|| panic!("{log}"))
    };
    let open = scan("-sS -p 1-600");
    let open: Vec<&str> = open.split(", ").filter(|port| port.contains("/open/")).collect();
    assert!(open.len() == 1 && open[0].starts_with(&format!("{VIP_PORT}/open/tcp/")), "{open:?}");
    let _ = front.shell(&format!(
        "nmap {family} -n -Pn -sU -T5 --max-retries 0 --host-timeout 20s -S {source} -e {} -p 1-100 {vip} || true",
        front.stand.lab().far_interface()
    ));
    let seen = front.shell("nft list table inet scan");
    assert!(seen.contains("counter packets 0 "), "a packet for the virtual address came back: {seen}");
    let reasons = front.stand.metrics();
    assert!(
        reasons.sum("grayxdp_drops_total", &[]) + reasons.sum("grayxdp_answered_total", &[]) > 500.0,
        "what no port was for is counted"
    );
}

fn serves_quic(way: Way) {
    let fields = vec!["quic: true".to_owned()];
    let mut front = Front::new(way, Setup { protocol: "udp", v2_weight: 50, fields, ..Setup::default() });
    let servers = quic::Servers::start(&front);
    front.start();
    let clients: Vec<_> = (1..=30).map(|flow| servers.connect(&front, flow)).collect();
    let at_first: Vec<String> = clients.iter().map(|client| servers.ask(client)).collect();
    let of_first = at_first.iter().filter(|answer| *answer == "v1").count() as u64;
    assert!(within_five_deviations(of_first, 30, 0.5), "{of_first} of 30 by v1");
    front.stand.set_v2(100);
    let of_now: Vec<String> = (31..=40).map(|flow| servers.ask(&servers.connect(&front, flow))).collect();
    assert_eq!(of_now, ["v2"; 10], "connections of now");
    front.stand.kill();
    front.stand.start();
    let later: Vec<String> = clients.iter().map(|client| servers.ask(client)).collect();
    assert_eq!(later, at_first, "connections stay where they are");
}
