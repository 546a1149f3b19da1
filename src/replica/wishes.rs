//! What may be wished of the membership, and what the leader does about it: a function of the list
//! as applied.

use super::MembersAnswer;
use crate::limits::REPLICAS_MAX;
use crate::tree::{Incarnation, Level, Member, ReplicaId, check_address, check_name};
use raft::eraftpb::ConfChangeType;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wish {
    /// `incarnation` 0: room for a name, for the first data directory that comes with it.
    Join {
        name: String,
        address: String,
        incarnation: Incarnation,
        /// What its program can do.
        level: Level,
    },
    Leave {
        member: ReplicaId,
    },
    /// To be the leader.
    Lead {
        member: ReplicaId,
    },
}

/// A change for raft, with the list that goes with it.
#[derive(Debug, PartialEq)]
pub(super) struct Step {
    pub id: ReplicaId,
    pub how: ConfChangeType,
    pub members: Vec<Member>,
}

/// What the leader does about a wish.
#[derive(Debug, PartialEq)]
pub(super) enum Decision {
    Answer(MembersAnswer),
    Propose(Step),
    /// Nothing now: what it waits for is on its way.
    Wait,
    /// Hand the office over, to that one or to whoever is fit: a leader does not remove itself.
    HandOver(Option<ReplicaId>),
}

/// What the leader sees.
pub(super) struct View<'a> {
    pub members: &'a [Member],
    pub here: ReplicaId,
    /// The next free id.
    pub new_id: ReplicaId,
    /// The cluster's.
    pub level: Level,
    pub is_alive: &'a dyn Fn(ReplicaId) -> bool,
}

impl View<'_> {
    pub(super) fn decide(&self, wish: &Wish) -> Decision {
        match wish {
            // Room for a name is made by whoever is there.
            Wish::Join { name, incarnation, level, .. }
                if *incarnation != 0 && *level < self.level =>
            {
                refuse(format!(
                    "{name} runs an older keepfs (level {level}) than this cluster needs (level \
                     {}): install on it the one that the others run",
                    self.level
                ))
            }
            Wish::Join { name, address, incarnation, .. } => self.join(name, address, *incarnation),
            Wish::Leave { member } => self.leave(*member),
            Wish::Lead { member } => self.lead(*member),
        }
    }

    fn join(&self, name: &str, address: &str, incarnation: Incarnation) -> Decision {
        if let Err(text) = check_name(name).and_then(|()| check_address(address)) {
            return refuse(text);
        }
        let mut members = self.members.to_vec();
        let holder = members.iter().find(|member| member.address == address);
        if let Some(holder) = holder.filter(|holder| holder.name != name) {
            return refuse(format!("{address} is the address of {}", holder.name));
        }
        let full = members.len() >= REPLICAS_MAX;
        let named = members.iter_mut().find(|member| member.name == name);
        let mut how = ConfChangeType::AddLearnerNode;
        let id = match named {
            // Nobody who is there asks; and what is asked for would not happen.
            Some(known)
                if incarnation == 0 && (known.incarnation != 0 || known.address != address) =>
            {
                return refuse(format!(
                    "{name} is a member already, at {}; `keepfs member replace {name}` makes room \
                     for another data directory; it tells its address itself, when it is started \
                     with another --listen",
                    known.address
                ));
            }
            // It has moved. For raft it stays what it is.
            Some(known) if known.incarnation == incarnation && known.address != address => {
                known.address = address.to_owned();
                if !known.learner {
                    how = ConfChangeType::AddNode;
                }
                known.id
            }
            // The answer to an earlier request was lost, or its asker crashed before it wrote it
            // down.
            Some(known) if known.incarnation == incarnation => {
                return Decision::Answer(Ok(members));
            }
            // A founder that was not heard of so far need not join.
            Some(known) if known.incarnation == 0 && !known.learner => {
                return Decision::Answer(Ok(members));
            }
            Some(known) if known.incarnation == 0 => {
                known.address = address.to_owned();
                known.incarnation = incarnation;
                known.id
            }
            Some(_) => {
                return refuse(format!(
                    "{name} is a member already, with another data directory; if that one is lost, \
                     `keepfs member replace {name}` on any host makes room for this one"
                ));
            }
            None if full => {
                return refuse(format!("a cluster has at most {REPLICAS_MAX} replicas"));
            }
            None => {
                let (id, name, address) = (self.new_id, name.to_owned(), address.to_owned());
                members.push(Member { id, name, address, learner: true, incarnation });
                id
            }
        };
        Decision::Propose(Step { id, how, members })
    }

    fn leave(&self, id: ReplicaId) -> Decision {
        let Some(known) = self.member(id) else {
            return Decision::Answer(Ok(self.members.to_vec()));
        };
        let voters = || self.members.iter().filter(|member| !member.learner && member.id != id);
        if voters().next().is_none() {
            return refuse("the last replica with a vote cannot leave".to_owned());
        }
        let alive = voters().filter(|voter| self.is_there(voter.id)).count();
        if !known.learner && alive < raft::majority(voters().count()) {
            return refuse(format!(
                "{} cannot leave: of those who stay, only {alive} of the {} with a vote are heard, \
                 and they could change nothing",
                known.name,
                voters().count()
            ));
        }
        if id == self.here {
            return Decision::HandOver(None);
        }
        let members = self.members.iter().filter(|member| member.id != id).cloned().collect();
        Decision::Propose(Step { id, how: ConfChangeType::RemoveNode, members })
    }

    fn lead(&self, id: ReplicaId) -> Decision {
        match self.member(id) {
            None => refuse(format!("{id} is no member")),
            Some(member) if member.learner => refuse(format!("{} has no vote yet", member.name)),
            Some(_) if id == self.here => Decision::Answer(Ok(self.members.to_vec())),
            Some(member) if !self.is_there(id) => {
                refuse(format!("{} was not heard lately; it cannot lead", member.name))
            }
            Some(_) => Decision::HandOver(Some(id)),
        }
    }

    fn member(&self, id: ReplicaId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    fn is_there(&self, id: ReplicaId) -> bool {
        id == self.here || (self.is_alive)(id)
    }
}

fn refuse(text: String) -> Decision {
    Decision::Answer(Err(text))
}
