//! What passes between two mounts of one tree: a lock, and a change.

use super::recorder::Recorder;
use super::subject::Subject;
use crossbeam_channel::bounded;
use keepfs::error::Error;
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub const HAND_OFF: &str = "lock hand-off";
pub const COMMIT: &str = "overwrite, at that pace";
pub const PROPAGATION: &str = "write to seen elsewhere";

/// Long enough for a waiter to have queued: some commits.
const QUEUED_AFTER: Duration = Duration::from_millis(15);

/// Measures between `subject` and the mount `other` of the same tree.
pub fn measure(recorder: &mut Recorder, subject: &Subject, other: &Path) -> Result<(), Error> {
    let one = subject.path().join("shared");
    fs::write(&one, [0; 8]).map_err(Error::file("write", &one))?;
    let two = the_same(&one, other)?;
    let count = recorder.plan.singles;
    // In rounds with commits, so that both meet the same load.
    for _ in 0..recorder.rounds() {
        let part = count / recorder.rounds();
        let passed = hand_offs(&one, &two, part).map_err(Error::file("lock", &two))?;
        recorder.add(HAND_OFF, subject.name(), passed);
        let committed = commits(&one, part).map_err(Error::file("write", &one))?;
        recorder.add(COMMIT, subject.name(), committed);
    }
    let seen = propagations(&one, &two, count).map_err(Error::file("read", &two))?;
    recorder.add(PROPAGATION, subject.name(), seen);
    fs::remove_file(&one).map_err(Error::file("remove", &one))
}

/// Nanoseconds of overwrites as far apart as the hand-offs are: both wake daemons that were idle.
fn commits(path: &Path, count: u32) -> io::Result<Vec<u64>> {
    let file = File::options().write(true).open(path)?;
    let commit = |_| {
        std::thread::sleep(QUEUED_AFTER);
        let start = Instant::now();
        file.write_all_at(&[0; 100], 0).map(|()| start.elapsed().as_nanos() as u64)
    };
    (0..count).map(commit).collect()
}

/// The file of `one` as it is seen below the mount point or directory `other`: the shortest tail of
/// its path that exists there with the same inode number.
fn the_same(one: &Path, other: &Path) -> Result<PathBuf, Error> {
    use std::os::unix::fs::MetadataExt;
    let inode = |path: &Path| fs::metadata(path).map(|metadata| metadata.ino()).ok();
    let parts: Vec<_> = one.components().collect();
    let tails = (0..parts.len()).rev().map(|from| parts[from..].iter().collect::<PathBuf>());
    let found = tails.map(|tail| other.join(tail)).find(|path| inode(path) == inode(one));
    found.ok_or_else(|| Error::Other(format!("{} shows another tree", other.display())))
}

/// Nanoseconds from the call that releases to the return of the call that waited. Two sides take
/// the lock in turns: while one holds it for [`QUEUED_AFTER`], the other queues.
fn hand_offs(one: &Path, two: &Path, count: u32) -> io::Result<Vec<u64>> {
    let files = [File::open(one)?, File::open(two)?];
    let released: Mutex<Option<(usize, Instant)>> = Mutex::new(None);
    let side = |own: usize| -> io::Result<Vec<u64>> {
        let mut nanos = Vec::new();
        for _ in 0..count.div_ceil(2) {
            flock(&files[own], FlockOperation::LockExclusive)?;
            let granted = Instant::now();
            // Only what the other side released was a hand-off.
            let release = released.lock().filter(|(by, _)| *by != own);
            nanos.extend(release.map(|(_, at)| (granted - at).as_nanos() as u64));
            std::thread::sleep(QUEUED_AFTER);
            *released.lock() = Some((own, Instant::now()));
            flock(&files[own], FlockOperation::Unlock)?;
        }
        Ok(nanos)
    };
    std::thread::scope(|scope| {
        let second = scope.spawn(|| side(1));
        let mut nanos = side(0)?;
        nanos.extend(second.join().expect("no panic")?);
        Ok(nanos)
    })
}

/// Nanoseconds from the start of a write on one mount until a reader on the other sees it.
fn propagations(one: &Path, two: &Path, count: u32) -> io::Result<Vec<u64>> {
    let writer = File::options().write(true).open(one)?;
    let reader = File::open(two)?;
    let (tell, told) = bounded(0);
    std::thread::scope(|scope| {
        let watch = scope.spawn(move || {
            for wanted in 1..=u64::from(count) {
                let (mut bytes, deadline) = ([0; 8], Instant::now() + Duration::from_secs(10));
                while u64::from_le_bytes(bytes) != wanted {
                    reader.read_exact_at(&mut bytes, 0)?;
                    if Instant::now() > deadline {
                        return Err(io::Error::from(io::ErrorKind::TimedOut));
                    }
                    std::thread::yield_now();
                }
                tell.send(Instant::now()).map_err(io::Error::other)?;
            }
            Ok(())
        });
        let mut nanos = Vec::new();
        for number in 1..=u64::from(count) {
            let start = Instant::now();
            writer.write_all_at(&number.to_le_bytes(), 0)?;
            let Ok(seen) = told.recv() else { break };
            nanos.push(seen.saturating_duration_since(start).as_nanos() as u64);
        }
        watch.join().expect("no panic").map(|()| nanos)
    })
}
