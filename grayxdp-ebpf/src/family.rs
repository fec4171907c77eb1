//! What the tables and the exported functions have for each family of IP.

mod ipv4;
mod ipv6;

use aya_ebpf::bindings::{bpf_fib_lookup as FibLookup, xdp_md};
use grayxdp_common::{
    directory::EndpointKey,
    fragments::Pieces,
    reason::Reason,
    records::{BackendRecord, Control, InterfaceRecord, NextHop, Route, ServiceRecord},
};
use grayxdp_ebpf::{frame::View, packet::Packet, quote::Quotable};
use network_types::tcp::TcpHdr;

use crate::{Arrival, Outcome};

/// A family of IP, as the program meets it.
pub(crate) trait Family: Quotable {
    /// Where the addresses of a backend are, if not in its record.
    type Ends: Copy;

    /// Bytes of the frame of a RST.
    const RESET_LEN: usize;
    /// Index of the program for `full-nat`.
    const FULL_NAT: u32;

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
    /// The address of such words.
    fn of_words(words: [u64; 2]) -> Self::Address;
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
    /// See [`tunnel`].
    fn tunnel_error(context: *mut xdp_md) -> u64;
    /// See [`tunnel`].
    fn tunnel(context: *mut xdp_md, id: u16) -> u64;
    /// See [`backward`].
    fn hop_by_kernel(context: *mut xdp_md, id: u64, port_and_protocol: u64) -> u64;
}
