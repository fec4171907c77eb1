//! Builds the XDP program from source, for current and for old kernels, and hands its object files to `datapath`.

#[path = "../xtask/src/xdp.rs"]
mod xdp;

fn main() {
    xdp::build_script(&[
        ("grayxdp-xdp", xdp::For::Current, "GRAYXDP_OBJECT"),
        ("grayxdp-xdp", xdp::For::Old, "GRAYXDP_OBJECT_OLD"),
    ]);
}
