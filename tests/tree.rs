//! Whatever the log holds: the tree stays sound and deterministic, changes tell everything,
//! snapshots bring everything back. Commands are drawn from a seed, senseless ones included. Each
//! failure names its seed.

#[path = "support/dice.rs"]
mod dice;
#[path = "tree/log.rs"]
mod log;

use dice::Dice;
use keepfs::tree::*;
use log::Log;
use std::collections::{BTreeMap, BTreeSet};

const SEEDS: u64 = 24;
const ENTRIES: u64 = 600;

fn snapshot(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::new();
    tree.write_snapshot(&mut bytes).expect("a vector takes everything");
    bytes
}

fn read(bytes: &[u8]) -> std::io::Result<Tree> {
    Tree::read_snapshot(&mut &bytes[..], LEVEL)
}

/// An empty tree. With every other seed its entries do little beside what they ask for, so that
/// what sessions leave lies about for long.
fn planted(seed: u64) -> Tree {
    let mut tree = Tree::new();
    limit(&mut tree, seed);
    tree
}

fn limit(tree: &mut Tree, seed: u64) {
    if seed.is_multiple_of(2) {
        tree.limit_work(1 + seed as usize / 2 % 4);
    }
}

fn each_seed(run: fn(u64)) {
    for seed in 0..SEEDS {
        let run = std::panic::catch_unwind(|| run(seed));
        assert!(run.is_ok(), "seed {seed}");
    }
}

/// Draws a log and applies it as it grows; answers with the log and the tree.
fn played(seed: u64, mut watch: impl FnMut(&Tree, &Proposal, &Outcome)) -> (Log, Tree) {
    let (mut log, mut tree) = (Log::default(), planted(seed));
    let mut dice = Dice(seed);
    for _ in 0..ENTRIES {
        let (zxid, stamp, proposal) = log.draw(&mut dice, &tree);
        let outcome = tree.apply(zxid, stamp, &proposal);
        log.learn(&proposal, &outcome);
        watch(&tree, &proposal, &outcome);
    }
    (log, tree)
}

/// What a listener knows of the names who hears every change.
#[derive(Default)]
struct Mirror(BTreeMap<(Ino, Name), Ino>);

impl Mirror {
    fn hear(&mut self, change: &Change) {
        match change.clone() {
            Change::Added { parent, name, ino } => {
                assert_eq!(self.0.insert((parent, name), ino), None, "{change:?}");
            }
            Change::Removed { parent, name, ino } => {
                assert_eq!(self.0.remove(&(parent, name)), Some(ino), "{change:?}");
            }
            Change::Replaced { parent, name, old, new } => {
                assert_eq!(self.0.insert((parent, name), new), Some(old), "{change:?}");
            }
            _ => {}
        }
    }

    /// All that users made.
    fn of(tree: &Tree, inodes: u64) -> Mirror {
        let mut mirror = Mirror::default();
        for parent in (1..inodes).map(Ino) {
            let listed = tree.list(parent, 0, &mut |entry| {
                if !entry.ino.is_built_in() {
                    mirror.0.insert((parent, entry.name.into()), entry.ino);
                }
                true
            });
            assert!(matches!(listed, Ok(()) | Err(Refusal::NotADirectory | Refusal::Stale)));
        }
        mirror
    }
}

#[test]
fn the_tree_stays_sound_and_changes_tell_all_names() {
    each_seed(|seed| {
        let (mut heard, mut entries) = (Mirror::default(), 0);
        let (_, tree) = played(seed, |tree, proposal, outcome| {
            if outcome.reply.is_err() {
                assert_eq!(outcome.changes, [], "a refused command changes nothing: {proposal:?}");
            }
            outcome.changes.iter().for_each(|change| heard.hear(change));
            entries += 1;
            if entries % 20 == 0 {
                tree.check().unwrap_or_else(|problem| panic!("{problem} after {proposal:?}"));
            }
        });
        assert_eq!(heard.0, Mirror::of(&tree, ENTRIES * 3).0);
        finish(tree);
    });
}

/// Ends every session and does all the work there is.
fn finish(mut tree: Tree) {
    let cluster =
        |command| Proposal { session: SessionId::NONE, sequence: 0, acknowledged: 0, command };
    let sessions = tree.sessions().iter().map(|session| session.session).collect();
    tree.apply(tree.zxid() + 1, 0, &cluster(Command::ExpireSessions { sessions }));
    for _ in 0..ENTRIES * 10 {
        if !tree.has_work() {
            break;
        }
        tree.apply(tree.zxid() + 1, 0, &cluster(Command::Work));
    }
    assert!(!tree.has_work(), "work that does not end");
    tree.check().unwrap_or_else(|problem| panic!("{problem} when all sessions are over"));
    assert_eq!((tree.locks(), tree.usage().orphans), (Vec::new(), 0));
}

