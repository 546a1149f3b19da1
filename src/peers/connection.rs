//! Frames over a TCP stream, and what kinds of them there are.

use crate::format::frame::{self, FrameError};
use crate::limits::PEER_FRAME_BYTES_MAX;
use bincode::{Decode, Encode};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// What a frame holds: its number on the wire.
pub mod kind {
    pub const HELLO: u8 = 1;
    pub const WELCOME: u8 = 2;
    pub const MESSAGE: u8 = 3;
    pub const BULK_REQUEST: u8 = 16;
    pub const BULK_DATA: u8 = 17;
    pub const BULK_READY: u8 = 18;
    pub const BULK_RECEIPT: u8 = 19;
    pub const BULK_ERROR: u8 = 20;
}

const READ_BYTES: usize = 64 << 10;
const LONG_READ_BYTES: usize = 1 << 20;

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

/// A stream of frames.
pub struct Frames {
    stream: TcpStream,
    /// What has come and was not handed out is `buffer[used..filled]`.
    buffer: Vec<u8>,
    used: usize,
    filled: usize,
}

impl Frames {
    pub fn new(stream: TcpStream) -> Frames {
        Frames { stream, buffer: Vec::new(), used: 0, filled: 0 }
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// No read or write shall take longer; `None`: for ever (probes still end a dead connection).
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(timeout)?;
        self.stream.set_write_timeout(timeout)
    }

    pub fn send(&mut self, kind: u8, value: &impl Encode) -> io::Result<()> {
        let mut bytes = Vec::new();
        append(&mut bytes, kind, value)?;
        self.write(&bytes)
    }

    /// Sends bytes that are whole frames.
    pub fn write(&mut self, frames: &[u8]) -> io::Result<()> {
        self.stream.write_all(frames).map_err(name_timeout)
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
        let length = frame::payload_bytes(come).map_err(|error| invalid(error.to_string()))?;
        Ok(length.is_some_and(|length| come.len() >= frame::HEADER_BYTES + length))
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
        self.stream.shutdown(Shutdown::Write)?;
        self.stream.set_read_timeout(Some(length))?;
        let end = Instant::now() + length;
        self.buffer.resize(READ_BYTES, 0);
        while Instant::now() < end && self.stream.read(&mut self.buffer)? > 0 {}
        Ok(())
    }

    /// Reads what is there, at least one byte.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.used..self.filled, 0);
        (self.used, self.filled) = (0, self.filled - self.used);
        let announced = frame::payload_bytes(&self.buffer[..self.filled]).ok().flatten();
        let whole = frame::HEADER_BYTES + announced.unwrap_or(0);
        // A long frame is read in steps, so that memory follows the bytes that really came.
        let step = whole.saturating_sub(self.filled).clamp(READ_BYTES, LONG_READ_BYTES);
        let room = self.filled + step;
        if self.buffer.len() < room || self.buffer.len() > room + LONG_READ_BYTES {
            self.buffer.resize(room, 0);
            self.buffer.shrink_to(room);
        }
        match self.stream.read(&mut self.buffer[self.filled..]).map_err(name_timeout)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            count => {
                self.filled += count;
                Ok(())
            }
        }
    }
}

/// A socket timeout is told as `WouldBlock`, which says nothing to people.
fn name_timeout(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => io::Error::new(ErrorKind::TimedOut, "the peer did not answer"),
        _ => error,
    }
}
