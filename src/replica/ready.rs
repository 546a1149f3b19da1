//! What is to be done now: [`Replica::ready`].
//!
//! raft-rs hands out its demands as a Ready, under a contract (the `raft` crate's page, "Processing
//! the Ready State", asynchronous variant):
//!
//! 1. messages go at once, persisted messages after everything up to this Ready is durable:
//!    `persistence::divide`, and the `after` of a persist job;
//! 2. a snapshot replaces the log, then entries are appended, before anyone reads them:
//!    `show_to_raft`;
//! 3. the hard state, the entries and the snapshot become durable in the order of the Readies:
//!    `give_to_disk`; the commit index alone need not, and goes with the next job or heartbeat;
//! 4. committed entries are applied, and raft told: [`Replica::apply`];
//! 5. `advance_append_async` ends the Ready, `on_persist_ready` follows when it is durable.
//!
//! The leader's own write so goes on beside the followers': it sends its appends in step 1.

use super::clocks;
use super::persistence::{self, Demand};
use super::reads::Question;
use super::{Effects, Moment, PeerMessage, Persist, Replica, SnapshotMark, entry, message, start};
use crate::tree::{Command, Proposal, ReplicaId, SessionId, Stamp};
use raft::eraftpb::{Entry, Message, MessageType};
use raft::{Ready, StateRole};

/// Bytes of changes in one frame to the leader; more go in several.
const FORWARD_BYTES: usize = 8 << 20;
/// Heartbeats after which an unanswered read index round is asked again.
const READ_PATIENCE: u64 = 3;

impl Replica {
    /// `None`: nothing to do until the next input.
    pub fn ready(&mut self, now: Moment) -> Option<Effects> {
        self.at(now);
        if self.stopped {
            return None;
        }
        self.outbox.answers.extend(self.answering.drain(..).map(|(_, id, answer)| (id, answer)));
        self.hand_over();
        self.begin_reads();
        self.serve();
        if self.outbox.fatal.is_none() && self.fetch_committed() && self.has_demand() {
            let ready = self.raw.ready();
            self.take(ready);
            self.observe_leader();
        }
        self.outbox.wants_snapshot = self.raw.store().take_snapshot_wish();
        self.stopped = self.outbox.fatal.is_some();
        let effects = std::mem::take(&mut self.outbox);
        (!effects.is_empty()).then_some(effects)
    }

    /// All proposals that wait go to raft, or to the leader, in one piece.
    fn hand_over(&mut self) {
        let Some(leader) = self.leadership.leader else { return };
        if leader == self.config.id {
            self.propose();
        } else {
            self.forward(leader);
        }
    }

    pub(super) fn own_proposals(&mut self) -> Vec<Proposal> {
        let bare =
            |command| Proposal { session: SessionId::NONE, sequence: 0, acknowledged: 0, command };
        std::mem::take(&mut self.own_commands).into_iter().map(bare).collect()
    }

    fn founding_proposal(&mut self) -> Vec<Proposal> {
        let founds = |command: &Command| matches!(command, Command::Found { .. });
        let (found, later) = std::mem::take(&mut self.own_commands).into_iter().partition(founds);
        self.own_commands = found;
        let found = self.own_proposals();
        self.own_commands = later;
        found
    }

    fn propose(&mut self) {
        let (now, wall) = (self.now.monotonic, self.now.wall);
        let time = self.clocks.time(wall, now);
        let mut last_stamp = self.last_stamp;
        let mut entries = Vec::new();
        let (forwarded, own) = match self.founded {
            true => (self.admit_forwarded(), self.admit_own()),
            false => (Vec::new(), self.founding_proposal()),
        };
        let mut give = |proposal: &Proposal| {
            last_stamp = clocks::stamp_after(last_stamp, time);
            let data = entry::encode(last_stamp, proposal).into();
            entries.push(Entry { data, ..Entry::default() });
        };
        match self.founded {
            true => {
                forwarded.iter().for_each(&mut give);
                own.iter().for_each(&mut give);
                self.hub.hand_over(self.leadership.term, now, true, &mut give);
            }
            // Nothing is promised to anyone before the log says whose votes count.
            false => own.iter().for_each(&mut give),
        }
        self.last_stamp = last_stamp;
        if entries.is_empty() {
            return;
        }
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.config.id.0;
        message.set_entries(entries.into());
        if let Err(error) = self.raw.step(message) {
            ::log::debug!("raft did not take proposals: {error}");
            self.hub.dropped(now);
        }
    }

    pub(super) fn next_stamp(&mut self) -> Stamp {
        let Moment { monotonic, wall } = self.now;
        let time = self.clocks.time(wall, monotonic);
        self.last_stamp = clocks::stamp_after(self.last_stamp, time);
        self.last_stamp
    }

    fn forward(&mut self, leader: ReplicaId) {
        let mut frames: Vec<(usize, Vec<Proposal>)> = Vec::new();
        let mut give = |proposal: &Proposal| {
            let weight = message::weight(proposal);
            match frames.last_mut() {
                Some((bytes, frame)) if *bytes + weight <= FORWARD_BYTES => {
                    *bytes += weight;
                    frame.push(proposal.clone());
                }
                _ => frames.push((weight, vec![proposal.clone()])),
            }
        };
        self.own_proposals().iter().for_each(&mut give);
        let (term, now) = (self.leadership.term, self.now.monotonic);
        self.hub.hand_over(term, now, false, &mut give);
        for (_, frame) in frames {
            self.send(leader, PeerMessage::Forward(frame));
        }
    }

