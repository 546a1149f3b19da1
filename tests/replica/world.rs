//! A cluster of replicas in one thread: their disks, the wire between them, and one clock. Nothing
//! happens by itself; a script says what happens next.

use crate::disk::{Disk, Reader};
use keepfs::replica::*;
use keepfs::session::Client;
use keepfs::tree::{Command, LEVEL, Member, NameKey, Program, ReplicaId, Reply, Tree, TreeLimits};
use raft::eraftpb::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

pub const HEARTBEAT: u64 = 100_000_000;
pub const SECOND: u64 = 1_000_000_000;
/// Nanoseconds since the epoch when a world begins.
pub const EPOCH: u64 = 1_700_000_000 * SECOND;

pub struct Node {
    pub config: ReplicaConfig,
    /// `None`: crashed.
    pub replica: Option<Replica>,
    pub tree: Tree,
    pub disk: Arc<Mutex<Disk>>,
    /// Given to the disk and not yet durable.
    pub jobs: VecDeque<Persist>,
    /// Jobs wait for `persist`.
    pub slow: bool,
    /// Jobs become durable and their messages leave, but nobody is told for now.
    pub silent: bool,
    durable: u64,
    starts: u64,
}

pub struct Packet {
    pub from: u64,
    pub to: u64,
    pub message: PeerMessage,
    /// The bytes a snapshot's message follows.
    tree: Vec<u8>,
}

pub struct World {
    pub now: u64,
    pub nodes: BTreeMap<u64, Node>,
    pub wire: VecDeque<Packet>,
    /// Taken off the wire, to arrive much later: a crash of its sender or receiver loses none.
    pub kept: VecDeque<Packet>,
    /// Directions in which nothing passes.
    pub cut: BTreeSet<(u64, u64)>,
    /// Seconds by which a replica's wall clock is ahead.
    pub clocks: BTreeMap<u64, u64>,
    /// Show messages and persist jobs as well.
    pub trace: bool,
    pub out: String,
    leaders: BTreeMap<u64, (Option<ReplicaId>, u64)>,
    pub submitted: u64,
    /// Callers whose answers are not shown.
    pub unheard: BTreeSet<u64>,
    /// Changes that wait for a session, by their callers.
    awaiting: BTreeMap<u64, Command>,
    /// Clients between two replicas.
    pub travelling: BTreeMap<ClientId, Client>,
}

pub fn member(id: u64) -> Member {
    let (name, address) = (format!("n{id}"), format!("h{id}:1"));
    Member { id: ReplicaId(id), name, address, learner: false, incarnation: 1 }
}

fn config(id: u64, found: Option<u64>) -> ReplicaConfig {
    let limits = TreeLimits { file_bytes: 1 << 20, tree_bytes: 1 << 30, inodes: 1 << 20 };
    ReplicaConfig {
        id: ReplicaId(id),
        incarnation: 1,
        program: Program::default(),
        name: format!("n{id}"),
        heartbeat: HEARTBEAT,
        election_timeout: SECOND,
        session_timeout: 9 * SECOND,
        op_timeout: 10 * SECOND,
        visibility_timeout: SECOND / 5,
        log: LogBounds { window_entries: 16, tail_entries: 8, ..LogBounds::default() },
        seed: id,
        with_session: false,
        doubtful: false,
        found: found
            .map(|count| (7, (1..=count).map(member).collect(), limits, NameKey::new([1; 16]))),
    }
}

