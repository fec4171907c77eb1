//! How large the tests are, and where the binary is that they start.

use std::path::PathBuf;

/// How much a test does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// For a machine that is emulated: as [`Self::Quick`], but a twentieth of what is counted in thousands.
    Small,
    /// For every change: seconds.
    Quick,
    /// For a night.
    Full,
}

impl Size {
    /// What `GRAYXDP_TEST_SIZE` says: `small`, `quick`, which is also meant where it is not set, or `full`.
    ///
    /// # Panics
    /// When it says something else.
    #[must_use]
    pub fn of_this_run() -> Self {
        match std::env::var("GRAYXDP_TEST_SIZE").as_deref() {
            Ok("quick") | Err(_) => Self::Quick,
            Ok("small") => Self::Small,
            Ok("full") => Self::Full,
            Ok(other) => panic!("GRAYXDP_TEST_SIZE is `small`, `quick` or `full`, not `{other}`"),
        }
    }

    /// One of two values.
    #[must_use]
    pub fn pick<T>(self, quick: T, full: T) -> T {
        match self {
            Self::Small | Self::Quick => quick,
            Self::Full => full,
        }
    }

    /// How often something is done.
    #[must_use]
    pub fn times(self, quick: u32, full: u32) -> u32 {
        match self {
            Self::Small => quick.div_ceil(20),
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}

/// The `grayxdp` binary of the same profile as the running test or benchmark.
///
/// # Panics
/// When it was not built: `cargo xtask test` does so.
#[must_use]
pub fn grayxdp() -> PathBuf {
    let program = std::env::current_exe().expect("a process has a program");
    // Tests lie in deps/ of their profile's folder, the benchmark in the folder itself.
    let mut folders = program.ancestors().skip(1).filter(|folder| !folder.ends_with("deps"));
    let binary = folders.next().expect("a program lies in a folder").join("grayxdp");
    assert!(binary.exists(), "{} is missing: `cargo build -p grayxdp`, or `cargo xtask test`", binary.display());
    binary
}
