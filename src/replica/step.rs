//! One input at a time: [`Replica::step`].

use super::guard::{self, Verdict};
use super::membership::Asker;
use super::reads::Question;
use super::wishes::Wish;
use super::{Input, Moment, PeerMessage, Replica, SnapshotMark};
use crate::tree::{ReplicaId, SessionId};
use protobuf::Message as _;
use raft::eraftpb::Message;
use raft::{ProgressState, SnapshotStatus};

impl Replica {
    /// Takes note of what happened. What is to be done about it comes with [`Replica::ready`].
    pub fn step(&mut self, now: Moment, input: Input) {
        self.at(now);
        if self.stopped {
            return;
        }
        let now = self.now.monotonic;
        match input {
            Input::Tick => self.tick(),
            Input::Received { from, message } => self.receive(from, message),
            Input::Submit { id, session, command } => self.submit(id, session, command),
            Input::Attach { client, name } => self.attach(client, &name),
            Input::AwaitSession { client, id } => self.await_session(client, id),
            Input::EndSession { client, id } => self.end_session(client, id),
            Input::Barrier { id } => self.reads.ask(Question::Barrier { id, since: now }),
            Input::Persisted { number } => self.persisted(number),
            Input::Visible { client, zxid } => self.visibility.shown_here(client, zxid),
            Input::Watches { client, watches } => self.visibility.watches(client, watches),
            Input::SnapshotTaken { mark } => self.snapshot_taken(mark),
            Input::SnapshotArrived { from, message } => self.snapshot_arrived(from, &message),
            Input::SnapshotSent { to, ok } => {
                let status = if ok { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
                self.raw.report_snapshot(to.0, status);
            }
            Input::Unreachable { peer } => self.raw.report_unreachable(peer.0),
            Input::Met { peer, incarnation } => self.membership.met(peer, incarnation),
            Input::AddMember { id, name, address, incarnation, level } => {
                let wish = Wish::Join { name, address, incarnation, level };
                self.membership.request(Asker::Here { id }, wish, now)
            }
            Input::TransferLeadership { id, to } => {
                self.membership.request(Asker::Here { id }, Wish::Lead { member: to }, now)
            }
            Input::RemoveMember { id, member } => {
                self.membership.request(Asker::Here { id }, Wish::Leave { member }, now)
            }
            Input::Resign => {
                self.resigning = self.leadership.here;
                self.resign();
            }
        }
        self.observe_leader();
    }

    fn receive(&mut self, from: ReplicaId, message: PeerMessage) {
        let now = self.now.monotonic;
        if !self.may_say(from, &message) {
            return;
        }
        self.heard.insert(from, now);
        match message {
            PeerMessage::Raft(bytes) => self.receive_raft(from, &bytes),
            // Not to be had without its bytes: the driver keeps it until they are here.
            PeerMessage::Snapshot { .. } => {}
            PeerMessage::Forward(proposals) if self.leadership.here => {
                self.forwarded.extend(proposals.into_iter().map(|proposal| (from, proposal)))
            }
            // The sender tries again when it knows the leader.
            PeerMessage::Forward(_) => {}
            PeerMessage::KeepAlive { sessions, sent } => self.keep_alive(from, sessions, sent),
            PeerMessage::KeepAliveAck { sessions, sent } => {
                self.hub.acknowledged(&sessions, sent, now)
            }
            PeerMessage::Clock { wall } => self.clocks.heard(from, wall, now),
            PeerMessage::Visible { zxid } => self.visibility.shown_there(from, zxid),
            PeerMessage::Digest { zxid, digest } => self.hear_digest(from, zxid, digest),
            PeerMessage::Join { id, name, address, incarnation, level } => {
                self.requested(from, id, Wish::Join { name, address, incarnation, level })
            }
            PeerMessage::Lead { id, member } => self.requested(from, id, Wish::Lead { member }),
            PeerMessage::Leave { id, member } => self.requested(from, id, Wish::Leave { member }),
            PeerMessage::MemberAnswer { id, result } => {
                let id = id ^ self.process;
                if self.membership.answered(id) {
                    self.outbox.members.push((id, result));
                }
            }
            PeerMessage::Removed => self.released(),
            PeerMessage::AskLog { process } => self.asked_for_log(from, process),
            PeerMessage::Log { process, term, log_term, index } => {
                self.hear_log(from, process, term, (log_term, index))
            }
            PeerMessage::MayStop { applied } => self.asked_to_release(from, applied),
        }
    }

    fn requested(&mut self, from: ReplicaId, id: u64, wish: Wish) {
        if self.leadership.here {
            self.membership.request(Asker::Peer { replica: from, id }, wish, self.now.monotonic);
        }
    }

    /// The holders of sessions live. They are answered once a quorum has confirmed, after this,
    /// that this replica leads.
    pub(super) fn keep_alive(&mut self, from: ReplicaId, mut sessions: Vec<SessionId>, sent: u64) {
        if !self.leadership.here {
            return;
        }
        let (table, now) = (&mut self.sessions, self.now.monotonic);
        sessions.retain(|id| table.replica(*id) == Some(from) && table.heard(*id, now));
        if !sessions.is_empty() {
            self.reads.ask(Question::KeepAlive { from, sessions, sent });
        }
    }

    fn receive_raft(&mut self, from: ReplicaId, bytes: &[u8]) {
        let message = match Message::parse_from_bytes(bytes) {
            Ok(message) => message,
            Err(error) => return self.ignore(from, &error.to_string()),
        };
        if self.tell_if_removed(from, &message) {
            return;
        }
        if self.founded && !self.membership.counts(from) && guard::is_counted(&message) {
            return ::log::debug!("what replica {from} answers does not count yet");
        }
        self.step_if_fit(from, message);
    }

    fn step_if_fit(&mut self, from: ReplicaId, message: Message) {
        if let Some(why) = self.doubt.forbids(&message) {
            return ::log::debug!("a message of replica {from} is ignored: {why}");
        }
        let writing = self.persistence.outstanding();
        let verdict = guard::judge(&self.raw, &self.reach, writing, from, &message);
        self.follow(verdict, from, message);
    }

    fn follow(&mut self, verdict: Verdict, from: ReplicaId, message: Message) {
        match verdict {
            Verdict::Step => self.step_raft(message),
            // The last of each sender: it says no more than once what counts.
            Verdict::Later => drop(self.early_votes.insert(from, message)),
            Verdict::Ignore(why) => self.ignore(from, why),
            Verdict::Fatal(why) => self.fail(why),
        }
    }

    fn ignore(&mut self, from: ReplicaId, why: &str) {
        self.complaints.about(from, &format!("a message is ignored: {why}"), self.now.monotonic);
    }

    fn step_raft(&mut self, message: Message) {
        if let Err(error) = self.raw.step(message) {
            ::log::debug!("raft did not take a message: {error}");
        }
    }

    fn persisted(&mut self, number: u64) {
        let Some(number) = self.persistence.persisted(number) else { return };
        self.raw.on_persist_ready(number);
        if let Some(index) = self.persistence.take_restored()
            && index > self.raw.raft.raft_log.applied
        {
            self.raw.advance_apply_to(index);
        }
        self.evict();
        for (from, message) in std::mem::take(&mut self.early_votes) {
            self.step_if_fit(from, message);
        }
    }

    /// Lets go of entries in memory that are durable and applied.
    pub(super) fn evict(&mut self) {
        let log = &self.raw.raft.raft_log;
        let done = log.persisted.min(log.applied);
        self.raw.mut_store().evict(done);
    }

    /// The log before `mark` may go, but for a tail, and for what a follower needs that is being
    /// sent an older snapshot.
    fn snapshot_taken(&mut self, mark: SnapshotMark) {
        let receiving = self.raw.raft.prs().iter().filter_map(|(_, progress)| {
            let receives = progress.state == ProgressState::Snapshot && progress.recent_active;
            (receives && self.leadership.here).then_some(progress.pending_snapshot)
        });
        let keep = receiving.min().unwrap_or(u64::MAX);
        if let Some(index) = self.raw.mut_store().compact(mark, keep) {
            self.persistence.compact(index);
        }
    }

    fn snapshot_arrived(&mut self, from: ReplicaId, bytes: &[u8]) {
        match Message::parse_from_bytes(bytes) {
            Ok(message) if self.doubt.forbids(&message).is_some() => {}
            Ok(message) => {
                let verdict = guard::judge_snapshot(&self.raw, &self.reach, from, &message);
                self.follow(verdict, from, message);
            }
            Err(error) => self.ignore(from, &error.to_string()),
        }
    }

    /// Notices another leader, and asks it again what the last one has not answered.
    pub(super) fn observe_leader(&mut self) {
        let now = self.now.monotonic;
        let led = self.leadership.here;
        if !self.leadership.observe(&self.raw, now) {
            return;
        }
        self.reads.leader_changed();
        self.hub.leader_changed();
        self.membership.leader_changed();
        if self.leadership.here {
            self.sessions.elected(now);
        } else if led {
            self.reads.forget_keep_alives();
            self.forwarded.clear();
        }
    }
}
