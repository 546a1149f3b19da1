//! Memory that is free goes back to the system.
//!
//! glibc keeps what was freed: large pieces in the arena of the thread that took them, and of an
//! arena all that lies below a piece still in use. After a load of large files an empty tree was
//! left with 470 MB. So, when nothing is going on, the allocator is asked to give back every page
//! that holds nothing, if there is reason to think there are some.

use crate::cluster::Cluster;
use crate::node::Node;
use std::time::{Duration, Instant};

/// Pieces of at least this many bytes go back as soon as they are free: what a large write or a
/// backup passes through memory.
#[cfg(target_env = "gnu")]
const LARGE_BYTES: libc::c_int = 256 << 10;
/// How often there is a look.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Nothing was committed between so many looks: nobody is kept waiting by the allocator's locks.
/// Where something always is, it happens all the same after the second number.
const QUIET_LOOKS: u32 = 1;
const LOOKS_MAX: u32 = 12;
/// Growth that is not asked back, bytes.
const SLACK_BYTES: u64 = 16 << 20;
/// What an inode takes beyond its name and data, bytes: about.
const INODE_BYTES: u64 = 200;

/// When to ask.
pub struct Memory {
    looked: Instant,
    zxid: u64,
    /// Looks since the last time, and those of them that found nothing committed, in a row.
    looks: u32,
    quiet: u32,
    /// What this process holds beyond its tree, as it was after the last time, bytes.
    kept: u64,
}

impl Memory {
    pub fn new() -> Memory {
        set_large();
        Memory { looked: Instant::now(), zxid: 0, looks: 0, quiet: 0, kept: 0 }
    }

    /// To be called again and again; costs nothing most times.
    pub fn look(&mut self, node: &Node) {
        if self.looked.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        let (zxid, in_tree) = {
            let tree = node.tree();
            let usage = tree.usage();
            (tree.zxid(), usage.bytes + usage.inodes * INODE_BYTES)
        };
        let Some(resident) = resident_bytes() else { return };
        let beyond = resident.saturating_sub(in_tree);
        if self.is_time(zxid, beyond) {
            give_back();
            self.kept = resident_bytes().unwrap_or(resident).saturating_sub(in_tree);
            log::debug!("memory: {resident} bytes were resident, now {}", self.kept + in_tree);
        }
    }

    /// Whether to give back now, `zxid` being the newest entry and `beyond` the bytes that are not
    /// the tree's.
    fn is_time(&mut self, zxid: u64, beyond: u64) -> bool {
        self.quiet = if zxid == self.zxid { self.quiet + 1 } else { 0 };
        self.zxid = zxid;
        self.looks += 1;
        self.kept = self.kept.min(beyond);
        let worth_it = beyond >= self.kept + SLACK_BYTES;
        let due = worth_it && (self.quiet >= QUIET_LOOKS || self.looks >= LOOKS_MAX);
        if due {
            self.looks = 0;
        }
        due
    }
}

fn set_large() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number in the allocator; refused, it stays as it is.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
    }
}

fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number, and touches nothing but free memory.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        Memory { looked: Instant::now(), zxid: 7, looks: 0, quiet: 0, kept: 20 << 20 }
    }

    #[test]
    fn it_is_given_back_when_it_has_grown_and_nothing_is_going_on() {
        let mut memory = memory();
        assert!(!memory.is_time(7, 30 << 20), "not worth it");
        assert!(memory.is_time(7, 400 << 20));
        assert!(!memory.is_time(8, 400 << 20), "busy");
        assert!(memory.is_time(8, 400 << 20));
    }

    #[test]
    fn those_who_never_rest_are_not_spared_for_ever() {
        let mut memory = memory();
        let times = (8..68).filter(|zxid| memory.is_time(*zxid, 400 << 20)).count();
        assert_eq!(times, 60 / LOOKS_MAX as usize);
    }

    #[test]
    fn this_process_is_resident() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
