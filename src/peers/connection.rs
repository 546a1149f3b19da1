//! Frames over a connection, and what kinds of them there are.

use super::frame::{self, FrameError};
use super::wire::Wire;
use crate::limits::PEER_FRAME_BYTES_MAX;
use bincode::{Decode, Encode};
use std::io::{self, ErrorKind, Read};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// What a frame of data carries of it, bytes.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Bytes of a receipt.
pub const RECEIPT_BYTES_MAX: usize = 64 << 10;

/// What a frame holds: its number on the wire.
pub mod kind {
    use super::{CHUNK_BYTES, RECEIPT_BYTES_MAX};

    pub const HELLO: u8 = 1;
    pub const WELCOME: u8 = 2;
    pub const MESSAGE: u8 = 3;
    pub const REDEEM: u8 = 4;
    pub const GRANT: u8 = 5;
    pub const BULK_REQUEST: u8 = 16;
    pub const BULK_DATA: u8 = 17;
    pub const BULK_READY: u8 = 18;
    pub const BULK_RECEIPT: u8 = 19;
    pub const BULK_ERROR: u8 = 20;

    /// The longest payload of a kind, bytes; 0 if there is no such kind.
    pub fn bytes_max(kind: u8) -> usize {
        match kind {
            HELLO | WELCOME | REDEEM | GRANT | BULK_READY => 4 << 10,
            BULK_REQUEST | BULK_ERROR => 64 << 10,
            BULK_RECEIPT => RECEIPT_BYTES_MAX + 16,
            BULK_DATA => CHUNK_BYTES + 16,
            MESSAGE => crate::limits::PEER_FRAME_BYTES_MAX,
            _ => 0,
        }
    }
}

/// What a read has room for, at least.
const READ_BYTES: usize = 64 << 10;

/// How values are laid out in a frame.
fn layout() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<PEER_FRAME_BYTES_MAX>()
}

/// Appends a value as one frame.
pub fn append(buffer: &mut Vec<u8>, kind: u8, value: &impl Encode) -> io::Result<()> {
    frame::append::<WireError>(buffer, kind, |to| {
        bincode::encode_into_std_write(value, to, layout())?;
        Ok(())
    })
    .map_err(|error| invalid(error.0))
}

/// The value a frame holds, whole.
pub fn decode<T: Decode<()>>(payload: &[u8]) -> io::Result<T> {
    let (value, used) = bincode::decode_from_slice(payload, layout())
        .map_err(|error| invalid(error.to_string()))?;
    if used != payload.len() { Err(invalid("bytes after the message")) } else { Ok(value) }
}

pub fn invalid(problem: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, problem.into())
}

struct WireError(String);

impl From<FrameError> for WireError {
    fn from(error: FrameError) -> WireError {
        WireError(error.to_string())
    }
}

impl From<bincode::error::EncodeError> for WireError {
    fn from(error: bincode::error::EncodeError) -> WireError {
        WireError(error.to_string())
    }
}

/// The kind and length of the frame that begins in `come`, once its header is there.
///
/// # Errors
/// If it is no frame, or longer than its kind may be.
pub fn announced(come: &[u8]) -> io::Result<Option<(u8, usize)>> {
    let announced = frame::announced(come).map_err(|error| invalid(error.to_string()))?;
    match announced {
        Some((kind, length)) if length > kind::bytes_max(kind) => {
            Err(invalid(format!("a frame of kind {kind} with {length} bytes")))
        }
        other => Ok(other),
    }
}

/// A stream of frames.
pub struct Frames {
    wire: Wire,
    /// What has come and was not handed out is `buffer[used..filled]`. It grows with what comes,
    /// whatever a header announces.
    buffer: Vec<u8>,
    used: usize,
    filled: usize,
}

impl Frames {
    pub fn new(wire: Wire) -> Frames {
        Frames { wire, buffer: Vec::new(), used: 0, filled: 0 }
    }

    pub fn stream(&self) -> &TcpStream {
        self.wire.stream()
    }

    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    pub fn into_wire(self) -> Wire {
        self.wire
    }

    /// See [`Wire::set_timeout`].
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.wire.set_timeout(timeout)
    }

    pub fn send(&mut self, kind: u8, value: &impl Encode) -> io::Result<()> {
        let mut bytes = Vec::new();
        append(&mut bytes, kind, value)?;
        self.write(&bytes)
    }

    /// Sends bytes that are whole frames.
    pub fn write(&mut self, frames: &[u8]) -> io::Result<()> {
        self.wire.write_all(frames)
    }

    /// The next frame: its kind and payload. `UnexpectedEof` when the other side has closed.
    pub fn next_frame(&mut self) -> io::Result<(u8, &[u8])> {
        while !self.has_frame()? {
            self.fill()?;
        }
        let come = &self.buffer[self.used..self.filled];
        let frame = frame::parse(come).map_err(|error| invalid(error.to_string()))?;
        let frame = frame.ok_or(ErrorKind::UnexpectedEof)?;
        self.used += frame.encoded_bytes();
        Ok((frame.kind, frame.payload))
    }

    /// Whether [`Frames::next_frame`] would return at once.
    pub fn has_frame(&self) -> io::Result<bool> {
        let come = &self.buffer[self.used..self.filled];
        let announced = announced(come)?;
        Ok(announced.is_some_and(|(_, length)| come.len() >= frame::HEADER_BYTES + length))
    }

    /// The next frame, which must be of this kind.
    pub fn expect<T: Decode<()>>(&mut self, expected: u8) -> io::Result<T> {
        let (kind, payload) = self.next_frame()?;
        if kind != expected {
            return Err(invalid(format!("frame of kind {kind} where {expected} was due")));
        }
        decode(payload)
    }

    /// Says no more, but lets the other side finish: closing with data unread would destroy the
    /// last words on their way.
    pub fn linger(&mut self, length: Duration) -> io::Result<()> {
        let mut stream = self.stream();
        stream.shutdown(Shutdown::Write)?;
        stream.set_read_timeout(Some(length))?;
        let end = Instant::now() + length;
        let mut unread = vec![0; READ_BYTES];
        while Instant::now() < end && stream.read(&mut unread)? > 0 {}
        Ok(())
    }

    /// Reads what is there, at least one byte.
    fn fill(&mut self) -> io::Result<()> {
        if self.used > 0 {
            self.buffer.copy_within(self.used..self.filled, 0);
            (self.used, self.filled) = (0, self.filled - self.used);
        }
        let room = self.filled + READ_BYTES;
        if self.buffer.len() < room {
            self.buffer.resize(room, 0);
        } else if self.buffer.len() > 4 * room {
            self.buffer.truncate(room);
            self.buffer.shrink_to_fit();
        }
        match self.wire.read(&mut self.buffer[self.filled..])? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            count => {
                self.filled += count;
                Ok(())
            }
        }
    }
}
