//! What the threads of one node share.

use super::arrived::Arrived;
use super::metrics::Metrics;
use super::seat::{Departed, Seat};
use super::{Awaited, Done, NodeConfig};
use crate::cluster::Audience;
use crate::cluster::feed::{Feed, Reader};
use crate::disk::{DataDirectory, Disk, Identity, Snapshots, Starts};
use crate::limits::CHANGES_UNHEARD_MAX;
use crate::mailbox::Mailbox;
use crate::panics;
use crate::peers::Peers;
use crate::replica::{
    Answer, ClientId, Failure, Input, MembersAnswer, PeerMessage, Persist, ReplicaStatus,
    SnapshotMark,
};
use crate::tree::{Command, Incarnation, Level, Name, ReplicaId, Reply, SessionId, Tree};
use crossbeam_channel::Sender;
use log::error;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

/// For a leader to be found, and a membership change to commit.
const MEMBERSHIP_TIMEOUT: Duration = Duration::from_secs(20);

pub struct Shared {
    pub config: NodeConfig,
    pub id: ReplicaId,
    /// Absolute.
    pub data: PathBuf,
    pub directory: DataDirectory,
    /// As the file in the directory has it.
    pub identity: Mutex<Identity>,
    pub starts: Starts,
    pub disk: Arc<dyn Disk>,
    pub snapshots: Snapshots,
    pub peers: Peers,
    pub tree: RwLock<Tree>,
    /// To the driver.
    pub inbox: Mailbox<Job>,
    /// To the disk's thread.
    pub persist: Mailbox<Persist>,
    /// To the thread that writes snapshots.
    pub frozen: Mailbox<(SnapshotMark, Tree)>,
    /// The newest snapshot that came from a peer, until it is announced.
    pub arrived: Mutex<Option<Arrived>>,
    /// The node's own client.
    pub seat: Arc<Seat>,
    /// How many clients there were.
    pub clients: AtomicU64,
    pub feed: Feed,
    /// The driver will look by itself at what clients show.
    pub visible_told: AtomicBool,
    /// A mount serves the tree on this host.
    pub mounted: AtomicBool,
    /// As of the last tick.
    pub status: Mutex<ReplicaStatus>,
    pub metrics: Metrics,
    /// The members that say they belong to another cluster.
    pub strangers: Mutex<BTreeSet<ReplicaId>>,
    failed: OnceLock<String>,
    refused: AtomicBool,
}

/// All that the driver is told.
pub enum Job {
    Input(Input),
    Submit {
        session: SessionId,
        command: Command,
        done: Done,
    },
    /// A client is here from now on.
    Attach {
        seat: Arc<Seat>,
        name: Name,
    },
    Arrive {
        seat: Arc<Seat>,
        departed: Box<Departed>,
    },
    Depart {
        client: ClientId,
        answer: Sender<Departed>,
    },
    /// A client leaves for good.
    Detach {
        client: ClientId,
    },
    AwaitSession {
        client: ClientId,
        done: Done,
    },
    Barrier {
        done: Done,
    },
    Received {
        from: ReplicaId,
        messages: Vec<PeerMessage>,
    },
    Persisted {
        number: u64,
    },
    AddMember {
        name: String,
        address: String,
        incarnation: Incarnation,
        level: Level,
        answer: Sender<MembersAnswer>,
    },
    RemoveMember {
        member: ReplicaId,
        answer: Sender<MembersAnswer>,
    },
    TransferLeadership {
        to: ReplicaId,
        answer: Sender<MembersAnswer>,
    },
    /// A snapshot of these bytes is on disk, or could not be written.
    SnapshotWritten {
        mark: SnapshotMark,
        bytes: Option<u64>,
    },
    /// The reader misses nothing from when it is handed over.
    Subscribe {
        seat: Arc<Seat>,
        audience: Option<Arc<dyn Audience>>,
        reader: Sender<Reader>,
    },
    /// Something other than the inbox wants to be looked at.
    Look,
    Stop,
}

/// The parts of [`Shared`] that are there from the start.
pub struct Parts {
    pub config: NodeConfig,
    pub id: ReplicaId,
    pub directory: DataDirectory,
    pub disk: Arc<dyn Disk>,
    pub snapshots: Snapshots,
    pub peers: Peers,
    pub tree: Tree,
    pub status: ReplicaStatus,
    pub identity: Identity,
    pub starts: Starts,
}

