//! The port: what everything above the cluster needs of it, and all it knows of it. The mount, the
//! backup and the verbs hold a [`Cluster`]; a replica's node is one, and whatever else applies the
//! log's entries to a tree of its own can be one.

mod event;
pub mod feed;
mod status;
pub mod streams;

pub use crate::session::{Answer, Failure};
pub use event::Event;
pub use status::{MemberStatus, Status};

use crate::tree::{Batch, Command, SessionId, Tree, Zxid};
use parking_lot::RwLockReadGuard;
use std::sync::Arc;

/// Runs once, on a thread of the cluster's; must not block.
pub type Done = Box<dyn FnOnce(Answer) + Send>;
/// Told of a session, or why there is none; as [`Done`].
pub type Awaited = Box<dyn FnOnce(Result<SessionId, Failure>) + Send>;

/// Who shows the tree to others, and remembers some of what it showed.
pub trait Audience: Send + Sync {
    /// Whether the batch, which the tree has and the feed has not yet, touches nothing that was
    /// shown: then it is shown. Runs on the cluster's thread, and must neither wait nor take long.
    fn is_untouched_by(&self, batch: &Batch) -> bool;
}

/// The cluster, as one client of it sees it: a tree to read, a session to change it in, and what
/// changes.
pub trait Cluster: Send + Sync {
    /// The tree as far as it is applied here. Hold it for microseconds: `apply` waits.
    fn tree(&self) -> RwLockReadGuard<'_, Tree>;

    /// The tree as of now, for long reads: nobody waits for them. Costs a reference for each chunk
    /// of 64 inodes, and what is written meanwhile is copied; so let go of it soon, and on a thread
    /// that may take its time.
    fn frozen(&self) -> Tree {
        self.tree().clone()
    }

    /// This client's session, while it may be believed.
    fn session(&self) -> Option<SessionId>;

    /// Calls `then` with the session that is believed now, or else with the next one;
    /// [`Failure::NoQuorum`] if there is none within `op_timeout`.
    fn await_session(&self, then: Awaited);

    /// [`Cluster::await_session`] for threads that may wait.
    fn wait_for_session(&self) -> Result<SessionId, Failure> {
        let (tell, told) = crossbeam_channel::bounded(1);
        self.await_session(Box::new(move |opened| {
            let _ = tell.send(opened);
        }));
        told.recv().unwrap_or(Err(Failure::Stopping))
    }

    /// Proposes a change in this session of the client's, the one it was checked under: it takes
    /// effect in that one, or fails with [`Failure::SessionLost`]. `done` runs when it is applied
    /// here and shown by the attentive mounts, or when it fails.
    fn submit(&self, session: SessionId, command: Command, done: Done);

    /// [`Cluster::submit`] for threads that may wait.
    fn submit_and_wait(&self, session: SessionId, command: Command) -> Answer {
        let (tell, told) = crossbeam_channel::bounded(1);
        self.submit(session, command, Box::new(move |answer| drop(tell.send(answer))));
        told.recv().unwrap_or(Err(Failure::Stopping))
    }

    /// Calls `done` once everything is applied here that was committed anywhere when this was
    /// called; [`Failure::NoQuorum`] after `op_timeout`.
    fn barrier(&self, done: Done);

    /// What happens from now on; the client's session, if there is one, comes first. While the
    /// reader is there, replies to other clients wait for [`Cluster::made_visible`], but for
    /// batches of which `audience` says that it shows nothing else after them.
    fn subscribe(&self, audience: Option<Arc<dyn Audience>>) -> feed::Reader;

    /// This client shows every change up to `zxid`.
    fn made_visible(&self, zxid: Zxid);

    /// Answers at once, with a quorum or without.
    fn status(&self) -> Status;

    /// Counters and gauges in the Prometheus text format.
    fn metrics(&self) -> String;

    /// A mount begins or ends to serve the tree on this host; the status says so.
    fn set_mounted(&self, mounted: bool);
}
