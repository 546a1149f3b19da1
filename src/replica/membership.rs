//! Requests to join and to leave, carried out by the leader one at a time.
//!
//! A host joins as a learner and gets a vote once its log has caught up. The list in the tree
//! changes in the entry that changes raft's configuration. What is decided here is a function of
//! the list as applied: a request is looked at again until the list satisfies it.
//!
//! A removed replica is needed until the others can do without it. They count its vote until they
//! know that its removal is committed, and what they know only in memory a crash takes from them.
//! So the leader lets it go when an entry that it proposed after applying the removal is committed:
//! each replica of that quorum wrote the commit index with it ([`Membership::part`]).

use super::MembersAnswer;
use super::wishes::{Decision, Step, View, Wish};
use crate::tree::{Incarnation, Level, Member, ReplicaId};
use raft::eraftpb::ConfChangeType;
use std::collections::BTreeMap;

/// Requests of peers that wait on the leader; they repeat those that found no room.
const REQUESTS_MAX: usize = 64;

/// Who waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Asker {
    Here { id: u64 },
    Peer { replica: ReplicaId, id: u64 },
}

struct Request {
    asker: Asker,
    wish: Wish,
    since: u64,
    /// When to hand it to the leader (again).
    retry_at: u64,
}

#[derive(Default)]
pub(super) struct Membership {
    /// The list, as applied.
    members: Vec<Member>,
    requests: Vec<Request>,
    /// The founders heard here, this replica among them.
    met: BTreeMap<ReplicaId, Incarnation>,
    /// On the leader: whom it removed, and the index that is to be applied before that one may go.
    parting: Vec<(ReplicaId, u64)>,
}

impl Membership {
    pub(super) fn of(here: ReplicaId, incarnation: Incarnation) -> Membership {
        Membership { met: BTreeMap::from([(here, incarnation)]), ..Membership::default() }
    }

    /// As the address book has it.
    pub(super) fn name(&self, id: ReplicaId) -> Option<&str> {
        let member = self.members.iter().find(|member| member.id == id);
        member.map(|member| member.name.as_str())
    }

    pub(super) fn set(&mut self, members: &[Member]) {
        self.members = members.to_vec();
    }

    pub(super) fn met(&mut self, peer: ReplicaId, incarnation: Incarnation) {
        self.met.insert(peer, incarnation);
    }

    /// The founders with what is known of them, once that is a majority.
    pub(super) fn founders(&self, founders: &[Member]) -> Option<Vec<Member>> {
        let mut founders = founders.to_vec();
        self.name_met(&mut founders);
        let known = founders.iter().filter(|member| member.incarnation != 0).count();
        (known >= raft::majority(founders.len())).then_some(founders)
    }

    fn name_met(&self, members: &mut [Member]) -> Option<ReplicaId> {
        let mut named = None;
        for member in members.iter_mut().filter(|member| member.incarnation == 0) {
            if let Some(incarnation) = self.met.get(&member.id) {
                member.incarnation = *incarnation;
                named = Some(member.id);
            }
        }
        named
    }

    /// Whether the vote and the acknowledgements of `id` count: not those of a founder whose data
    /// directory the list does not name. Were its disk wiped, nobody could tell; so what this one
    /// acknowledged must not be what an entry rests on.
    pub(super) fn counts(&self, id: ReplicaId) -> bool {
        self.members.iter().all(|member| member.id != id || member.incarnation != 0)
    }

    /// On the leader: puts founders into the list that were heard after the founding. Raft's
    /// configuration stays as it is; but one change at a time is one for the list, too.
    pub(super) fn record(&self) -> Option<Step> {
        let mut members = self.members.clone();
        let id = self.name_met(&mut members)?;
        Some(Step { id, how: ConfChangeType::AddNode, members })
    }

    pub(super) fn request(&mut self, asker: Asker, wish: Wish, now: u64) {
        let room = matches!(asker, Asker::Here { .. }) || self.requests.len() < REQUESTS_MAX;
        if room && !self.requests.iter().any(|request| request.asker == asker) {
            self.requests.push(Request { asker, wish, since: now, retry_at: 0 });
        }
    }

