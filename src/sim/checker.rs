//! What must never be, whatever the world does.
//!
//! * one index, one entry, one digest, on every replica;
//! * a proposal takes effect once, and is answered only after it has;
//! * registers are linearizable; appended lines and sequential names are there once;
//! * no two clients believe in conflicting locks at the same moment, and tokens grow;
//! * what a lock's holder writes lands before the next holder's grant, or never;
//! * a session that is heard does not expire;
//! * no command is above the cluster's level, or above its replica's program.

use super::beliefs::{Belief, Beliefs};
use super::history::{Operation, contradiction};
use super::host::SESSION_TIMEOUT;
use super::{SECOND, layout};
use crate::replica::Batch;
use crate::replica::entry;
use crate::tree::{Change, Command, FIRST_LEVEL, Level, Proposal, SessionId, Tree, Zxid};
use raft::eraftpb::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// Beyond so many violations a run is over.
const VIOLATIONS_MAX: usize = 20;

#[derive(Default)]
pub(super) struct Checker {
    violations: Vec<String>,
    /// Nothing goes wrong in this world, so no session may end.
    faultless: bool,
    must_succeed: bool,
    /// Term and bytes of each entry.
    entries: BTreeMap<Zxid, (u64, Vec<u8>)>,
    proposals: BTreeMap<Zxid, Proposal>,
    digests: BTreeMap<Zxid, u64>,
    /// Where each proposal of a session took effect.
    effects: BTreeMap<(SessionId, u64), Zxid>,
    /// Where each write took effect, by its bytes: no two writes of a run write the same.
    written: BTreeMap<Vec<u8>, Zxid>,
    registers: BTreeMap<usize, Vec<Operation>>,
    lines: BTreeSet<Vec<u8>>,
    sequential: BTreeSet<Vec<u8>>,
    pub beliefs: Beliefs,
    /// What was written by a lock's holder, who dared by it: its bytes, by which it is found in
    /// `written`.
    guarded: Vec<(Belief, Vec<u8>)>,
    /// When each session was last heard by the leader, and its longest silence before that.
    heard: BTreeMap<SessionId, (u64, u64)>,
    ended: BTreeSet<SessionId>,
    /// Commands above the first level, and where the cluster's level rose to which.
    newer: BTreeMap<Zxid, Level>,
    levels: BTreeMap<Zxid, Level>,
}

impl Checker {
    pub fn new(faultless: bool) -> Checker {
        Checker { faultless, ..Checker::default() }
    }

    pub fn violated(&mut self, now: u64, what: String) {
        let seconds = now as f64 / SECOND as f64;
        self.violations.push(format!("{seconds:.6}s: {what}"));
    }

    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    pub fn is_hopeless(&self) -> bool {
        self.violations.len() >= VIOLATIONS_MAX
    }

    /// Different entries seen.
    pub fn entries(&self) -> u64 {
        self.entries.len() as u64
    }

    /// From now on an operation may be refused, but not fail.
    pub fn must_succeed(&mut self) {
        self.must_succeed = true;
    }

    pub fn failed(&mut self, now: u64, what: String) {
        if self.must_succeed {
            self.violated(now, format!("fails in a healthy cluster: {what}"));
        }
    }

    /// A host is about to apply these.
    pub fn committed(&mut self, now: u64, host: usize, entries: &[Entry]) {
        for entry in entries {
            let bytes = entry.data.to_vec();
            if let Some(known) = self.entries.get(&entry.index) {
                if *known != (entry.term, bytes) {
                    let what = format!("h{host} applies another entry at {}", entry.index);
                    self.violated(now, what);
                }
                continue;
            }
            if let Ok((_, proposal)) = entry::decode(&bytes, Level::MAX) {
                if proposal.command.level() > FIRST_LEVEL {
                    self.newer.insert(entry.index, proposal.command.level());
                }
                self.proposals.insert(entry.index, proposal);
            }
            self.entries.insert(entry.index, (entry.term, bytes));
        }
    }

