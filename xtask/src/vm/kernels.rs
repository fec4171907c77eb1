//! Debian's kernels for virtual machines: which there are, and fetching them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
};

use anyhow::{Context, bail, ensure};

use super::folder;
use crate::run::{output, run};

/// A kernel to test on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Series {
    /// The oldest that is supported; from a source list of its own.
    V5_10,
    /// Of the configured sources.
    V6_1,
    /// Of the configured sources.
    V6_12,
    /// The newest of the configured sources.
    Newest,
}

/// A kernel that is there.
#[derive(Debug)]
pub(super) struct Kernel {
    /// Its release, as `uname -r` says it.
    pub(super) release: String,
    /// What is booted.
    pub(super) image: PathBuf,
    /// Where its modules lie.
    pub(super) modules: PathBuf,
}

/// Prefix and suffix of the packages' names.
const PACKAGE: (&str, &str) = ("linux-image-", "-cloud-amd64");

/// Where Debian keeps what it no longer ships, first the usual mirror.
const OLD_SOURCES: [&str; 2] = ["http://deb.debian.org/debian", "http://archive.debian.org/debian"];
/// The release of Debian with Linux 5.10.
const OLD_RELEASE: &str = "bullseye";
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What is asked for on the command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernels(Option<Series>);

impl FromStr for Kernels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self(None));
        }
        let names = || Series::ALL.map(|series| series.name()).join(", ");
        let found = Series::ALL.into_iter().find(|series| series.name() == text);
        found.map(|series| Self(Some(series))).ok_or_else(|| format!("it is one of {}, all", names()))
    }
}

impl Kernels {
    /// The kernels.
    pub(crate) fn series(self) -> Vec<Series> {
        self.0.map_or_else(|| Series::ALL.to_vec(), |series| vec![series])
    }
}

impl Series {
    /// All of them, the oldest last: what is newer fails for plainer reasons.
    pub(crate) const ALL: [Self; 4] = [Self::V6_1, Self::V6_12, Self::Newest, Self::V5_10];

    /// The first two numbers of its releases; none for the newest.
    const fn numbers(self) -> Option<[u32; 2]> {
        match self {
            Self::V5_10 => Some([5, 10]),
            Self::V6_1 => Some([6, 1]),
            Self::V6_12 => Some([6, 12]),
            Self::Newest => None,
        }
    }

    /// As on the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::Newest => "newest",
        }
    }

    /// Fetches it, unless it is there.
    pub(super) fn fetch(self) -> anyhow::Result<Kernel> {
        let sources = match self {
            Self::V5_10 => Sources::old()?,
            Self::V6_1 | Self::V6_12 | Self::Newest => Sources::configured(),
        };
        let packages = sources.packages()?;
        let package = best(&packages, self.numbers()).with_context(|| {
            let (prefix, suffix) = PACKAGE;
            format!("apt knows no package {prefix}{}…{suffix}", self.name())
        })?;
        let unpacked = sources.unpack(package)?;
        let release = package.trim_start_matches(PACKAGE.0).to_owned();
        let image = unpacked.join(format!("boot/vmlinuz-{release}"));
        let modules = ["lib", "usr/lib"].map(|lib| unpacked.join(format!("{lib}/modules/{release}/kernel")));
        let modules = modules.into_iter().find(|folder| folder.exists());
        ensure!(image.exists(), "{package} has no {}", image.display());
        Ok(Kernel { image, modules: modules.with_context(|| format!("{package} has no modules"))?, release })
    }
}

/// Where packages come from.
pub(super) struct Sources {
    /// Options of apt that name them.
    options: Vec<String>,
}

impl Sources {
    /// Those of this machine.
    pub(super) const fn configured() -> Self {
        Self { options: Vec::new() }
    }

