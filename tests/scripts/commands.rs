//! The commands of tree scripts. `SESSION: COMMAND ARGUMENTS` proposes in a session; without one
//! the cluster proposes. Entries are stamped one second apart. Paths are looked up; `#16` is inode
//! 16.

use super::{Stage, show};
use keepfs::tree::*;
use std::collections::BTreeMap;

pub struct TreeStage {
    pub tree: Tree,
    seconds: u64,
    sessions: BTreeMap<String, (SessionId, u64)>,
    last: Option<Proposal>,
    /// What an entry may do beside what it asks for, if a script says so.
    work: Option<usize>,
}

type Parsed<T> = Result<T, String>;

impl Stage for TreeStage {
    fn command(&mut self, line: &str) -> String {
        let (session, line) = match line.split_once(": ") {
            Some((session, line)) if !session.contains(' ') => (Some(session), line),
            _ => (None, line),
        };
        let mut words = Words::of(line);
        let verb = words.next().unwrap_or_default();
        let printed = match self.control(verb, &mut words) {
            Some(printed) => printed,
            None => match show::query(&self.tree, verb, &mut words) {
                Some(printed) => printed,
                None => parse(&self.tree, verb, &mut words)
                    .and_then(|command| self.propose(session, command)),
            },
        };
        match printed {
            Ok(printed) if words.rest() == 0 => printed,
            Ok(_) => format!("BAD SCRIPT: too many words in {line:?}\n"),
            Err(problem) => format!("BAD SCRIPT: {problem}\n"),
        }
    }

    fn verdict(&self) -> Result<(), String> {
        self.tree.check()
    }
}

impl TreeStage {
    pub fn new() -> TreeStage {
        TreeStage {
            tree: Tree::new(),
            seconds: 0,
            sessions: BTreeMap::new(),
            last: None,
            work: None,
        }
    }

    /// Commands about the script's own world.
    fn control(&mut self, verb: &str, words: &mut Words<'_>) -> Option<Parsed<String>> {
        match verb {
            "session" => Some(words.word().and_then(|host| self.open_session(host))),
            "expire" => Some(words.word().and_then(|host| {
                let (session, _) = self.sessions.get(host).ok_or("no such session")?;
                self.propose(None, Command::ExpireSessions { sessions: vec![*session] })
            })),
            // The last proposal once more, as after a change of leaders.
            "again" => Some(self.last.clone().ok_or("nothing before".into()).map(|proposal| {
                let last = self.last.clone();
                let printed = self.apply(proposal);
                self.last = last;
                printed
            })),
            "acknowledged" => Some(words.word().and_then(|host| {
                let (session, sequence) = *self.sessions.get(host).ok_or("no such session")?;
                let acknowledged = sequence + 1;
                self.sessions.insert(host.into(), (session, acknowledged));
                let command = Command::Release { inodes: Vec::new() };
                let proposal = Proposal { session, sequence: acknowledged, acknowledged, command };
                let last = self.last.take();
                let printed = self.apply(proposal);
                self.last = last;
                Ok(printed)
            })),
            // Entries do no more than so much beside what they ask for.
            "pieces" => Some(words.word().and_then(|work| {
                self.work = Some(work.parse().map_err(|_| "no number")?);
                self.work.into_iter().for_each(|work| self.tree.limit_work(work));
                Ok(String::new())
            })),
            // Snapshot, and go on with what is read from it.
            "restart" => Some(self.restart()),
            _ => None,
        }
    }

    fn open_session(&mut self, host: &str) -> Parsed<String> {
        let nonce = self.seconds;
        let command = Command::OpenSession {
            host: host.as_bytes().into(),
            client: [].into(),
            replica: ReplicaId(1),
            nonce,
            timeout_ms: 9000,
        };
        let printed = self.propose(None, command)?;
        self.sessions.insert(host.into(), (SessionId(self.tree.zxid()), 0));
        Ok(printed)
    }

