//! Who has a file of this mount open for writing, told from `/proc` alone: to `stat` a descriptor
//! would ask this very daemon.
//!
//! `/proc/PID/fdinfo` has a descriptor's inode number and the id of its mount. Other mounts have
//! files of the same number and name; which filesystem a mount shows, mount tables tell by its
//! device number. Bind mounts and other mount namespaces have ids of their own for it, so each
//! namespace's table is read, once a search.

use crate::mount::mounts::{self, Mounted};
use crate::mount::processes::{self, field};
use crate::tree::Ino;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A file, as the kernel tells it from others.
#[derive(Clone, Copy)]
pub struct OpenFile<'a> {
    /// `MAJOR:MINOR` of the filesystem; `None` if the mount table did not show it, and then files
    /// of any mount are taken for this one.
    pub device: Option<&'a str>,
    pub ino: Ino,
    /// The last part of its path: spares a look at nearly all other descriptors.
    pub name: &'a str,
}

/// Whether any process but this one has the file open for writing. A descriptor that `closer` is
/// closing has left its table already. The shell that started the writers is the likeliest holder.
pub fn is_held(file: OpenFile<'_>, closer: Option<u32>) -> bool {
    let mut search = Search { file, tables: BTreeMap::new() };
    let likeliest = closer.into_iter().flat_map(processes::with_ancestors);
    likeliest
        .chain(processes::all_processes())
        .filter(|&process| process != std::process::id())
        .any(|process| search.is_writer(process))
}

struct Search<'a> {
    file: OpenFile<'a>,
    /// By mount namespace, as `/proc/PID/ns/mnt` names it.
    tables: BTreeMap<PathBuf, Table>,
}

/// What matters of a namespace's mount table.
struct Table {
    /// Whether the mount of this id shows the file's filesystem.
    shows: BTreeMap<u32, bool>,
    /// Where the file itself is mounted, so that it goes by another name.
    points: Vec<PathBuf>,
}

impl Search<'_> {
    fn is_writer(&mut self, process: u32) -> bool {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
        let Some(namespace) = self.read_table_of(process) else { return false };
        descriptors.flatten().any(|descriptor| {
            let named = fs::read_link(descriptor.path())
                .is_ok_and(|path| self.may_be_called(&path, &namespace));
            named && {
                let number = descriptor.file_name();
                let info = format!("/proc/{process}/fdinfo/{}", number.to_string_lossy());
                fs::read_to_string(info).is_ok_and(|info| self.is_writing(&info))
            }
        })
    }

    /// Reads the mount table of a process's namespace unless it is known; the namespace.
    fn read_table_of(&mut self, process: u32) -> Option<PathBuf> {
        let namespace = fs::read_link(format!("/proc/{process}/ns/mnt")).ok()?;
        if !self.tables.contains_key(&namespace) {
            let table = Table::of(mounts::seen_by(process), self.file);
            self.tables.insert(namespace.clone(), table);
        }
        Some(namespace)
    }

    fn may_be_called(&self, path: &Path, namespace: &Path) -> bool {
        path.ends_with(self.file.name)
            || self.tables[namespace].points.iter().any(|point| point == path)
    }

    fn is_writing(&mut self, fdinfo: &str) -> bool {
        let flags = field(fdinfo, "flags:").and_then(|flags| i32::from_str_radix(flags, 8).ok());
        field(fdinfo, "ino:").is_some_and(|text| text.parse() == Ok(self.file.ino.0))
            && flags.is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
            && field(fdinfo, "mnt_id:")
                .and_then(|text| text.parse().ok())
                .is_none_or(|mount| self.shows_the_filesystem(mount))
    }

    /// Most often the first table says so. A descriptor may have come from another namespace, or
    /// from outside the root directory its process has; what no table names was detached
    /// (`umount -l`), and is taken for ours.
    fn shows_the_filesystem(&mut self, mount: u32) -> bool {
        if self.file.device.is_none() {
            return true;
        }
        let find = |search: &Self| {
            search.tables.values().find_map(|table| table.shows.get(&mount).copied())
        };
        let mut found = find(self);
        let mut others = std::iter::once(std::process::id()).chain(processes::all_processes());
        while found.is_none()
            && let Some(process) = others.next()
        {
            let known = self.tables.len();
            self.read_table_of(process);
            if self.tables.len() > known {
                found = find(self);
            }
        }
        found.unwrap_or(true)
    }
}