    /// One read index round for all questions that wait. raft drops a question put to a leader that
    /// has committed nothing in its term, without a word.
    fn begin_reads(&mut self) {
        let raft = &self.raw.raft;
        let someone_answers = match raft.state {
            StateRole::Leader => raft.commit_to_current_term(),
            _ => self.leadership.leader.is_some(),
        };
        if !someone_answers {
            return;
        }
        let patience = READ_PATIENCE * self.config.heartbeat;
        for context in self.reads.due(self.config.id, self.now.monotonic, patience) {
            self.raw.read_index(context);
        }
    }

    /// Everything that became due by what was applied or shown.
    fn serve(&mut self) {
        for question in self.reads.answered(self.applied.0) {
            match question {
                Question::Barrier { id, .. } => self.answer(id, Ok(crate::tree::Reply::Done)),
                Question::KeepAlive { from, sessions, sent } => {
                    self.acknowledge(from, sessions, sent)
                }
            }
        }
        let released = self.visibility.release(self.now.monotonic);
        self.outbox.answers.extend(released);
        let zxid = self.visibility.shown();
        for replica in self.visibility.take_served() {
            self.send(replica, PeerMessage::Visible { zxid });
        }
    }

    /// A quorum confirmed that this replica led after the keep-alive came, and everything before
    /// that is applied: the sessions live.
    fn acknowledge(&mut self, to: ReplicaId, mut sessions: Vec<SessionId>, sent: u64) {
        sessions.retain(|session| self.sessions.is_alive(*session));
        if to == self.config.id {
            self.hub.acknowledged(&sessions, sent, self.now.monotonic);
        } else if !sessions.is_empty() {
            self.send(to, PeerMessage::KeepAliveAck { sessions, sent });
        }
    }

    /// Reads committed entries that are no longer in memory, for raft cannot report a failing disk.
    fn fetch_committed(&mut self) -> bool {
        let log = &self.raw.raft.raft_log;
        let (low, high) = (self.applied.0 + 1, log.committed.min(log.persisted) + 1);
        let fetched = self.raw.mut_store().fetch(low, high, start::APPLY_BYTES);
        let failed = fetched.err().or_else(|| self.raw.store().take_failure());
        if let Some(error) = &failed {
            self.fail(format!("cannot read the log: {error}"));
        }
        failed.is_none()
    }

    fn has_demand(&self) -> bool {
        self.raw.has_ready() || self.persistence.has_own_demand() || self.commit_flush_due()
    }

    fn take(&mut self, mut ready: Ready) {
        let leads = self.raw.raft.state == StateRole::Leader;
        let mut messages = ready.take_messages();
        messages.extend(ready.take_persisted_messages());
        for state in ready.take_read_states() {
            self.reads.confirm(&state.request_ctx, state.index);
        }
        let mark = self.show_to_raft(&ready);
        let demand = Demand {
            number: ready.number(),
            hard_state: self.raw.raft.hard_state(),
            has_entries: !ready.entries().is_empty(),
            snapshot: mark.as_ref().map(|mark| mark.index),
            flush: self.commit_flush_due(),
        };
        self.flush_commit = false;
        self.outbox.committed = ready.take_committed_entries();
        let entries = ready.take_entries();
        self.raw.advance_append_async(ready);
        self.give_to_disk(leads, demand, mark, entries, messages);
    }

    /// Makes a Ready's snapshot and entries readable.
    fn show_to_raft(&mut self, ready: &Ready) -> Option<SnapshotMark> {
        let metadata = ready.snapshot().get_metadata();
        let mark = (metadata.index > 0).then(|| SnapshotMark {
            index: metadata.index,
            term: metadata.term,
            conf: metadata.get_conf_state().clone(),
        });
        if let Some(mark) = &mark {
            self.raw.mut_store().restart_at(mark.clone());
            self.outbox.restore = Some(mark.clone());
        }
        self.raw.mut_store().append(ready.entries());
        mark
    }

    fn give_to_disk(
        &mut self,
        leads: bool,
        demand: Demand,
        snapshot: Option<SnapshotMark>,
        entries: Vec<Entry>,
        messages: Vec<Message>,
    ) {
        let needs_job = self.persistence.note(&demand);
        let term_is_durable = self.persistence.term_is_durable();
        let (send, after) = persistence::divide(leads, term_is_durable, messages);
        self.outbox.send.extend(send);
        if !needs_job && (after.is_empty() || !self.persistence.outstanding()) {
            self.outbox.send.extend(after);
            if !self.persistence.outstanding() {
                self.raw.on_persist_ready(demand.number);
            }
            return;
        }
        let (hard_state, mut all, compact_to) = self.persistence.emit(&demand);
        all.extend(entries);
        let number = demand.number;
        self.outbox.persist =
            Some(Persist { number, hard_state, entries: all, snapshot, compact_to, after });
    }

    /// The commit index is written once a heartbeat, if nothing else took it along.
    fn commit_flush_due(&self) -> bool {
        self.flush_commit
            && !self.persistence.outstanding()
            && self.persistence.commit_is_behind(self.raw.raft.raft_log.committed)
    }
}
