//! A change is on every attentive mount before its call returns.
//!
//! Each replica says up to which index its mounts show the tree: the least of them counts, of those
//! here that are attentive. The reply to a change is held until every attentive replica has said
//! its index, and every attentive mount here but the asker's own. One that keeps others waiting for
//! longer than `visibility_timeout` stops being attentive, until it has caught up with what was
//! applied by then: a laggard costs the others one timeout, not one a change.

use super::{Answer, ReplicaConfig};
use crate::session::{ClientId, Unreleased, void_claim};
use crate::tree::{Change, ReplicaId, SessionId, Zxid};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Entries that other replicas wait to see shown here. What is forgotten beyond, because the mount
/// shows nothing, its origin no longer waits for, or hears with the next heartbeat.
const AWAITED_MAX: usize = 65_536;

pub(super) struct Visibility {
    timeout: u64,
    /// What the other replicas said.
    others: BTreeMap<ReplicaId, Watcher>,
    held: VecDeque<Held>,
    /// The mounts that listen here, by their clients.
    mounts: BTreeMap<ClientId, Watcher>,
    /// What was said to be shown here, or is.
    shown: Zxid,
    applied: Zxid,
    /// Entries applied and not yet shown that another replica's mount waits for.
    awaited: VecDeque<Awaited>,
    announce_at: u64,
}

/// A mount here, or those of another replica.
struct Watcher {
    shown: Zxid,
    attentive: bool,
    /// Becomes attentive at this index.
    needs: Zxid,
}

impl Watcher {
    fn hear(&mut self, shown: Zxid) {
        self.shown = shown;
        self.attentive |= shown >= self.needs;
    }

    /// It is waited for no longer, until it shows what is `applied` now.
    fn lag(&mut self, applied: Zxid) {
        (self.attentive, self.needs) = (false, applied);
    }
}

struct Awaited {
    index: Zxid,
    origin: ReplicaId,
    since: u64,
}

/// A reply that waits.
pub(super) struct Held {
    index: Zxid,
    /// Who asked, in which session.
    client: ClientId,
    session: SessionId,
    id: u64,
    answer: Answer,
    since: u64,
}

