//! What one entry of the log may do, and what a queue may hold: `docs/tree.md` has the table.

use keepfs::limits::{RANGES_MAX, SESSIONS_MAX, WORK_IN_ONE_ENTRY_MAX};
use keepfs::tree::locks::{EndedLocks, LockGrant, LockTable, Owner, Span};
use keepfs::tree::*;

/// Ends a session in steps of so much work.
fn end_session(table: &mut LockTable, session: SessionId, now: Zxid, step: usize) -> EndedLocks {
    let mut all = EndedLocks::default();
    table.end_session(session);
    while table.has_work() {
        let mut work = step;
        let ended = table.take_back(now, &mut work);
        assert!(work < step, "a step that does nothing");
        all.grants.extend(ended.grants);
        all.tickets.extend(ended.tickets);
    }
    all
}

fn whole(ino: u64, owner: u64, mode: LockMode) -> Lock {
    let who = TicketInfo { pid: 1, uid: 0, command: Box::default() };
    Lock { ino: Ino(ino), owner, start: 0, end: i64::MAX as u64, mode, wait: true, who }
}

#[test]
fn what_an_ended_session_has_goes_piece_by_piece_and_it_gets_nothing_more() {
    for step in [1, 2, 3, 7] {
        let (mut table, ending, other) = (LockTable::default(), SessionId(1), SessionId(2));
        let who = TicketInfo { pid: 1, uid: 0, command: Box::default() };
        let mut now = 0;
        let mut ask = |table: &mut LockTable, session, ino: u64| {
            now += 1;
            let lock = whole(ino, now, LockMode::Exclusive);
            table.lock(session, now, now, &lock).unwrap();
            let name = Box::from(format!("t{now}").as_bytes());
            let ticket = Ino(10_000 + now);
            table
                .enqueue_ticket(Ino(900 + ino), ticket, name, session, now, now, &who, true)
                .unwrap();
        };
        for ino in 100..110 {
            for session in [ending, ending, other, ending] {
                ask(&mut table, session, ino);
            }
        }
        let restored = bincode::encode_to_vec(&table, bincode::config::standard()).unwrap();
        let ended = end_session(&mut table, ending, 500, step);
        assert!(ended.grants.iter().all(|grant| grant.session == other));
        assert_eq!(ended.grants.len(), 20, "a range and a ticket of each: {:?}", ended.grants);
        assert_eq!((ended.tickets.len(), table.count_of(ending)), (30, 0));
        let (mut half, _): (LockTable, usize) =
            bincode::decode_from_slice(&restored, bincode::config::standard()).unwrap();
        half.end_session(ending);
        half.take_back(500, &mut { step });
        let bytes = bincode::encode_to_vec(&half, bincode::config::standard()).unwrap();
        let (mut again, _): (LockTable, usize) =
            bincode::decode_from_slice(&bytes, bincode::config::standard()).unwrap();
        while again.has_work() {
            again.take_back(500, &mut { step });
        }
        assert_eq!(again, table, "a restart in between goes on where it was");
    }
}

fn range(owner: u64, start: u64, end: u64) -> Lock {
    Lock { start, end, ..whole(100, owner, LockMode::Exclusive) }
}

#[test]
fn a_file_full_of_ranges_takes_no_more_and_splits_none() {
    let (mut table, session) = (LockTable::default(), SessionId(1));
    let owner = Owner { session, owner: 1 };
    table.lock(session, 1, 1, &range(1, 0, 1 << 40)).unwrap();
    let mut now = 1;
    let mut pieces = 1;
    let refused = loop {
        now += 1;
        let span = Span { start: now * 10, end: now * 10 };
        match table.unlock(Ino(100), owner, span, now) {
            Ok(_) => pieces += 1,
            Err(refusal) => break refusal,
        }
    };
    assert_eq!((refused, pieces), (Refusal::NoLocks, RANGES_MAX));
    assert_eq!(table.len(), RANGES_MAX);
    assert_eq!(table.lock(session, now, now, &range(2, 1 << 50, 1 << 51)), Err(Refusal::NoLocks));
    let held = table.lock(session, now, now, &range(1, 0, 5));
    assert!(matches!(held, Ok((LockGrant::Held { .. }, _))), "what is held already is no more");
    let tail = Span { start: 1 << 30, end: 1 << 40 };
    table.unlock(Ino(100), owner, tail, now).expect("giving back an end adds nothing");
    table.unlock(Ino(100), owner, Span { start: 0, end: u64::MAX }, now).expect("nor does all");
    assert!(table.is_empty());
}

