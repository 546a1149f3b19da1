//! Draws logs: entries that mostly make sense, and some that do not.

use crate::dice::Dice;
use keepfs::tree::*;
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Log {
    pub entries: Vec<(Zxid, Stamp, Proposal)>,
    /// Every session there ever was, and how many proposals it made.
    sessions: BTreeMap<SessionId, u64>,
    waiters: Vec<(Ino, Zxid)>,
    /// The highest inode there ever was.
    inodes: u64,
    /// Inodes that are there now.
    directories: Vec<Ino>,
    others: Vec<Ino>,
}

impl Log {
    /// The next entry of a log that has brought `tree` about.
    pub fn draw(&mut self, dice: &mut Dice, tree: &Tree) -> (Zxid, Stamp, Proposal) {
        let zxid = tree.zxid() + 1;
        // Stamps may come out of order; the tree's time does not run backwards.
        let stamp = zxid * 1000 + dice.roll(3000);
        let there = (1..=self.inodes.max(1)).map(Ino).filter(|ino| tree.attributes(*ino).is_some());
        (self.directories, self.others) = there.partition(|ino| tree.parent(*ino).is_some());
        let proposal = self.proposal(dice, tree);
        self.entries.push((zxid, stamp, proposal.clone()));
        (zxid, stamp, proposal)
    }

    pub fn learn(&mut self, proposal: &Proposal, outcome: &Outcome) {
        match &outcome.reply {
            Ok(Reply::Session { session }) => {
                self.sessions.entry(*session).or_insert(0);
            }
            Ok(Reply::Queued { ino, waiter }) => self.waiters.push((*ino, *waiter)),
            _ => {}
        }
        for change in &outcome.changes {
            if let Change::Added { ino, .. } = change {
                self.inodes = self.inodes.max(ino.0);
            }
        }
        if let Some(sequence) = self.sessions.get_mut(&proposal.session) {
            *sequence = (*sequence).max(proposal.sequence);
        }
    }

    fn proposal(&mut self, dice: &mut Dice, tree: &Tree) -> Proposal {
        if dice.roll(20) == 0
            && let Some((_, _, earlier)) = self.entries.last()
        {
            return earlier.clone();
        }
        let anyone = dice.roll(30) == 0;
        let sessions = self.sessions.iter().map(|(session, count)| (*session, *count));
        let sessions = sessions.filter(|(session, _)| anyone || tree.session(*session).is_some());
        let sessions: Vec<_> = sessions.collect();
        let none = (SessionId::NONE, 0);
        let alone = sessions.is_empty() || dice.roll(40) == 0;
        let (session, count) = if alone { none } else { *dice.pick(&sessions) };
        let command = if alone { self.clusters_own(dice) } else { self.command(dice) };
        let sequence = match dice.roll(20) {
            _ if alone => 0,
            0 => (count + dice.roll(4)).saturating_sub(dice.roll(4)),
            _ => count + 1,
        };
        let acknowledged = sequence.saturating_sub(dice.roll(5));
        Proposal { session, sequence, acknowledged, command }
    }

    fn clusters_own(&self, dice: &mut Dice) -> Command {
        let hosts = ["a", "b", "c"];
        let some = |dice: &mut Dice| SessionId(1 + dice.roll(self.entries.len() as u64 + 1));
        match dice.roll(13) {
            12 => Command::MoveSession {
                session: some(dice),
                nonce: dice.roll(4),
                moves: dice.roll(3),
                replica: ReplicaId(1 + dice.roll(2)),
            },
            0..6 => Command::OpenSession {
                host: dice.pick(&hosts).as_bytes().into(),
                client: dice.pick(&["", "other"]).as_bytes().into(),
                replica: ReplicaId(1),
                nonce: dice.roll(4),
                timeout_ms: 1,
            },
            6 => Command::ExpireSessions { sessions: vec![some(dice), some(dice)] },
            7 => Command::SetMembers { members: Vec::new() },
            _ => Command::Work,
        }
    }

    fn command(&self, dice: &mut Dice) -> Command {
        match dice.roll(40) {
            0..9 => Command::Create(self.create(dice)),
            9..12 => self.role(dice),
            12..14 => {
                Command::Link { ino: self.ino(dice), parent: self.parent(dice), name: name(dice) }
            }
            14..17 => Command::Unlink { parent: self.parent(dice), name: name(dice) },
            17 => Command::RemoveDirectory { parent: self.parent(dice), name: name(dice) },
            18..21 => Command::Rename {
                from: self.parent(dice),
                name: name(dice),
                to: self.parent(dice),
                new_name: name(dice),
                how: *dice.pick(&[RenameHow::Replace, RenameHow::NoReplace, RenameHow::Exchange]),
            },
            21..25 => self.data(dice),
            25..27 => {
                let value = vec![b'v'; dice.roll(40) as usize].into();
                let (ino, name) = (self.ino(dice), b"user.some"[..].into());
                Command::SetXattr { ino, name, value, how: XattrHow::Set }
            }
            27 => Command::RemoveXattr { ino: self.ino(dice), name: b"user.some"[..].into() },
            28 => Command::Release { inodes: (0..dice.roll(self.inodes + 2)).map(Ino).collect() },
            29..32 => Command::Lock(self.lock(dice)),
            32 => {
                let Lock { ino, owner, start, end, .. } = self.lock(dice);
                Command::Unlock { ino, owner, start, end }
            }
            33 if !self.waiters.is_empty() => {
                let (ino, waiter) = *dice.pick(&self.waiters);
                Command::CancelWait { ino, waiter }
            }
            34..37 => {
                let create = Box::new(self.create(dice));
                let (directory, name, ticket) = (create.parent, create.name.clone(), nobody());
                let wait = dice.roll(4) > 0;
                Command::JoinQueue { directory, name, ticket, create, wait }
            }
            37 => Command::DropTicket { directory: self.parent(dice), ticket: self.ino(dice) },
            38 => Command::RecordSnapshot {
                host: self.parent(dice),
                name: name(dice),
                size: dice.roll(u64::MAX),
                manifest: b"{}"[..].into(),
            },
            _ if dice.roll(4) == 0 => Command::CloseSession,
            _ if dice.roll(10) > 0 => Command::Write(self.write(dice)),
            _ if dice.roll(2) == 0 => Command::Work,
            _ => Command::Found {
                cluster: 1,
                members: Vec::new(),
                limits: limits(dice),
                name_key: NameKey::new([dice.roll(256) as u8; 16]),
            },
        }
    }

