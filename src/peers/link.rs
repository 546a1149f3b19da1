//! The way out to one peer: a bounded queue, and a thread that dials and writes.

use super::connection::{self, Frames, kind};
use super::hello::{HELLO_TIMEOUT, Purpose};
use super::{PeerHandler, Shared};
use crate::error::Error;
use crate::mailbox::{Mailbox, Taken};
use crate::replica::PeerMessage;
use crate::tree::{Command, Proposal, ReplicaId};
use log::{info, warn};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Raft says again what was lost, so little is worth keeping for a peer that does not read.
const QUEUE_MESSAGES_MAX: usize = 4096;
const QUEUE_BYTES_MAX: usize = 128 << 20;
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_LAST: Duration = Duration::from_secs(1);
/// One write takes all that waits, up to about this.
const WRITE_BYTES: usize = 1 << 20;

/// The queue and the thread behind it.
pub struct Link {
    peer: ReplicaId,
    queue: Mailbox<PeerMessage>,
    queued_bytes: AtomicUsize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Link {
    pub fn start(
        peer: ReplicaId,
        shared: Arc<Shared>,
        handler: Arc<dyn PeerHandler>,
    ) -> Result<Arc<Link>, Error> {
        let link = Arc::new(Link {
            peer,
            queue: Mailbox::default(),
            queued_bytes: AtomicUsize::new(0),
            thread: Mutex::new(None),
        });
        let writer = Writer { link: link.clone(), shared, handler, refused: None };
        let thread = std::thread::Builder::new()
            .name(format!("to-{peer}"))
            .spawn(move || writer.run())
            .map_err(|error| Error::Other(format!("cannot start a thread: {error}")))?;
        *link.thread.lock() = Some(thread);
        Ok(link)
    }

    /// False if the queue is full.
    pub fn send(&self, message: PeerMessage) -> bool {
        let bytes = weight(&message);
        let full = self.queue.len() >= QUEUE_MESSAGES_MAX
            || self.queued_bytes.load(Ordering::Relaxed) + bytes > QUEUE_BYTES_MAX;
        if full {
            return false;
        }
        self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.queue.send(message).is_ok()
    }

    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    pub fn close(&self) {
        self.queue.close();
    }

    pub fn join(&self) {
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

/// About what a message takes in memory.
fn weight(message: &PeerMessage) -> usize {
    64 + match message {
        PeerMessage::Raft(bytes) => bytes.len(),
        PeerMessage::Forward(proposals) => proposals.iter().map(proposal_weight).sum(),
        _ => 0,
    }
}

fn proposal_weight(proposal: &Proposal) -> usize {
    256 + match &proposal.command {
        Command::Write(write) => write.data.len(),
        Command::RecordSnapshot { manifest, .. } => manifest.len(),
        _ => 0,
    }
}

struct Writer {
    link: Arc<Link>,
    shared: Arc<Shared>,
    handler: Arc<dyn PeerHandler>,
    /// The last reason the peer gave for turning us away: said once.
    refused: Option<String>,
}

impl Writer {
    fn run(mut self) {
        let mut backoff = BACKOFF_FIRST;
        while !self.done() {
            match self.shared.connect(self.link.peer, Purpose::Messages) {
                Ok(frames) => {
                    info!("connected to replica {}", self.link.peer);
                    self.refused = None;
                    backoff = BACKOFF_FIRST;
                    if let Err(error) = self.pump(frames) {
                        info!("connection to replica {} ended: {error}", self.link.peer);
                        self.handler.unreachable(self.link.peer);
                    }
                }
                Err(error) => {
                    self.tell(&error);
                    self.handler.unreachable(self.link.peer);
                }
            }
            if !self.discard_until(Instant::now() + backoff) {
                return;
            }
            backoff = (backoff * 2).min(BACKOFF_LAST);
        }
    }

    fn done(&self) -> bool {
        self.shared.stopping() || self.shared.member(self.link.peer).is_none()
    }

    /// Writes what comes until the connection or the link ends.
    fn pump(&self, mut frames: Frames) -> io::Result<()> {
        frames.set_timeout(Some(HELLO_TIMEOUT))?;
        let (mut batch, mut bytes) = (Vec::new(), Vec::new());
        loop {
            if self.link.queue.take(&mut batch, None) == Taken::Closed {
                return Ok(());
            }
            for message in batch.drain(..) {
                self.link.queued_bytes.fetch_sub(weight(&message), Ordering::Relaxed);
                if let Err(error) = connection::append(&mut bytes, kind::MESSAGE, &message) {
                    warn!("a message to replica {} is not sent: {error}", self.link.peer);
                }
                if bytes.len() >= WRITE_BYTES {
                    frames.write(&bytes)?;
                    bytes.clear();
                }
            }
            frames.write(&bytes)?;
            bytes.clear();
            bytes.shrink_to(WRITE_BYTES * 2);
        }
    }

    /// Throws away what is queued until `end`: it would be stale by then. False once closed.
    fn discard_until(&self, end: Instant) -> bool {
        let mut batch = Vec::new();
        loop {
            match self.link.queue.take(&mut batch, Some(end)) {
                Taken::Closed => return false,
                Taken::TimedOut => return true,
                Taken::Items => {
                    let bytes = batch.drain(..).map(|message| weight(&message)).sum();
                    self.link.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
                }
            }
            if Instant::now() >= end {
                return true;
            }
        }
    }

    fn tell(&mut self, error: &io::Error) {
        let text = error.to_string();
        if self.refused.as_ref() != Some(&text) {
            warn!("cannot talk to replica {}: {text}", self.link.peer);
            self.refused = Some(text);
        }
    }
}
