//! A long download whose every byte is known.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use http_body_util::BodyExt;

use super::{
    Namespace,
    http::{Connection, cause},
};

/// What a download came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Download {
    /// How many bytes arrived.
    pub bytes: u64,
    /// Whether each is the one that was sent.
    pub intact: bool,
}

/// The byte of a download at an offset: no two neighbouring blocks of 2^16 bytes are alike.
#[must_use]
pub const fn expected_byte(offset: u64) -> u8 {
    let mixed = (offset ^ (offset >> 16)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}

/// The bytes of a download from an offset on.
pub(super) fn fill(start: u64, count: u64) -> Vec<u8> {
    (start..start + count).map(expected_byte).collect()
}

/// Downloads `bytes` bytes from a lab server and compares each. Blocks; gives up when nothing arrives for `patience`.
///
/// # Errors
/// The connection fails, or stalls.
pub fn download(
    namespace: &Namespace,
    source: Ipv4Addr,
    target: SocketAddrV4,
    bytes: u64,
    patience: Duration,
) -> io::Result<Download> {
    namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(receive(source, target, bytes, patience))
    })
}

async fn receive(source: Ipv4Addr, target: SocketAddrV4, bytes: u64, patience: Duration) -> io::Result<Download> {
    let mut connection = tokio::time::timeout(patience, Connection::open(source, target, true)).await??;
    let mut body = tokio::time::timeout(patience, connection.get(&format!("/bytes?n={bytes}"))).await??.into_body();
    let mut result = Download { bytes: 0, intact: true };
    while let Some(frame) = tokio::time::timeout(patience, body.frame()).await? {
        if let Ok(data) = frame.map_err(cause)?.into_data() {
            let length = u64::try_from(data.len()).expect("lengths fit 64 bits");
            result.intact &= data[..] == fill(result.bytes, length)[..];
            result.bytes += length;
        }
    }
    result.intact &= result.bytes == bytes;
    Ok(result)
}
