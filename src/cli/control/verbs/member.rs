//! `member.*`: the replicas of the cluster, and changes of them. Each answers, with the members as
//! they are then, when its change is committed.

use super::{Asked, value};
use crate::cluster::{Cluster, MemberStatus};
use crate::node::ReplicaId;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct One {
    /// Its name, or its id.
    member: String,
    /// Although it is alive.
    #[serde(default)]
    force: bool,
}

#[derive(Deserialize)]
struct New {
    name: String,
    address: String,
}

pub fn list(asked: &Asked<'_>) -> Result<Value, String> {
    value(asked.node.status().members)
}

/// Makes room for a data directory that is not there yet.
pub fn add(asked: &Asked<'_>) -> Result<Value, String> {
    let New { name, address } = asked.arguments()?;
    asked.node.add_member(name, address, 0)?;
    list(asked)
}

pub fn remove(asked: &Asked<'_>) -> Result<Value, String> {
    let (member, _) = one(asked)?;
    asked.node.remove_member(ReplicaId(member.id))?;
    list(asked)
}

/// Makes room for another data directory under a member's name.
pub fn replace(asked: &Asked<'_>) -> Result<Value, String> {
    let (member, force) = one(asked)?;
    let MemberStatus { name, .. } = &member;
    if member.is_self {
        return Err(format!("{name} runs here, and its data with it: ask another replica"));
    }
    if member.reachable && !force {
        return Err(format!(
            "{name} is alive, with the data directory that the cluster knows: stop it first, or \
             say --force"
        ));
    }
    asked.node.remove_member(ReplicaId(member.id))?;
    list(asked)
}

pub fn transfer(asked: &Asked<'_>) -> Result<Value, String> {
    let (member, _) = one(asked)?;
    asked.node.transfer_leadership(ReplicaId(member.id))?;
    list(asked)
}

/// The member that is meant: a name goes before an id.
fn one(asked: &Asked<'_>) -> Result<(MemberStatus, bool), String> {
    let One { member: wanted, force } = asked.arguments()?;
    let members = asked.node.status().members;
    let by_name = members.iter().find(|member| member.name == wanted);
    let by_id = members.iter().find(|member| member.id.to_string() == wanted);
    match by_name.or(by_id) {
        Some(member) => Ok((member.clone(), force)),
        None => {
            let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
            let wanted = wanted.escape_debug();
            Err(format!("{wanted} is no member; these are: {}", names.join(", ")))
        }
    }
}
