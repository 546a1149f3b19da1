//! The mount itself, made and taken away apart from the session that serves it: the FUSE library
//! would unmount whatever is at the path when its session ends, also what others put there.

use super::mounts::{self, Mounted};
use super::{proc, processes};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the kernel's FUSE takes filesystems.
pub(super) const DEVICE: &str = "/dev/fuse";
/// What mounts and unmounts for a user who may not.
const HELPER: &str = "fusermount3";
/// Options of the filesystem, however it is mounted.
const OPTIONS: &str = "subtype=keepfs,default_permissions";

/// Mounts a FUSE filesystem of our type; returns the descriptor by which it is to be served.
/// `everyone`: users other than this one may enter. Fails with `PermissionDenied` if this user may
/// not let them in.
pub fn attach(mountpoint: &Path, everyone: bool) -> io::Result<OwnedFd> {
    let others = if everyone { ",allow_other" } else { "" };
    match attach_directly(mountpoint, others) {
        Err(Errno::EPERM) => attach_with_help(mountpoint, others),
        attached => Ok(attached?),
    }
}

fn attach_directly(mountpoint: &Path, others: &str) -> Result<OwnedFd, Errno> {
    let errno = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    let mode = fs::metadata(mountpoint).map_err(errno)?.permissions().mode();
    let device = OpenOptions::new().read(true).write(true).open(DEVICE).map_err(errno)?;
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let options = format!(
        "fd={},rootmode={mode:o},user_id={uid},group_id={gid},{OPTIONS}{others}",
        device.as_raw_fd()
    );
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
    nix::mount::mount(Some("keepfs"), mountpoint, Some("fuse"), flags, Some(options.as_str()))?;
    Ok(device.into())
}

/// The helper opens the device, mounts, and passes the descriptor on through a socket.
fn attach_with_help(mountpoint: &Path, others: &str) -> io::Result<OwnedFd> {
    let (here, there) = UnixStream::pair()?;
    let mut helper = Command::new(HELPER)
        .arg("-o")
        .arg(format!("fsname=keepfs,noatime,{OPTIONS}{others}"))
        .arg("--")
        .arg(mountpoint)
        // The descriptor of the socket: its standard input.
        .env("_FUSE_COMMFD", "0")
        .stdin(OwnedFd::from(there))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{HELPER}: {error}")))?;
    drop(helper.stdin.take());
    let device = receive_descriptor(&here);
    let said = helper.wait_with_output()?.stderr;
    let said = String::from_utf8_lossy(&said);
    device.map_err(|error| match said.trim() {
        "" => error,
        said if said.contains("user_allow_other") => {
            io::Error::new(ErrorKind::PermissionDenied, said)
        }
        said => io::Error::other(said),
    })
}

fn receive_descriptor(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut bytes, Some(&mut space), flags)?;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = part
            && let Some(&descriptor) = descriptors.first()
        {
            // SAFETY: the kernel has just made it for us, and nobody else knows its number.
            return Ok(unsafe { OwnedFd::from_raw_fd(descriptor) });
        }
    }
    Err(io::Error::new(ErrorKind::UnexpectedEof, format!("{HELPER} gave no descriptor")))
}

/// What is on top at a path, held: it stays what it is, whoever mounts and unmounts here meanwhile.
/// Nobody else can `umount` it until this goes.
pub struct Held {
    /// Opened with O_PATH, which asks nothing of the filesystem.
    root: File,
    mounted: Mounted,
}

impl Held {
    /// `None` if nothing is mounted at exactly this path.
    pub fn at(path: &Path) -> Option<Held> {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let root = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
        let info = proc::own_descriptor(root.as_raw_fd())?;
        let id: u32 = processes::field(&info, "mnt_id:")?.parse().ok()?;
        let is_it = |mounted: &Mounted| mounted.id == id && mounted.point == path;
        let mounted = mounts::all().into_iter().find(is_it)?;
        Some(Held { root, mounted })
    }

    pub fn mounted(&self) -> &Mounted {
        &self.mounted
    }

    /// A path to its root, whatever is at its mount point by now; good while this is held.
    pub fn root(&self) -> PathBuf {
        proc::own_descriptor_path(self.root.as_raw_fd())
    }

    /// Takes it out of the tree of mounts; it ends when nobody works in it any more. By force: at
    /// once, and whoever works in it gets ENOTCONN. `EINVAL` if others have unmounted it.
    pub fn detach(self, by_force: bool) -> io::Result<()> {
        let force = if by_force { MntFlags::MNT_FORCE } else { MntFlags::empty() };
        match nix::mount::umount2(&self.root(), MntFlags::MNT_DETACH | force) {
            // The helper takes nothing but a path, and unmounts only what this user has mounted.
            Err(Errno::EPERM) => detach_with_help(&self.mounted.point),
            done => Ok(done?),
        }
    }
}

fn detach_with_help(path: &Path) -> io::Result<()> {
    let helped = Command::new(HELPER)
        .args([OsStr::new("-u"), OsStr::new("-z"), OsStr::new("--"), path.as_os_str()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| io::Error::new(error.kind(), format!("{HELPER}: {error}")))?;
    if helped.success() { Ok(()) } else { Err(Errno::EPERM.into()) }
}

/// Whether somebody works in what is mounted here, or something is mounted in it: a plain unmount
/// would fail. False also if this user may not ask. Touches nothing but a mark for mounts that
/// expire, which their next use removes.
pub fn is_busy(path: &Path) -> bool {
    nix::mount::umount2(path, MntFlags::MNT_EXPIRE) == Err(Errno::EBUSY)
}
