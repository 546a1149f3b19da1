//! One replica in the real world: its threads and channels.

pub mod streams;

pub use crate::replica::{Answer, Applied, Batch, Failure};

use crate::tree::{Command, Member, ReplicaId, SessionId, Tree, Zxid};
use crossbeam_channel::Receiver;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How to start a node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// This replica's name, also the host name of its session.
    pub name: String,
    pub data: PathBuf,
    /// `HOST:PORT` to listen on and to be dialled at.
    pub listen: String,
    pub start: Start,
    /// How long a change waits for a leader before it fails.
    pub op_timeout: Duration,
    /// How long a silent session lives.
    pub session_timeout: Duration,
    /// A follower that hears no leader for this long calls an election (randomised up to twice).
    pub election_timeout: Duration,
    pub heartbeat: Duration,
    /// How long a reply waits for other mounts to show the change.
    pub visibility_timeout: Duration,
    /// Written into the tree when a cluster is founded.
    pub limits: crate::tree::TreeLimits,
}

/// How a data directory without an identity gets one. With an identity, `Start` must agree with it.
#[derive(Clone, Debug)]
pub enum Start {
    /// A new cluster of these (name, address); every one of them is started with the same list.
    Bootstrap(Vec<(String, String)>),
    /// A running cluster, reached at any of these addresses.
    Join(Vec<String>),
    /// Only an existing data directory will do.
    Existing,
}

/// Runs once, on a thread of the node's; must not block.
pub type Done = Box<dyn FnOnce(Answer) + Send>;

/// What a mount hears from its node, in order.
#[derive(Debug, Clone)]
pub enum Event {
    Batch(Arc<Batch>),
    /// This node has a (new) session. Handles and locks of an older one are dead.
    SessionOpened(SessionId),
    /// The session cannot be trusted from now on (its deadline passed, or the log ended it).
    SessionLost(SessionId),
    Stopping,
}

/// What `.keepfs/status` and `keepfs status` say. Serialized as JSON for machines.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Status {
    pub name: String,
    pub id: u64,
    /// Of the daemon, so that operators and `keepfs bench` find it from its mount.
    pub pid: u32,
    /// The data directory, absolute.
    pub data: PathBuf,
    /// Hexadecimal.
    pub cluster: Option<String>,
    pub role: String,
    pub term: u64,
    pub leader: Option<String>,
    /// Seconds since the leader was last unknown; with no leader, since it was lost.
    pub leader_since_secs: u64,
    pub quorum: bool,
    /// Why not, in a sentence for operators.
    pub reason: Option<String>,
    pub applied: u64,
    pub commit: u64,
    pub log_first: u64,
    pub snapshot: u64,
    pub digest: String,
    pub session: Option<String>,
    pub members: Vec<MemberStatus>,
}

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct MemberStatus {
    pub id: u64,
    pub name: String,
    pub address: String,
    pub learner: bool,
    pub is_self: bool,
    /// A connection stands and something was heard within the election timeout.
    pub reachable: bool,
    /// Seconds since it was last heard; `None`: never since this start.
    pub heard_secs_ago: Option<f64>,
    /// Entries behind, as far as this replica knows (the leader knows best).
    pub behind: Option<u64>,
}

/// Cheap to clone; all clones are one node.
#[derive(Clone)]
pub struct Node {}

impl Node {
    /// Recovers the data directory, starts the threads, and returns at once; the first leader may
    /// take an election.
    pub fn start(config: NodeConfig) -> Result<Node, crate::error::Error> {
        let _ = config;
        todo!()
    }

    /// Proposes a change in this node's session. `done` runs when it is applied here and shown by
    /// the attentive mounts, or when it fails.
    pub fn submit(&self, command: Command, done: Done) {
        let _ = (command, done);
        todo!()
    }

    /// [`Node::submit`] for threads that may wait.
    pub fn submit_and_wait(&self, command: Command) -> Answer {
        let (tell, told) = crossbeam_channel::bounded(1);
        self.submit(command, Box::new(move |answer| drop(tell.send(answer))));
        told.recv().unwrap_or(Err(Failure::Stopping))
    }

    /// Calls `done` once this replica has applied everything that was committed anywhere when this
    /// was called (read index); `NoQuorum` after `op_timeout`.
    pub fn barrier(&self, done: Done) {
        let _ = done;
        todo!()
    }

    /// The tree as far as it is applied here. Hold it for microseconds: `apply` waits.
    pub fn tree(&self) -> parking_lot::RwLockReadGuard<'_, Tree> {
        todo!()
    }

    /// The session, while it may be believed.
    pub fn session(&self) -> Option<SessionId> {
        todo!()
    }

    /// The one listener (the mount) of this node's events. While there is none, every entry counts
    /// as visible when applied.
    pub fn subscribe(&self) -> Receiver<Event> {
        todo!()
    }

    /// The mount has carried every change up to `zxid` to its kernel.
    pub fn made_visible(&self, zxid: Zxid) {
        let _ = zxid;
        todo!()
    }

    pub fn id(&self) -> ReplicaId {
        todo!()
    }

    pub fn name(&self) -> &str {
        todo!()
    }

    pub fn data(&self) -> &std::path::Path {
        todo!()
    }

    pub fn members(&self) -> Vec<Member> {
        todo!()
    }

    pub fn status(&self) -> Status {
        todo!()
    }

    /// Counters and gauges in the Prometheus text format.
    pub fn metrics(&self) -> String {
        todo!()
    }

    /// The side channel for big things between replicas.
    pub fn bulk(&self) -> &crate::peers::bulk::Bulk {
        todo!()
    }

    /// Why the node stopped by itself (a failed disk, a digest that differs), once it has.
    pub fn failed(&self) -> Option<String> {
        todo!()
    }

    /// Ends the session, answers what waits with `Stopping`, syncs, joins the threads.
    pub fn stop(&self) {
        todo!()
    }
}