impl World {
    pub fn new() -> World {
        World {
            now: SECOND,
            nodes: BTreeMap::new(),
            wire: VecDeque::new(),
            kept: VecDeque::new(),
            cut: BTreeSet::new(),
            clocks: BTreeMap::new(),
            trace: false,
            out: String::new(),
            leaders: BTreeMap::new(),
            submitted: 0,
            unheard: BTreeSet::new(),
            awaiting: BTreeMap::new(),
            travelling: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, id: u64, found: Option<u64>, with_session: bool) {
        let node = Node {
            config: ReplicaConfig { with_session, ..config(id, found) },
            replica: None,
            tree: Tree::new(),
            disk: Arc::default(),
            jobs: VecDeque::new(),
            slow: false,
            silent: false,
            durable: 0,
            starts: 0,
        };
        self.nodes.insert(id, node);
        self.start(id);
    }

    fn moment(&self, id: u64) -> Moment {
        let ahead = self.clocks.get(&id).map_or(0, |secs| *secs) * SECOND;
        Moment { monotonic: self.now, wall: EPOCH + ahead + self.now }
    }

    /// Starts a replica on what its disk holds; of the log, the last four entries are in memory.
    pub fn start(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).expect("such a replica");
        node.starts += 1;
        node.config.seed = id + 1000 * node.starts;
        let mut disk = node.disk.lock().unwrap();
        disk.agree();
        let recovered = Recovered {
            hard_state: disk.hard_state.clone(),
            snapshot: disk.snapshot.clone(),
            first: disk.entries.first().map_or(1, |entry| entry.index),
            last: disk.entries.last().map_or(0, |entry| entry.index),
            tail: disk.entries.iter().rev().take(4).rev().cloned().collect(),
        };
        node.tree = match disk.trees.get(&disk.snapshot.index) {
            Some(bytes) => Tree::read_snapshot(&mut bytes.as_slice(), LEVEL).unwrap(),
            None => Tree::new(),
        };
        drop(disk);
        let reader = Box::new(Reader(node.disk.clone()));
        match Replica::new(node.config.clone(), recovered, reader) {
            Ok(mut replica) => {
                replica.restored(&node.tree);
                node.replica = Some(replica);
            }
            Err(error) => writeln!(self.out, "{id}: does not start: {error}").unwrap(),
        }
        self.settle(id);
    }

