//! The way out to one peer: a bounded queue that whoever has filled it empties into the socket, and
//! a thread that dials, and writes what the socket has no room for.
//!
//! A message of the usual size costs its sender one system call and no other thread's wake-up.

use super::connection::{self, kind};
use super::hello::{HELLO_TIMEOUT, Purpose};
use super::wire::Wire;
use super::{PeerHandler, Shared};
use crate::error::Error;
use crate::replica::PeerMessage;
use crate::tree::ReplicaId;
use log::{info, warn};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Raft says again what was lost, so little is worth keeping for a peer that does not read.
const QUEUE_MESSAGES_MAX: usize = 4096;
const QUEUE_BYTES_MAX: usize = 128 << 20;
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_LAST: Duration = Duration::from_secs(1);
/// More than this is encoded and written by the link's thread: the sender has better things to do.
const DIRECT_BYTES: usize = 64 << 10;

/// The queue and the thread behind it.
pub struct Link {
    peer: ReplicaId,
    out: Mutex<Outbox>,
    /// The thread has something to do.
    work: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Outbox {
    queue: Vec<PeerMessage>,
    queued_bytes: usize,
    /// `Some` while connected, but for when the thread is writing: nobody else may then. It keeps
    /// what the socket had no room for, which goes first.
    wire: Option<Wire>,
    /// Of the connection, also while the thread is writing.
    stream: Option<Arc<TcpStream>>,
    /// The thread is to write.
    handed_over: bool,
    error: Option<io::Error>,
    closed: bool,
}

impl Link {
    pub fn start(
        peer: ReplicaId,
        shared: Arc<Shared>,
        handler: Arc<dyn PeerHandler>,
    ) -> Result<Arc<Link>, Error> {
        let link = Arc::new(Link {
            peer,
            out: Mutex::default(),
            work: Condvar::new(),
            thread: Mutex::new(None),
        });
        let dialler = Dialler { link: link.clone(), shared, handler, told: None };
        let thread = std::thread::Builder::new()
            .name(format!("to-{peer}"))
            .spawn(move || dialler.run())
            .map_err(|error| Error::Other(format!("cannot start a thread: {error}")))?;
        *link.thread.lock() = Some(thread);
        Ok(link)
    }

    /// Queues a message for the next [`Link::flush`]; false if the queue is full.
    pub fn queue(&self, message: PeerMessage) -> bool {
        let bytes = message.weight();
        let mut out = self.out.lock();
        let fits = out.queue.len() < QUEUE_MESSAGES_MAX
            && out.queued_bytes + bytes <= QUEUE_BYTES_MAX
            && !out.closed;
        if fits {
            out.queued_bytes += bytes;
            out.queue.push(message);
        }
        fits
    }

    /// Sends what is queued. Never waits for the network.
    pub fn flush(&self) {
        let mut out = self.out.lock();
        if out.queue.is_empty() || out.handed_over || out.error.is_some() {
            return;
        }
        let Some(mut wire) = out.wire.take() else { return };
        let mut all = false;
        if out.queued_bytes <= DIRECT_BYTES {
            let frames = out.encode(self.peer);
            match wire.send_now(&frames) {
                Ok(sent) => all = sent,
                Err(error) => out.error = Some(error),
            }
        }
        out.wire = Some(wire);
        if !all {
            out.handed_over = true;
            self.work.notify_one();
        }
    }

    /// Messages that wait.
    pub fn queued(&self) -> usize {
        self.out.lock().queue.len()
    }

    /// Ends the connection, and says why; the thread makes another.
    pub fn dial_anew(&self, why: &str) {
        let mut out = self.out.lock();
        if let Some(stream) = &out.stream {
            let _ = stream.shutdown(Shutdown::Both);
            out.error = Some(io::Error::other(why));
            self.work.notify_one();
        }
    }

