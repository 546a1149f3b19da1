//! A directory, and the files open in it.

use super::operation::{Operation, SLOTS};
use super::support::system;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{
    DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink,
};
use std::path::{Path, PathBuf};

pub struct World {
    root: PathBuf,
    open: Vec<Option<File>>,
}

/// The errno, or what was answered.
fn told<T>(result: io::Result<T>, tell: impl FnOnce(T) -> String) -> String {
    match result {
        Ok(value) => tell(value),
        Err(error) => format!("{error}"),
    }
}

fn done(result: io::Result<()>) -> String {
    told(result, |()| "done".into())
}

/// A directory's size is every filesystem's own.
fn attributes(of: &fs::Metadata) -> String {
    let size = if of.is_dir() { 0 } else { of.len() };
    let (mode, links, uid, gid) = (of.mode(), of.nlink(), of.uid(), of.gid());
    format!("mode {mode:o}, {links} links, {uid}:{gid}, {size} bytes")
}

fn digest(bytes: &[u8]) -> String {
    let sum = bytes
        .iter()
        .fold(7_u64, |sum, byte| sum.wrapping_mul(1_000_003).wrapping_add(u64::from(*byte)));
    format!("{} bytes, {sum:x}", bytes.len())
}

impl World {
    /// In a directory of its own, so that `..` leads to the same in every world.
    pub fn new(base: &Path) -> World {
        let root = base.join("world");
        for directory in ["", "a", "b", "a/b"] {
            fs::create_dir(root.join(directory)).unwrap();
        }
        World { root, open: (0..SLOTS).map(|_| None).collect() }
    }

    pub fn run(&mut self, operation: &Operation) -> String {
        match operation {
            Operation::Open { .. }
            | Operation::Close { .. }
            | Operation::Read { .. }
            | Operation::Write { .. }
            | Operation::Append { .. }
            | Operation::SetLength { .. }
            | Operation::Allocate { .. }
            | Operation::SeekEnd { .. }
            | Operation::StatOpen { .. } => self.with_open_files(operation),
            _ => self.with_paths(operation),
        }
    }

    fn with_open_files(&mut self, operation: &Operation) -> String {
        let (Operation::Open { slot, .. }
        | Operation::Close { slot }
        | Operation::Read { slot, .. }
        | Operation::Write { slot, .. }
        | Operation::Append { slot, .. }
        | Operation::SetLength { slot, .. }
        | Operation::Allocate { slot, .. }
        | Operation::SeekEnd { slot }
        | Operation::StatOpen { slot }) = operation
        else {
            unreachable!("dispatched by run");
        };
        if let Operation::Open { path, flags, mode, .. } = operation {
            let opened = self.open(path, *flags, *mode);
            return told(opened, |file| {
                self.open[*slot] = file;
                "opened".into()
            });
        }
        let Some(file) = &mut self.open[*slot] else { return "not open".into() };
        match operation {
            Operation::Read { offset, length, .. } => {
                let mut bytes = vec![0; *length];
                told(file.read_at(&mut bytes, *offset), |read| digest(&bytes[..read]))
            }
            Operation::Write { offset, data, .. } => {
                told(file.write_at(data, *offset), |written| format!("{written} written"))
            }
            Operation::Append { data, .. } => {
                let end = system::seek(file, 0, libc::SEEK_END);
                let written = end.and_then(|_| file.write(data));
                told(written, |written| format!("{written} written"))
            }
            Operation::SetLength { length, .. } => done(file.set_len(*length)),
            Operation::Allocate { mode, offset, length, .. } => {
                done(system::fallocate(file, *mode, *offset, *length))
            }
            Operation::SeekEnd { .. } => {
                told(system::seek(file, 0, libc::SEEK_END), |end| format!("at {end}"))
            }
            Operation::StatOpen { .. } => told(file.metadata(), |stat| attributes(&stat)),
            _ => {
                self.open[*slot] = None;
                "closed".into()
            }
        }
    }

    /// A directory is opened and closed again: what can be done with one is done by path.
    fn open(&self, path: &str, flags: i32, mode: u32) -> io::Result<Option<File>> {
        let mut options = OpenOptions::new();
        let access = flags & libc::O_ACCMODE;
        options.read(access != libc::O_WRONLY).write(access != libc::O_RDONLY);
        // Never wait for the other end of a fifo.
        options.mode(mode).custom_flags(flags & !libc::O_ACCMODE | libc::O_NONBLOCK);
        let file = options.open(self.root.join(path))?;
        if flags & libc::O_TRUNC != 0 && file.metadata()?.is_file() {
            // Until the first write, a truncation is seen by who asked for it alone; `fsync` ends
            // that.
            file.sync_all()?;
        }
        Ok(file.metadata()?.is_file().then_some(file))
    }

