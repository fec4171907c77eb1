//! Where reference figures are read from: the folder named by `GRAYXDP_VECTORS`, else the project's own.

use std::path::PathBuf;

/// The file of that name, as JSON.
pub(crate) fn read(name: &str) -> serde_json::Value {
    let own = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors"));
    let path = std::env::var_os("GRAYXDP_VECTORS").map_or_else(own, PathBuf::from).join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
