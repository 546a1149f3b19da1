//! How a host's inputs become effects, and its effects events.

use super::WORK_IN_ONE_ENTRY;
use super::cluster::{Event, World};
use super::disk::Snapshot;
use super::host::Host;
use super::network::Fate;
use super::scene::{Action, Request, Scene};
use super::travellers::FIRST_QUESTION;
use super::workload::Workload;
use super::{MICROSECOND, MILLISECOND};
use crate::replica::{
    Batch, ClientId, Effects, Input, Meeting, PeerMessage, Persist, SessionEvent,
};
use crate::tree::{ReplicaId, Reply, Tree, Zxid};
use protobuf::Message as _;
use raft::eraftpb::Message;
use std::io::ErrorKind;

impl World {
    /// Gives a replica one input, and does what it asks until it asks for nothing more.
    pub fn step(&mut self, host: usize, input: Input) {
        let moment = self.hosts[host].read_clock(self.now);
        let Some(running) = &mut self.hosts[host].running else { return };
        running.replica.step(moment, input);
        while let Some(running) = &mut self.hosts[host].running
            && let Some(effects) = running.replica.ready(moment)
        {
            self.carry_out(host, effects);
        }
        if let Some(running) = &self.hosts[host].running
            && running.replica.doubt().is_none()
        {
            self.hosts[host].doubtful = false;
        }
        if let Some(snapshot) = self.hosts[host].take_snapshot(self.settings.snapshot_every) {
            let boot = self.hosts[host].boot;
            let delay = self.dice.between(MILLISECOND, 300 * MILLISECOND);
            self.at(delay, Event::SnapshotWritten { host, boot, snapshot });
        }
    }

    /// In the order of the fields, as [`Effects`] demands.
    fn carry_out(&mut self, host: usize, effects: Effects) {
        for event in effects.events {
            self.session_event(host, event);
        }
        for (to, message) in effects.send {
            self.send(host, to, message);
        }
        if let Some(job) = effects.persist {
            self.persist(host, job);
        }
        if let Some(mark) = effects.restore {
            self.restore(host, mark.index);
        }
        if !effects.committed.is_empty() {
            self.checker.committed(self.now, host, &effects.committed);
            let Some(running) = &mut self.hosts[host].running else { return };
            let batch = running.replica.apply(&mut running.tree, effects.committed);
            self.session_events(host);
            self.applied(host, batch);
        }
        for (id, answer) in effects.answers {
            self.trace.note(self.now, format_args!("h{host} answers {id}: {answer:?}"));
            if id >= FIRST_QUESTION {
                self.travellers_answered(id, &answer);
                continue;
            }
            if let Some(command) = self.awaiting.remove(&id)
                && let Ok(Reply::Session { session }) = answer
            {
                let (boot, request) =
                    (self.hosts[host].boot, Request::Change(Some(session), command));
                self.at(0, Event::Asked { host, boot, id, request });
                continue;
            }
            self.counts.answered += u64::from(answer.is_ok());
            self.act(host, |workload, scene| workload.answered(id, answer, scene));
        }
        for (id, answer) in effects.members {
            self.trace.note(self.now, format_args!("h{host} answers {id}: {answer:?}"));
        }
        if let Some(why) = effects.fatal {
            self.stopped_itself(host, &why.to_string());
        }
    }

    fn applied(&mut self, host: usize, batch: Batch) {
        let Some(running) = &self.hosts[host].running else { return };
        let (zxid, digest) = (running.tree.zxid(), running.tree.digest());
        let (delay, boot) = (running.mount_delay, self.hosts[host].boot);
        self.trace.note(self.now, format_args!("h{host} applied {} {digest:016x}", batch.last));
        let can = self.hosts[host].program.level;
        self.checker.understands(self.now, host, can, zxid);
        self.counts.sessions_ended += self.checker.applied(self.now, host, zxid, digest, &batch);
        self.act(host, |workload, scene| workload.applied(&batch, scene));
        self.welcome_members(host);
        let delay = self.dice.between(delay / 10, delay);
        self.at(delay, Event::Shown { host, boot, zxid: batch.last });
    }

    /// What entries did to the session.
    fn session_events(&mut self, host: usize) {
        let Some(running) = &mut self.hosts[host].running else { return };
        for event in running.replica.take_session_events() {
            self.session_event(host, event);
        }
    }

    fn session_event(&mut self, host: usize, event: SessionEvent) {
        self.trace.note(self.now, format_args!("h{host} session {event:?}"));
        let Some(running) = &mut self.hosts[host].running else { return };
        match event {
            SessionEvent::Opened(client, _) | SessionEvent::Lost(client, _)
                if client != ClientId::OWN => {}
            SessionEvent::Opened(_, session) => {
                running.session = Some(session);
                self.act(host, |workload, scene| workload.session_opened(scene));
            }
            SessionEvent::Lost(_, session) => {
                if running.session == Some(session) {
                    running.session = None;
                }
                self.checker.beliefs.end_all(host);
                self.act(host, |workload, scene| workload.session_lost(scene));
            }
        }
    }

