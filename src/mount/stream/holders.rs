//! Who has a stream open for writing, told from `/proc` alone: to `stat` a descriptor would ask
//! this very daemon, or another filesystem.
//!
//! Only who opened the stream, wrote to it or closed it can have it, and who was started since: a
//! descriptor passes to children. (One that is sent through a socket to an older process is not
//! known of before that process writes.)
//!
//! `/proc/PID/fdinfo` has a descriptor's inode number and the id of its mount. Other mounts have
//! files of the same number; which filesystem a mount shows, mount tables tell by its device
//! number. Bind mounts and other mount namespaces have ids of their own for it, so a table of a
//! process that sees the mount is read.

use crate::mount::mounts;
use crate::mount::proc::{self, Process};
use crate::mount::processes::{self, field};
use crate::tree::Ino;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;

/// A file, as the kernel tells it from others.
#[derive(Clone, Copy)]
pub struct OpenFile<'a> {
    /// `MAJOR:MINOR` of the filesystem; `None` if the mount table did not show it, and then files
    /// of any mount are taken for this one.
    pub device: Option<&'a str>,
    pub ino: Ino,
}

/// Who may have a stream open.
#[derive(Clone)]
pub struct Suspects {
    /// Whoever was there before it was opened, sorted.
    older: Arc<[Process]>,
    /// Who asked something through it, also those that are gone.
    known: BTreeSet<u32>,
}

impl Suspects {
    /// To be made before the stream is open.
    pub fn of_opener(opener: Option<u32>) -> Suspects {
        let mut older: Vec<Process> = proc::all_processes().collect();
        older.sort_unstable();
        Suspects { older: older.into(), known: opener.into_iter().collect() }
    }

    /// This process asks something through the stream.
    pub fn note(&mut self, process: u32) {
        self.known.insert(process);
    }

    pub fn knows(&self, process: u32) -> bool {
        self.known.contains(&process)
    }

    /// The likeliest first: the shell that opened the stream and started the writers.
    fn all(&self) -> impl Iterator<Item = u32> {
        let is_known = |process: &Process| self.knows(process.id);
        let (known, others): (Vec<_>, Vec<_>) = proc::all_processes().partition(is_known);
        let is_newer = |process: &Process| self.older.binary_search(process).is_err();
        let newer = others.into_iter().filter(is_newer);
        known.into_iter().chain(newer).map(|process| process.id)
    }

    fn descends_from_known(&self, process: u32) -> bool {
        processes::with_ancestors(process).any(|ancestor| self.knows(ancestor))
    }
}

/// Whether any process but this one has the file open for writing. A descriptor that is being
/// closed has left its process's table already.
pub fn is_held(file: OpenFile<'_>, suspects: &Suspects) -> bool {
    let mut search = Search { file, suspects, shows: BTreeMap::new() };
    suspects
        .all()
        .filter(|&process| process != std::process::id())
        .any(|process| search.is_writer(process))
}

struct Search<'a> {
    file: OpenFile<'a>,
    suspects: &'a Suspects,
    /// Whether the mount of this id shows the file's filesystem, of the tables read so far.
    shows: BTreeMap<u32, bool>,
}

