//! The tree, without a cluster: what the replicas of keepfs keep alike.
//!
//! `cargo run --example tree`

use keepfs::tree::*;

fn main() {
    // A tree starts with a few directories of its own. What happens to it is a log of entries; each
    // has an index (the zxid), a stamp from the leader's clock, and a proposal.
    let mut tree = Tree::new();
    let mut log = Vec::new();
    let mut apply = |tree: &mut Tree, proposal: Proposal| {
        let (zxid, stamp) = (tree.zxid() + 1, 1_700_000_000_000_000_000);
        log.push((zxid, stamp, proposal.clone()));
        let outcome = tree.apply(zxid, stamp, &proposal);
        println!("{zxid}: {:?}", outcome.reply);
        for change in &outcome.changes {
            println!("       {change:?}");
        }
        outcome.reply
    };

    println!("Two mounts arrive; each is a session.");
    let mut sessions = Vec::new();
    for host in ["web1", "web2"] {
        let command = Command::OpenSession {
            host: host.as_bytes().into(),
            client: [].into(),
            replica: ReplicaId(1),
            nonce: 1,
            timeout_ms: 9000,
        };
        if let Ok(Reply::Session { session }) = apply(&mut tree, by(SessionId::NONE, 0, command)) {
            sessions.push(session);
        }
    }
    let (one, two) = (sessions[0], sessions[1]);

    println!("\nFiles: a name is made, then bytes are written into its inode.");
    let _ = apply(&mut tree, by(one, 1, create(Ino::ROOT, "motd", NewNode::File)));
    let ino = tree.lookup(Ino::ROOT, b"motd").expect("it was just made");
    let data = b"hello\n"[..].into();
    let write = Write { ino, place: Place::End, data, clear_set_id: false };
    let append = by(one, 2, Command::Write(write));
    let _ = apply(&mut tree, append.clone());

    println!("\nA proposal that comes twice is answered twice, but applied once.");
    let _ = apply(&mut tree, append);
    let text = tree.read(ino, 0, 100).expect("a file");
    println!("motd holds {:?}", String::from_utf8_lossy(&text));

    println!("\nRefusals are answers too.");
    let rmdir = Command::RemoveDirectory { parent: Ino::ROOT, name: b"lock"[..].into() };
    let _ = apply(&mut tree, by(one, 3, rmdir));

    println!("\nA directory in /lock is a queue: the first name in it holds, the next one waits.");
    let _ = apply(&mut tree, by(one, 4, create(Ino::LOCK, "deploy", NewNode::Directory)));
    let queue = tree.lookup(Ino::LOCK, b"deploy").expect("it was just made");
    let _ = apply(&mut tree, by(one, 5, create(queue, "first", NewNode::File)));
    let _ = apply(&mut tree, by(two, 1, create(queue, "second", NewNode::File)));

    println!("\nweb1 dies; the log says so, and everything it held is handed on in that entry.");
    let _ =
        apply(&mut tree, by(SessionId::NONE, 0, Command::ExpireSessions { sessions: vec![one] }));

    println!("\nEqual logs make equal trees: that is all a cluster needs to agree on.");
    let mut other = Tree::new();
    for (zxid, stamp, proposal) in &log {
        other.apply(*zxid, *stamp, proposal);
    }
    println!("digests {:016x} and {:016x}", tree.digest(), other.digest());
    assert_eq!(tree.digest(), other.digest());
}

fn by(session: SessionId, sequence: u64, command: Command) -> Proposal {
    Proposal { session, sequence, acknowledged: 0, command }
}

fn create(parent: Ino, name: &str, node: NewNode) -> Command {
    let name = name.as_bytes().into();
    let (mode, uid, gid) = (0o755, 0, 0);
    Command::Create(Create { parent, name, node, mode, uid, gid, ticket: None, wait: true })
}
