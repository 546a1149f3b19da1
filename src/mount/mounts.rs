//! What is mounted where: the kernel's table of mounts.

use super::proc;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The filesystem type of keepfs mounts.
pub const TYPE: &str = "fuse.keepfs";

/// A line of `/proc/PID/mountinfo`.
#[derive(Debug, PartialEq)]
pub struct Mounted {
    /// The kernel's number for it; no other mount of the machine has it, in any namespace, until it
    /// is unmounted.
    pub id: u32,
    /// `MAJOR:MINOR`
    pub device: String,
    /// What of its filesystem is mounted: `/`, unless it is a bind mount of a part.
    pub root: PathBuf,
    pub point: PathBuf,
    pub kind: String,
    pub source: String,
}

/// Everything mounted in this mount namespace, in the order it was mounted.
pub fn all() -> Vec<Mounted> {
    parse_table(&proc::own_mount_table())
}

/// Everything mounted in the mount namespace of a process, as far as its root directory lets it
/// see; nothing of a process that is gone.
pub fn seen_by(process: u32) -> Vec<Mounted> {
    parse_table(&proc::mount_table(process))
}

fn parse_table(lines: &[u8]) -> Vec<Mounted> {
    lines.split(|byte| *byte == b'\n').filter_map(parse).collect()
}

/// The topmost mount at exactly this path.
pub fn at(path: &Path) -> Option<Mounted> {
    all().into_iter().rfind(|mounted| mounted.point == path)
}

/// `36 35 98:0 /root /point options [optional fields] - type source options`
fn parse(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = String::from_utf8_lossy(fields.nth(1)?).into_owned();
    let root = PathBuf::from(unescape(fields.next()?));
    let point = PathBuf::from(unescape(fields.next()?));
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let kind = String::from_utf8_lossy(fields.next()?).into_owned();
    let source = unescape(fields.next()?).to_string_lossy().into_owned();
    Some(Mounted { id, device, root, point, kind, source })
}

/// Blanks, tabs, newlines and backslashes come as `\` and three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mountinfo_line_is_read_with_its_escapes_and_optional_fields() {
        let line = br"64 30 0:57 /a /mnt/my\040disk rw,nosuid shared:5 - fuse.keepfs keepfs rw";
        let mounted = parse(line).unwrap();
        assert_eq!((mounted.id, mounted.device.as_str()), (64, "0:57"));
        assert_eq!(mounted.root, Path::new("/a"));
        assert_eq!(mounted.point, Path::new("/mnt/my disk"));
        assert_eq!((mounted.kind.as_str(), mounted.source.as_str()), (TYPE, "keepfs"));
        assert_eq!(parse(b"garbage"), None);
    }

    #[test]
    fn the_root_is_mounted() {
        assert!(at(Path::new("/")).is_some());
        assert!(at(Path::new("/nowhere")).is_none());
    }
}
