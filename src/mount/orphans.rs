//! Unlinked inodes this session no longer has open: said to the cluster many at a time.

use super::handles::Handles;
use crate::cluster::{Cluster, Failure};
use crate::tree::{Command, Ino};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// How long one waits for others to go with it.
const GATHER: Duration = Duration::from_millis(100);
/// How long one is kept that somebody was shown a moment ago: its OPEN may be on the way. The
/// kernel looks once more for a file that is gone, and no oftener: where a name is replaced all the
/// time, its `open` would fail.
pub const SHOWN: Duration = Duration::from_secs(1);
/// How many go in one entry.
const AT_ONCE: usize = 256;
/// How long to wait before asking again a cluster that could not answer.
const RETRY: Duration = Duration::from_secs(1);

/// Let go of by a thread of its own, which ends when this is dropped.
pub struct Orphans {
    queue: Sender<(Instant, Ino)>,
}

impl Orphans {
    /// Fails if threads are used up.
    pub fn start(cluster: Arc<dyn Cluster>, handles: Arc<Handles>) -> io::Result<Orphans> {
        let (queue, queued) = unbounded();
        thread::Builder::new()
            .name("mount-orphans".into())
            .spawn(move || release_all(&*cluster, &handles, &queued))?;
        Ok(Orphans { queue })
    }

    /// The last name of it went, or the last descriptor of this host after that. It is let go of in
    /// a moment, if nobody has it open then; a little later if it was shown lately.
    pub fn let_go(&self, ino: Ino, shown: bool) {
        let due = Instant::now() + if shown { SHOWN } else { GATHER };
        // Refused once the thread has ended with the node: the session's end lets go of everything.
        let _ = self.queue.send((due, ino));
    }
}

fn release_all(cluster: &dyn Cluster, handles: &Handles, queued: &Receiver<(Instant, Ino)>) {
    let mut waiting = BTreeSet::new();
    while hear(queued, &mut waiting) {
        let inodes = take_due(&mut waiting, Instant::now());
        let is_free =
            |ino: &Ino| cluster.tree().attributes(*ino).is_some() && handles.orphaned(*ino);
        let inodes: Vec<Ino> = inodes.into_iter().filter(is_free).collect();
        if !inodes.is_empty() && !release(cluster, inodes) {
            return;
        }
    }
}

/// Takes in what is queued until the first is due; false once nothing will come any more.
fn hear(queued: &Receiver<(Instant, Ino)>, waiting: &mut BTreeSet<(Instant, Ino)>) -> bool {
    loop {
        let heard = match waiting.first() {
            Some((due, _)) => queued.recv_deadline(*due),
            None => queued.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match heard {
            Ok(orphan) => drop(waiting.insert(orphan)),
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

/// What is due, and what soon will be with it.
fn take_due(waiting: &mut BTreeSet<(Instant, Ino)>, now: Instant) -> Vec<Ino> {
    let mut due = Vec::new();
    while due.len() < AT_ONCE
        && let Some((_, ino)) = waiting.first().filter(|(at, _)| *at <= now + GATHER)
    {
        due.push(*ino);
        waiting.pop_first();
    }
    due
}

/// False once the node stops.
fn release(cluster: &dyn Cluster, inodes: Vec<Ino>) -> bool {
    // A session that ends lets go of all of them: without one, nothing is to be said.
    let Some(session) = cluster.session() else { return true };
    let release = Command::Release { inodes };
    while let Err(failure) = cluster.submit_and_wait(session, release.clone()) {
        match failure {
            Failure::NoQuorum | Failure::Unknown => thread::sleep(RETRY),
            Failure::SessionLost | Failure::Refused(_) => break,
            Failure::Stopping => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_due_go_together() {
        let now = Instant::now();
        let at = |ms: u64, ino| (now + Duration::from_millis(ms), Ino(ino));
        let mut waiting = BTreeSet::from([at(0, 1), at(60, 2), at(900, 3)]);
        assert_eq!(take_due(&mut waiting, now), [Ino(1), Ino(2)]);
        assert_eq!(take_due(&mut waiting, now + SHOWN), [Ino(3)]);
    }
}
