//! Room on the disk: what comes from others leaves some for the log, which lies beside it. A backup
//! stream may be of any size, and is copied to every replica, and a peer may say any length of its
//! snapshot: without this, one of them could stop a replica, or all.

use crate::error::Error;
use crate::limits::{RESERVE_BYTES, RESERVE_SHARE};
use crate::volume;
use std::io;
use std::path::Path;

/// ENOSPC if so many bytes more in `directory` would take what is the log's.
pub fn check(directory: &Path, bytes: u64) -> Result<(), Error> {
    let (total, free) = space(directory).map_err(Error::file("look at the disk of", directory))?;
    if is_there(total, free, bytes) {
        return Ok(());
    }
    let attempt = "write more (what is left of the disk is kept for the log) to";
    Err(Error::file(attempt, directory)(io::Error::from_raw_os_error(libc::ENOSPC)))
}

fn is_there(total: u64, free: u64, bytes: u64) -> bool {
    let reserve = RESERVE_BYTES.min(total / RESERVE_SHARE);
    free >= reserve.saturating_add(bytes)
}

/// How large the filesystem at `path` is, and what is free of it, bytes.
fn space(path: &Path) -> io::Result<(u64, u64)> {
    let found = volume::statvfs(path)?;
    Ok((found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_disk_is_left() {
        let (mib, gib) = (1 << 20, 1 << 30);
        assert!(is_there(100 * mib, 21 * mib, 16 * mib));
        assert!(!is_there(100 * mib, 21 * mib, 16 * mib + 1));
        assert!(is_there(1000 * gib, 2 * gib, gib));
        assert!(!is_there(1000 * gib, 2 * gib, gib + 1));
    }

    #[test]
    fn a_disk_is_looked_at() {
        let (total, free) = space(Path::new("/")).unwrap();
        assert!(total >= free && total > 0);
        assert!(check(Path::new("/"), u64::MAX).unwrap_err().errno() == libc::ENOSPC);
        assert!(check(Path::new("/nowhere"), 0).unwrap_err().errno() == libc::ENOENT);
    }
}
