//! A log with every command, and the tree it makes, which has something of everything.

use keepfs::replica::entry;
use keepfs::tree::*;
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, Entry, EntryType};
use std::collections::BTreeMap;

/// What an entry does beside what it asks for: so little that something is always left over.
pub const WORK: usize = 1;
const EPOCH: Stamp = 1_700_000_000_000_000_000;
const SECOND: Stamp = 1_000_000_000;

pub struct Story {
    pub tree: Tree,
    pub entries: Vec<Entry>,
    sequences: BTreeMap<SessionId, u64>,
}

impl Story {
    pub fn tell() -> Story {
        let mut tree = Tree::new();
        tree.limit_work(WORK);
        let mut story = Story { tree, entries: Vec::new(), sequences: BTreeMap::new() };
        story.found();
        let (a, b) = (story.open("a"), story.open("b"));
        story.make_inodes(a);
        story.fill_files(a);
        story.name_things(a, b);
        story.give_roles(a);
        story.lock_files(a, b);
        story.take_tickets(a, b);
        story.store_backups(a);
        story.issue_tokens();
        story.end_sessions();
        story
    }

    fn push(&mut self, kind: EntryType, data: Vec<u8>, context: Vec<u8>) {
        let mut entry = Entry::default();
        entry.set_entry_type(kind);
        entry.index = self.entries.len() as u64 + 1;
        entry.term = if entry.index > 2 { 2 } else { 1 };
        (entry.data, entry.context) = (data.into(), context.into());
        self.entries.push(entry);
    }

    fn encoded(&mut self, session: SessionId, command: Command) -> (Vec<u8>, Reply) {
        let (mut sequence, mut acknowledged) = (0, 0);
        if session != SessionId::NONE {
            let count = self.sequences.entry(session).or_default();
            *count += 1;
            (sequence, acknowledged) = (*count, count.saturating_sub(3));
        }
        let (zxid, proposal) =
            (self.tree.zxid() + 1, Proposal { session, sequence, acknowledged, command });
        let stamp = EPOCH + zxid * SECOND;
        let outcome = self.tree.apply(zxid, stamp, &proposal);
        let reply = outcome.reply.unwrap_or_else(|refusal| panic!("{proposal:?}: {refusal:?}"));
        (entry::encode(stamp, &proposal), reply)
    }

    fn say(&mut self, session: SessionId, command: Command) -> Reply {
        let (data, reply) = self.encoded(session, command);
        self.push(EntryType::EntryNormal, data, Vec::new());
        reply
    }

    fn all(&mut self, session: SessionId, commands: impl IntoIterator<Item = Command>) {
        commands.into_iter().for_each(|command| drop(self.say(session, command)));
    }

    /// A membership change, with the list that goes with it.
    fn change(&mut self, id: u64, how: ConfChangeType, list: Option<Vec<Member>>) {
        let mut single = ConfChangeSingle::default();
        single.set_change_type(how);
        single.node_id = id;
        let mut change = ConfChangeV2::default();
        change.set_changes(vec![single].into());
        let context = match list {
            Some(members) => self.encoded(SessionId::NONE, Command::SetMembers { members }).0,
            None => {
                self.tree.skip(self.tree.zxid() + 1);
                Vec::new()
            }
        };
        self.push(EntryType::EntryConfChangeV2, change.write_to_bytes().unwrap(), context);
    }

    fn found(&mut self) {
        let member = |(id, name, learner): (u64, &str, bool)| Member {
            id: ReplicaId(id),
            name: name.into(),
            address: format!("{name}.example:7411"),
            learner,
            incarnation: 0xabc_0000 + id,
        };
        let founders = [(1, "a", false), (2, "b", false)].map(member).to_vec();
        let all = [(1, "a", false), (2, "b", false), (3, "c", true)].map(member).to_vec();
        self.change(1, ConfChangeType::AddNode, None);
        self.change(2, ConfChangeType::AddNode, None);
        self.tree.skip(3);
        self.push(EntryType::EntryNormal, Vec::new(), Vec::new());
        let limits = TreeLimits { file_bytes: 1 << 20, tree_bytes: 2 << 30, inodes: 4 << 20 };
        let (cluster, name_key) = (0xc0ffee, NameKey::new([7; 16]));
        let none = SessionId::NONE;
        self.say(none, Command::Found { cluster, members: founders, limits, name_key });
        self.change(3, ConfChangeType::AddLearnerNode, Some(all));
        for (id, version) in [(1, "0.1.0"), (2, "0.1.0-rc.1+x_y"), (3, "0.1.0")] {
            let program = Program { level: 1, version: version.into() };
            self.say(none, Command::DeclareProgram { replica: ReplicaId(id), program });
        }
        self.say(none, Command::RaiseLevel { to: 1 });
    }