    /// A host has applied a batch; answers how many sessions ended in it that were alive until now.
    pub fn applied(
        &mut self,
        now: u64,
        host: usize,
        zxid: Zxid,
        digest: u64,
        batch: &Batch,
    ) -> u64 {
        self.compare_digest(now, host, zxid, digest);
        let mut ended = 0;
        for applied in batch.applied.iter().filter(|applied| !applied.changes.is_empty()) {
            self.took_effect(now, applied.zxid);
            for change in &applied.changes {
                match change {
                    Change::SessionOpened { session } => {
                        self.heard.entry(*session).or_insert((now, 0));
                    }
                    Change::SessionEnded { session } if self.ended.insert(*session) => {
                        ended += 1;
                        self.session_ended(now, applied.zxid, *session);
                    }
                    Change::Level { level } => self.rose(now, applied.zxid, *level),
                    _ => {}
                }
            }
        }
        ended
    }

    fn rose(&mut self, now: u64, zxid: Zxid, level: Level) {
        let before = self.level_before(zxid);
        if level <= before || *self.levels.entry(zxid).or_insert(level) != level {
            self.violated(now, format!("the level rises from {before} to {level} at {zxid}"));
        }
    }

    fn level_before(&self, zxid: Zxid) -> Level {
        self.levels.range(..zxid).next_back().map_or(FIRST_LEVEL, |(_, level)| *level)
    }

    pub fn highest_level(&self) -> Level {
        self.level_before(Zxid::MAX)
    }

    pub fn raised(&self) -> u64 {
        self.levels.len() as u64
    }

    /// A host whose program `can` do so much has applied the log up to `zxid`.
    pub fn understands(&mut self, now: u64, host: usize, can: Level, zxid: Zxid) {
        if let Some((at, level)) = self.newer.range(..=zxid).find(|(_, level)| **level > can) {
            let what = format!("h{host} can do {can}, and applies one of level {level} at {at}");
            self.violated(now, what);
        }
    }

    /// Nothing in the log is newer than the level was by then.
    fn judge_newer(&mut self, now: u64) {
        for (at, level) in std::mem::take(&mut self.newer) {
            let allowed = self.level_before(at);
            if level > allowed {
                let what = format!("a command of level {level} is at {at}, where it is {allowed}");
                self.violated(now, what);
            }
        }
    }

    pub fn compare_digest(&mut self, now: u64, host: usize, zxid: Zxid, digest: u64) {
        let known = *self.digests.entry(zxid).or_insert(digest);
        if known != digest {
            self.violated(now, format!("h{host} has another digest at {zxid}"));
        }
    }

    fn took_effect(&mut self, now: u64, zxid: Zxid) {
        let Some(proposal) = self.proposals.get(&zxid) else { return };
        if proposal.session != SessionId::NONE {
            let key = (proposal.session, proposal.sequence);
            let first = *self.effects.entry(key).or_insert(zxid);
            if first != zxid {
                let what = format!("the proposal of {first} takes effect again at {zxid}");
                return self.violated(now, what);
            }
        }
        if let Command::Write(write) = &proposal.command {
            self.written.insert(write.data.to_vec(), zxid);
        }
    }

    /// The leader has heard of a session.
    pub fn heard(&mut self, now: u64, session: SessionId) {
        if let Some((last, silence)) = self.heard.get_mut(&session) {
            *silence = (*silence).max(now - *last);
            *last = now;
        }
    }

    /// An expiry has a reason: a silence not much shorter than the timeout, given that messages may
    /// be under way and clocks drift.
    fn session_ended(&mut self, now: u64, zxid: Zxid, session: SessionId) {
        if self.faultless {
            self.violated(now, format!("session {session} ends in a faultless world"));
        }
        let expired = self
            .proposals
            .get(&zxid)
            .is_some_and(|proposal| matches!(proposal.command, Command::ExpireSessions { .. }));
        let (last, silence) = self.heard.get(&session).copied().unwrap_or_default();
        if expired && silence.max(now - last) < SESSION_TIMEOUT * 4 / 5 {
            self.violated(now, format!("session {session} expires though it was heard"));
        }
    }

