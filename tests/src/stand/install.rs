//! A binary of the stand's own, to be replaced under a daemon that runs from it.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::PathBuf,
};

use super::Stand;
use crate::size::grayxdp;

impl Stand {
    /// Puts a binary that no daemon has run from into the stand's place for it, as an upgrade does: written beside the
    /// old one and renamed over it. Daemons start from there from now on; one that runs is not touched.
    pub fn install(&mut self) {
        let folder = self.installed.get_or_insert_with(|| {
            tempfile::Builder::new().prefix("grayxdp-binary-").tempdir().expect("a folder can be made")
        });
        let (place, new) = (folder.path().join("grayxdp"), folder.path().join("grayxdp.new"));
        fs::copy(grayxdp(), &new).expect("the binary can be copied");
        // Other bytes behind the end, which no loader reads: another file, not a link to the same pages.
        let mut file = OpenOptions::new().append(true).open(&new).expect("the copy can be written");
        writeln!(file, "installed in {}", place.display()).expect("the copy can be written");
        drop(file);
        fs::rename(new, place).expect("a file can be renamed");
    }

    /// The binary that daemons start from.
    pub(super) fn binary(&self) -> PathBuf {
        self.installed.as_ref().map_or_else(grayxdp, |folder| folder.path().join("grayxdp"))
    }
}
