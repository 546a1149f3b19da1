//! Whether the trees agree, and what comes of it if they do not: see `digest.rs` for who is right.

use super::digest::Verdict;
use super::{PeerMessage, Replica};
use crate::tree::{ReplicaId, Zxid};

/// A majority has another tree than this replica.
pub(super) struct Outvoted {
    why: String,
    /// Until when a leader tries to hand its office over.
    until: u64,
}

impl Replica {
    /// On the leader: asks for votes at the newest entry, and votes.
    pub(super) fn ask_for_digests(&mut self) {
        if let Some(index) = self.digests.announcement(self.now.monotonic) {
            self.digests.ask(index);
            self.say_digest();
        }
    }

    /// A member said its digest; the leader so asks the others for theirs.
    pub(super) fn hear_digest(&mut self, from: ReplicaId, index: Zxid, digest: u64) {
        self.digests.heard(from, index, digest);
        if self.leadership.leader == Some(from) {
            self.digests.ask(index);
            self.say_digest();
        }
        self.judge_digests();
    }

    /// Votes, if this replica was asked and has come so far.
    pub(super) fn say_digest(&mut self) {
        if let Some((zxid, digest)) = self.digests.vote(self.now.monotonic) {
            for peer in self.peers() {
                self.send(peer, PeerMessage::Digest { zxid, digest });
            }
        }
    }

    pub(super) fn judge_digests(&mut self) {
        let mut voters: Vec<ReplicaId> =
            self.raw.raft.prs().conf().voters().ids().iter().map(ReplicaId).collect();
        voters.sort();
        let now = self.now.monotonic;
        let dispute = match self.digests.judge(self.config.id, &voters, now) {
            Verdict::Outvoted(why) => {
                let until = now + 2 * self.config.election_timeout;
                self.outvoted.get_or_insert(Outvoted { why, until });
                None
            }
            Verdict::Disputed(why) => Some(why),
            Verdict::Fine { others } => {
                for id in others {
                    self.complaints.about(id, "its tree differs from a majority's", now);
                }
                None
            }
        };
        if let Some(why) = &dispute
            && self.dispute.is_none()
        {
            ::log::error!("{why}");
        }
        self.dispute = dispute;
        self.obey_majority();
    }

    /// Stops a replica that is outvoted: a leader when another leads, or nobody takes its office.
    pub(super) fn obey_majority(&mut self) {
        let Some(Outvoted { why, until }) = &self.outvoted else { return };
        if self.leadership.here && self.now.monotonic < *until {
            return self.hand_office_over();
        }
        self.fail(why.clone());
    }
}
