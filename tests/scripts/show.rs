//! What tree scripts print: outcomes and answers to questions.

use super::commands::{Words, find};
use keepfs::tree::*;

fn text(bytes: &[u8]) -> String {
    match bytes {
        [first, .., last] if bytes.len() > 40 => {
            format!("{}..{} ({} bytes)", first.escape_ascii(), last.escape_ascii(), bytes.len())
        }
        _ => bytes.escape_ascii().to_string(),
    }
}

/// An inode as a script's reader knows it.
fn label(tree: &Tree, ino: Ino) -> String {
    match tree.path(ino) {
        Some(path) => text(&path),
        None => format!("#{ino}"),
    }
}

/// A name in a directory.
fn entry(tree: &Tree, parent: Ino, name: &[u8]) -> String {
    format!("{}/{}", label(tree, parent).trim_end_matches('/'), text(name))
}

pub fn outcome(tree: &Tree, outcome: &Outcome) -> String {
    let reply = match &outcome.reply {
        Err(refusal) => format!("refused: {refusal:?}"),
        Ok(Reply::Done) => "done".into(),
        Ok(Reply::Session { session }) => format!("session {}", session.0),
        Ok(Reply::Created { ino, name: None }) => format!("created #{ino}"),
        Ok(Reply::Created { ino, name: Some(name) }) => format!("created #{ino} as {}", text(name)),
        Ok(Reply::Written { offset, length }) => format!("written {length} at {offset}"),
        Ok(Reply::Granted { ino, token }) => format!("granted #{ino}, token {token}"),
        Ok(Reply::Queued { ino, waiter }) => format!("queued #{ino}, waiter {waiter}"),
    };
    let mut printed = reply + "\n";
    for it in &outcome.changes {
        printed += &format!("    {}\n", change(tree, it));
    }
    printed
}

fn change(tree: &Tree, change: &Change) -> String {
    match change {
        Change::Attributes { ino } => format!("attributes {}", label(tree, *ino)),
        Change::Data { ino, offset, length } => {
            format!("data {} {offset}+{length}", label(tree, *ino))
        }
        Change::Stored { ino, offset, length } => {
            format!("stored {} {offset}+{length}", label(tree, *ino))
        }
        Change::Added { parent, name, ino } => {
            format!("added {} #{ino}", entry(tree, *parent, name))
        }
        Change::Removed { parent, name, ino } => {
            format!("removed {} #{ino}", entry(tree, *parent, name))
        }
        Change::Replaced { parent, name, old, new } => {
            format!("replaced {} #{old} by #{new}", entry(tree, *parent, name))
        }
        Change::Moved { from, name, to, new_name, ino } => {
            let (from, to) = (entry(tree, *from, name), entry(tree, *to, new_name));
            format!("moved {from} to {to} #{ino}")
        }
        Change::Orphaned { ino } => format!("orphaned #{ino}"),
        Change::Freed { ino } => format!("freed #{ino}"),
        Change::Granted { session, ino, waiter, token } => {
            format!("granted #{ino} to session {}, waiter {waiter}, token {token}", session.0)
        }
        Change::SessionOpened { session } => format!("session {} opened", session.0),
        Change::SessionMoved { session } => format!("session {} moved", session.0),
        Change::SessionEnded { session } => format!("session {} ended", session.0),
        Change::Programs => "programs".to_string(),
        Change::Level { level } => format!("level {level}"),
        Change::Members => "members".into(),
    }
}

/// Answers a question, if the verb is one.
pub fn query(tree: &Tree, verb: &str, words: &mut Words<'_>) -> Option<Result<String, String>> {
    let answer = match verb {
        "ls" | "stat" | "cat" | "times" | "locks" | "latest" => on_inode,
        "seek" => seek,
        "xattrs" => xattrs,
        "sessions" => sessions,
        "usage" => usage,
        "left" => left,
        _ => return None,
    };
    Some(answer(tree, verb, words))
}

fn left(tree: &Tree, _: &str, _: &mut Words<'_>) -> Result<String, String> {
    Ok(if tree.has_work() { "something\n" } else { "nothing\n" }.into())
}

