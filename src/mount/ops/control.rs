//! `.keepfs/`: lookups and attributes of its files, which no tree knows.

use crate::mount::Mount;
use crate::mount::control::{self, ControlFile, Text};
use crate::tree::Ino;
use fuser::{FileAttr, FileType, INodeNo};
use std::time::{SystemTime, UNIX_EPOCH};

impl Mount {
    /// `name` in the control directory `parent`, or `.keepfs` in the root.
    pub(super) fn control_lookup(&self, parent: Ino, name: &[u8]) -> Option<FileAttr> {
        match parent {
            Ino::ROOT => self.control_attr(control::DIRECTORY),
            control::DIRECTORY => self.control_attr(ControlFile::named(name)?.ino()),
            _ => None,
        }
    }

    /// A file's size is zero, as in `/proc`: its text is made when it is opened.
    pub(super) fn control_attr(&self, ino: Ino) -> Option<FileAttr> {
        let (kind, perm, nlink) = if ino == control::DIRECTORY {
            (FileType::Directory, 0o555, 2)
        } else {
            ControlFile::with_ino(ino)?;
            (FileType::RegularFile, 0o444, 1)
        };
        let now = SystemTime::now();
        Some(FileAttr {
            ino: INodeNo(ino.0),
            size: 0,
            blocks: 0,
            atime: now,
            mtime: now,
            ctime: now,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    /// The entries of a control directory.
    pub(super) fn control_list(&self, ino: Ino) -> Vec<(&'static str, Ino, FileType)> {
        if ino != control::DIRECTORY {
            return Vec::new();
        }
        let dots = [(".", ino, FileType::Directory), ("..", Ino::ROOT, FileType::Directory)];
        let files = ControlFile::ALL.map(|file| (file.name(), file.ino(), FileType::RegularFile));
        dots.into_iter().chain(files).collect()
    }

    /// Hands the text of a control file, as of now and as this user may see it, to `then`: at
    /// once, or when a listing is made. `None`: it cannot be had.
    pub(super) fn control_text(
        &self,
        file: ControlFile,
        uid: u32,
        then: impl FnOnce(Option<Text>) + Send + 'static,
    ) {
        if file.is_listing() {
            return self.listings.ask(file, uid, Box::new(then));
        }
        let mut text = file.render(&*self.cluster);
        if let (ControlFile::Metrics, Some(streams)) = (file, &self.streams) {
            text.extend(streams.metrics().into_bytes());
        }
        then(Some(Text::new(text)));
    }
}
