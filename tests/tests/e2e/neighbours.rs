//! Next hops that come, change, or were never known; ARP for the virtual address.

use std::{net::Ipv4Addr, net::SocketAddrV4, time::Duration};

use grayxdp::lab::{Arms, Traffic};
use grayxdp_tests::stand::{Setup, Stand, eventually, try_flow};

/// A virtual address within the clients' own subnet.
const ON_LINK: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 200);

#[test]
fn the_first_request_is_served_by_a_host_that_knew_no_neighbour() {
    let stand = Stand::running(Setup { pools: [vec![1, 1], vec![1]], v2_weight: 30, ..Setup::default() });
    let tally = Traffic { clients: 1, ..stand.traffic() }.send(stand.lab().client(), 20).unwrap();
    assert_eq!(tally.failed(), 0, "{tally:?}");
    let syns: u64 = stand.service().versions.iter().map(|version| version.totals.syns).sum();
    assert_eq!(syns, 20, "no client had to repeat its SYN");
}

#[test]
fn a_backend_that_changes_its_address_of_ethernet_is_found_again() {
    let stand = Stand::running(Setup::default());
    assert_eq!(stand.send(100).failed(), 0);
    stand.lab().backend(0).ip(&["link set dev eth0 address 02:00:00:00:09:01".to_owned()]).unwrap();
    let patient = || Traffic { clients: 4, timeout: Duration::from_secs(1), ..stand.traffic() };
    let failures = || patient().send(stand.lab().client(), 20).unwrap().failed();
    eventually("requests without failures", failures, |failed| *failed == 0);
    assert_eq!(stand.send(500).failed(), 0);
}

#[test]
fn a_client_that_changes_its_address_of_ethernet_is_found_again() {
    let stand = Stand::running(Setup::default());
    assert_eq!(stand.send(100).failed(), 0);
    stand.lab().client().ip(&["link set dev eth0 address 02:00:00:00:09:00".to_owned()]).unwrap();
    let patient = || Traffic { clients: 4, timeout: Duration::from_secs(1), ..stand.traffic() };
    let failures = || patient().send(stand.lab().client(), 20).unwrap().failed();
    eventually("requests without failures", failures, |failed| *failed == 0);
}

/// An announced address in the clients' subnet: they find it by ARP, at the load balancer's interface.
fn announced_is_found(arms: Arms) {
    let stand = Stand::running(Setup { arms, vip: Some(ON_LINK), announce: true, v2_weight: 50, ..Setup::default() });
    let tally = stand.send(500);
    assert_eq!(tally.failed(), 0, "{tally:?}");
    assert!(tally.by_version("v1") > 0 && tally.by_version("v2") > 0);
    let neighbours = stand.lab().client().output("ip", ["neigh", "show", &ON_LINK.to_string()]).unwrap();
    assert!(neighbours.contains("02:00:00:00:00:00"), "{neighbours}");
}

#[test]
fn an_announced_address_on_the_link_is_found_with_two_arms() {
    announced_is_found(Arms::Two);
}

#[test]
fn an_announced_address_on_the_link_is_found_with_one_arm() {
    announced_is_found(Arms::One);
}

#[test]
fn nobody_answers_for_an_address_that_is_not_announced() {
    let stand = Stand::running(Setup { vip: Some(ON_LINK), announce: false, ..Setup::default() });
    let from = SocketAddrV4::new(stand.lab().sources().at(1), 42_000);
    let answer = try_flow(stand.lab().client(), stand.target(), from, Duration::from_secs(4));
    assert!(answer.is_err(), "{answer:?}");
    let neighbours = stand.lab().client().output("ip", ["neigh", "show", &ON_LINK.to_string()]).unwrap();
    assert!(!neighbours.contains("lladdr"), "{neighbours}");
}
