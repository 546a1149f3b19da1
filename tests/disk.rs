//! The data directory under crashes, damage and failing disks.

use keepfs::disk::{
    DataDirectory, Disk, FaultInjector, FileOperation, Identity, LogWrite, RaftLog, SnapshotReader,
};
use keepfs::error::Error;
use keepfs::replica::SnapshotMark;
use keepfs::tree::{Member, ReplicaId};
use raft::eraftpb::{Entry, HardState};
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tempfile::TempDir;

fn entry(index: u64, term: u64, bytes: usize) -> Entry {
    let mut entry = Entry::default();
    (entry.index, entry.term) = (index, term);
    entry.data = vec![index as u8; bytes].into();
    entry
}

fn append(log: &RaftLog, indexes: std::ops::RangeInclusive<u64>, term: u64) {
    let entries = indexes.map(|index| entry(index, term, 100)).collect();
    log.write(&[LogWrite { entries, ..LogWrite::default() }]).unwrap();
}

fn terms(log: &RaftLog) -> Vec<(u64, u64)> {
    let Some((first, last)) = log.state().span else { return Vec::new() };
    let entries = log.entries(first, last + 1, u64::MAX).unwrap();
    entries.iter().map(|entry| (entry.index, entry.term)).collect()
}

/// The directory as a crash leaves it: what is in the files, without an orderly close.
fn crashed(log_directory: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in fs::read_dir(log_directory).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}

fn newest_file(log_directory: &Path) -> PathBuf {
    let files = fs::read_dir(log_directory).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|e| e == "raftlog")).max().unwrap()
}

/// Where the records end in a file that is filled with zeros.
fn end_of_records(path: &Path) -> u64 {
    let bytes = fs::read(path).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1)
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

#[test]
fn what_was_written_is_there_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let log = RaftLog::open(directory.path()).unwrap();
    let mut hard_state = HardState::default();
    (hard_state.term, hard_state.vote, hard_state.commit) = (3, 2, 9);
    append(&log, 1..=10, 2);
    log.write(&[
        LogWrite { hard_state: Some(hard_state.clone()), ..LogWrite::default() },
        LogWrite { entries: vec![entry(8, 3, 5)], ..LogWrite::default() },
    ])
    .unwrap();
    let copy = crashed(directory.path());
    let again = RaftLog::open(copy.path()).unwrap();
    assert_eq!(again.state().hard_state, hard_state);
    let expected: Vec<_> = (1..=7).map(|index| (index, 2)).chain([(8, 3)]).collect();
    assert_eq!(terms(&again), expected);
}

#[test]
fn a_log_goes_on_after_compaction_and_after_a_new_beginning() {
    let directory = tempfile::tempdir().unwrap();
    let hard_state = HardState { term: 7, ..HardState::default() };
    {
        let log = RaftLog::open(directory.path()).unwrap();
        append(&log, 1..=10, 1);
        let hard_state = Some(hard_state.clone());
        log.write(&[LogWrite { compact_to: Some(6), hard_state, ..LogWrite::default() }]).unwrap();
        assert_eq!((log.state().base, log.state().span), (5, Some((6, 10))));
    }
    let log = RaftLog::open(directory.path()).unwrap();
    assert_eq!((log.state().base, log.state().span), (5, Some((6, 10))));
    log.write(&[LogWrite {
        restart_after: Some(100),
        entries: vec![entry(101, 7, 1)],
        ..LogWrite::default()
    }])
    .unwrap();
    drop(log);
    let log = RaftLog::open(directory.path()).unwrap();
    let state = log.state();
    assert_eq!((state.base, state.span), (100, Some((101, 101))));
    assert_eq!(state.hard_state, hard_state, "a new beginning forgets no vote");
}

#[test]
fn a_torn_tail_is_cut_off_wherever_it_was_torn() {
    let directory = tempfile::tempdir().unwrap();
    let log = RaftLog::open(directory.path()).unwrap();
    append(&log, 1..=5, 1);
    let file = newest_file(directory.path());
    let whole = end_of_records(&file);
    append(&log, 6..=8, 1);
    let end = end_of_records(&file);
    for cut in (whole + 1..end).step_by(29) {
        let copy = crashed(directory.path());
        let torn = newest_file(copy.path());
        let zeros = vec![0; (end - cut) as usize];
        OpenOptions::new().write(true).open(&torn).unwrap().write_all_at(&zeros, cut).unwrap();
        let again = RaftLog::open(copy.path()).unwrap();
        assert_eq!(again.state().span, Some((1, 5)), "torn at {cut} of {whole}..{end}");
        append(&again, 6..=6, 2);
        drop(again);
        assert_eq!(RaftLog::open(copy.path()).unwrap().state().span, Some((1, 6)));
    }
}

