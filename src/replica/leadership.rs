//! Who leads, as raft believes, and since when.

use super::log::Window;
use crate::tree::ReplicaId;
use raft::{RawNode, StateRole};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Leadership {
    pub leader: Option<ReplicaId>,
    pub term: u64,
    /// When the leader was found or lost.
    pub since: u64,
    /// Whether this replica leads.
    pub here: bool,
}

impl Leadership {
    pub(super) fn none(now: u64) -> Leadership {
        Leadership { leader: None, term: 0, since: now, here: false }
    }

    /// Looks at raft again; true if another leader, or another term of one, came or went.
    pub(super) fn observe(&mut self, raw: &RawNode<Window>, now: u64) -> bool {
        let raft = &raw.raft;
        let leader = (raft.leader_id != raft::INVALID_ID).then_some(ReplicaId(raft.leader_id));
        let here = raft.state == StateRole::Leader;
        let same_term = raft.term == self.term || leader.is_none();
        if leader == self.leader && here == self.here && same_term {
            return false;
        }
        *self = Leadership { leader, term: raft.term, since: now, here };
        true
    }

    /// No leader for longer than `limit`.
    pub(super) fn missing_for(&self, now: u64, limit: u64) -> bool {
        self.leader.is_none() && now.saturating_sub(self.since) >= limit
    }
}
