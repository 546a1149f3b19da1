//! Big things beside the Raft stream, each on a connection of its own: tree snapshots, backup
//! files.
//!
//! ```text
//! push    -> request   -> data ... -> data            <- receipt | error
//! fetch   -> request   <- ready | error    <- data ... <- data [<- error]
//! ```
//!
//! Data travels in checked frames and the length is said before, so what arrives is whole or an
//! error. Every step has a timeout, and a peer that vanished is noticed by TCP's probes.

use super::Shared;
use super::connection::{CHUNK_BYTES, Frames, RECEIPT_BYTES_MAX, append, decode, invalid, kind};
use super::hello::{Purpose, Standing, greet};
use super::identity::MountCertificate;
use super::socket;
use crate::tree::ReplicaId;
use bincode::{Decode, Encode};
use log::warn;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::sync::Arc;
use std::time::Duration;

/// Between two frames of data.
const DATA_TIMEOUT: Duration = Duration::from_secs(30);
/// For the receiver to verify and sync what it got: a disk under load syncs gigabytes for minutes.
const RECEIPT_TIMEOUT: Duration = Duration::from_secs(300);
/// For a sender to notice that its data is refused, and read why.
const LINGER: Duration = Duration::from_secs(2);

/// The side channel to the other replicas. Cheap to clone.
#[derive(Clone)]
pub struct Bulk {
    shared: Arc<Shared>,
    handlers: Arc<RwLock<BTreeMap<&'static str, Arc<dyn BulkHandler>>>>,
}

/// Serves one kind of thing to peers. Called on a connection's own thread.
pub trait BulkHandler: Send + Sync {
    /// A peer pushes `name`, `length` bytes. Returns once it is verified and durable here; the
    /// returned bytes (at most 64 KiB) are the receipt the pusher gets.
    fn receive(
        &self,
        from: ReplicaId,
        name: &str,
        length: u64,
        data: &mut dyn Read,
    ) -> io::Result<Vec<u8>>;
    /// A peer asks for `name` from `offset` on, at most `length` bytes.
    fn fetch(
        &self,
        from: ReplicaId,
        name: &str,
        offset: u64,
        length: u64,
    ) -> io::Result<(u64, Box<dyn Read + Send>)>;
}

#[derive(Debug, Encode, Decode)]
pub(super) enum Request {
    Push { kind: String, name: String, length: u64 },
    Fetch { kind: String, name: String, offset: u64, length: u64 },
}

/// An error as it crosses the wire: its errno, so that the other side can tell kinds apart.
#[derive(Debug, Encode, Decode)]
pub(super) struct RemoteError {
    pub errno: Option<i32>,
    pub not_found: bool,
    pub text: String,
}

impl Bulk {
    pub(super) fn new(shared: Arc<Shared>) -> Bulk {
        Bulk { shared, handlers: Arc::default() }
    }

    /// From now on, `handler` serves what peers push and fetch under `kind` (`backup`, `snapshot`).
    pub fn serve(&self, kind: &'static str, handler: Arc<dyn BulkHandler>) {
        self.handlers.write().insert(kind, handler);
    }

    /// Serves nothing any more; lets go of the handlers.
    pub(super) fn close(&self) {
        self.handlers.write().clear();
    }

    /// Pushes `length` bytes of `data` to a peer and waits for its receipt.
    pub fn push(
        &self,
        to: ReplicaId,
        kind: &str,
        name: &str,
        length: u64,
        data: &mut dyn Read,
    ) -> io::Result<Vec<u8>> {
        let mut frames = self.shared.connect(to, Purpose::Bulk)?;
        frames.set_timeout(Some(DATA_TIMEOUT))?;
        let request = Request::Push { kind: kind.into(), name: name.into(), length };
        frames.send(kind::BULK_REQUEST, &request)?;
        send_data(&mut frames, length, data).map_err(|error| match error {
            SendError::Source(error) => error,
            // A receiver that gave up says why before it closes.
            SendError::Wire(error) => match frames.next_frame().and_then(refusal) {
                Err(said) if said.kind() != ErrorKind::UnexpectedEof => said,
                _ => error,
            },
        })?;
        frames.set_timeout(Some(RECEIPT_TIMEOUT))?;
        match frames.next_frame()? {
            (kind::BULK_RECEIPT, payload) => decode(payload),
            other => Err(refusal(other).err().unwrap_or_else(|| invalid("no receipt"))),
        }
    }

    /// Opens `name` at a peer from `offset`, at most `length` bytes; the length that will come, and
    /// the bytes.
    pub fn fetch(
        &self,
        from: ReplicaId,
        kind: &str,
        name: &str,
        offset: u64,
        length: u64,
    ) -> io::Result<(u64, Box<dyn Read + Send>)> {
        fetch(self.shared.connect(from, Purpose::Bulk)?, kind, name, offset, length)
    }

    /// Serves one request of a peer that has shaken hands.
    pub(super) fn answer(
        &self,
        from: ReplicaId,
        standing: Standing,
        mut frames: Frames,
    ) -> io::Result<()> {
        frames.set_timeout(Some(DATA_TIMEOUT))?;
        match frames.expect(kind::BULK_REQUEST)? {
            Request::Push { kind, .. } if !standing.may_push() => {
                Err(invalid(format!("it pushes a {kind}, which a mount may not")))
            }
            Request::Push { kind, name, length } => self.take(from, frames, &kind, &name, length),
            Request::Fetch { kind, name, offset, length } => {
                let found = self
                    .handler(&kind)
                    .and_then(|handler| handler.fetch(from, &name, offset, length));
                let (length, mut data) = match found {
                    Ok(found) => found,
                    Err(error) => return frames.send(kind::BULK_ERROR, &RemoteError::of(&error)),
                };
                frames.send(kind::BULK_READY, &length)?;
                match send_data(&mut frames, length, &mut *data) {
                    Err(SendError::Source(error)) => {
                        frames.send(kind::BULK_ERROR, &RemoteError::of(&error))
                    }
                    Err(SendError::Wire(error)) => Err(error),
                    Ok(()) => Ok(()),
                }
            }
        }
    }