    /// The write of these bytes was answered at a host whose tree stands at `seen`. Answers with
    /// its place in the log.
    pub fn acknowledged(&mut self, now: u64, bytes: &[u8], seen: Zxid) -> Option<Zxid> {
        let at = self.written.get(bytes).copied();
        if at.is_none_or(|at| at > seen) {
            let line = String::from_utf8_lossy(bytes).into_owned();
            self.violated(now, format!("answered before it took effect: {line}"));
        }
        at
    }

    /// Bytes that are to be written because of a lock.
    pub fn guarded(&mut self, belief: Belief, bytes: Vec<u8>) {
        self.guarded.push((belief, bytes));
    }

    /// No write of a holder is later than the grant of a later one.
    fn judge_guarded(&mut self, now: u64) {
        for (belief, bytes) in std::mem::take(&mut self.guarded) {
            let Some(at) = self.written.get(&bytes).copied() else { continue };
            if let Some(next) = self.beliefs.overtaken(&belief, at) {
                let what = format!("the write at {at} under {belief:?} lands after {next:?}");
                self.violated(now, what);
            }
        }
    }

    pub fn register(&mut self, register: usize, operation: Operation) {
        self.registers.entry(register).or_default().push(operation);
    }

    /// A register's bytes are those of the write at `at`.
    pub fn is_value_of(&self, bytes: &[u8], at: Zxid) -> bool {
        self.written.get(bytes) == Some(&at)
    }

    /// A line whose append was answered.
    pub fn appended(&mut self, line: Vec<u8>) {
        self.lines.insert(line);
    }

    /// A name that a sequential directory answered.
    pub fn numbered(&mut self, now: u64, name: Vec<u8>) {
        if !self.sequential.insert(name.clone()) {
            let name = String::from_utf8_lossy(&name).into_owned();
            self.violated(now, format!("the sequential name {name} was given twice"));
        }
    }

    /// The end: the tree is sound, and what was answered is in it, once.
    pub fn judge(&mut self, now: u64, tree: &Tree) {
        if let Err(problem) = tree.check() {
            self.violated(now, format!("the tree is unsound: {problem}"));
        }
        if tree.has_work() {
            self.violated(now, "what a session left is not cleared away".to_string());
        }
        self.judge_guarded(now);
        self.judge_newer(now);
        for (register, operations) in std::mem::take(&mut self.registers) {
            if let Some((earlier, later)) = contradiction(&operations) {
                let what = format!("register {register}: {later:?} contradicts {earlier:?}");
                self.violated(now, what);
            }
        }
        let log = layout::file(tree, layout::LOG);
        let mut lines = BTreeSet::new();
        for line in log.split_inclusive(|byte| *byte == b'\n') {
            if !lines.insert(line.to_vec()) || !self.written.contains_key(line) {
                let line = String::from_utf8_lossy(line).into_owned();
                self.violated(now, format!("the log holds twice, or unasked: {line}"));
            }
        }
        if !self.lines.is_subset(&lines) {
            let lost: Vec<_> = self.lines.difference(&lines).collect();
            self.violated(now, format!("{} answered lines are lost: {lost:?}", lost.len()));
        }
        let names: BTreeSet<Vec<u8>> =
            layout::names(tree, layout::SEQUENTIAL).into_iter().collect();
        if !self.sequential.is_subset(&names) {
            self.violated(now, "an answered sequential name is lost".to_string());
        }
        let moved = layout::MOVE.iter().map(|directory| layout::names(tree, directory).len());
        let moved: usize = moved.sum();
        if moved != layout::MOVED_FILES {
            self.violated(now, format!("{moved} of {} moved files", layout::MOVED_FILES));
        }
        for view in tree.locks() {
            if tree.session(view.session).is_none() {
                self.violated(now, format!("a lock of an ended session: {view:?}"));
            }
        }
        for (name, owner) in layout::owners(tree, layout::EPHEMERAL) {
            if tree.session(owner).is_none() {
                let name = String::from_utf8_lossy(&name).into_owned();
                self.violated(now, format!("{name} outlives its session {owner}"));
            }
        }
    }
}
