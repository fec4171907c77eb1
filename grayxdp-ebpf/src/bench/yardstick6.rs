//! One-lookup NAT of IPv6: what [`crate::yardstick`] is to IPv4. It follows no extension header.

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX},
    macros::map,
    maps::{HashMap, PerCpuArray},
    programs::XdpContext,
};

use crate::{
    layout::{NatBackend6, NatKey6},
    yardstick::{add, replaced32},
};

#[map]
static NAT6: HashMap<NatKey6, NatBackend6> = HashMap::with_max_entries(1024, 0);
#[map]
static NAT6_PACKETS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

const ETHERNET_LEN: usize = 14;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// An IPv6 header.
#[repr(C, packed)]
struct Ipv6 {
    version_class_label: u32,
    payload_length: [u8; 2],
    next_header: u8,
    hop_limit: u8,
    source: [u32; 4],
    destination: [u32; 4],
}

/// Forwards what the map knows, passes the rest.
#[inline(always)]
pub(crate) fn forward(ctx: &XdpContext) -> u32 {
    let (start, end) = (ctx.data(), ctx.data_end());
    let l3 = start + ETHERNET_LEN;
    if l3 + size_of::<Ipv6>() > end {
        return XDP_PASS;
    }
    // SAFETY: Ethernet and IPv6 headers lie within the frame, as checked above.
    let (ethertype, ip) = unsafe { (((start + 12) as *const u16).read_unaligned(), &mut *(l3 as *mut Ipv6)) };
    if ethertype != 0x86dd_u16.to_be() || ip.version_class_label.to_ne_bytes()[0] >> 4 != 6 {
        return XDP_PASS;
    }
    let (l4_len, checksum_at) = match ip.next_header {
        TCP => (20, 16),
        UDP => (8, 6),
        _ => return XDP_PASS,
    };
    let l4 = l3 + size_of::<Ipv6>();
    let payload_length = usize::from(u16::from_be_bytes(ip.payload_length));
    if l4 + l4_len > end || payload_length < l4_len || payload_length > end - l4 {
        return XDP_DROP;
    }
    let (port, checksum) = ((l4 + 2) as *mut u16, (l4 + checksum_at) as *mut u16);
    // SAFETY: both lie within the TCP or UDP header checked above.
    let key = unsafe { NatKey6 { address: ip.destination, port: *port, protocol: ip.next_header, zero: 0 } };
    // SAFETY: entries are never removed.
    let Some(backend) = (unsafe { NAT6.get(&key) }) else { return XDP_PASS };
    if ip.hop_limit <= 1 {
        return XDP_DROP;
    }
    let address = replaced32(key.address[0], backend.address[0])
        + replaced32(key.address[1], backend.address[1])
        + replaced32(key.address[2], backend.address[2])
        + replaced32(key.address[3], backend.address[3]);
    ip.hop_limit -= 1;
    ip.destination = backend.address;
    // SAFETY: as above; the Ethernet header begins at `start`.
    unsafe {
        let sum = add(*checksum, address + u32::from(!key.port) + u32::from(backend.port));
        *checksum = if sum == 0 && key.protocol == UDP { 0xffff } else { sum };
        *port = backend.port;
        *(start as *mut [[u8; 6]; 2]) = backend.macs;
    }
    let Some(packets) = NAT6_PACKETS.get_ptr_mut(0) else { return XDP_ABORTED };
    // SAFETY: the value is this CPU's own.
    unsafe { *packets += 1 };
    XDP_TX
}
