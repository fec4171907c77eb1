//! The hash key's file: 32 secret bytes, made once.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use grayxdp_common::hash::HashKey;

use crate::store::{
    error::StoreError,
    open::{rename_durably, with_suffix},
};

/// Bytes of a key.
const LENGTH: usize = 32;
/// Permission bits of group and others.
const OTHERS: u32 = 0o077;

/// Reads the key, or makes one where there is none and nothing depends on one yet.
///
/// `existing_state` says that a journal with services or pinned maps are there: then a missing key is an error, because
/// another one would move every flow.
///
/// # Errors
/// A missing key with existing state; a key of the wrong length or that others may read; what the kernel refuses.
pub fn hash_key(path: &Path, existing_state: bool) -> Result<HashKey, StoreError> {
    match File::open(path) {
        Ok(file) => read(file, path),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::file(path, "open it")(error)),
        Err(_) if existing_state => Err(StoreError::KeyMissing { path: path.to_owned() }),
        Err(_) => make(path),
    }
}

fn read(mut file: File, path: &Path) -> Result<HashKey, StoreError> {
    let metadata = file.metadata().map_err(StoreError::file(path, "look at it"))?;
    if metadata.mode() & OTHERS != 0 {
        return Err(StoreError::KeyMode { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    if metadata.len() != LENGTH as u64 {
        return Err(StoreError::KeyLength { path: path.to_owned(), bytes: metadata.len() });
    }
    let mut bytes = [0; LENGTH];
    file.read_exact(&mut bytes).map_err(StoreError::file(path, "read it"))?;
    Ok(HashKey::from_bytes(&bytes))
}

fn make(path: &Path) -> Result<HashKey, StoreError> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0; LENGTH];
    let filled = File::open(source).and_then(|mut file| file.read_exact(&mut bytes));
    filled.map_err(StoreError::file(source, "read it"))?;
    let aside = with_suffix(path, ".new");
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside);
    let written = opened.and_then(|mut file| file.write_all(&bytes));
    written.map_err(StoreError::file(&aside, "write it"))?;
    rename_durably(&aside, path)?;
    Ok(HashKey::from_bytes(&bytes))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_from_then_on() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("hash.key");
        let made = hash_key(&path, false).expect("made");
        let metadata = fs::metadata(&path).expect("there");
        assert_eq!((metadata.len(), metadata.mode() & 0o7777), (32, 0o600));
        assert_eq!(hash_key(&path, true).expect("read"), made);
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 1);
        let other = hash_key(&directory.path().join("other.key"), false).expect("made");
        assert!(other != made);
    }

    #[test]
    fn a_key_is_its_bytes_in_little_endian_words() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("hash.key");
        fs::write(&path, (0..32).collect::<Vec<u8>>()).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("set");
        assert_eq!(hash_key(&path, true).expect("read").0[0], 0x0706_0504_0302_0100);
    }

    #[test]
    fn a_missing_key_with_existing_state_is_never_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("hash.key");
        let error = hash_key(&path, true).expect_err("missing").to_string();
        assert!(error.contains("hash.key: the hash key is missing") && error.lines().count() == 1, "{error}");
        assert!(!path.exists());
    }

    #[test]
    fn a_key_that_is_open_to_others_or_of_the_wrong_length_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("hash.key");
        hash_key(&path, false).expect("made");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
        assert!(matches!(hash_key(&path, true), Err(StoreError::KeyMode { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
        fs::write(&path, [7; 31]).expect("written");
        assert!(matches!(hash_key(&path, true), Err(StoreError::KeyLength { bytes: 31, .. })));
        assert_eq!(fs::read(&path).expect("there"), [7; 31]);
    }
}