    /// One that is there, was there, or never was.
    fn ino(&self, dice: &mut Dice) -> Ino {
        match dice.roll(10) {
            0..7 if !self.others.is_empty() => *dice.pick(&self.others),
            7 => *dice.pick(&self.directories),
            _ => Ino(dice.roll(self.inodes + 2)),
        }
    }

    /// Mostly a directory.
    fn parent(&self, dice: &mut Dice) -> Ino {
        match dice.roll(20) {
            0 => self.ino(dice),
            1..3 => *dice.pick(&[Ino::LOCK, Ino::BACKUP_LOCK, Ino::BACKUP_NODE]),
            _ => *dice.pick(&self.directories),
        }
    }

    fn create(&self, dice: &mut Dice) -> Create {
        let nodes = [
            NewNode::File,
            NewNode::Directory,
            NewNode::Symlink { target: b"target"[..].into() },
            NewNode::Fifo,
        ];
        let node = if dice.roll(2) == 0 { NewNode::File } else { dice.pick(&nodes).clone() };
        Create {
            parent: self.parent(dice),
            name: name(dice),
            node,
            mode: dice.roll(u64::from(u32::MAX)) as u32,
            uid: 0,
            gid: 0,
            ticket: (dice.roll(2) == 0).then(nobody),
            wait: dice.roll(4) > 0,
        }
    }

    fn role(&self, dice: &mut Dice) -> Command {
        let roles = ["plain", "ephemeral", "sequential", "lock", "locks", "king"];
        Command::SetXattr {
            ino: self.parent(dice),
            name: b"user.keepfs.role"[..].into(),
            value: dice.pick(&roles).as_bytes().into(),
            how: XattrHow::Set,
        }
    }

    fn data(&self, dice: &mut Dice) -> Command {
        let ino = self.ino(dice);
        let offset = if dice.roll(5) == 0 { u64::MAX - dice.roll(9) } else { dice.roll(200_000) };
        let length = dice.roll(100_000);
        let set = SetAttributes {
            mode: (dice.roll(2) == 0).then_some(u32::MAX),
            uid: (dice.roll(2) == 0).then_some(1),
            gid: None,
            size: (dice.roll(2) == 0).then_some(offset),
            atime: Some(TimeOrStamp::Time(i64::MIN)),
            mtime: Some(TimeOrStamp::Stamp),
            clear_set_id: true,
        };
        let hows = [
            AllocateHow::Grow,
            AllocateHow::KeepSize,
            AllocateHow::PunchHole,
            AllocateHow::ZeroRange { keep_size: dice.roll(2) == 0 },
        ];
        match dice.roll(5) {
            4 => {
                let data = vec![b's'; dice.roll(500) as usize];
                let changed = data.chunks(8).map(|_| dice.roll(256) as u8).collect();
                Command::Store(Stored { ino, offset, data: data.into(), changed })
            }
            0 => Command::SetAttributes { ino, set },
            1 => Command::Allocate { ino, offset, length, how: *dice.pick(&hows) },
            _ => Command::Write(self.write(dice)),
        }
    }

    fn write(&self, dice: &mut Dice) -> Write {
        let offset = if dice.roll(5) == 0 { u64::MAX - dice.roll(9) } else { dice.roll(200_000) };
        let places = [Place::At(offset), Place::End, Place::Replace(offset)];
        Write {
            ino: self.ino(dice),
            place: *dice.pick(&places),
            data: vec![b'd'; dice.roll(10_000) as usize].into(),
            clear_set_id: dice.roll(2) == 0,
        }
    }

    fn lock(&self, dice: &mut Dice) -> Lock {
        let start = dice.roll(10);
        Lock {
            ino: self.ino(dice),
            owner: dice.roll(2),
            start,
            end: start + dice.roll(10),
            mode: *dice.pick(&[LockMode::Shared, LockMode::Exclusive]),
            wait: dice.roll(4) > 0,
            who: nobody(),
        }
    }
}

fn name(dice: &mut Dice) -> Name {
    let valid = ["a", "b", "c", "backup", "snapshots"];
    let odd = ["", "..", "no/name", "no\0name", "lock", "node"];
    let names = if dice.roll(10) > 0 { &valid[..] } else { &odd[..] };
    dice.pick(names).as_bytes().into()
}

fn nobody() -> TicketInfo {
    TicketInfo { pid: 0, uid: 0, command: Box::default() }
}

fn limits(dice: &mut Dice) -> TreeLimits {
    let most = *dice.pick(&[u64::MAX, 1 << 20, 300_000]);
    TreeLimits { file_bytes: most, tree_bytes: most, inodes: most.min(60) }
}
