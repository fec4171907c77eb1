//! Finds the tools that building and testing need, and installs what is missing.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

use crate::{
    Purpose,
    run::{cargo, run, succeeds},
    xdp::{self, Toolchain},
};

/// A program that must be on `PATH`, and the Debian package that brings it.
const FOR_BUILD: [(&str, &str); 1] = [("cc", "build-essential")];
/// What the tests run besides, and what the benchmark compares with.
const FOR_TEST: [(&str, &str); 12] = [
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("ping", "iputils-ping"),
    ("curl", "curl"),
    ("nginx", "nginx-light"),
    ("promtool", "prometheus"),
    ("nft", "nftables"),
    ("tshark", "tshark"),
    ("traceroute", "traceroute"),
    ("dnsmasq", "dnsmasq-base"),
    ("dig", "bind9-dnsutils"),
    ("nmap", "nmap"),
];
/// What virtual machines are made with.
const FOR_VM: [(&str, &str); 5] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("xz", "xz-utils"),
    ("dpkg-deb", "dpkg"),
];
/// Debian's compiler for the kernel's machine, and the library that the linker is built with.
const DEBIAN_TOOLCHAIN: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];
const LLVM: &str = "llvm-22-dev";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const LINKER_VERSION: &str = "0.13.0";
/// Parts of the Rust toolchain that the lints need: component, subcommand.
const COMPONENTS: [(&str, &str); 2] = [("rustfmt", "fmt"), ("clippy", "clippy")];

/// Makes a machine ready; does nothing for what is there.
pub(crate) fn setup(purpose: Purpose) -> anyhow::Result<()> {
    let tools: Vec<_> = match purpose {
        Purpose::Build => FOR_BUILD.to_vec(),
        Purpose::Test | Purpose::Bench => FOR_BUILD.into_iter().chain(FOR_TEST).collect(),
        Purpose::Vm => FOR_BUILD.into_iter().chain(FOR_VM).collect(),
    };
    let missing: Vec<_> = tools.into_iter().filter(|(program, _)| on_path(program).is_none()).collect();
    if !missing.is_empty() {
        let packages: Vec<_> = missing.into_iter().map(|(_, package)| package).collect();
        install_packages(&packages)?;
    }
    if xdp::find_toolchain().is_err() {
        install_toolchain()?;
    }
    let toolchain = xdp::find_toolchain().map_err(|error| anyhow::anyhow!("{error}"))?;
    println!("the XDP program is compiled by {}", described(&toolchain));
    match purpose {
        Purpose::Build | Purpose::Bench | Purpose::Vm => Ok(()),
        Purpose::Test => install_components(),
    }
}

fn described(toolchain: &Toolchain) -> String {
    match toolchain {
        Toolchain::Debian(rustc) => format!("Debian's {}", rustc.display()),
        Toolchain::Nightly => "rustup's nightly with rust-src".to_owned(),
    }
}

/// The compiler and the linker for the kernel's machine: from Debian, else from rustup.
fn install_toolchain() -> anyhow::Result<()> {
    let Err(debian) = install_from_debian() else { return Ok(()) };
    println!("Debian's packages do not help here ({debian:#}); trying rustup");
    install_from_rustup().with_context(|| {
        format!(
            "no toolchain for the XDP program: either `apt-get install {} {LLVM}` must work, or `rustup toolchain \
             install nightly --component rust-src`; what went wrong last",
            DEBIAN_TOOLCHAIN.join(" ")
        )
    })
}

fn install_from_debian() -> anyhow::Result<()> {
    let rustc = Path::new("/usr/bin/rustc");
    if !xdp::has_core(rustc) {
        install_packages(&DEBIAN_TOOLCHAIN)?;
    }
    if xdp::find_linker().is_none() {
        if !Path::new(LLVM_PREFIX).join("include/llvm").exists() {
            install_packages(&[LLVM])?;
        }
        install_linker(&["--no-default-features", "--features", "llvm-22"])?;
    }
    Ok(())
}

fn install_from_rustup() -> anyhow::Result<()> {
    println!("installing rustup's nightly with rust-src");
    run(Command::new("rustup").args([
        "toolchain",
        "install",
        "nightly",
        "--profile",
        "minimal",
        "--component",
        "rust-src",
    ]))?;
    if xdp::find_linker().is_none() {
        install_linker(&[])?;
    }
    Ok(())
}

/// Builds the linker for the kernel's machine.
fn install_linker(features: &[&str]) -> anyhow::Result<()> {
    println!("building bpf-linker {LINKER_VERSION} (about a minute)");
    run(cargo()
        .args(["install", "--quiet", "bpf-linker", "--version", LINKER_VERSION, "--locked"])
        .args(features)
        .env("LLVM_PREFIX", LLVM_PREFIX))
}

/// Installs Debian packages.
fn install_packages(packages: &[&str]) -> anyhow::Result<()> {
    let list = packages.join(" ");
    if on_path("apt-get").is_none() {
        bail!("this machine has no apt-get; install what corresponds to: {list}");
    }
    let mut apt = if is_root() {
        Command::new("apt-get")
    } else if succeeds("sudo", &["--non-interactive", "true"]) {
        let mut sudo = Command::new("sudo");
        sudo.arg("apt-get");
        sudo
    } else {
        bail!("installing {list} needs root: run `sudo apt-get install {list}`, then this command again");
    };
    println!("installing Debian packages: {list}");
    let options = ["--quiet", "--option", "DPkg::Lock::Timeout=400"];
    apt.args(options).env("DEBIAN_FRONTEND", "noninteractive");
    let mut update = again(&apt);
    // A source that cannot be read does not matter when the others have what is wanted.
    if run(update.arg("update")).is_err() {
        println!("not all package lists could be fetched; going on with those that are there");
    }
    run(apt.args(["install", "--yes", "--no-install-recommends"]).args(packages))
}

/// The same command once more.
fn again(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args());
    copy
}

/// Adds the parts of the Rust toolchain that the lints need.
fn install_components() -> anyhow::Result<()> {
    for (component, subcommand) in COMPONENTS {
        if !cargo().args([subcommand, "--version"]).output().is_ok_and(|output| output.status.success()) {
            println!("adding the Rust component {component}");
            run(Command::new("rustup").args(["component", "add", component]))
                .with_context(|| format!("`cargo {subcommand}` is missing and could not be added"))?;
        }
    }
    Ok(())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Where a program is; administrators' folders count although they may not be on `PATH`.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(administrators).map(|folder| folder.join(program)).find(|file| file.exists())
}
