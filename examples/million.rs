//! What a million small files cost: memory, and the time to apply, clone, write and read them.
//!
//! `cargo run --release --example million [FILES] [FILES-IN-ONE-DIRECTORY]`

use keepfs::tree::*;
use std::time::Instant;

const DATA_BYTES: usize = 100;

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

    let start = Instant::now();
    let clone = tree.clone();
    println!("cloned in {:.2?}", start.elapsed());

    let start = Instant::now();
    let mut snapshot = Vec::with_capacity(256 << 20);
    clone.write_snapshot(&mut snapshot).expect("a vector takes everything");
    println!("wrote {} MB in {:.2?}", snapshot.len() >> 20, start.elapsed());

    let start = Instant::now();
    let read = Tree::read_snapshot(&mut &snapshot[..]).expect("what was written can be read");
    println!("read it in {:.2?}", start.elapsed());
    assert_eq!(read.digest(), tree.digest());
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
    let proposal = Proposal { session: SessionId::NONE, sequence: 0, acknowledged: 0, command };
    let zxid = tree.zxid() + 1;
    tree.apply(zxid, zxid, &proposal).reply.expect("there is room")
}

/// Resident bytes of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("this is Linux");
    let pages: usize = statm.split(' ').nth(1).expect("a field").parse().expect("a number");
    pages * 4096
}
