//! Builds the XDP program from source, once to handle packets and once to explain, and hands the object files to `datapath`.

#[expect(dead_code, reason = "it knows the programs of other packages, too")]
#[path = "../xtask/src/xdp.rs"]
mod xdp;

fn main() {
    xdp::build_script(&[(xdp::LIVE, "GRAYXDP_OBJECT"), (xdp::EXPLAINING, "GRAYXDP_EXPLAINING_OBJECT")]);
}
