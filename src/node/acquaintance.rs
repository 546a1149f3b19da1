//! Who the other members are, as it is kept in the identity file; and what becomes of a replica
//! that they do not know.

use super::shared::{Job, Shared};
use crate::disk::Identity;
use crate::peers::{Reason, TurnedAway};
use crate::replica::{Input, Meeting, keep_met};
use crate::tree::{Incarnation, Member, ReplicaId};
use log::error;

/// See [`crate::peers::PeerHandler::meet`].
pub fn meet(
    shared: &Shared,
    id: ReplicaId,
    incarnation: Incarnation,
    start: u64,
) -> Result<(), String> {
    let mut kept = shared.identity.lock();
    let mut identity = kept.clone();
    let Some(member) = identity.members.iter_mut().find(|member| member.id == id) else {
        return Ok(());
    };
    let first = match Meeting::of(member.incarnation, incarnation) {
        Meeting::Known => false,
        Meeting::First => true,
        Meeting::Stranger => return Err(format!("{} is another data directory", member.name)),
    };
    member.incarnation = incarnation;
    identity.heard.insert(id, start);
    shared.strangers.lock().remove(&id);
    keep(shared, &mut kept, identity)?;
    if first {
        shared.peers.keep_met(id, incarnation);
        let _ = shared.inbox.send(Job::Input(Input::Met { peer: id, incarnation }));
    }
    Ok(())
}

/// The address book and the cluster's id as the tree has them are kept, with what was heard of
/// founders that it does not tell of. Returns the members so.
pub fn learn(shared: &Shared, cluster: Option<u128>, mut members: Vec<Member>) -> Vec<Member> {
    let mut kept = shared.identity.lock();
    let mut identity = kept.clone();
    identity.cluster = cluster.or(identity.cluster);
    keep_met(&mut members, &identity.members);
    if !members.is_empty() {
        // A start that was heard of another data directory says nothing of this one.
        identity.heard.retain(|id, _| {
            let known = |list: &[Member]| list.iter().find(|m| m.id == *id).map(|m| m.incarnation);
            known(&members) == known(&kept.members)
        });
        identity.members = members.clone();
    }
    if let Err(why) = keep(shared, &mut kept, identity) {
        shared.fail(why);
    }
    members
}

/// Makes it durable, if it is new.
fn keep(shared: &Shared, kept: &mut Identity, identity: Identity) -> Result<(), String> {
    if *kept != identity {
        shared.directory.write_identity(&identity).map_err(|error| error.to_string())?;
        *kept = identity;
    }
    Ok(())
}

/// Another member does not let this replica speak. It stops if nothing but an operator can change
/// that: its cluster knows another data directory; or so many belong to another cluster that those
/// who are left are no majority.
pub fn turned_away(shared: &Shared, by: ReplicaId, why: &TurnedAway) {
    match why.reason {
        Reason::Forgotten => shared.refused(why.text.clone()),
        Reason::Cluster => {
            let members = shared.identity.lock().members.clone();
            let voters = members.iter().filter(|member| !member.learner).count();
            let mut others = shared.strangers.lock();
            if others.insert(by) {
                error!("{}", why.text);
            }
            if voters - others.len().min(voters) < raft::majority(voters) {
                shared.refused(format!(
                    "this replica's cluster is no more: {}. Nothing of its data was changed; move \
                     its data directory away, and start with an empty one to join the others",
                    why.text
                ));
            }
        }
        Reason::Other => {}
    }
}