#[test]
fn every_waiter_is_granted_once_and_knows_it() {
    each_seed(|seed| {
        let (mut waiting, mut answered) = (BTreeMap::new(), BTreeSet::new());
        played(seed, |tree, proposal, outcome| {
            let is_new = !answered.contains(&(proposal.session, proposal.sequence));
            answered.insert((proposal.session, proposal.sequence));
            if let (Ok(Reply::Queued { ino, waiter }), true) = (&outcome.reply, is_new) {
                assert_eq!(waiting.insert((proposal.session, *waiter), *ino), None);
            }
            for change in &outcome.changes {
                if let Change::Granted { session, ino, waiter, token } = change {
                    assert_eq!(waiting.remove(&(*session, *waiter)), Some(*ino), "{change:?}");
                    assert_eq!(*token, tree.zxid(), "a grant's token is its entry");
                }
            }
        });
    });
}

#[test]
fn one_log_makes_one_tree_with_or_without_a_restart() {
    each_seed(|seed| {
        let (log, tree) = played(seed, |_, _, _| {});
        let (mut again, mut restarted) = (planted(seed), planted(seed));
        let mut kept = None;
        for (zxid, stamp, proposal) in &log.entries {
            let outcome = again.apply(*zxid, *stamp, proposal);
            assert_eq!(outcome, restarted.apply(*zxid, *stamp, proposal));
            if *zxid == ENTRIES / 2 {
                let bytes = snapshot(&restarted);
                restarted = read(&bytes).expect("a snapshot can be read");
                limit(&mut restarted, seed);
                restarted.check().expect("a tree that was read is sound");
                kept = Some((again.clone(), bytes));
            }
        }
        let bytes = snapshot(&tree);
        assert_eq!((again.digest(), restarted.digest()), (tree.digest(), tree.digest()));
        assert!(bytes == snapshot(&again) && bytes == snapshot(&restarted), "other trees");
        let (clone, before) = kept.expect("the middle of the log");
        assert!(snapshot(&clone) == before, "a clone changed with the tree it was taken of");
    });
}

#[test]
fn a_repeated_proposal_is_answered_from_memory() {
    each_seed(|seed| {
        let (log, mut tree) = played(seed, |_, _, _| {});
        let (_, stamp, last) = log.entries.last().expect("entries").clone();
        let command = Command::OpenSession {
            host: b"again"[..].into(),
            client: [].into(),
            replica: ReplicaId(1),
            nonce: 1,
            timeout_ms: 1,
        };
        let open = Proposal { session: SessionId::NONE, sequence: 0, acknowledged: 0, command };
        let session = SessionId(tree.zxid() + 1);
        tree.apply(session.0, stamp, &open);
        let proposal = Proposal { session, sequence: 1, acknowledged: 1, ..last };
        let first = tree.apply(tree.zxid() + 1, stamp, &proposal);
        let second = tree.apply(tree.zxid() + 1, stamp, &proposal);
        if matches!(proposal.command, Command::CloseSession) {
            assert_eq!(second.reply, Err(Refusal::SessionExpired));
        } else if tree.session(session).is_some() {
            assert_eq!(second, Outcome { reply: first.reply.clone(), changes: Vec::new() });
            assert_eq!(tree.answer(session, 1), Some(first.reply));
        }
    });
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let (_, tree) = played(1, |_, _, _| {});
    let bytes = snapshot(&tree);
    let mut dice = Dice(1);
    for _ in 0..300 {
        let at = dice.roll(bytes.len() as u64) as usize;
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << dice.roll(8);
        assert!(read(&damaged).is_err(), "a bit flipped in byte {at}");
        let cut = read(&bytes[..at]).err().map(|error| error.kind());
        assert_eq!(cut, Some(std::io::ErrorKind::InvalidData), "cut short at byte {at}");
    }
}

#[test]
fn what_differs_between_two_logs_differs_in_their_digests() {
    let (log, tree) = played(2, |_, _, _| {});
    for late in 0..5 {
        let mut other = planted(2);
        for (zxid, stamp, proposal) in &log.entries {
            let stamp = if *zxid == late * 7 + 1 { stamp + 10_000 } else { *stamp };
            other.apply(*zxid, stamp, proposal);
        }
        assert_ne!(other.digest(), tree.digest());
    }
}
