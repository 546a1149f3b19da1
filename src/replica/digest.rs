//! Whether this replica's tree is that of the others: digests compared at equal indexes, by vote.
//!
//! Each second the leader says an index. Every member that has applied it says its digest there, to
//! all, and counts for itself: whoever differs from a majority of the voters stops, the leader too
//! (it hands its office over first). Nobody stops by the word of one. Where trees differ and no
//! digest has a majority, nobody knows which is right: no changes are taken until one has.

use crate::tree::{ReplicaId, Zxid};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Digests of the newest entries that are kept: a follower is seldom further ahead of the leader's
/// announcement.
const KEPT: usize = 4096;
/// Votes of one replica that are kept: those of as many seconds.
const VOTES_KEPT: usize = 8;
/// Nanoseconds between the leader's announcements.
const INTERVAL: u64 = 1_000_000_000;
/// Nanoseconds that the others have for their votes before a difference is a dispute.
const PATIENCE: u64 = 3 * INTERVAL;

#[derive(Default)]
pub(super) struct Digests {
    /// (index, digest) of the newest entries applied here.
    own: VecDeque<(Zxid, u64)>,
    /// The leader asked for a vote there, and it is not applied here yet.
    asked: Option<Zxid>,
    /// What this replica said, and when.
    said: VecDeque<(Zxid, u64, u64)>,
    /// What the others said.
    heard: BTreeMap<ReplicaId, VecDeque<(Zxid, u64)>>,
    announce_at: u64,
    /// Where all voters were found to agree.
    settled: Zxid,
}

/// What the votes say of this replica.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// Nothing is wrong here, as far as is known; these differ from the majority.
    Fine { others: Vec<ReplicaId> },
    /// Trees differ, and no digest has a majority.
    Disputed(String),
    /// A majority has another tree.
    Outvoted(String),
}

impl Digests {
    /// An entry was applied here. Tells whether to vote now.
    pub(super) fn applied(&mut self, index: Zxid, digest: u64) -> bool {
        if self.own.len() == KEPT {
            self.own.pop_front();
        }
        self.own.push_back((index, digest));
        self.asked.is_some_and(|asked| asked <= index)
    }

    /// The tree was replaced: its history is another's.
    pub(super) fn restored(&mut self, index: Zxid, digest: u64) {
        self.own.clear();
        self.said.clear();
        self.asked = None;
        self.own.push_back((index, digest));
    }

    /// The leader asks for a vote at `index`. One that waits is not moved on: a replica that is
    /// always a little behind would never come to vote.
    pub(super) fn ask(&mut self, index: Zxid) {
        self.asked.get_or_insert(index);
    }

    /// The vote of this replica that is due, if it has come so far.
    pub(super) fn vote(&mut self, now: u64) -> Option<(Zxid, u64)> {
        let newest = self.own.back()?.0;
        let index = self.asked.take_if(|asked| *asked <= newest)?;
        let place = self.own.binary_search_by_key(&index, |(own, _)| *own).ok()?;
        let digest = self.own[place].1;
        if !self.said.iter().any(|(said, _, _)| *said == index) {
            if self.said.len() == VOTES_KEPT {
                self.said.pop_front();
            }
            self.said.push_back((index, digest, now));
        }
        Some((index, digest))
    }

    /// A member said its digest.
    pub(super) fn heard(&mut self, from: ReplicaId, index: Zxid, digest: u64) {
        let votes = self.heard.entry(from).or_default();
        votes.retain(|(heard, _)| *heard != index);
        if votes.len() == VOTES_KEPT {
            votes.pop_front();
        }
        votes.push_back((index, digest));
    }

    /// Only these are members (any more).
    pub(super) fn keep_only(&mut self, members: &BTreeSet<ReplicaId>) {
        self.heard.retain(|id, _| members.contains(id));
    }

    /// On the leader: whether to ask for votes now, and where. Again at the same place until all
    /// have voted, for one may have been away.
    pub(super) fn announcement(&mut self, now: u64) -> Option<Zxid> {
        let newest = self.own.back()?.0;
        if now < self.announce_at || newest == self.settled {
            return None;
        }
        self.announce_at = now + INTERVAL;
        Some(newest)
    }

    /// Counts the votes, the newest index that decides first.
    pub(super) fn judge(&mut self, here: ReplicaId, voters: &[ReplicaId], now: u64) -> Verdict {
        let mut dispute = None;
        for (index, own, since) in self.said.iter().rev().copied() {
            let vote = |id: &ReplicaId| match *id == here {
                true => Some((*id, own)),
                false => Some((*id, self.heard_at(*id, index)?)),
            };
            let votes: Vec<(ReplicaId, u64)> = voters.iter().filter_map(vote).collect();
            let count = |digest: u64| votes.iter().filter(|vote| vote.1 == digest).count();
            let majority = votes.iter().find(|vote| count(vote.1) > voters.len() / 2);
            let differ: Vec<_> = votes.iter().filter(|vote| vote.1 != own).map(|v| v.0).collect();
            if let Some((_, theirs)) = majority {
                if *theirs != own {
                    return Verdict::Outvoted(outvoted(index, own, *theirs));
                }
                if votes.len() == voters.len() && differ.is_empty() {
                    self.settled = self.settled.max(index);
                }
                // What was agreed on before a difference does not settle it.
                return dispute.map_or(Verdict::Fine { others: differ }, Verdict::Disputed);
            }
            if !differ.is_empty() && now >= since + PATIENCE {
                dispute.get_or_insert_with(|| disputed(index, &differ));
            }
        }
        dispute.map_or(Verdict::Fine { others: Vec::new() }, Verdict::Disputed)
    }

