//! A running replica takes its key file as it is now: so that a key is rotated without a restart.

use crate::node::Node;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Looks at the key file now and then.
pub struct KeyWatch {
    path: PathBuf,
    seen: Option<Look>,
}

/// What changes with the file: device and inode, and its change time in seconds and nanoseconds.
type Look = (u64, u64, i64, i64);

impl KeyWatch {
    pub fn new(path: PathBuf) -> KeyWatch {
        KeyWatch { seen: look(&path), path }
    }

    /// Reads it again if it is another one. One that cannot be read changes nothing.
    pub fn look(&mut self, node: &Node) {
        let now = look(&self.path);
        if now == self.seen {
            return;
        }
        self.seen = now;
        if now.is_some() {
            match node.read_key_again() {
                Ok(()) => log::info!("the key file has changed, and is what counts now"),
                Err(error) => {
                    log::warn!("the key file has changed, but not for this replica: {error}")
                }
            }
        }
    }
}

fn look(path: &Path) -> Option<Look> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}
