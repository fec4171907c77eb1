//! Builds the XDP program from source and hands its object file to `datapath`.

#[path = "../xtask/src/xdp.rs"]
mod xdp;

fn main() {
    xdp::build_script("grayxdp-xdp", "GRAYXDP_OBJECT");
}
