//! Packs what is handed to users: a static binary, licence, units, documents.

use std::{fs, process::Command};

use anyhow::{Context, bail, ensure};

use crate::{
    Purpose,
    run::{cargo, run, target, workspace},
    setup,
};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the binary, shows that it is static, and writes `target/dist/grayxdp-VERSION-TARGET.tar.gz`.
pub(crate) fn dist() -> anyhow::Result<()> {
    setup::setup(Purpose::Build)?;
    run(cargo()
        .args(["build", "--package", "grayxdp", "--profile", "dist", "--target", TARGET])
        .env("RUSTFLAGS", "-Ctarget-feature=+crt-static"))?;
    let binary = target().join(TARGET).join("dist/grayxdp");
    ensure!(
        is_static(&fs::read(&binary)?)?,
        "{} still needs shared libraries: the C library's static archive is missing",
        binary.display()
    );
    let name = format!("grayxdp-{}-{TARGET}", env!("CARGO_PKG_VERSION"));
    let folder = target().join("dist");
    let staged = folder.join(&name);
    if staged.exists() {
        fs::remove_dir_all(&staged)?;
    }
    fs::create_dir_all(&staged)?;
    fs::copy(&binary, staged.join("grayxdp"))?;
    for part in ["LICENSE", "README.md", "CHANGELOG.md", "deploy", "docs"] {
        let part = workspace().join(part);
        if part.exists() {
            run(Command::new("cp").arg("--recursive").arg(&part).arg(&staged))?;
        }
    }
    let archive = folder.join(format!("{name}.tar.gz"));
    run(Command::new("tar")
        .arg("--create")
        .arg("--gzip")
        .arg("--file")
        .arg(&archive)
        .arg("-C")
        .arg(&folder)
        .arg(&name))?;
    println!("{} ({} KiB)", archive.display(), fs::metadata(&archive)?.len() / 1_024);
    Ok(())
}

/// Whether a 64-bit little-endian ELF file asks for no interpreter: none of its program headers is `PT_INTERP`.
fn is_static(file: &[u8]) -> anyhow::Result<bool> {
    const PT_INTERP: u32 = 3;
    if file.get(..6) != Some(b"\x7fELF\x02\x01") {
        bail!("not a 64-bit little-endian ELF file");
    }
    let start = usize::try_from(u64::from_le_bytes(bytes(file, 32)?))?;
    let size = usize::from(u16::from_le_bytes(bytes(file, 54)?));
    let count = usize::from(u16::from_le_bytes(bytes(file, 56)?));
    for number in 0..count {
        if u32::from_le_bytes(bytes(file, start + number * size)?) == PT_INTERP {
            return Ok(false);
        }
    }
    Ok(true)
}

fn bytes<const N: usize>(file: &[u8], offset: usize) -> anyhow::Result<[u8; N]> {
    let part = file.get(offset..offset + N).context("the ELF file is cut short")?;
    Ok(part.try_into().expect("the slice has this length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_an_interpreter_is_not_static() {
        assert!(!is_static(&fs::read("/bin/sh").unwrap()).unwrap());
        assert!(is_static(b"#!/bin/sh\n").is_err());
    }
}
