//! What a node says of itself to operators.

use super::clock;
use super::seat::Seat;
use super::shared::Shared;
use crate::cluster::{MemberStatus, Status};
use crate::replica::ReplicaStatus;
use crate::tree::{Member, Program};
use std::sync::atomic::Ordering;

/// Gathers it; never waits for the replica.
pub fn gather(shared: &Shared, seat: &Seat) -> Status {
    let replica = shared.status.lock().clone();
    let (members, cluster, digest, level, programs) = {
        let tree = shared.tree.read();
        let members = tree.members().to_vec();
        let programs: Vec<_> = members.iter().map(|m| tree.program(m.id).cloned()).collect();
        (members, tree.cluster(), tree.digest(), tree.level(), programs)
    };
    let listed = members.iter().zip(programs);
    let name_of = |id| members.iter().find(|m| m.id == id).map(|m| m.name.clone());
    let since = clock::now().monotonic.saturating_sub(replica.leader_since);
    Status {
        name: shared.config.name.clone(),
        id: shared.id.0,
        pid: std::process::id(),
        data: shared.data.clone(),
        mounted: shared.mounted.load(Ordering::Relaxed),
        cluster: cluster.map(|cluster| format!("{cluster:032x}")),
        level,
        role: replica.role.to_string(),
        term: replica.term,
        leader: replica.leader.map(|id| name_of(id).unwrap_or_else(|| id.to_string())),
        leader_since_secs: since / 1_000_000_000,
        quorum: replica.quorum && replica.dispute.is_none() && shared.failed().is_none(),
        reason: reason(shared, &replica, &members),
        applied: replica.applied,
        commit: replica.commit,
        log_first: replica.log_first,
        snapshot: replica.snapshot,
        digest: format!("{digest:016x}"),
        session: seat.belief.session().map(|session| session.to_string()),
        session_timeout_ms: shared.config.session_timeout.as_millis() as u64,
        members: listed
            .map(|(member, runs)| member_status(shared, &replica, member, runs))
            .collect(),
    }
}

fn member_status(
    shared: &Shared,
    replica: &ReplicaStatus,
    member: &Member,
    runs: Option<Program>,
) -> MemberStatus {
    let is_self = member.id == shared.id;
    let heard = if is_self { None } else { shared.peers.heard(member.id) };
    let off = replica.clocks.iter().find(|(id, _)| *id == member.id);
    let matched = replica.matched.iter().find(|(id, _)| *id == member.id);
    MemberStatus {
        id: member.id.0,
        name: member.name.clone(),
        address: member.address.clone(),
        learner: member.learner,
        level: runs.as_ref().map(|program| program.level),
        version: runs.map(|program| program.version),
        is_self,
        reachable: is_self || is_reachable(shared, member),
        heard_secs_ago: heard.map(|heard| heard.as_secs_f64()),
        clock_off_secs: off.map(|(_, nanos)| *nanos as f64 / 1e9),
        behind: matched.map(|(_, index)| replica.log_last.saturating_sub(*index)),
    }
}

/// Followers say nothing to each other while all is well, so for them only the leader's view
/// counts; a standing connection that was used once is the best they know.
fn is_reachable(shared: &Shared, member: &Member) -> bool {
    shared.peers.heard(member.id).is_some_and(|heard| heard < shared.config.election_timeout * 2)
}

/// Why there is no quorum, in a sentence.
fn reason(shared: &Shared, replica: &ReplicaStatus, members: &[Member]) -> Option<String> {
    if let Some(why) = shared.failed() {
        return Some(why.clone());
    }
    if let Some(why) = &replica.dispute {
        return Some(why.clone());
    }
    if replica.quorum {
        return None;
    }
    if let Some(why) = &replica.doubt {
        return Some(why.clone());
    }
    let voters = || members.iter().filter(|member| !member.learner);
    let silent: Vec<&str> = voters()
        .filter(|member| member.id != shared.id && !is_reachable(shared, member))
        .map(|member| member.name.as_str())
        .collect();
    let needed = voters().count() / 2 + 1;
    Some(match (members.is_empty(), silent.is_empty()) {
        (true, _) => "the cluster has not been founded yet: too few of its replicas run".into(),
        (_, true) => "no leader is elected yet".into(),
        _ => format!(
            "{} of {} replicas are needed; not heard from: {}",
            needed,
            voters().count(),
            silent.join(", ")
        ),
    })
}