impl Held {
    pub(super) fn unreleased(self) -> Unreleased {
        Unreleased { id: self.id, shows: Some(self.index), answer: self.answer }
    }
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
        | Change::SessionMoved { .. }
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
            mounts: BTreeMap::new(),
            shown: 0,
            applied: 0,
            awaited: VecDeque::new(),
            announce_at: 0,
        }
    }

    /// The reply to a change at `index` that a client here asked for in a session.
    pub(super) fn hold(
        &mut self,
        (client, session): (ClientId, SessionId),
        index: Zxid,
        told: Unreleased,
        now: u64,
    ) {
        let Unreleased { id, answer, .. } = told;
        // Nearly always the newest: only a client that came from elsewhere brings older ones.
        let place = self.held.partition_point(|held| held.index <= index);
        self.held.insert(place, Held { index, client, session, id, answer, since: now });
    }

    /// A session is lost in which replies were had that still wait.
    pub(super) fn void_claims(&mut self, session: SessionId) {
        let of_it = self.held.iter_mut().filter(|held| held.session == session);
        of_it.for_each(|held| void_claim(&mut held.answer));
    }

    /// The replies in a session, for another replica to hold.
    pub(super) fn take_of(&mut self, session: SessionId) -> Vec<Held> {
        let (of_it, others) = std::mem::take(&mut self.held)
            .into_iter()
            .partition::<Vec<_>, _>(|held| held.session == session);
        self.held = others.into();
        of_it
    }

    /// An entry of `origin`'s session changed what mounts show.
    pub(super) fn await_shown(&mut self, index: Zxid, origin: ReplicaId, now: u64) {
        if self.awaited.len() == AWAITED_MAX {
            self.awaited.pop_front();
        }
        self.awaited.push_back(Awaited { index, origin, since: now });
    }

    pub(super) fn applied(&mut self, index: Zxid) {
        self.applied = index;
        if self.mounts.is_empty() {
            self.shown = index;
        }
    }

    /// A client's mount listens from now on, or does not any more. It shows the tree as it is.
    pub(super) fn watches(&mut self, client: ClientId, watches: bool) {
        match watches {
            true => {
                let now = Watcher { shown: self.applied, attentive: true, needs: 0 };
                self.mounts.insert(client, now);
            }
            false => drop(self.mounts.remove(&client)),
        }
        self.look();
    }

    /// A mount here shows everything up to `index`.
    pub(super) fn shown_here(&mut self, client: ClientId, index: Zxid) {
        if let Some(mount) = self.mounts.get_mut(&client) {
            mount.hear(mount.shown.max(index.min(self.applied)));
            self.look();
        }
    }

    /// What every attentive mount here shows.
    fn look(&mut self) {
        let attentive = self.mounts.values().filter(|mount| mount.attentive);
        let least = attentive.map(|mount| mount.shown).min().unwrap_or(self.applied);
        self.shown = self.shown.max(least);
    }

    /// A mount here that others have waited for too long is waited for no longer, if there are
    /// others here: on its own, its replica is found to be late by those who wait.
    pub(super) fn drop_laggards(&mut self, now: u64) {
        let Some(oldest) = self.awaited.front() else { return };
        if self.mounts.len() < 2 || now.saturating_sub(oldest.since) < self.timeout {
            return;
        }
        let (late, applied) = (oldest.index, self.applied);
        let laggards = self.mounts.values_mut().filter(|mount| mount.shown < late);
        laggards.for_each(|mount| mount.lag(applied));
        self.look();
    }

    pub(super) fn shown(&self) -> Zxid {
        self.shown
    }

    /// The replicas whose changes became visible here since the last call.
    pub(super) fn take_served(&mut self) -> BTreeSet<ReplicaId> {
        let served = self.awaited.partition_point(|awaited| awaited.index <= self.shown);
        self.awaited.drain(..served).map(|awaited| awaited.origin).collect()
    }

    /// Whether it is time to tell everyone, so that attention recovers and restarts are noticed.
    pub(super) fn announces(&mut self, now: u64, interval: u64) -> bool {
        let due = now >= self.announce_at;
        if due {
            self.announce_at = now + interval;
        }
        due
    }

    /// Another replica's mounts show everything up to `index`. Its word counts even when it is
    /// lower than before: it was started again.
    pub(super) fn shown_there(&mut self, from: ReplicaId, index: Zxid) {
        let unheard = Watcher { shown: 0, attentive: false, needs: self.applied };
        self.others.entry(from).or_insert(unheard).hear(index);
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
            && self.floor(first.client) < first.index
        {
            let (late, client, applied) = (first.index, first.client, self.applied);
            let others = self.others.values_mut();
            let mounts = self.mounts.iter_mut().filter(|(id, _)| **id != client);
            let late = others.chain(mounts.map(|(_, mount)| mount)).filter(|of| of.shown < late);
            late.for_each(|watcher| watcher.lag(applied));
            self.look();
        }
        let elsewhere = self.others.values().filter(|other| other.attentive);
        let elsewhere = elsewhere.map(|other| other.shown).min().unwrap_or(Zxid::MAX);
        let due = self.held.partition_point(|held| held.index <= elsewhere);
        let mounts = &self.mounts;
        let waits = |held: &Held| floor_of(mounts, held.client) < held.index;
        let (waiting, released): (Vec<Held>, Vec<Held>) = self.held.drain(..due).partition(waits);
        waiting.into_iter().rev().for_each(|held| self.held.push_front(held));
        released.into_iter().map(|held| (held.id, held.answer)).collect()
    }

    /// What every attentive mount shows that the replies to a client wait for.
    fn floor(&self, client: ClientId) -> Zxid {
        let others = self.others.values().filter(|other| other.attentive).map(|other| other.shown);
        others.min().unwrap_or(Zxid::MAX).min(floor_of(&self.mounts, client))
    }
}

/// The same of the mounts here.
fn floor_of(mounts: &BTreeMap<ClientId, Watcher>, client: ClientId) -> Zxid {
    let others = mounts.iter().filter(|(id, mount)| **id != client && mount.attentive);
    others.map(|(_, mount)| mount.shown).min().unwrap_or(Zxid::MAX)
}
