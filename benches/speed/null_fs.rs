//! A FUSE filesystem that does nothing but answer: one flat directory of names, data that is
//! counted and dropped. What an operation costs here, no FUSE filesystem gets below.

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};
use keepfs::error::Error;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The first argument of the process that serves it; the mount point is the second.
pub const VERB: &str = "null-fs";

/// Serves the null filesystem at `dir` until standard input ends: whoever started this process
/// holds the other end, so it outlives nobody.
pub fn serve(dir: &Path) -> Result<(), Error> {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("keepfs-null".into())];
    let mounted =
        fuser::spawn_mount(NullFs::default(), dir, &config).map_err(Error::file("mount", dir))?;
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    mounted.umount_and_join().map_err(Error::file("unmount", dir))
}

/// As good as for ever: nothing changes but through this mount.
const TTL: Duration = Duration::from_secs(3600);
const FILE_SIZE: u64 = 100;

#[derive(Default)]
struct NullFs {
    names: Mutex<Names>,
}

#[derive(Default)]
struct Names {
    inodes: BTreeMap<OsString, u64>,
    last: u64,
}

impl Names {
    fn create(&mut self, name: &OsStr) -> u64 {
        self.last = self.last.max(INodeNo::ROOT.0) + 1;
        self.inodes.insert(name.to_owned(), self.last);
        self.last
    }
}

/// A file, or the root.
fn attributes(inode: u64) -> FileAttr {
    let root = inode == INodeNo::ROOT.0;
    let (kind, perm) = match root {
        true => (FileType::Directory, 0o755),
        false => (FileType::RegularFile, 0o644),
    };
    let epoch = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(inode),
        size: FILE_SIZE,
        blocks: 1,
        atime: epoch,
        mtime: epoch,
        ctime: epoch,
        crtime: epoch,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn kept() -> FopenFlags {
    FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH
}

impl Filesystem for NullFs {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.names.lock().inodes.get(name) {
            Some(inode) => reply.entry(&TTL, &attributes(*inode), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &attributes(ino.0));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<fuser::TimeOrNow>,
        _: Option<fuser::TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.attr(&TTL, &attributes(ino.0));
    }

    fn create(
        &self,
        _: &Request,
        _: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let inode = self.names.lock().create(name);
        reply.created(&TTL, &attributes(inode), Generation(0), FileHandle(0), kept());
    }

    fn unlink(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        match self.names.lock().inodes.remove(name) {
            Some(_) => reply.ok(),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        name: &OsStr,
        _: INodeNo,
        new_name: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let inodes = &mut self.names.lock().inodes;
        match inodes.remove(name) {
            Some(inode) => {
                inodes.insert(new_name.to_owned(), inode);
                reply.ok();
            }
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), kept());
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let left = FILE_SIZE.saturating_sub(offset).min(u64::from(size));
        reply.data(&[b'k'; FILE_SIZE as usize][..left as usize]);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.written(data.len() as u32);
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let names = self.names.lock();
        for (position, (name, inode)) in names.inodes.iter().enumerate().skip(offset as usize) {
            let next = position as u64 + 1;
            if reply.add(INodeNo(*inode), next, FileType::RegularFile, name) {
                break;
            }
        }
        reply.ok();
    }
}
