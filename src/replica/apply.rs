//! What committed entries do: [`Replica::apply`].

use super::entry::{self, EntryError};
use super::visibility;
use super::{Applied, Batch, Failure, Fatal, Replica};
use crate::tree::{Change, Command, Outcome, Proposal, ReplicaId, Stamp, Tree, Zxid};
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeType, ConfChangeV2, Entry, EntryType};
use std::collections::BTreeSet;

impl Replica {
    /// Applies committed entries; the answers to this node's own proposals come with the next
    /// [`Replica::ready`] (or later, when other mounts show the change). An entry that cannot be
    /// read stops the replica, with the next Ready.
    pub fn apply(&mut self, tree: &mut Tree, committed: Vec<Entry>) -> Batch {
        if !self.knows_tree {
            self.restored(tree);
        }
        let (before, mut applied) = (self.applied.0, Vec::new());
        for entry in committed {
            match self.apply_entry(tree, &entry) {
                Ok(done) => applied.extend(done),
                Err(Fatal::Broken(why)) => {
                    self.fail(format!("cannot apply entry {}: {why}", entry.index));
                    break;
                }
                Err(fatal) => {
                    self.outbox.fatal.get_or_insert(fatal);
                    break;
                }
            }
        }
        // A restored snapshot is told to raft when it is durable, not here.
        if self.applied.0 > before {
            self.raw.advance_apply_to(self.applied.0);
            self.evict();
            self.observe_leader();
            self.change_members();
        }
        self.found(tree);
        self.work.learn(tree.has_work());
        self.go_on_working();
        Batch { last: self.applied.0, applied, reset: false }
    }

    /// The tree is `tree` now: call it once before the first step, and after
    /// [`super::Effects::restore`].
    pub fn restored(&mut self, tree: &Tree) {
        let now = self.now.monotonic;
        self.knows_tree = true;
        self.founded = tree.cluster().is_some();
        self.work.learn(tree.has_work());
        self.sessions.read(tree, now);
        self.take_members(tree);
        if let Err(fatal) = self.check_level(tree) {
            self.outbox.fatal.get_or_insert(fatal);
        }
        self.notice_old_removal(tree.zxid());
        if tree.zxid() != self.applied.0 {
            let term = raft::Storage::term(self.raw.store(), tree.zxid());
            self.applied = (tree.zxid(), term.unwrap_or(0));
        }
        self.last_stamp = self.last_stamp.max(tree.stamp());
        self.digests.restored(tree.zxid(), tree.digest());
        self.visibility.applied(tree.zxid());
        self.sessions_restored(tree);
    }

    fn apply_entry(&mut self, tree: &mut Tree, entry: &Entry) -> Result<Option<Applied>, Fatal> {
        if entry.index != tree.zxid() + 1 {
            return Err(format!("the tree stands at {}", tree.zxid()).into());
        }
        let applied = match entry.get_entry_type() {
            EntryType::EntryNormal if entry.data.is_empty() => {
                tree.skip(entry.index);
                None
            }
            EntryType::EntryNormal => self.apply_bytes(tree, entry.index, &entry.data)?,
            EntryType::EntryConfChange => {
                return Err("a membership change of old form".to_owned().into());
            }
            EntryType::EntryConfChangeV2 => self.apply_members(tree, entry)?,
        };
        assert_eq!(tree.zxid(), entry.index, "an applied entry is where the tree stands");
        self.applied = (entry.index, entry.term);
        self.visibility.applied(entry.index);
        if self.digests.applied(entry.index, tree.digest()) {
            self.say_digest();
        }
        Ok(applied)
    }

    fn apply_bytes(
        &mut self,
        tree: &mut Tree,
        zxid: Zxid,
        bytes: &[u8],
    ) -> Result<Option<Applied>, Fatal> {
        let decoded = entry::decode(bytes, self.config.program.level);
        let (stamp, proposal) = decoded.map_err(|error| match error {
            EntryError::Newer(newer) => Fatal::Newer(format!("entry {zxid} of the log is {newer}")),
            damaged => Fatal::Broken(damaged.to_string()),
        })?;
        let outcome = tree.apply(zxid, stamp, &proposal);
        let applied = self.take_outcome(tree, zxid, stamp, proposal, outcome);
        self.check_level(tree).map(|()| applied)
    }

