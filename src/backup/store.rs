//! One repository's files on this replica's disk, in the layout of restic's local backend, so that
//! a stock `restic -r DIRECTORY` opens it.
//!
//! What holds:
//! 1. A file under its final name is whole and durable: it was written aside, synced, renamed, and
//!    its directory synced.
//! 2. `snapshots/` holds recorded snapshots only. Until the log has one, it lies in `pending/`, so
//!    that an interrupted backup leaves no snapshot and nobody ever has to guess which to delete.
//! 3. Listing is strict: a directory that cannot be read is an error, never a shorter list.
//! 4. Packs leave room on the disk for the log beside them: a stream, however large, stops no
//!    replica.
//! 5. Nothing is deleted here except what never counted: files aside, and `pending/` snapshots.

use super::credentials::Credentials;
use super::files::{FileId, FileKind, RepositoryFile};

use crate::durable;
use crate::error::Error;
use crate::room;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bytes moved at a time between a peer and the disk.
const COPY_BYTES: usize = 256 << 10;

/// A repository directory.
pub struct Store {
    root: PathBuf,
    /// Makes names of files aside unique.
    asides: AtomicU64,
}

impl Store {
    /// Opens or makes the directory and forgets what an earlier process left half written.
    pub fn open(root: &Path) -> Result<Store, Error> {
        make_directory(root)?;
        let aside = root.join("aside");
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(Error::file("empty", &aside))?;
        }
        for name in ["aside", "data", "index", "keys", "locks", "pending", "snapshots"] {
            make_directory(&root.join(name))?;
        }
        sync_directory(root)?;
        Ok(Store { root: root.to_owned(), asides: AtomicU64::new(0) })
    }

    /// Writes the repository's `config` and key file, which are the same on every replica.
    pub fn materialise(&self, credentials: &Credentials) -> Result<(), Error> {
        let key = self.root.join("keys").join(credentials.key_id.to_string());
        for (path, content) in
            [(key, &credentials.key), (self.root.join("config"), &credentials.config)]
        {
            if !path.exists() {
                self.put(&path, &mut |file| file.write_all(content))?;
            }
        }
        Ok(())
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All files of one kind; snapshots with those not recorded yet.
    pub fn list(&self, kind: FileKind) -> Result<Vec<RepositoryFile>, Error> {
        let mut found = Vec::new();
        match kind {
            FileKind::Index => list_into(&self.root.join("index"), kind, &mut found)?,
            FileKind::Snapshot => {
                list_into(&self.root.join("snapshots"), kind, &mut found)?;
                list_into(&self.root.join("pending"), kind, &mut found)?;
            }
            FileKind::Pack => {
                let data = self.root.join("data");
                for entry in fs::read_dir(&data).map_err(Error::file("list", &data))? {
                    let entry = entry.map_err(Error::file("list", &data))?;
                    if entry.file_name().len() == 2 {
                        list_into(&entry.path(), kind, &mut found)?;
                    }
                }
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// The snapshots not recorded yet.
    pub fn pending(&self) -> Result<Vec<RepositoryFile>, Error> {
        let mut found = Vec::new();
        list_into(&self.root.join("pending"), FileKind::Snapshot, &mut found)?;
        Ok(found)
    }

    /// How long ago a snapshot arrived in `pending/`.
    pub fn pending_age(&self, id: FileId) -> Result<Duration, Error> {
        let path = self.root.join("pending").join(id.to_string());
        let changed = fs::metadata(&path)
            .and_then(|metadata| metadata.modified())
            .map_err(Error::file("look at", &path))?;
        Ok(changed.elapsed().unwrap_or_default())
    }

    pub fn has(&self, kind: FileKind, id: FileId) -> bool {
        self.locate(kind, id).exists()
    }

    /// The file and its length.
    pub fn open_file(&self, kind: FileKind, id: FileId) -> Result<(File, u64), Error> {
        let path = self.locate(kind, id);
        let file = File::open(&path).map_err(Error::file("open", &path))?;
        let length = file.metadata().map_err(Error::file("look at", &path))?.len();
        Ok((file, length))
    }

    pub fn read(&self, kind: FileKind, id: FileId) -> Result<Vec<u8>, Error> {
        let path = self.locate(kind, id);
        fs::read(&path).map_err(Error::file("read", &path))
    }

    /// Exactly `length` bytes from `offset`.
    pub fn read_at(
        &self,
        kind: FileKind,
        id: FileId,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, Error> {
        let path = self.locate(kind, id);
        let file = File::open(&path).map_err(Error::file("open", &path))?;
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, offset).map_err(Error::file("read", &path))?;
        Ok(bytes)
    }

    /// Stores a file made here; `parts` joined are its content. A snapshot becomes a pending one.
    pub fn write(&self, kind: FileKind, id: FileId, parts: &[&[u8]]) -> Result<(), Error> {
        if self.has(kind, id) {
            return Ok(());
        }
        if kind == FileKind::Pack {
            room::check(&self.root, parts.iter().map(|part| part.len() as u64).sum())?;
        }
        let write = &mut |file: &mut File| parts.iter().try_for_each(|part| file.write_all(part));
        self.put(&self.arrival(kind, id), write)
    }

    /// Stores a file from a peer, if its content has this name. A snapshot becomes a pending one.
    pub fn receive(
        &self,
        kind: FileKind,
        id: FileId,
        length: u64,
        data: &mut dyn Read,
    ) -> Result<(), Error> {
        if kind == FileKind::Pack {
            room::check(&self.root, length)?;
        }
        let path = self.arrival(kind, id);
        self.put(&path, &mut |file| {
            let mut digest = Sha256::new();
            let mut buffer = vec![0; COPY_BYTES];
            let mut left = length;
            while left > 0 {
                let want = buffer.len().min(left as usize);
                let got = data.read(&mut buffer[..want])?;
                if got == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                digest.update(&buffer[..got]);
                file.write_all(&buffer[..got])?;
                left -= got as u64;
            }
            if FileId(digest.finalize().into()) != id {
                let problem = format!("what came as {} {id} has another SHA-256", kind.name());
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
            Ok(())
        })
    }

    /// Whether the file's content has its name.
    pub fn verify(&self, kind: FileKind, id: FileId) -> Result<bool, Error> {
        let path = self.locate(kind, id);
        let mut file = File::open(&path).map_err(Error::file("open", &path))?;
        let mut digest = Sha256::new();
        io::copy(&mut file, &mut digest).map_err(Error::file("read", &path))?;
        Ok(FileId(digest.finalize().into()) == id)
    }

    /// Takes a damaged file out of the way, keeping its bytes under `NAME.damaged` for a look.
    pub fn set_aside_damaged(&self, kind: FileKind, id: FileId) -> Result<(), Error> {
        let path = self.locate(kind, id);
        let away = path.with_extension("damaged");
        fs::rename(&path, &away).map_err(Error::file("set aside", &path))?;
        sync_directory(path.parent().expect("a repository file lies in a directory"))
    }

    /// The log has this snapshot: it counts from now on. Nothing to do if it did before.
    pub fn promote(&self, id: FileId) -> Result<(), Error> {
        let pending = self.root.join("pending").join(id.to_string());
        let counted = self.root.join("snapshots").join(id.to_string());
        match fs::rename(&pending, &counted) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && counted.exists() => {
                return Ok(());
            }
            other => other.map_err(Error::file("record", &pending))?,
        }
        sync_directory(&self.root.join("snapshots"))
    }

    /// The log will never have this snapshot.
    pub fn forget_pending(&self, id: FileId) -> Result<(), Error> {
        let pending = self.root.join("pending").join(id.to_string());
        match fs::remove_file(&pending) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(Error::file("remove", &pending)),
        }
    }

    fn locate(&self, kind: FileKind, id: FileId) -> PathBuf {
        let path = self.settled(kind, id);
        if kind == FileKind::Snapshot && !path.exists() { self.arrival(kind, id) } else { path }
    }

    fn settled(&self, kind: FileKind, id: FileId) -> PathBuf {
        let name = id.to_string();
        match kind {
            FileKind::Pack => self.root.join("data").join(&name[..2]).join(&name),
            FileKind::Index => self.root.join("index").join(&name),
            FileKind::Snapshot => self.root.join("snapshots").join(&name),
        }
    }

    /// Where a new file goes.
    fn arrival(&self, kind: FileKind, id: FileId) -> PathBuf {
        match kind {
            FileKind::Snapshot => self.root.join("pending").join(id.to_string()),
            FileKind::Pack | FileKind::Index => self.settled(kind, id),
        }
    }

    /// Writes aside, syncs, renames, syncs the directory.
    fn put(
        &self,
        path: &Path,
        write: &mut dyn FnMut(&mut File) -> io::Result<()>,
    ) -> Result<(), Error> {
        let directory = path.parent().expect("a repository file lies in a directory");
        make_directory(directory)?;
        let number = self.asides.fetch_add(1, Ordering::Relaxed);
        let aside = self.root.join("aside").join(number.to_string());
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&aside)
            .and_then(|mut file| write(&mut file).and_then(|()| file.sync_data()))
            .and_then(|()| fs::rename(&aside, path));
        if let Err(error) = written {
            // What stays is a file aside, which the next start forgets.
            let _ = fs::remove_file(&aside);
            return Err(Error::file("write", path)(error));
        }
        sync_directory(directory)
    }
}

/// Adds the files of one directory. Names that are no ids are others' (restic's temporary files).
fn list_into(
    directory: &Path,
    kind: FileKind,
    found: &mut Vec<RepositoryFile>,
) -> Result<(), Error> {
    for entry in fs::read_dir(directory).map_err(Error::file("list", directory))? {
        let entry = entry.map_err(Error::file("list", directory))?;
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        match entry.metadata() {
            Ok(metadata) => found.push(RepositoryFile { kind, id, size: metadata.len() }),
            // Promoted or forgotten since the directory was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file("look at", entry.path())(error)),
        }
    }
    Ok(())
}

/// Makes a directory, durably, unless it is there.
pub fn make_directory(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().expect("the data directory has a parent");
    make_directory(parent)?;
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::file("make", path)(error))
        }
        _ => sync_directory(parent),
    }
}