    fn heard_at(&self, id: ReplicaId, index: Zxid) -> Option<u64> {
        let votes = self.heard.get(&id)?;
        votes.iter().find(|(heard, _)| *heard == index).map(|(_, digest)| *digest)
    }
}

fn outvoted(index: Zxid, own: u64, theirs: u64) -> String {
    format!(
        "the tree at entry {index} differs from that of a majority (digest {own:016x}, they have \
         {theirs:016x}); remove this replica from the cluster and join it again with an empty data \
         directory"
    )
}

fn disputed(index: Zxid, differ: &[ReplicaId]) -> String {
    let names: Vec<String> = differ.iter().map(|id| format!("replica {id}")).collect();
    format!(
        "the tree at entry {index} differs from that of {}, and no majority has the same: nobody \
         knows which is right. No changes are taken; start the other replicas, or remove the \
         wrong one",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: u64 = 1;
    const WRONG: u64 = 2;

    fn ids(count: u64) -> Vec<ReplicaId> {
        (1..=count).map(ReplicaId).collect()
    }

    /// Replica 1, which has applied 9 entries and voted at the last.
    fn voted(own: u64, others: &[(u64, u64)]) -> Digests {
        let mut digests = Digests::default();
        digests.ask(9);
        (1..9).for_each(|index| assert!(!digests.applied(index, 7)));
        assert!(digests.applied(9, own));
        assert_eq!(digests.vote(0), Some((9, own)));
        others.iter().for_each(|(id, digest)| digests.heard(ReplicaId(*id), 9, *digest));
        digests
    }

    fn judge(own: u64, voters: u64, others: &[(u64, u64)]) -> Verdict {
        voted(own, others).judge(ReplicaId(1), &ids(voters), PATIENCE)
    }

    fn fine(others: &[u64]) -> Verdict {
        Verdict::Fine { others: others.iter().map(|id| ReplicaId(*id)).collect() }
    }

    #[test]
    fn the_minority_is_outvoted_and_nobody_else() {
        assert_eq!(judge(RIGHT, 3, &[(2, RIGHT), (3, WRONG)]), fine(&[3]));
        assert!(matches!(judge(WRONG, 3, &[(2, RIGHT), (3, RIGHT)]), Verdict::Outvoted(_)));
        assert_eq!(judge(RIGHT, 5, &[(2, WRONG), (3, RIGHT), (4, RIGHT)]), fine(&[2]));
        // One that does not vote itself counts all the same.
        let learner = voted(WRONG, &[(2, RIGHT), (3, RIGHT)]).judge(
            ReplicaId(1),
            &[ReplicaId(2), ReplicaId(3), ReplicaId(4)],
            0,
        );
        assert!(matches!(learner, Verdict::Outvoted(_)));
    }

    #[test]
    fn the_word_of_one_stops_nobody() {
        assert_eq!(judge(RIGHT, 3, &[(9, WRONG), (8, WRONG), (2, RIGHT)]), fine(&[]));
        let mut digests = voted(RIGHT, &[]);
        (1..100).for_each(|index| digests.heard(ReplicaId(3), index, WRONG));
        let verdict = digests.judge(ReplicaId(1), &ids(3), 0);
        assert_eq!(verdict, fine(&[]));
    }

    #[test]
    fn without_a_majority_it_is_a_dispute_after_a_while() {
        let mut digests = voted(RIGHT, &[(2, RIGHT), (3, RIGHT)]);
        digests.ask(10);
        digests.applied(10, RIGHT);
        digests.vote(0);
        digests.heard(ReplicaId(2), 10, WRONG);
        assert_eq!(digests.judge(ReplicaId(1), &ids(3), PATIENCE - 1), fine(&[]));
        let disputed = digests.judge(ReplicaId(1), &ids(3), PATIENCE);
        assert!(matches!(disputed, Verdict::Disputed(_)));
        digests.heard(ReplicaId(3), 10, RIGHT);
        assert_eq!(digests.judge(ReplicaId(1), &ids(3), PATIENCE), fine(&[2]));
    }

    #[test]
    fn votes_are_asked_for_until_all_have_voted() {
        let mut digests = voted(RIGHT, &[(2, RIGHT)]);
        digests.judge(ReplicaId(1), &ids(3), 0);
        assert_eq!(digests.announcement(0), Some(9));
        assert_eq!(digests.announcement(INTERVAL - 1), None);
        assert_eq!(digests.announcement(INTERVAL), Some(9));
        digests.heard(ReplicaId(3), 9, RIGHT);
        digests.judge(ReplicaId(1), &ids(3), 0);
        assert_eq!(digests.announcement(5 * INTERVAL), None);
    }
}
