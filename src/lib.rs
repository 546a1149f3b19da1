//! keepfs: a filesystem that keeps a cluster in agreement.
//!
//! # The life of a request
//!
//! 1. The kernel asks the [`mount`]: a read is answered from the [`tree::Tree`] at once; a change
//!    becomes a [`tree::Command`] in the session that it was checked under.
//! 2. The mount submits it by the port, [`cluster::Cluster`]. Here that is a [`node::Node`]: it
//!    remembers who asked, and hands the command to the thread that owns the replica.
//! 3. The [`replica::Replica`] has the [`session::Client`] whose session it is, which gives it a
//!    sequence, so that it applies once. The leader stamps and proposes it; a follower forwards it
//!    to the leader, over [`peers`].
//! 4. The replica answers each input with [`replica::Effects`]: what to send, what to write, what
//!    is committed. [`disk`] makes it durable, in one write with all that waits.
//! 5. A committed entry is applied, on every replica alike, by [`tree::Tree::apply`]. It gives an
//!    [`tree::Outcome`]: a reply for who asked, and [`tree::Change`]s for everyone.
//! 6. The changes go into the [`cluster::feed`]. The mount's notifier makes the kernel forget what
//!    they touch, hands out locks, and says how far this mount shows the tree.
//! 7. When every mount in touch shows the change, the call that asked for it returns.
//!
//! `docs/architecture.md` says why it is so.

pub mod backup;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod cow;
pub mod disk;
pub mod durable;
pub mod error;
pub mod exposition;
pub mod limits;
pub mod mailbox;
mod mix;
pub mod mount;
pub mod node;
pub mod panics;
pub mod peers;
pub mod random;
pub mod replica;
mod room;
pub mod session;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod tree;
pub mod volume;
