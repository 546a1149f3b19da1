//! [`Tree::apply`]: from a command to the function that carries it out.

use super::STANDSTILL;
use super::edit::Edit;
use super::session::Seen;
use super::{
    Change, Command, Member, Outcome, Proposal, Refusal, Reply, Stamp, Tree, TreeLimits, Zxid,
    digest,
};
use crate::limits::FILE_BYTES_MAX;

impl Tree {
    /// Applies the entry at `zxid`. Never fails, never panics: what cannot be done is refused.
    /// Time does not run backwards by a little, as when a leader's clock is behind the last one's:
    /// then `stamp` is raised to the latest stamp seen. One further back corrects a wrong one.
    pub fn apply(&mut self, zxid: Zxid, stamp: Stamp, proposal: &Proposal) -> Outcome {
        self.zxid = zxid;
        let back = self.stamp.saturating_sub(stamp);
        self.stamp = if back <= STANDSTILL { self.stamp.max(stamp) } else { stamp };
        let outcome = match self.meet(proposal) {
            Ok(Seen::New) => self.execute(proposal),
            Ok(Seen::Before(reply)) => Outcome { reply, changes: Vec::new() },
            Ok(Seen::GivenUp) => Outcome { reply: Err(Refusal::GivenUp), changes: Vec::new() },
            Err(refusal) => Outcome { reply: Err(refusal), changes: Vec::new() },
        };
        self.digest = digest::chain(self.digest, zxid, self.stamp, proposal, &outcome);
        outcome
    }

    /// A cluster of its own begins with what is here, in place of the next entry.
    pub fn refound(&mut self, cluster: u128, members: Vec<Member>) {
        self.zxid += 1;
        self.cluster = Some(cluster);
        self.members = members;
        self.forget_programs();
    }

    fn execute(&mut self, proposal: &Proposal) -> Outcome {
        let mut edit = Edit { tree: self, session: proposal.session, changes: Vec::new() };
        let reply = edit.execute(&proposal.command);
        let changes = edit.changes;
        self.remember(proposal.session, proposal.sequence, &reply);
        Outcome { reply, changes }
    }
}

impl Edit<'_> {
    fn execute(&mut self, command: &Command) -> Result<Reply, Refusal> {
        if command.level() > self.tree.level {
            return Err(Refusal::TooNew);
        }
        match command {
            Command::OpenSession { host, client, replica, nonce, timeout_ms } => {
                self.open_session((host, client), *replica, *nonce, *timeout_ms)
            }
            Command::MoveSession { session, nonce, moves, replica } => {
                self.move_session(*session, *nonce, *moves, *replica)
            }
            Command::CloseSession => self.close_session(),
            Command::ExpireSessions { sessions } => self.expire_sessions(sessions),
            Command::Create(create) => self.create(create),
            Command::Link { ino, parent, name } => self.link(*ino, *parent, name),
            Command::Unlink { parent, name } => self.unlink(*parent, name),
            Command::RemoveDirectory { parent, name } => self.remove_directory(*parent, name),
            Command::Rename { from, name, to, new_name, how } => {
                self.rename(*from, name, *to, new_name, *how)
            }
            Command::Write(write) => self.write(write),
            Command::SetAttributes { ino, set } => self.set_attributes(*ino, set),
            Command::Allocate { ino, offset, length, how } => {
                self.allocate(*ino, *offset, *length, *how)
            }
            Command::Store(stored) => self.store(stored),
            Command::SetXattr { ino, name, value, how } => self.set_xattr(*ino, name, value, *how),
            Command::RemoveXattr { ino, name } => self.remove_xattr(*ino, name),
            Command::Release { inodes } => self.release(inodes),
            Command::Lock(lock) => self.lock(lock),
            Command::Unlock { ino, owner, start, end } => self.unlock(*ino, *owner, *start, *end),
            Command::CancelWait { ino, waiter } => self.cancel_wait(*ino, *waiter),
            Command::JoinQueue { directory, name, ticket, create, wait } => {
                self.join_queue(*directory, name, ticket, create, *wait)
            }
            Command::DropTicket { directory, ticket } => self.drop_ticket(*directory, *ticket),
            Command::RecordSnapshot { host, name, size, manifest } => {
                self.record_snapshot(*host, name, *size, manifest)
            }
            Command::Found { cluster, members, limits, name_key } => {
                if self.tree.cluster.is_none() {
                    self.tree.cluster = Some(*cluster);
                    let file_bytes = limits.file_bytes.min(FILE_BYTES_MAX);
                    self.tree.limits = TreeLimits { file_bytes, ..*limits };
                    self.tree.take_key(*name_key);
                    self.set_members(members);
                }
                Ok(Reply::Done)
            }
            Command::Work => self.go_on(),
            Command::IssueToken { token, terms } => self.issue_token(*token, terms),
            Command::RedeemToken { token, name, joiner } => {
                self.redeem_token(*token, name, *joiner)
            }
            Command::RevokeToken { token } => self.revoke_token(*token),
            Command::SetMembers { members } => {
                self.set_members(members);
                Ok(Reply::Done)
            }
            Command::DeclareProgram { replica, program } => self.declare_program(*replica, program),
            Command::RaiseLevel { to } => self.raise_level(*to),
            Command::Probe { .. } => Ok(Reply::Done),
        }
    }

    fn set_members(&mut self, members: &[Member]) {
        self.tree.members = members.to_vec();
        self.tree.forget_programs();
        self.change(Change::Members);
    }
}
