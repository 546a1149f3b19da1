//! The directory that is mounted on: checks before, and the way out when an orderly one is barred.

use super::attach::{DEVICE, Held};
use super::mounts::{Mounted, TYPE, all, at};
use crate::error::Error;
use crate::volume;
use crossbeam_channel::bounded;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Makes a directory ready to be mounted on; returns its absolute path.
pub fn prepare(mountpoint: &Path) -> Result<PathBuf, Error> {
    check_device(mountpoint)?;
    let absolute = make(mountpoint)?;
    let problem = |problem: String| Error::Mount { path: absolute.clone(), problem };
    if let Some(mounted) = at(&absolute) {
        let Mounted { kind, source, .. } = mounted;
        return Err(problem(if kind == TYPE {
            "a keepfs is mounted here already; `umount` it, or mount elsewhere".into()
        } else {
            format!("{source} ({kind}) is mounted here; `umount` it, or mount elsewhere")
        }));
    }
    if let Some(kind) = kernels_own(&absolute) {
        return Err(problem(format!("it lies in {kind}, which is the kernel's own")));
    }
    let metadata = fs::metadata(&absolute).map_err(|error| problem(error.to_string()))?;
    if !metadata.is_dir() {
        return Err(problem("it is not a directory".into()));
    }
    if fs::read_dir(&absolute).is_ok_and(|mut entries| entries.next().is_some()) {
        log::warn!("{}: its own files are hidden while mounted", absolute.display());
    }
    Ok(absolute)
}

fn check_device(mountpoint: &Path) -> Result<(), Error> {
    let Err(error) = OpenOptions::new().read(true).write(true).open(DEVICE) else { return Ok(()) };
    let problem = match error.kind() {
        ErrorKind::NotFound => format!(
            "there is no {DEVICE}: load it with `modprobe fuse`; start a container with \
             `--device {DEVICE} --cap-add SYS_ADMIN`"
        ),
        ErrorKind::PermissionDenied => {
            format!(
                "{DEVICE} may not be opened by this user: `chmod 666 {DEVICE}`, or start as root"
            )
        }
        _ => format!("{DEVICE}: {error}"),
    };
    Err(Error::Mount { path: mountpoint.to_owned(), problem })
}

/// The directory's real path; it is made if it is missing. What a keepfs that was killed left
/// mounted is cleared away.
fn make(mountpoint: &Path) -> Result<PathBuf, Error> {
    let failed = |problem: String| Error::Mount { path: mountpoint.to_owned(), problem };
    let absolute = std::path::absolute(mountpoint).map_err(|error| failed(error.to_string()))?;
    loop {
        match ask(&absolute) {
            Life::Served => break,
            Life::Stale => {}
            Life::Silent => {
                return Err(failed(
                    "what is mounted here does not answer; end its daemon, or `umount -l` it"
                        .into(),
                ));
            }
        }
        match at(&absolute) {
            Some(mounted) if mounted.kind == TYPE => {
                log::warn!("{}: clearing the mount of a killed keepfs", absolute.display());
                clear_dead(&absolute, None);
                if at(&absolute).is_some_and(|left| left == mounted) {
                    return Err(failed("a stale mount is in the way: `umount -l` it".into()));
                }
            }
            Some(mounted) => {
                let Mounted { kind, source, .. } = mounted;
                return Err(failed(format!(
                    "a stale mount of {source} ({kind}) is in the way: `umount -l` it"
                )));
            }
            None => return Err(failed("it lies in a stale mount".into())),
        }
    }
    fs::create_dir_all(&absolute).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
            failed("it is not a directory".into())
        }
        _ => failed(format!("it does not exist and cannot be made: {error}")),
    })?;
    absolute.canonicalize().map_err(|error| failed(error.to_string()))
}

/// What stands behind a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// A filesystem that answers, or none of its own.
    Served,
    /// "Transport endpoint is not connected": mounted, and nobody serves it.
    Stale,
    /// Nothing comes back.
    Silent,
}

/// How long a mount has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks for the filesystem's size, for no kernel answers that from its cache: attributes it may
/// know long after the daemon was killed.
fn ask(path: &Path) -> Life {
    let path = path.to_owned();
    let (tell, told) = bounded(1);
    let asking = move || drop(tell.send(volume::statvfs(&path).err()));
    // It may never come back; then it ends with the process.
    if thread::Builder::new().name("mount-ask".into()).spawn(asking).is_err() {
        return Life::Served;
    }
    match told.recv_timeout(PATIENCE).map(|error| error.and_then(|error| error.raw_os_error())) {
        Ok(Some(libc::ENOTCONN | libc::ECONNABORTED)) => Life::Stale,
        Ok(_) => Life::Served,
        Err(_) => Life::Silent,
    }
}

/// The filesystem that a path lies in, if what is in it stands for processes or the kernel: a mount
/// on `/proc/self` would hide this daemon from itself, and its host's processes from `ps`.
fn kernels_own(path: &Path) -> Option<String> {
    let holds = all().into_iter().filter(|mounted| path.starts_with(&mounted.point));
    let innermost = holds.max_by_key(|mounted| mounted.point.components().count())?;
    ["proc", "sysfs", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "devpts"]
        .contains(&&*innermost.kind)
        .then_some(innermost.kind)
}

/// Aborts and detaches whatever is mounted here, as far as this user may.
pub fn detach(path: &Path) {
    detach_held(Held::at(path));
}

/// Detaches the keepfs mounted here if its daemon is gone; with a `device` (`MAJOR:MINOR`), only
/// the filesystem of that number. Leaves alone whatever else is here, or comes meanwhile.
pub fn clear_dead(path: &Path, device: Option<&str>) {
    detach_held(Held::at(path).filter(|held| {
        let mounted = held.mounted();
        mounted.kind == TYPE
            && device.is_none_or(|device| mounted.device == device)
            && ask(&held.root()) == Life::Stale
    }));
}

fn detach_held(held: Option<Held>) {
    let Some(held) = held else { return };
    let point = held.mounted().point.clone();
    if let Err(error) = held.detach(true) {
        log::warn!("{} cannot be unmounted: {error}", point.display());
    }
}
