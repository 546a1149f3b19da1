//! System calls that `std` has no name for, with their errno.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The errno of a failure, 0 for success.
pub fn errno<T>(result: io::Result<T>) -> i32 {
    result.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |_| 0)
}

fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

fn check(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

pub fn rename(from: &Path, to: &Path, flags: u32) -> io::Result<()> {
    let (from, to) = (c(from), c(to));
    let at = libc::AT_FDCWD;
    // SAFETY: both are strings that end in NUL and outlive the call.
    check(unsafe { libc::renameat2(at, from.as_ptr(), at, to.as_ptr(), flags) }.into()).map(drop)
}

pub fn mknod(path: &Path, mode: u32, device: u64) -> io::Result<()> {
    // SAFETY: the path ends in NUL and outlives the call.
    check(unsafe { libc::mknod(c(path).as_ptr(), mode, device) }.into()).map(drop)
}

pub fn fallocate(file: &File, mode: i32, offset: i64, length: i64) -> io::Result<()> {
    // SAFETY: the descriptor is open.
    check(unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, length) }.into()).map(drop)
}

pub fn truncate(path: &Path, length: u64) -> io::Result<()> {
    // SAFETY: the path ends in NUL and outlives the call.
    check(unsafe { libc::truncate(c(path).as_ptr(), length as i64) }.into()).map(drop)
}

pub fn seek(file: &File, offset: i64, whence: i32) -> io::Result<i64> {
    // SAFETY: the descriptor is open.
    check(unsafe { libc::lseek(file.as_raw_fd(), offset, whence) })
}

pub fn set_xattr(path: &Path, name: &str, value: &[u8], flags: i32) -> io::Result<()> {
    let name = CString::new(name).unwrap();
    let (data, length) = (value.as_ptr().cast(), value.len());
    // SAFETY: path and name end in NUL, the value is as long as said; all outlive the call.
    check(unsafe { libc::lsetxattr(c(path).as_ptr(), name.as_ptr(), data, length, flags) }.into())
        .map(drop)
}

pub fn xattr(path: &Path, name: &str) -> io::Result<Vec<u8>> {
    let name = CString::new(name).unwrap();
    let mut value = vec![0; 65_536];
    let (data, length) = (value.as_mut_ptr().cast(), value.len());
    // SAFETY: path and name end in NUL, the buffer is as long as said; all outlive the call.
    let read = unsafe { libc::lgetxattr(c(path).as_ptr(), name.as_ptr(), data, length) };
    value.truncate(check(read as i64)? as usize);
    Ok(value)
}

pub fn xattr_of_open(file: &File, name: &str) -> io::Result<Vec<u8>> {
    let name = CString::new(name).unwrap();
    let mut value = vec![0; 65_536];
    let (fd, data, length) = (file.as_raw_fd(), value.as_mut_ptr().cast(), value.len());
    // SAFETY: the name ends in NUL, the buffer is as long as said; both outlive the call.
    let read = unsafe { libc::fgetxattr(fd, name.as_ptr(), data, length) };
    value.truncate(check(read as i64)? as usize);
    Ok(value)
}

/// The names, each with its NUL.
pub fn xattrs(path: &Path) -> io::Result<Vec<u8>> {
    let mut names = vec![0; 65_536];
    let (data, length) = (names.as_mut_ptr().cast(), names.len());
    // SAFETY: the path ends in NUL, the buffer is as long as said; both outlive the call.
    let read = unsafe { libc::llistxattr(c(path).as_ptr(), data, length) };
    names.truncate(check(read as i64)? as usize);
    Ok(names)
}

pub fn remove_xattr(path: &Path, name: &str) -> io::Result<()> {
    let name = CString::new(name).unwrap();
    // SAFETY: path and name end in NUL and outlive the call.
    check(unsafe { libc::lremovexattr(c(path).as_ptr(), name.as_ptr()) }.into()).map(drop)
}

/// Access and modification time, each seconds and nanoseconds.
pub fn set_times(path: &Path, access: (i64, i64), modification: (i64, i64)) -> io::Result<()> {
    let spec = |(tv_sec, tv_nsec)| libc::timespec { tv_sec, tv_nsec };
    let times = [spec(access), spec(modification)];
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the path ends in NUL, the times are two; both outlive the call.
    check(
        unsafe { libc::utimensat(libc::AT_FDCWD, c(path).as_ptr(), times.as_ptr(), flags) }.into(),
    )
    .map(drop)
}

/// A mapping of a whole file, gone when dropped.
pub struct Mapping {
    start: *mut libc::c_void,
    length: usize,
}

impl Mapping {
    /// `sharing`: `MAP_SHARED` or `MAP_PRIVATE`. Readable, and writable if private.
    pub fn new(file: &File, sharing: i32) -> io::Result<Mapping> {
        let length = file.metadata()?.len() as usize;
        let writable = if sharing == libc::MAP_PRIVATE { libc::PROT_WRITE } else { 0 };
        let protection = libc::PROT_READ | writable;
        let (anywhere, fd) = (std::ptr::null_mut(), file.as_raw_fd());
        // SAFETY: a new mapping, chosen by the kernel, of an open descriptor.
        let start = unsafe { libc::mmap(anywhere, length, protection, sharing, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping { start, length })
    }

    /// What is mapped now.
    pub fn bytes(&self) -> Vec<u8> {
        // SAFETY: mapped and readable while this value lives; the file is not truncated meanwhile.
        (0..self.length)
            .map(|at| unsafe { self.start.cast::<u8>().add(at).read_volatile() })
            .collect()
    }

    /// Private mappings only.
    pub fn write(&mut self, at: usize, byte: u8) {
        assert!(at < self.length);
        // SAFETY: inside the mapping, which is writable.
        unsafe { self.start.cast::<u8>().add(at).write_volatile(byte) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by this value, and used by nobody else.
        unsafe { libc::munmap(self.start, self.length) };
    }
}
