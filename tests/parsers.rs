//! Whatever bytes come from a disk, a peer or a person: a parser answers with what they mean or
//! with an error, and never panics or takes memory as a damaged length claims. Bytes begin as what
//! is really written and are damaged from a seed; `PARSER_SEEDS` sets how many are drawn.

#[path = "support/dice.rs"]
mod dice;
#[path = "tree/log.rs"]
mod log;

use dice::Dice;
use keepfs::backup::manifest::Manifest;
use keepfs::config::{Config, Flags};
use keepfs::disk::{DataDirectory, SnapshotReader};
use keepfs::peers::{connection, frame};
use keepfs::replica::{PeerMessage, SnapshotMark, entry};
use keepfs::tree::{LEVEL, Member, Proposal, ReplicaId, SessionId, Tree};
use log::Log;
use std::fmt::Debug;
use std::fs;
use std::io::{self, Read};

/// Lengths and marks of variable length begin with these in bincode; the rest are ends of ranges.
const TELLING: [u8; 9] = [0, 1, 0x7f, 0x80, 250, 251, 252, 253, 255];

fn seeds() -> u64 {
    let asked = std::env::var("PARSER_SEEDS").ok();
    asked.map_or(300, |seeds| seeds.parse().expect("PARSER_SEEDS is a number"))
}

/// Changed, cut, doubled, pulled apart or filled at some places.
fn damage(dice: &mut Dice, bytes: &mut Vec<u8>) {
    for _ in 0..=dice.roll(3) {
        if bytes.is_empty() {
            return;
        }
        let at = dice.roll(bytes.len() as u64) as usize;
        let some = 1 + dice.roll(16) as usize;
        let until = bytes.len().min(at + some);
        match dice.roll(6) {
            0 => bytes[at] = dice.roll(256) as u8,
            1 => bytes[at] = *dice.pick(&TELLING),
            2 => bytes.truncate(at),
            3 => drop(bytes.splice(at..at, vec![*dice.pick(&TELLING); some])),
            4 => drop(bytes.drain(at..until)),
            _ => bytes[at..until].fill(*dice.pick(&TELLING)),
        }
    }
}

/// Damages `bytes` from every seed and hands them to `parse`, which says by its own means if what
/// it is given makes no sense.
fn damaged(what: &str, bytes: &[u8], mut parse: impl FnMut(&[u8])) {
    for seed in 0..seeds() {
        let mut bytes = bytes.to_vec();
        damage(&mut Dice(seed), &mut bytes);
        let parsed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| parse(&bytes)));
        assert!(parsed.is_ok(), "{what}, seed {seed}: {bytes:02x?}");
    }
}

/// Commands of every kind, as users give them.
fn proposals() -> Vec<Proposal> {
    let (mut log, mut tree, mut dice) = (Log::default(), Tree::new(), Dice(1));
    let mut drawn = Vec::new();
    for _ in 0..300 {
        let (zxid, stamp, proposal) = log.draw(&mut dice, &tree);
        let outcome = tree.apply(zxid, stamp, &proposal);
        log.learn(&proposal, &outcome);
        drawn.push(proposal);
    }
    drawn
}

#[test]
fn a_log_entry() {
    for proposal in proposals() {
        damaged("an entry", &entry::encode(77, &proposal), |bytes| {
            if let Ok((stamp, read)) = entry::decode(bytes, LEVEL) {
                let again = entry::decode(&entry::encode(stamp, &read), LEVEL);
                assert_eq!(again, Ok((stamp, read)), "what was read is written as it was read");
            }
        });
    }
}

fn messages() -> Vec<PeerMessage> {
    let member = Member {
        id: ReplicaId(3),
        name: "c".into(),
        address: "c:1".into(),
        learner: true,
        incarnation: 1,
    };
    vec![
        PeerMessage::Raft(vec![7; 40]),
        PeerMessage::Snapshot { index: 1 << 40, term: 3, message: vec![1; 20] },
        PeerMessage::Forward(proposals().into_iter().take(20).collect()),
        PeerMessage::KeepAlive { sessions: vec![SessionId(9)], sent: u64::MAX },
        PeerMessage::Digest { zxid: 5, digest: u64::MAX },
        PeerMessage::Join {
            id: 1,
            name: "d".into(),
            address: "d:7411".into(),
            incarnation: 9,
            level: LEVEL,
        },
        PeerMessage::MemberAnswer { id: 2, result: Ok(vec![member]) },
        PeerMessage::MemberAnswer { id: 2, result: Err("no".into()) },
    ]
}