    fn propose(&mut self, session: Option<&str>, command: Command) -> Parsed<String> {
        let (session, sequence) = match session {
            None => (SessionId::NONE, 0),
            Some(name) => {
                let (session, sequence) = self.sessions.get_mut(name).ok_or("no such session")?;
                *sequence += 1;
                (*session, *sequence)
            }
        };
        Ok(self.apply(Proposal { session, sequence, acknowledged: 0, command }))
    }

    fn apply(&mut self, proposal: Proposal) -> String {
        self.seconds += 1;
        let stamp = self.seconds * 1_000_000_000;
        let outcome = self.tree.apply(self.tree.zxid() + 1, stamp, &proposal);
        self.last = Some(proposal);
        show::outcome(&self.tree, &outcome)
    }

    fn restart(&mut self) -> Parsed<String> {
        let mut bytes = Vec::new();
        self.tree.write_snapshot(&mut bytes).map_err(|error| error.to_string())?;
        self.tree =
            Tree::read_snapshot(&mut &bytes[..], LEVEL).map_err(|error| error.to_string())?;
        self.work.into_iter().for_each(|work| self.tree.limit_work(work));
        let mut again = Vec::new();
        self.tree.write_snapshot(&mut again).map_err(|error| error.to_string())?;
        let equal = bytes == again;
        Ok(if equal { "the same tree\n" } else { "ANOTHER TREE\n" }.into())
    }
}

/// The words of a line, taken from the front; `key=value` options from anywhere.
pub struct Words<'l>(Vec<&'l str>);

impl<'l> Words<'l> {
    fn of(line: &'l str) -> Words<'l> {
        let mut words: Vec<_> = line.split_whitespace().collect();
        words.reverse();
        Words(words)
    }

    pub fn next(&mut self) -> Option<&'l str> {
        self.0.pop()
    }

    pub fn word(&mut self) -> Parsed<&'l str> {
        self.next().ok_or_else(|| "a word is missing".into())
    }

    pub fn number(&mut self) -> Parsed<u64> {
        let word = self.word()?;
        word.parse().map_err(|_| format!("{word:?} is no number"))
    }

    fn option(&mut self, key: &str) -> Option<&'l str> {
        let value = |word: &&'l str| word.strip_prefix(key)?.strip_prefix('=');
        let at = self.0.iter().position(|word| value(word).is_some())?;
        value(&self.0.remove(at))
    }

    fn flag(&mut self, flag: &str) -> bool {
        let at = self.0.iter().position(|word| *word == flag);
        at.map(|at| self.0.remove(at)).is_some()
    }

    fn decimal(&mut self, key: &str) -> Parsed<Option<u32>> {
        self.option(key).map(|value| value.parse().map_err(|_| format!("bad {key}"))).transpose()
    }

    fn rest(&self) -> usize {
        self.0.len()
    }
}

/// `abc`, or `x*5000` for many.
fn data(word: &str) -> Box<[u8]> {
    match word.split_once('*') {
        Some((part, times)) => part.repeat(times.parse().unwrap_or(1)).into_bytes().into(),
        None => word.as_bytes().into(),
    }
}

pub fn find(tree: &Tree, path: &str) -> Parsed<Ino> {
    if let Some(ino) = path.strip_prefix('#') {
        return ino.parse().map(Ino).map_err(|_| format!("{path:?} is no inode"));
    }
    let names = path.split('/').filter(|name| !name.is_empty());
    names.into_iter().try_fold(Ino::ROOT, |parent, name| {
        tree.lookup(parent, name.as_bytes()).map_err(|why| format!("{path}: {why:?}"))
    })
}

/// A path's directory and last name, which need not exist.
fn place(tree: &Tree, path: &str) -> Parsed<(Ino, Name)> {
    let (parent, name) = path.rsplit_once('/').ok_or_else(|| format!("{path:?} is no path"))?;
    Ok((find(tree, parent)?, data(name)))
}

