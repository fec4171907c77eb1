#![no_std]
#![no_main]
//! The XDP program.

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};

/// Splits and rewrites.
#[xdp]
pub fn grayxdp(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