    fn open(&mut self, host: &str) -> SessionId {
        let (host, client) = (host.as_bytes().into(), b"client"[..].into());
        let (replica, nonce, timeout_ms) = (ReplicaId(1), u64::MAX, 10_000);
        let open = Command::OpenSession { host, client, replica, nonce, timeout_ms };
        let Reply::Session { session } = self.say(SessionId::NONE, open) else {
            panic!("it is opened");
        };
        let (moves, replica) = (1, ReplicaId(2));
        self.say(SessionId::NONE, Command::MoveSession { session, nonce, moves, replica });
        session
    }

    fn ino(&self, parent: Ino, name: &str) -> Ino {
        self.tree.lookup(parent, name.as_bytes()).unwrap_or_else(|why| panic!("{name}: {why:?}"))
    }

    fn make_inodes(&mut self, session: SessionId) {
        let kinds = [
            ("file", NewNode::File),
            ("dir", NewNode::Directory),
            ("symlink", NewNode::Symlink { target: b"some/where"[..].into() }),
            ("fifo", NewNode::Fifo),
            ("socket", NewNode::Socket),
            ("char", NewNode::CharDevice { rdev: 0x103 }),
            ("block", NewNode::BlockDevice { rdev: u32::MAX }),
        ];
        self.all(session, kinds.map(|(name, node)| make(Ino::ROOT, name, node)));
        for name in ["orphan", "swapped", "gone", "sparse", "locked"] {
            self.say(session, make(Ino::ROOT, name, NewNode::File));
        }
        self.say(session, make(Ino::ROOT, "empty", NewNode::Directory));
    }

    fn fill_files(&mut self, session: SessionId) {
        let (ino, sparse) = (self.ino(Ino::ROOT, "file"), self.ino(Ino::ROOT, "sparse"));
        let write = |ino, place, data: &[u8]| {
            Command::Write(Write { ino, place, data: data.into(), clear_set_id: true })
        };
        let allocate = |how| Command::Allocate { ino: sparse, offset: 4096, length: 3 << 12, how };
        self.all(
            session,
            [
                write(ino, Place::Replace(0), b"begun"),
                write(ino, Place::End, b" ended"),
                write(ino, Place::At(2), b"X"),
                write(sparse, Place::At(100_000), b"far"),
                allocate(AllocateHow::Grow),
                allocate(AllocateHow::KeepSize),
                allocate(AllocateHow::PunchHole),
                allocate(AllocateHow::ZeroRange { keep_size: true }),
                Command::Store(Stored {
                    ino,
                    offset: 1,
                    data: b"stored"[..].into(),
                    changed: [0b10_0101].into(),
                }),
            ],
        );
        let set = SetAttributes {
            mode: Some(0o2640),
            uid: Some(1000),
            gid: Some(u32::MAX - 1),
            size: Some(9),
            atime: Some(TimeOrStamp::Time(-5)),
            mtime: Some(TimeOrStamp::Stamp),
            clear_set_id: false,
        };
        self.say(session, Command::SetAttributes { ino, set });
        for (name, how) in
            [("user.a", XattrHow::Set), ("user.b", XattrHow::Create), ("user.a", XattrHow::Replace)]
        {
            let (name, value) = (name.as_bytes().into(), b"\0value\xff"[..].into());
            self.say(session, Command::SetXattr { ino, name, value, how });
        }
        self.say(session, Command::RemoveXattr { ino, name: b"user.b"[..].into() });
    }

    fn name_things(&mut self, a: SessionId, b: SessionId) {
        let (root, dir) = (Ino::ROOT, self.ino(Ino::ROOT, "dir"));
        let [file, orphan, gone] = ["file", "orphan", "gone"].map(|name| self.ino(root, name));
        let rename = |name: &str, to, new_name: &str, how| Command::Rename {
            from: root,
            name: name.as_bytes().into(),
            to,
            new_name: new_name.as_bytes().into(),
            how,
        };
        let unlink = |name: &str| Command::Unlink { parent: root, name: name.as_bytes().into() };
        self.all(
            a,
            [
                Command::Link { ino: file, parent: dir, name: b"\xffhard link"[..].into() },
                rename("swapped", dir, "moved", RenameHow::NoReplace),
                rename("fifo", root, "socket", RenameHow::Exchange),
                Command::Link { ino: file, parent: root, name: b"other"[..].into() },
                rename("char", root, "other", RenameHow::Replace),
                unlink("orphan"),
                unlink("gone"),
                Command::Release { inodes: vec![orphan, gone] },
                Command::RemoveDirectory { parent: root, name: b"empty"[..].into() },
                Command::Probe { level: 1 },
            ],
        );
        self.say(b, Command::Release { inodes: vec![gone] });
    }

