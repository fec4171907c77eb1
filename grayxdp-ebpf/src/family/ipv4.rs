//! IPv4.

use aya_ebpf::bindings::{bpf_fib_lookup as FibLookup, xdp_md};
use grayxdp_common::{
    directory::EndpointKey,
    fragments::Pieces,
    reason::Reason,
    records::{APART, BackendRecord, Control, InterfaceRecord, NextHop, ReplyWay, Route, ServiceRecord},
};
use grayxdp_ebpf::{
    answer,
    frame::View,
    packet::{Ip, Network as _, Packet},
};
use network_types::tcp::TcpHdr;

use super::Family;
use crate::{Arrival, Outcome, answers, backward, errors, fragments, tables, tunnel};

impl Family for Ip {
    type Ends = ();

    const RESET_LEN: usize = answer::RESET_LEN;
    const FULL_NAT: u32 = tables::FULL_NAT;

    #[inline(always)]
    fn read(arrival: Arrival) -> Option<Self> {
        Self::of(arrival.frame)
    }

    #[inline(always)]
    fn again(arrival: Arrival) -> Option<Self> {
        Self::of(arrival.frame)
    }

    #[inline(always)]
    fn beginning(arrival: Arrival) -> Option<Self> {
        Self::of(arrival.frame)
    }

    #[inline(always)]
    fn service_key(address: u32, port: u16, protocol: u8) -> EndpointKey {
        EndpointKey::service(address, port, protocol)
    }

    #[inline(always)]
    fn backend_key(address: u32, port: u16, protocol: u8) -> EndpointKey {
        EndpointKey::backend(address, port, protocol)
    }

    #[inline(always)]
    fn address_key(address: u32) -> EndpointKey {
        EndpointKey::address(address)
    }

    #[inline(always)]
    fn may_be_virtual(control: &Control, address: u32) -> bool {
        control.addresses.may_hold(address)
    }

    #[inline(always)]
    fn is_of(_: &ServiceRecord, _: u32) -> bool {
        true
    }

    #[inline(always)]
    fn ends(_: u16) -> Option<()> {
        Some(())
    }

    #[inline(always)]
    fn is_end((): (), _: u32) -> bool {
        true
    }

    #[inline(always)]
    fn address_of(backend: &BackendRecord, (): ()) -> u32 {
        backend.address
    }

    #[inline(always)]
    fn virtual_address_of(backend: &BackendRecord, (): ()) -> u32 {
        backend.virtual_address
    }

    #[inline(always)]
    fn gateway(control: &Control, address: u32) -> Option<NextHop> {
        (control.reply_way == ReplyWay::Gateway as u32 && !is_apart(control, address)).then_some(control.gateway)
    }

    #[inline(always)]
    fn route(address: u32) -> Option<&'static Route> {
        tables::route(address)
    }

    #[inline(always)]
    fn neighbour(address: u32) -> NextHop {
        tables::neighbour(address)
    }

    #[inline(always)]
    fn ask(query: &mut FibLookup, source: u32, destination: u32) {
        const AF_INET: u8 = 2;
        query.family = AF_INET;
        query.__bindgen_anon_3.ipv4_src = source;
        query.__bindgen_anon_4.ipv4_dst = destination;
    }

    #[inline(always)]
    fn own_address(interface: &InterfaceRecord) -> Option<u32> {
        (interface.ipv4 != 0).then_some(interface.ipv4)
    }

    #[inline(always)]
    fn words(address: u32) -> ([u64; 2], u64) {
        ([u64::from(address), 0], 0)
    }

    #[inline(always)]
    fn of_words(words: [u64; 2]) -> u32 {
        words[0] as u32
    }

    #[inline(always)]
    fn pieces(self, _: Arrival) -> Pieces {
        Pieces::of(self.source, self.destination, self.identification(), self.protocol, &tables::hash_key())
    }

    #[inline(always)]
    fn echo(arrival: Arrival, ip: Self) -> bool {
        answer::echo(arrival.frame, ip)
    }

    #[inline(always)]
    fn reset(arrival: Arrival, packet: &Packet, tcp: View<TcpHdr>) -> bool {
        answer::reset(arrival.frame, packet, tcp)
    }

    #[inline(always)]
    fn neighbour_asked(_: Arrival, _: &Control, _: Self) -> Option<Outcome> {
        None
    }

    #[inline(always)]
    fn first_piece(context: *mut xdp_md) -> u64 {
        fragments::fragment_first(context)
    }

    #[inline(always)]
    fn piece(context: *mut xdp_md) -> u64 {
        fragments::fragment(context)
    }

    #[inline(always)]
    fn icmp_error(context: *mut xdp_md) -> u64 {
        errors::icmp_error(context)
    }

    #[inline(always)]
    fn answer(context: *mut xdp_md, reason: Reason) -> u64 {
        answers::answer_packet(context, reason as u64)
    }

    #[inline(always)]
    fn hop_to_client(context: *mut xdp_md, id: u64, port_and_protocol: u64) -> u64 {
        backward::hop_to_client(context, id, port_and_protocol)
    }

    #[inline(always)]
    fn tunnel_error(context: *mut xdp_md) -> u64 {
        tunnel::tunnel_error(context)
    }

    #[inline(always)]
    fn tunnel(context: *mut xdp_md, id: u16) -> u64 {
        tunnel::tunnel(context, u64::from(id))
    }

    #[inline(always)]
    fn hop_by_kernel(context: *mut xdp_md, id: u64, port_and_protocol: u64) -> u64 {
        backward::hop_by_kernel(context, id, port_and_protocol)
    }
}

/// Whether an address does not go by the gateway.
#[inline(always)]
fn is_apart(control: &Control, address: u32) -> bool {
    let mut index = 0;
    while index < APART {
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
