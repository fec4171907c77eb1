//! The initial file system of a virtual machine: busybox, a few tools and modules, the tests, and what they need.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

use super::{
    archive::Archive,
    kernels::{Kernel, Sources},
    programs::Program,
};
use crate::run::{output, run, workspace};

/// Programs of this machine that the tests run.
const TOOLS: [&str; 2] = ["ip", "ethtool"];
/// What busybox stands in for.
const BUSYBOX: [&str; 13] =
    ["sh", "mount", "insmod", "poweroff", "sleep", "uname", "cat", "ls", "stty", "ping", "rm", "mkdir", "dmesg"];
/// Modules for namespaces and their links, in the order in which they need each other. What is built in is not there.
const MODULES: [&str; 4] = ["drivers/net/veth.ko", "net/llc/llc.ko", "net/802/stp.ko", "net/bridge/bridge.ko"];
/// Folders in which a program of this machine may be.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// Writes what a kernel finds when it starts.
pub(super) fn write(file: &Path, kernel: &Kernel, programs: &[Program], data: &[&str]) -> anyhow::Result<()> {
    let busybox = Sources::configured().unpack("busybox-static")?.join("bin/busybox");
    let mut archive = Archive::new(BufWriter::new(File::create(file)?));
    for folder in ["proc", "sys", "dev", "tmp", "run", "etc", "root", "var/lib"] {
        archive.folder(folder)?;
    }
    archive.copy(&busybox, "bin/busybox")?;
    for name in BUSYBOX {
        archive.link(format!("bin/{name}"), "busybox")?;
    }
    let mut libraries = BTreeSet::new();
    for name in TOOLS {
        let tool = FOLDERS.map(|folder| Path::new(folder).join(name)).into_iter().find(|file| file.exists());
        let tool = tool.with_context(|| format!("`{name}` is missing"))?;
        libraries.extend(libraries_of(&tool)?);
        archive.copy(&tool, format!("sbin/{name}"))?;
    }
    for program in programs {
        libraries.extend(libraries_of(&program.file)?);
        archive.file(program.inside(), &without_debug_information(&program.file)?)?;
    }
    for library in libraries {
        archive.copy(&library, &library)?;
    }
    for (number, module) in MODULES.iter().enumerate() {
        if let Some(content) = module_of(&kernel.modules, module)? {
            archive.file(format!("modules/{number}.ko"), &content)?;
        }
    }
    for folder in data {
        let folder = workspace().join(folder);
        archive.copy_folder(&folder, &folder)?;
    }
    archive.file("init", start(programs).as_bytes())?;
    Ok(archive.finish()?)
}

/// A program's bytes as far as running it needs them: a tenth.
fn without_debug_information(program: &Path) -> anyhow::Result<Vec<u8>> {
    let file = super::folder().join("stripped");
    run(Command::new("strip").arg("--strip-debug").arg("-o").arg(&file).arg(program))?;
    Ok(fs::read(file)?)
}

/// A module's bytes, if the kernel has it as a module.
fn module_of(modules: &Path, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
    let plain = modules.join(name);
    if plain.exists() {
        return Ok(Some(fs::read(plain)?));
    }
    let packed = modules.join(format!("{name}.xz"));
    if !packed.exists() {
        return Ok(None);
    }
    let unpacked = Command::new("xz").args(["--decompress", "--stdout"]).arg(&packed).output().context("xz")?;
    if !unpacked.status.success() {
        bail!("{} cannot be unpacked: {}", packed.display(), String::from_utf8_lossy(&unpacked.stderr));
    }
    Ok(Some(unpacked.stdout))
}

/// The shared libraries of a program, and who loads them; none of a static one.
fn libraries_of(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let Ok(said) = output(Command::new("ldd").arg(program)) else { return Ok(Vec::new()) };
    let paths = said.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

/// What the first process does: [`super::guest`] reads what it says.
fn start(programs: &[Program]) -> String {
    let mut lines: Vec<String> = [
        "#!/bin/busybox sh",
        "export PATH=/sbin:/bin HOME=/root RUST_BACKTRACE=0 GRAYXDP_TEST_SIZE=small",
        "mount -t proc proc /proc",
        "mount -t sysfs sys /sys",
        "mount -t devtmpfs dev /dev",
        "mount -t bpf bpf /sys/fs/bpf",
        "mount -t tmpfs tmp /tmp",
        "stty -F /dev/ttyS1 raw",
        "exec >/dev/ttyS1 2>&1 </dev/null",
        "for module in /modules/*.ko; do insmod $module; done",
        "ip link set lo up",
        "ulimit -l unlimited",
        "cd /tests",
    ]
    .map(str::to_owned)
    .into();
    for Program { name, arguments, .. } in programs {
        let arguments = arguments.join(" ");
        lines.extend([
            format!("echo vm: begin {name}"),
            format!("./{name} {arguments}"),
            format!("echo vm: end {name} $?"),
        ]);
    }
    lines.extend(["echo vm: done", "poweroff -f", ""].map(str::to_owned));
    lines.join("\n")
}