    fn with_paths(&self, operation: &Operation) -> String {
        let at = |path: &String| self.root.join(path);
        match operation {
            Operation::Truncate { path, length } => done(system::truncate(&at(path), *length)),
            Operation::Stat { path } => {
                told(fs::symlink_metadata(at(path)), |stat| attributes(&stat))
            }
            Operation::List { path } => told(fs::read_dir(at(path)), |listing| {
                let name = |entry: io::Result<fs::DirEntry>| told(entry, |e| format!("{e:?}"));
                let prefix = self.root.display().to_string();
                let mut names: Vec<String> = listing.map(name).collect();
                names.sort();
                names.join(" ").replace(&prefix, "")
            }),
            Operation::MakeDirectory { path, mode } => {
                done(DirBuilder::new().mode(*mode).create(at(path)))
            }
            Operation::MakeFifo { path } => {
                done(system::mknod(&at(path), libc::S_IFIFO | 0o644, 0))
            }
            Operation::RemoveDirectory { path } => done(fs::remove_dir(at(path))),
            Operation::Remove { path } => done(fs::remove_file(at(path))),
            Operation::Rename { from, to, flags } => {
                done(system::rename(&at(from), &at(to), *flags))
            }
            Operation::Link { from, to } => done(fs::hard_link(at(from), at(to))),
            Operation::Symlink { target, path } => done(symlink(target, at(path))),
            Operation::ReadLink { path } => {
                told(fs::read_link(at(path)), |target| target.display().to_string())
            }
            _ => self.with_metadata(operation),
        }
    }

    fn with_metadata(&self, operation: &Operation) -> String {
        let at = |path: &String| self.root.join(path);
        match operation {
            Operation::ChangeMode { path, mode } => {
                done(fs::set_permissions(at(path), Permissions::from_mode(*mode)))
            }
            Operation::ChangeOwner { path, uid, gid } => {
                done(chown(at(path), Some(*uid), Some(*gid)))
            }
            Operation::SetTimes { path, access, modification } => {
                let set = system::set_times(&at(path), *access, *modification);
                let stat = set.and_then(|()| fs::symlink_metadata(at(path)));
                told(stat, |stat| {
                    let given = |(_, nanoseconds): &(i64, i64)| *nanoseconds != libc::UTIME_OMIT;
                    let access = given(access).then(|| (stat.atime(), stat.atime_nsec()));
                    let modification =
                        given(modification).then(|| (stat.mtime(), stat.mtime_nsec()));
                    format!("{access:?} {modification:?}")
                })
            }
            Operation::SetXattr { path, name, value, flags } => {
                done(system::set_xattr(&at(path), name, value, *flags))
            }
            Operation::Xattr { path, name } => {
                told(system::xattr(&at(path), name), |value| digest(&value))
            }
            Operation::Xattrs { path } => told(system::xattrs(&at(path)), |names| {
                let names = String::from_utf8(names).unwrap();
                let mut names: Vec<&str> =
                    names.split('\0').filter(|name| !name.is_empty()).collect();
                names.sort_unstable();
                names.join(" ")
            }),
            Operation::RemoveXattr { path, name } => done(system::remove_xattr(&at(path), name)),
            other => unreachable!("{other:?} is dispatched before"),
        }
    }

    /// Every path with its attributes and content, sorted.
    pub fn everything(&self) -> String {
        let mut lines = Vec::new();
        let mut waiting = vec![self.root.clone()];
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                let stat = fs::symlink_metadata(&path).unwrap();
                let content = match stat.file_type() {
                    kind if kind.is_file() => digest(&fs::read(&path).unwrap()),
                    kind if kind.is_symlink() => format!("{:?}", fs::read_link(&path).unwrap()),
                    kind if kind.is_dir() => {
                        waiting.push(path.clone());
                        String::new()
                    }
                    _ => String::new(),
                };
                let name = path.strip_prefix(&self.root).unwrap().display();
                lines.push(format!("{name}: {} {content}", attributes(&stat)));
            }
        }
        lines.sort();
        lines.join("\n")
    }
}
