//! IPv6.

use aya_ebpf::bindings::{bpf_fib_lookup as FibLookup, xdp_md};
use grayxdp_common::{
    directory::EndpointKey,
    fragments::Pieces,
    ipv6::{APART6, Address6, Control6, Ends6, PrefixKey6},
    reason::Reason,
    records::{BackendRecord, Control, InterfaceRecord, NextHop, ReplyWay, Route, ServiceRecord},
};
use grayxdp_ebpf::{
    answer6,
    frame::View,
    packet::{Extensions, Ip6, Network as _, Packet},
};
use network_types::tcp::TcpHdr;

use super::Family;
use crate::{Arrival, Outcome, answers, backward, detail, errors, fragments, tables, tunnel, way};

/// Looks behind the extension headers of a packet and leaves what it finds in the scratch: see [`Extensions`]. Exported, so that the verifier follows the chain once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ipv6_extensions(context: *mut xdp_md) -> u64 {
    let found = Extensions::of(Arrival::of(context).frame);
    if let Some(scratch) = tables::scratch() {
        // SAFETY: as for `again`.
        unsafe { (*scratch).extensions = found.0 };
    }
    found.0
}

impl Family for Ip6 {
    type Ends = &'static Ends6;

    const RESET_LEN: usize = answer6::RESET_LEN;
    const FULL_NAT: u32 = tables::FULL_NAT6;

    #[inline(always)]
    fn read(arrival: Arrival) -> Option<Self> {
        Self::with(arrival.frame, || Extensions(ipv6_extensions(arrival.context)))
    }

    #[inline(always)]
    fn again(arrival: Arrival) -> Option<Self> {
        // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU.
        let found = || tables::scratch().map_or(0, |scratch| unsafe { (*scratch).extensions });
        Self::with(arrival.frame, || Extensions(found()))
    }

    #[inline(always)]
    fn beginning(arrival: Arrival) -> Option<Self> {
        Self::with(arrival.frame, || Extensions(0))
    }

    #[inline(always)]
    fn service_key(address: Address6, port: u16, protocol: u8) -> EndpointKey {
        EndpointKey::service6(address, port, protocol, &tables::hash_key())
    }

    #[inline(always)]
    fn backend_key(address: Address6, port: u16, protocol: u8) -> EndpointKey {
        EndpointKey::backend6(address, port, protocol, &tables::hash_key())
    }

    #[inline(always)]
    fn address_key(address: Address6) -> EndpointKey {
        EndpointKey::address6(address, &tables::hash_key())
    }

    #[inline(always)]
    fn may_be_virtual(control: &Control, address: Address6) -> bool {
        control.ipv6.addresses.may_hold(address)
    }

    #[inline(always)]
    fn is_of(service: &ServiceRecord, address: Address6) -> bool {
        service.address6 == address
    }

    #[inline(always)]
    fn ends(id: u16) -> Option<&'static Ends6> {
        tables::ends(id)
    }

    #[inline(always)]
    fn is_end(ends: &'static Ends6, address: Address6) -> bool {
        ends.address == address
    }

    #[inline(always)]
    fn address_of(_: &BackendRecord, ends: &'static Ends6) -> Address6 {
        ends.address
    }

    #[inline(always)]
    fn virtual_address_of(_: &BackendRecord, ends: &'static Ends6) -> Address6 {
        ends.virtual_address
    }

    #[inline(always)]
    fn gateway(control: &Control, address: Address6) -> Option<NextHop> {
        let control = &control.ipv6;
        (control.reply_way == ReplyWay::Gateway as u32 && !is_apart6(control, address)).then_some(control.gateway)
    }

    #[inline(always)]
    fn route(address: Address6) -> Option<&'static Route> {
        tables::route6(address)
    }

    #[inline(always)]
    fn neighbour(address: Address6) -> NextHop {
        tables::neighbour6(address)
    }

    #[inline(always)]
    fn ask(query: &mut FibLookup, source: Address6, destination: Address6) {
        const AF_INET6: u8 = 10;
        query.family = AF_INET6;
        query.__bindgen_anon_3.ipv6_src = PrefixKey6::new(0, source).address;
        query.__bindgen_anon_4.ipv6_dst = PrefixKey6::new(0, destination).address;
    }

    #[inline(always)]
    fn own_address(interface: &InterfaceRecord) -> Option<Address6> {
        let [a, b, c, d] = interface.ipv6;
        let address = Address6([u64::from(a) | u64::from(b) << 32, u64::from(c) | u64::from(d) << 32]);
        (address != Address6([0, 0])).then_some(address)
    }

    #[inline(always)]
    fn words(address: Address6) -> ([u64; 2], u64) {
        (address.0, detail::IPV6)
    }

    #[inline(always)]
    fn of_words(words: [u64; 2]) -> Address6 {
        Address6(words)
    }

    #[inline(always)]
    fn pieces(self, arrival: Arrival) -> Pieces {
        let (number, protocol) = self.datagram(arrival.frame);
        Pieces::of6(self.source(), self.destination(), number, protocol, &tables::hash_key())
    }

    #[inline(always)]
    fn echo(arrival: Arrival, ip: Self) -> bool {
        answer6::echo(arrival.frame, ip)
    }

    #[inline(always)]
    fn reset(arrival: Arrival, packet: &Packet<Self>, tcp: View<TcpHdr>) -> bool {
        answer6::reset(arrival.frame, packet, tcp)
    }

    #[inline(always)]
    fn neighbour_asked(arrival: Arrival, control: &Control, ip: Self) -> Option<Outcome> {
        way::solicited(arrival, control, ip)
    }

    #[inline(always)]
    fn first_piece(context: *mut xdp_md) -> u64 {
        fragments::fragment_first6(context)
    }

    #[inline(always)]
    fn piece(context: *mut xdp_md) -> u64 {
        fragments::fragment6(context)
    }

    #[inline(always)]
    fn icmp_error(context: *mut xdp_md) -> u64 {
        errors::icmp_error6(context)
    }

    #[inline(always)]
    fn answer(context: *mut xdp_md, reason: Reason) -> u64 {
        answers::answer_packet6(context, reason as u64)
    }

    #[inline(always)]
    fn hop_to_client(context: *mut xdp_md, id: u64, port_and_protocol: u64) -> u64 {
        backward::hop_to_client6(context, id, port_and_protocol)
    }

    #[inline(always)]
    fn tunnel_error(context: *mut xdp_md) -> u64 {
        tunnel::tunnel_error6(context)
    }

    #[inline(always)]
    fn tunnel(context: *mut xdp_md, id: u16) -> u64 {
        tunnel::tunnel6(context, u64::from(id))
    }

    #[inline(always)]
    fn hop_by_kernel(context: *mut xdp_md, id: u64, port_and_protocol: u64) -> u64 {
        backward::hop_by_kernel6(context, id, port_and_protocol)
    }
}

/// Whether an address does not go by the gateway.
#[inline(always)]
fn is_apart6(control: &Control6, address: Address6) -> bool {
    let mut index = 0;
    while index < APART6 {
        if index as u32 >= control.apart_len {
            return false;
        }
        if control.apart[index].holds(address) {
            return true;
        }
        index += 1;
    }
    false
}