#[test]
fn a_record_that_went_bad_is_damage_and_no_torn_tail() {
    let directory = tempfile::tempdir().unwrap();
    let log = RaftLog::open(directory.path()).unwrap();
    append(&log, 1..=5, 1);
    let begin = end_of_records(&newest_file(directory.path()));
    append(&log, 6..=8, 1);
    let end = end_of_records(&newest_file(directory.path()));
    append(&log, 9..=9, 1);
    // The footer holds the lengths and the checksum that recovery reads.
    for at in [begin + 2, begin + 12, end - 2] {
        let copy = crashed(directory.path());
        let file = newest_file(copy.path());
        flip(&file, at);
        match RaftLog::open(copy.path()) {
            Err(error @ Error::Damaged { .. }) => {
                let text = error.to_string();
                assert!(text.contains(file.to_str().unwrap()), "{text}");
                assert!(text.contains("join again"), "{text}");
            }
            Err(other) => panic!("{other}"),
            Ok(log) => panic!("opened, with {:?}", log.state().span),
        }
    }
}

#[test]
fn a_record_of_absurd_length_is_refused_before_memory_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let log = RaftLog::open(directory.path()).unwrap();
    append(&log, 1..=5, 1);
    let begin = end_of_records(&newest_file(directory.path()));
    append(&log, 6..=6, 1);
    // The first byte of its length: 2^54 bytes more.
    let copy = crashed(directory.path());
    let file = newest_file(copy.path());
    flip(&file, begin);
    let error = RaftLog::open(copy.path()).err().expect("it is damaged").to_string();
    assert!(error.contains(file.to_str().unwrap()) && error.contains("a record of"), "{error}");
}

#[test]
fn entries_are_checked_when_they_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let log = RaftLog::open(directory.path()).unwrap();
    append(&log, 1..=5, 1);
    let begin = end_of_records(&newest_file(directory.path()));
    append(&log, 6..=6, 1);
    append(&log, 7..=7, 1);
    let copy = crashed(directory.path());
    flip(&newest_file(copy.path()), begin + 40);
    let again = RaftLog::open(copy.path()).unwrap();
    assert!(again.entries(6, 7, u64::MAX).is_err());
    assert_eq!(again.entries(7, 8, u64::MAX).unwrap().len(), 1);
}

/// Fails the operation from its `after`th time on.
fn failing(operation: FileOperation, after: usize, errno: i32) -> (FaultInjector, Arc<AtomicBool>) {
    let (count, happened) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
    let tell = happened.clone();
    let faults: FaultInjector = Arc::new(move |now, _| {
        if now != operation || count.fetch_add(1, Ordering::Relaxed) < after {
            return Ok(());
        }
        tell.store(true, Ordering::Relaxed);
        Err(io::Error::from_raw_os_error(errno))
    });
    (faults, happened)
}

#[test]
fn after_the_first_failure_nothing_is_acknowledged_and_nothing_lost() {
    for (operation, errno, text) in [
        (FileOperation::Write, libc::ENOSPC, "No space left on device"),
        (FileOperation::Sync, libc::EIO, "Input/output error"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let (faults, happened) = failing(operation, 60, errno);
        let log = RaftLog::open_with_faults(directory.path(), Some(faults)).unwrap();
        let mut acknowledged = 0;
        let error = loop {
            let entries = vec![entry(acknowledged + 1, 1, 10)];
            match log.write(&[LogWrite { entries, ..LogWrite::default() }]) {
                Ok(()) => acknowledged += 1,
                Err(error) => break error.to_string(),
            }
            assert!(acknowledged < 1000);
        };
        assert!(happened.load(Ordering::Relaxed) && acknowledged > 10, "{acknowledged}");
        let file = newest_file(directory.path());
        assert!(error.contains(file.to_str().unwrap()) && error.contains(text), "{error}");
        let entries = vec![entry(acknowledged + 1, 1, 10)];
        let again = log.write(&[LogWrite { entries, ..LogWrite::default() }]);
        assert_eq!(again.unwrap_err().to_string(), error, "the first error stays");
        drop(log);
        let recovered = RaftLog::open(directory.path()).unwrap();
        assert!(recovered.state().span.unwrap().1 >= acknowledged);
    }
}

#[test]
fn the_log_writes_into_space_that_was_filled_before() {
    let directory = tempfile::tempdir().unwrap();
    let log = RaftLog::open(directory.path()).unwrap();
    append(&log, 1..=1, 1);
    let file = newest_file(directory.path());
    let before = fs::metadata(&file).unwrap();
    assert!(before.len() >= 1 << 20 && before.blocks() * 512 >= before.len());
    append(&log, 2..=20, 1);
    let after = fs::metadata(&file).unwrap();
    assert_eq!((before.len(), before.blocks()), (after.len(), after.blocks()));
}

#[test]
fn a_compacted_log_stays_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let log = RaftLog::open(directory.path()).unwrap();
    let mut next = 1;
    for _ in 0..40 {
        let entries = (next..next + 8).map(|index| entry(index, 1, 1 << 20)).collect();
        next += 8;
        let compact_to = Some(next - 4);
        log.write(&[LogWrite { entries, compact_to, ..LogWrite::default() }]).unwrap();
        log.purge().unwrap();
    }
    assert!(log.bytes() <= 128 << 20, "{} bytes after 320 MiB", log.bytes());
    drop(log);
    assert_eq!(RaftLog::open(directory.path()).unwrap().state().span, Some((next - 4, next - 1)));
}

