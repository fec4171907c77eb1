//! The maps that have addresses for keys, or in their values: routes and neighbours of clients, interfaces, source prefixes.

use core::mem::{MaybeUninit, offset_of};

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LpmTrie, lpm_trie::Key},
};
use grayxdp_common::{
    cells::{PrefixKey, PrefixValue, Stamp},
    ipv6::{Address6, Ends6, PrefixKey6},
    records::{InterfaceRecord, NextHop, Route, RouteHeads, Target},
};

use super::{MAPPABLE, set};

/// Elements are allocated as they come; the kernel asks for it in a trie.
const NO_PREALLOC: u32 = 1;

#[map(name = "ROUTES")]
static ROUTES: LpmTrie<u32, Route> = LpmTrie::with_max_entries(1, NO_PREALLOC);
#[map(name = "ROUTE_HEADS")]
static ROUTE_HEADS: Array<RouteHeads> = Array::with_max_entries(1, MAPPABLE);
#[map(name = "ROUTE_LEAVES")]
static ROUTE_LEAVES: Array<Route> = Array::with_max_entries(1, MAPPABLE);
#[map(name = "NEIGHBOURS")]
static NEIGHBOURS: HashMap<u32, NextHop> = HashMap::with_max_entries(1, 0);
#[map(name = "ENDS6")]
static ENDS6: Array<Ends6> = Array::with_max_entries(1, MAPPABLE);
#[map(name = "TARGETS")]
static TARGETS: Array<Target> = Array::with_max_entries(1, MAPPABLE);
#[map(name = "ROUTES6")]
static ROUTES6: LpmTrie<[u32; 4], Route> = LpmTrie::with_max_entries(1, NO_PREALLOC);
#[map(name = "NEIGHBOURS6")]
static NEIGHBOURS6: HashMap<Address6, NextHop> = HashMap::with_max_entries(1, 0);
#[map(name = "PREFIXES6")]
static PREFIXES6: LpmTrie<PrefixKey6, PrefixValue> = LpmTrie::with_max_entries(1, NO_PREALLOC);
#[map(name = "PREFIXES")]
static PREFIXES: LpmTrie<PrefixKey, PrefixValue> = LpmTrie::with_max_entries(1, NO_PREALLOC);
#[map(name = "INTERFACES")]
static INTERFACES: HashMap<u32, InterfaceRecord> = HashMap::with_max_entries(1, 0);

/// Both ends of an IPv6 backend.
#[inline(always)]
pub(crate) fn ends(id: u16) -> Option<&'static Ends6> {
    ENDS6.get(u32::from(id))
}

/// What there is to a backend whose packets keep their virtual endpoint.
#[inline(always)]
pub(crate) fn target(id: u16) -> Option<&'static Target> {
    TARGETS.get(u32::from(id))
}

/// The route to a client.
#[inline(always)]
pub(crate) fn route(address: u32) -> Option<&'static Route> {
    if let Some(heads) = ROUTE_HEADS.get(0)
        && let Some(leaf) = heads.0[usize::from(RouteHeads::block(address))].checked_sub(1)
    {
        return ROUTE_LEAVES.get(u32::from(leaf));
    }
    ROUTES.get(Key::new(32, address))
}

/// The route to a client of IPv6.
#[inline(always)]
pub(crate) fn route6(address: Address6) -> Option<&'static Route> {
    let [a, b, c, d] = PrefixKey6::new(0, address).address;
    ROUTES6.get(key_of(&mut MaybeUninit::uninit(), [128, a, b, c, d]))
}

/// A key of a trie on the stack, aligned.
#[repr(align(8))]
struct Aligned<K>(Key<K>);

/// A key of words of 32 bits, in its place and each stored by itself: together they become stores that the verifier refuses on the
/// stack.
#[inline(always)]
fn key_of<const N: usize, K>(place: &mut MaybeUninit<Aligned<K>>, words: [u32; N]) -> &Key<K> {
    const { assert!(size_of::<Key<K>>() == N * size_of::<u32>()) };
    let start = place.as_mut_ptr().cast::<u32>();
    let mut index = 0;
    while index < N {
        // SAFETY: within the key, which is aligned for more.
        unsafe { start.add(index).write_volatile(words[index]) };
        index += 1;
    }
    // SAFETY: every byte that is looked at was written, and keys are of plain words.
    unsafe { &(*place.as_ptr()).0 }
}

/// As [`neighbour`].
#[inline(always)]
pub(crate) fn neighbour6(address: Address6) -> NextHop {
    // SAFETY: as for `neighbour`.
    unsafe { NEIGHBOURS6.get(&address).copied() }.unwrap_or(NextHop::UNKNOWN)
}

/// The next hop of an on-link client, if known.
#[inline(always)]
pub(crate) fn neighbour(address: u32) -> NextHop {
    // SAFETY: the value is copied at once; user space replaces elements and never writes into one.
    unsafe { NEIGHBOURS.get(&address).copied() }.unwrap_or(NextHop::UNKNOWN)
}

/// An attached interface.
#[inline(always)]
pub(crate) fn interface(index: u32) -> Option<InterfaceRecord> {
    // SAFETY: as for `neighbour`.
    unsafe { INTERFACES.get(&index).copied() }
}

/// A client's address, as segments look for it.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    /// The service's set of prefixes.
    pub(crate) set: u32,
    /// The words of the address.
    pub(crate) words: [u64; 2],
    /// Whether it is one of IPv6.
    pub(crate) is_ipv6: bool,
}

impl Source {
    #[inline(always)]
    fn prefix(self) -> Option<&'static PrefixValue> {
        if self.is_ipv6 {
            let [a, b, c, d] = PrefixKey6::new(self.set, Address6(self.words)).address;
            PREFIXES6.get(key_of(&mut MaybeUninit::uninit(), [PrefixKey6::BITS, self.set, a, b, c, d]))
        } else {
            PREFIXES.get(Key::new(u64::BITS, PrefixKey { set: self.set, address: self.words[0] as u32 }))
        }
    }
}

/// Stamps the source prefix that holds an address.
#[inline(always)]
pub(crate) fn stamp_prefix(source: Source, kind: u64) {
    if let Some(value) = source.prefix() {
        let first = offset_of!(PrefixValue, seen);
        const { assert!(offset_of!(PrefixValue, deferred) - offset_of!(PrefixValue, seen) == offset_of!(Stamp, deferred)) };
        const { assert!(offset_of!(PrefixValue, refused) - offset_of!(PrefixValue, seen) == offset_of!(Stamp, refused)) };
        // SAFETY: a byte of the value, as for `stamp`.
        unsafe {
            set(core::ptr::from_ref(value)
                .cast_mut()
                .cast::<u8>()
                .add(first + if kind > 1 { 2 } else { kind as usize & 1 }))
        };
    }
}

/// What the longest source prefix says that holds an address.
#[inline(always)]
pub(crate) fn prefix(source: Source) -> Option<PrefixValue> {
    source.prefix().copied()
}
