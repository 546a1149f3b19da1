//! The data directory: who may use it, and where things are in it.

use super::identity::Identity;
use super::snapshots::{self, SnapshotFile, Snapshots};
use super::starts::{self, Starts};
use super::{place, private};
use crate::error::Error;
use crate::tree::Incarnation;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// What may be in a directory without an identity: what an interrupted or refused first start left,
/// what others put there for it, and what a disk of its own has.
const BEFORE_THE_FIRST_START: [&str; 11] = [
    "lock",
    "log",
    "snapshots",
    "backup",
    "identity.new",
    "pid",
    "port",
    "key",
    "run",
    "keepfs.log",
    "lost+found",
];

/// A data directory that this process holds the lock of, until it is dropped.
pub struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

impl DataDirectory {
    /// Creates the directory if need be, locks it, and makes it private; [`Error::DataDirectory`]
    /// if another process has it, or if it is not keepfs's.
    pub fn open(path: &Path) -> Result<DataDirectory, Error> {
        private::create_directory(path)?;
        refuse_foreign(path)?;
        let _lock = lock(path)?;
        private::narrow(path)?;
        for part in ["log", "snapshots", "backup"] {
            private::create_directory(&path.join(part))?;
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

    /// Of a directory that may be in use; `None` if there is none in it.
    pub fn identity_in(path: &Path) -> Result<Option<Identity>, Error> {
        Identity::read(&path.join("identity"))
    }

    /// Of a directory that may be in use.
    pub fn snapshots_in(path: &Path) -> Result<Vec<SnapshotFile>, Error> {
        let snapshots = path.join("snapshots");
        snapshots::list(&snapshots).map_err(Error::file("list", snapshots))
    }

    /// The process that uses it, if one does.
    pub fn user_of(path: &Path) -> Result<Option<String>, Error> {
        let path = path.join("lock");
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::file("open", &path))?,
        };
        // The lock goes with the descriptor.
        if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
            return Ok(None);
        }
        let holder = std::io::read_to_string(&file).map_err(Error::file("read", &path))?;
        Ok(Some(holder.trim().to_owned()))
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

    /// A new one, for an identity that is being made.
    pub fn new_incarnation() -> Result<Incarnation, Error> {
        starts::random()
    }

    /// Notes that a replica starts, durably; to be done before it says anything to anyone.
    pub fn note_start(&self) -> Result<Starts, Error> {
        Starts::note(&self.path.join("starts"))
    }

    /// Whether the directory is not the one it was at its last start: it was moved, or it is a
    /// copy, and may be older than what its replica has promised.
    pub fn is_displaced(&self) -> Result<bool, Error> {
        let path = self.place();
        Ok(!place::is_here(&path).map_err(Error::file("look at", &path))?)
    }

    /// It lies here, and is as new as it must be.
    pub fn settle(&self) -> Result<(), Error> {
        let path = self.place();
        place::write(&path, true).map_err(Error::file("write", &path))
    }

    /// The same as [`DataDirectory::settle`], of one that has been there: costs no sync, and a
    /// crash at worst makes its replica ask the others.
    pub fn stay(&self) -> Result<(), Error> {
        let path = self.place();
        place::write(&path, false).map_err(Error::file("write", &path))
    }

    fn place(&self) -> PathBuf {
        self.path.join("place")
    }

    /// Removes the log, with all that was promised by it.
    pub fn clear_log(&self) -> Result<(), Error> {
        let log = self.log();
        fs::remove_dir_all(&log).map_err(Error::file("remove", &log))?;
        private::create_directory(&log)
    }

    fn holds_entries(&self) -> bool {
        fs::read_dir(self.log()).is_ok_and(|mut entries| entries.next().is_some())
    }
}

/// A directory that is new to keepfs and holds other things is no data directory: its mode, and
/// theirs, are not ours to change.
fn refuse_foreign(directory: &Path) -> Result<(), Error> {
    if directory.join("identity").exists() {
        return Ok(());
    }
    for entry in fs::read_dir(directory).map_err(Error::file("list", directory))? {
        let name = entry.map_err(Error::file("list", directory))?.file_name();
        if !BEFORE_THE_FIRST_START.iter().any(|known| name == *known) {
            return Err(Error::DataDirectory {
                path: directory.to_path_buf(),
                problem: format!(
                    "holds other things ({}); give keepfs a directory of its own",
                    name.to_string_lossy()
                ),
            });
        }
    }
    Ok(())
}

fn lock(directory: &Path) -> Result<File, Error> {
    let path = directory.join("lock");
    let mut file = private::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(Error::file("open", &path))?;
    if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != Errno::WOULDBLOCK {
            return Err(Error::File { attempt: "lock", path, source: error.into() });
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
