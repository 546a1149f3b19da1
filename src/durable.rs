//! What is there after a crash.

use std::fs::File;
use std::io;
use std::path::Path;

/// The names in a directory are on disk: files that were made, renamed or removed in it.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
