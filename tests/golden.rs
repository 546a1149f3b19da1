//! Kept data directories, one of each feature level: what earlier versions wrote is read, means
//! what it meant, and is written again as it was.
//!
//! `KEEPFS_MAKE_GOLDEN=1 cargo test --test golden` makes that of a new level, beside the older
//! ones. One that was released is never made anew: it is what the disks of users hold.

#[path = "golden/story.rs"]
mod story;

use bincode::error::{AllowedEnumVariants, DecodeError};
use keepfs::disk::{DataDirectory, Disk, Identity, LogWrite, RaftLog, SnapshotReader};
use keepfs::replica::{SnapshotMark, entry};
use keepfs::tree::{Command, FIRST_LEVEL, LEVEL, Level, Member, Proposal, ReplicaId, Stamp, Tree};
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeV2, ConfState, Entry, EntryType, HardState};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use story::Story;

fn place(level: Level) -> PathBuf {
    PathBuf::from(format!("{}/tests/golden/level{level}", env!("CARGO_MANIFEST_DIR")))
}

/// What the log's zeros are cut to, bytes.
const BLOCK: usize = 4096;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let there = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &there),
            false => drop(fs::copy(entry.path(), there).unwrap()),
        }
    }
}

fn make(level: Level) {
    let story = Story::tell();
    let made = tempfile::tempdir().unwrap();
    let directory = DataDirectory::open(made.path()).unwrap();
    let conf = ConfState { voters: vec![1, 2], learners: vec![3], ..ConfState::default() };
    let (index, term) = (story.tree.zxid(), 2);
    let members = story.tree.members().to_vec();
    directory
        .write_identity(&Identity {
            id: ReplicaId(1),
            name: "a".into(),
            incarnation: members[0].incarnation,
            cluster: story.tree.cluster(),
            heard: [(ReplicaId(2), 0xbeef)].into(),
            members,
        })
        .unwrap();
    directory.note_start().unwrap();
    let mark = SnapshotMark { index, term, conf };
    directory.snapshots().unwrap().write(&mark, |to| story.tree.write_snapshot(to)).unwrap();
    let log = RaftLog::open(&directory.log()).unwrap();
    let hard_state = HardState { term, vote: 1, commit: index, ..HardState::default() };
    let (entries, hard_state) = (story.entries, Some(hard_state));
    log.write(&[LogWrite { entries, hard_state, ..LogWrite::default() }]).unwrap();
    drop((log, directory));

    let kept = place(level).join("data");
    let _ = fs::remove_dir_all(&kept);
    for part in ["log", "snapshots"] {
        copy(&made.path().join(part), &kept.join(part));
    }
    for file in ["identity", "starts"] {
        fs::copy(made.path().join(file), kept.join(file)).unwrap();
    }
    for file in fs::read_dir(kept.join("log")).unwrap() {
        let file = file.unwrap().path();
        let mut bytes = fs::read(&file).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        match used {
            0 => fs::remove_file(&file).unwrap(),
            used => {
                bytes.resize(used.next_multiple_of(BLOCK), 0);
                fs::write(&file, bytes).unwrap();
            }
        }
    }
    fs::write(place(level).join("data.txt"), Kept::read(level).text).unwrap();
}

/// What a kept directory says.
struct Kept {
    text: String,
    tree: Tree,
    commands: Vec<Command>,
}

impl Kept {
    fn read(level: Level) -> Kept {
        let place = place(level).join("data");
        let here = tempfile::tempdir().unwrap();
        copy(&place, here.path());
        let directory = DataDirectory::open(here.path()).unwrap();
        let mut kept = Kept { text: String::new(), tree: Tree::new(), commands: Vec::new() };
        kept.tree.limit_work(story::WORK);
        let identity = directory.identity().unwrap().expect("an identity");
        writeln!(kept.text, "{identity:?}").unwrap();
        directory.write_identity(&identity).unwrap();
        let (read, again) =
            [&place, here.path()].map(|at| fs::read(at.join("identity")).unwrap()).into();
        assert_eq!(read, again, "the identity is written as it was");

        let log = RaftLog::open(&directory.log()).unwrap();
        let state = log.state();
        writeln!(kept.text, "{state:?}").unwrap();
        let (first, last) = state.span.expect("entries");
        for entry in log.entries(first, last + 1, u64::MAX).unwrap() {
            kept.apply(&entry);
        }
        writeln!(kept.text, "digest {:016x}", kept.tree.digest()).unwrap();

        let files = directory.snapshots().unwrap().list().unwrap();
        let mut reader = SnapshotReader::open(&files[0].path).unwrap();
        writeln!(kept.text, "{:?}", reader.mark()).unwrap();
        let mut read = Tree::read_snapshot(&mut reader, LEVEL).unwrap();
        reader.finish().unwrap();
        read.limit_work(story::WORK);
        assert!(bytes_of(&read) == bytes_of(&kept.tree), "the snapshot is what the log makes");
        let mark = SnapshotReader::open(&files[0].path).unwrap().mark().clone();
        let snapshots = directory.snapshots().unwrap();
        let again = snapshots.write(&mark, |to| read.write_snapshot(to)).unwrap();
        let (name, read) = (files[0].path.file_name().unwrap(), fs::read(again.path).unwrap());
        let written = read == fs::read(place.join("snapshots").join(name)).unwrap();
        assert!(written, "the snapshot is written as it was");
        kept
    }

