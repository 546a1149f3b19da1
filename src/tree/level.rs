//! Feature levels: what a program can read, and what a cluster may therefore write.
//!
//! A level is a number that grows when keepfs learns to write something an older program cannot
//! read: a command, a field of the snapshot, a message. The tree has the level that every member's
//! program can do. It rises by an entry of the log ([`Command::RaiseLevel`]) and never falls;
//! nothing of a higher level is written before that entry.

use super::edit::Edit;
use super::{Change, Command, Refusal, ReplicaId, Reply, Tree};
use bincode::{Decode, Encode};

/// A feature level; the first byte of every entry of the log is that of its command.
pub type Level = u8;

/// What every program can do.
pub const FIRST_LEVEL: Level = 1;
/// What this program can do.
pub const LEVEL: Level = 1;

/// Longest name of a program's version, bytes.
const VERSION_BYTES_MAX: usize = 64;

/// What a member runs.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Program {
    /// The highest level it can do.
    pub level: Level,
    /// For people, as in `0.1.0`; empty while nothing is known.
    pub version: String,
}

impl Program {
    /// The one that runs here.
    pub fn this() -> Program {
        Program { level: LEVEL, version: env!("CARGO_PKG_VERSION").to_owned() }
    }

    fn is_printable(&self) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_');
        self.version.len() <= VERSION_BYTES_MAX && self.version.chars().all(plain)
    }
}

/// Of whom nothing is known.
impl Default for Program {
    fn default() -> Program {
        Program { level: FIRST_LEVEL, version: String::new() }
    }
}

/// Something is of a level that this program cannot do: it is not read, for nobody knows what it
/// means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "written by a newer keepfs (level {level}; this program can do {can}): install that one, or a \
     later one"
)]
pub struct Newer {
    pub level: Level,
    pub can: Level,
}

impl Newer {
    /// # Errors
    /// If a program that `can` do so much cannot do `level`.
    pub fn check(level: Level, can: Level) -> Result<(), Newer> {
        if level > can { Err(Newer { level, can }) } else { Ok(()) }
    }
}

impl Command {
    /// The level that brought this command: it is proposed in clusters of this level or a higher
    /// one.
    pub fn level(&self) -> Level {
        match self {
            Command::Probe { level } => (*level).max(FIRST_LEVEL),
            Command::OpenSession { .. }
            | Command::MoveSession { .. }
            | Command::CloseSession
            | Command::ExpireSessions { .. }
            | Command::Create(_)
            | Command::Link { .. }
            | Command::Unlink { .. }
            | Command::RemoveDirectory { .. }
            | Command::Rename { .. }
            | Command::Write(_)
            | Command::SetAttributes { .. }
            | Command::Allocate { .. }
            | Command::Store(_)
            | Command::SetXattr { .. }
            | Command::RemoveXattr { .. }
            | Command::Release { .. }
            | Command::Lock(_)
            | Command::Unlock { .. }
            | Command::CancelWait { .. }
            | Command::JoinQueue { .. }
            | Command::DropTicket { .. }
            | Command::RecordSnapshot { .. }
            | Command::Found { .. }
            | Command::SetMembers { .. }
            | Command::Work
            | Command::IssueToken { .. }
            | Command::RedeemToken { .. }
            | Command::RevokeToken { .. }
            | Command::DeclareProgram { .. }
            | Command::RaiseLevel { .. } => 1,
        }
    }
}

impl Tree {
    /// Commands up to this level take effect.
    pub fn level(&self) -> Level {
        self.level
    }

    /// What a member has declared that it runs.
    pub fn program(&self, member: ReplicaId) -> Option<&Program> {
        self.programs.get(&member)
    }

    /// What all members can do, those included that are away.
    pub fn level_of_all(&self) -> Level {
        let can = |id| self.program(id).map_or(FIRST_LEVEL, |program| program.level);
        self.members.iter().map(|member| can(member.id)).min().unwrap_or(FIRST_LEVEL)
    }

    /// Forgets what those ran who are no members any more.
    pub(super) fn forget_programs(&mut self) {
        let members = &self.members;
        self.programs.retain(|id, _| members.iter().any(|member| member.id == *id));
    }
}

