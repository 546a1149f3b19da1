//! Where the sockets are, and how one is reached whose path is longer than an address may be.

use crate::error::Error;
use rustix::process::geteuid;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The run directory of daemons that were told none: `/run/keepfs` for root. `None`: this user has
/// no place for such things.
pub fn default_run() -> Option<PathBuf> {
    if geteuid().is_root() {
        return Some(PathBuf::from("/run/keepfs"));
    }
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|own| !own.is_empty())?;
    Some(Path::new(&own).join("keepfs"))
}

/// Made if it is missing; everyone may look for a socket there, and is told by the daemon what it
/// may ask.
pub fn make_run(run: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(run)
        .map_err(Error::file("create", run))
}

/// Takes the socket's place, also from a daemon that is gone; `AddrInUse` if one listens there.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match reach(path, |short| UnixListener::bind(short)) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && !is_alive(path) => {
            fs::remove_file(path)?;
            reach(path, |short| UnixListener::bind(short))
        }
        other => other,
    }
}

pub fn connect(path: &Path) -> io::Result<UnixStream> {
    reach(path, |short| UnixStream::connect(short))
}

/// Whether a daemon listens.
pub fn is_alive(path: &Path) -> bool {
    connect(path).is_ok()
}

/// A socket's address has 108 bytes: the directory is named by a descriptor instead.
fn reach<T>(path: &Path, with: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let path = match fs::read_link(path) {
        Ok(target) => target,
        Err(_) => path.to_path_buf(),
    };
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory: File =
        OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(directory)?;
    with(&Path::new("/dev/fd").join(directory.as_raw_fd().to_string()).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_and_a_stale_socket_are_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(200));
        make_run(&deep).unwrap();
        let path = deep.join("a.sock");
        let listener = bind(&path).unwrap();
        assert!(is_alive(&path));
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let link = dir.path().join("control");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(is_alive(&link));
        drop(listener);
        assert!(!is_alive(&path));
        let _again = bind(&path).unwrap();
        assert!(is_alive(&path));
    }
}
