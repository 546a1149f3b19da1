//! What a replica believes, for operators.

use super::Replica;
use crate::session::ClientId;
use crate::tree::{ReplicaId, SessionId};
use raft::StateRole;

/// What a replica believes, for `.keepfs/status` and metrics. Moments are
/// [`super::Moment::monotonic`].
#[derive(Clone, Debug)]
pub struct ReplicaStatus {
    /// `leader`, `follower`, `candidate`, `pre-candidate`, `learner` or `removed`.
    pub role: &'static str,
    pub term: u64,
    pub leader: Option<ReplicaId>,
    /// When `leader` was last found or lost.
    pub leader_since: u64,
    /// A leader is known and, on the leader itself, a quorum answered within the election timeout.
    pub quorum: bool,
    pub commit: u64,
    pub applied: u64,
    /// First and last index of the log.
    pub log_first: u64,
    pub log_last: u64,
    /// Index of the newest snapshot.
    pub snapshot: u64,
    pub session: Option<SessionId>,
    /// Proposals of this node that have no answer yet.
    pub waiting: usize,
    /// On the leader: how far each other replica's log is known to match.
    pub matched: Vec<(ReplicaId, u64)>,
    /// When each other replica was last heard.
    pub heard: Vec<(ReplicaId, u64)>,
    /// Replicas whose mounts replies wait for.
    pub attentive: Vec<ReplicaId>,
    /// By how much each clock that was heard lately is ahead of their median, nanoseconds.
    pub clocks: Vec<(ReplicaId, i64)>,
    /// Trees differ, and no majority has the same: no changes are taken.
    pub dispute: Option<String>,
    /// Why this replica may have forgotten what it promised, and what it waits for.
    pub doubt: Option<String>,
}

impl Replica {
    /// For operators: what this replica believes.
    pub fn status(&self) -> ReplicaStatus {
        let raft = &self.raw.raft;
        let window = self.raw.store();
        let others = || raft.prs().iter().filter(|(id, _)| **id != self.config.id.0);
        let mut matched: Vec<(ReplicaId, u64)> = match self.leadership.here {
            true => others().map(|(id, progress)| (ReplicaId(*id), progress.matched)).collect(),
            false => Vec::new(),
        };
        matched.sort();
        ReplicaStatus {
            role: self.role(),
            term: raft.term,
            leader: self.leadership.leader,
            leader_since: self.leadership.since,
            quorum: self.has_quorum(),
            commit: raft.raft_log.committed,
            applied: self.applied.0,
            log_first: window.first(),
            log_last: raft.raft_log.last_index(),
            snapshot: window.snapshot_index(),
            session: self.session(ClientId::OWN),
            waiting: self.hub.waiting(),
            matched,
            heard: self.heard.iter().map(|(id, at)| (*id, *at)).collect(),
            attentive: self.visibility.attentive(),
            clocks: self.clocks.offsets(self.config.id, self.now.wall, self.now.monotonic),
            dispute: self.dispute.clone(),
            doubt: self.doubt(),
        }
    }

    fn role(&self) -> &'static str {
        match self.raw.raft.state {
            StateRole::Leader => "leader",
            StateRole::Candidate => "candidate",
            StateRole::PreCandidate => "pre-candidate",
            StateRole::Follower if self.raw.raft.promotable() => "follower",
            StateRole::Follower if self.removed.is_some() => "removed",
            StateRole::Follower => "learner",
        }
    }

    fn has_quorum(&self) -> bool {
        if !self.leadership.here {
            return self.leadership.leader.is_some();
        }
        let voters = self.raw.raft.prs().conf().voters().ids();
        let (mut active, mut all) = (0, 0);
        for id in voters.iter() {
            let heard = self.heard.get(&ReplicaId(id));
            let limit = self.config.election_timeout;
            let lately = heard.is_some_and(|at| self.now.monotonic.saturating_sub(*at) <= limit);
            all += 1;
            active += usize::from(id == self.config.id.0 || lately);
        }
        active >= raft::majority(all)
    }
}
