//! Which keepfs mounts this host has, and what they say, without ever hanging on one.

use crate::cluster::Status;
use crate::error::Error;
use crate::mount::mounts;
use std::ffi::CStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a mount may take to answer before it counts as hanging. `.keepfs/*` is answered from
/// memory, so this is generous.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// The keepfs mount points, in the order they were mounted.
pub fn all() -> Vec<PathBuf> {
    let keepfs = mounts::all().into_iter().filter(|mounted| mounted.kind == mounts::TYPE);
    keepfs.map(|mounted| mounted.point).collect()
}

/// Whether a keepfs is mounted exactly here, alive or stale. `path` must be absolute.
pub fn is_mounted(path: &Path) -> bool {
    mounts::at(path).is_some_and(|mounted| mounted.kind == mounts::TYPE)
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

/// [`absolute`], and the directory is there: made if it was missing. A mount there, even a stale
/// one, is left as it is.
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

/// Refuses a mount in the data directory, and a data directory in the mount: the daemon would wait
/// for itself, and after a crash for nobody.
pub fn keep_apart(mount: &Path, data: &Path) -> Result<(), Error> {
    let refused = |text| Error::Configuration(format!("{text}; give each a directory of its own"));
    let (at, of) = (resolved(mount)?, resolved(data)?);
    let (mount, data) = (mount.display(), data.display());
    if at.starts_with(&of) {
        return Err(refused(format!("the mount {mount} is inside the data directory {data}")));
    }
    match of.starts_with(&at) {
        true => Err(refused(format!("the data directory {data} is inside the mount {mount}"))),
        false => Ok(()),
    }
}

/// `path` from the root, the links followed of as much of it as there is.
fn resolved(path: &Path) -> Result<PathBuf, Error> {
    let path = std::path::absolute(path).map_err(Error::file("find", path))?;
    for there in path.ancestors() {
        if let (Ok(found), Ok(rest)) = (there.canonicalize(), path.strip_prefix(there)) {
            return Ok(if rest.as_os_str().is_empty() { found } else { found.join(rest) });
        }
    }
    Ok(path)
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
    std::thread::Builder::new()
        .name("ask".to_owned())
        .spawn(move || drop(tell.send(ask())))
        .map_err(|error| Error::Other(format!("cannot start a thread: {error}")))?;
    told.recv_timeout(ANSWERS_WITHIN).map_err(|_| {
        let mount = mount.display();
        Error::Other(format!("{mount} does not answer; is its keepfs stopped or overloaded?"))
    })
}

/// A short text xattr, such as those keepfs makes up.
pub fn xattr(path: &Path, name: &CStr) -> io::Result<String> {
    let mut value = [0u8; 256];
    let length = rustix::fs::getxattr(path, name, &mut value)?;
    Ok(String::from_utf8_lossy(&value[..length]).into_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_and_its_data_are_apart() {
        let dir = tempfile::tempdir().unwrap();
        let (data, link) = (dir.path().join("data"), dir.path().join("link"));
        fs::create_dir(&data).unwrap();
        std::os::unix::fs::symlink(&data, &link).unwrap();
        for inside in [data.clone(), data.join("new/mnt"), link.join("mnt")] {
            let said = keep_apart(&inside, &data).unwrap_err().to_string();
            assert!(said.contains("is inside the data directory"), "{said}");
        }
        let said = keep_apart(&data, &link.join("new")).unwrap_err().to_string();
        assert!(said.contains("is inside the mount"), "{said}");
        keep_apart(&dir.path().join("data2"), &data).unwrap();
    }

    #[test]
    fn a_plain_directory_is_no_mount() {
        let dir = tempfile::tempdir().unwrap();
        let error = status(dir.path()).unwrap_err().to_string();
        assert!(error.contains("is no keepfs mount"), "{error}");
    }
}
