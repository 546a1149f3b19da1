//! What we tell the kernel unasked, as bytes on `/dev/fuse`: `fuser` knows neither the notification
//! that forgets every name at once, nor tells whether the kernel knew what it was to forget.

use crate::tree::Ino;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::os::fd::{AsFd, OwnedFd};

// `enum fuse_notify_code` of `include/uapi/linux/fuse.h`.
const INVAL_INODE: i32 = 2;
const INVAL_ENTRY: i32 = 3;
/// Linux 6.16 on.
const INC_EPOCH: i32 = 8;

/// `struct fuse_out_header`: length, code, and zero where a reply has its request's number.
const HEADER_BYTES: usize = 16;

/// The kernel's side of one mount.
pub struct Kernel {
    device: File,
    forgets_names_at_once: bool,
}

/// Whether an inode's pages go with its attributes. All of them: files are small, and telling which
/// pages the kernel may still hold afterwards is not worth the reading they would save.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pages {
    Keep,
    Forget,
}

/// Whether the kernel knew what it was to forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    Yes,
    No,
}

impl Kernel {
    /// `device` is any descriptor of the mounted `/dev/fuse`.
    pub fn new(device: OwnedFd) -> Kernel {
        let mut kernel = Kernel { device: File::from(device), forgets_names_at_once: true };
        kernel.forgets_names_at_once = kernel.forget_all_names().is_ok();
        kernel
    }

    /// Attributes, and perhaps pages. Waits for the locks of the pages, of no directory.
    pub fn forget_inode(&self, ino: Ino, pages: Pages) -> io::Result<Known> {
        // A negative offset leaves the pages alone; a length of zero reaches to the end.
        let offset: i64 = match pages {
            Pages::Keep => -1,
            Pages::Forget => 0,
        };
        let mut body = [0; 24];
        body[..8].copy_from_slice(&ino.0.to_ne_bytes());
        body[8..16].copy_from_slice(&offset.to_ne_bytes());
        self.send(INVAL_INODE, &[&body])
    }

    /// A name, or its absence. Waits for the directory's lock, which operations in it hold until
    /// they are answered.
    pub fn forget_name(&self, directory: Ino, name: &[u8]) -> io::Result<Known> {
        let mut body = [0; 16];
        body[..8].copy_from_slice(&directory.0.to_ne_bytes());
        body[8..12].copy_from_slice(&(name.len() as u32).to_ne_bytes());
        self.send(INVAL_ENTRY, &[&body, name, &[0]])
    }

    /// Every name of the mount: each is looked up again when next used. Waits for nothing.
    /// `Unsupported` before Linux 6.16.
    pub fn forget_all_names(&self) -> io::Result<()> {
        if !self.forgets_names_at_once {
            return Err(ErrorKind::Unsupported.into());
        }
        self.send(INC_EPOCH, &[]).map(drop)
    }

    /// Whether the filesystem can still be served: nobody has unmounted it everywhere, or aborted
    /// it. While it is, no other filesystem has its device number.
    pub fn is_connected(&self) -> bool {
        let mut asked = [PollFd::new(self.device.as_fd(), PollFlags::empty())];
        let failed = poll(&mut asked, PollTimeout::ZERO).is_err();
        !failed && !asked[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
    }

    fn send(&self, code: i32, body: &[&[u8]]) -> io::Result<Known> {
        let length = HEADER_BYTES + body.iter().map(|part| part.len()).sum::<usize>();
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&(length as u32).to_ne_bytes());
        header[4..8].copy_from_slice(&code.to_ne_bytes());
        let mut parts = vec![IoSlice::new(&header)];
        parts.extend(body.iter().map(|part| IoSlice::new(part)));
        match (&self.device).write_vectored(&parts) {
            Ok(_) => Ok(Known::Yes),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Known::No),
            Err(error) => Err(error),
        }
    }
}