fn parse(tree: &Tree, verb: &str, words: &mut Words<'_>) -> Parsed<Command> {
    match verb {
        "close" => Ok(Command::CloseSession),
        "work" => Ok(Command::Work),
        "create" | "mkdir" | "mkfifo" | "mksock" | "symlink" | "mknod" | "join" => {
            create(tree, verb, words)
        }
        "link" => {
            let ino = find(tree, words.word()?)?;
            let (parent, name) = place(tree, words.word()?)?;
            Ok(Command::Link { ino, parent, name })
        }
        "rm" | "rmdir" => {
            let (parent, name) = place(tree, words.word()?)?;
            Ok(if verb == "rm" {
                Command::Unlink { parent, name }
            } else {
                Command::RemoveDirectory { parent, name }
            })
        }
        "mv" => {
            let how = match (words.flag("noreplace"), words.flag("exchange")) {
                (true, _) => RenameHow::NoReplace,
                (_, true) => RenameHow::Exchange,
                _ => RenameHow::Replace,
            };
            let (from, name) = place(tree, words.word()?)?;
            let (to, new_name) = place(tree, words.word()?)?;
            Ok(Command::Rename { from, name, to, new_name, how })
        }
        "write" | "append" | "replace" | "truncate" | "allocate" => bytes(tree, verb, words),
        "store" => store(tree, words),
        "setattr" => attributes(tree, words),
        "setxattr" | "rmxattr" | "role" => xattrs(tree, verb, words),
        "lock" | "unlock" | "cancel" | "drop" => locks(tree, verb, words),
        "release" => {
            let mut inodes = Vec::new();
            while let Some(word) = words.next() {
                inodes.push(find(tree, word)?);
            }
            Ok(Command::Release { inodes })
        }
        "snapshot" => Ok(Command::RecordSnapshot {
            host: find(tree, words.word()?)?,
            name: data(words.word()?),
            size: words.number()?,
            manifest: data(words.word()?),
        }),
        "found" => Ok(Command::Found {
            cluster: u128::from(words.number()?),
            members: Vec::new(),
            limits: TreeLimits {
                file_bytes: words.number()?,
                tree_bytes: words.number()?,
                inodes: words.number()?,
            },
            name_key: NameKey::new([words.decimal("key")?.unwrap_or(0) as u8; 16]),
        }),
        other => Err(format!("{other:?} is no command")),
    }
}

fn create(tree: &Tree, verb: &str, words: &mut Words<'_>) -> Parsed<Command> {
    let mode = words.option("mode").map_or(Ok(0o644), |mode| u32::from_str_radix(mode, 8));
    let mode = mode.map_err(|_| "bad mode")?;
    let (uid, gid) = (words.decimal("uid")?.unwrap_or(0), words.decimal("gid")?.unwrap_or(0));
    let wait = !words.flag("nowait");
    let who =
        TicketInfo { pid: words.decimal("pid")?.unwrap_or(0), uid: 0, command: Box::default() };
    let node = match verb {
        "mkdir" => NewNode::Directory,
        "mkfifo" => NewNode::Fifo,
        "mksock" => NewNode::Socket,
        "symlink" => NewNode::Symlink { target: data(words.word()?) },
        "mknod" if words.word()? == "c" => NewNode::CharDevice { rdev: words.number()? as u32 },
        "mknod" => NewNode::BlockDevice { rdev: words.number()? as u32 },
        _ => NewNode::File,
    };
    let (parent, name) = place(tree, words.word()?)?;
    let ticket = Some(who.clone());
    let create = Create { parent, name: name.clone(), node, mode, uid, gid, ticket, wait };
    Ok(if verb == "join" {
        let create = Box::new(create);
        Command::JoinQueue { directory: parent, name, ticket: who, create, wait }
    } else {
        Command::Create(create)
    })
}

