//! Builds the benchmark's programs from source and hands their object file to the harness.

#[path = "../xtask/src/xdp.rs"]
mod xdp;

fn main() {
    xdp::build_script("grayxdp-bench", "GRAYXDP_BENCH_OBJECT");
}
