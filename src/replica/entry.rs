//! One log entry's bytes: version byte, stamp (u64, little endian), the proposal in bincode.

use crate::limits::PEER_FRAME_BYTES_MAX;
use crate::tree::{Proposal, Stamp};

/// The first byte of every entry this version writes.
pub const VERSION: u8 = 1;
const HEAD: usize = 1 + size_of::<Stamp>();

/// Why bytes are no entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("an entry of {0} bytes is too short")]
    Short(usize),
    #[error("entry format {0} is unknown to this version, which reads format {VERSION}")]
    Version(u8),
    #[error("damaged entry: {0}")]
    Damaged(String),
}

/// An entry as [`decode`] reads it.
pub fn encode(stamp: Stamp, proposal: &Proposal) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    bytes.push(VERSION);
    bytes.extend_from_slice(&stamp.to_le_bytes());
    bincode::encode_into_std_write(proposal, &mut bytes, bincode::config::standard())
        .expect("a proposal encodes into memory");
    bytes
}

/// What [`encode`] wrote; never panics, whatever the bytes are.
pub fn decode(bytes: &[u8]) -> Result<(Stamp, Proposal), EntryError> {
    let (head, body) = bytes.split_at_checked(HEAD).ok_or(EntryError::Short(bytes.len()))?;
    if head[0] != VERSION {
        return Err(EntryError::Version(head[0]));
    }
    let stamp = Stamp::from_le_bytes(head[1..].try_into().expect("the head holds a stamp"));
    let config = bincode::config::standard().with_limit::<PEER_FRAME_BYTES_MAX>();
    let (proposal, used) = bincode::decode_from_slice(body, config)
        .map_err(|error| EntryError::Damaged(error.to_string()))?;
    if used != body.len() {
        return Err(EntryError::Damaged(format!("{} bytes too many", body.len() - used)));
    }
    Ok((stamp, proposal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Command, Ino, Place, SessionId, Write};

    fn proposal() -> Proposal {
        let write = Write {
            ino: Ino(77),
            place: Place::At(3),
            data: b"bytes".as_slice().into(),
            clear_set_id: true,
        };
        let command = Command::Write(write);
        Proposal { session: SessionId(5), sequence: 9, acknowledged: 8, command }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        assert_eq!(decode(&encode(123, &proposal())), Ok((123, proposal())));
    }

    #[test]
    fn cut_or_longer_bytes_are_no_entry() {
        let whole = encode(123, &proposal());
        for end in 0..whole.len() {
            assert!(decode(&whole[..end]).is_err(), "{end} bytes of {}", whole.len());
        }
        let longer = [whole.as_slice(), b"!"].concat();
        assert!(matches!(decode(&longer), Err(EntryError::Damaged(_))));
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = encode(123, &proposal());
        bytes[0] = 9;
        assert_eq!(decode(&bytes), Err(EntryError::Version(9)));
    }

    #[test]
    fn a_length_beyond_all_memory_is_refused() {
        let mut bytes = encode(0, &proposal());
        bytes.truncate(HEAD + 3);
        bytes.extend_from_slice(&[0xfd; 40]);
        assert!(matches!(decode(&bytes), Err(EntryError::Damaged(_))));
    }
}