    pub fn close(&self) {
        let mut out = self.out.lock();
        out.closed = true;
        // A write that waits for the other side ends with this.
        let _ = out.stream.take().map(|stream| stream.shutdown(Shutdown::Both));
        self.work.notify_one();
    }

    pub fn join(&self) {
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Outbox {
    /// Empties the queue into frames.
    fn encode(&mut self, peer: ReplicaId) -> Vec<u8> {
        let mut frames = Vec::with_capacity(self.queued_bytes);
        self.queued_bytes = 0;
        for message in self.queue.drain(..) {
            if let Err(error) = connection::append(&mut frames, kind::MESSAGE, &message) {
                warn!("a message to replica {peer} is not sent: {error}");
            }
        }
        frames
    }

    fn discard(&mut self) {
        self.queue.clear();
        self.queued_bytes = 0;
    }
}

/// The link's thread.
struct Dialler {
    link: Arc<Link>,
    shared: Arc<Shared>,
    handler: Arc<dyn PeerHandler>,
    /// The last trouble that was logged: each is logged once.
    told: Option<String>,
}

impl Dialler {
    fn run(mut self) {
        let mut backoff = BACKOFF_FIRST;
        while !self.done() {
            match self.shared.connect(self.link.peer, Purpose::Messages) {
                Ok(mut frames) => {
                    info!("connected to replica {}", self.link.peer);
                    (self.told, backoff) = (None, BACKOFF_FIRST);
                    let ended = frames.set_timeout(Some(HELLO_TIMEOUT));
                    let ended = ended.and_then(|()| self.pump(frames.into_wire()));
                    if let Err(error) = ended {
                        info!("connection to replica {} ended: {error}", self.link.peer);
                    }
                }
                Err(error) => {
                    self.tell(&error);
                    let refusal = error.get_ref().and_then(|inner| inner.downcast_ref());
                    refusal.inspect(|why| self.handler.turned_away(self.link.peer, why));
                }
            }
            self.handler.unreachable(self.link.peer);
            self.pause(backoff);
            backoff = (backoff * 2).min(BACKOFF_LAST);
        }
    }

    fn done(&self) -> bool {
        self.link.out.lock().closed
            || self.shared.stopping()
            || self.shared.member(self.link.peer).is_none()
    }

    /// Lets senders use the connection, and writes what they leave, until it or the link ends.
    fn pump(&self, wire: Wire) -> io::Result<()> {
        let mut out = self.link.out.lock();
        out.stream = Some(wire.stream().clone());
        out.wire = Some(wire);
        out.handed_over = !out.queue.is_empty();
        let ended = loop {
            if out.closed {
                break Ok(());
            }
            if let Some(error) = out.error.take() {
                break Err(error);
            }
            if !out.handed_over {
                self.link.work.wait(&mut out);
                continue;
            }
            if let Err(error) = self.write_all(&mut out) {
                break Err(error);
            }
        };
        *out = Outbox { closed: out.closed, ..Outbox::default() };
        ended
    }

    /// Writes all that waits, with the outbox open to senders meanwhile.
    fn write_all(&self, out: &mut MutexGuard<'_, Outbox>) -> io::Result<()> {
        let Some(mut wire) = out.wire.take() else { return Ok(()) };
        let frames = out.encode(self.link.peer);
        let written =
            MutexGuard::unlocked(out, || wire.push().and_then(|()| wire.write_all(&frames)));
        out.wire = Some(wire);
        out.handed_over = !out.queue.is_empty();
        written
    }

    /// Before the next attempt. What is queued meanwhile would be stale by then.
    fn pause(&self, length: Duration) {
        let end = Instant::now() + length;
        let mut out = self.link.out.lock();
        while !out.closed && !self.link.work.wait_until(&mut out, end).timed_out() {}
        out.discard();
    }

    fn tell(&mut self, error: &io::Error) {
        let text = error.to_string();
        if self.told.as_ref() != Some(&text) {
            warn!("cannot talk to replica {}: {text}", self.link.peer);
            self.told = Some(text);
        }
    }
}
