//! Leaving without harm to those who stay: a leader that stops hands its office over, and a replica
//! that was removed stops when it is told to.
//!
//! In raft-rs a configuration counts from when its entry is applied, not from when it is in the
//! log. Whoever has not heard that a removal is committed needs the vote of the one removed, which
//! so goes on to vote after it has applied its own removal; but it leads no more, and does not ask
//! for votes. When it may stop, the leader knows: see `membership.rs`. It says so at once, and to
//! whoever asks; and the answer to the request to leave waits for the same.

use super::{Fatal, PeerMessage, Replica};
use crate::session::RETRY_AFTER;
use crate::tree::{ReplicaId, Zxid};
use raft::INVALID_ID;
use raft::eraftpb::{Message, MessageType};

/// Heartbeats for which a replica that was heard counts as one that can lead.
pub(super) const HEARD_LATELY: u64 = 3;

impl Replica {
    /// Whether this replica waits for another to lead in its place, after
    /// [`super::Input::Resign`]. False when there is nothing (more) to wait for; the caller bounds
    /// the wait, for whoever is to lead may fail.
    pub fn is_resigning(&self) -> bool {
        let hopes = match self.leadership.leader {
            Some(leader) => leader == self.config.id && self.successor().is_some(),
            None => true,
        };
        self.resigning && !self.stopped && hopes
    }

    /// On a leader that is about to stop.
    pub(super) fn resign(&mut self) {
        if self.resigning && self.leadership.here {
            self.hand_office_over();
        }
    }

    /// Meanwhile raft takes no proposals, so a replica that may be dead is not worth a try.
    pub(super) fn hand_office_over(&mut self) {
        if let Some(id) = self.successor() {
            self.hand_office_to(ReplicaId(id));
        }
    }

    pub(super) fn hand_office_to(&mut self, id: ReplicaId) {
        if self.raw.raft.lead_transferee.is_none() {
            self.raw.transfer_leader(id.0);
        }
    }

    /// Whether another replica was heard no longer ago than that, nanoseconds.
    pub(super) fn heard_within(&self, id: ReplicaId, limit: u64) -> bool {
        self.heard.get(&id).is_some_and(|at| self.now.monotonic.saturating_sub(*at) <= limit)
    }

    /// Of the other voters that were heard lately and do not leave as well, the one whose log is
    /// furthest.
    fn successor(&self) -> Option<u64> {
        let limit = HEARD_LATELY * self.config.heartbeat;
        let voters = self.raw.raft.prs().conf().voters();
        let fit = self.raw.raft.prs().iter().filter(|(id, _)| {
            let other = ReplicaId(**id);
            other != self.config.id
                && voters.contains(**id)
                && self.heard_within(other, limit)
                && !self.membership.is_leaving(other)
        });
        fit.map(|(id, progress)| (progress.matched, *id)).max().map(|(_, id)| id)
    }

    /// An entry that removes `id` was applied.
    pub(super) fn removed(&mut self, id: ReplicaId, was_member: bool) {
        self.heard.remove(&id);
        if id == self.config.id && was_member {
            ::log::info!("this replica was removed; it votes until it is told to stop");
            // raft-rs cannot lead without being a member.
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, INVALID_ID);
            self.removed = Some(self.now.monotonic + RETRY_AFTER);
        } else if self.leadership.here {
            self.membership.part(id, self.raw.raft.raft_log.last_index() + 1);
        }
    }

    /// A tree that was read may come from after this replica's removal. One that joins is a member
    /// from the entry on whose index is its id; until then it has not been one.
    pub(super) fn notice_old_removal(&mut self, applied: Zxid) {
        let progress = self.raw.raft.prs();
        let others = progress.iter().next().is_some();
        if others && progress.get(self.config.id.0).is_none() && applied >= self.config.id.0 {
            self.removed.get_or_insert(self.now.monotonic + RETRY_AFTER);
        }
    }

    /// Whoever leads now may not know that this replica has not stopped.
    pub(super) fn ask_to_stop(&mut self) {
        let now = self.now.monotonic;
        if self.removed.is_some_and(|ask_at| now >= ask_at) {
            self.removed = Some(now + RETRY_AFTER);
            let applied = self.applied.0;
            for peer in self.peers() {
                self.send(peer, PeerMessage::MayStop { applied });
            }
        }
    }

    /// The leader said that this replica is needed no more.
    pub(super) fn released(&mut self) {
        let (asked, members) = self.membership.released(self.config.id);
        for id in asked {
            self.outbox.members.push((id, Ok(members.clone())));
        }
        self.outbox.fatal.get_or_insert(Fatal::Removed);
    }

    /// On the leader: lets those go who were removed and are needed no more, and sees to it that
    /// there is an entry that tells when.
    pub(super) fn release_removed(&mut self) {
        for id in self.membership.parted(self.raw.raft.raft_log.applied) {
            self.send(id, PeerMessage::Removed);
        }
        let last = self.raw.raft.raft_log.last_index();
        if self.membership.parts_at().is_some_and(|index| index > last)
            && let Err(error) = self.raw.propose(Vec::new(), Vec::new())
        {
            ::log::debug!("raft did not take an empty entry: {error}");
        }
    }

    /// Whether this leader knows that `id` is no member and that nobody needs its vote.
    pub(super) fn can_do_without(&self, id: ReplicaId) -> bool {
        let raft = &self.raw.raft;
        self.leadership.here
            && raft.apply_to_current_term()
            && raft.prs().get(id.0).is_none()
            && !self.membership.is_parting(id)
    }

    /// A replica asks that has applied its removal, at `applied` at the latest.
    pub(super) fn asked_to_release(&mut self, from: ReplicaId, applied: Zxid) {
        if self.raw.raft.raft_log.applied >= applied && self.can_do_without(from) {
            self.send(from, PeerMessage::Removed);
        }
    }

    /// A replica that does not know that it was removed asks for votes for ever. A leader that has
    /// applied everything before its term knows every member; only one of a later term could know
    /// more.
    pub(super) fn tell_if_removed(&mut self, from: ReplicaId, message: &Message) -> bool {
        let removed = message.get_msg_type() == MessageType::MsgRequestPreVote
            && message.term <= self.raw.raft.term + 1
            && self.can_do_without(from);
        if removed {
            self.send(from, PeerMessage::Removed);
        }
        removed
    }
}
