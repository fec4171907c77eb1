//! Writes an initial file system as the kernel unpacks it: a cpio archive in the form `newc`
//! (Linux, `Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    path::{Component, Path, PathBuf},
};

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_755;
const LINK: u32 = 0o120_777;
/// Everything begins at a multiple of this.
const ALIGNMENT: usize = 4;

/// An archive that is being written.
pub(super) struct Archive<W> {
    output: W,
    entries: u32,
    made: BTreeSet<PathBuf>,
}

impl<W: Write> Archive<W> {
    /// An empty one.
    pub(super) fn new(output: W) -> Self {
        Self { output, entries: 0, made: BTreeSet::new() }
    }

    /// Makes a folder and those that it lies in.
    pub(super) fn folder(&mut self, path: impl AsRef<Path>) -> io::Result<()> {
        let mut whole = PathBuf::new();
        for part in path.as_ref().components().filter(|part| matches!(part, Component::Normal(_))) {
            whole.push(part);
            if self.made.insert(whole.clone()) {
                self.entry(&whole, FOLDER, &[])?;
            }
        }
        Ok(())
    }

    /// Writes a file that may be executed; one that is there already stays.
    pub(super) fn file(&mut self, path: impl AsRef<Path>, content: &[u8]) -> io::Result<()> {
        self.leaf(path.as_ref(), FILE, content)
    }

    /// The same with a file's content.
    pub(super) fn copy(&mut self, from: &Path, to: impl AsRef<Path>) -> io::Result<()> {
        let content = fs::read(from).map_err(|error| io::Error::new(error.kind(), format!("{from:?}: {error}")))?;
        self.file(to, &content)
    }

    /// Copies a folder with all that lies in it.
    pub(super) fn copy_folder(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.folder(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let inside = to.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.copy_folder(&entry.path(), &inside)?;
            } else {
                self.copy(&entry.path(), inside)?;
            }
        }
        Ok(())
    }

    /// Makes a symbolic link.
    pub(super) fn link(&mut self, path: impl AsRef<Path>, target: &str) -> io::Result<()> {
        self.leaf(path.as_ref(), LINK, target.as_bytes())
    }

    /// Writes the end.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.entry(Path::new("TRAILER!!!"), 0, &[])?;
        self.output.flush()
    }

    fn leaf(&mut self, path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
        let path = path.strip_prefix("/").unwrap_or(path);
        if let Some(folder) = path.parent() {
            self.folder(folder)?;
        }
        if self.made.insert(path.to_owned()) { self.entry(path, mode, content) } else { Ok(()) }
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
        let name = path.as_os_str().as_encoded_bytes();
        let length = |bytes: usize| u32::try_from(bytes).map_err(io::Error::other);
        self.entries += 1;
        let (links, size, name_size) = (1, length(content.len())?, length(name.len() + 1)?);
        let fields = [self.entries, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        let mut head: String = "070701".into();
        head.extend(fields.map(|field| format!("{field:08x}")));
        self.padded(&[head.as_bytes(), name, &[0]])?;
        self.padded(&[content])
    }

    /// Writes parts, and zeros up to the next multiple of [`ALIGNMENT`].
    fn padded(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        parts.iter().try_for_each(|part| self.output.write_all(part))?;
        self.output.write_all(&[0; ALIGNMENT][..length.next_multiple_of(ALIGNMENT) - length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_after_its_folders_and_once() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.file("/a/b/c", b"12345").unwrap();
        archive.file("a/b/c", b"other").unwrap();
        archive.link("a/d", "elsewhere").unwrap();
        archive.finish().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let names = ["\0a/b\0", "a/b/c\0", "12345", "a/d\0", "elsewhere", "TRAILER!!!\0"];
        let places: Vec<_> = names[1..].iter().map(|name| text.find(name).expect(name)).collect();
        assert!(places.is_sorted(), "{places:?}");
        assert_eq!((text.matches("070701").count(), text.contains("other"), text.len() % 4), (5, false, 0));
    }
}
