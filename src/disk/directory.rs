//! The data directory: who may use it, and where things are in it.

use super::identity::Identity;
use super::snapshots::Snapshots;
use crate::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// A data directory that this process holds the lock of, until it is dropped.
pub struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

impl DataDirectory {
    /// Creates the directory if need be and locks it; [`Error::DataDirectory`] if another process
    /// has it.
    pub fn open(path: &Path) -> Result<DataDirectory, Error> {
        fs::create_dir_all(path).map_err(Error::file("create", path))?;
        let _lock = lock(path)?;
        for part in ["log", "snapshots", "backup"] {
            let part = path.join(part);
            fs::create_dir_all(&part).map_err(Error::file("create", part))?;
        }
        Ok(DataDirectory { path: path.to_path_buf(), _lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    pub fn snapshots(&self) -> Result<Snapshots, Error> {
        Snapshots::open(self.path.join("snapshots"))
    }

    /// `None`: the directory is new.
    pub fn identity(&self) -> Result<Option<Identity>, Error> {
        let identity = Identity::read(&self.path.join("identity"))?;
        if identity.is_none() && self.holds_entries() {
            return Err(Error::DataDirectory {
                path: self.path.clone(),
                problem: "has a log but no `identity` file; restore that file, or give keepfs an \
                          empty directory"
                    .into(),
            });
        }
        Ok(identity)
    }

    /// Replaces the identity, atomically and durably.
    pub fn write_identity(&self, identity: &Identity) -> Result<(), Error> {
        identity.write(&self.path.join("identity"))
    }

    fn holds_entries(&self) -> bool {
        fs::read_dir(self.log()).is_ok_and(|mut entries| entries.next().is_some())
    }
}

fn lock(directory: &Path) -> Result<File, Error> {
    let path = directory.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(Error::file("open", &path))?;
    // SAFETY: the descriptor is open for the length of the call.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        let error = std::io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EWOULDBLOCK) {
            return Err(Error::File { attempt: "lock", path, source: error });
        }
        let mut holder = String::new();
        let _ = file.read_to_string(&mut holder);
        return Err(Error::DataDirectory {
            path: directory.to_path_buf(),
            problem: format!(
                "in use by process {}; stop it first, or give this one a directory of its own",
                holder.trim()
            ),
        });
    }
    let write_pid = |file: &mut File| -> std::io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write_pid(&mut file).map_err(Error::file("write", &path))?;
    Ok(file)
}

/// Writes `bytes` at `path`, so that after a crash there is the old file or the new one, whole.
pub(super) fn replace_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let aside = path.with_extension("new");
    let mut file = File::create(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

pub(super) fn sync_directory(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}