impl Shared {
    pub fn new(parts: Parts) -> Shared {
        let path = parts.directory.path();
        let data = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let feed = Feed::new(parts.tree.zxid(), CHANGES_UNHEARD_MAX);
        Shared {
            config: parts.config,
            id: parts.id,
            data,
            directory: parts.directory,
            identity: Mutex::new(parts.identity),
            starts: parts.starts,
            disk: parts.disk,
            snapshots: parts.snapshots,
            peers: parts.peers,
            tree: RwLock::new(parts.tree),
            inbox: Mailbox::default(),
            persist: Mailbox::default(),
            frozen: Mailbox::default(),
            arrived: Mutex::new(None),
            seat: Arc::new(Seat::new(ClientId::OWN)),
            clients: AtomicU64::new(ClientId::OWN.0 + 1),
            feed,
            visible_told: AtomicBool::new(false),
            mounted: AtomicBool::new(false),
            status: Mutex::new(parts.status),
            metrics: Metrics::default(),
            strangers: Mutex::default(),
            failed: OnceLock::new(),
            refused: AtomicBool::new(false),
        }
    }

    /// This replica stops for good: it votes, stores and answers nothing any more.
    pub fn fail(&self, why: String) {
        if self.failed.set(why.clone()).is_ok() {
            error!("this replica stops: {why}");
        }
        let _ = self.inbox.send(Job::Look);
    }

    /// The same, because the cluster has no place for this replica as it is.
    pub fn refused(&self, why: String) {
        self.refused.store(true, Ordering::Release);
        self.fail(why);
    }

    pub fn was_refused(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }

    pub fn failed(&self) -> Option<&String> {
        self.failed.get()
    }

    /// Hands a job to the driver; a job that asks for something is refused once it is gone.
    pub fn tell(&self, job: Job) {
        if let Err(job) = self.inbox.send(job) {
            refuse(job);
        }
    }

    /// What [`super::Node::await_session`] does.
    pub fn await_session(&self, seat: &Seat, then: Awaited) {
        if let Some(session) = seat.belief.session() {
            return then(Ok(session));
        }
        let done = |answer: Answer| match answer {
            Ok(Reply::Session { session }) => then(Ok(session)),
            Ok(_) => then(Err(Failure::SessionLost)),
            Err(failure) => then(Err(failure)),
        };
        self.tell(Job::AwaitSession { client: seat.id, done: Box::new(done) });
    }

    pub fn wait_for_session(&self, seat: &Seat) -> Result<SessionId, Failure> {
        let (tell, told) = crossbeam_channel::bounded(1);
        self.await_session(
            seat,
            Box::new(move |opened| {
                let _ = tell.send(opened);
            }),
        );
        told.recv().unwrap_or(Err(Failure::Stopping))
    }

    /// Queues a message to a peer; [`Peers::flush`] sends it. An overfull queue counts as
    /// unreachable.
    pub fn queue(&self, to: ReplicaId, message: PeerMessage) {
        if !self.peers.queue(to, message) {
            let _ = self.inbox.send(Job::Input(Input::Unreachable { peer: to }));
        }
    }

    /// Starts a thread of the node; should it panic, and the process not end by that
    /// ([`panics::end_the_process`]), the node fails.
    pub fn spawn(
        self: &Arc<Shared>,
        name: &str,
        run: impl FnOnce(&Arc<Shared>) + Send + 'static,
    ) -> Result<JoinHandle<()>, crate::error::Error> {
        let shared = self.clone();
        let thread = name.to_string();
        std::thread::Builder::new()
            .name(thread.clone())
            .spawn(move || {
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(&shared))) {
                    shared.fail(format!("the {thread} thread panicked: {}", panics::text(&*panic)));
                }
            })
            .map_err(|error| crate::error::Error::Other(format!("cannot start a thread: {error}")))
    }

    /// Asks for a membership change and waits for the answer.
    pub fn change_members(&self, job: impl FnOnce(Sender<MembersAnswer>) -> Job) -> MembersAnswer {
        let (answer, answered) = crossbeam_channel::bounded(1);
        self.tell(job(answer));
        answered.recv_timeout(MEMBERSHIP_TIMEOUT).unwrap_or_else(|_| {
            Err("no answer: the cluster has no leader, or this replica stops; `keepfs status` says \
                 who is missing, `keepfs recover --help` what is left if they are lost for good"
                .into())
        })
    }
}

/// Answers a job that came too late.
pub fn refuse(job: Job) {
    match job {
        Job::Submit { done, .. } | Job::AwaitSession { done, .. } | Job::Barrier { done } => {
            done(Err(Failure::Stopping));
        }
        Job::AddMember { answer, .. }
        | Job::RemoveMember { answer, .. }
        | Job::TransferLeadership { answer, .. } => {
            let _ = answer.send(Err("this replica is stopping".into()));
        }
        _ => {}
    }
}
