//! Finds the toolchain that compiles for the kernel and builds the XDP programs with it.
//!
//! Needs only `std`: `xtask` and the build scripts of `grayxdp` and `tests` include this one file.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Compilers that can make programs for the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// Debian's `rustc-web` with its precompiled `core`; the path is its `rustc`.
    Debian(PathBuf),
    /// A rustup nightly with `rust-src`; `core` is built with the program.
    Nightly,
}

/// Target of the kernel's machine.
const TARGET: &str = "bpfel-unknown-none";

/// What one line says when there is no toolchain.
const MISSING: &str = "no toolchain for the XDP program was found: run `cargo xtask setup`";

/// The toolchain to use, Debian's first.
///
/// # Errors
/// One line that says what is missing.
pub(crate) fn find_toolchain() -> Result<Toolchain, String> {
    if find_linker().is_none() {
        return Err(format!("{MISSING} (bpf-linker is not on PATH)"));
    }
    let debian = Path::new("/usr/bin/rustc");
    if debian.exists() && has_core(debian) {
        return Ok(Toolchain::Debian(debian.to_owned()));
    }
    let sysroot =
        run(Command::new("rustc").args(["+nightly", "--print", "sysroot"])).map_err(|_| MISSING.to_owned())?;
    let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    if source.exists() { Ok(Toolchain::Nightly) } else { Err(MISSING.to_owned()) }
}

/// Whether a compiler has `core` for the kernel's machine.
pub(crate) fn has_core(rustc: &Path) -> bool {
    run(Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]))
        .is_ok_and(|folder| fs::read_dir(folder.trim()).is_ok_and(|mut entries| entries.next().is_some()))
}

/// Where `bpf-linker` is.
#[must_use]
pub(crate) fn find_linker() -> Option<PathBuf> {
    let on_path = env::var_os("PATH").unwrap_or_default();
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    env::split_paths(&on_path)
        .chain(home.map(|home| home.join("bin")))
        .map(|f| f.join("bpf-linker"))
        .find(|f| f.exists())
}

/// An object file of `grayxdp-ebpf`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    binary: &'static str,
    features: &'static str,
    /// What cargo makes lies in a folder of this name: one binary with other features would replace the object file.
    folder: &'static str,
}

/// What handles packets.
pub(crate) const LIVE: Program = Program { binary: "grayxdp-xdp", features: "program", folder: "live" };
/// The same program, which says what it would do.
pub(crate) const EXPLAINING: Program =
    Program { binary: "grayxdp-xdp", features: "program,explain", folder: "explaining" };
/// Both for Linux 5.10 and 5.11, which lack compare-and-swap and the cheap clock.
pub(crate) const LIVE_OLD: Program =
    Program { binary: "grayxdp-xdp", features: "program,old-kernels", folder: "live-old" };
pub(crate) const EXPLAINING_OLD: Program =
    Program { binary: "grayxdp-xdp", features: "program,old-kernels,explain", folder: "explaining-old" };
/// The live programs, which also tell what becomes of packets that somebody asked for.
pub(crate) const TRACING: Program = Program { binary: "grayxdp-xdp", features: "program,trace", folder: "tracing" };
pub(crate) const TRACING_OLD: Program =
    Program { binary: "grayxdp-xdp", features: "program,old-kernels,trace", folder: "tracing-old" };
/// The benchmark's own programs.
pub(crate) const BENCH: Program = Program { binary: "grayxdp-bench", features: "program", folder: "live" };

/// All of them.
pub(crate) const ALL: [Program; 7] = [LIVE, EXPLAINING, TRACING, LIVE_OLD, EXPLAINING_OLD, TRACING_OLD, BENCH];

/// Builds one program of `grayxdp-ebpf` and returns the object file.
///
/// `workspace` is the folder of the top `Cargo.toml`; `target` the folder for what cargo makes; `environment` is added
/// to cargo's own.
///
/// # Errors
/// What went wrong, with the compiler's own words.
pub(crate) fn build(
    workspace: &Path,
    target: &Path,
    program: Program,
    environment: &[(&str, &str)],
) -> Result<PathBuf, String> {
    let target = target.join(program.folder);
    let toolchain = find_toolchain()?;
    let linker = find_linker().ok_or(MISSING)?;
    let mut cargo = match &toolchain {
        Toolchain::Debian(rustc) => {
            let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1").arg("build");
            cargo
        }
        Toolchain::Nightly => {
            let mut cargo = Command::new("rustup");
            cargo.args(["run", "nightly", "cargo", "build", "-Zbuild-std=core"]);
            cargo.env_remove("RUSTC").env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
            cargo
        }
    };
    let flags = [
        "-Cdebuginfo=2".to_owned(),
        "-Ctarget-cpu=v2".to_owned(),
        format!("-Clinker={}", linker.display()),
        "-Clink-arg=--btf".to_owned(),
        "-Clink-arg=--cpu-features=+allows-misaligned-mem-access".to_owned(),
    ];
    cargo
        .args([
            "--package",
            "grayxdp-ebpf",
            "--profile",
            "xdp",
            "--features",
            program.features,
            "--bin",
            program.binary,
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(workspace)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .envs(environment.iter().copied())
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTFLAGS");
    run(&mut cargo)?;
    Ok(target.join(TARGET).join("xdp").join(program.binary))
}

/// Runs a command and returns what it printed.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{:?} could not be run: {error}", command.get_program()))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{:?} failed:\n{}", command.get_program(), String::from_utf8_lossy(&output.stderr)))
    }
}

/// The whole of a build script that needs programs: builds them and sets for each a variable to the object file's path.
///
/// All build scripts share one folder, so a program is compiled once whatever profile asks for it.
pub(crate) fn build_script(programs: &[(Program, &str)]) {
    let folder = |name: &str| PathBuf::from(env::var_os(name).expect("cargo sets it for build scripts"));
    let (manifest, out) = (folder("CARGO_MANIFEST_DIR"), folder("OUT_DIR"));
    let workspace = manifest.parent().expect("the package lies in the workspace");
    for source in
        ["grayxdp-ebpf/src", "grayxdp-ebpf/Cargo.toml", "grayxdp-common/src", "xtask/src/xdp.rs", "Cargo.lock"]
    {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    let target = out.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists()).unwrap_or(&out);
    for (program, variable) in programs {
        match build(workspace, &target.join("xdp"), *program, &[]) {
            Ok(object) => println!("cargo::rustc-env={variable}={}", object.display()),
            Err(error) => error.lines().for_each(|line| println!("cargo::error={line}")),
        }
    }
}
