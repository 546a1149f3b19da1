//! The replica's thread: takes all inputs that wait, steps them, and carries out what comes of it.
//! Everything that arrives while it works is one batch, and so becomes one append and one sync.

mod clients;
mod farewell;
mod place;
mod restore;
mod subscriber;

use super::arrived::Arrived;
use super::seat::Seat;
use super::shared::{Job, Shared, refuse};
use super::snapshots::{self, Trigger};
use super::{Done, acquaintance, clock};
use crate::mailbox::Taken;
use crate::replica::{
    Batch, ClientId, Effects, Failure, Fatal, Input, MembersAnswer, Moment, PeerMessage, Replica,
    ReplicaStatus, SnapshotMark,
};
use crate::tree::{Change, Member, ReplicaId, Tree, Zxid};
use crossbeam_channel::Sender;
use farewell::Farewell;
use log::{info, warn};
use raft::eraftpb::Entry;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::Instant;
use subscriber::Listener;

/// The owner of the replica.
pub struct Driver {
    shared: Arc<Shared>,
    replica: Replica,
    next_id: u64,
    asked: HashMap<u64, Done>,
    members_asked: HashMap<u64, Sender<MembersAnswer>>,
    /// The mounts that read the feed.
    listeners: BTreeMap<ClientId, Listener>,
    /// How far the feed has been told.
    published: Zxid,
    trigger: Trigger,
    /// Announced to the replica since it was last asked what to do.
    arrived: Vec<Arrived>,
    seats: BTreeMap<ClientId, Arc<Seat>>,
    /// As of the last tick.
    leads: bool,
    next_tick: Instant,
    /// When the data directory's place was last written.
    placed: Instant,
    farewell: Option<Farewell>,
}

impl Driver {
    pub fn new(shared: Arc<Shared>, mut replica: Replica) -> Driver {
        replica.restored(&shared.tree.read());
        let trigger = Trigger::new(&shared);
        Driver {
            replica,
            next_id: 0,
            asked: HashMap::new(),
            members_asked: HashMap::new(),
            listeners: BTreeMap::new(),
            published: 0,
            trigger,
            arrived: Vec::new(),
            seats: BTreeMap::from([(ClientId::OWN, Arc::clone(&shared.seat))]),
            shared,
            leads: false,
            next_tick: Instant::now(),
            placed: Instant::now(),
            farewell: None,
        }
    }

    /// Runs until the node stops or fails.
    pub fn run(mut self) {
        self.learn_members();
        self.step_met(clock::now());
        // What is committed is applied before the first tick: the only voter campaigns in it.
        self.carry_out_all(clock::now());
        let mut jobs = Vec::new();
        while self.shared.failed().is_none() && !self.has_parted() {
            if self.shared.inbox.take(&mut jobs, Some(self.next_tick)) == Taken::Closed {
                break;
            }
            let now = clock::now();
            for job in jobs.drain(..) {
                self.handle(now, job);
            }
            self.tick(now);
            self.go_on_parting(now);
            self.pass_on_visible(now);
            self.carry_out_all(now);
            self.extend_belief();
        }
        self.end();
    }

    fn carry_out_all(&mut self, now: Moment) {
        while let Some(effects) = self.replica.ready(now) {
            self.carry_out(effects);
            if self.shared.failed().is_some() {
                return;
            }
        }
        self.arrived.clear();
        self.shared.peers.flush();
    }

