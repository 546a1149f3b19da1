//! What the filesystem behind a path says of itself.

use rustix::fs::StatVfs;
use std::io;
use std::path::Path;

/// `statvfs(3)`. Waits for whoever serves the filesystem, as long as it takes.
pub fn statvfs(path: &Path) -> io::Result<StatVfs> {
    Ok(rustix::fs::statvfs(path)?)
}
