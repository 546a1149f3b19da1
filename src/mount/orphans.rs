//! Unlinked inodes this session no longer has open: said to the cluster many at a time.

use crate::node::{Failure, Node};
use crate::tree::{Command, Ino};
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// How long one waits for others to go with it.
const GATHER: Duration = Duration::from_millis(100);
/// How many go in one entry.
const AT_ONCE: usize = 256;
/// How long to wait before asking again a cluster that could not answer.
const RETRY: Duration = Duration::from_secs(1);

/// Let go of by a thread of its own, which ends when this is dropped.
pub struct Orphans {
    queue: Sender<Ino>,
}

impl Orphans {
    /// Fails if threads are used up.
    pub fn start(node: Node) -> io::Result<Orphans> {
        let (queue, queued) = unbounded();
        thread::Builder::new()
            .name("mount-orphans".into())
            .spawn(move || release_all(&node, &queued))?;
        Ok(Orphans { queue })
    }

    /// No descriptor of this host is open on it, nor will be.
    pub fn let_go(&self, ino: Ino) {
        // Refused once the thread has ended with the node: the session's end lets go of everything.
        let _ = self.queue.send(ino);
    }
}

fn release_all(node: &Node, queued: &Receiver<Ino>) {
    while let Ok(first) = queued.recv() {
        let deadline = Instant::now() + GATHER;
        let mut inodes = vec![first];
        while inodes.len() < AT_ONCE {
            match queued.recv_deadline(deadline) {
                Ok(ino) => inodes.push(ino),
                Err(_) => break,
            }
        }
        // A session that ends lets go of all of them: without one, nothing is to be said.
        let Some(session) = node.session() else { continue };
        let release = Command::Release { inodes };
        while let Err(failure) = node.submit_and_wait(session, release.clone()) {
            match failure {
                Failure::NoQuorum | Failure::Unknown => thread::sleep(RETRY),
                Failure::SessionLost | Failure::Refused(_) => break,
                Failure::Stopping => return,
            }
        }
    }
}