    /// Another leader, or none. Requests of peers are theirs to repeat. Who was removed before a
    /// leader's term may go as soon as the leader has applied an entry of it.
    pub(super) fn leader_changed(&mut self) {
        self.parting.clear();
        self.requests.retain(|request| matches!(request.asker, Asker::Here { .. }));
        self.requests.iter_mut().for_each(|request| request.retry_at = 0);
    }

    /// The own requests to hand to the leader now.
    pub(super) fn due(&mut self, now: u64, again_in: u64) -> Vec<(u64, Wish)> {
        let mut due = Vec::new();
        for request in &mut self.requests {
            if let Asker::Here { id } = request.asker
                && now >= request.retry_at
            {
                request.retry_at = now + again_in;
                due.push((id, request.wish.clone()));
            }
        }
        due
    }

    /// The leader answered an own request.
    pub(super) fn answered(&mut self, id: u64) -> bool {
        let before = self.requests.len();
        self.requests.retain(|request| request.asker != Asker::Here { id });
        self.requests.len() < before
    }

    /// This replica is told that it may go: its own requests to leave, which are answered by that,
    /// and the list without it.
    pub(super) fn released(&mut self, here: ReplicaId) -> (Vec<u64>, Vec<Member>) {
        let own = |request: &mut Request| match (&request.wish, request.asker) {
            (Wish::Leave { member }, Asker::Here { id }) if *member == here => Some(id),
            _ => None,
        };
        let asked = self.requests.iter_mut().filter_map(own).collect();
        (asked, self.members.iter().filter(|member| member.id != here).cloned().collect())
    }

    /// Whether someone asked this replica to let `id` leave.
    pub(super) fn is_leaving(&self, id: ReplicaId) -> bool {
        self.requests.iter().any(|request| request.wish == Wish::Leave { member: id })
    }

    /// On the leader: `id` was removed in its term; it may go when an entry is applied that is
    /// appended from now on, at `index` or after.
    pub(super) fn part(&mut self, id: ReplicaId, index: u64) {
        self.parting.push((id, index));
    }

    /// The index that has to be applied before all those removed may go, if they may not yet.
    pub(super) fn parts_at(&self) -> Option<u64> {
        self.parting.iter().map(|(_, index)| *index).max()
    }

    /// On the leader: whether `id` was removed and may not go yet.
    pub(super) fn is_parting(&self, id: ReplicaId) -> bool {
        self.parting.iter().any(|(parting, _)| *parting == id)
    }

    /// Those who may go now that `applied` is applied, each once.
    pub(super) fn parted(&mut self, applied: u64) -> Vec<ReplicaId> {
        let parted = self.parting.extract_if(.., |(_, index)| *index <= applied);
        parted.map(|(id, _)| id).collect()
    }

    pub(super) fn expire(&mut self, now: u64, limit: u64) -> Vec<Asker> {
        let late = |request: &mut Request| now.saturating_sub(request.since) >= limit;
        self.requests.extract_if(.., late).map(|request| request.asker).collect()
    }

    /// On the leader: answers what is settled, and tells the next step towards the rest. It goes
    /// itself when nobody else waits: of two who leave, neither would get its wish from the other.
    /// `new_id` is the next free id, `level` the cluster's, `is_alive` whether a member was heard
    /// lately.
    pub(super) fn settle(
        &mut self,
        here: ReplicaId,
        new_id: ReplicaId,
        level: Level,
        is_alive: impl Fn(ReplicaId) -> bool,
    ) -> (Vec<(Asker, MembersAnswer)>, Option<Decision>) {
        let (mut answers, mut next) = (Vec::new(), None);
        let view = View { members: &self.members, here, new_id, level, is_alive: &is_alive };
        let parting = &self.parting;
        self.requests.retain(|request| {
            let decision = match &request.wish {
                Wish::Leave { member } if parting.iter().any(|(id, _)| id == member) => {
                    Decision::Wait
                }
                wish => view.decide(wish),
            };
            match decision {
                Decision::Answer(answer) => {
                    answers.push((request.asker, answer));
                    return false;
                }
                step if matches!(next, None | Some(Decision::HandOver(_))) => next = Some(step),
                _ => {}
            }
            true
        });
        (answers, next)
    }

