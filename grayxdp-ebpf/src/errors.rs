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
    directory::Entry,
    explanation::Step,
    hash::Flow,
    ids::ServiceId,
    reason::Reason,
    records::{BackendRecord, Control},
};
use grayxdp_ebpf::{
    packet::{Ip, Ip6, UDP},
    quote::{Quote, Side},
    rewrite::{self, TimeToLive},
};

use crate::{
    Arrival, Outcome, UNDECIDED, detail,
    explain::{self, explains},
    family::Family,
    measure,
    resolve::{self, ASKS, ID, TO_BACKEND, TO_CLIENT, WHICH},
    sizes, tables,
    tunnel::INTO_TUNNEL,
};

/// The bits of the client's port and the protocol in what [`error_question`] says of a client's packet, shifted down.
const PORT_AND_PROTOCOL: u64 = 0xff_ffff;

/// The parts for a family: each an exported function.
macro_rules! parts {
    ($family:ty: $error:ident, $question:ident, $beyond:ident, $to_backend:ident, $to_client:ident) => {
        /// What becomes of an ICMP message that is an error about a packet of a service: the kernel's action, [`crate::UNDECIDED`], or
        /// [`INTO_TUNNEL`] with the backend. In one piece with who asks: a frame of its own between the two would be one too many.
        #[inline(always)]
        pub(crate) fn $error(context: *mut xdp_md) -> u64 {
            let said = $question(context);
            match said & WHICH {
                which @ (TO_BACKEND | ASKS) => {
                    let id = if which == TO_BACKEND { said & ID } else { resolve::choice() };
                    match $beyond(context, id, TO_BACKEND) {
                        0 => $to_backend(context, id),
                        refused => refused,
                    }
                }
                TO_CLIENT => match <$family>::hop_to_client(context, said & ID, said >> 16 & PORT_AND_PROTOCOL) {
                    0 => match $beyond(context, said & ID, TO_CLIENT) {
                        0 => $to_client(context, said & ID),
                        refused => refused,
                    },
                    refused => refused,
                },
                _ => u64::from(UNDECIDED),
            }
        }

        /// What an error is about, as [`resolve`] says it; 0 for what is none, or about nothing that is ours.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $question(context: *mut xdp_md) -> u64 {
            question::<$family>(context)
        }

        /// What becomes of an error that is longer than its way out takes; 0 of one that fits. Apart from sending it, because their
        /// stacks together would be too deep.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $beyond(context: *mut xdp_md, id: u64, which: u64) -> u64 {
            beyond::<$family>(context, id, which)
        }

        /// Sends an error about a reply to the backend that sent it: the kernel's action.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $to_backend(context: *mut xdp_md, id: u64) -> u64 {
            to_backend::<$family>(context, id)
        }

        /// Sends an error about a client's packet to the client: the kernel's action.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $to_client(context: *mut xdp_md, id: u64) -> u64 {
            to_client::<$family>(context, id)
        }
    };
}

parts!(Ip: icmp_error, error_question, error_beyond, error_to_backend, error_to_client);
parts!(Ip6: icmp_error6, error_question6, error_beyond6, error_to_backend6, error_to_client6);

/// An error in a frame, its outer header and the tables' root.
#[inline(always)]
fn read<I: Family>(arrival: Arrival) -> Option<(Quote<I>, &'static Control)> {
    let quote = Quote::of(arrival.frame, I::again(arrival)?)?;
    Some((quote, tables::control()?))
}

#[inline(always)]
fn question<I: Family>(context: *mut xdp_md) -> u64 {
    let Some((quote, control)) = read::<I>(Arrival::of(context)) else { return 0 };
    let sender = I::service_key(quote.source, quote.source_port, quote.protocol);
    if let Some(entry) = tables::look_up(control.directory, sender) {
        let Some(service) = tables::service(Entry(entry).index()) else { return 0 };
        if !I::is_of(service, quote.source) {
            return 0;
        }
        return resolve::ask::<I>(&quote.flow(), service, Entry(entry), (quote.sequence(), 0), detail::REPLY);
    }
    let target = I::backend_key(quote.destination, quote.destination_port, quote.protocol);
    let Some(id) = tables::look_up(control.directory, target) else { return 0 };
    let (Some(backend), Some(ends)) = (tables::backend(id as u16), I::ends(id as u16)) else { return 0 };
    if !I::is_end(ends, quote.destination) {
        return 0;
    }
    if I::is_unreachable(quote.kind) && quote.protocol == UDP {
        measure::unreachable(&client_flow(&quote, backend, ends), backend);
    }
    TO_CLIENT | u64::from(quote.protocol) << 32 | u64::from(quote.source_port) << 16 | (id & ID)
}

