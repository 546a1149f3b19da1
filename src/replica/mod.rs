//! Pure: everything one replica decides. raft-rs around the tree, proposals and their answers,
//! sessions' liveness, visibility, membership, digests. No thread, socket, file, clock or chance:
//! time and ids come in as arguments, so that one seed replays one history.
//!
//! The driver (`node/driver.rs`, or `sim/`) does, for ever:
//!
//! ```text
//! replica.step(now, input)                       for every input that waits
//! while let Some(effects) = replica.ready(now)   carry them out, in the order of the fields
//!     batch = replica.apply(&mut tree, effects.committed)
//! ```
//!
//! What raft-rs is promised in return for its Ready, and where the promise is kept, is in
//! `ready.rs`. Everything that waits for time is looked at in `tick.rs`; what entries do, in
//! `apply.rs`.

mod acquaintance;
mod admission;
mod agreement;
mod apply;
mod chance;
mod clocks;
mod complaints;
mod departure;
mod digest;
mod doubt;
mod effects;
pub mod entry;
mod guard;
mod hub;
mod input;
mod leadership;
mod levels;
mod log;
mod membership;
mod message;
mod persistence;
mod reach;
mod reads;
mod ready;
mod sessions;
mod start;
mod status;
mod step;
mod terms;
mod tick;
mod visibility;
mod wishes;
mod work;

pub use crate::session::{Answer, ClientId, Failure};
pub use crate::tree::{Applied, Batch};
pub use acquaintance::{Meeting, keep_met};
pub use effects::{Effects, Fatal, MembersAnswer, Persist, SessionEvent};
pub use input::{Input, LogBounds, LogReader, Moment, Recovered, ReplicaConfig, SnapshotMark};
pub use message::PeerMessage;
pub use status::ReplicaStatus;

use crate::error::Error;
use crate::mix::mix;
use crate::session::Client;
use crate::tree::{Command, Proposal, ReplicaId, SessionId, Stamp, Zxid};
use raft::RawNode;
use raft::eraftpb::Message;
use std::collections::BTreeMap;

/// One replica: raft, and what keepfs adds to it. The tree is the driver's, lent for applying.
pub struct Replica {
    config: ReplicaConfig,
    now: Moment,
    raw: RawNode<log::Window>,
    leadership: leadership::Leadership,
    persistence: persistence::Persistence,

    hub: hub::Hub,
    /// Proposals of other replicas that came since the last Ready.
    forwarded: Vec<(ReplicaId, Proposal)>,
    /// The replica's own commands, proposed without a session.
    own_commands: Vec<Command>,
    work: work::Work,
    /// The newest stamp given or seen.
    last_stamp: Stamp,
    clocks: clocks::Clocks,
    /// Answers to be told by the next Ready, if their session's claims are not void by then.
    answering: Vec<(SessionId, u64, Answer)>,
    sessions: sessions::SessionTable,
    /// Sets what this process asks others apart from what earlier ones of this replica asked.
    process: u64,
    reads: reads::Reads,
    visibility: visibility::Visibility,
    membership: membership::Membership,
    levels: levels::Levels,
    /// Whether this replica may have forgotten what it promised.
    doubt: doubt::Doubt,
    /// Removed, by the own log's word: when to ask again whether it may stop.
    removed: Option<u64>,
    /// About to stop, and led when it was told so.
    resigning: bool,
    digests: digest::Digests,
    /// Trees differ, and nobody knows which is right: what to tell.
    dispute: Option<String>,
    outvoted: Option<agreement::Outvoted>,

    /// Where the tree stands.
    applied: (Zxid, u64),
    /// Whether [`Replica::restored`] was told of the tree.
    knows_tree: bool,
    /// Whether the tree has a cluster id.
    founded: bool,
    /// The term in which this leader proposed one.
    founding_term: u64,
    reach: reach::Reach,
    complaints: complaints::Complaints,
    /// When each peer was last heard.
    heard: BTreeMap<ReplicaId, u64>,
    /// Vote answers that came before the own log was durable.
    early_votes: BTreeMap<ReplicaId, Message>,
    next_tick: u64,
    /// The commit index shall be written, even if nothing else takes it along.
    flush_commit: bool,
    /// What the next [`Replica::ready`] hands out.
    outbox: Effects,
    /// After [`Effects::fatal`] nothing comes out any more.
    stopped: bool,
}

