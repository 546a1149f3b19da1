//! What is mounted where: checks before mounting, and the way out when an orderly one is barred.

use super::attach::Held;
use super::proc;
use crate::error::Error;
use crate::volume;
use crossbeam_channel::bounded;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

pub(super) const DEVICE: &str = "/dev/fuse";
/// The filesystem type of keepfs mounts.
pub const TYPE: &str = "fuse.keepfs";

/// A line of `/proc/PID/mountinfo`.
#[derive(Debug, PartialEq)]
pub struct Mounted {
    /// The kernel's number for it; no other mount of the machine has it, in any namespace, until it
    /// is unmounted.
    pub id: u32,
    /// `MAJOR:MINOR`
    pub device: String,
    /// What of its filesystem is mounted: `/`, unless it is a bind mount of a part.
    pub root: PathBuf,
    pub point: PathBuf,
    pub kind: String,
    pub source: String,
}

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

/// Everything mounted in this mount namespace, in the order it was mounted.
pub fn all() -> Vec<Mounted> {
    parse_table(&proc::own_mount_table())
}

/// Everything mounted in the mount namespace of a process, as far as its root directory lets it
/// see; nothing of a process that is gone.
pub fn seen_by(process: u32) -> Vec<Mounted> {
    parse_table(&proc::mount_table(process))
}

fn parse_table(lines: &[u8]) -> Vec<Mounted> {
    lines.split(|byte| *byte == b'\n').filter_map(parse).collect()
}

/// The topmost mount at exactly this path.
pub fn at(path: &Path) -> Option<Mounted> {
    all().into_iter().rfind(|mounted| mounted.point == path)
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

/// `36 35 98:0 /root /point options [optional fields] - type source options`
fn parse(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = String::from_utf8_lossy(fields.nth(1)?).into_owned();
    let root = PathBuf::from(unescape(fields.next()?));
    let point = PathBuf::from(unescape(fields.next()?));
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let kind = String::from_utf8_lossy(fields.next()?).into_owned();
    let source = unescape(fields.next()?).to_string_lossy().into_owned();
    Some(Mounted { id, device, root, point, kind, source })
}

/// Blanks, tabs, newlines and backslashes come as `\` and three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mountinfo_line_is_read_with_its_escapes_and_optional_fields() {
        let line = br"64 30 0:57 /a /mnt/my\040disk rw,nosuid shared:5 - fuse.keepfs keepfs rw";
        let mounted = parse(line).unwrap();
        assert_eq!((mounted.id, mounted.device.as_str()), (64, "0:57"));
        assert_eq!(mounted.root, Path::new("/a"));
        assert_eq!(mounted.point, Path::new("/mnt/my disk"));
        assert_eq!((mounted.kind.as_str(), mounted.source.as_str()), (TYPE, "keepfs"));
        assert_eq!(parse(b"garbage"), None);
    }

    #[test]
    fn the_root_is_mounted() {
        assert!(at(Path::new("/")).is_some());
        assert!(at(Path::new("/nowhere")).is_none());
    }
}
