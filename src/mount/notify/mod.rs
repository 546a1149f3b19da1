//! The notifier: carries every batch of changes to the kernel, in order, then hands out the lock
//! grants in it and reports it visible.
//!
//! 1. A batch comes from the cluster. Replies that were read from an older tree leave first
//!    (`Mount::replying`).
//! 2. [`plan`] works out, each once, the inodes and names the kernel holds and must forget.
//! 3. Inodes are forgotten here; names by a second thread ([`names`]), for that takes the
//!    directory's lock, which an operation of this host may hold for as long as its answer takes.
//!    If one does, the kernel is told to forget all names, which takes no lock (Linux 6.16; before
//!    that, the name is forgotten as soon as the operation is answered, and may be seen until
//!    then).
//! 4. Orphans nobody has open are let go of, waiters are granted, barriers run, the cluster is
//!    told.

mod doubts;
mod names;
mod plan;
mod visible;

pub use doubts::Doubts;
pub use visible::Visible;

use super::Mount;
use super::kernel::{Kernel, Known, Pages};
use super::waiters::{End, Wait};
use crate::cluster::feed::Reader;
use crate::cluster::{Audience, Event};
use crate::tree::{Applied, Batch, Change, Ino, SessionId};
use names::NameForgetter;
use plan::{Knowledge, Plan};
use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

/// An inode the kernel was told of this recently may be on its way into its table: the reply wakes
/// the thread that asked, and only that thread enters it.
const UNDERWAY: Duration = Duration::from_secs(1);
/// Pauses before asking again for such an inode; about 100 ms together.
const AGAIN: [u64; 10] = [20, 50, 100, 200, 500, 1_000, 5_000, 10_000, 30_000, 50_000];

/// What the kernel must forget of a batch, of which `session` is the mount's own.
fn plan(mount: &Mount, session: Option<SessionId>, applied: &[Applied]) -> Plan {
    let doubtful = mount.doubts.is_open();
    let tree = mount.cluster.tree();
    let knowledge = Knowledge { tree: &tree, inodes: &mount.inodes };
    let mut plan = Plan::default();
    for applied in applied {
        let by_kernel = Some(applied.origin) == session && !doubtful;
        for change in &applied.changes {
            if by_kernel {
                plan.add_own(change, &knowledge);
            } else {
                plan.add_foreign(change, &knowledge);
            }
        }
    }
    plan
}

/// What the mount has shown: what its kernel holds, and replies on their way there.
pub struct Shown(pub Weak<Mount>);

impl Audience for Shown {
    fn is_untouched_by(&self, batch: &Batch) -> bool {
        let Some(mount) = self.0.upgrade() else { return false };
        // Whoever had read the tree without this batch has told the kernel, and is in the table.
        let all_replied = mount.replying.try_write().is_some();
        let plan = || plan(&mount, mount.cluster.session(), &batch.applied);
        all_replied && !batch.reset && plan() == Plan::default()
    }
}

pub struct Notifier {
    mount: Arc<Mount>,
    kernel: Arc<Kernel>,
    names: NameForgetter,
    /// The mount's, as of the events heard so far.
    session: Option<SessionId>,
}

impl Notifier {
    /// Fails if threads are used up.
    pub fn new(mount: Arc<Mount>, kernel: Arc<Kernel>) -> io::Result<Notifier> {
        let names = NameForgetter::start(Arc::clone(&kernel))?;
        Ok(Notifier { mount, kernel, names, session: None })
    }

    /// Runs until the cluster's events end.
    pub fn run(mut self, events: &Reader) {
        while let Ok(event) = events.next(None) {
            match event {
                Event::Batch(batch) => self.carry(&batch),
                Event::SessionOpened(session) => self.session = Some(session),
                Event::SessionLost(session) => {
                    self.session = None;
                    self.mount.session_lost(session);
                }
                Event::Stopping => self.mount.let_go_of_waiters(),
            }
        }
        self.mount.let_go_of_waiters();
    }

