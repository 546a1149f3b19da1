//! A change is on every attentive mount before its call returns.
//!
//! Each replica says up to which index its mount shows the tree. The reply to an own change is held
//! until every attentive member has said its index. One that keeps a reply for longer than
//! `visibility_timeout` stops being attentive, until it has caught up with what was applied here by
//! then.

use super::{Answer, ReplicaConfig, effects};
use crate::tree::{Change, ReplicaId, Zxid};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Entries that other replicas wait to see shown here. What is forgotten beyond, because the mount
/// shows nothing, its origin no longer waits for, or hears with the next heartbeat.
const AWAITED_MAX: usize = 65_536;

pub(super) struct Visibility {
    timeout: u64,
    /// What the other replicas said.
    others: BTreeMap<ReplicaId, Other>,
    held: VecDeque<Held>,
    /// Whether a mount listens here.
    mounted: bool,
    /// What it shows.
    shown: Zxid,
    applied: Zxid,
    /// Entries applied and not yet shown that another replica's mount waits for.
    awaited: VecDeque<(Zxid, ReplicaId)>,
    announce_at: u64,
}

struct Other {
    shown: Zxid,
    attentive: bool,
    /// Becomes attentive at this index.
    needs: Zxid,
}

struct Held {
    index: Zxid,
    id: u64,
    answer: Answer,
    since: u64,
}

/// Whether a mount elsewhere shows something else after these changes.
pub(super) fn shows(changes: &[Change]) -> bool {
    changes.iter().any(|change| match change {
        Change::Attributes { .. }
        | Change::Data { .. }
        | Change::Added { .. }
        | Change::Removed { .. }
        | Change::Replaced { .. }
        | Change::Moved { .. } => true,
        // A mount that forgets pages waits for them to be written back: two that do so for each
        // other must not wait for each other's answer.
        Change::Stored { .. }
        | Change::Orphaned { .. }
        | Change::Freed { .. }
        | Change::Granted { .. }
        | Change::SessionOpened { .. }
        | Change::SessionEnded { .. }
        | Change::Members
        | Change::Programs
        | Change::Level { .. } => false,
    })
}

impl Visibility {
    pub(super) fn new(config: &ReplicaConfig) -> Visibility {
        Visibility {
            timeout: config.visibility_timeout,
            others: BTreeMap::new(),
            held: VecDeque::new(),
            mounted: false,
            shown: 0,
            applied: 0,
            awaited: VecDeque::new(),
            announce_at: 0,
        }
    }

    /// The reply to an own change at `index`, which is the newest applied.
    pub(super) fn hold(&mut self, index: Zxid, id: u64, answer: Answer, now: u64) {
        self.held.push_back(Held { index, id, answer, since: now });
    }

    /// The session is lost in which the replies were had that still wait.
    pub(super) fn void_claims(&mut self) {
        self.held.iter_mut().for_each(|held| effects::void_claim(&mut held.answer));
    }

    /// An entry of `origin`'s session changed what mounts show.
    pub(super) fn await_shown(&mut self, index: Zxid, origin: ReplicaId) {
        if self.awaited.len() == AWAITED_MAX {
            self.awaited.pop_front();
        }
        self.awaited.push_back((index, origin));
    }

    pub(super) fn applied(&mut self, index: Zxid) {
        self.applied = index;
        if !self.mounted {
            self.shown = index;
        }
    }

    pub(super) fn set_mounted(&mut self, mounted: bool) {
        self.mounted = mounted;
        if !mounted {
            self.shown = self.applied;
        }
    }

    /// The own mount shows everything up to `index`.
    pub(super) fn shown_here(&mut self, index: Zxid) {
        self.shown = self.shown.max(index.min(self.applied));
    }

    pub(super) fn shown(&self) -> Zxid {
        self.shown
    }

    /// The replicas whose changes became visible here since the last call.
    pub(super) fn take_served(&mut self) -> BTreeSet<ReplicaId> {
        let served = self.awaited.partition_point(|(index, _)| *index <= self.shown);
        self.awaited.drain(..served).map(|(_, origin)| origin).collect()
    }

    /// Whether it is time to tell everyone, so that attention recovers and restarts are noticed.
    pub(super) fn announces(&mut self, now: u64, interval: u64) -> bool {
        let due = now >= self.announce_at;
        if due {
            self.announce_at = now + interval;
        }
        due
    }

    /// Another replica's mount shows everything up to `index`. Its word counts even when it is
    /// lower than before: it was started again.
    pub(super) fn shown_there(&mut self, from: ReplicaId, index: Zxid) {
        let unheard = Other { shown: 0, attentive: false, needs: self.applied };
        let other = self.others.entry(from).or_insert(unheard);
        other.shown = index;
        other.attentive |= index >= other.needs;
    }

    /// Only these are members (any more).
    pub(super) fn keep_only(&mut self, members: &BTreeSet<ReplicaId>) {
        self.others.retain(|id, _| members.contains(id));
    }

    pub(super) fn attentive(&self) -> Vec<ReplicaId> {
        let attentive = self.others.iter().filter(|(_, other)| other.attentive);
        attentive.map(|(id, _)| *id).collect()
    }

    /// The replies that need not wait any longer.
    pub(super) fn release(&mut self, now: u64) -> Vec<(u64, Answer)> {
        while let Some(first) = self.held.front()
            && now.saturating_sub(first.since) >= self.timeout
            && self.floor() < first.index
        {
            let (late, needs) = (first.index, self.applied);
            for other in self.others.values_mut().filter(|other| other.shown < late) {
                (other.attentive, other.needs) = (false, needs);
            }
        }
        let floor = self.floor();
        let released = self.held.partition_point(|held| held.index <= floor);
        self.held.drain(..released).map(|held| (held.id, held.answer)).collect()
    }

    /// What every attentive mount shows.
    fn floor(&self) -> Zxid {
        let attentive = self.others.values().filter(|other| other.attentive);
        attentive.map(|other| other.shown).min().unwrap_or(Zxid::MAX)
    }
}
