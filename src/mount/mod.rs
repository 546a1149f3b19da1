//! The mount: kernel requests become commands, changes become invalidations.
//!
//! * [`adapter`] is the only file that names [`fuser::Filesystem`]: one call an operation.
//! * `ops/` decides: a read is answered from the tree at once, on fuser's thread; a change is
//!   submitted with a closure that owns the reply and answers it on the cluster's thread. No thread
//!   of fuser's ever waits.
//! * [`notify`] is the one thread that tells the kernel what changed elsewhere. It serves no
//!   request and holds no lock while it writes to the kernel, which may block until requests are
//!   answered.
//! * [`handles`], [`inodes`], [`mapped`], [`directories`] know what the kernel has open, remembers,
//!   may have changed in its own memory, and locks.
//! * [`locks`], [`tickets`] and [`stream`] answer later than others; [`waiters`], [`interrupts`],
//!   [`releases`], [`processes`] and [`process_watch`] are what they stand on.
//! * [`attach`] mounts and unmounts, for `fuser` would unmount what others put in our place;
//!   [`mounts`] knows what is mounted where, [`mountpoint`] whether a directory can be mounted on.
//! * [`proc`] is the one door to `/proc`, and says what in it may wait; [`aside`] has the threads
//!   for that.

mod adapter;
mod adopt;
mod aside;
mod attach;
mod attr;
pub mod control;
mod directories;
mod errno;
mod handles;
mod inodes;
pub mod interrupts;
mod kernel;
mod locks;
mod mapped;
pub mod mountpoint;
pub mod mounts;
mod notify;
mod opened;
mod ops;
mod orphans;
pub mod proc;
pub mod process_watch;
pub mod processes;
pub mod releases;
mod setup;
mod stream;
mod tickets;
pub mod waiters;

use crate::cluster::streams::StreamStore;
use crate::cluster::{Answer, Cluster, Failure};
use crate::error::Error;
use crate::tree::{Command, Reply, SessionId, TicketInfo};
use fuser::Errno;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Command lines that are read at once: half of the threads there are for what may wait.
const INTRODUCING_MAX: usize = aside::THREADS_MAX / 2;
use waiters::Wait;

pub use setup::MountHandle;

/// How to mount the tree.
#[derive(Clone)]
pub struct MountConfig {
    /// Made if it does not exist.
    pub mountpoint: PathBuf,
    /// Whether users other than the mounting one may enter. `None`: root's mounts let everyone in,
    /// by the permissions of the files; a user's only that user.
    pub allow_other: Option<bool>,
    /// Threads that take requests from the kernel. None of them ever waits.
    pub threads: usize,
    /// Where backup streams go; without it, `backup` files cannot be opened (ENOTSUP).
    pub streams: Option<Arc<dyn StreamStore>>,
}

impl MountConfig {
    pub fn new(mountpoint: impl Into<PathBuf>) -> MountConfig {
        let mountpoint = mountpoint.into();
        MountConfig { mountpoint, allow_other: None, threads: request_threads(), streams: None }
    }
}

/// One for every two cores. No request waits in them, so more of them only wake each other: on two
/// cores, `open` of a cached file takes half as long again with four threads as with one.
fn request_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, 4))
}

/// One node's tree as the kernel of this host sees it. Shared by the threads that take requests,
/// the node's thread (in the closures that answer) and the notifier.
pub struct Mount {
    cluster: Arc<dyn Cluster>,
    handles: Arc<handles::Handles>,
    inodes: inodes::Inodes,
    mapped: mapped::Mapped,
    directories: directories::Directories,
    orphans: orphans::Orphans,
    listings: control::Listings,
    /// Set before the first request.
    kernel: OnceLock<Arc<kernel::Kernel>>,
    /// `MAJOR:MINOR` of the filesystem; set before the first request, if the mount table shows it.
    device: OnceLock<String>,
    visible: notify::Visible,
    doubts: notify::Doubts,
    /// Held shared from reading the tree until the reply is written. The notifier passes through it
    /// exclusively before it invalidates, so no reply older than a change leaves after the
    /// invalidation of that change.
    replying: RwLock<()>,
    /// The kernel maps files shared that are open for direct I/O (Linux 6.6 on).
    maps_direct_files: AtomicBool,
    held: Mutex<locks::Held>,
    tickets: tickets::Tickets,
    waiters: Arc<waiters::Waiters>,
    aside: aside::Aside,
    /// Command lines that are being read.
    introducing: AtomicUsize,
    releases: releases::Releases,
    /// How long a reply may be owed before the kernel would abort the whole mount; `None`: for
    /// ever.
    patience: Option<Duration>,
    streams: Option<Arc<dyn StreamStore>>,
}

/// Who asks: as the kernel says.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    /// The thread's id, in the daemon's pid namespace; 0: it has none there.
    pub pid: u32,
}

impl Mount {
    /// Mounts, and serves until [`MountHandle::unmount`] or an `umount` from outside.
    pub fn start(cluster: Arc<dyn Cluster>, config: MountConfig) -> Result<MountHandle, Error> {
        setup::start(cluster, config)
    }

