//! Everything that is checked without running the product.

use anyhow::{anyhow, bail};

use crate::{
    layers,
    run::{cargo, run, target, workspace},
    xdp,
};

/// Form, lints, the XDP program without warnings, layers.
pub(crate) fn lint() -> anyhow::Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    check_layers()?;
    // With warnings denied cargo replays those of finished builds too, and rebuilds nothing.
    let deny = [("CARGO_BUILD_WARNINGS", "deny"), ("CARGO_UNSTABLE_WARNINGS", "true")];
    for program in xdp::ALL {
        xdp::build(workspace(), &target().join("xdp"), program, &deny).map_err(|error| anyhow!("{error}"))?;
    }
    run(cargo().args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-Dwarnings"]))
}

/// Fails when a module imports upwards.
fn check_layers() -> anyhow::Result<()> {
    let violations = layers::check(workspace())?;
    for violation in &violations {
        eprintln!("{violation}");
    }
    match violations.len() {
        0 => Ok(()),
        count => bail!("{count} breaches of the layers (xtask/src/layers.rs lists who may use whom)"),
    }
}
