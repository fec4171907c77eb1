//! What runs in a virtual machine: the test programs, as `cargo xtask test` builds them.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::run::cargo;

/// The package whose tests need a kernel.
const PACKAGE: &str = "grayxdp-tests";

/// A test target of that package that runs on every kernel.
struct Target {
    name: &'static str,
    /// Parts of the names of its tests that need more than the machine has.
    skipped: &'static [&'static str],
    /// Folders of the workspace that it reads.
    data: &'static [&'static str],
}

/// All of them. What needs servers, captures or hours is not here.
const TARGETS: [Target; 7] = [
    Target { name: "program", skipped: &[], data: &[] },
    Target { name: "cases", skipped: &[], data: &["tests/cases"] },
    Target { name: "unsettled", skipped: &[], data: &[] },
    Target { name: "packets", skipped: &[], data: &[] },
    Target { name: "rules", skipped: &["model::"], data: &[] },
    // These compare with what tshark saw.
    Target { name: "signals", skipped: &["capture", "zero_window", "after_a_change"], data: &[] },
    // A hundred changes take a minute where all is emulated.
    Target { name: "datapath", skipped: &["a_hundred_changes"], data: &[] },
];

/// Folders of the workspace that the tests read.
pub(super) fn data() -> Vec<&'static str> {
    TARGETS.iter().flat_map(|target| target.data).copied().collect()
}

/// A program for the machine.
pub(super) struct Program {
    /// Its name there.
    pub(super) name: &'static str,
    /// Where it lies here.
    pub(super) file: PathBuf,
    /// What it is run with.
    pub(super) arguments: Vec<&'static str>,
}

impl Program {
    /// Its path in the machine.
    pub(super) fn inside(&self) -> String {
        format!("tests/{}", self.name)
    }
}

/// Builds them all.
pub(super) fn build() -> anyhow::Result<Vec<Program>> {
    let messages = messages()?;
    let program = |target: &Target| {
        let name = target.name;
        let file = executable(&messages, name).with_context(|| format!("cargo built no test named {name}"))?;
        let skipped = target.skipped.iter().flat_map(|skipped| ["--skip", skipped]);
        let arguments = ["--test-threads=1", "--show-output"].into_iter().chain(skipped).collect();
        Ok(Program { name, file, arguments })
    };
    TARGETS.iter().map(program).collect()
}

/// What cargo says about the tests that it builds.
fn messages() -> anyhow::Result<Vec<Value>> {
    let mut command = cargo();
    command.args(["test", "--no-run", "--quiet", "--package", PACKAGE]);
    command.args(["--message-format", "json-render-diagnostics"]);
    command.args(TARGETS.iter().flat_map(|target| ["--test", target.name])).stderr(Stdio::inherit());
    let built = command.output().context("cargo could not be run")?;
    if !built.status.success() {
        bail!("the tests could not be built");
    }
    let said = String::from_utf8(built.stdout)?;
    said.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// Where a test program lies.
fn executable(messages: &[Value], name: &str) -> Option<PathBuf> {
    let is_it = |message: &&Value| message["target"]["name"] == name && message["target"]["kind"][0] == "test";
    messages.iter().filter(is_it).find_map(|message| message["executable"].as_str()).map(PathBuf::from)
}
