//! The names of a repository's files. Every file is named by the SHA-256 of its content, so it can
//! be copied, compared and checked by anyone, without a key, and is never written twice.

use crate::error::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// A SHA-256; also the id of a repository, which is 32 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub [u8; 32]);

impl FileId {
    /// The name a file of this content has.
    pub fn of(content: &[u8]) -> FileId {
        FileId(Sha256::digest(content).into())
    }

    /// The first eight digits: enough for people.
    pub fn short(self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for FileId {
    type Err = Error;

    fn from_str(text: &str) -> Result<FileId, Error> {
        let wrong = || Error::Backup(format!("{text:?} is no name of 64 lower-case hex digits"));
        let lower = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        if text.len() != 64 || !text.as_bytes().iter().all(lower) {
            return Err(wrong());
        }
        let mut id = [0; 32];
        for (byte, digits) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(FileId(id))
    }
}

impl Serialize for FileId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FileId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<FileId, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The kinds of files that are copied between replicas, in the order in which they must arrive: an
/// index names packs, a snapshot's blobs are found through indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// Encrypted blobs, up to [`crate::limits::BACKUP_PACK_BYTES`] and one blob.
    Pack,
    /// Which blob is in which pack, where.
    Index,
    /// When, what host, which tree.
    Snapshot,
}

impl FileKind {
    pub const ALL: [FileKind; 3] = [FileKind::Pack, FileKind::Index, FileKind::Snapshot];

    pub fn name(self) -> &'static str {
        match self {
            FileKind::Pack => "pack",
            FileKind::Index => "index",
            FileKind::Snapshot => "snapshot",
        }
    }
}

impl FromStr for FileKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<FileKind, Error> {
        let kind = FileKind::ALL.into_iter().find(|kind| kind.name() == text);
        kind.ok_or_else(|| Error::Backup(format!("{text:?} is no kind of repository file")))
    }
}

/// One file of a repository. Ordered by kind first: in this order files may be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RepositoryFile {
    #[serde(rename = "type")]
    pub kind: FileKind,
    pub id: FileId,
    /// Bytes.
    pub size: u64,
}

impl fmt::Display for RepositoryFile {
    /// As in a listing sent to a peer: `pack ID SIZE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.kind.name(), self.id, self.size)
    }
}

impl FromStr for RepositoryFile {
    type Err = Error;

    fn from_str(line: &str) -> Result<RepositoryFile, Error> {
        let mut words = line.split(' ');
        let (Some(kind), Some(id), Some(size), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Error::Backup(format!("{line:?} is no line of a repository's listing")));
        };
        let size = size.parse().map_err(|_| Error::Backup(format!("{size:?} is no size")))?;
        Ok(RepositoryFile { kind: kind.parse()?, id: id.parse()?, size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_nothing_else_is() {
        let id = FileId::of(b"abc");
        assert!(id.to_string().starts_with("ba7816bf"));
        assert_eq!(id.to_string().parse::<FileId>().unwrap(), id);
        for wrong in
            ["", "ba78", &id.to_string().to_uppercase(), &format!("{id}0"), &"é".repeat(32)]
        {
            assert!(wrong.parse::<FileId>().is_err(), "{wrong} was taken");
        }
    }

    #[test]
    fn listings_are_read_back_and_sort_in_the_order_of_copying() {
        let file = |kind, content: &[u8]| RepositoryFile { kind, id: FileId::of(content), size: 7 };
        let mut files = vec![
            file(FileKind::Snapshot, b"a"),
            file(FileKind::Index, b"b"),
            file(FileKind::Pack, b"c"),
        ];
        files.sort();
        assert_eq!(files.iter().map(|file| file.kind).collect::<Vec<_>>(), FileKind::ALL);
        for file in files {
            assert_eq!(file.to_string().parse::<RepositoryFile>().unwrap(), file);
        }
        assert!("pack ../../etc/passwd 3".parse::<RepositoryFile>().is_err());
    }
}
