//! What the tables and the exported functions have for each family of IP.

use aya_ebpf::bindings::{bpf_fib_lookup as FibLookup, xdp_md};
use grayxdp_common::{
    directory::EndpointKey,
    fragments::Pieces,
    ipv6::{APART6, Address6, Control6, Ends6, PrefixKey6},
    reason::Reason,
    records::{APART, BackendRecord, Control, InterfaceRecord, NextHop, ReplyWay, Route, ServiceRecord},
};
use grayxdp_ebpf::{
    answer, answer6,
    frame::View,
    packet::{Extensions, Ip, Ip6, Network as _, Packet},
    quote::Quotable,
};
use network_types::tcp::TcpHdr;

use crate::{Arrival, Outcome, answers, backward, errors, fragments, tables, way};

/// A family of IP, as the program meets it.
pub(crate) trait Family: Quotable {
    /// Where the addresses of a backend are, if not in its record.
    type Ends: Copy;

    /// Bytes of the frame of a RST.
    const RESET_LEN: usize;

    /// The header of an arriving packet.
    fn read(arrival: Arrival) -> Option<Self>;
    /// The same, once it was read: what was found then is not looked for again.
    fn again(arrival: Arrival) -> Option<Self>;
    /// The same, where only its addresses are asked for.
    fn beginning(arrival: Arrival) -> Option<Self>;
    /// Key of a service's endpoint.
    fn service_key(address: Self::Address, port: u16, protocol: u8) -> EndpointKey;
    /// Key of a backend's endpoint.
    fn backend_key(address: Self::Address, port: u16, protocol: u8) -> EndpointKey;
    /// Key of a virtual address.
    fn address_key(address: Self::Address) -> EndpointKey;
    /// Whether an address may be a virtual one.
    fn may_be_virtual(control: &Control, address: Self::Address) -> bool;
    /// Whether a service that was found by its key is the one at an address.
    fn is_of(service: &ServiceRecord, address: Self::Address) -> bool;
    /// The ends of a backend.
    fn ends(id: u16) -> Option<Self::Ends>;
    /// Whether a backend that was found by its key is the one at an address.
    fn is_end(ends: Self::Ends, address: Self::Address) -> bool;
    /// The backend's address.
    fn address_of(backend: &BackendRecord, ends: Self::Ends) -> Self::Address;
    /// The virtual address.
    fn virtual_address_of(backend: &BackendRecord, ends: Self::Ends) -> Self::Address;
    /// The next hop of all that do not lie apart, if an address goes by it.
    fn gateway(control: &Control, address: Self::Address) -> Option<NextHop>;
    /// The route to a client.
    fn route(address: Self::Address) -> Option<&'static Route>;
    /// The next hop of an on-link client.
    fn neighbour(address: Self::Address) -> NextHop;
    /// Writes family and ends into a question to the kernel.
    fn ask(query: &mut FibLookup, source: Self::Address, destination: Self::Address);
    /// An address of an interface.
    fn own_address(interface: &InterfaceRecord) -> Option<Self::Address>;
    /// The words of an address for a question, and whether it is one of IPv6.
    fn words(address: Self::Address) -> ([u64; 2], u64);
    /// What the pieces of a datagram have in common.
    fn pieces(self, arrival: Arrival) -> Pieces;
    /// Turns an echo request into its reply.
    fn echo(arrival: Arrival, ip: Self) -> bool;
    /// Turns a TCP segment into the RST that answers it.
    fn reset(arrival: Arrival, packet: &Packet<Self>, tcp: View<TcpHdr>) -> bool;
    /// Answers who asks for the Ethernet address of a virtual address; none where nobody asks.
    fn neighbour_asked(arrival: Arrival, control: &Control, ip: Self) -> Option<Outcome>;
    /// See [`fragments`].
    fn first_piece(context: *mut xdp_md) -> u64;
    /// See [`fragments`].
    fn piece(context: *mut xdp_md) -> u64;
    /// See [`errors`].
    fn icmp_error(context: *mut xdp_md) -> u64;
    /// See [`answers`].
    fn answer(context: *mut xdp_md, reason: Reason) -> u64;
    /// See [`backward`].
    fn hop_to_client(context: *mut xdp_md, id: u64, port_and_protocol: u64) -> u64;
    /// See [`backward`].
    fn hop_by_kernel(context: *mut xdp_md, id: u64, port_and_protocol: u64) -> u64;
}

impl Family for Ip {
    type Ends = ();

    const RESET_LEN: usize = answer::RESET_LEN;

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

/// The same of IPv6.
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
        (address.0, crate::detail::IPV6)
    }

    #[inline(always)]
    fn pieces(self, arrival: Arrival) -> Pieces {
        let number = self.number(arrival.frame);
        Pieces::of6(self.source(), self.destination(), number, self.protocol(), &tables::hash_key())
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
    fn hop_by_kernel(context: *mut xdp_md, id: u64, port_and_protocol: u64) -> u64 {
        backward::hop_by_kernel6(context, id, port_and_protocol)
    }
}