    /// Lets the clients of a host see it, and does what they decide.
    pub fn act(&mut self, host: usize, see: impl FnOnce(&mut Workload, &mut Scene<'_>)) {
        let mut actions = Vec::new();
        if let Some(running) = &self.hosts[host].running {
            let mut scene = Scene {
                now: self.now,
                host,
                tree: &running.tree,
                session: running.session,
                leaving: self.hosts[host].leaving,
                dice: &mut self.dice,
                checker: &mut self.checker,
                actions: &mut actions,
            };
            see(&mut self.workload, &mut scene);
        }
        for action in actions {
            self.do_action(host, action);
        }
    }

    fn do_action(&mut self, host: usize, action: Action) {
        match action {
            Action::Wake { client, turn, after } => self.at(after, Event::Turn { client, turn }),
            Action::Ask { id, request } => {
                let boot = self.hosts[host].boot;
                let delay = self.dice.between(0, 100 * MICROSECOND);
                self.at(delay, Event::Asked { host, boot, id, request });
            }
        }
    }

    pub fn asked(&mut self, host: usize, id: u64, request: Request) {
        self.counts.asked += 1;
        self.trace.note(self.now, format_args!("h{host} asks {id}: {request:?}"));
        match request {
            Request::Change(Some(session), command) => {
                self.step(host, Input::Submit { id, session, command });
            }
            Request::Change(None, command) => {
                self.awaiting.insert(id, command);
                self.step(host, Input::AwaitSession { client: ClientId::OWN, id });
            }
            Request::Barrier => self.step(host, Input::Barrier { id }),
        }
    }

    fn send(&mut self, from: usize, to: ReplicaId, message: PeerMessage) {
        let Some(to) = self.hosts.iter().position(|host| host.id == to) else { return };
        if let PeerMessage::Snapshot { index, message, .. } = message {
            return self.send_snapshot(from, to, index, message);
        }
        match self.network.fate(&mut self.dice, from, to) {
            Fate::Arrives(delays) => {
                for delay in delays {
                    self.at(delay, Event::Deliver { from, to, message: message.clone() });
                }
            }
            Fate::Lost => {}
            Fate::Refused => {
                let boot = self.hosts[from].boot;
                self.at(0, Event::Refused { host: from, boot, peer: to });
            }
        }
    }

    pub fn deliver(&mut self, from: usize, to: usize, message: PeerMessage) {
        self.trace.note(self.now, format_args!("h{from} > h{to} {}", brief(&message)));
        if !self.may_speak(from, to) {
            return;
        }
        if let PeerMessage::KeepAlive { sessions, .. } = &message
            && self.is_newest_leader(to)
            && self.has_in_its_list(to, from)
        {
            sessions.iter().for_each(|session| self.checker.heard(self.now, *session));
        }
        let from = self.hosts[from].id;
        self.step(to, Input::Received { from, message });
    }

    /// Whoever was removed is not heard any more.
    fn has_in_its_list(&self, host: usize, other: usize) -> bool {
        let running = self.hosts[host].running.as_ref();
        let id = self.hosts[other].id;
        running.is_some_and(|running| running.tree.members().iter().any(|m| m.id == id))
    }

    /// The handshake: whether one host may say anything to another, as that one knows it.
    pub fn may_speak(&mut self, from: usize, to: usize) -> bool {
        let (id, said) = (self.hosts[from].id, self.hosts[from].incarnation);
        if self.meeting(to, from) == Meeting::Stranger || self.hosts[to].running.is_none() {
            return false;
        }
        match self.meeting(from, to) {
            Meeting::Known => true,
            Meeting::First => {
                self.hosts[to].met.insert(id, said);
                self.step(to, Input::Met { peer: id, incarnation: said });
                true
            }
            Meeting::Stranger => false,
        }
    }

    /// What one host is to another, as that one knows it.
    fn meeting(&self, who: usize, to: usize) -> Meeting {
        let (who, to) = (&self.hosts[who], &self.hosts[to]);
        let members = to.running.as_ref().map_or(&[][..], |running| running.tree.members());
        let named = members.iter().find(|member| member.id == who.id).map_or(0, |m| m.incarnation);
        let met = to.met.get(&who.id).copied().unwrap_or_default();
        Meeting::of(if named != 0 { named } else { met }, who.incarnation)
    }

    /// Whether this host leads, and nobody knows of a later term.
    fn is_newest_leader(&self, host: usize) -> bool {
        let status = |host: &Host| host.running.as_ref().map(|running| running.replica.status());
        let newest = self.hosts.iter().filter_map(status).map(|status| status.term).max();
        status(&self.hosts[host])
            .is_some_and(|status| status.role == "leader" && Some(status.term) == newest)
    }

    fn persist(&mut self, host: usize, job: Persist) {
        if self.hosts[host].disk.submit(job) {
            self.begin_write(host);
        }
    }

    fn begin_write(&mut self, host: usize) {
        let slow = if self.dice.chance(20) { 100 } else { 1 };
        let delay = slow * self.dice.between(100 * MICROSECOND, 2 * MILLISECOND);
        let boot = self.hosts[host].boot;
        self.at(delay, Event::Written { host, boot });
    }

    pub fn written(&mut self, host: usize) {
        let (jobs, again) = self.hosts[host].disk.written();
        if again {
            self.begin_write(host);
        }
        for job in jobs {
            self.trace.note(self.now, format_args!("h{host} wrote job {}", job.number));
            for (to, message) in job.after {
                self.send(host, to, message);
            }
            self.step(host, Input::Persisted { number: job.number });
        }
    }

    pub fn snapshot_written(&mut self, host: usize, snapshot: Snapshot) {
        let mark = snapshot.mark.clone();
        self.trace.note(self.now, format_args!("h{host} has a snapshot at {}", mark.index));
        self.counts.snapshots_taken += 1;
        self.hosts[host].disk.keep_snapshot(snapshot);
        if let Some(running) = &mut self.hosts[host].running {
            running.snapshotting = false;
        }
        self.step(host, Input::SnapshotTaken { mark });
    }

    fn send_snapshot(&mut self, from: usize, to: usize, index: Zxid, message: Vec<u8>) {
        let snapshot = self.hosts[from].disk.snapshot(index);
        let fate = self.network.fate(&mut self.dice, from, to);
        let snapshot = snapshot.filter(|_| matches!(fate, Fate::Arrives(_)));
        let delay = self.dice.between(10 * MILLISECOND, 500 * MILLISECOND);
        self.at(delay, Event::SnapshotSent { from, to, message, snapshot });
    }

    pub fn snapshot_sent(
        &mut self,
        from: usize,
        to: usize,
        message: Vec<u8>,
        snapshot: Option<Snapshot>,
    ) {
        let snapshot = snapshot.filter(|_| self.hosts[to].running.is_some());
        let ok = snapshot.is_some();
        self.trace.note(self.now, format_args!("h{from} > h{to} snapshot, whole: {ok}"));
        if let Some(snapshot) = snapshot {
            let (host, boot) = (to, self.hosts[to].boot);
            let delay = self.dice.between(MILLISECOND, 100 * MILLISECOND);
            self.at(delay, Event::SnapshotStored { host, boot, from, message, snapshot });
        }
        let to = self.hosts[to].id;
        self.step(from, Input::SnapshotSent { to, ok });
    }

    fn restore(&mut self, host: usize, index: Zxid) {
        self.trace.note(self.now, format_args!("h{host} goes on from the snapshot at {index}"));
        self.counts.snapshots_restored += 1;
        let found = self.hosts[host].disk.snapshot(index);
        let Some(snapshot) = found else {
            let what = format!("h{host} restores a snapshot at {index}, which it does not have");
            return self.checker.violated(self.now, what);
        };
        let tree = Tree::read_snapshot(&mut &*snapshot.bytes, self.hosts[host].program.level);
        let Some(running) = &mut self.hosts[host].running else { return };
        match tree {
            Ok(tree) => {
                running.tree = tree;
                running.tree.limit_work(WORK_IN_ONE_ENTRY);
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                return self.stopped_itself(host, &error.to_string());
            }
            Err(error) => {
                return self.checker.violated(self.now, format!("snapshot at {index}: {error}"));
            }
        }
        running.replica.restored(&running.tree);
        running.snapshot = index;
        self.session_events(host);
        let Some(running) = &self.hosts[host].running else { return };
        let (zxid, digest) = (running.tree.zxid(), running.tree.digest());
        self.checker.compare_digest(self.now, host, zxid, digest);
        self.act(host, |workload, scene| workload.restored(scene));
    }
}

/// A message in a few words.
fn brief(message: &PeerMessage) -> String {
    let PeerMessage::Raft(bytes) = message else { return format!("{message:?}") };
    let Ok(raft) = Message::parse_from_bytes(bytes) else { return "not raft".to_string() };
    format!(
        "{:?} t{} i{} lt{} c{} e{}{}",
        raft.get_msg_type(),
        raft.term,
        raft.index,
        raft.log_term,
        raft.commit,
        raft.entries.len(),
        if raft.reject { " reject" } else { "" }
    )
}
