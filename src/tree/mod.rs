//! The replicated state machine: znodes, sessions, locks. Pure: no thread, file, clock or chance.

mod command;
mod ids;
pub mod locks;
mod outcome;
mod view;

pub use command::*;
pub use ids::*;
pub use outcome::*;
pub use view::*;

/// The whole replicated state. Cloning is cheap: chunks are shared until written.
#[derive(Clone)]
pub struct Tree {}

impl Tree {
    /// The tree before the first entry: the built-in directories, no session.
    pub fn new() -> Tree {
        todo!()
    }

    /// Applies the entry at `zxid`. Never fails, never panics: what cannot be done is refused.
    /// `stamp` is raised to the latest stamp seen, so time never runs backwards.
    pub fn apply(&mut self, zxid: Zxid, stamp: Stamp, proposal: &Proposal) -> Outcome {
        let _ = (zxid, stamp, proposal);
        todo!()
    }

    /// Index of the last entry applied (entries without a proposal count: see [`Tree::skip`]).
    pub fn zxid(&self) -> Zxid {
        todo!()
    }

    /// The entry at `zxid` held no proposal (a new leader's empty entry, a membership change).
    pub fn skip(&mut self, zxid: Zxid) {
        let _ = zxid;
        todo!()
    }

    /// The running digest: equal on every replica at equal [`Tree::zxid`].
    pub fn digest(&self) -> u64 {
        todo!()
    }

    /// Writes the whole state; [`Tree::read_snapshot`] makes an equal tree of it.
    pub fn write_snapshot(&self, to: &mut dyn std::io::Write) -> std::io::Result<()> {
        let _ = to;
        todo!()
    }

    /// Reads what [`Tree::write_snapshot`] wrote. `InvalidData` if it is damaged or of a format this
    /// version does not know.
    pub fn read_snapshot(from: &mut dyn std::io::Read) -> std::io::Result<Tree> {
        let _ = from;
        todo!()
    }
}

impl Default for Tree {
    fn default() -> Self {
        Tree::new()
    }
}