    /// Fails if threads or descriptors are used up.
    fn new(cluster: Arc<dyn Cluster>, streams: Option<Arc<dyn StreamStore>>) -> io::Result<Mount> {
        let waiters = Arc::default();
        interrupts::start(Arc::clone(&waiters))?;
        let proposer = Arc::clone(&cluster);
        let submit = move |session, command, done| proposer.submit(session, command, done);
        let handles = Arc::<handles::Handles>::default();
        Ok(Mount {
            handles: Arc::clone(&handles),
            inodes: Default::default(),
            mapped: Default::default(),
            directories: Default::default(),
            orphans: orphans::Orphans::start(Arc::clone(&cluster), handles)?,
            listings: control::Listings::start(Arc::clone(&cluster))?,
            kernel: OnceLock::new(),
            device: OnceLock::new(),
            visible: Default::default(),
            doubts: Default::default(),
            replying: RwLock::new(()),
            maps_direct_files: AtomicBool::new(false),
            held: Default::default(),
            tickets: tickets::Tickets::new()?,
            waiters,
            aside: Default::default(),
            introducing: AtomicUsize::new(0),
            releases: releases::Releases::new(Box::new(submit)),
            patience: interrupts::patience(),
            streams,
            cluster,
        })
    }

    /// Take it before reading the tree for a reply that the kernel will cache; drop it once the
    /// reply has left.
    fn reply_in_order(&self) -> RwLockReadGuard<'_, ()> {
        self.replying.read()
    }

    /// Goes on in the session that the operation was checked under; if there was none
    /// (`checked`), in the next one, or with why there is none.
    fn in_session(
        self: &Arc<Self>,
        checked: Option<SessionId>,
        then: impl FnOnce(&Arc<Mount>, Result<SessionId, Failure>) + Send + 'static,
    ) {
        let Some(session) = checked else {
            let mount = Arc::clone(self);
            return self.cluster.await_session(Box::new(move |opened| then(&mount, opened)));
        };
        then(self, Ok(session));
    }

    /// Tells `then` who asks for a lock. The command line is in the asker's memory, which may be a
    /// page of a file here that only another request brings in, or of a filesystem that answers
    /// nobody: it is read aside, and while very many of these wait, not at all.
    fn introduce(
        self: &Arc<Self>,
        caller: Caller,
        then: impl FnOnce(&Arc<Mount>, TicketInfo) + Send + 'static,
    ) {
        let (mount, uid) = (Arc::clone(self), caller.uid);
        let pid = processes::process_of(caller.pid).unwrap_or(0);
        let tell = move |command| then(&mount, TicketInfo { pid, uid, command });
        if self.introducing.fetch_add(1, Ordering::Relaxed) >= INTRODUCING_MAX {
            self.introducing.fetch_sub(1, Ordering::Relaxed);
            return tell(Box::default());
        }
        let mount = Arc::clone(self);
        self.aside.run(move || {
            let command = processes::command_line(pid);
            mount.introducing.fetch_sub(1, Ordering::Relaxed);
            tell(command);
        });
    }

    /// Submits a change in the session it was checked under: an operation reads
    /// [`Cluster::session`] once, when it begins. Without one (`None`) the next one is waited for.
    /// `then` answers the kernel, on the cluster's thread.
    fn submit(
        self: &Arc<Self>,
        checked: Option<SessionId>,
        command: Command,
        then: impl FnOnce(&Arc<Mount>, Result<Reply, Failure>) + Send + 'static,
    ) {
        let mount = Arc::clone(self);
        let before = self.doubts.begin();
        let done = move |answer: Answer| {
            match &answer {
                Ok(_) => mount.doubts.succeeded(before, || mount.cluster.tree().zxid()),
                Err(failure) => mount.doubts.failed(*failure),
            }
            then(&mount, answer);
        };
        self.in_session(checked, move |mount, session| match session {
            Ok(session) => mount.cluster.submit(session, command, Box::new(done)),
            Err(failure) => done(Err(failure)),
        });
    }

    /// [`Mount::submit`] for operations whose answer is no more than success.
    fn submit_for(
        self: &Arc<Self>,
        checked: Option<SessionId>,
        command: Command,
        reply: fuser::ReplyEmpty,
    ) {
        self.submit(checked, command, move |_, answer| {
            answer_empty(reply, answer.map_err(errno::of_failure));
        });
    }

    /// What the session held is gone, what it waited for will not come; the next one, which may be
    /// believed already, keeps what is its own. Handles know by themselves that their locks were of
    /// another session than the one that is believed now, and processes that end drop tickets by
    /// their inodes, which never come back.
    fn session_lost(&self, session: SessionId) {
        log::warn!("session {session} is lost: its locks, tickets and ephemeral entries are gone");
        self.held.lock().session_lost(session);
        self.releases.session_lost(session);
        self.waiters.session_lost(session);
    }

    /// A snapshot took the tree's place: the grants that led to it were told to nobody.
    fn look_for_grants(&self) {
        let Some(session) = self.cluster.session() else { return };
        for wait in self.waiters.waits() {
            match wait {
                Wait::Range(ino, waiter) => self.look_for_range(ino, session, waiter),
                Wait::Ticket(ticket) => self.look_for_ticket(ticket, session),
                Wait::Arrival(_) | Wait::Close(_) => (),
            }
        }
    }

    /// Nobody will be served any more: whoever waits gets an answer, so that nothing hangs.
    fn let_go_of_waiters(&self) {
        self.waiters.close();
        self.listings.close();
        self.visible.close();
    }
}

fn answer_empty<T>(reply: fuser::ReplyEmpty, result: Result<T, Errno>) {
    match result {
        Ok(_) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}
