//! ICMP errors about packets of a service: each goes to whoever sent the packet that it repeats.
//!
//! About a reply: to the backend that the client's next packet of the flow would go to, by the flow's entry, else by the
//! default. Anybody can send an error, so it changes nothing there. About a client's packet on its way to a backend: to the client, who sees the virtual endpoint in it. What a
//! router says in its own name stays so.
//!
//! The parts are exported functions: the verifier looks at each once, none lies on another's stack, and what is no ICMP
//! message meets none of them.

use aya_ebpf::bindings::xdp_md;
use grayxdp_common::{
    directory::{EndpointKey, Entry},
    explanation::Step,
    hash::Flow,
    ids::ServiceId,
    reason::Reason,
    records::{BackendRecord, Control},
};
use grayxdp_ebpf::{
    packet::{Ip, UDP},
    quote::{Quote, Side, kinds},
    rewrite::{self, TimeToLive},
};

use crate::{
    Arrival, Outcome, UNDECIDED, backward, detail,
    explain::{self, explains},
    measure,
    resolve::{self, ASKS, ID, TO_BACKEND, TO_CLIENT, WHICH},
    sizes, tables,
};

/// The bits of the client's port and the protocol in what [`error_question`] says of a client's packet, shifted down.
const PORT_AND_PROTOCOL: u64 = 0xff_ffff;

/// What becomes of an ICMP message that is an error about a packet of a service: the kernel's action, or
/// [`crate::UNDECIDED`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn icmp_error(context: *mut xdp_md) -> u64 {
    let said = error_question(context);
    match said & WHICH {
        TO_BACKEND => error_to_backend(context, said & ID),
        ASKS => error_to_backend(context, resolve::resolve_choice()),
        TO_CLIENT => match backward::hop_to_client(context, said & ID, said >> 16 & PORT_AND_PROTOCOL) {
            0 => error_to_client(context, said & ID),
            refused => refused,
        },
        _ => u64::from(UNDECIDED),
    }
}

/// An error in a frame, its outer header and the tables' root.
#[inline(always)]
fn read(arrival: Arrival) -> Option<(Quote, &'static Control)> {
    let quote = Quote::of(arrival.frame, Ip::of(arrival.frame)?)?;
    Some((quote, tables::control()?))
}

/// What an error is about, as [`resolve`] says it; 0 for what is none, or about nothing that is ours.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn error_question(context: *mut xdp_md) -> u64 {
    let Some((quote, control)) = read(Arrival::of(context)) else { return 0 };
    let sender = EndpointKey::service(quote.source, quote.source_port, quote.protocol);
    if let Some(entry) = tables::look_up(control.directory, sender) {
        let Some(service) = tables::service(Entry(entry).index()) else { return 0 };
        return resolve::ask(&quote.flow(), service, Entry(entry), (quote.sequence(), 0), detail::REPLY);
    }
    let target = EndpointKey::backend(quote.destination, quote.destination_port, quote.protocol);
    let Some(id) = tables::look_up(control.directory, target) else { return 0 };
    let Some(backend) = tables::backend(id as u16) else { return 0 };
    if quote.kind == kinds::UNREACHABLE && quote.protocol == UDP {
        measure::unreachable(&client_flow(&quote, backend), backend);
    }
    TO_CLIENT | u64::from(quote.protocol) << 32 | u64::from(quote.source_port) << 16 | (id & ID)
}

/// The flow of a client's packet that went to a backend.
#[inline(always)]
fn client_flow(quote: &Quote, backend: &BackendRecord) -> Flow {
    Flow {
        source: quote.source,
        destination: backend.virtual_address,
        source_port: quote.source_port,
        destination_port: if backend.virtual_port == 0 { quote.destination_port } else { backend.virtual_port },
        protocol: quote.protocol,
    }
}

/// Sends an error about a reply to the backend that sent it: the kernel's action.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn error_to_backend(context: *mut xdp_md, id: u64) -> u64 {
    let arrival = Arrival::of(context);
    let Some((quote, _)) = read(arrival) else { return 0 };
    let service = resolve::service();
    let counted = |reason| Outcome::counted(service, reason).action();
    if id == 0 {
        return counted(Reason::NoBackend);
    }
    let Some(backend) = tables::backend(id as u16) else { return counted(Reason::Fault) };
    explain::note_backend(Step::Backend, id as u16, backend, &backend.next_hop);
    const DEAD: u16 = BackendRecord::FLAG_DOWN | BackendRecord::FLAG_RESETS;
    if backend.flags & DEAD == DEAD {
        return counted(Reason::BackendDownDropped);
    }
    if quote.ip.ttl() <= 1 {
        return counted(Reason::TtlExpired);
    }
    if sizes::is_beyond(quote.ip, &backend.next_hop) {
        return counted(Reason::TooBig);
    }
    if !explains() {
        tables::count(id as u16, |counters| {
            counters.packets_forward += 1;
            counters.bytes_forward += arrival.frame.len();
            counters.icmp_errors_forward += 1;
        });
    }
    if !backend.next_hop.is_known() {
        quote.replace(Side::Source, backend.address, backend.port, TimeToLive::Keep);
        return counted(Reason::UnresolvedBackend);
    }
    quote.replace(Side::Source, backend.address, backend.port, TimeToLive::Decrement);
    rewrite::ethernet(arrival.frame, &backend.next_hop);
    Outcome::left(&arrival, backend.next_hop.interface).action()
}

/// Sends an error about a client's packet to the client: the kernel's action.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn error_to_client(context: *mut xdp_md, id: u64) -> u64 {
    let arrival = Arrival::of(context);
    let (Some((quote, _)), Some(scratch)) = (read(arrival), tables::scratch()) else { return 0 };
    let Some(backend) = tables::backend(id as u16) else { return 0 };
    let service = ServiceId(backend.service);
    if quote.ip.ttl() <= 1 {
        return Outcome::counted(service, Reason::TtlExpired).action();
    }
    // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU; `hop_to_client` wrote it.
    let hop = unsafe { (*scratch).hop };
    explain::note_backend(Step::Reverse, id as u16, backend, &hop);
    if sizes::is_beyond(quote.ip, &hop) {
        return Outcome::counted(service, Reason::TooBig).action();
    }
    if !explains() {
        tables::count(id as u16, |counters| {
            counters.packets_reverse += 1;
            counters.bytes_reverse += arrival.frame.len();
            counters.icmp_errors_reverse += 1;
        });
    }
    let ttl = if hop.is_known() { TimeToLive::Decrement } else { TimeToLive::Keep };
    quote.replace(Side::Destination, backend.virtual_address, backend.virtual_port, ttl);
    if !hop.is_known() {
        return Outcome::counted(service, Reason::UnresolvedClient).action();
    }
    rewrite::ethernet(arrival.frame, &hop);
    Outcome::left(&arrival, hop.interface).action()
}