    fn carry(&mut self, batch: &Batch) {
        drop(self.mount.replying.write());
        if batch.reset {
            self.forget_everything();
        } else {
            let plan = plan(&self.mount, self.session, &batch.applied);
            self.forget(plan);
        }
        for change in batch.applied.iter().flat_map(|applied| &applied.changes) {
            self.hand_out(change);
        }
        self.mount.visible.reach(batch.last);
        if batch.reset {
            self.mount.look_for_grants();
            self.look_for_orphans();
        }
        self.mount.doubts.carried(batch.last);
        self.mount.cluster.made_visible(batch.last);
    }

    fn forget(&mut self, plan: Plan) {
        for (ino, pages) in plan.inodes {
            self.forget_inode(ino, pages);
        }
        if plan.all_names && self.kernel.forget_all_names().is_err() {
            self.forget_top_level();
        }
        if !plan.names.is_empty() {
            self.forget_names(plan.names);
        }
    }

    fn forget_inode(&self, ino: Ino, pages: Pages) {
        let inodes = &self.mount.inodes;
        let mut pauses = AGAIN.iter();
        while let Some(Known::No) = heard(self.kernel.forget_inode(ino, pages)) {
            let underway = inodes.is_known(ino) && inodes.answered_within(ino, UNDERWAY);
            match pauses.next() {
                Some(pause) if underway => thread::sleep(Duration::from_micros(*pause)),
                _ => return,
            }
        }
    }

    fn forget_names(&mut self, names: names::Names) {
        let free = self.mount.directories.announce(names.iter().map(|(directory, _)| *directory));
        let idle = self.names.is_idle();
        if free && idle {
            self.names.begin(names);
            if self.names.wait(self.mount.directories.contended()) {
                self.mount.directories.announce([]);
                return;
            }
            let _ = self.kernel.forget_all_names();
        } else if self.kernel.forget_all_names().is_err() {
            self.names.begin(names);
        }
    }

    /// A snapshot took the tree's place.
    fn forget_everything(&mut self) {
        if self.kernel.forget_all_names().is_err() {
            self.forget_top_level();
        }
        for ino in self.mount.inodes.all() {
            heard(self.kernel.forget_inode(ino, Pages::Forget));
        }
    }

    /// Forgetting a directory's name forgets everything below: all names, for kernels that cannot
    /// forget them at once.
    fn forget_top_level(&mut self) {
        let names = self.mount.inodes.root_names();
        self.forget_names(names.into_iter().map(|name| (Ino::ROOT, name)).collect());
    }

    /// What lost its last name in the entries that a snapshot jumped over.
    fn look_for_orphans(&self) {
        let Some(session) = self.session else { return };
        let orphans = self.mount.cluster.tree().unreleased(session);
        orphans.into_iter().for_each(|ino| self.hand_out(&Change::Orphaned { ino }));
    }

    fn hand_out(&self, change: &Change) {
        match change {
            Change::Orphaned { ino } => {
                self.mount.ticket_gone(*ino);
                if !self.mount.handles.keeps(*ino) {
                    self.mount.let_go(*ino);
                }
            }
            Change::Freed { ino } => self.mount.handles.freed(*ino),
            Change::Granted { session, ino, waiter, token } if Some(*session) == self.session => {
                // A ticket's inode, or the zxid under which a range was queued: it is one of both.
                self.mount.waiters.end(Wait::Range(*ino, *waiter), End::Granted(*token));
                self.mount.waiters.end(Wait::Ticket(*ino), End::Granted(*token));
            }
            _ => {}
        }
    }
}

/// The mount being gone is no news: it is unmounted.
fn heard(result: io::Result<Known>) -> Option<Known> {
    result
        .inspect_err(|error| {
            let unmounted = matches!(
                error.raw_os_error(),
                Some(libc::ENODEV | libc::ENOTCONN | libc::ECONNABORTED)
            );
            if !unmounted {
                log::warn!("the kernel could not be told of a change: {error}");
            }
        })
        .ok()
}
