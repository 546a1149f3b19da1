//! What a replica believes, for operators.

use crate::tree::{ReplicaId, SessionId};

/// What a replica believes, for `.keepfs/status` and metrics. Moments are
/// [`super::Moment::monotonic`].
#[derive(Clone, Debug)]
pub struct ReplicaStatus {
    /// `leader`, `follower`, `candidate`, `pre-candidate` or `learner`.
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
}
