//! Mounting, serving and unmounting.

use super::adapter::Adapter;
use super::attach::{self, Held};
use super::kernel::Kernel;
use super::notify::{Notifier, Shown};
use super::{Mount, MountConfig, adopt, interrupts, mountpoint, mounts};
use crate::cluster::Cluster;
use crate::cluster::feed::{Closer, Reader};
use crate::error::Error;
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use fuser::{Config, InitFlags, KernelConfig, Session, SessionACL};
use rustix::process::{getegid, geteuid};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Largest WRITE, bytes: what the kernel's page limit allows, and a whole file of the default size.
const WRITE_BYTES_MAX: u32 = 1 << 20;
/// Readahead requests the kernel may have under way at once.
const BACKGROUND_MAX: u16 = 64;
/// How long an unmount waits for the kernel to let go.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(3);

/// A mount that is being served. Dropping it unmounts.
pub struct MountHandle {
    mount: Arc<Mount>,
    mountpoint: PathBuf,
    ended: Receiver<()>,
    /// Closed to end the notifier.
    feed: Option<Closer>,
    notifier: Option<JoinHandle<()>>,
}

pub(super) fn start(cluster: Arc<dyn Cluster>, config: MountConfig) -> Result<MountHandle, Error> {
    let as_root = is_root();
    let mountpoint = mountpoint::prepare(&config.mountpoint)?;
    warn_of_request_timeout();
    let failed = |source: io::Error| explain(&mountpoint, &source);
    let mount = Arc::new(Mount::new(cluster, config.streams.clone()).map_err(failed)?);
    let events = mount.cluster.subscribe(Some(Arc::new(Shown(Arc::downgrade(&mount)))));
    // The kernel remembers nothing yet, so it has been told everything.
    mount.visible.reach(mount.cluster.tree().zxid());
    if !as_root {
        let (uid, gid) = user();
        adopt::start(mount.cluster.clone(), uid, gid).map_err(failed)?;
    }
    let everyone = config.allow_other.unwrap_or(as_root);
    let device = attach::attach(&mountpoint, everyone).map_err(failed)?;
    if let Some(mounted) = mounts::at(&mountpoint).filter(|mounted| mounted.kind == mounts::TYPE) {
        let _ = mount.device.set(mounted.device);
    }
    let (options, acl) = options(&config, everyone);
    let served = serve(&mount, &mountpoint, device, acl, options, events);
    served.map_err(|error| {
        if let Some(held) = hold(&mount, &mountpoint) {
            let _ = held.detach(true);
        }
        failed(error)
    })
}

/// Serves what is mounted by `device`.
fn serve(
    mount: &Arc<Mount>,
    mountpoint: &Path,
    device: OwnedFd,
    acl: SessionACL,
    options: Config,
    events: Reader,
) -> io::Result<MountHandle> {
    let channel = device.try_clone()?;
    let session = Session::from_fd(Adapter(Arc::clone(mount)), device, acl, options)?;
    let kernel = Arc::new(Kernel::new(channel));
    let _ = mount.kernel.set(Arc::clone(&kernel));
    let notifier = Notifier::new(Arc::clone(mount), kernel)?;
    let feed = events.closer();
    let notifier =
        thread::Builder::new().name("mount-notify".into()).spawn(move || notifier.run(&events))?;
    let (tell_end, ended) = bounded(1);
    let cluster = Arc::clone(&mount.cluster);
    cluster.set_mounted(true);
    let serve = move || {
        if let Err(error) = session.run() {
            log::error!("the mount ended: {error}");
        }
        cluster.set_mounted(false);
        let _ = tell_end.send(());
    };
    thread::Builder::new().name("mount-session".into()).spawn(serve)?;
    Ok(MountHandle {
        mount: Arc::clone(mount),
        mountpoint: mountpoint.to_owned(),
        ended,
        feed: Some(feed),
        notifier: Some(notifier),
    })
}

/// What is mounted here, if it is this mount and not another one in its stead.
fn hold(mount: &Mount, mountpoint: &Path) -> Option<Held> {
    let held = Held::at(mountpoint)?;
    let is_ours = mount.device.get() == Some(&held.mounted().device);
    // In this order: a filesystem that is gone has left its number to others.
    (is_ours && mount.kernel.get().is_none_or(|kernel| kernel.is_connected())).then_some(held)
}

/// How it is served. The session knows no mount point, so it unmounts nothing.
fn options(config: &MountConfig, everyone: bool) -> (Config, SessionACL) {
    let mut options = Config::default();
    options.n_threads = Some(config.threads.max(1));
    // A descriptor a thread spares the kernel one lock that all of them would share.
    options.clone_fd = true;
    (options, if everyone { SessionACL::All } else { SessionACL::Owner })
}