/// The flow of a client's packet that went to a backend.
#[inline(always)]
fn client_flow<I: Family>(quote: &Quote<I>, backend: &BackendRecord, ends: I::Ends) -> Flow<I::Address> {
    Flow {
        source: quote.source,
        destination: I::virtual_address_of(backend, ends),
        source_port: quote.source_port,
        destination_port: if backend.virtual_port == 0 { quote.destination_port } else { backend.virtual_port },
        protocol: quote.protocol,
    }
}

#[inline(always)]
fn beyond<I: Family>(context: *mut xdp_md, id: u64, which: u64) -> u64 {
    const DEAD: u16 = BackendRecord::FLAG_DOWN | BackendRecord::FLAG_RESETS;
    let arrival = Arrival::of(context);
    let (Some(ip), Some(scratch)) = (I::again(arrival), tables::scratch()) else { return 0 };
    let Some(backend) = tables::backend(id as u16) else { return 0 };
    let (step, hop) = if which == TO_CLIENT {
        // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU; `hop_to_client` wrote it.
        (Step::Reverse, unsafe { (*scratch).hop })
    } else {
        (Step::Backend, backend.next_hop)
    };
    if ip.ttl() <= 1 || (which != TO_CLIENT && backend.flags & DEAD == DEAD) || !sizes::is_beyond(ip, &hop) {
        return 0;
    }
    explain::note_backend(step, id as u16, backend, &hop);
    Outcome::counted(ServiceId(backend.service), Reason::TooBig).action()
}

#[inline(always)]
fn to_backend<I: Family>(context: *mut xdp_md, id: u64) -> u64 {
    let arrival = Arrival::of(context);
    let Some((quote, _)) = read::<I>(arrival) else { return 0 };
    let service = resolve::service();
    let counted = |reason| Outcome::counted(service, reason).action();
    if id == 0 {
        return counted(Reason::NoBackend);
    }
    let (Some(backend), Some(ends)) = (tables::backend(id as u16), I::ends(id as u16)) else {
        return counted(Reason::Fault);
    };
    explain::note_backend(Step::Backend, id as u16, backend, &backend.next_hop);
    const DEAD: u16 = BackendRecord::FLAG_DOWN | BackendRecord::FLAG_RESETS;
    if backend.flags & DEAD == DEAD {
        return counted(Reason::BackendDownDropped);
    }
    if quote.ip.ttl() <= 1 {
        return counted(Reason::TtlExpired);
    }
    let is_one_way = backend.flags & BackendRecord::FLAG_ONE_WAY != 0;
    let is_tunnel = backend.flags & BackendRecord::FLAG_TUNNEL != 0;
    if !backend.next_hop.is_known() && is_one_way && !is_tunnel {
        return counted(Reason::NoNextHop);
    }
    if !explains() {
        tables::count(id as u16, |counters| {
            counters.packets_forward += 1;
            counters.bytes_forward += arrival.frame.len();
            counters.icmp_errors_forward += 1;
        });
    }
    if is_tunnel {
        return INTO_TUNNEL | id;
    }
    if !backend.next_hop.is_known() {
        quote.replace(Side::Source, I::address_of(backend, ends), backend.port, TimeToLive::Keep);
        return counted(Reason::UnresolvedBackend);
    }
    quote.replace(Side::Source, I::address_of(backend, ends), backend.port, TimeToLive::Decrement);
    rewrite::ethernet(arrival.frame, &backend.next_hop);
    Outcome::left(&arrival, backend.next_hop.interface).action()
}

#[inline(always)]
fn to_client<I: Family>(context: *mut xdp_md, id: u64) -> u64 {
    let arrival = Arrival::of(context);
    let (Some((quote, _)), Some(scratch)) = (read::<I>(arrival), tables::scratch()) else { return 0 };
    let (Some(backend), Some(ends)) = (tables::backend(id as u16), I::ends(id as u16)) else { return 0 };
    let service = ServiceId(backend.service);
    if quote.ip.ttl() <= 1 {
        return Outcome::counted(service, Reason::TtlExpired).action();
    }
    // SAFETY: the value is this CPU's own, and a program is not interrupted by itself on one CPU; `hop_to_client` wrote it.
    let hop = unsafe { (*scratch).hop };
    explain::note_backend(Step::Reverse, id as u16, backend, &hop);
    if !explains() {
        tables::count(id as u16, |counters| {
            counters.packets_reverse += 1;
            counters.bytes_reverse += arrival.frame.len();
            counters.icmp_errors_reverse += 1;
        });
    }
    let ttl = if hop.is_known() { TimeToLive::Decrement } else { TimeToLive::Keep };
    quote.replace(Side::Destination, I::virtual_address_of(backend, ends), backend.virtual_port, ttl);
    if !hop.is_known() {
        return Outcome::counted(service, Reason::UnresolvedClient).action();
    }
    rewrite::ethernet(arrival.frame, &hop);
    Outcome::left(&arrival, hop.interface).action()
}
