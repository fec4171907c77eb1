//! Builds the benchmark's programs from source and hands their object file to the harness.

#[expect(dead_code, reason = "it knows the programs of other packages, too")]
#[path = "../xtask/src/xdp.rs"]
mod xdp;

fn main() {
    xdp::build_script(&[(xdp::BENCH, "GRAYXDP_BENCH_OBJECT")]);
}
