//! `.keepfs/` at the root: what a mount knows, as text. Answered from memory, with no quorum too.
//!
//! The directory is found by name but not listed, so that `find`, `cp -a` and `du` leave it alone.
//! A file's text is made when it is opened and stays as it is for that descriptor.

mod listings;
mod text;

pub use listings::{Listings, Text};
pub use text::{members as members_table, status as status_text, table};

use crate::cluster::Cluster;
use crate::tree::Ino;

/// The directory's name in the root.
pub const DIRECTORY_NAME: &[u8] = b".keepfs";
/// Its inode number, above all that a tree gives; its files follow.
pub const DIRECTORY: Ino = Ino(1 << 62);

/// One file of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ControlFile {
    Status,
    StatusJson,
    Members,
    Leader,
    Sessions,
    Locks,
    Metrics,
    Version,
    Limits,
}

impl ControlFile {
    pub const ALL: [ControlFile; 9] = [
        ControlFile::Status,
        ControlFile::StatusJson,
        ControlFile::Members,
        ControlFile::Leader,
        ControlFile::Sessions,
        ControlFile::Locks,
        ControlFile::Metrics,
        ControlFile::Version,
        ControlFile::Limits,
    ];

    pub fn name(self) -> &'static str {
        match self {
            ControlFile::Status => "status",
            ControlFile::StatusJson => "status.json",
            ControlFile::Members => "members",
            ControlFile::Leader => "leader",
            ControlFile::Sessions => "sessions",
            ControlFile::Locks => "locks",
            ControlFile::Metrics => "metrics",
            ControlFile::Version => "version",
            ControlFile::Limits => "limits",
        }
    }

    pub fn named(name: &[u8]) -> Option<ControlFile> {
        ControlFile::ALL.into_iter().find(|file| file.name().as_bytes() == name)
    }

    pub fn ino(self) -> Ino {
        Ino(DIRECTORY.0 + 1 + self as u64)
    }

    pub fn with_ino(ino: Ino) -> Option<ControlFile> {
        let index = ino.0.checked_sub(DIRECTORY.0 + 1)?;
        ControlFile::ALL.get(usize::try_from(index).ok()?).copied()
    }

    /// Whether it lists what there may be a hundred thousand of: [`Listings`] makes it.
    pub fn is_listing(self) -> bool {
        matches!(self, ControlFile::Sessions | ControlFile::Locks)
    }

    /// What it says now; nothing, if it is a listing. The tree is asked for numbers only.
    pub fn render(self, cluster: &dyn Cluster) -> Vec<u8> {
        match self {
            ControlFile::Status => text::status(&cluster.status()),
            ControlFile::StatusJson => text::status_json(&cluster.status()),
            ControlFile::Members => text::members(&cluster.status().members),
            ControlFile::Leader => text::leader(&cluster.status()),
            ControlFile::Metrics => cluster.metrics(),
            ControlFile::Version => text::version(),
            ControlFile::Limits => text::limits(&cluster.tree().usage()),
            ControlFile::Sessions | ControlFile::Locks => String::new(),
        }
        .into_bytes()
    }
}

/// Whether this inode is of the control directory.
pub fn is_control(ino: Ino) -> bool {
    ino == DIRECTORY || ControlFile::with_ino(ino).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_found_by_its_name_and_its_number() {
        for file in ControlFile::ALL {
            assert_eq!(ControlFile::named(file.name().as_bytes()), Some(file));
            assert_eq!(ControlFile::with_ino(file.ino()), Some(file));
            assert!(is_control(file.ino()));
        }
        assert!(is_control(DIRECTORY) && !is_control(Ino::ROOT));
        assert_eq!(ControlFile::with_ino(Ino(DIRECTORY.0 + 10)), None);
    }
}
