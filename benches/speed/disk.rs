//! What durability costs without a filesystem of ours: a raw log file on the data directory's disk.

use super::operations::{APPEND, OVERWRITE};
use super::recorder::Recorder;
use super::subject::scratch_path;
use keepfs::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A log record: 100 bytes and an envelope.
const RECORD: [u8; 128] = [7; 128];
const ZERO_FILLED: u64 = 8 << 20;

/// A directory for log files on a disk, removed when this value goes.
pub struct Disk {
    dir: PathBuf,
}

impl Disk {
    pub fn new(data: &Path) -> Result<Disk, Error> {
        let dir = scratch_path(data);
        fs::create_dir(&dir).map_err(Error::file("create", &dir))?;
        Ok(Disk { dir })
    }

    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Appending to a file that grows, and fdatasync.
    pub fn append(&self, recorder: &mut Recorder) -> io::Result<()> {
        let mut growing = File::create(self.dir.join("growing"))?;
        recorder.repeat(APPEND, "disk", |_| {
            growing.write_all(&RECORD)?;
            growing.sync_data()
        })
    }

    /// Overwriting a file that was filled with zeros before, and fdatasync.
    pub fn overwrite(&self, recorder: &mut Recorder) -> io::Result<()> {
        let filled = File::create(self.dir.join("filled"))?;
        filled.write_all_at(&vec![0; ZERO_FILLED as usize], 0)?;
        filled.sync_all()?;
        recorder.repeat(OVERWRITE, "disk", |number| {
            filled.write_all_at(&RECORD, number * RECORD.len() as u64 % ZERO_FILLED)?;
            filled.sync_data()
        })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}
