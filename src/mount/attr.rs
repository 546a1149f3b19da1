//! Znodes as the kernel wants to see them, and how long it may believe what it was told.

use crate::tree::{Attributes, Ino, Kind, Role, TimeOrStamp, Tree};
use fuser::{FileAttr, FileType, Generation, INodeNo, TimeOrNow};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the kernel may believe an entry, an absence or attributes: as good as for ever, since
/// each change is carried to it. A bound all the same, so that nothing outlives a bug for long.
pub const TTL: Duration = Duration::from_secs(3600);
/// Ask again each time.
pub const TTL_NONE: Duration = Duration::ZERO;
/// Inode numbers are never reused.
pub const GENERATION: Generation = Generation(0);
/// Large enough that tools read a default-sized file in a few calls.
pub const BLOCK_BYTES: u32 = 128 << 10;

pub fn file_attr(attributes: &Attributes) -> FileAttr {
    FileAttr {
        ino: INodeNo(attributes.ino.0),
        size: attributes.size,
        blocks: attributes.size.div_ceil(512),
        atime: system_time(attributes.atime),
        mtime: system_time(attributes.mtime),
        ctime: system_time(attributes.ctime),
        crtime: UNIX_EPOCH,
        kind: file_type(attributes.kind),
        perm: (attributes.mode & 0o7777) as u16,
        nlink: attributes.links,
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: attributes.rdev,
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

/// The entry that says "no such name" and may be cached: inode number zero.
pub fn absent() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

pub fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File | Kind::Stream => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

/// Whether the kernel may keep names of this directory. Not where they come and go without the
/// kernel's own doing: tickets of a queue, numbered names, snapshots. Then no such name ever needs
/// to be invalidated, which would have to wait for the directory's kernel lock.
pub fn names_are_kept(tree: &Tree, directory: Ino) -> bool {
    let Some(attributes) = tree.attributes(directory) else { return false };
    match attributes.role {
        Role::Lock | Role::Sequential => false,
        Role::Plain | Role::Ephemeral | Role::Locks => !is_snapshots(tree, directory),
    }
}

/// `/backup/node/NAME` and what is in it.
fn is_snapshots(tree: &Tree, directory: Ino) -> bool {
    let Some(parent) = tree.parent(directory) else { return false };
    parent == Ino::BACKUP_NODE || tree.parent(parent) == Some(Ino::BACKUP_NODE)
}

fn system_time(nanos: i64) -> SystemTime {
    let span = Duration::from_nanos(nanos.unsigned_abs());
    if nanos >= 0 { UNIX_EPOCH + span } else { UNIX_EPOCH - span }
}

/// A time from `utimensat`. fuser 0.18 reads a moment before the epoch as `-(seconds) -
/// nanoseconds` where the kernel means `-(seconds) + nanoseconds`; this undoes it.
pub fn time_to_set(time: TimeOrNow) -> TimeOrStamp {
    let time = match time {
        TimeOrNow::Now => return TimeOrStamp::Stamp,
        TimeOrNow::SpecificTime(time) => time,
    };
    let nanos = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => {
            let before = before.duration();
            let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            i64::from(before.subsec_nanos()) - seconds.saturating_mul(1_000_000_000)
        }
    };
    TimeOrStamp::Time(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_the_epoch_survives_the_way_through_fuser() {
        // The kernel sends 1.75 seconds before the epoch as -2 s + 250,000,000 ns.
        let as_fuser_reads_it = UNIX_EPOCH - Duration::new(2, 250_000_000);
        let set = time_to_set(TimeOrNow::SpecificTime(as_fuser_reads_it));
        assert_eq!(set, TimeOrStamp::Time(-1_750_000_000));
        assert_eq!(system_time(-1_750_000_000), UNIX_EPOCH - Duration::new(1, 750_000_000));
    }
}
