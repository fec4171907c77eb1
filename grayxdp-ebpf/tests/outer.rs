//! Headers around packets in tunnels: what is written is compared with what another library writes.

use etherparse::{IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header};
use grayxdp_common::{ipv6::Address6, records::NextHop};
use grayxdp_ebpf::{
    frame::Frame,
    outer::{self, Ends, Ethernet, IPV4_INSIDE, IPV4_LEN, IPV6_INSIDE, IPV6_LEN, Inner},
};
use proptest::prelude::*;

const ETHERNET: usize = 14;

proptest! {
    #[test]
    fn a_header_of_ipv4_is_as_any_other_host_would_write_it(
        source in any::<[u8; 4]>(),
        destination in any::<[u8; 4]>(),
        traffic_class in any::<u8>(),
        number in any::<u16>(),
        whole in any::<bool>(),
        length in 20_u16..9_000,
    ) {
        let mut expected = Ipv4Header::new(length, 64, IpNumber(IPV4_INSIDE), source, destination).expect("it fits");
        expected.identification = number;
        expected.dont_fragment = whole;
        expected.dscp = (traffic_class >> 2).try_into().expect("six bits");
        expected.ecn = (traffic_class & 3).try_into().expect("two bits");
        expected.header_checksum = expected.calc_header_checksum();

        let mapped = |[a, b, c, d]: [u8; 4]| Address6::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, a, b, c, d]);
        let flags: u16 = if whole { 0x4000 } else { 0 };
        let identification = u32::from(number.to_be()) | u32::from(flags.to_be()) << 16;
        let inner = Inner { length: length.into(), traffic_class, protocol: IPV4_INSIDE, identification, hash: 0 };
        let mut bytes = vec![0xee; ETHERNET + IPV4_LEN];
        let ends = Ends { source: mapped(source), destination: mapped(destination) };
        prop_assert!(outer::ipv4(Frame::of(&mut bytes), &inner, &ends));
        prop_assert_eq!(&bytes[ETHERNET..], &expected.to_bytes()[..]);
        let cut = &mut bytes[..ETHERNET + IPV4_LEN - 1];
        prop_assert!(!outer::ipv4(Frame::of(cut), &inner, &ends));
    }

    #[test]
    fn a_header_of_ipv6_is_as_any_other_host_would_write_it(
        source in any::<[u8; 16]>(),
        destination in any::<[u8; 16]>(),
        traffic_class in any::<u8>(),
        hash in any::<u32>(),
        length in 20_u16..9_000,
    ) {
        let expected = Ipv6Header {
            traffic_class,
            flow_label: Ipv6FlowLabel::try_new(hash & 0xf_ffff).expect("twenty bits"),
            payload_length: length,
            next_header: IpNumber(IPV6_INSIDE),
            hop_limit: 64,
            source,
            destination,
        };
        let ends = Ends { source: Address6::from_bytes(source), destination: Address6::from_bytes(destination) };
        let inner = Inner { length: length.into(), traffic_class, protocol: IPV6_INSIDE, identification: 0, hash };
        let mut bytes = vec![0xee; ETHERNET + IPV6_LEN];
        prop_assert!(outer::ipv6(Frame::of(&mut bytes), &inner, &ends));
        prop_assert_eq!(&bytes[ETHERNET..], &expected.to_bytes()[..]);
        prop_assert!(!outer::ipv6(Frame::of(&mut bytes[..ETHERNET + IPV6_LEN - 1]), &inner, &ends));
    }
}

#[test]
fn ethernet_leads_to_the_next_hop_and_stays_where_none_is_known() {
    let mut came: Vec<u8> = (0..14).collect();
    let hop = NextHop::new([2, 2, 2, 2, 2, 2], [4, 4, 4, 4, 4, 4], 7);
    for (hop, expected) in [(hop, [[2; 6], [4; 6]].concat()), (NextHop::UNKNOWN, (0..12).collect())] {
        let ethernet = Ethernet::towards(&hop, Frame::of(&mut came)).expect("a whole header");
        for (is_ipv6, kind) in [(false, [8, 0]), (true, [0x86, 0xdd])] {
            let mut bytes = vec![0xee; 15];
            assert!(ethernet.write(Frame::of(&mut bytes), is_ipv6));
            assert_eq!(bytes, [expected.as_slice(), &kind, &[0xee]].concat());
        }
    }
}
