//! `.keepfs/` at the root: what a mount knows, as text. Answered from memory, with no quorum too.
//!
//! The directory is found by name but not listed, so that `find`, `cp -a` and `du` leave it alone.
//! A file's text is made when it is opened and stays as it is for that descriptor.

mod text;

use crate::node::Node;
use crate::tree::{Ino, Stamp};

/// The directory's name in the root.
pub const DIRECTORY_NAME: &[u8] = b".keepfs";
/// Its inode number, above all that a tree gives; its files follow.
pub const DIRECTORY: Ino = Ino(1 << 62);

/// One file of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    /// What it says at the moment `now`.
    pub fn render(self, node: &Node, now: Stamp) -> Vec<u8> {
        match self {
            ControlFile::Status => text::status(&node.status()),
            ControlFile::StatusJson => text::status_json(&node.status()),
            ControlFile::Members => text::members(&node.status().members),
            ControlFile::Leader => text::leader(&node.status()),
            ControlFile::Sessions => {
                let (sessions, own) = (node.tree().sessions(), node.session());
                text::sessions(&sessions, own, now)
            }
            ControlFile::Locks => text::locks(&locks(node), now),
            ControlFile::Metrics => node.metrics(),
            ControlFile::Version => text::version(),
            ControlFile::Limits => text::limits(&node.tree().usage()),
        }
        .into_bytes()
    }
}

/// Whether this inode is of the control directory.
pub fn is_control(ino: Ino) -> bool {
    ino == DIRECTORY || ControlFile::with_ino(ino).is_some()
}

fn locks(node: &Node) -> Vec<text::Lock> {
    let tree = node.tree();
    let described = tree.locks().into_iter().map(|view| text::Lock {
        path: tree.path(view.ino).unwrap_or_default(),
        host: tree.session(view.session).map(|session| session.host).unwrap_or_default(),
        view,
    });
    described.collect()
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
