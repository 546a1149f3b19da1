//! What a replica says of itself and the cluster to operators.

use std::path::PathBuf;

/// What `.keepfs/status` and `keepfs status` say. Serialized as JSON for machines.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Status {
    pub name: String,
    pub id: u64,
    /// Of the daemon, so that operators and `keepfs bench` find it from its mount.
    pub pid: u32,
    /// The data directory, absolute.
    pub data: PathBuf,
    /// Whether it is mounted: a replica without a mount votes, and serves nobody on its host.
    pub mounted: bool,
    /// Hexadecimal.
    pub cluster: Option<String>,
    /// The cluster's feature level: it rises when every member's program can do more.
    pub level: u8,
    pub role: String,
    pub term: u64,
    pub leader: Option<String>,
    /// Seconds since the leader was last unknown; with no leader, since it was lost.
    pub leader_since_secs: u64,
    pub quorum: bool,
    /// Why not, in a sentence for operators.
    pub reason: Option<String>,
    pub applied: u64,
    pub commit: u64,
    pub log_first: u64,
    pub snapshot: u64,
    pub digest: String,
    pub session: Option<String>,
    /// How long the cluster waits for a silent session, milliseconds.
    pub session_timeout_ms: u64,
    pub members: Vec<MemberStatus>,
}

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct MemberStatus {
    pub id: u64,
    pub name: String,
    pub address: String,
    pub learner: bool,
    /// Of the program it was last started with, once it has said so; and the level that can do.
    pub version: Option<String>,
    pub level: Option<u8>,
    pub is_self: bool,
    /// A connection stands and something was heard within the election timeout.
    pub reachable: bool,
    /// Seconds since it was last heard; `None`: never since this start.
    pub heard_secs_ago: Option<f64>,
    /// Entries behind, as far as this replica knows (the leader knows best).
    pub behind: Option<u64>,
    /// Seconds its clock is ahead of the median of the members' (negative: behind), if it was heard
    /// lately. With two members, each takes its own for right.
    pub clock_off_secs: Option<f64>,
}