impl Replica {
    /// Nothing is sent or proposed before the first step. `Error::Configuration` or `Error::Other`
    /// if the settings or what the disk knew make no sense.
    pub fn new(
        config: ReplicaConfig,
        recovered: Recovered,
        log: Box<dyn LogReader>,
    ) -> Result<Replica, Error> {
        let hard_state = recovered.hard_state.clone();
        let applied = (recovered.snapshot.index, recovered.snapshot.term);
        let (raw, founding) = start::open(&config, recovered, log)?;
        let process = mix(config.seed, raw.raft.raft_log.last_index());
        let with_session = config.with_session;
        let mut replica = Replica {
            now: Moment::default(),
            leadership: leadership::Leadership::none(0),
            persistence: persistence::Persistence::new(hard_state, founding),
            hub: hub::Hub::default(),
            forwarded: Vec::new(),
            own_commands: Vec::new(),
            work: Default::default(),
            last_stamp: 0,
            clocks: clocks::Clocks::default(),
            answering: Vec::new(),
            sessions: sessions::SessionTable::default(),
            process,
            reads: reads::Reads::new(process),
            visibility: visibility::Visibility::new(&config),
            membership: membership::Membership::of(config.id, config.incarnation),
            levels: levels::Levels::default(),
            doubt: doubt::Doubt::new(config.doubtful),
            removed: None,
            resigning: false,
            digests: digest::Digests::default(),
            dispute: None,
            outvoted: None,
            applied,
            knows_tree: false,
            founded: false,
            founding_term: 0,
            reach: reach::Reach::new(config.id.0),
            complaints: complaints::Complaints::default(),
            heard: BTreeMap::new(),
            early_votes: BTreeMap::new(),
            next_tick: 0,
            flush_commit: false,
            outbox: Effects::default(),
            stopped: false,
            config,
            raw,
        };
        if with_session {
            replica.attach(ClientId::OWN, b"");
        }
        Ok(replica)
    }

    /// Where the tree stands after the last [`Replica::apply`]: the mark of a snapshot taken of it
    /// now.
    pub fn applied(&self) -> SnapshotMark {
        let mut conf = self.raw.raft.prs().conf().to_conf_state();
        conf.voters.sort_unstable();
        conf.learners.sort_unstable();
        SnapshotMark { index: self.applied.0, term: self.applied.1, conf }
    }

    /// A client's session, while it may be believed.
    pub fn session(&self, client: ClientId) -> Option<SessionId> {
        self.hub.client(client)?.session()
    }

    /// Until when [`Replica::session`] may be believed if nothing more is heard, on the clock of
    /// [`Moment::monotonic`]; 0 if there is none.
    pub fn session_deadline(&self, client: ClientId) -> u64 {
        self.hub.client(client).map_or(0, Client::deadline)
    }

    /// The clients whose deadline has been put off since this was last called.
    pub fn take_extended(&mut self) -> Vec<ClientId> {
        self.hub.take_extended()
    }

    /// What became of sessions in the last [`Replica::apply`] or [`Replica::restored`]: to be
    /// heard of before the changes, for no lock of a lost session may be handed out.
    pub fn take_session_events(&mut self) -> Vec<SessionEvent> {
        std::mem::take(&mut self.outbox.events)
    }

    /// Takes note of the time, which never runs backwards here. Whatever comes next happens after
    /// the deadlines that have passed.
    fn at(&mut self, now: Moment) {
        if self.now == Moment::default() {
            self.leadership.since = now.monotonic;
        }
        self.now.monotonic = self.now.monotonic.max(now.monotonic);
        self.now.wall = now.wall;
        self.reach.look(self.raw.raft.term, self.now.monotonic, self.config.heartbeat);
        self.lapse_sessions();
    }

    fn send(&mut self, to: ReplicaId, message: PeerMessage) {
        self.outbox.send.push((to, message));
    }

    fn answer(&mut self, id: u64, answer: Answer) {
        self.outbox.answers.push((id, answer));
    }

    /// This replica must stop; the first reason counts.
    fn fail(&mut self, why: String) {
        self.outbox.fatal.get_or_insert(Fatal::Broken(why));
    }

    /// The members as raft has them, this one excepted, in order.
    fn peers(&self) -> Vec<ReplicaId> {
        let ids = self.raw.raft.prs().iter().map(|(id, _)| ReplicaId(*id));
        let mut peers: Vec<ReplicaId> = ids.filter(|id| *id != self.config.id).collect();
        peers.sort();
        peers
    }
}