fn identity(name: &str) -> Identity {
    let member = Member {
        id: ReplicaId(1),
        name: name.into(),
        address: "127.0.0.1:7411".into(),
        learner: false,
        incarnation: 77,
    };
    Identity {
        id: ReplicaId(1),
        name: name.into(),
        incarnation: u64::MAX,
        cluster: Some(42),
        members: vec![member],
        heard: [(ReplicaId(1), 3)].into(),
    }
}

#[test]
fn a_directory_belongs_to_one_process_and_knows_whose_it_is() {
    let path = tempfile::tempdir().unwrap();
    let directory = DataDirectory::open(path.path()).unwrap();
    assert_eq!(directory.identity().unwrap(), None);
    directory.write_identity(&identity("a")).unwrap();
    let error = DataDirectory::open(path.path()).err().unwrap().to_string();
    assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");
    drop(directory);
    let directory = DataDirectory::open(path.path()).unwrap();
    assert_eq!(directory.identity().unwrap(), Some(identity("a")));
}

#[test]
fn only_the_owner_can_look_into_a_data_directory() {
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o7777;
    let outer = tempfile::tempdir().unwrap();
    let path = outer.path().join("data");
    let directory = DataDirectory::open(&path).unwrap();
    directory.write_identity(&identity("a")).unwrap();
    append(&RaftLog::open(&directory.log()).unwrap(), 1..=3, 1);
    let snapshot = directory
        .snapshots()
        .unwrap()
        .write(&SnapshotMark::default(), |to| to.write_all(b"tree"))
        .unwrap();
    for part in ["", "log", "snapshots", "backup"] {
        assert_eq!(mode(&path.join(part)), 0o700, "{part}");
    }
    let log = directory.log();
    let files = [path.join("identity"), path.join("lock"), newest_file(&log), log.join("LOCK")];
    for file in files.iter().chain([&snapshot.path]) {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
    drop(directory);
    for wide in ["", "log", "identity"] {
        fs::set_permissions(path.join(wide), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let _open = DataDirectory::open(&path).unwrap();
    assert_eq!((mode(&path), mode(&path.join("log"))), (0o700, 0o700));
    assert_eq!(mode(&path.join("identity")), 0o700, "only what others may do is taken away");
}

#[test]
fn a_directory_with_other_things_in_it_is_left_alone() {
    let path = tempfile::tempdir().unwrap();
    fs::write(path.path().join("diary"), b"").unwrap();
    fs::set_permissions(path.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let error = DataDirectory::open(path.path()).err().unwrap().to_string();
    assert!(error.contains("diary") && error.contains("directory of its own"), "{error}");
    assert_eq!(fs::metadata(path.path()).unwrap().mode() & 0o777, 0o755);
}

#[test]
fn another_format_and_a_lost_identity_are_refused_with_advice() {
    let path = tempfile::tempdir().unwrap();
    let directory = DataDirectory::open(path.path()).unwrap();
    directory.write_identity(&identity("a")).unwrap();
    let file = path.path().join("identity");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("format = 2", "format = 3")).unwrap();
    let error = directory.identity().unwrap_err().to_string();
    assert!(error.contains("newer keepfs (format 3"), "{error}");
    fs::write(&file, &text[..text.len() / 2]).unwrap();
    assert!(matches!(directory.identity(), Err(Error::Damaged { .. })));
    fs::remove_file(&file).unwrap();
    drop(RaftLog::open(&directory.log()).unwrap());
    let error = directory.identity().unwrap_err().to_string();
    assert!(error.contains("no `identity` file"), "{error}");
}

#[test]
fn snapshots_are_whole_or_not_there() {
    let path = tempfile::tempdir().unwrap();
    let directory = DataDirectory::open(path.path()).unwrap();
    let snapshots = directory.snapshots().unwrap();
    let mark = |index| {
        let mut mark = SnapshotMark { index, term: 2, ..SnapshotMark::default() };
        mark.conf.voters = vec![1, 2, 3];
        mark
    };
    let write = |index| snapshots.write(&mark(index), |to| to.write_all(b"a tree")).unwrap();
    (1..=4).for_each(|index| drop(write(index)));
    let kept: Vec<u64> = snapshots.list().unwrap().iter().map(|file| file.index).collect();
    assert_eq!(kept, [4, 3], "newest first, two of them");
    let failed = snapshots.write(&mark(9), |to| {
        to.write_all(b"half a tree")?;
        Err(io::Error::other("out of trees"))
    });
    assert!(failed.unwrap_err().to_string().contains("out of trees"));
    assert_eq!(snapshots.list().unwrap().len(), 2);
    assert_eq!(fs::read_dir(path.path().join("snapshots")).unwrap().count(), 2, "no leftovers");

    let read = |path: &Path| -> io::Result<(SnapshotMark, Vec<u8>)> {
        let mut reader = SnapshotReader::open(path)?;
        let (mark, mut body) = (reader.mark().clone(), Vec::new());
        reader.read_to_end(&mut body)?;
        reader.finish().map(|()| (mark, body))
    };
    let newest = snapshots.list().unwrap().remove(0);
    assert_eq!(read(&newest.path).unwrap(), (mark(4), b"a tree".to_vec()));
    let whole = fs::read(&newest.path).unwrap();
    for at in 0..whole.len() as u64 {
        flip(&newest.path, at);
        assert!(read(&newest.path).is_err(), "flipped at {at}");
        flip(&newest.path, at);
    }
    for length in 0..whole.len() {
        fs::write(&newest.path, &whole[..length]).unwrap();
        assert!(read(&newest.path).is_err(), "cut to {length}");
    }
}

#[test]
fn a_snapshot_from_a_peer_is_checked_before_it_counts() {
    let path = tempfile::tempdir().unwrap();
    let directory = DataDirectory::open(path.path()).unwrap();
    let snapshots = directory.snapshots().unwrap();
    let mark = SnapshotMark { index: 7, term: 2, ..SnapshotMark::default() };
    let file = snapshots.write(&mark, |to| to.write_all(&[5; 100_000])).unwrap();
    let bytes = fs::read(&file.path).unwrap();
    fs::remove_file(&file.path).unwrap();
    let receive = |index, bytes: &[u8], length| snapshots.receive(index, 2, length, &mut &*bytes);
    let length = bytes.len() as u64;
    assert!(receive(7, &bytes[..bytes.len() - 1], length).is_err(), "cut short");
    assert!(receive(8, &bytes, length).is_err(), "another index than was said");
    let mut damaged = bytes.clone();
    damaged[50_000] ^= 1;
    assert!(receive(7, &damaged, length).is_err(), "damaged on the way");
    let full = receive(7, &bytes, u64::MAX).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull, "{full}");
    assert_eq!(fs::read_dir(path.path().join("snapshots")).unwrap().count(), 0, "no leftovers");
    let received = receive(7, &bytes, length).unwrap();
    assert!(snapshots.list().unwrap().is_empty(), "not before it is adopted");
    assert_eq!(received.adopt().unwrap().bytes, length);
    assert_eq!(snapshots.list().unwrap().len(), 1);
}

#[test]
fn a_snapshot_that_nobody_adopts_takes_the_place_of_none() {
    let path = tempfile::tempdir().unwrap();
    let directory = DataDirectory::open(path.path()).unwrap();
    let snapshots = directory.snapshots().unwrap();
    let write = |index| {
        let mark = SnapshotMark { index, term: 2, ..SnapshotMark::default() };
        snapshots.write(&mark, |to| to.write_all(b"a tree")).unwrap()
    };
    let far = write(1 << 50);
    let bytes = fs::read(&far.path).unwrap();
    fs::remove_file(&far.path).unwrap();
    (1..=2).for_each(|index| drop(write(index)));
    let indexes =
        || -> Vec<u64> { snapshots.list().unwrap().iter().map(|file| file.index).collect() };
    let receive = || snapshots.receive(1 << 50, 2, bytes.len() as u64, &mut &*bytes).unwrap();
    let (one, another) = (receive(), receive());
    assert_eq!(indexes(), [2, 1]);
    drop(one);
    assert!(another.path().exists(), "each has a file of its own");
    std::mem::forget(another);
    drop(directory);
    let again = DataDirectory::open(path.path()).unwrap();
    again.snapshots().unwrap();
    assert_eq!(fs::read_dir(path.path().join("snapshots")).unwrap().count(), 2, "as if never sent");
    assert_eq!(indexes(), [2, 1]);
    drop(write(3));
    assert_eq!(indexes(), [3, 2]);
    receive().adopt().unwrap();
    assert_eq!(indexes(), [1 << 50, 3], "the one before it stays");
}