    fn take(
        &self,
        from: ReplicaId,
        frames: Frames,
        kind: &str,
        name: &str,
        length: u64,
    ) -> io::Result<()> {
        let mut data = Incoming::new(frames, length);
        let received = self.handler(kind).and_then(|handler| {
            let receipt = handler.receive(from, name, length, &mut data)?;
            if receipt.len() > RECEIPT_BYTES_MAX {
                Err(invalid("receipt too long"))
            } else {
                Ok(receipt)
            }
        });
        match received {
            Ok(receipt) => data.frames.send(kind::BULK_RECEIPT, &receipt),
            Err(error) => {
                warn!("{kind} {name} from replica {from} is refused: {error}");
                data.frames.send(kind::BULK_ERROR, &RemoteError::of(&error))?;
                data.frames.linger(LINGER)
            }
        }
    }

    fn handler(&self, kind: &str) -> io::Result<Arc<dyn BulkHandler>> {
        let handlers = self.handlers.read();
        handlers.get(kind).cloned().ok_or_else(|| {
            io::Error::new(ErrorKind::Unsupported, format!("this replica takes no `{kind}`"))
        })
    }
}

/// [`Bulk::fetch`] for a mount, from the replica at `address`.
pub fn fetch_as_mount(
    address: &str,
    certificate: &MountCertificate,
    kind: &str,
    name: &str,
    offset: u64,
    length: u64,
) -> io::Result<(u64, Box<dyn Read + Send>)> {
    let (frames, _) = greet(address, certificate.client(), Purpose::Bulk)?;
    fetch(frames, kind, name, offset, length)
}

fn fetch(
    mut frames: Frames,
    kind: &str,
    name: &str,
    offset: u64,
    length: u64,
) -> io::Result<(u64, Box<dyn Read + Send>)> {
    frames.set_timeout(Some(DATA_TIMEOUT))?;
    let request = Request::Fetch { kind: kind.into(), name: name.into(), offset, length };
    frames.send(kind::BULK_REQUEST, &request)?;
    match frames.next_frame()? {
        (kind::BULK_READY, payload) => {
            let length = decode(payload)?;
            Ok((length, Box::new(Incoming::new(frames, length))))
        }
        other => Err(refusal(other).err().unwrap_or_else(|| invalid("no answer"))),
    }
}

/// Which end of a transfer failed.
enum SendError {
    Source(io::Error),
    Wire(io::Error),
}

fn send_data(frames: &mut Frames, length: u64, data: &mut dyn Read) -> Result<(), SendError> {
    let mut left = length;
    let mut bytes = Vec::with_capacity(CHUNK_BYTES + 64);
    let mut chunk = vec![0; CHUNK_BYTES];
    while left > 0 {
        let step = left.min(CHUNK_BYTES as u64) as usize;
        data.read_exact(&mut chunk[..step]).map_err(SendError::Source)?;
        if socket::is_readable(frames.stream()) {
            let text = "the receiver gave up";
            return Err(SendError::Wire(io::Error::new(ErrorKind::ConnectionAborted, text)));
        }
        bytes.clear();
        append(&mut bytes, kind::BULK_DATA, &&chunk[..step]).map_err(SendError::Wire)?;
        frames.write(&bytes).map_err(SendError::Wire)?;
        left -= step as u64;
    }
    Ok(())
}

/// The error a peer sent in place of what was due.
fn refusal((kind, payload): (u8, &[u8])) -> io::Result<()> {
    match kind {
        kind::BULK_ERROR => Err(decode::<RemoteError>(payload)?.into_error()),
        _ => Err(invalid(format!("frame of kind {kind} in a transfer"))),
    }
}

impl RemoteError {
    fn of(error: &io::Error) -> RemoteError {
        RemoteError {
            errno: error.raw_os_error(),
            not_found: error.kind() == ErrorKind::NotFound,
            text: error.to_string(),
        }
    }

    fn into_error(self) -> io::Error {
        let kind = match self.errno {
            Some(errno) => io::Error::from_raw_os_error(errno).kind(),
            None if self.not_found => ErrorKind::NotFound,
            None => ErrorKind::Other,
        };
        io::Error::new(kind, format!("the peer says: {}", self.text))
    }
}

/// Data as it comes in; ends after exactly the length that was said.
struct Incoming {
    frames: Frames,
    left: u64,
    chunk: Vec<u8>,
    used: usize,
}

impl Incoming {
    fn new(frames: Frames, length: u64) -> Incoming {
        Incoming { frames, left: length, chunk: Vec::new(), used: 0 }
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.used == self.chunk.len() {
            if self.left == 0 {
                return Ok(0);
            }
            self.chunk = match self.frames.next_frame()? {
                (kind::BULK_DATA, payload) => decode(payload)?,
                other => return Err(refusal(other).err().unwrap_or_else(|| invalid("no data"))),
            };
            self.used = 0;
            self.left = match self.left.checked_sub(self.chunk.len() as u64) {
                Some(left) if !self.chunk.is_empty() => left,
                _ => return Err(invalid("more data than was said")),
            };
        }
        let count = buffer.len().min(self.chunk.len() - self.used);
        buffer[..count].copy_from_slice(&self.chunk[self.used..self.used + count]);
        self.used += count;
        Ok(count)
    }
}