    fn handle(&mut self, now: Moment, job: Job) {
        match job {
            Job::Input(input) => self.replica.step(now, input),
            Job::Submit { session, command, done } => {
                let id = self.remember(done);
                self.replica.step(now, Input::Submit { id, session, command });
            }
            Job::Attach { seat, name } => {
                let client = seat.id;
                self.seats.insert(client, seat);
                self.replica.step(now, Input::Attach { client, name });
            }
            Job::Arrive { seat, departed } => self.arrive(now, seat, *departed),
            Job::Depart { client, answer } => {
                if let Some(departed) = self.depart(now, client) {
                    let _ = answer.send(departed);
                }
            }
            Job::Detach { client } => {
                self.seats.remove(&client);
                let id = self.remember(Box::new(|_| {}));
                self.replica.step(now, Input::EndSession { client, id });
            }
            Job::AwaitSession { client, done } => {
                let id = self.remember(done);
                self.replica.step(now, Input::AwaitSession { client, id });
            }
            Job::Barrier { done } => {
                let id = self.remember(done);
                self.replica.step(now, Input::Barrier { id });
            }
            Job::Received { from, messages } => {
                for message in messages {
                    self.receive(now, from, message);
                }
            }
            Job::Persisted { number } => self.replica.step(now, Input::Persisted { number }),
            Job::AddMember { name, address, incarnation, level, answer } => {
                let id = self.remember_members(answer);
                let ask = Input::AddMember { id, name, address, incarnation, level };
                self.replica.step(now, ask);
            }
            Job::TransferLeadership { to, answer } => {
                let id = self.remember_members(answer);
                self.replica.step(now, Input::TransferLeadership { id, to });
            }
            Job::RemoveMember { member, answer } => {
                let id = self.remember_members(answer);
                self.replica.step(now, Input::RemoveMember { id, member });
            }
            Job::SnapshotWritten { mark, bytes } => {
                self.trigger.written(bytes);
                if bytes.is_some() {
                    self.replica.step(now, Input::SnapshotTaken { mark });
                }
            }
            Job::Subscribe { seat, audience, reader } => {
                self.subscribe(now, seat, audience, &reader);
            }
            Job::Look => {}
            Job::Stop => self.say_farewell(now),
        }
    }

    fn remember(&mut self, done: Done) -> u64 {
        self.next_id += 1;
        self.asked.insert(self.next_id, done);
        self.next_id
    }

    fn remember_members(&mut self, answer: Sender<MembersAnswer>) -> u64 {
        self.next_id += 1;
        self.members_asked.insert(self.next_id, answer);
        self.next_id
    }

    fn receive(&mut self, now: Moment, from: ReplicaId, message: PeerMessage) {
        match message {
            PeerMessage::Snapshot { index, term, message } => {
                match self.shared.arrived.lock().take_if(|arrived| arrived.is(from, index, term)) {
                    Some(arrived) => {
                        self.arrived.push(arrived);
                        self.replica.step(now, Input::SnapshotArrived { from, message });
                    }
                    None => warn!("snapshot {index} of replica {from} is announced but not here"),
                }
            }
            message => self.replica.step(now, Input::Received { from, message }),
        }
    }

    fn tick(&mut self, now: Moment) {
        let at = Instant::now();
        if at >= self.next_tick {
            self.replica.step(now, Input::Tick);
            self.next_tick = at + self.shared.config.heartbeat / 2;
            self.review_readers();
            let shared = &self.shared;
            shared.peers.review_mounts(|token| shared.tree.read().admits_mounts(token));
            self.show(self.replica.status());
        }
    }

    /// Puts the status where others read it, and says who leads when that changes.
    fn show(&mut self, status: ReplicaStatus) {
        let mut published = self.shared.status.lock();
        let was_in_doubt = published.doubt.is_some();
        if published.leader != status.leader {
            match status.leader {
                Some(leader) => info!("replica {leader} leads, in term {}", status.term),
                None => info!("no leader is known, in term {}", status.term),
            }
        }
        let in_doubt = status.doubt.is_some();
        *published = status;
        drop(published);
        if !in_doubt {
            self.keep_place(was_in_doubt);
        }
    }