    /// Everything not durable is gone, jobs half done included.
    pub fn crash(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).expect("such a replica");
        (node.replica, node.slow, node.silent) = (None, false, false);
        node.jobs.clear();
        self.leaders.remove(&id);
        let on_its_way = std::mem::take(&mut self.wire);
        let concerns = |packet: &Packet| packet.from == id || packet.to == id;
        let (lost, left): (Vec<_>, Vec<_>) = on_its_way.into_iter().partition(concerns);
        self.wire = left.into();
        lost.into_iter().for_each(|packet| self.lose(packet));
    }

    /// A packet does not arrive. Of a snapshot, whose bytes go over a connection of their own, its
    /// sender is told.
    pub fn lose(&mut self, packet: Packet) {
        if let PeerMessage::Snapshot { .. } = packet.message {
            let to = ReplicaId(packet.to);
            self.step(packet.from, Input::SnapshotSent { to, ok: false });
        }
    }

    pub fn step(&mut self, id: u64, input: Input) {
        let now = self.moment(id);
        let node = self.nodes.get_mut(&id).expect("such a replica");
        if let Some(replica) = &mut node.replica {
            replica.step(now, input);
            self.settle(id);
        }
    }

    /// Asks for a change in the session that is believed, or in the next one.
    pub fn submit(&mut self, id: u64, caller: u64, command: Command) {
        self.submit_by(id, ClientId::OWN, caller, command);
    }

    /// [`World::submit`] of a client.
    pub fn submit_by(&mut self, id: u64, client: ClientId, caller: u64, command: Command) {
        let replica = self.nodes[&id].replica.as_ref();
        match replica.and_then(|replica| replica.session(client)) {
            Some(session) => self.step(id, Input::Submit { id: caller, session, command }),
            None => {
                self.awaiting.insert(caller, command);
                self.step(id, Input::AwaitSession { client, id: caller });
            }
        }
    }

    /// A client leaves a replica for another one.
    pub fn depart(&mut self, id: u64, client: ClientId) -> Option<Client> {
        let now = self.moment(id);
        let departed = self.nodes.get_mut(&id)?.replica.as_mut()?.depart(now, client);
        self.settle(id);
        departed
    }

    /// It comes there.
    pub fn arrive(&mut self, id: u64, at: ClientId, client: Client) {
        let now = self.moment(id);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(replica) = node.replica.as_mut() else { return };
        replica.arrive(now, at, client, &node.tree);
        self.settle(id);
    }

    /// Carries out all that a replica asks for now.
    fn settle(&mut self, id: u64) {
        let now = self.moment(id);
        while let Some(node) = self.nodes.get_mut(&id)
            && let Some(replica) = &mut node.replica
            && let Some(effects) = replica.ready(now)
        {
            self.carry_out(id, effects);
        }
        let node = &self.nodes[&id];
        if !node.slow && !node.jobs.is_empty() {
            self.persist(id);
        }
        self.note_leader(id);
    }

    fn carry_out(&mut self, id: u64, effects: Effects) {
        let Effects {
            events,
            send,
            persist,
            restore,
            committed,
            wants_snapshot,
            answers,
            members,
            fatal,
        } = effects;
        self.show_events(id, events);
        self.send(id, send);
        if let Some(job) = persist {
            if self.trace {
                writeln!(self.out, "{id}: persist {}", crate::show::job(&job)).unwrap();
            }
            self.nodes.get_mut(&id).expect("it runs").jobs.push_back(job);
        }
        if let Some(mark) = restore {
            self.restore(id, mark);
        }
        self.apply(id, committed);
        if wants_snapshot {
            writeln!(self.out, "{id}: wants a snapshot").unwrap();
        }
        for (caller, answer) in answers {
            if let Some(command) = self.awaiting.remove(&caller)
                && let Ok(Reply::Session { session }) = answer
            {
                self.step(id, Input::Submit { id: caller, session, command });
                continue;
            }
            if self.unheard.contains(&caller) && answer.is_ok() {
                continue;
            }
            writeln!(self.out, "{id}: #{caller} {}", crate::show::answer(&answer)).unwrap();
        }
        for (caller, answer) in members {
            writeln!(self.out, "{id}: #{caller} {}", crate::show::members(&answer)).unwrap();
        }
        if let Some(why) = fatal {
            writeln!(self.out, "{id}: stops: {why}").unwrap();
            self.crash(id);
        }
    }

    fn restore(&mut self, id: u64, mark: SnapshotMark) {
        let node = self.nodes.get_mut(&id).expect("it runs");
        let bytes = node.disk.lock().unwrap().trees[&mark.index].clone();
        node.tree = Tree::read_snapshot(&mut bytes.as_slice(), LEVEL).unwrap();
        node.replica.as_mut().expect("it runs").restored(&node.tree);
        writeln!(self.out, "{id}: restores the tree at {}", mark.index).unwrap();
        self.show_session(id);
    }

    /// What entries did to a replica's session.
    fn show_session(&mut self, id: u64) {
        let replica = self.nodes.get_mut(&id).and_then(|node| node.replica.as_mut());
        let events = replica.expect("it runs").take_session_events();
        self.show_events(id, events);
    }

    fn show_events(&mut self, id: u64, events: Vec<SessionEvent>) {
        for event in events {
            writeln!(self.out, "{id}: {}", crate::show::session(event)).unwrap();
        }
    }

    fn apply(&mut self, id: u64, committed: Vec<Entry>) {
        let node = self.nodes.get_mut(&id).expect("it runs");
        let shown: Vec<String> = committed.iter().map(crate::show::entry).collect();
        let batch = node.replica.as_mut().expect("it runs").apply(&mut node.tree, committed);
        if self.trace && !shown.is_empty() {
            writeln!(self.out, "{id}: apply {} to {}", shown.join(" "), batch.last).unwrap();
        }
        self.show_session(id);
    }

    fn send(&mut self, from: u64, messages: Vec<(ReplicaId, PeerMessage)>) {
        for (ReplicaId(to), message) in messages {
            if self.trace
                && !matches!(message, PeerMessage::Visible { .. } | PeerMessage::Clock { .. })
            {
                writeln!(self.out, "{from}->{to} {}", crate::show::message(&message)).unwrap();
            }
            let tree = match &message {
                PeerMessage::Snapshot { index, .. } => {
                    self.nodes[&from].disk.lock().unwrap().trees[index].clone()
                }
                _ => Vec::new(),
            };
            self.wire.push_back(Packet { from, to, message, tree });
        }
    }

    /// All jobs that wait become durable.
    pub fn persist(&mut self, id: u64) {
        let jobs = std::mem::take(&mut self.nodes.get_mut(&id).expect("such a replica").jobs);
        let Some(number) = jobs.back().map(|job| job.number) else { return };
        for job in jobs {
            self.nodes[&id].disk.lock().unwrap().write(&job);
            self.send(id, job.after);
        }
        let node = self.nodes.get_mut(&id).expect("it is there");
        node.durable = number;
        if !node.silent {
            self.step(id, Input::Persisted { number });
        }
    }

    /// A silent disk says what is durable.
    pub fn report(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).expect("it is there");
        node.silent = false;
        let number = node.durable;
        self.step(id, Input::Persisted { number });
    }

    /// Hands the first packet on the wire over that `wanted` lets through. False: there is none.
    pub fn deliver_one(&mut self, wanted: impl Fn(&Packet) -> bool) -> bool {
        let Some(place) = self.wire.iter().position(wanted) else { return false };
        let Packet { from, to, message, tree } = self.wire.remove(place).expect("it is there");
        let reachable = self.nodes.get(&to).is_some_and(|node| node.replica.is_some());
        let passes = reachable && !self.cut.contains(&(from, to));
        match message {
            PeerMessage::Snapshot { index, message, .. } => {
                if passes {
                    self.nodes[&to].disk.lock().unwrap().trees.insert(index, tree);
                    self.step(to, Input::SnapshotArrived { from: ReplicaId(from), message });
                }
                self.step(from, Input::SnapshotSent { to: ReplicaId(to), ok: passes });
            }
            message if passes => self.step(to, Input::Received { from: ReplicaId(from), message }),
            _ => {}
        }
        true
    }

    /// Delivers everything, and what comes of it.
    pub fn stabilize(&mut self) {
        while self.deliver_one(|_| true) {}
    }

    /// A heartbeat passes, on these replicas.
    pub fn tick(&mut self, ids: &[u64]) {
        self.now += HEARTBEAT;
        for id in ids {
            self.step(*id, Input::Tick);
        }
    }

    pub fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    /// A snapshot of the tree as it is becomes durable.
    pub fn snapshot(&mut self, id: u64) {
        let node = &self.nodes[&id];
        let mark = node.replica.as_ref().expect("it runs").applied();
        let mut bytes = Vec::new();
        node.tree.write_snapshot(&mut bytes).unwrap();
        let mut disk = node.disk.lock().unwrap();
        disk.trees.insert(mark.index, bytes);
        disk.snapshot = mark.clone();
        drop(disk);
        self.step(id, Input::SnapshotTaken { mark });
    }

    fn note_leader(&mut self, id: u64) {
        let Some(replica) = &self.nodes[&id].replica else { return };
        let status = replica.status();
        let believed = (status.leader, status.term);
        let old = self.leaders.insert(id, believed);
        if old.map(|old| old.0) == Some(believed.0)
            && (old == Some(believed) || believed.0.is_none())
        {
            return;
        }
        match believed.0 {
            Some(leader) if leader.0 == id => {
                writeln!(self.out, "{id}: leads term {}", status.term).unwrap()
            }
            Some(leader) => {
                writeln!(self.out, "{id}: follows {leader} in term {}", status.term).unwrap()
            }
            None if old.is_some() => writeln!(self.out, "{id}: knows no leader").unwrap(),
            None => {}
        }
    }
}