#[test]
fn a_message_and_its_frame() {
    for message in messages() {
        let mut framed = Vec::new();
        connection::append(&mut framed, 1, &message).unwrap();
        let payload = frame::parse(&framed).unwrap().expect("a whole frame").payload.to_vec();
        damaged("a message", &payload, |bytes| {
            let _ = connection::decode::<PeerMessage>(bytes);
        });
        damaged("a frame", &framed, |bytes| {
            if let Ok(Some(frame)) = frame::parse(bytes) {
                assert_eq!(frame.payload, payload, "a damaged frame passes its check");
            }
        });
    }
}

fn bytes_of(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::new();
    tree.write_snapshot(&mut bytes).expect("memory takes it");
    bytes
}

#[test]
fn a_tree() {
    let (mut log, mut tree, mut dice) = (Log::default(), Tree::new(), Dice(2));
    for _ in 0..200 {
        let (zxid, stamp, proposal) = log.draw(&mut dice, &tree);
        let outcome = tree.apply(zxid, stamp, &proposal);
        log.learn(&proposal, &outcome);
    }
    let whole = bytes_of(&tree);
    damaged("a tree", &whole, |bytes| {
        if let Ok(read) = Tree::read_snapshot(&mut &*bytes, LEVEL) {
            assert_eq!(bytes_of(&read), whole, "a damaged tree passes its checks");
        }
    });
}

#[test]
fn a_snapshot_file() {
    let place = tempfile::tempdir().unwrap();
    let directory = DataDirectory::open(place.path()).unwrap();
    let conf = raft::eraftpb::ConfState { voters: vec![1, 2, 3], ..Default::default() };
    let mark = SnapshotMark { index: 77, term: 2, conf };
    let tree = bytes_of(&Tree::new());
    let body = |to: &mut dyn io::Write| to.write_all(&tree);
    let file = directory.snapshots().unwrap().write(&mark, body).unwrap();
    let whole = fs::read(&file.path).unwrap();
    let read = |bytes: &[u8]| -> io::Result<(SnapshotMark, Vec<u8>)> {
        fs::write(&file.path, bytes)?;
        let mut reader = SnapshotReader::open(&file.path)?;
        let (mark, mut body) = (reader.mark().clone(), Vec::new());
        reader.read_to_end(&mut body)?;
        reader.finish().map(|()| (mark, body))
    };
    damaged("a snapshot file", &whole, |bytes| {
        if let Ok(read) = read(bytes) {
            assert_eq!(read, (mark.clone(), tree.clone()), "damage passes the checks");
        }
    });
}

#[test]
fn a_manifest() {
    let zeros = "0".repeat(64);
    let text = format!(
        r#"{{"version":1,"host":"web1","repository":"{zeros}","snapshot":"{zeros}","kind":"full",
        "bytes":5,"sha256":"{zeros}","started":"2026-11-25T19:01:25Z",
        "finished":"2026-11-25T19:01:30Z","writer":"a",
        "files":[{{"type":"index","id":"{zeros}","size":7}}],
        "packs":{{"count":1,"bytes":9}},"holders":[{{"replica":"a","at":"2026-11-25T19:01:30Z"}}]}}"#
    );
    Manifest::from_json(text.as_bytes()).expect("a manifest");
    damaged("a manifest", text.as_bytes(), |bytes| {
        says_why(Manifest::from_json(bytes));
    });
}

#[test]
fn a_configuration() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("keepfs.toml");
    let sample = keepfs::config::sample();
    let settings = sample.lines().filter_map(|line| line.strip_prefix('#'));
    let settings = settings.filter(|line| line.contains(" = ") && !line.starts_with(' '));
    let text = settings.collect::<Vec<_>>().join("\n");
    damaged("a configuration", text.as_bytes(), |bytes| {
        fs::write(&path, bytes).unwrap();
        says_why(Config::load(Some(&path), std::iter::empty(), Flags::default()));
    });
}

fn says_why<T, E: ToString + Debug>(result: Result<T, E>) {
    if let Err(error) = result {
        assert!(error.to_string().len() > 10, "{error:?}");
    }
}
