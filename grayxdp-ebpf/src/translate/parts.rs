//! The parts for each family: exported functions.

use aya_ebpf::bindings::xdp_md;
use grayxdp_ebpf::packet::{Ip, Ip6};

use super::{backward, errors, find, open, pieces};
use crate::{Arrival, family::Family};

/// A family with the parts of `full-nat`.
pub(crate) trait Translating: Family {
    /// See [`find`].
    fn find(context: *mut xdp_md, service: u64) -> u64;
    /// See [`find`].
    fn find_answering(context: *mut xdp_md) -> u64;
    /// See [`open`].
    fn claim(context: *mut xdp_md, backend: u64) -> u64;
    /// See [`open`].
    fn fill(context: *mut xdp_md, place: u64, backend: u64, sequence: u64) -> u64;
    /// See [`backward`].
    fn hop(context: *mut xdp_md, place: u64) -> u64;
    /// See [`errors`].
    fn error_question(context: *mut xdp_md) -> u64;
    /// See [`errors`].
    fn error_ready(context: *mut xdp_md, place: u64, way: u64) -> u64;
    /// See [`errors`].
    fn error_near(context: *mut xdp_md, place: u64, way: u64) -> u64;
    /// See [`errors`].
    fn error_far(context: *mut xdp_md, place: u64, way: u64) -> u64;
    /// See [`pieces`].
    fn leave_piece(context: *mut xdp_md, place: u64) -> u64;
    /// See [`pieces`].
    fn find_piece(context: *mut xdp_md) -> u64;
    /// See [`pieces`].
    fn send_piece(context: *mut xdp_md, place: u64, way: u64) -> u64;
}

macro_rules! parts {
    ($family:ty: $($part:ident = $name:ident($($argument:ident),*) => $does:path;)*) => {
        $(
            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $name(context: *mut xdp_md $(, $argument: u64)*) -> u64 {
                $does(Arrival::of(context) $(, $argument)*)
            }
        )*

        impl Translating for $family {
            $(
                #[inline(always)]
                fn $part(context: *mut xdp_md $(, $argument: u64)*) -> u64 {
                    $name(context $(, $argument)*)
                }
            )*
        }
    };
}

parts! {
    Ip:
    find = full_find(service) => find::of_client::<Ip>;
    find_answering = full_find_answering() => find::of_backend::<Ip>;
    claim = full_claim(backend) => open::claim::<Ip>;
    fill = full_fill(place, backend, sequence) => open::fill::<Ip>;
    hop = full_hop(place) => backward::hop::<Ip>;
    error_question = full_error_question() => errors::question::<Ip>;
    error_ready = full_error_ready(place, way) => errors::ready::<Ip>;
    error_near = full_error_near(place, way) => errors::near::<Ip>;
    error_far = full_error_far(place, way) => errors::far::<Ip>;
    leave_piece = full_leave_piece(place) => pieces::leave::<Ip>;
    find_piece = full_find_piece() => pieces::find::<Ip>;
    send_piece = full_send_piece(place, way) => pieces::send::<Ip>;
}

parts! {
    Ip6:
    find = full_find6(service) => find::of_client::<Ip6>;
    find_answering = full_find_answering6() => find::of_backend::<Ip6>;
    claim = full_claim6(backend) => open::claim::<Ip6>;
    fill = full_fill6(place, backend, sequence) => open::fill::<Ip6>;
    hop = full_hop6(place) => backward::hop::<Ip6>;
    error_question = full_error_question6() => errors::question::<Ip6>;
    error_ready = full_error_ready6(place, way) => errors::ready::<Ip6>;
    error_near = full_error_near6(place, way) => errors::near::<Ip6>;
    error_far = full_error_far6(place, way) => errors::far::<Ip6>;
    leave_piece = full_leave_piece6(place) => pieces::leave::<Ip6>;
    find_piece = full_find_piece6() => pieces::find::<Ip6>;
    send_piece = full_send_piece6(place, way) => pieces::send::<Ip6>;
}
