//! What keepfs keeps on disk is nobody else's to read: the log, the snapshots and the repositories
//! hold the content of files of every mode. Directories are 0700, files 0600, from the moment they
//! are made, whatever the umask; wider ones of an earlier time are narrowed at start.

use crate::durable::sync_directory;
use crate::error::Error;
use log::warn;
use rustix::process::geteuid;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// What group and others may do.
const OTHERS: u32 = 0o077;

/// How to open a file so that one that is made is private.
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(FILE_MODE);
    options
}

/// [`File::create`], private.
pub fn create(path: &Path) -> io::Result<File> {
    options().write(true).create(true).truncate(true).open(path)
}

/// [`fs::write`], private.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    create(path)?.write_all(bytes)
}

/// Writes `bytes` at `path`, so that after a crash there is the old file or the new one, whole.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let aside = path.with_extension("new");
    let mut file = create(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&aside, &path)?;
    sync_directory(path.parent().unwrap_or(Path::new("/")))
}

/// Makes a directory that is missing, private. Its missing parents get the usual mode: they are the
/// system's.
pub fn create_directory(path: &Path) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::file("create", parent))?;
    }
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !path.is_dir() => {
            Err(Error::file("create", path)(error))
        }
        _ => Ok(()),
    }
}

/// Makes a file private that others than us have made for us.
pub(super) fn narrow_file(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(FILE_MODE))
}

/// Takes away what group and others may do with `directory` and all of keepfs's that is in it:
/// what is mounted in it, or belongs to another user, is not looked into. Symbolic links in it are
/// left as they are, and not followed.
pub(super) fn narrow(directory: &Path) -> Result<(), Error> {
    let directory = directory.canonicalize().map_err(Error::file("find", directory))?;
    let own = fs::symlink_metadata(&directory).map_err(Error::file("look at", &directory))?;
    let narrowed = narrow_mode(&directory, &own)? + narrow_in(&directory, own.dev())?;
    if narrowed > 0 {
        warn!(
            "{} and what is in it could be read or written by other users: {narrowed} modes are \
             narrowed to 0700 and 0600",
            directory.display()
        );
    }
    Ok(())
}

/// How many there were in `directory`, which is of the file system `device`.
fn narrow_in(directory: &Path, device: u64) -> Result<usize, Error> {
    let mut narrowed = 0;
    for entry in fs::read_dir(directory).map_err(Error::file("list", directory))? {
        let path = entry.map_err(Error::file("list", directory))?.path();
        let metadata = match fs::symlink_metadata(&path) {
            // Gone meanwhile: the lock may not be ours yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // A mount whose daemon is gone.
            Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => continue,
            other => other.map_err(Error::file("look at", &path))?,
        };
        if metadata.is_symlink() || metadata.dev() != device || !is_ours(&metadata) {
            continue;
        }
        narrowed += narrow_mode(&path, &metadata)?;
        if metadata.is_dir() {
            narrowed += narrow_in(&path, device)?;
        }
    }
    Ok(narrowed)
}

/// 1 if it was too wide.
fn narrow_mode(path: &Path, metadata: &Metadata) -> Result<usize, Error> {
    let mode = metadata.permissions().mode();
    if mode & OTHERS == 0 {
        return Ok(0);
    }
    let narrow = Permissions::from_mode(mode & 0o7777 & !OTHERS);
    fs::set_permissions(path, narrow).map_err(Error::file("narrow the mode of", path))?;
    Ok(1)
}

/// The `lost+found` of a disk of its own, for one, is root's.
fn is_ours(metadata: &Metadata) -> bool {
    metadata.uid() == geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn wider_modes_are_narrowed_and_links_not_followed() {
        let outer = tempfile::tempdir().unwrap();
        let outside = outer.path().join("outside");
        fs::write(&outside, b"").unwrap();
        fs::set_permissions(&outside, Permissions::from_mode(0o644)).unwrap();
        let data = outer.path().join("data");
        fs::create_dir_all(data.join("log/deep")).unwrap();
        fs::write(data.join("log/deep/file"), b"").unwrap();
        for (path, wide) in [("", 0o755), ("log", 0o777), ("log/deep", 0o750)] {
            fs::set_permissions(data.join(path), Permissions::from_mode(wide)).unwrap();
        }
        fs::set_permissions(data.join("log/deep/file"), Permissions::from_mode(0o664)).unwrap();
        std::os::unix::fs::symlink(&outside, data.join("link")).unwrap();
        narrow(&data).unwrap();
        for path in ["", "log", "log/deep"] {
            assert_eq!(mode(&data.join(path)), 0o700, "{path}");
        }
        assert_eq!(mode(&data.join("log/deep/file")), 0o600);
        assert_eq!(mode(&outside), 0o644);
    }

    /// Root may give a file away; other users have nothing to try this with.
    #[test]
    fn what_belongs_to_another_user_is_left_alone() {
        let data = tempfile::tempdir().unwrap();
        let theirs = data.path().join("lost+found");
        fs::create_dir(&theirs).unwrap();
        fs::set_permissions(&theirs, Permissions::from_mode(0o755)).unwrap();
        if std::os::unix::fs::chown(&theirs, Some(65534), None).is_ok() {
            narrow(data.path()).unwrap();
            assert_eq!(mode(&theirs), 0o755);
        }
    }

    #[test]
    fn what_is_made_is_private() {
        let outer = tempfile::tempdir().unwrap();
        let directory = outer.path().join("a/b");
        create_directory(&directory).unwrap();
        create_directory(&directory).unwrap();
        assert_eq!(mode(&directory), 0o700);
        write(&directory.join("file"), b"x").unwrap();
        assert_eq!(mode(&directory.join("file")), 0o600);
        assert!(create_directory(&directory.join("file")).is_err());
    }
}
