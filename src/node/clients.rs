//! The clients of a node: each with a session of its own, which may go to another node.

use super::seat::{Departed, Seat};
use super::shared::{Job, Shared};
use super::{Awaited, Cluster, Done, Node, Status, status};
use crate::cluster::Audience;
use crate::cluster::feed::Reader;
use crate::session::ClientId;
use crate::tree::{Command, SessionId, Tree, Zxid};
use parking_lot::RwLockReadGuard;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A client of a node: its session ends when this is dropped.
pub struct NodeClient {
    node: Node,
    seat: Arc<Seat>,
    departed: bool,
}

impl Node {
    /// A client named so among those of this host. An older session under that name ends when its
    /// first one opens.
    pub fn attach(&self, name: &[u8]) -> NodeClient {
        let name = name.into();
        self.seat(|seat| Job::Attach { seat, name })
    }

    /// A client that was at another node. Its session goes on here.
    pub fn arrive(&self, departed: Departed) -> NodeClient {
        self.seat(|seat| Job::Arrive { seat, departed: Box::new(departed) })
    }

    fn seat(&self, job: impl FnOnce(Arc<Seat>) -> Job) -> NodeClient {
        let seat = Arc::new(Seat::new(self.shared().next_client()));
        self.shared().tell(job(Arc::clone(&seat)));
        NodeClient { node: self.clone(), seat, departed: false }
    }
}

impl NodeClient {
    /// Leaves this node, with all that it waits for: [`Node::arrive`] lets it go on. `None`: the
    /// node has stopped.
    pub fn depart(mut self) -> Option<Departed> {
        self.departed = true;
        let (answer, departed) = crossbeam_channel::bounded(1);
        self.node.shared().tell(Job::Depart { client: self.seat.id, answer });
        departed.recv().ok()
    }
}

impl Cluster for NodeClient {
    fn tree(&self) -> RwLockReadGuard<'_, Tree> {
        self.node.tree()
    }

    fn session(&self) -> Option<SessionId> {
        self.seat.belief.session()
    }

    fn await_session(&self, then: Awaited) {
        self.node.shared().await_session(&self.seat, then);
    }

    fn submit(&self, session: SessionId, command: Command, done: Done) {
        self.node.submit(session, command, done);
    }

    fn barrier(&self, done: Done) {
        self.node.barrier(done);
    }

    fn subscribe(&self, audience: Option<Arc<dyn Audience>>) -> Reader {
        self.node.shared().subscribe(&self.seat, audience)
    }

    fn made_visible(&self, zxid: Zxid) {
        self.node.shared().made_visible(&self.seat, zxid);
    }

    fn status(&self) -> Status {
        status::gather(self.node.shared(), &self.seat)
    }

    fn metrics(&self) -> String {
        self.node.metrics()
    }

    fn set_mounted(&self, mounted: bool) {
        self.node.set_mounted(mounted);
    }
}

impl Drop for NodeClient {
    fn drop(&mut self) {
        if !self.departed {
            self.node.shared().tell(Job::Detach { client: self.seat.id });
        }
    }
}

impl Shared {
    fn next_client(&self) -> ClientId {
        ClientId(self.clients.fetch_add(1, Ordering::Relaxed))
    }

    pub fn submit(&self, session: SessionId, command: Command, done: Done) {
        self.metrics.submitted();
        self.tell(Job::Submit { session, command, done });
    }

    /// See [`Cluster::subscribe`].
    pub fn subscribe(&self, seat: &Arc<Seat>, audience: Option<Arc<dyn Audience>>) -> Reader {
        let (reader, subscribed) = crossbeam_channel::bounded(1);
        self.tell(Job::Subscribe { seat: Arc::clone(seat), audience, reader });
        // A node that has stopped has nothing to tell.
        subscribed.recv().unwrap_or_else(|_| self.feed.read())
    }

    /// Wakes the driver at most once until it looks, and not for what it knows.
    pub fn made_visible(&self, seat: &Seat, zxid: Zxid) {
        let before = seat.visible.fetch_max(zxid, Ordering::AcqRel);
        if before < zxid && !self.visible_told.swap(true, Ordering::AcqRel) {
            let _ = self.inbox.send(Job::Look);
        }
    }
}
