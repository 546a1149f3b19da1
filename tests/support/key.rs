//! The key of every cluster of tests.

// Each test program uses a part of this.
#![allow(dead_code)]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What is written by `keepfs key`, but always the same.
pub const KEY: &str = "abababababababababababababababababababababababababababababababab\n";

/// Puts the key where a replica with this data directory looks for it.
pub fn give(data: &Path) -> PathBuf {
    fs::create_dir_all(data).unwrap();
    let path = data.join("key");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
    file.write_all(KEY.as_bytes()).unwrap();
    path
}
