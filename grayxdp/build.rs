//! Builds the XDP program from source, for current and for old kernels, to handle packets, to explain and to trace, and hands the object files
//! to `datapath`.

#[expect(dead_code, reason = "it knows the programs of other packages, too")]
#[path = "../xtask/src/xdp.rs"]
mod xdp;

fn main() {
    xdp::build_script(&[
        (xdp::LIVE, "GRAYXDP_OBJECT"),
        (xdp::EXPLAINING, "GRAYXDP_EXPLAINING_OBJECT"),
        (xdp::TRACING, "GRAYXDP_TRACING_OBJECT"),
        (xdp::LIVE_OLD, "GRAYXDP_OBJECT_OLD"),
        (xdp::EXPLAINING_OLD, "GRAYXDP_EXPLAINING_OBJECT_OLD"),
        (xdp::TRACING_OLD, "GRAYXDP_TRACING_OBJECT_OLD"),
    ]);
}
