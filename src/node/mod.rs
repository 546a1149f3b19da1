//! One replica in the real world: its threads and channels.
//!
//! ```text
//! asker --\                       /--> disk.persist (append, fdatasync) --> messages that waited
//! peers ----> inbox -> driver -------> peers (send)
//! timer --/     ^      (replica)  \--> tree (write lock), events, answers
//!               |                  \-> frozen tree -> snapshot file
//!               \---- Persisted, SnapshotWritten, ... ----/
//! ```

mod acquaintance;
mod address;
mod arrived;
mod belief;
mod clients;
mod clock;
mod driver;
mod identify;
mod metrics;
pub mod offline;
mod peer_handler;
mod persist;
mod recovery;
mod scrape;
mod seat;
mod shared;
mod snapshots;
mod start;
mod status;
mod tokens;

pub use crate::cluster::{Answer, Awaited, Cluster, Done, Event, Failure, MemberStatus, Status};
pub use crate::peers::identity::token::PREFIX as TOKEN_PREFIX;
pub use crate::tree::{Program, ReplicaId, TOKEN_LIFE_MAX, TokenTerms, TokenView};
pub use clients::NodeClient;
pub use seat::Departed;

use crate::cluster::Audience;
use crate::cluster::feed::Reader;
use crate::disk::FaultInjector;
use crate::error::Error;
use crate::peers::bulk::Bulk;
use crate::peers::identity::{Keyring, Token};
use crate::replica::MembersAnswer;
use crate::tree::{Command, Incarnation, Member, SessionId, Tree, Zxid};
use parking_lot::{Mutex, RwLockReadGuard};
use shared::{Job, Shared};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

/// The cluster's key in a data directory, where none is given: one that was made or granted there.
pub const KEY_FILE: &str = "key";

/// How to start a node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// This replica's name, also the host name of its session.
    pub name: String,
    /// What runs here: [`Program::this`], but in tests.
    pub program: Program,
    pub data: PathBuf,
    /// `HOST:PORT` to listen on and to be dialled at.
    pub listen: String,
    pub start: Start,
    /// The cluster's key file; `None`: the one in the data directory.
    pub key: Option<PathBuf>,
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
    /// A running cluster, by a token, which gives the key too.
    JoinByToken(Token),
    /// Only an existing data directory will do.
    Existing,
}

/// Cheap to clone; all clones are one node, which stops with the last of them.
#[derive(Clone)]
pub struct Node {
    running: Arc<Running>,
}

struct Running {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Node {
    /// Recovers the data directory, starts the threads, and returns at once; the first leader may
    /// take an election.
    pub fn start(config: NodeConfig) -> Result<Node, Error> {
        Node::start_with_faults(config, None)
    }

    /// [`Node::start`] on a disk that fails when `faults` says so. For tests.
    pub fn start_with_faults(
        config: NodeConfig,
        faults: Option<FaultInjector>,
    ) -> Result<Node, Error> {
        let (shared, threads) = start::start(config, faults)?;
        Ok(Node { running: Arc::new(Running { shared, threads: Mutex::new(threads) }) })
    }

    fn shared(&self) -> &Shared {
        &self.running.shared
    }

    pub fn id(&self) -> ReplicaId {
        self.shared().id
    }

    pub fn name(&self) -> &str {
        &self.shared().config.name
    }

    pub fn data(&self) -> &Path {
        &self.shared().data
    }

    /// The address book, as far as it is applied here.
    pub fn members(&self) -> Vec<Member> {
        self.shared().tree.read().members().to_vec()
    }

    /// Adds a replica to the cluster, without a vote until it has caught up; the members with it.
    /// Waits for the commit.
    pub fn add_member(
        &self,
        name: String,
        address: String,
        incarnation: Incarnation,
    ) -> MembersAnswer {
        let level = self.shared().config.program.level;
        let job = |answer| Job::AddMember { name, address, incarnation, level, answer };
        self.shared().change_members(job)
    }

    /// Removes a replica from the cluster for good. Waits for the commit.
    pub fn remove_member(&self, member: ReplicaId) -> MembersAnswer {
        self.shared().change_members(|answer| Job::RemoveMember { member, answer })
    }

    /// Lets another member lead. Waits until it does.
    pub fn transfer_leadership(&self, to: ReplicaId) -> MembersAnswer {
        self.shared().change_members(|answer| Job::TransferLeadership { to, answer })
    }

    /// The cluster's key file, which an operator may change while the node runs.
    pub fn key_file(&self) -> PathBuf {
        let config = &self.shared().config;
        config.key.clone().unwrap_or_else(|| config.data.join(KEY_FILE))
    }

    /// Reads the key file again: for a rotation.
    pub fn read_key_again(&self) -> Result<(), Error> {
        self.shared().peers.set_keyring(Keyring::read(&self.key_file())?)
    }

    /// The side channel for big things between replicas.
    pub fn bulk(&self) -> &Bulk {
        self.shared().peers.bulk()
    }

    /// Why the node stopped by itself (a failed disk, a digest that differs), once it has.
    pub fn failed(&self) -> Option<String> {
        self.shared().failed().cloned()
    }

    /// Whether it stopped because the cluster has no place for it as it is: a wiped or copied data
    /// directory, another cluster's.
    pub fn was_refused(&self) -> bool {
        self.shared().was_refused()
    }

    /// Whether it was started to found a cluster that it has not heard to be founded.
    pub fn is_founding(&self) -> bool {
        self.shared().identity.lock().cluster.is_none()
    }

    /// Ends the session, answers what waits with `Stopping`, syncs, joins the threads. The tree can
    /// still be read; the data directory is let go of with the last clone. Not to be called from a
    /// [`Done`].
    pub fn stop(&self) {
        self.running.stop();
    }
}

/// As the client of its own mount.
impl Cluster for Node {
    fn tree(&self) -> RwLockReadGuard<'_, Tree> {
        self.shared().tree.read()
    }

    fn session(&self) -> Option<SessionId> {
        self.shared().seat.belief.session()
    }

    fn await_session(&self, then: Awaited) {
        self.shared().await_session(&self.shared().seat, then);
    }

    fn submit(&self, session: SessionId, command: Command, done: Done) {
        self.shared().submit(session, command, done);
    }

    fn barrier(&self, done: Done) {
        self.shared().tell(Job::Barrier { done });
    }

    fn subscribe(&self, audience: Option<Arc<dyn Audience>>) -> Reader {
        self.shared().subscribe(&self.shared().seat, audience)
    }

    fn made_visible(&self, zxid: Zxid) {
        self.shared().made_visible(&self.shared().seat, zxid);
    }

    fn status(&self) -> Status {
        status::gather(self.shared(), &self.shared().seat)
    }

    fn metrics(&self) -> String {
        scrape::render(self.shared())
    }

    fn set_mounted(&self, mounted: bool) {
        self.shared().mounted.store(mounted, Ordering::Relaxed);
    }
}

impl Running {
    fn stop(&self) {
        let _ = self.shared.inbox.send(Job::Stop);
        for thread in std::mem::take(&mut *self.threads.lock()) {
            let _ = thread.join();
        }
        self.shared.peers.stop();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}
