//! The frame every message between replicas travels in.
//!
//! ```text
//! byte   0        1        2      3      4..8            8..12                  12..
//!       'k'    version   kind     0    length (LE)   crc32 of 0..8 and payload   payload
//! ```
//!
//! A frame that fails its check ends the connection: TCP has already vouched for the bytes, so
//! something on the way is broken, and guessing where the next frame begins helps nobody.

use crate::limits::PEER_FRAME_BYTES_MAX;

/// Version of the protocol between replicas, in every frame.
pub const VERSION: u8 = 3;
/// Bytes before the payload.
pub const HEADER_BYTES: usize = 12;
const MAGIC: u8 = b'k';

/// Why bytes are no frame of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("not a keepfs frame (first byte {0:#04x})")]
    Magic(u8),
    #[error("protocol version {0}, this one speaks {VERSION}")]
    Version(u8),
    #[error("frame of {0} bytes; the largest is {PEER_FRAME_BYTES_MAX}")]
    TooLong(usize),
    #[error("checksum mismatch")]
    Checksum,
}

/// One whole frame at the start of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: u8,
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Bytes of the buffer it took.
    pub fn encoded_bytes(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }
}

/// Appends a frame to `buffer`; `payload` writes the payload behind the header. On an error, or a
/// payload over [`PEER_FRAME_BYTES_MAX`], the buffer is as it was.
pub fn append<E>(
    buffer: &mut Vec<u8>,
    kind: u8,
    payload: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E>
where
    E: From<FrameError>,
{
    let start = buffer.len();
    buffer.extend_from_slice(&[MAGIC, VERSION, kind, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let written = payload(buffer).and_then(|()| {
        let length = buffer.len() - start - HEADER_BYTES;
        if length > PEER_FRAME_BYTES_MAX {
            Err(FrameError::TooLong(length).into())
        } else {
            Ok(length)
        }
    });
    match written {
        Ok(length) => {
            let frame = &mut buffer[start..];
            frame[4..8].copy_from_slice(&(length as u32).to_le_bytes());
            let sum = checksum(frame);
            frame[8..12].copy_from_slice(&sum.to_le_bytes());
            Ok(())
        }
        Err(error) => {
            buffer.truncate(start);
            Err(error)
        }
    }
}

/// The frame at the start of `buffer`; `None` while it is not whole.
pub fn parse(buffer: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
    let Some((_, length)) = announced(buffer)? else { return Ok(None) };
    let Some(frame) = buffer.get(..HEADER_BYTES + length) else { return Ok(None) };
    let expected = u32::from_le_bytes([frame[8], frame[9], frame[10], frame[11]]);
    if checksum(frame) != expected {
        return Err(FrameError::Checksum);
    }
    Ok(Some(Frame { kind: frame[2], payload: &frame[HEADER_BYTES..] }))
}

/// The kind and the payload's length that the header announces; `None` while it is not whole.
pub fn announced(buffer: &[u8]) -> Result<Option<(u8, usize)>, FrameError> {
    match buffer.first() {
        Some(&MAGIC) | None => {}
        Some(&other) => return Err(FrameError::Magic(other)),
    }
    match buffer.get(1) {
        Some(&VERSION) | None => {}
        Some(&other) => return Err(FrameError::Version(other)),
    }
    let Some(header) = buffer.get(..HEADER_BYTES) else { return Ok(None) };
    let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
    if length > PEER_FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(length));
    }
    Ok(Some((header[2], length)))
}

fn checksum(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..8]);
    hasher.update(&frame[HEADER_BYTES..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut buffer = Vec::new();
        append::<FrameError>(&mut buffer, kind, |to| {
            to.extend_from_slice(payload);
            Ok(())
        })
        .unwrap();
        buffer
    }

    #[test]
    fn a_frame_comes_back_whole_or_not_at_all() {
        let bytes = framed(7, b"hello");
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Ok(None), "cut at {end}");
        }
        let frame = parse(&bytes).unwrap().unwrap();
        assert_eq!((frame.kind, frame.payload), (7, &b"hello"[..]));
        assert_eq!(frame.encoded_bytes(), bytes.len());
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let bytes = framed(1, b"payload");
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(parse(&damaged), Ok(Some(_))), "bit {bit}");
        }
    }

    #[test]
    fn a_payload_that_fails_leaves_no_trace() {
        let mut buffer = framed(1, b"first");
        let before = buffer.clone();
        let result = append(&mut buffer, 2, |to| {
            to.extend_from_slice(b"half");
            Err(FrameError::Checksum)
        });
        assert_eq!((result, buffer), (Err(FrameError::Checksum), before));
    }

    #[test]
    fn an_announced_length_is_bounded_before_it_is_believed() {
        let mut bytes = framed(1, b"x");
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(parse(&bytes), Err(FrameError::TooLong(u32::MAX as usize)));
    }
}
