//! Names of entries: what is valid, and how a million of them are kept small.

use super::{Ino, Refusal};
use crate::limits::NAME_BYTES_MAX;
use std::sync::Arc;

/// A name is 1 to 255 bytes, any but `/` and NUL, neither `.` nor `..`.
pub(super) fn check_name(name: &[u8]) -> Result<(), Refusal> {
    if name.is_empty() || name == b"." || name == b".." {
        return Err(Refusal::Invalid);
    }
    if name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(Refusal::Invalid);
    }
    if name.len() > NAME_BYTES_MAX { Err(Refusal::NameTooLong) } else { Ok(()) }
}

/// [`check_name`] for a new entry of `parent`. The hosts of backups are named in manifests, which
/// are text.
pub(super) fn check_new_name(parent: Ino, name: &[u8]) -> Result<(), Refusal> {
    if parent == Ino::BACKUP_NODE && std::str::from_utf8(name).is_err() {
        return Err(Refusal::Invalid);
    }
    check_name(name)
}

/// Longest name kept without an allocation: fills the 24 bytes the other variant takes anyway.
const INLINE_BYTES_MAX: usize = 22;

/// A name as directories keep it.
#[derive(Clone)]
pub(super) enum EntryName {
    Inline { length: u8, bytes: [u8; INLINE_BYTES_MAX] },
    Shared(Arc<[u8]>),
}

const _: () = assert!(size_of::<EntryName>() == 24);

impl EntryName {
    pub fn new(name: &[u8]) -> EntryName {
        if name.len() > INLINE_BYTES_MAX {
            return EntryName::Shared(name.into());
        }
        let mut bytes = [0; INLINE_BYTES_MAX];
        bytes[..name.len()].copy_from_slice(name);
        EntryName::Inline { length: name.len() as u8, bytes }
    }

    pub fn as_bytes(&self) -> &[u8] {
        match self {
            EntryName::Inline { length, bytes } => &bytes[..usize::from(*length)],
            EntryName::Shared(name) => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_length_come_back() {
        for length in 1..=NAME_BYTES_MAX {
            let name = vec![b'x'; length];
            assert_eq!(EntryName::new(&name).as_bytes(), name);
            assert_eq!(check_name(&name), Ok(()));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0"] {
            assert_eq!(check_name(name), Err(Refusal::Invalid), "{name:?}");
        }
        assert_eq!(check_name(&[b'x'; 256]), Err(Refusal::NameTooLong));
        assert_eq!(check_name(b"..."), Ok(()));
        assert_eq!(check_name(&[0xff, b'\n']), Ok(()));
        assert_eq!(check_new_name(Ino::ROOT, b"\xff"), Ok(()));
        assert_eq!(check_new_name(Ino::BACKUP_NODE, b"\xff"), Err(Refusal::Invalid));
        assert_eq!(check_new_name(Ino::BACKUP_NODE, "bücher 1".as_bytes()), Ok(()));
    }
}