    fn give_roles(&mut self, session: SessionId) {
        for role in ["ephemeral", "sequential"] {
            self.say(session, make(Ino::ROOT, role, NewNode::Directory));
            let ino = self.ino(Ino::ROOT, role);
            let (name, value) = (b"user.keepfs.role"[..].into(), role.as_bytes().into());
            self.say(session, Command::SetXattr { ino, name, value, how: XattrHow::Set });
            self.say(session, make(ino, "one-", NewNode::File));
            self.say(session, make(ino, "two-", NewNode::File));
        }
    }

    fn lock_files(&mut self, a: SessionId, b: SessionId) {
        let (ino, ranges) = (self.ino(Ino::ROOT, "locked"), self.ino(Ino::ROOT, "file"));
        let lock = |ino, owner, (start, end), mode| {
            Command::Lock(Lock { ino, owner, start, end, mode, wait: true, who: who(1000) })
        };
        let whole = (0, i64::MAX as u64);
        self.say(a, lock(ino, 1, whole, LockMode::Exclusive));
        self.say(b, lock(ino, 2, whole, LockMode::Shared));
        let Reply::Queued { waiter, .. } = self.say(b, lock(ino, 3, whole, LockMode::Exclusive))
        else {
            panic!("it waits");
        };
        self.say(b, Command::CancelWait { ino, waiter });
        self.say(a, lock(ranges, 1, (0, 99), LockMode::Shared));
        self.say(b, lock(ranges, 1, (50, 149), LockMode::Shared));
        self.say(a, Command::Unlock { ino: ranges, owner: 1, start: 10, end: 19 });
    }

    fn take_tickets(&mut self, a: SessionId, b: SessionId) {
        self.say(a, make(Ino::LOCK, "queue", NewNode::Directory));
        let directory = self.ino(Ino::LOCK, "queue");
        let ticket = |name: &str| Create {
            ticket: Some(who(0)),
            wait: true,
            ..create(directory, name, NewNode::File)
        };
        self.say(a, Command::Create(ticket("first")));
        self.say(b, Command::Create(ticket("second")));
        self.say(b, Command::Create(ticket("third")));
        let (name, create) = (b"first"[..].into(), Box::new(ticket("first")));
        let join = Command::JoinQueue { directory, name, ticket: who(7), create, wait: true };
        self.say(b, join);
        let third = self.ino(directory, "third");
        self.say(b, Command::DropTicket { directory, ticket: third });
    }

    fn store_backups(&mut self, session: SessionId) {
        self.say(session, make(Ino::BACKUP_NODE, "web", NewNode::Directory));
        let host = self.ino(Ino::BACKUP_NODE, "web");
        let name: Name = b"2026-11-22T17-30-00Z-1a2b3c4d"[..].into();
        let manifest = b"{\"version\":1}"[..].into();
        self.say(session, Command::RecordSnapshot { host, name, size: 1 << 40, manifest });
    }

    fn issue_tokens(&mut self) {
        let minute = 60 * SECOND;
        let terms = |mount, name: Option<&str>| TokenTerms {
            mount,
            name: name.map(str::to_owned),
            uses: 2,
            life: 60 * minute,
        };
        let session = self.open("c");
        self.all(
            session,
            [
                Command::IssueToken { token: 5, terms: terms(false, None) },
                Command::IssueToken { token: u64::MAX, terms: terms(true, Some("m")) },
                Command::RedeemToken { token: u64::MAX, name: "m".into(), joiner: 77 },
                Command::RevokeToken { token: 5 },
            ],
        );
    }

    /// Two sessions end; with one piece of work an entry, what they leave is still there when the
    /// story is over.
    fn end_sessions(&mut self) {
        let over = self.open("over");
        let ephemeral = self.ino(Ino::ROOT, "ephemeral");
        self.say(over, make(ephemeral, "theirs", NewNode::Directory));
        let theirs = self.ino(ephemeral, "theirs");
        for name in ["x", "y", "z"] {
            self.say(over, make(theirs, name, NewNode::File));
        }
        let silent = self.open("silent");
        self.say(SessionId::NONE, Command::ExpireSessions { sessions: vec![silent] });
        self.say(over, Command::CloseSession);
        self.say(SessionId::NONE, Command::Work);
    }
}

fn create(parent: Ino, name: &str, node: NewNode) -> Create {
    Create {
        parent,
        name: name.as_bytes().into(),
        node,
        mode: 0o755,
        uid: 1000,
        gid: 100,
        ticket: None,
        wait: false,
    }
}

fn make(parent: Ino, name: &str, node: NewNode) -> Command {
    Command::Create(create(parent, name, node))
}

fn who(uid: u32) -> TicketInfo {
    TicketInfo { pid: 4_000_000, uid, command: b"flock -x 9"[..].into() }
}