impl Table {
    fn of(mounted: Vec<Mounted>, file: OpenFile<'_>) -> Table {
        let mut table = Table { shows: BTreeMap::new(), points: Vec::new() };
        for Mounted { id, device, root, point, .. } in mounted {
            let shows = file.device == Some(&*device);
            table.shows.insert(id, shows);
            if shows && root.ends_with(file.name) {
                table.points.push(point);
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::process::{Child, Command};

    struct Holder {
        child: Child,
        ino: Ino,
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
        let file = fs::File::create(directory.path().join("backup")).unwrap();
        let ino = Ino(file.metadata().unwrap().ino());
        let child = Command::new("sleep").arg("60").stdout(file).spawn().unwrap();
        Holder { child, ino, _directory: directory }
    }

    #[test]
    fn a_holder_has_the_inode_and_the_name() {
        let holder = holder();
        let file = OpenFile { device: None, ino: holder.ino, name: "backup" };
        assert!(is_held(file, None));
        assert!(!is_held(OpenFile { name: "other", ..file }, None));
        assert!(!is_held(OpenFile { ino: Ino(holder.ino.0 + 1), ..file }, None));
        drop(holder);
        assert!(!is_held(file, None));
    }

    #[test]
    fn a_holder_has_it_on_the_same_filesystem() {
        let holder = holder();
        let info = fs::read_to_string(format!("/proc/{}/fdinfo/1", holder.child.id())).unwrap();
        let id: u32 = field(&info, "mnt_id:").unwrap().parse().unwrap();
        let mounted = mounts::all().into_iter().find(|mounted| mounted.id == id).unwrap();
        let device = Some(mounted.device.as_str());
        let file = OpenFile { device, ino: holder.ino, name: "backup" };
        assert!(is_held(file, None));
        assert!(!is_held(OpenFile { device: Some("0:0"), ..file }, None));
    }

    #[test]
    fn only_a_descriptor_for_writing_of_this_inode_counts() {
        let file = OpenFile { device: None, ino: Ino(77), name: "backup" };
        let mut search = Search { file, tables: BTreeMap::new() };
        let mut counts = |flags: &str, ino: u64| {
            search.is_writing(&format!("pos:\t0\nflags:\t{flags}\nmnt_id:\t29\nino:\t{ino}\n"))
        };
        assert!(counts("0100001", 77));
        assert!(counts("0100002", 77));
        assert!(!counts("0100000", 77));
        assert!(!counts("0100001", 78));
    }

    #[test]
    fn a_mount_that_no_table_names_may_be_ours() {
        let file = OpenFile { device: Some("0:7"), ino: Ino(1), name: "backup" };
        let mut search = Search { file, tables: BTreeMap::new() };
        assert!(search.shows_the_filesystem(u32::MAX));
        let named = mounts::all()[0].id;
        assert!(!search.shows_the_filesystem(named));
    }

    #[test]
    fn a_file_that_is_mounted_elsewhere_goes_by_that_name() {
        let mounted = |id, device: &str, root: &str| Mounted {
            id,
            device: device.into(),
            root: root.into(),
            point: format!("/point{id}").into(),
            kind: mounts::TYPE.into(),
            source: "keepfs".into(),
        };
        let all = vec![
            mounted(1, "0:7", "/"),
            mounted(2, "0:7", "/backup/node/db/backup"),
            mounted(3, "0:8", "/backup/node/db/backup"),
        ];
        let file = OpenFile { device: Some("0:7"), ino: Ino(1), name: "backup" };
        let table = Table::of(all, file);
        assert_eq!(table.points, [Path::new("/point2")]);
        assert_eq!(table.shows.into_iter().collect::<Vec<_>>(), [(1, true), (2, true), (3, false)]);
    }
}