impl Edit<'_> {
    pub fn declare_program(
        &mut self,
        replica: ReplicaId,
        program: &Program,
    ) -> Result<Reply, Refusal> {
        if !self.tree.members.iter().any(|member| member.id == replica) {
            return Err(Refusal::NotFound);
        }
        if !program.is_printable() {
            return Err(Refusal::Invalid);
        }
        self.tree.programs.insert(replica, program.clone());
        self.change(Change::Programs);
        Ok(Reply::Done)
    }

    /// A member may have gone back to an older program since the leader looked.
    pub fn raise_level(&mut self, to: Level) -> Result<Reply, Refusal> {
        if to > self.tree.level_of_all() {
            return Err(Refusal::NotPermitted);
        }
        if to > self.tree.level {
            self.tree.level = to;
            self.change(Change::Level { level: to });
        }
        Ok(Reply::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Member, Proposal, SessionId};

    fn apply(tree: &mut Tree, command: Command) -> Result<Reply, Refusal> {
        let (session, sequence, acknowledged) = (SessionId::NONE, 0, 0);
        let proposal = Proposal { session, sequence, acknowledged, command };
        tree.apply(tree.zxid() + 1, 0, &proposal).reply
    }

    fn members(ids: &[u64]) -> Command {
        let member = |id: &u64| Member {
            id: ReplicaId(*id),
            name: format!("n{id}"),
            address: format!("h{id}:1"),
            learner: false,
            incarnation: 1,
        };
        Command::SetMembers { members: ids.iter().map(member).collect() }
    }

    fn declare(tree: &mut Tree, id: u64, level: Level) -> Result<Reply, Refusal> {
        let program = Program { level, version: "1.2.3-rc+4".to_owned() };
        apply(tree, Command::DeclareProgram { replica: ReplicaId(id), program })
    }

    #[test]
    fn the_level_rises_when_every_member_can_and_never_falls() {
        let mut tree = Tree::new();
        let raise = |tree: &mut Tree, to| apply(tree, Command::RaiseLevel { to });
        let probe = |tree: &mut Tree, level| apply(tree, Command::Probe { level });
        apply(&mut tree, members(&[1, 2])).unwrap();
        declare(&mut tree, 1, 3).unwrap();
        assert_eq!(raise(&mut tree, 2), Err(Refusal::NotPermitted), "2 has said nothing");
        assert_eq!(probe(&mut tree, 2), Err(Refusal::TooNew));
        declare(&mut tree, 2, 2).unwrap();
        assert_eq!(raise(&mut tree, 3), Err(Refusal::NotPermitted), "2 cannot");
        assert_eq!((raise(&mut tree, 2), tree.level()), (Ok(Reply::Done), 2));
        assert_eq!(probe(&mut tree, 2), Ok(Reply::Done));
        assert_eq!(probe(&mut tree, 3), Err(Refusal::TooNew));
        assert_eq!((raise(&mut tree, 1), tree.level()), (Ok(Reply::Done), 2));
        // Those who go do not count any more; those who come have said nothing yet.
        apply(&mut tree, members(&[1])).unwrap();
        assert_eq!((tree.level_of_all(), tree.program(ReplicaId(2))), (3, None));
        apply(&mut tree, members(&[1, 9])).unwrap();
        assert_eq!((tree.level_of_all(), tree.level()), (1, 2));
    }

    #[test]
    fn only_members_declare_and_only_what_can_be_shown() {
        let mut tree = Tree::new();
        apply(&mut tree, members(&[1])).unwrap();
        assert_eq!(declare(&mut tree, 7, 2), Err(Refusal::NotFound));
        for version in ["two\nlines", "\u{1b}[2J", &"a".repeat(65)] {
            let program = Program { level: 2, version: version.to_owned() };
            let command = Command::DeclareProgram { replica: ReplicaId(1), program };
            assert_eq!(apply(&mut tree, command), Err(Refusal::Invalid), "{version:?}");
        }
    }

    #[test]
    fn a_snapshot_keeps_the_level_and_is_not_read_by_those_who_cannot() {
        let mut tree = Tree::new();
        apply(&mut tree, members(&[1])).unwrap();
        declare(&mut tree, 1, 2).unwrap();
        apply(&mut tree, Command::RaiseLevel { to: 2 }).unwrap();
        let mut bytes = Vec::new();
        tree.write_snapshot(&mut bytes).unwrap();
        let read = Tree::read_snapshot(&mut &*bytes, 2).unwrap();
        assert_eq!((read.level(), read.program(ReplicaId(1))), (2, tree.program(ReplicaId(1))));
        let error = Tree::read_snapshot(&mut &*bytes, 1).map(drop).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
        assert_eq!(error.to_string(), Newer { level: 2, can: 1 }.to_string());
    }
}
