//! The small tree clients work on, and how it is made and read.

use crate::tree::{Command, Create, Ino, NewNode, SessionId, TicketInfo, Tree, XattrHow};

pub const REGISTERS: usize = 3;
pub const LOCK_FILES: usize = 4;
pub const MOVED_FILES: usize = 4;
pub const LOG: &str = "log";
pub const SEQUENTIAL: &str = "sequential";
pub const EPHEMERAL: &str = "ephemeral";
/// Files are moved between these two.
pub const MOVE: [&str; 2] = ["here", "there"];
pub const QUEUE: &str = "queue";
/// Made last.
const READY: &str = "ready";
const ROLE: &[u8] = b"user.keepfs.role";

pub fn register(index: usize) -> String {
    format!("register{index}")
}

pub fn lock_file(index: usize) -> String {
    format!("lock{index}")
}

/// The next command that makes the layout; `None` once it is there.
pub fn next_step(tree: &Tree) -> Option<Command> {
    let mut wanted = vec![(Ino::LOCK, QUEUE.to_string(), NewNode::Directory)];
    let mut want = |name: String, node| wanted.push((Ino::ROOT, name, node));
    (0..REGISTERS).for_each(|index| want(register(index), NewNode::File));
    (0..LOCK_FILES).for_each(|index| want(lock_file(index), NewNode::File));
    want(LOG.to_string(), NewNode::File);
    [SEQUENTIAL, EPHEMERAL, MOVE[0], MOVE[1]]
        .iter()
        .for_each(|name| want(name.to_string(), NewNode::Directory));
    for (parent, name, node) in wanted {
        if tree.lookup(parent, name.as_bytes()).is_err() {
            return Some(make(parent, name.as_bytes(), node));
        }
    }
    for role in [SEQUENTIAL, EPHEMERAL] {
        let ino = find(tree, role)?;
        if tree.attributes(ino).is_some_and(|found| found.role == Default::default()) {
            let (name, value) = (ROLE.into(), role.as_bytes().into());
            return Some(Command::SetXattr { ino, name, value, how: XattrHow::Set });
        }
    }
    let here = find(tree, MOVE[0])?;
    let ready = find(tree, READY).is_some();
    let missing = (0..MOVED_FILES).map(|index| format!("moved{index}"));
    let mut missing = missing.filter(|name| tree.lookup(here, name.as_bytes()).is_err());
    match missing.next() {
        Some(name) if !ready => Some(make(here, name.as_bytes(), NewNode::File)),
        _ if !ready => Some(make(Ino::ROOT, READY.as_bytes(), NewNode::File)),
        _ => None,
    }
}

pub fn make(parent: Ino, name: &[u8], node: NewNode) -> Command {
    let mode = 0o755;
    let (ticket, wait) = (None, false);
    Command::Create(Create { parent, name: name.into(), node, mode, uid: 0, gid: 0, ticket, wait })
}

pub fn ticket(parent: Ino, name: &[u8], client: usize) -> Command {
    let Command::Create(create) = make(parent, name, NewNode::File) else {
        unreachable!("make() makes a Create")
    };
    Command::Create(Create { ticket: Some(who(client)), wait: true, ..create })
}

pub fn who(client: usize) -> TicketInfo {
    TicketInfo {
        pid: client as u32 + 1,
        uid: 0,
        command: format!("client {client}").as_bytes().into(),
    }
}

pub fn is_ready(tree: &Tree) -> bool {
    find(tree, READY).is_some()
}

pub fn find(tree: &Tree, name: &str) -> Option<Ino> {
    tree.lookup(Ino::ROOT, name.as_bytes()).ok()
}

/// A file's bytes; empty if there is none.
pub fn file(tree: &Tree, name: &str) -> Vec<u8> {
    let read = |ino| tree.read(ino, 0, usize::MAX).ok();
    find(tree, name).and_then(read).unwrap_or_default()
}

pub fn names(tree: &Tree, directory: &str) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    if let Some(ino) = find(tree, directory) {
        let listed = tree.list(ino, 0, &mut |entry| {
            names.push(entry.name.to_vec());
            true
        });
        debug_assert!(listed.is_ok(), "{directory} is a directory");
    }
    names
}

/// The entries of a directory with the sessions they belong to.
pub fn owners(tree: &Tree, directory: &str) -> Vec<(Vec<u8>, SessionId)> {
    let Some(parent) = find(tree, directory) else { return Vec::new() };
    let owner = |name: Vec<u8>| {
        let ino = tree.lookup(parent, &name).ok()?;
        Some((name, tree.attributes(ino)?.owner))
    };
    names(tree, directory).into_iter().filter_map(owner).collect()
}
