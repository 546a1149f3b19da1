//! Every bound of keepfs, with its reason. A bound that operators may change is the default of a
//! field of [`crate::config::Config`]; the others are promises to scripts and peers.

/// Longest name of an entry, bytes. POSIX `NAME_MAX`; the kernel refuses longer ones itself.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest symlink target, bytes (`PATH_MAX`, with its NUL).
pub const SYMLINK_BYTES_MAX: usize = 4095;
/// A file's data, bytes: every write is replicated whole through the log. Over it: EFBIG.
pub const FILE_BYTES_DEFAULT: u64 = 1 << 20;
/// Upper end of `max_file_size`, bytes: one log entry has to stay far below a peer frame.
pub const FILE_BYTES_MAX: u64 = 16 << 20;
/// All file data, names and xattrs of the tree together, bytes. Over it: ENOSPC.
pub const TREE_BYTES_DEFAULT: u64 = 2 << 30;
/// Inodes in the tree. Over it: ENOSPC. At 250 bytes each this is 1 GiB on every replica.
pub const INODES_DEFAULT: u64 = 4 << 20;
/// Hard links to one inode (as ext4). Over it: EMLINK.
pub const LINKS_MAX: u32 = 65_000;
/// One user xattr: name (Linux `XATTR_NAME_MAX`).
pub const XATTR_NAME_BYTES_MAX: usize = 255;
/// One user xattr: value, bytes.
pub const XATTR_VALUE_BYTES_MAX: usize = 4096;
/// All user xattrs of one inode together, bytes.
pub const XATTRS_BYTES_MAX: usize = 16 << 10;
/// Tickets of one `lock` directory; holders and waiters of one file that all want the whole file
/// and have nothing else there (`flock`). Over it: ENOLCK.
pub const LOCK_QUEUE_MAX: usize = 65_536;
/// Ranges held and waited for in one file, if any is less than the whole file or not the only one
/// of its owner: then every pair may have to be compared for one change. Over it: ENOLCK.
pub const RANGES_MAX: usize = 1024;
/// What one entry of the log may do beside what it asks for, in removals, releases and grants: the
/// rest of what a session leaves, or of a removed directory, waits for later entries. At a few
/// microseconds each, nobody waits for long.
pub const WORK_IN_ONE_ENTRY_MAX: usize = 1000;
/// Sessions, those that ended and are not cleared away yet included. Over it: ENOSPC. A file that
/// is unlinked is remembered for each of them.
pub const SESSIONS_MAX: usize = 4096;
/// Directories above one that is moved. Over it: ENAMETOOLONG. Twice what a path can name.
pub const DEPTH_MAX: usize = 4096;
/// Proposals of one session that may be unanswered at once; also the answers remembered for it.
pub const PROPOSALS_IN_FLIGHT_MAX: usize = 4096;
/// Changes that wait for a mount's notifier, which may hang in its kernel: some 150 MB. Beyond, the
/// mount forgets everything it knows when it listens again.
pub const CHANGES_UNHEARD_MAX: usize = 1 << 19;
/// Largest frame between replicas, bytes: one full file and its envelope, with room.
pub const PEER_FRAME_BYTES_MAX: usize = 64 << 20;
/// Replicas in one cluster: beyond seven, commits cost more than the added copies are worth.
pub const REPLICAS_MAX: usize = 7;

/// One pack of a backup repository, bytes. Several are in memory while a stream is written; with
/// restic's default they would grow with the repository.
pub const BACKUP_PACK_BYTES: u64 = 16 << 20;
/// What a reader of a backup is read ahead, bytes; three such windows are in memory.
pub const BACKUP_WINDOW_BYTES: u64 = 4 << 20;
/// What backups and the snapshots of others leave of a large disk, bytes: without room for its log,
/// a replica stops.
pub const RESERVE_BYTES: u64 = 1 << 30;
/// What they leave of a disk where that is less: one part in so many.
pub const RESERVE_SHARE: u64 = 20;