#[test]
fn a_long_queue_is_for_whole_files() {
    let (mut table, session) = (LockTable::default(), SessionId(1));
    let waiters = 3 * RANGES_MAX as u64;
    table.lock(session, 1, 1, &whole(100, 1, LockMode::Exclusive)).unwrap();
    for owner in 2..waiters {
        table.lock(session, owner, owner, &whole(100, owner, LockMode::Shared)).unwrap();
    }
    let now = waiters;
    let odd = table.lock(session, now, now, &range(now, 0, 5));
    assert_eq!(odd, Err(Refusal::NoLocks), "ranges would have to be compared");
    let piece = Span { start: 0, end: 5 };
    let holder = Owner { session, owner: 1 };
    assert_eq!(table.unlock(Ino(100), holder, piece, now), Err(Refusal::NoLocks));
    let (downgraded, granted) =
        table.lock(session, now, now, &whole(100, 1, LockMode::Shared)).unwrap();
    assert_eq!(downgraded, LockGrant::Held { token: now });
    assert_eq!(granted.len(), WORK_IN_ONE_ENTRY_MAX, "no more in one entry");
    let late = table.lock(session, now + 1, now + 1, &whole(100, now + 1, LockMode::Shared));
    assert_eq!(late.unwrap().0, LockGrant::Held { token: now + 1 }, "they share it");
    let mut order: Vec<Zxid> = granted.iter().map(|grant| grant.waiter).collect();
    while table.has_work() {
        let mut work = WORK_IN_ONE_ENTRY_MAX;
        let more = table.take_back(now, &mut work).grants;
        assert!(more.len() <= WORK_IN_ONE_ENTRY_MAX);
        order.extend(more.iter().map(|grant| grant.waiter));
    }
    assert_eq!(order, (2..waiters).collect::<Vec<_>>(), "a downgrade lets all of them in");
}

/// A tree, and a session's count of proposals.
struct World {
    tree: Tree,
    sequence: u64,
    /// The most changes of one entry.
    most: usize,
}

impl World {
    fn ask(&mut self, session: SessionId, command: Command) -> Result<Reply, Refusal> {
        self.sequence += 1;
        let sequence = if session == SessionId::NONE { 0 } else { self.sequence };
        let proposal = Proposal { session, sequence, acknowledged: sequence, command };
        let outcome = self.tree.apply(self.tree.zxid() + 1, 1, &proposal);
        self.most = outcome.changes.len().max(self.most);
        outcome.reply
    }

    fn open(&mut self, host: &str) -> Result<SessionId, Refusal> {
        let (replica, nonce) = (ReplicaId(1), self.sequence);
        let (host, client) = (host.as_bytes().into(), [].into());
        let command = Command::OpenSession { host, client, replica, nonce, timeout_ms: 1 };
        match self.ask(SessionId::NONE, command)? {
            Reply::Session { session } => Ok(session),
            other => panic!("{other:?}"),
        }
    }

