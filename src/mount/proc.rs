//! The one door to what `/proc` says of processes, ordered by what may wait.
//!
//! A process that closes a file of ours in `execve` holds its exec lock until we have answered, and
//! what the kernel guards by that lock (`stat io maps environ wchan stack auxv`, and the links `exe
//! cwd root fd/N ns/*`) waits for it, unkillably. Nothing of that kind is read here, but for
//! [`stat_of_exiting`], which says why it may be. `tests/tidy/` keeps everyone else away.
//!
//! Ids are of the daemon's pid namespace, as the kernel puts them into requests. Where a process is
//! meant, any of its threads will do.

use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;

// Never waits, so it may be read anywhere, also before a request is answered.

/// `status` of a process or thread: who it is, its parent, its signals. `None` once it is gone. The
/// name in it need not have been UTF-8.
pub fn status(id: u32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{id}/status")).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What is mounted, as its root directory lets a process see it: the lines of `mountinfo`.
pub fn mount_table(id: u32) -> Vec<u8> {
    fs::read(format!("/proc/{id}/mountinfo")).unwrap_or_default()
}

/// [`mount_table`] of this process.
pub fn own_mount_table() -> Vec<u8> {
    fs::read("/proc/self/mountinfo").unwrap_or_default()
}

/// `fdinfo` of a descriptor of this process.
pub fn own_descriptor(number: RawFd) -> Option<String> {
    fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()
}

/// A path to what a descriptor of this process has open. To follow one's own waits for nobody.
pub fn own_descriptor_path(number: RawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{number}"))
}

/// A process among all that ever were: its number comes back after it, but not with the same mark.
/// One process may be given another mark when the kernel is short of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub id: u32,
    mark: u64,
}

/// Every process, in no order.
pub fn all_processes() -> impl Iterator<Item = Process> {
    use std::os::unix::fs::DirEntryExt;
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| {
        let entry = entry.ok()?;
        Some(Process { id: entry.file_name().to_str()?.parse().ok()?, mark: entry.ino() })
    })
}

// Costs some microseconds a descriptor. To look at one holds its file for a moment, and who closes
// it meanwhile leaves the last step to us, which another filesystem may make slow: not for a thread
// that serves requests.

/// A descriptor of a process, as it was when they were listed.
pub struct Descriptor {
    process: u32,
    number: String,
}

impl Descriptor {
    /// Its `fdinfo`: position, flags, the ids of mount and inode.
    pub fn info(&self) -> Option<String> {
        fs::read_to_string(format!("/proc/{}/fdinfo/{}", self.process, self.number)).ok()
    }
}

/// The descriptors of a process by number, the lowest first. `PermissionDenied` where the daemon
/// may not look.
pub fn descriptors(id: u32) -> io::Result<impl Iterator<Item = Descriptor>> {
    let entries = fs::read_dir(format!("/proc/{id}/fdinfo"))?;
    Ok(entries.filter_map(move |entry| {
        Some(Descriptor { process: id, number: entry.ok()?.file_name().into_string().ok()? })
    }))
}

// Waits for the process's memory: for whoever changes its mappings, and for the filesystem a page
// of it comes from, which may be this one. Not for a thread that serves requests.

/// Its arguments, NUL after each; empty for a kernel thread or a process that is gone.
pub fn command_line_may_wait(id: u32) -> Vec<u8> {
    fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default()
}

/// `stat` of a thread that is exiting: one that its `status` shows without memory, and that waits
/// for an answer of ours, so that it stands where it stood. It does not execute a program any more,
/// so nobody holds its exec lock for us.
pub fn stat_of_exiting(id: u32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{id}/stat")).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