    /// Raft's configuration and the list in the tree change in one entry.
    fn apply_members(&mut self, tree: &mut Tree, entry: &Entry) -> Result<Option<Applied>, Fatal> {
        let mut change = ConfChangeV2::default();
        change.merge_from_bytes(&entry.data).map_err(|error| error.to_string())?;
        let was_member = self.raw.raft.prs().get(self.config.id.0).is_some();
        self.raw.apply_conf_change(&change).map_err(|error| error.to_string())?;
        for single in change.get_changes() {
            if single.get_change_type() == ConfChangeType::RemoveNode {
                self.removed(ReplicaId(single.node_id), was_member);
            }
        }
        if entry.context.is_empty() {
            tree.skip(entry.index);
            return Ok(None);
        }
        self.apply_bytes(tree, entry.index, &entry.context)
    }

    /// Draws from an outcome all that concerns this replica.
    fn take_outcome(
        &mut self,
        tree: &Tree,
        zxid: Zxid,
        stamp: Stamp,
        proposal: Proposal,
        outcome: Outcome,
    ) -> Option<Applied> {
        // A leader's own are on their way behind this one.
        if !self.leadership.here {
            self.last_stamp = tree.stamp();
        }
        let Outcome { reply, changes } = outcome;
        let shows = visibility::shows(&changes);
        let answer = || reply.clone().map_err(Failure::Refused);
        if !self.answer_applied(zxid, &proposal, answer, shows)
            && shows
            && let Some(origin) = self.sessions.replica(proposal.session)
            && origin != self.config.id
        {
            self.visibility.await_shown(zxid, origin, self.now.monotonic);
        }
        for change in &changes {
            self.take_change(tree, change);
        }
        if proposal.command == Command::Work {
            self.work.done();
        }
        self.notice_session(&proposal.command, &reply);
        let origin = proposal.session;
        (!changes.is_empty()).then_some(Applied { zxid, stamp, origin, changes })
    }

    fn take_change(&mut self, tree: &Tree, change: &Change) {
        match change {
            Change::SessionOpened { session } | Change::SessionMoved { session } => {
                if let Some(view) = tree.session(*session) {
                    self.sessions.opened(&view, self.now.monotonic);
                }
            }
            Change::SessionEnded { session } => {
                self.sessions.ended(*session);
                self.session_ended(*session);
            }
            Change::Members => self.take_members(tree),
            Change::Programs | Change::Level { .. } => self.take_levels(tree),
            _ => {}
        }
    }

    fn take_members(&mut self, tree: &Tree) {
        self.membership.set(tree.members());
        self.take_levels(tree);
        let own = tree.members().iter().find(|member| member.id == self.config.id);
        if let Some(own) = own
            && ![0, self.config.incarnation].contains(&own.incarnation)
        {
            self.fail(format!(
                "the cluster knows another data directory as {}: this one was wiped, or is not it",
                own.name
            ));
        }
        let ids: BTreeSet<ReplicaId> = tree.members().iter().map(|member| member.id).collect();
        self.visibility.keep_only(&ids);
        self.digests.keep_only(&ids);
        self.clocks.keep_only(&ids);
    }

    /// The first leader of a cluster names it, once the log before its term is applied.
    fn found(&mut self, tree: &Tree) {
        self.founded = tree.cluster().is_some();
        if self.founded || !self.leadership.here || self.founding_term == self.leadership.term {
            return;
        }
        if let Some((cluster, founders, limits, name_key)) = &self.config.found
            && self.raw.raft.apply_to_current_term()
            && let Some(members) = self.membership.founders(founders)
        {
            let (cluster, limits, name_key) = (*cluster, *limits, *name_key);
            self.own_commands.push(Command::Found { cluster, members, limits, name_key });
            self.founding_term = self.leadership.term;
        }
    }
}