impl Mount {
    /// INIT: what the kernel offers and we take.
    pub(super) fn negotiate(&self, config: &mut KernelConfig) {
        let wanted = [
            InitFlags::FUSE_FLOCK_LOCKS,
            InitFlags::FUSE_POSIX_LOCKS,
            InitFlags::FUSE_BIG_WRITES,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_NO_OPENDIR_SUPPORT,
            // Set-id bits go with the write or truncation itself, and no write asks first for the
            // file's capabilities.
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
            // The notifier says what is stale; nothing else is.
            InitFlags::FUSE_EXPLICIT_INVAL_DATA,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
        ];
        for flag in wanted {
            let taken = config.add_capabilities(flag).is_ok();
            if flag == InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP {
                self.maps_direct_files.store(taken, Ordering::Relaxed);
            } else if !taken {
                log::warn!("this kernel's FUSE lacks {flag:?}");
            }
        }
        let in_bounds = config.set_max_write(WRITE_BYTES_MAX).is_ok()
            && config.set_max_background(BACKGROUND_MAX).is_ok();
        debug_assert!(in_bounds);
    }
}

fn warn_of_request_timeout() {
    if let Some(timeout) = interrupts::request_timeout() {
        log::warn!(
            "fs.fuse.max_request_timeout or default_request_timeout is {} s: the kernel aborts a mount \
             when a request takes longer. Whoever waits for a lock is sent away with EINTR before \
             that; set them to 0 to let them wait",
            timeout.as_secs()
        );
    }
}

fn explain(mountpoint: &Path, source: &io::Error) -> Error {
    let problem = if source.kind() == ErrorKind::PermissionDenied {
        format!(
            "{}; other users may be let in (`allow_other`) only by root, or with \
             `user_allow_other` in /etc/fuse.conf",
            source.to_string().trim()
        )
    } else if is_root() {
        format!("{source}; in a container, mounting takes `--cap-add SYS_ADMIN --device /dev/fuse`")
    } else {
        format!("{}; as a user this takes fusermount3 (package fuse3)", source.to_string().trim())
    };
    Error::Mount { path: mountpoint.to_owned(), problem }
}

fn is_root() -> bool {
    user().0 == 0
}

/// This process's user and group.
fn user() -> (u32, u32) {
    (geteuid().as_raw(), getegid().as_raw())
}

impl MountHandle {
    /// Fires once when the mount has ended: by [`MountHandle::unmount`], or by an `umount` from
    /// outside, after which the node goes on without a mount.
    pub fn ended(&self) -> &Receiver<()> {
        &self.ended
    }

    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Answers what waits, unmounts, and stops serving. A mount somebody still works in is taken
    /// away all the same: their descriptors fail with ENOTCONN. Never hangs.
    pub fn unmount(mut self) {
        self.end();
    }

    /// Answers what waits and leaves the mount to die with this process: from then on it answers
    /// ENOTCONN, and nobody writes into the directory below.
    pub fn leave_dead(self) {
        self.mount.let_go_of_waiters();
        std::mem::forget(self);
    }

    /// Unmounts and lets go of all, but leaves a mount that nobody serves: it answers ENOTCONN
    /// until the next one clears it, by this process or another.
    pub fn leave_dead_for_the_next(self) {
        let mountpoint = self.mountpoint.clone();
        self.unmount();
        if let Err(error) = attach::attach(&mountpoint, false) {
            log::warn!("nothing is mounted at {} now: {error}", mountpoint.display());
        }
    }

    fn end(&mut self) {
        let Some(feed) = self.feed.take() else { return };
        self.mount.let_go_of_waiters();
        self.take_away();
        feed.close();
        if let Some(notifier) = self.notifier.take() {
            let _ = notifier.join();
        }
    }

    fn take_away(&self) {
        if self.has_ended(Duration::ZERO) {
            // Aborted rather than unmounted, it is still in the way.
            return mountpoint::clear_dead(&self.mountpoint, self.mount.device.get().map(|d| &**d));
        }
        // To hold it would make it busy.
        let is_busy = attach::is_busy(&self.mountpoint);
        match hold(&self.mount, &self.mountpoint) {
            None => log::warn!("{}: unmounted or covered by others", self.mountpoint.display()),
            Some(held) => {
                if is_busy {
                    log::warn!("{}: in use; unmounted with force", self.mountpoint.display());
                }
                if let Err(error) = held.detach(is_busy) {
                    log::warn!("{}: cannot be unmounted: {error}", self.mountpoint.display());
                }
            }
        }
        if !self.has_ended(UNMOUNT_PATIENCE) {
            log::warn!("{}: the kernel does not let go", self.mountpoint.display());
        }
    }

    /// Whether the session has ended, or does so within this time; also if it was told before.
    fn has_ended(&self, within: Duration) -> bool {
        self.ended.recv_timeout(within) != Err(RecvTimeoutError::Timeout)
    }
}

impl Drop for MountHandle {
    fn drop(&mut self) {
        self.end();
    }
}