    fn apply(&mut self, entry: &Entry) {
        let at = format!("{} of term {}", entry.index, entry.term);
        let bytes = match entry.get_entry_type() {
            EntryType::EntryNormal => &entry.data,
            _ => {
                let mut change = ConfChangeV2::default();
                change.merge_from_bytes(&entry.data).unwrap();
                writeln!(self.text, "{at}: {change:?}").unwrap();
                &entry.context
            }
        };
        if bytes.is_empty() {
            self.tree.skip(entry.index);
            return writeln!(self.text, "{at}: nothing").unwrap();
        }
        let (stamp, proposal): (Stamp, Proposal) = entry::decode(bytes, LEVEL).unwrap();
        assert_eq!(entry::encode(stamp, &proposal), &bytes[..], "{at}: {proposal:?}");
        let outcome = self.tree.apply(entry.index, stamp, &proposal);
        writeln!(self.text, "{at} at {stamp}: {proposal:?}\n    {outcome:?}").unwrap();
        self.commands.push(proposal.command);
    }
}

fn bytes_of(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::new();
    tree.write_snapshot(&mut bytes).unwrap();
    bytes
}

/// How many variants an enum has, by what its decoder says of a number that none has.
fn variants<T: bincode::Decode<()>>() -> u64 {
    let none = bincode::encode_to_vec(u32::MAX, bincode::config::standard()).unwrap();
    match bincode::decode_from_slice::<T, _>(&none, bincode::config::standard()) {
        Err(DecodeError::UnexpectedVariant {
            allowed: AllowedEnumVariants::Range { max, .. },
            ..
        }) => u64::from(*max) + 1,
        _ => panic!("no enum"),
    }
}

fn number(command: &Command) -> u64 {
    u64::from(bincode::encode_to_vec(command, bincode::config::standard()).unwrap()[0])
}

/// U4: what every version before wrote is read, and means what it meant.
#[test]
fn kept_directories_are_read_and_written_as_ever() {
    if std::env::var_os("KEEPFS_MAKE_GOLDEN").is_some() {
        make(LEVEL);
    }
    let mut commands = BTreeSet::new();
    for level in FIRST_LEVEL..=LEVEL {
        let kept = Kept::read(level);
        let text = fs::read_to_string(place(level).join("data.txt")).unwrap();
        for (number, (is, was)) in kept.text.lines().zip(text.lines()).enumerate() {
            assert_eq!(is, was, "level {level}, line {}", number + 1);
        }
        assert_eq!(kept.text.lines().count(), text.lines().count(), "level {level}");
        assert_eq!(kept.tree.check(), Ok(()));
        assert_has_something_of_everything(&kept.tree);
        commands.extend(kept.commands.iter().map(number));
    }
    assert_eq!(commands, (0..variants::<Command>()).collect(), "a command is in no kept log");
}

/// A tree that has nothing of a kind would say nothing about how that kind is written.
fn assert_has_something_of_everything(tree: &Tree) {
    let usage = tree.usage();
    assert!(usage.inodes > 20 && usage.orphans > 0, "{usage:?}");
    let locks = tree.locks();
    assert!(locks.iter().any(|lock| lock.ticket.is_some() && lock.token.is_none()), "{locks:?}");
    assert!(locks.iter().any(|lock| lock.ticket.is_none() && lock.token.is_none()), "{locks:?}");
    let members: Vec<&Member> = tree.members().iter().collect();
    assert!(members.iter().any(|m| m.learner) && tree.program(members[0].id).is_some());
    assert!(tree.sessions().len() > 1 && tree.has_work(), "one that is over has left something");
    assert!(tree.tokens().count() > 1);
}
