//! Frames over a TCP stream, and what kinds of them there are.

use crate::format::frame::{self, FrameError};
use crate::limits::PEER_FRAME_BYTES_MAX;
use bincode::{Decode, Encode};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

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
    buffer: Vec<u8>,
    /// What of the buffer has been handed out.
    used: usize,
}

impl Frames {
    pub fn new(stream: TcpStream) -> Frames {
        Frames { stream, buffer: Vec::new(), used: 0 }
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
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
    pub fn next(&mut self) -> io::Result<(u8, &[u8])> {
        while !self.has_frame()? {
            self.fill()?;
        }
        let frame = frame::parse(&self.buffer[self.used..]).map_err(|e| invalid(e.to_string()))?;
        let frame = frame.ok_or(ErrorKind::UnexpectedEof)?;
        self.used += frame.encoded_bytes();
        Ok((frame.kind, frame.payload))
    }

    /// Whether [`Frames::next`] would return at once.
    pub fn has_frame(&self) -> io::Result<bool> {
        let rest = &self.buffer[self.used..];
        let length = frame::payload_bytes(rest).map_err(|error| invalid(error.to_string()))?;
        Ok(length.is_some_and(|length| rest.len() >= frame::HEADER_BYTES + length))
    }

    /// The next frame, which must be of this kind.
    pub fn expect<T: Decode<()>>(&mut self, expected: u8) -> io::Result<T> {
        let (kind, payload) = self.next()?;
        if kind != expected {
            return Err(invalid(format!("frame of kind {kind} where {expected} was due")));
        }
        decode(payload)
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let announced = frame::payload_bytes(&self.buffer).ok().flatten().unwrap_or(0);
        let whole = frame::HEADER_BYTES + announced;
        let start = self.buffer.len();
        // A long frame is read in steps, so that memory follows the bytes that really came.
        let step = whole.saturating_sub(start).clamp(READ_BYTES, 1 << 20);
        self.buffer.resize(start + step, 0);
        let count = self.stream.read(&mut self.buffer[start..]);
        self.buffer.truncate(start + *count.as_ref().unwrap_or(&0));
        match count.map_err(name_timeout)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
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