    /// An old release's, in folders of their own: the machine's lists are not touched.
    fn old() -> anyhow::Result<Self> {
        let root = folder().join("apt");
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(root.join(part))?;
        }
        let list = root.join("sources.list");
        let option = |name: &str, path: &Path| format!("{name}={}", path.display());
        let sources = Self {
            options: vec![
                option("Dir::Etc::SourceList", &list),
                option("Dir::Etc::SourceParts", Path::new("/dev/null")),
                option("Dir::State::Lists", &root.join("lists")),
                option("Dir::Cache", &root.join("cache")),
                "APT::Sandbox::User=root".into(),
                "Acquire::Check-Valid-Until=false".into(),
            ],
        };
        if sources.packages().is_ok_and(|packages| !packages.is_empty()) {
            return Ok(sources);
        }
        for mirror in OLD_SOURCES {
            println!("reading the package list of {mirror} {OLD_RELEASE}");
            fs::write(&list, format!("deb [signed-by={KEYS}] {mirror} {OLD_RELEASE} main\n"))?;
            let read = run(sources.apt("apt-get").args(["--quiet", "update"]));
            if read.is_ok() && sources.packages().is_ok_and(|packages| !packages.is_empty()) {
                return Ok(sources);
            }
        }
        bail!("no mirror has the kernels of Debian {OLD_RELEASE}: {}", OLD_SOURCES.join(", "))
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(self.options.iter().flat_map(|option| ["--option", option]));
        command
    }

    /// The names of all kernels for virtual machines.
    fn packages(&self) -> anyhow::Result<Vec<String>> {
        let (prefix, suffix) = PACKAGE;
        let pattern = format!("^{prefix}[0-9].*{suffix}$");
        let found = output(self.apt("apt-cache").args(["search", "--names-only", &pattern]))?;
        Ok(found.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
    }

    /// Downloads a package and returns the folder of its files; installs nothing.
    pub(super) fn unpack(&self, package: &str) -> anyhow::Result<PathBuf> {
        let unpacked = folder().join("packages").join(package);
        if unpacked.exists() {
            return Ok(unpacked);
        }
        let download = folder().join("download");
        if download.exists() {
            fs::remove_dir_all(&download)?;
        }
        fs::create_dir_all(&download)?;
        println!("fetching {package}");
        let fetch = || run(self.apt("apt-get").args(["--quiet", "download", package]).current_dir(&download));
        if fetch().is_err() {
            // The lists may be older than the mirror.
            run(self.apt("apt-get").args(["--quiet", "update"]))?;
            fetch()?;
        }
        let file = fs::read_dir(&download)?.next().with_context(|| format!("{package} was not downloaded"))??.path();
        let aside = folder().join("packages").join(format!("{package}.partial"));
        run(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(&aside))?;
        fs::rename(&aside, &unpacked)?;
        fs::remove_dir_all(&download)?;
        Ok(unpacked)
    }
}

/// The package of the highest release, of a series or of all.
fn best(packages: &[String], series: Option<[u32; 2]>) -> Option<&String> {
    let fits = |release: &[u32]| series.is_none_or(|series| release.starts_with(&series));
    packages.iter().filter(|package| fits(&release_of(package))).max_by_key(|package| release_of(package))
}

/// The numbers in a package's name: `linux-image-6.1.0-40-cloud-amd64` is 6, 1, 0, 40.
fn release_of(package: &str) -> Vec<u32> {
    let (prefix, suffix) = PACKAGE;
    let release = package.trim_start_matches(prefix).trim_end_matches(suffix);
    release.split(|character: char| !character.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_release_of_a_series_is_taken_by_number() {
        let packages = ["6.1.0-9", "6.1.0-40", "6.12.9+deb12", "6.12.41+deb12", "6.10.11+bpo"]
            .map(|release| format!("linux-image-{release}-cloud-amd64"));
        let taken = |series: Option<[u32; 2]>| best(&packages, series).map(|package| release_of(package));
        assert_eq!(taken(Some([6, 1])), Some(vec![6, 1, 0, 40]));
        assert_eq!(taken(Some([6, 12])), Some(vec![6, 12, 41, 12]));
        assert_eq!(taken(None), Some(vec![6, 12, 41, 12]));
        assert_eq!(taken(Some([5, 10])), None);
    }
}