impl Search<'_> {
    /// A set-id program's descriptors are hidden from a daemon that is not root's: if the stream
    /// may have come to it, it has it.
    fn is_writer(&mut self, process: u32) -> bool {
        match proc::descriptors(process) {
            Ok(descriptors) => descriptors
                .into_iter()
                .filter_map(|descriptor| descriptor.info())
                .any(|info| self.is_writing(process, &info)),
            Err(error) => {
                error.kind() == ErrorKind::PermissionDenied
                    && self.suspects.descends_from_known(process)
            }
        }
    }

    fn is_writing(&mut self, process: u32, fdinfo: &str) -> bool {
        let flags = field(fdinfo, "flags:").and_then(|flags| i32::from_str_radix(flags, 8).ok());
        field(fdinfo, "ino:").is_some_and(|text| text.parse() == Ok(self.file.ino.0))
            && flags.is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
            && field(fdinfo, "mnt_id:")
                .and_then(|text| text.parse().ok())
                .is_none_or(|mount| self.shows_the_filesystem(process, mount))
    }

    /// Most often the holder's own table says so. A descriptor may have come from another
    /// namespace, or from outside the root directory its process has; what no table names was
    /// detached (`umount -l`), and is taken for ours.
    fn shows_the_filesystem(&mut self, holder: u32, mount: u32) -> bool {
        let Some(device) = self.file.device else { return true };
        let everyone = proc::all_processes().map(|process| process.id);
        let mut tables = [holder, std::process::id()].into_iter().chain(everyone);
        while !self.shows.contains_key(&mount)
            && let Some(process) = tables.next()
        {
            let table = mounts::seen_by(process).into_iter();
            self.shows.extend(table.map(|mounted| (mounted.id, mounted.device == device)));
        }
        self.shows.get(&mount).copied().unwrap_or(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::process::{Child, Command};

    struct Holder {
        child: Child,
        ino: Ino,
        suspects: Suspects,
        _directory: tempfile::TempDir,
    }

    impl Drop for Holder {
        fn drop(&mut self) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }

    fn holder() -> Holder {
        let directory = tempfile::tempdir().unwrap();
        let suspects = Suspects::of_opener(None);
        let file = fs::File::create(directory.path().join("backup")).unwrap();
        let ino = Ino(file.metadata().unwrap().ino());
        let child = Command::new("sleep").arg("60").stdout(file).spawn().unwrap();
        Holder { child, ino, suspects, _directory: directory }
    }

    #[test]
    fn a_holder_has_the_inode() {
        let holder = holder();
        let file = OpenFile { device: None, ino: holder.ino };
        let suspects = &holder.suspects;
        assert!(is_held(file, suspects));
        assert!(!is_held(OpenFile { ino: Ino(holder.ino.0 + 1), ..file }, suspects));
        drop(holder);
        assert!(!is_held(file, &Suspects::of_opener(None)));
    }

    #[test]
    fn a_process_that_was_there_before_is_looked_at_once_it_is_known() {
        let holder = holder();
        let file = OpenFile { device: None, ino: holder.ino };
        let mut later = Suspects::of_opener(None);
        assert!(!is_held(file, &later));
        assert!(!later.descends_from_known(holder.child.id()));
        later.note(std::process::id());
        assert!(later.descends_from_known(holder.child.id()));
        later.note(holder.child.id());
        assert!(is_held(file, &later));
    }

    #[test]
    fn a_holder_has_it_on_the_same_filesystem() {
        let holder = holder();
        let mut descriptors = proc::descriptors(holder.child.id()).unwrap();
        let info = descriptors.nth(1).unwrap().info().unwrap();
        let id: u32 = field(&info, "mnt_id:").unwrap().parse().unwrap();
        let mounted = mounts::all().into_iter().find(|mounted| mounted.id == id).unwrap();
        let device = Some(mounted.device.as_str());
        let file = OpenFile { device, ino: holder.ino };
        assert!(is_held(file, &holder.suspects));
        assert!(!is_held(OpenFile { device: Some("0:0"), ..file }, &holder.suspects));
    }

    #[test]
    fn only_a_descriptor_for_writing_of_this_inode_counts() {
        let file = OpenFile { device: None, ino: Ino(77) };
        let suspects = &Suspects::of_opener(None);
        let mut search = Search { file, suspects, shows: BTreeMap::new() };
        let mut counts = |flags: &str, ino: u64| {
            search.is_writing(0, &format!("pos:\t0\nflags:\t{flags}\nmnt_id:\t29\nino:\t{ino}\n"))
        };
        assert!(counts("0100001", 77));
        assert!(counts("0100002", 77));
        assert!(!counts("0100000", 77));
        assert!(!counts("0100001", 78));
    }

    #[test]
    fn a_mount_that_no_table_names_may_be_ours() {
        let file = OpenFile { device: Some("0:7"), ino: Ino(1) };
        let suspects = &Suspects::of_opener(None);
        let mut search = Search { file, suspects, shows: BTreeMap::new() };
        assert!(search.shows_the_filesystem(0, u32::MAX));
        let named = mounts::all()[0].id;
        assert!(!search.shows_the_filesystem(0, named));
    }
}