fn sync_directory(path: &Path) -> Result<(), Error> {
    durable::sync_directory(path).map_err(Error::file("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_the_wrong_content_never_gets_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let id = FileId::of(b"right");
        let wrong = store.receive(FileKind::Pack, id, 5, &mut &b"wrong"[..]);
        assert!(wrong.unwrap_err().to_string().contains("another SHA-256"));
        let short = store.receive(FileKind::Pack, id, 5, &mut &b"rig"[..]);
        assert!(short.is_err());
        assert!(!store.has(FileKind::Pack, id));
        assert_eq!(fs::read_dir(directory.path().join("aside")).unwrap().count(), 0);
        store.receive(FileKind::Pack, id, 5, &mut &b"right"[..]).unwrap();
        assert!(store.verify(FileKind::Pack, id).unwrap());
        assert_eq!(store.read_at(FileKind::Pack, id, 1, 3).unwrap(), b"igh");
    }

    #[test]
    fn a_snapshot_counts_only_once_it_is_recorded() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let counted = |store: &Store| fs::read_dir(store.root().join("snapshots")).unwrap().count();
        let (first, second) = (FileId::of(b"first"), FileId::of(b"second"));
        store.write(FileKind::Snapshot, first, &[b"fir", b"st"]).unwrap();
        store.write(FileKind::Snapshot, second, &[b"second"]).unwrap();
        assert_eq!(counted(&store), 0);
        store.promote(first).unwrap();
        store.promote(first).unwrap();
        store.forget_pending(second).unwrap();
        assert_eq!(counted(&store), 1);
        assert_eq!(store.read(FileKind::Snapshot, first).unwrap(), b"first");
        assert!(store.pending().unwrap().is_empty());
    }

    #[test]
    fn a_listing_that_cannot_be_whole_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.write(FileKind::Pack, FileId::of(b"x"), &[b"x"]).unwrap();
        assert_eq!(store.list(FileKind::Pack).unwrap().len(), 1);
        // A file where a directory should be: as unreadable as a failing disk, also for root.
        fs::write(directory.path().join("data/zz"), b"").unwrap();
        assert!(store.list(FileKind::Pack).is_err());
    }
}