fn on_inode(tree: &Tree, verb: &str, words: &mut Words<'_>) -> Result<String, String> {
    let path = words.word()?;
    let ino = match find(tree, path) {
        Ok(ino) => ino,
        Err(why) => return Ok(why + "\n"),
    };
    let Some(attributes) = tree.attributes(ino) else { return Ok("no such inode\n".into()) };
    match verb {
        "ls" => list(tree, ino),
        "stat" => Ok(stat(&attributes)),
        "times" => Ok(times(&attributes)),
        "locks" => Ok(tree.locks_of(ino).iter().map(lock).collect()),
        "latest" => {
            let latest = tree.stream_latest(ino);
            Ok(latest.map_or_else(|| "none".into(), |name| text(&name)) + "\n")
        }
        _ => {
            let read = match attributes.kind {
                Kind::Symlink => tree.symlink_target(ino).map(|target| target.to_vec()),
                _ => tree.read(ino, 0, usize::MAX),
            };
            Ok(read.map_or_else(|why| format!("refused: {why:?}"), |bytes| text(&bytes)) + "\n")
        }
    }
}

fn list(tree: &Tree, ino: Ino) -> Result<String, String> {
    let mut listed = Vec::new();
    tree.list(ino, 0, &mut |entry| {
        listed.push(format!("{} #{} {:?}\n", text(entry.name), entry.ino, entry.kind));
        true
    })
    .map_err(|why| format!("{why:?}"))?;
    // Only a lock directory's own order means anything.
    if tree.attributes(ino).is_none_or(|attributes| attributes.role != Role::Lock) {
        listed.sort();
    }
    Ok(listed.concat())
}

fn stat(it: &Attributes) -> String {
    let mut line = format!(
        "{:?} {:04o} uid={} gid={} links={} size={} version={} aversion={}",
        it.kind, it.mode, it.uid, it.gid, it.links, it.size, it.version, it.aversion
    );
    if it.kind == Kind::Directory {
        line += &format!(" cversion={} role={:?}", it.cversion, it.role);
    }
    if it.rdev != 0 {
        line += &format!(" rdev={}", it.rdev);
    }
    if it.owner != SessionId::NONE {
        line += &format!(" owner={}", it.owner.0);
    }
    line + "\n"
}

fn times(it: &Attributes) -> String {
    let seconds = |nanos: i64| nanos / 1_000_000_000;
    format!(
        "atime={} mtime={} ctime={} czxid={} mzxid={} pzxid={}\n",
        seconds(it.atime),
        seconds(it.mtime),
        seconds(it.ctime),
        it.czxid,
        it.mzxid,
        it.pzxid
    )
}

fn lock(it: &LockView) -> String {
    let what = match &it.ticket {
        Some((name, ino)) => format!("{} #{ino} sequence={}", text(name), it.sequence),
        None => format!("owner={} {}..{} {:?}", it.owner, it.start, it.end, it.mode),
    };
    let held =
        it.token.map_or_else(|| format!("waits at {}", it.position), |t| format!("token {t}"));
    format!("{what} session={} {held}\n", it.session.0)
}

fn seek(tree: &Tree, _: &str, words: &mut Words<'_>) -> Result<String, String> {
    let hole = words.word()? == "hole";
    let found = tree.seek(find(tree, words.word()?)?, words.number()?, hole);
    Ok(format!("{:?}\n", found.map_err(|why| format!("{why:?}"))?))
}

fn xattrs(tree: &Tree, _: &str, words: &mut Words<'_>) -> Result<String, String> {
    let ino = find(tree, words.word()?)?;
    let mut printed = String::new();
    for name in tree.xattrs(ino).map_err(|why| format!("{why:?}"))? {
        let value = tree.xattr(ino, &name).map_err(|why| format!("{why:?}"))?;
        printed += &format!("{}={}\n", text(&name), text(&value));
    }
    Ok(printed)
}

fn sessions(tree: &Tree, _: &str, _: &mut Words<'_>) -> Result<String, String> {
    let line = |it: SessionView| {
        let host = text(&it.host);
        format!("{} {host} ephemerals={} locks={}\n", it.session.0, it.ephemerals, it.locks)
    };
    Ok(tree.sessions().into_iter().map(line).collect())
}

fn usage(tree: &Tree, _: &str, _: &mut Words<'_>) -> Result<String, String> {
    let it = tree.usage();
    Ok(format!("inodes={} bytes={} orphans={}\n", it.inodes, it.bytes, it.orphans))
}