    fn carry_out(&mut self, effects: Effects) {
        for event in effects.events {
            self.announce(event);
        }
        for (to, message) in effects.send {
            match message {
                PeerMessage::Snapshot { index, term, message } => {
                    snapshots::send(&self.shared, to, index, term, message);
                }
                message => self.shared.queue(to, message),
            }
        }
        // The log begins anew after it: it has to be there before.
        let restored = match effects.restore.map(|mark| self.adopt(&mark)).transpose() {
            Ok(restored) => restored,
            Err(why) => {
                return self.shared.fail(format!("cannot keep the leader's snapshot: {why}"));
            }
        };
        let persists = effects.persist.is_some();
        if let Some(persist) = effects.persist {
            let _ = self.shared.persist.send(persist);
        }
        // A leader's followers shall write while it writes, and apply while it applies. What a
        // follower says can wait for what it will say when it has applied.
        if persists || self.leads {
            self.shared.peers.flush();
        }
        if let Some(tree) = restored {
            self.restore(tree);
        }
        if !effects.committed.is_empty() {
            self.apply(effects.committed);
        }
        if effects.wants_snapshot && self.trigger.force() {
            self.freeze();
        }
        for (id, answer) in effects.answers {
            if let Some(done) = self.asked.remove(&id) {
                self.shared.metrics.answered(&answer);
                done(answer);
            }
        }
        for (id, answer) in effects.members {
            if let Some(asker) = self.members_asked.remove(&id) {
                let _ = asker.send(answer);
            }
        }
        match effects.fatal {
            Some(Fatal::Broken(why)) => self.shared.fail(why),
            Some(Fatal::Newer(why)) => self.shared.refused(why),
            Some(Fatal::Removed) => self.shared.refused(format!(
                "{} was removed from the cluster, and its data directory is of no use any more; to \
                 let this host join anew, start it with an empty one and --join",
                self.shared.config.name
            )),
            None => {}
        }
    }

    fn apply(&mut self, committed: Vec<Entry>) {
        let entries = committed.len() as u64;
        let bytes: u64 = committed.iter().map(|entry| entry.data.len() as u64).sum();
        let shared = Arc::clone(&self.shared);
        let batch = {
            let mut tree = shared.tree.write();
            let batch = self.replica.apply(&mut tree, committed);
            self.announce_session();
            batch
        };
        shared.metrics.applied(entries);
        self.publish(batch);
        if self.trigger.is_due(entries, bytes) {
            self.freeze();
        }
    }

    fn freeze(&self) {
        let frozen = (self.replica.applied(), self.shared.tree.read().clone());
        let _ = self.shared.frozen.send(frozen);
    }

    fn adopt(&mut self, mark: &SnapshotMark) -> io::Result<Tree> {
        let place = self.arrived.iter().position(|arrived| arrived.stands_at(mark));
        let place = place.expect("only what has arrived is restored");
        self.arrived.swap_remove(place).adopt()
    }

    fn publish(&mut self, batch: Batch) {
        let members = |change: &Change| matches!(change, Change::Members);
        if batch.reset || batch.applied.iter().any(|applied| applied.changes.iter().any(members)) {
            self.learn_members();
        }
        self.show_at_once(&batch);
        self.published = batch.last;
        self.shared.feed.publish(batch);
    }

    /// The address book and the cluster's id follow the tree, here and in the identity file.
    fn learn_members(&mut self) {
        let (members, cluster) = {
            let tree = self.shared.tree.read();
            (tree.members().to_vec(), tree.cluster())
        };
        if let Some(cluster) = cluster
            && let Err(error) = self.shared.peers.set_cluster(cluster)
        {
            self.shared.fail(error.to_string());
        }
        let members = acquaintance::learn(&self.shared, cluster, members);
        if !members.is_empty()
            && let Err(error) = self.shared.peers.set_members(members, self.shared.clone())
        {
            warn!("{error}");
        }
    }

    /// The founders that were heard before this start.
    fn step_met(&mut self, now: Moment) {
        let members = self.shared.identity.lock().members.clone();
        for Member { id: peer, incarnation, .. } in members {
            if incarnation != 0 {
                self.replica.step(now, Input::Met { peer, incarnation });
            }
        }
    }

    fn end(mut self) {
        self.seats.values().for_each(|seat| seat.belief.end());
        for (_, done) in self.asked.drain() {
            done(Err(Failure::Stopping));
        }
        self.shared.feed.end();
        self.shared.inbox.close();
        let mut late = Vec::new();
        while self.shared.inbox.take(&mut late, None) == Taken::Items {
            late.drain(..).for_each(refuse);
        }
        self.shared.persist.close();
        self.shared.frozen.close();
    }
}
