//! One log entry's bytes: the level of its command, its stamp, the proposal.
//!
//! ```text
//! byte  0        1..9                        9..
//!       level    stamp, nanoseconds (LE)     the proposal, bincode
//! ```
//!
//! A program that cannot do the level looks no further: how the rest is written may be new too.

use crate::limits::PEER_FRAME_BYTES_MAX;
use crate::tree::{Level, Newer, Proposal, Stamp};

const HEAD: usize = 1 + size_of::<Stamp>();

/// Why bytes are no entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("an entry of {0} bytes is too short")]
    Short(usize),
    #[error(transparent)]
    Newer(#[from] Newer),
    #[error("damaged entry: {0}")]
    Damaged(String),
}

/// An entry as [`decode`] reads it.
pub fn encode(stamp: Stamp, proposal: &Proposal) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    bytes.push(proposal.command.level());
    bytes.extend_from_slice(&stamp.to_le_bytes());
    bincode::encode_into_std_write(proposal, &mut bytes, bincode::config::standard())
        .expect("a proposal encodes into memory");
    bytes
}

/// What [`encode`] wrote, for a program that `can` do so much; never panics, whatever the bytes
/// are.
pub fn decode(bytes: &[u8], can: Level) -> Result<(Stamp, Proposal), EntryError> {
    let (head, body) = bytes.split_at_checked(HEAD).ok_or(EntryError::Short(bytes.len()))?;
    Newer::check(head[0], can)?;
    let stamp = Stamp::from_le_bytes(head[1..].try_into().expect("the head holds a stamp"));
    let config = bincode::config::standard().with_limit::<PEER_FRAME_BYTES_MAX>();
    let (proposal, used): (Proposal, usize) = bincode::decode_from_slice(body, config)
        .map_err(|error| EntryError::Damaged(error.to_string()))?;
    if used != body.len() {
        return Err(EntryError::Damaged(format!("{} bytes too many", body.len() - used)));
    }
    let level = proposal.command.level();
    if level != head[0] {
        return Err(EntryError::Damaged(format!("level {}, for one of {level}", head[0])));
    }
    Ok((stamp, proposal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Command, Ino, LEVEL, Place, SessionId, Write};

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
        assert_eq!(decode(&encode(123, &proposal()), LEVEL), Ok((123, proposal())));
    }

    #[test]
    fn cut_or_longer_bytes_are_no_entry() {
        let whole = encode(123, &proposal());
        for end in 0..whole.len() {
            assert!(decode(&whole[..end], LEVEL).is_err(), "{end} bytes of {}", whole.len());
        }
        let longer = [whole.as_slice(), b"!"].concat();
        assert!(matches!(decode(&longer, LEVEL), Err(EntryError::Damaged(_))));
    }

    #[test]
    fn a_level_beyond_the_program_is_named_and_not_looked_into() {
        let command = Command::Probe { level: 9 };
        let bytes = encode(123, &Proposal { command, ..proposal() });
        let newer = EntryError::Newer(Newer { level: 9, can: 8 });
        assert_eq!(decode(&bytes, 8), Err(newer.clone()));
        assert_eq!(decode(&[&bytes[..HEAD], b"?"].concat(), 8), Err(newer));
        assert!(decode(&bytes, 9).is_ok());
        // The first byte is the command's.
        for level in [0, 8] {
            let wrong = [&[level], &bytes[1..]].concat();
            assert!(matches!(decode(&wrong, 9), Err(EntryError::Damaged(_))), "{level}");
        }
    }

    #[test]
    fn a_length_beyond_all_memory_is_refused() {
        let mut bytes = encode(0, &proposal());
        bytes.truncate(HEAD + 3);
        bytes.extend_from_slice(&[0xfd; 40]);
        assert!(matches!(decode(&bytes, LEVEL), Err(EntryError::Damaged(_))));
    }
}
