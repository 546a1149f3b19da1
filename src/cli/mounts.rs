//! Which keepfs mounts this host has, and what they say, without ever hanging on one.

use crate::error::Error;
use crate::node::Status;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a mount may take to answer before it counts as hanging. `.keepfs/*` is answered from
/// memory, so this is generous.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// The mount points of type `fuse.keepfs`, in the order they were mounted.
pub fn all() -> Result<Vec<PathBuf>, Error> {
    let table = fs::read("/proc/self/mounts").map_err(Error::file("read", "/proc/self/mounts"))?;
    Ok(keepfs_in(&table))
}

fn keepfs_in(table: &[u8]) -> Vec<PathBuf> {
    let mount_point = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == b"fuse.keepfs").then(|| PathBuf::from(OsString::from_vec(unescape(path))))
    };
    table.split(|byte| *byte == b'\n').filter_map(mount_point).collect()
}

/// `/proc/self/mounts` writes space, tab, newline and backslash as `\ooo`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\').then(|| tail.get(..3)).flatten();
        let byte =
            octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        plain.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &tail[3..] } else { tail };
    }
    plain
}

/// Whether something of ours is mounted exactly here, alive or stale. `path` must be absolute.
pub fn is_mounted(path: &Path) -> Result<bool, Error> {
    Ok(all()?.iter().any(|mount| mount == path))
}

/// `path` from the root, its links followed, as `/proc/self/mounts` shows it. The last component is
/// not looked at, for a stale or hanging mount there must not stop us.
pub fn absolute(path: &Path) -> Result<PathBuf, Error> {
    let path = std::path::absolute(path).map_err(Error::file("find", path))?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(path);
    };
    Ok(parent.canonicalize().map_err(Error::file("find", parent))?.join(name))
}

/// [`absolute`], and the directory is there: made if it was missing. A mount there, even a stale one,
/// is left as it is.
pub fn make(path: &Path) -> Result<PathBuf, Error> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        fs::create_dir_all(parent).map_err(Error::file("create", parent))?;
    }
    let path = absolute(path)?;
    match fs::create_dir(&path) {
        Ok(()) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(path),
        Err(error) => Err(Error::file("create", &path)(error)),
    }
}

/// What the replica behind this mount says of itself and its cluster.
pub fn status(mount: &Path) -> Result<Status, Error> {
    let text = read_control(mount, "status.json")?;
    serde_json::from_slice(&text)
        .map_err(|error| Error::Other(format!("{}: odd status: {error}", mount.display())))
}

/// Reads `MOUNT/.keepfs/NAME`; a mount that hangs or is none is told in a sentence.
pub fn read_control(mount: &Path, name: &str) -> Result<Vec<u8>, Error> {
    let file = mount.join(".keepfs").join(name);
    answered(mount, move || fs::read(&file))?.map_err(|error| explain(mount, error))
}

/// Runs `ask`, which may hang for ever in a dead mount, on a thread of its own.
pub fn answered<T: Send + 'static>(
    mount: &Path,
    ask: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let (tell, told) = crossbeam_channel::bounded(1);
    std::thread::spawn(move || drop(tell.send(ask())));
    told.recv_timeout(ANSWERS_WITHIN).map_err(|_| Error::Mount {
        path: mount.to_owned(),
        problem: "it does not answer; is its keepfs stopped or overloaded?".into(),
    })
}

fn explain(mount: &Path, error: io::Error) -> Error {
    let path = mount.display();
    Error::Other(match error.raw_os_error() {
        Some(libc::ENOTCONN) => format!(
            "{path}: its keepfs has died; start it again (that clears the mount), or umount {path}"
        ),
        Some(libc::ENOENT | libc::ENOTDIR) => {
            format!("{path} is no keepfs mount; `grep fuse.keepfs /proc/mounts` lists those here")
        }
        _ => format!("cannot read {path}/.keepfs: {error}"),
    })
}

/// Takes a mount away at once, whatever still uses it: of a daemon that has ended.
pub fn detach(path: &Path) -> io::Result<()> {
    let name = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `name` is a NUL-terminated string that outlives the call.
    if unsafe { libc::umount2(name.as_ptr(), libc::MNT_DETACH) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() != Some(libc::EPERM) {
        return Err(error);
    }
    let mut helper = std::process::Command::new("fusermount3");
    let status = helper.args(["-u", "-z", "--"]).arg(path).status()?;
    if status.success() { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keepfs_mounts_are_told_from_others_and_unescaped() {
        let table = b"proc /proc proc rw 0 0\n\
            keepfs /mnt/with\\040space fuse.keepfs rw,nosuid 0 0\n\
            sshfs /mnt/fuse.keepfs fuse.sshfs rw 0 0\n\
            keepfs /mnt/back\\134slash fuse.keepfs rw 0 0\n";
        let found = keepfs_in(table);
        assert_eq!(found, [Path::new("/mnt/with space"), Path::new("/mnt/back\\slash")]);
    }

    #[test]
    fn a_plain_directory_is_no_mount() {
        let dir = tempfile::tempdir().unwrap();
        let error = status(dir.path()).unwrap_err().to_string();
        assert!(error.contains("is no keepfs mount"), "{error}");
    }
}
