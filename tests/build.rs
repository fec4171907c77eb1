//! Builds the benchmark's programs from source and hands their object file to the harness.

#[expect(dead_code, reason = "the benchmark runs on current kernels only")]
#[path = "../xtask/src/xdp.rs"]
mod xdp;

fn main() {
    xdp::build_script(&[("grayxdp-bench", xdp::For::Current, "GRAYXDP_BENCH_OBJECT")]);
}
