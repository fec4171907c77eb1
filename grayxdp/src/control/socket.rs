//! The operators' Unix socket: claimed by one daemon at a time, put in place by a rename, gone with the daemon.
//!
//! A lock beside the socket says who owns it. A daemon that dies leaves its socket behind and loses its lock, so what
//! lies there without a lock is stale and replaced. The socket gets its mode before it gets its name: nobody connects to
//! it in between.

use std::{
    fs::{self, File, Permissions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::net::{UnixListener, UnixStream};

/// Owner and group may connect; nobody else.
const SOCKET_MODE: u32 = 0o660;

/// The folder can be entered by all, so that those in the socket's group reach it.
const FOLDER_MODE: u32 = 0o755;

/// Why the socket could not be claimed.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon lives.
    #[error("another daemon already listens on {}: stop it first, or give this one a `control.socket` of its own", .0.display())]
    InUse(PathBuf),
    /// Something else lies there.
    #[error("{} is there and is no socket: remove it, or set another `control.socket`", .0.display())]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("the socket {} cannot be made: {cause}; run as root, or set a `control.socket` that this user may make", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// The socket in place, and the lock that makes it ours.
#[derive(Debug)]
pub(super) struct ControlSocket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    _lock: File,
}

impl ControlSocket {
    /// Claims the path: makes its folder, takes the lock, replaces a stale socket.
    ///
    /// # Errors
    /// A live owner, a file that is no socket, or what the system refused.
    pub(super) async fn claim(path: &Path) -> Result<Self, SocketError> {
        let failed = |cause| SocketError::Io { path: path.to_owned(), cause };
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder).map_err(failed)?;
        }
        let lock = File::create(beside(path, "lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SocketError::InUse(path.to_owned())),
            Err(TryLockError::Error(cause)) => return Err(failed(cause)),
        }
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
            Ok(_) if UnixStream::connect(path).await.is_ok() => return Err(SocketError::InUse(path.to_owned())),
            Ok(_) => {}
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(failed(cause)),
        }
        let listener = Self::put_in_place(path).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), _lock: lock })
    }

    fn put_in_place(path: &Path) -> io::Result<UnixListener> {
        let unnamed = beside(path, "new");
        match fs::remove_file(&unnamed) {
            Ok(()) => {}
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(cause),
        }
        let listener = UnixListener::bind(&unnamed)?;
        fs::set_permissions(&unnamed, Permissions::from_mode(SOCKET_MODE))?;
        fs::rename(&unnamed, path)?;
        Ok(listener)
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if let Err(cause) = fs::remove_file(&self.path) {
            tracing::debug!(socket = %self.path.display(), %cause, "the socket is already gone");
        }
    }
}

/// A file beside the socket: `grayxdp.sock.lock`.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}