fn bytes(tree: &Tree, verb: &str, words: &mut Words<'_>) -> Parsed<Command> {
    let clear_set_id = words.flag("unprivileged");
    let ino = find(tree, words.word()?)?;
    let place = match verb {
        "append" => Place::End,
        "write" => Place::At(words.number()?),
        "replace" => Place::Replace(words.number()?),
        "truncate" => {
            let size = Some(words.number()?);
            let set = SetAttributes { size, clear_set_id, ..SetAttributes::default() };
            return Ok(Command::SetAttributes { ino, set });
        }
        _ => {
            let how = match words.word()? {
                "grow" => AllocateHow::Grow,
                "keep" => AllocateHow::KeepSize,
                "punch" => AllocateHow::PunchHole,
                "zero" => AllocateHow::ZeroRange { keep_size: false },
                other => return Err(format!("allocate cannot {other}")),
            };
            let (offset, length) = (words.number()?, words.number()?);
            return Ok(Command::Allocate { ino, offset, length, how });
        }
    };
    let data = data(words.next().unwrap_or_default());
    Ok(Command::Write(Write { ino, place, data, clear_set_id }))
}

/// A point stands for a byte that was not stored.
fn store(tree: &Tree, words: &mut Words<'_>) -> Parsed<Command> {
    let ino = find(tree, words.word()?)?;
    let offset = words.number()?;
    let data = data(words.next().unwrap_or_default());
    let bits = |bytes: &[u8]| {
        let bit = |(at, byte): (usize, &u8)| u8::from(*byte != b'.') << at;
        bytes.iter().enumerate().map(bit).sum()
    };
    let changed = data.chunks(8).map(bits).collect();
    Ok(Command::Store(Stored { ino, offset, data, changed }))
}

fn attributes(tree: &Tree, words: &mut Words<'_>) -> Parsed<Command> {
    let time = |value: &str| match value {
        "now" => Some(TimeOrStamp::Stamp),
        seconds => Some(TimeOrStamp::Time(seconds.parse::<i64>().ok()? * 1_000_000_000)),
    };
    let set = SetAttributes {
        mode: words.option("mode").and_then(|mode| u32::from_str_radix(mode, 8).ok()),
        uid: words.decimal("uid")?,
        gid: words.decimal("gid")?,
        size: None,
        atime: words.option("atime").and_then(time),
        mtime: words.option("mtime").and_then(time),
        clear_set_id: words.flag("unprivileged"),
    };
    Ok(Command::SetAttributes { ino: find(tree, words.word()?)?, set })
}

fn xattrs(tree: &Tree, verb: &str, words: &mut Words<'_>) -> Parsed<Command> {
    let ino = find(tree, words.word()?)?;
    if verb == "role" {
        let name = b"user.keepfs.role"[..].into();
        return Ok(Command::SetXattr { ino, name, value: data(words.word()?), how: XattrHow::Set });
    }
    let name = data(words.word()?);
    if verb == "rmxattr" {
        return Ok(Command::RemoveXattr { ino, name });
    }
    let how = match (words.flag("create"), words.flag("replace")) {
        (true, _) => XattrHow::Create,
        (_, true) => XattrHow::Replace,
        _ => XattrHow::Set,
    };
    Ok(Command::SetXattr { ino, name, value: data(words.word()?), how })
}

fn locks(tree: &Tree, verb: &str, words: &mut Words<'_>) -> Parsed<Command> {
    let ino = find(tree, words.word()?)?;
    let owner = u64::from(words.decimal("owner")?.unwrap_or(1));
    let wait = !words.flag("nowait");
    let mode = if words.flag("shared") { LockMode::Shared } else { LockMode::Exclusive };
    match verb {
        "cancel" => return Ok(Command::CancelWait { ino, waiter: words.number()? }),
        "drop" => {
            let directory = find(tree, words.word()?)?;
            return Ok(Command::DropTicket { directory, ticket: ino });
        }
        _ => {}
    }
    let (start, end) = match words.next() {
        None => (0, i64::MAX as u64),
        Some(start) => (start.parse().map_err(|_| "bad range")?, words.number()?),
    };
    Ok(if verb == "unlock" {
        Command::Unlock { ino, owner, start, end }
    } else {
        let who = TicketInfo { pid: 0, uid: 0, command: Box::default() };
        Command::Lock(Lock { ino, owner, start, end, mode, wait, who })
    })
}
