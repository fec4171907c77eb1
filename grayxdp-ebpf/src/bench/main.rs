#![no_std]
#![no_main]
//! The benchmark's own programs: the wrapper that prepares a packet and calls what is measured, what it is measured
//! against, and the ends of the lab.

mod ends;
pub mod layout;
mod yardstick;
mod yardstick6;

use aya_ebpf::{
    bindings::xdp_action,
    helpers::bpf_xdp_adjust_head,
    macros::{map, xdp},
    maps::{Array, ProgramArray},
    programs::XdpContext,
};
use layout::{HEADERS_LEN, LONG_HEADERS_LEN, SLOTS, Setup, TARGETS_LEN, Target};

#[map]
static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(SLOTS, 0);
#[map]
static SETUP: Array<Setup> = Array::with_max_entries(1, 0);
#[map]
static TARGETS: Array<Target> = Array::with_max_entries(TARGETS_LEN, 0);

/// The floor: does nothing.
#[xdp]
fn pass(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// The least that sends a packet back.
#[xdp]
fn swap(ctx: XdpContext) -> u32 {
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + 14 > end {
        return xdp_action::XDP_ABORTED;
    }
    let macs = start as *mut [[u8; 6]; 2];
    // SAFETY: the 12 bytes lie within the frame, as checked above.
    unsafe {
        let [destination, source] = macs.read_unaligned();
        macs.write_unaligned([source, destination]);
    }
    xdp_action::XDP_TX
}

/// Least work of a NAT on a stock map.
#[xdp]
fn yardstick(ctx: XdpContext) -> u32 {
    yardstick::forward(&ctx)
}

/// The same for IPv6.
#[xdp]
fn yardstick6(ctx: XdpContext) -> u32 {
    yardstick6::forward(&ctx)
}

/// Sends prepared packets out of the interface that they seem to come in by: the lab's generator.
#[xdp]
fn send(ctx: XdpContext) -> u32 {
    match prepare(&ctx) {
        Some(setup) => ends::send(&ctx, setup),
        None => xdp_action::XDP_ABORTED,
    }
}

/// Sends every packet out of one interface: the least that forwards between interfaces.
#[xdp]
fn redirect(_ctx: XdpContext) -> u32 {
    ends::redirect()
}

/// Counts TCP packets and drops all.
#[xdp]
fn sink(ctx: XdpContext) -> u32 {
    ends::sink(&ctx)
}

/// Counts and drops what a flood sends; passes all else.
#[xdp]
fn filter(ctx: XdpContext) -> u32 {
    ends::filter(&ctx)
}

/// Prepares the packet and calls the program in slot `SLOT`; `XDP_ABORTED` where there is none.
#[inline(always)]
fn prepare_and_call<const SLOT: u32>(ctx: &XdpContext) -> u32 {
    let Some(setup) = prepare(ctx) else { return xdp_action::XDP_ABORTED };
    // SAFETY: the program array holds XDP programs only.
    unsafe { PROGRAMS.tail_call(ctx, SLOT) };
    setup.fell_through += 1;
    xdp_action::XDP_ABORTED
}

/// Writes the next flow's headers into the packet, whatever was there.
#[inline(always)]
fn prepare(ctx: &XdpContext) -> Option<&'static mut Setup> {
    let setup = SETUP.get_ptr_mut(0)?;
    // SAFETY: the map's value lives as long as the program, and test runs are one at a time.
    let setup = unsafe { &mut *setup };
    let (addresses, ports) = next_flow(setup)?;
    // The mask keeps the compiler from subtracting a number from a packet pointer, which the verifier refuses.
    let length = (ctx.data_end() - ctx.data()) & 0xffff;
    let excess = length as i64 - setup.frame_len as i64;
    // SAFETY: the context is the program's own.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, excess as i32) } != 0 {
        return None;
    }
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + HEADERS_LEN > end {
        return None;
    }
    let (front, back) = (&setup.front, &setup.back);
    let words = [(0, front[0]), (8, front[1]), (18, back[0]), (26, back[1] | addresses), (34, back[2] | ports)];
    // SAFETY: all lies within the HEADERS_LEN bytes checked above.
    unsafe {
        for (offset, word) in words {
            ((start + offset) as *mut u64).write_unaligned(word);
        }
        ((start + 42) as *mut u64).write_unaligned(back[3]);
        ((start + 50) as *mut u64).write_unaligned(back[4]);
        ((start + 16) as *mut u16).write_unaligned(setup.total_length);
    }
    if start + LONG_HEADERS_LEN <= end {
        // SAFETY: as above.
        unsafe {
            ((start + 58) as *mut u64).write_unaligned(setup.tail[0]);
            ((start + 66) as *mut u64).write_unaligned(setup.tail[1]);
        }
    }
    Some(setup)
}

/// Steps to the next packet's flow and returns what it adds to the words of addresses and of ports.
#[inline(always)]
fn next_flow(setup: &mut Setup) -> Option<(u64, u64)> {
    setup.held += 1;
    if setup.held >= setup.hold {
        setup.held = 0;
        setup.flow += setup.stride;
        if setup.flow >= setup.flows {
            setup.flow -= setup.flows;
        }
    }
    let flow = setup.flow;
    let target = TARGETS.get((flow & setup.target_mask) as u32)?;
    let client = (flow >> (setup.port_bits & 63)) << (setup.address_bits & 63);
    let address = setup.address.wrapping_add(client as u32).to_be();
    let port = (setup.port as u16).wrapping_add((flow & ((1 << (setup.port_bits & 63)) - 1)) as u16).to_be();
    Some((
        target.addresses | u64::from(address) << (setup.address_shift & 63),
        target.ports | u64::from(port) << (setup.port_shift & 63),
    ))
}

macro_rules! wrappers {
    ($($name:ident = $slot:literal,)*) => {
        $(
            /// A wrapper of the slot that its name ends in.
            #[xdp]
            fn $name(ctx: XdpContext) -> u32 {
                prepare_and_call::<$slot>(&ctx)
            }
        )*
    };
}

wrappers! {
    wrapper_0 = 0,
    wrapper_1 = 1,
    wrapper_2 = 2,
    wrapper_3 = 3,
    wrapper_4 = 4,
    wrapper_5 = 5,
    wrapper_6 = 6,
    wrapper_7 = 7,
    wrapper_8 = 8,
    wrapper_9 = 9,
    wrapper_10 = 10,
    wrapper_11 = 11,
    wrapper_12 = 12,
    wrapper_13 = 13,
    wrapper_14 = 14,
    wrapper_15 = 15,
    wrapper_16 = 16,
    wrapper_17 = 17,
    wrapper_18 = 18,
    wrapper_19 = 19,
    wrapper_20 = 20,
    wrapper_21 = 21,
    wrapper_22 = 22,
    wrapper_23 = 23,
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
