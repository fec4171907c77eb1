//! The binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    grayxdp::cli::main(std::env::args_os())
}
