//! What a million small files cost: memory, and the time to apply, clone, write and read them; and
//! what a listing of a hundred thousand locks among them costs those who write meanwhile.
//!
//! `cargo run --release --example million [FILES] [FILES-IN-ONE-DIRECTORY]`

use keepfs::tree::*;
use std::time::{Duration, Instant};

const DATA_BYTES: usize = 100;
const LOCKS: u64 = 100_000;
/// Changes timed one by one after a clone.
const CHANGES: u64 = 10_000;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|word| word.parse().expect("a number"));
    let files: u64 = arguments.next().unwrap_or(1_000_000);
    let in_one: u64 = arguments.next().unwrap_or(1000);
    let before = resident();

    let start = Instant::now();
    let mut tree = Tree::new();
    let mut name_bytes = 0;
    let mut parent = Ino::ROOT;
    for file in 0..files {
        if file % in_one == 0 {
            let name = format!("directory{}", file / in_one);
            parent = create(&mut tree, Ino::ROOT, &name, NewNode::Directory);
        }
        let name = format!("file{file:07}");
        name_bytes += name.len();
        let ino = create(&mut tree, parent, &name, NewNode::File);
        let data = vec![file as u8; DATA_BYTES].into();
        let write = Write { ino, place: Place::At(0), data, clear_set_id: false };
        apply(&mut tree, Command::Write(write));
    }
    let spent = start.elapsed();
    println!("applied {} entries: {:.2?} each", tree.zxid(), spent / tree.zxid() as u32);

    let used = resident() - before;
    let beyond = (used as f64 - name_bytes as f64) / files as f64 - DATA_BYTES as f64;
    println!("{} MB resident; {beyond:.0} bytes a file beyond its data and name", used >> 20);

    list_locks(&mut tree, LOCKS.min(files));

    let start = Instant::now();
    let clone = tree.clone();
    println!("cloned in {:.2?}", start.elapsed());

    let start = Instant::now();
    let mut snapshot = Vec::with_capacity(256 << 20);
    clone.write_snapshot(&mut snapshot).expect("a vector takes everything");
    println!("wrote {} MB in {:.2?}", snapshot.len() >> 20, start.elapsed());

    let start = Instant::now();
    let read =
        Tree::read_snapshot(&mut &snapshot[..], LEVEL).expect("what was written can be read");
    println!("read it in {:.2?}", start.elapsed());
    assert_eq!(read.digest(), tree.digest());
}

/// A lock on each of so many files; then what `.keepfs/locks` does: freeze, and walk beside the
/// writers.
fn list_locks(tree: &mut Tree, locks: u64) {
    let command = Command::OpenSession {
        host: b"host"[..].into(),
        client: [].into(),
        replica: ReplicaId(1),
        nonce: 1,
        timeout_ms: 1000,
    };
    let Reply::Session { session } = apply(tree, command) else { panic!("no session") };
    let files: Vec<Ino> = (Ino::FIRST_FREE.0..)
        .map(Ino)
        .filter(|ino| tree.attributes(*ino).is_some_and(|found| found.kind == Kind::File))
        .take(locks as usize)
        .collect();
    for (sequence, ino) in files.iter().enumerate() {
        let who = TicketInfo { pid: 1, uid: 0, command: b"sleep 60"[..].into() };
        let (ino, owner, mode) = (*ino, sequence as u64, LockMode::Exclusive);
        let command =
            Command::Lock(Lock { ino, owner, start: 0, end: u64::MAX, mode, wait: true, who });
        apply_in(tree, session, sequence as u64 + 1, command);
    }
    let start = processor_time();
    let frozen = tree.clone();
    println!("with {locks} locks: frozen in {:.2?}", processor_time() - start);
    let mut slowest = Default::default();
    for change in 0..CHANGES.min(locks) {
        let ino = files[(change * 7919 % locks) as usize];
        let data = vec![1; DATA_BYTES].into();
        let write = Write { ino, place: Place::At(0), data, clear_set_id: false };
        let start = processor_time();
        apply(tree, Command::Write(write));
        slowest = (processor_time() - start).max(slowest);
    }
    println!("the slowest of {CHANGES} writes meanwhile took {slowest:.2?}");
    let start = Instant::now();
    let views = frozen.locks();
    let named = views.iter().filter(|view| frozen.path(view.ino).is_some()).count();
    println!("listed {} locks, {named} with a path, in {:.2?}", views.len(), start.elapsed());
    let start = Instant::now();
    drop(frozen);
    println!("let go of the frozen tree in {:.2?}", start.elapsed());
}

fn create(tree: &mut Tree, parent: Ino, name: &str, node: NewNode) -> Ino {
    let name = name.as_bytes().into();
    let create =
        Create { parent, name, node, mode: 0o644, uid: 0, gid: 0, ticket: None, wait: true };
    match apply(tree, Command::Create(create)) {
        Reply::Created { ino, .. } => ino,
        other => panic!("a create was answered with {other:?}"),
    }
}

fn apply(tree: &mut Tree, command: Command) -> Reply {
    apply_in(tree, SessionId::NONE, 0, command)
}

fn apply_in(tree: &mut Tree, session: SessionId, sequence: u64, command: Command) -> Reply {
    let proposal = Proposal { session, sequence, acknowledged: sequence, command };
    let zxid = tree.zxid() + 1;
    tree.apply(zxid, zxid, &proposal).reply.expect("there is room")
}

/// Of this thread: other work on the machine does not count.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Resident bytes of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("this is Linux");
    let pages: usize = statm.split(' ').nth(1).expect("a field").parse().expect("a number");
    pages * 4096
}
