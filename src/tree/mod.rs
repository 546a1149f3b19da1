//! The replicated state machine: znodes, sessions, locks. Pure: no thread, file, clock or chance.
//!
//! [`Tree::apply`] takes one entry of the log and answers with an [`Outcome`]; everything else here
//! reads. A command's life: `apply.rs` asks the session's memory whether it is new (`session.rs`)
//! and hands it to the function of its kind, which looks, refuses or changes (`create`, `remove`,
//! `rename`, `data`, `attributes`, `ticket`, `stream`) by the steps in `edit.rs`.
//!
//! What the tree is made of: inodes (`inode.rs`), their `directory.rs` or `content.rs`, in
//! copy-on-write maps ([`crate::cow`]); the lock queues ([`locks`]), sessions and orphans.
//! `snapshot.rs` writes and reads all of it; `check.rs` says whether it is sound.

mod apply;
mod attributes;
mod check;
mod command;
mod content;
mod create;
mod credentials;
mod data;
mod digest;
mod directory;
mod edit;
mod founding;
mod home;
mod ids;
mod inode;
mod level;
pub mod locks;
mod member;
mod name;
mod name_key;
mod orphan;
mod outcome;
mod reads;
mod remove;
mod rename;
mod session;
mod snapshot;
mod stream;
mod ticket;
mod version;
mod view;
mod work;

pub use command::*;
pub use credentials::{TOKEN_LIFE_MAX, TOKEN_USES_MAX, TOKENS_MAX, TokenTerms, TokenView};
pub use ids::*;
pub use level::{FIRST_LEVEL, LEVEL, Level, Newer, Program};
pub use member::{check_address, check_name};
pub use name_key::NameKey;
pub use outcome::*;
pub use view::*;

use crate::cow::CowMap;
use crate::limits::{
    FILE_BYTES_DEFAULT, INODES_DEFAULT, TREE_BYTES_DEFAULT, WORK_IN_ONE_ENTRY_MAX,
};
use directory::Directory;
use home::Home;
use inode::{Body, Inode};
use locks::LockTable;
use orphan::Orphan;
use session::Session;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The whole replicated state. Cloning is cheap: chunks are shared until written.
#[derive(Clone)]
pub struct Tree {
    zxid: Zxid,
    /// The latest stamp seen.
    stamp: Stamp,
    digest: u64,
    inodes: CowMap<Ino, Inode, 64>,
    next_ino: u64,
    orphans: CowMap<Ino, Orphan, 64>,
    /// Which sessions have not released which orphans.
    open: CowMap<(SessionId, Ino), (), 64>,
    /// Removed directories that are not empty yet: see `work.rs`.
    doomed: CowMap<Ino, (), 64>,
    sessions: CowMap<SessionId, Arc<Session>, 32>,
    /// Those that are over and have left something.
    ended: CowMap<SessionId, Arc<Session>, 32>,
    locks: LockTable,
    members: Vec<Member>,
    /// What they run, those that have said it.
    programs: BTreeMap<ReplicaId, Program>,
    level: Level,
    cluster: Option<u128>,
    limits: TreeLimits,
    /// Turns names into cookies.
    name_key: NameKey,
    tokens: credentials::Tokens,
    /// Data, names and xattrs, orphans' included.
    bytes: u64,
    /// [`WORK_IN_ONE_ENTRY_MAX`], but in tests.
    work_in_one_entry: usize,
}

/// (inode, parent, name, mode, role) of what is there from the start.
const BUILT_IN: [(Ino, Ino, &str, u32, Role); 7] = [
    (Ino::LOCK, Ino::ROOT, "lock", 0o1777, Role::Locks),
    (Ino::BACKUP, Ino::ROOT, "backup", 0o755, Role::Plain),
    (Ino::BACKUP_LOCK, Ino::BACKUP, "lock", 0o1777, Role::Lock),
    (Ino::BACKUP_NODE, Ino::BACKUP, "node", 0o755, Role::Plain),
    (Ino::BACKUP_STRATEGY, Ino::BACKUP, "strategy", 0o755, Role::Plain),
    (Ino::BACKUP_STRATEGY_FULL, Ino::BACKUP_STRATEGY, "full", 0o755, Role::Plain),
    (Ino::BACKUP_STRATEGY_INCREMENT, Ino::BACKUP_STRATEGY, "increment", 0o755, Role::Plain),
];

impl Tree {
    /// The tree before the first entry: the built-in directories, no session.
    pub fn new() -> Tree {
        let mut tree = Tree {
            inodes: CowMap::new(),
            next_ino: Ino::FIRST_FREE.0,
            limits: TreeLimits {
                file_bytes: FILE_BYTES_DEFAULT,
                tree_bytes: TREE_BYTES_DEFAULT,
                inodes: INODES_DEFAULT,
            },
            ..Tree::blank()
        };
        tree.put_directory(Ino::ROOT, Ino::ROOT, 0o755, Role::Plain);
        for (ino, parent, name, mode, role) in BUILT_IN {
            tree.put_directory(ino, parent, mode, role);
            if let Some(parent) = tree.inodes.get_mut(parent) {
                parent.links += 1;
            }
            if let Some(directory) = tree.directory_mut(parent) {
                let cookie = directory.entries.add(name.as_bytes(), ino);
                tree.settle_in(ino, Home::of(parent, cookie));
            }
            tree.bytes += name.len() as u64;
        }
        tree
    }

    /// Not even a root; a snapshot fills it.
    fn blank() -> Tree {
        Tree {
            zxid: 0,
            stamp: 0,
            digest: 0,
            inodes: CowMap::new(),
            next_ino: Ino::FIRST_FREE.0,
            orphans: CowMap::new(),
            open: CowMap::new(),
            doomed: CowMap::new(),
            sessions: CowMap::new(),
            ended: CowMap::new(),
            locks: LockTable::default(),
            members: Vec::new(),
            programs: BTreeMap::new(),
            level: FIRST_LEVEL,
            cluster: None,
            limits: TreeLimits { file_bytes: 0, tree_bytes: 0, inodes: 0 },
            name_key: NameKey::default(),
            tokens: credentials::Tokens::new(),
            bytes: 0,
            work_in_one_entry: WORK_IN_ONE_ENTRY_MAX,
        }
    }

    fn put_directory(&mut self, ino: Ino, parent: Ino, mode: u32, role: Role) {
        let body = Body::Directory(Arc::new(Directory::new(parent, role, 0, self.name_key)));
        self.inodes.insert(ino, Inode::new(body, mode, 0, 0, 0, 0));
    }

    /// The entry at `zxid` held no proposal (a new leader's empty entry, a membership change).
    pub fn skip(&mut self, zxid: Zxid) {
        self.zxid = zxid;
    }

    /// The inode has a name here, maybe one of several.
    fn settle_in(&mut self, ino: Ino, home: Home) {
        if let Some(inode) = self.inodes.get_mut(ino) {
            inode.settle_in(home);
        }
    }

    fn directory_mut(&mut self, ino: Ino) -> Option<&mut Directory> {
        self.inodes.get_mut(ino)?.directory_mut()
    }
}

impl Default for Tree {
    fn default() -> Self {
        Tree::new()
    }
}