    fn create(&mut self, session: SessionId, parent: Ino, name: &str, node: NewNode) -> Ino {
        let name = name.as_bytes().into();
        let (mode, uid, gid, wait) = (0o755, 0, 0, true);
        let create = Create { parent, name, node, mode, uid, gid, ticket: None, wait };
        match self.ask(session, Command::Create(create)) {
            Ok(Reply::Created { ino, .. } | Reply::Granted { ino, .. }) => ino,
            Ok(Reply::Queued { ino, .. }) => ino,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_session_with_very_much_of_everything_ends_in_bounded_pieces() {
    const MANY: u64 = 2500;
    let mut world = World { tree: Tree::new(), sequence: 0, most: 0 };
    let (ending, other) = (world.open("host").unwrap(), world.open("other").unwrap());
    let live = world.create(other, Ino::ROOT, "live", NewNode::Directory);
    let lock = world.create(other, Ino::LOCK, "lock", NewNode::Directory);
    let (name, value) = (b"user.keepfs.role"[..].into(), b"ephemeral"[..].into());
    let role = Command::SetXattr { ino: live, name, value, how: XattrHow::Set };
    world.ask(other, role).unwrap();
    let full = world.create(ending, live, "full", NewNode::Directory);
    for number in 0..MANY {
        let name = number.to_string();
        let file = world.create(ending, live, &name, NewNode::File);
        world.create(other, full, &name, NewNode::Directory);
        world.create(ending, lock, &name, NewNode::File);
        let range = Lock { ino: file, end: 9, ..whole(0, number, LockMode::Exclusive) };
        world.ask(ending, Command::Lock(range)).unwrap();
    }
    world.ask(SessionId::NONE, Command::ExpireSessions { sessions: vec![ending] }).unwrap();
    assert_eq!(world.ask(ending, Command::CloseSession), Err(Refusal::SessionExpired));
    let back = world.open("host").expect("its host is back at once");
    world.create(back, Ino::ROOT, "others go on", NewNode::File);
    let mut entries = 0;
    while world.tree.has_work() {
        entries += 1;
        world.ask(SessionId::NONE, Command::Work).unwrap();
    }
    world.tree.check().expect("it is sound");
    assert!((7..40).contains(&entries), "{entries} entries");
    assert!(world.most <= 4 * WORK_IN_ONE_ENTRY_MAX, "{} changes in one entry", world.most);
    let left = world.tree.attributes(live).map(|live| live.size);
    assert_eq!((left, world.tree.lock_count()), (Some(0), 0));
}

#[test]
fn there_are_so_many_sessions_and_no_more() {
    let mut world = World { tree: Tree::new(), sequence: 0, most: 0 };
    for number in 0..SESSIONS_MAX {
        world.open(&number.to_string()).unwrap();
    }
    assert_eq!(world.open("one more"), Err(Refusal::NoSpace));
    world.open("7").expect("a host's own older session makes room");
}

#[test]
fn a_release_names_so_many_inodes_and_no_more() {
    let mut world = World { tree: Tree::new(), sequence: 0, most: 0 };
    let session = world.open("host").unwrap();
    let release = |count| Command::Release { inodes: vec![Ino(99); count] };
    assert_eq!(world.ask(session, release(WORK_IN_ONE_ENTRY_MAX)), Ok(Reply::Done));
    assert_eq!(world.ask(session, release(WORK_IN_ONE_ENTRY_MAX + 1)), Err(Refusal::Invalid));
}

/// Somebody links a thousand of the next names into a sequential directory.
#[test]
fn numbers_in_use_are_passed_over_in_few_tries() {
    let mut world = World { tree: Tree::new(), sequence: 0, most: 0 };
    let session = world.open("host").unwrap();
    let queue = world.create(session, Ino::ROOT, "queue", NewNode::Directory);
    let file = world.create(session, Ino::ROOT, "file", NewNode::File);
    let (name, value) = (b"user.keepfs.role"[..].into(), b"sequential"[..].into());
    world.ask(session, Command::SetXattr { ino: queue, name, value, how: XattrHow::Set }).unwrap();
    for number in 0..1000 {
        let name = format!("job{number:010}").into_bytes().into();
        world.ask(session, Command::Link { ino: file, parent: queue, name }).unwrap();
    }
    let mut made = Vec::new();
    for _ in 0..2 {
        world.create(session, queue, "job", NewNode::File);
        made.push(world.tree.last_created(queue).expect("a name"));
    }
    assert!(made[0] < made[1] && made[0][..] > b"job0000000999"[..], "{made:?}");
}
