//! One-lookup NAT: the least that a NAT on a stock map does, and the measure of every mark.
//!
//! Parse, one hash-map lookup of address, port and protocol, rewrite to the only backend, one per-CPU counter, out
//! where it came in. It shares no code with the program that is measured against it.

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX},
    macros::map,
    maps::{HashMap, PerCpuArray},
    programs::XdpContext,
};

use crate::layout::{NatBackend, NatKey};

#[map]
static NAT: HashMap<NatKey, NatBackend> = HashMap::with_max_entries(1024, 0);
#[map]
static NAT_PACKETS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

const ETHERNET_LEN: usize = 14;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The fields of an IPv4 header that are read or written.
#[repr(C, packed)]
struct Ipv4 {
    version_ihl: u8,
    tos: u8,
    total_length: [u8; 2],
    id: [u8; 2],
    fragment: [u8; 2],
    ttl: u8,
    protocol: u8,
    checksum: u16,
    source: u32,
    destination: u32,
}

/// Forwards what the map knows, passes the rest.
#[inline(always)]
pub(crate) fn forward(ctx: &XdpContext) -> u32 {
    let (start, end) = (ctx.data(), ctx.data_end());
    let l3 = start + ETHERNET_LEN;
    if l3 + size_of::<Ipv4>() > end {
        return XDP_PASS;
    }
    // SAFETY: Ethernet and IPv4 headers lie within the frame, as checked above.
    let (ethertype, ip) = unsafe { (((start + 12) as *const u16).read_unaligned(), &mut *(l3 as *mut Ipv4)) };
    if ethertype != 0x0800_u16.to_be() || ip.version_ihl >> 4 != 4 {
        return XDP_PASS;
    }
    let header_len = usize::from(ip.version_ihl & 15) * 4;
    let total_length = usize::from(u16::from_be_bytes(ip.total_length));
    let is_fragment = u16::from_be_bytes(ip.fragment) & 0x3fff != 0;
    if header_len < size_of::<Ipv4>() || total_length > end - l3 || is_fragment {
        return XDP_DROP;
    }
    let (l4_len, checksum_at) = match ip.protocol {
        TCP => (20, 16),
        UDP => (8, 6),
        _ => return XDP_PASS,
    };
    let l4 = l3 + header_len;
    if l4 + l4_len > end || header_len + l4_len > total_length {
        return XDP_DROP;
    }
    let (port, checksum) = ((l4 + 2) as *mut u16, (l4 + checksum_at) as *mut u16);
    // SAFETY: both lie within the TCP or UDP header checked above.
    let key = unsafe { NatKey { address: ip.destination, port: *port, protocol: ip.protocol, zero: 0 } };
    // SAFETY: entries are never removed.
    let Some(backend) = (unsafe { NAT.get(&key) }) else { return XDP_PASS };
    if ip.ttl <= 1 {
        return XDP_DROP;
    }
    let address = replaced32(ip.destination, backend.address);
    ip.ttl -= 1;
    ip.destination = backend.address;
    ip.checksum = add(ip.checksum, address + u32::from(!u16::from_ne_bytes([1, 0])));
    // SAFETY: as above; the Ethernet header begins at `start`.
    unsafe {
        if ip.protocol == TCP || *checksum != 0 {
            let sum = add(*checksum, address + u32::from(!key.port) + u32::from(backend.port));
            *checksum = if sum == 0 && ip.protocol == UDP { 0xffff } else { sum };
        }
        *port = backend.port;
        *(start as *mut [[u8; 6]; 2]) = backend.macs;
    }
    let Some(packets) = NAT_PACKETS.get_ptr_mut(0) else { return XDP_ABORTED };
    // SAFETY: the value is this CPU's own.
    unsafe { *packets += 1 };
    XDP_TX
}

/// The one's complement sum, unfolded, that replacing four bytes adds.
#[inline(always)]
pub(crate) fn replaced32(old: u32, new: u32) -> u32 {
    (!old & 0xffff) + (!old >> 16) + (new & 0xffff) + (new >> 16)
}

/// A checksum after its words changed by an unfolded one's complement sum (RFC 1624, equation 3).
#[inline(always)]
pub(crate) fn add(checksum: u16, sum: u32) -> u16 {
    let sum = u32::from(!checksum) + sum;
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum + (sum >> 16)) as u16)
}