    /// On the leader: gives a vote to a learner that `has_caught_up`.
    pub(super) fn promote(&self, has_caught_up: impl Fn(ReplicaId) -> bool) -> Option<Step> {
        let ready = |member: &&Member| {
            member.learner && member.incarnation != 0 && has_caught_up(member.id)
        };
        let id = self.members.iter().find(ready)?.id;
        let mut members = self.members.clone();
        members.iter_mut().filter(|member| member.id == id).for_each(|m| m.learner = false);
        Some(Step { id, how: ConfChangeType::AddNode, members })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, learner: bool) -> Member {
        let (name, address) = (format!("n{id}"), format!("h{id}:1"));
        Member { id: ReplicaId(id), name, address, learner, incarnation: 10 + id }
    }

    fn wish(name: &str, address: &str, incarnation: Incarnation) -> Wish {
        Wish::Join { name: name.to_owned(), address: address.to_owned(), incarnation, level: 3 }
    }

    fn settle(membership: &mut Membership, wish: Wish) -> Result<String, Decision> {
        membership.requests.clear();
        membership.request(Asker::Here { id: 1 }, wish, 0);
        let (answers, next) = membership.settle(ReplicaId(1), ReplicaId(50), 3, |id| id.0 < 5);
        match (answers.into_iter().next(), next) {
            (Some((_, Ok(members))), None) => Ok(format!("{} members", members.len())),
            (Some((_, Err(text))), None) => Ok(text),
            (None, Some(decision)) => Err(decision),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_the_same_data_directory_joins_again_under_its_name() {
        let mut membership = Membership::default();
        membership.set(&[member(1, false), member(2, true)]);
        assert_eq!(settle(&mut membership, wish("n2", "h2:1", 12)), Ok("2 members".to_owned()));
        let refused = settle(&mut membership, wish("n2", "h2:1", 13)).unwrap();
        assert!(refused.contains("keepfs member replace n2"), "{refused}");
        let refused = settle(&mut membership, wish("new", "h2:1", 14)).unwrap();
        assert!(refused.contains("is the address of n2"), "{refused}");
    }

    #[test]
    fn a_member_that_has_moved_gets_its_new_address_and_stays_what_it_is() {
        let mut membership = Membership::default();
        for (learner, how) in
            [(false, ConfChangeType::AddNode), (true, ConfChangeType::AddLearnerNode)]
        {
            let before = [member(1, false), member(2, learner), member(3, false)];
            membership.set(&before);
            let Err(Decision::Propose(step)) = settle(&mut membership, wish("n2", "new:1", 12))
            else {
                panic!("it may move");
            };
            assert_eq!((step.id, step.how), (ReplicaId(2), how));
            let moved = Member { address: "new:1".to_owned(), ..before[1].clone() };
            assert_eq!(step.members, [before[0].clone(), moved, before[2].clone()]);
            membership.set(&step.members);
            assert_eq!(settle(&mut membership, wish("n2", "new:1", 12)), Ok("3 members".into()));
            // Another data directory, another's address, and what is none.
            for (address, incarnation) in [("other:1", 13), ("h3:1", 12), ("nonsense", 12)] {
                let refused = settle(&mut membership, wish("n2", address, incarnation));
                assert!(refused.is_ok_and(|text| !text.ends_with(" members")), "{address}");
            }
        }
    }

    #[test]
    fn what_cannot_stand_in_the_address_book_is_refused() {
        let mut membership = Membership::default();
        membership.set(&[member(1, false), Member { incarnation: 0, ..member(2, true) }]);
        for (name, address) in [("", "h:1"), ("bad name/x", "h:1"), ("a\nb", "h:1")] {
            let refused = settle(&mut membership, wish(name, address, 9)).unwrap();
            assert!(refused.contains("cannot name a replica"), "{refused}");
        }
        for address in ["nonsense", "localhost:99999", "a\u{1b}:1"] {
            let refused = settle(&mut membership, wish("new", address, 0)).unwrap();
            assert!(refused.contains("is not HOST:PORT"), "{refused}");
        }
        // The verb, for one that is there, and for one that is announced.
        for (name, address) in [("n1", "h1:1"), ("n1", "other:1"), ("n2", "other:1")] {
            let refused = settle(&mut membership, wish(name, address, 0)).unwrap();
            assert!(refused.contains("is a member already, at"), "{refused}");
        }
        assert_eq!(settle(&mut membership, wish("n2", "h2:1", 0)), Ok("2 members".to_owned()));
    }

    #[test]
    fn a_founder_counts_when_its_data_directory_is_in_the_list() {
        let mut membership = Membership::default();
        let founders = [member(1, false), member(2, false), member(3, false)]
            .map(|member| Member { incarnation: 0, ..member });
        membership.met(ReplicaId(1), 11);
        assert_eq!(membership.founders(&founders), None);
        membership.met(ReplicaId(2), 12);
        membership.set(&membership.founders(&founders).expect("a majority is known"));
        assert_eq!([1, 2, 3].map(|id| membership.counts(ReplicaId(id))), [true, true, false]);
        assert_eq!(membership.record(), None);
        membership.met(ReplicaId(3), 13);
        let step = membership.record().expect("it was heard");
        membership.set(&step.members);
        assert!(membership.counts(ReplicaId(3)) && membership.record().is_none());
    }

    #[test]
    fn a_program_below_the_clusters_level_does_not_join() {
        let mut membership = Membership::default();
        membership.set(&[member(1, false)]);
        let older = |incarnation| Wish::Join {
            name: "new".to_owned(),
            address: "h:2".to_owned(),
            incarnation,
            level: 2,
        };
        let refused = settle(&mut membership, older(9)).unwrap();
        assert!(refused.contains("new runs an older keepfs (level 2)"), "{refused}");
        assert!(settle(&mut membership, older(0)).is_err(), "room for a name can be made");
    }

    #[test]
    fn a_new_host_joins_as_a_learner() {
        let mut membership = Membership::default();
        membership.set(&[member(1, false)]);
        let Err(Decision::Propose(step)) = settle(&mut membership, wish("new", "h:2", 9)) else {
            panic!("it may join");
        };
        assert_eq!((step.id, step.how), (ReplicaId(50), ConfChangeType::AddLearnerNode));
        assert!(step.members[1].learner);
    }

    #[test]
    fn neither_the_last_voter_nor_the_leader_is_removed() {
        let mut membership = Membership::default();
        membership.set(&[member(1, false), member(2, true)]);
        let refused = settle(&mut membership, Wish::Leave { member: ReplicaId(1) });
        assert!(refused.unwrap().contains("cannot leave"));
        membership.set(&[member(1, false), member(2, false)]);
        let decided = settle(&mut membership, Wish::Leave { member: ReplicaId(1) });
        assert_eq!(decided, Err(Decision::HandOver(None)));
    }

    #[test]
    fn who_stays_must_do_without_the_one_who_goes() {
        let mut membership = Membership::default();
        // Those from 5 on are dead.
        membership.set(&[member(1, false), member(2, false), member(7, false)]);
        let refused = settle(&mut membership, Wish::Leave { member: ReplicaId(2) });
        assert!(refused.unwrap().contains("only 1 of the 2"));
        let Err(Decision::Propose(step)) =
            settle(&mut membership, Wish::Leave { member: ReplicaId(7) })
        else {
            panic!("the dead one may go");
        };
        assert_eq!((step.id, step.how), (ReplicaId(7), ConfChangeType::RemoveNode));
    }

    #[test]
    fn a_member_that_was_announced_gets_its_data_directory_when_it_joins() {
        let mut membership = Membership::default();
        membership.set(&[member(1, false), Member { incarnation: 0, ..member(2, true) }]);
        assert_eq!(membership.promote(|_| true), None, "nobody is there");
        let Err(Decision::Propose(step)) = settle(&mut membership, wish("n2", "h2:9", 12)) else {
            panic!("it is");
        };
        assert_eq!((step.id, step.how), (ReplicaId(2), ConfChangeType::AddLearnerNode));
        assert_eq!((step.members[1].incarnation, &*step.members[1].address), (12, "h2:9"));
    }

    #[test]
    fn a_leader_hands_over_to_a_voter_that_is_there() {
        let mut membership = Membership::default();
        membership.set(&[member(1, false), member(2, false), member(3, true), member(7, false)]);
        let mut lead = |id| settle(&mut membership, Wish::Lead { member: ReplicaId(id) });
        assert_eq!(lead(2), Err(Decision::HandOver(Some(ReplicaId(2)))));
        assert_eq!(lead(1), Ok("4 members".to_owned()));
        assert!(lead(3).unwrap().contains("no vote yet"));
        assert!(lead(7).unwrap().contains("was not heard"));
        assert!(lead(9).unwrap().contains("no member"));
    }
}
