//! `DIR/place`: where this directory lies, told by what no copy of the file can say of itself: its
//! inode and when that was made. A directory that was moved to another filesystem, restored from a
//! copy or unpacked has another file there, and so may be older than what its replica has promised.
//! One that was renamed has the same. While its replica runs the file is made anew now and then, so
//! that files of an older copy which are written over those that are there bring another one too.

use super::private;
use crate::durable::sync_directory;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Whether the file is where it says it is; false if there is none.
pub(super) fn is_here(path: &Path) -> io::Result<bool> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text == describe(&fs::metadata(path)?)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The directory lies here from now on. After a crash it may not, unless it is `durable`.
pub(super) fn write(path: &Path, durable: bool) -> io::Result<()> {
    let aside = path.with_extension("new");
    // Another inode than that of the file which is replaced.
    let mut file: File = private::create(&aside)?;
    let text = describe(&file.metadata()?);
    file.write_all(text.as_bytes())?;
    if !durable {
        return fs::rename(&aside, path);
    }
    file.sync_all()?;
    fs::rename(&aside, path)?;
    sync_directory(path.parent().unwrap_or(Path::new("/")))
}

/// On a filesystem that does not know when a file was made, the inode has to do.
fn describe(metadata: &Metadata) -> String {
    let made = metadata.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let made = made.map_or_else(|| "-".to_owned(), |at| format!("{}", at.as_nanos()));
    format!("inode {}\nmade {made}\n", metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_directory_is_in_its_place_and_a_copied_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new, copy) =
            (dir.path().join("old"), dir.path().join("new"), dir.path().join("copy"));
        fs::create_dir(&old).unwrap();
        assert!(!is_here(&old.join("place")).unwrap());
        write(&old.join("place"), true).unwrap();
        assert!(is_here(&old.join("place")).unwrap());
        fs::rename(&old, &new).unwrap();
        assert!(is_here(&new.join("place")).unwrap());
        fs::create_dir(&copy).unwrap();
        fs::copy(new.join("place"), copy.join("place")).unwrap();
        assert!(!is_here(&copy.join("place")).unwrap());
        // Put back under the old name, and then held to be right there.
        fs::remove_dir_all(&new).unwrap();
        fs::rename(&copy, &new).unwrap();
        assert!(!is_here(&new.join("place")).unwrap());
        write(&new.join("place"), false).unwrap();
        assert!(is_here(&new.join("place")).unwrap());
    }

    #[test]
    fn an_older_copy_that_is_written_over_it_is_not_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("place"), dir.path().join("copy"));
        write(&path, true).unwrap();
        fs::copy(&path, &copy).unwrap();
        // As long as there are two, they have two inodes.
        let old = fs::File::open(&path).unwrap();
        write(&path, false).unwrap();
        drop(old);
        assert!(is_here(&path).unwrap());
        fs::write(&path, fs::read(&copy).unwrap()).unwrap();
        assert!(!is_here(&path).unwrap());
    }

    #[test]
    fn what_is_no_text_is_no_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("place");
        for nonsense in [&b""[..], b"inode 1\n", b"\xff\xfe"] {
            fs::write(&path, nonsense).unwrap();
            assert!(!is_here(&path).unwrap());
        }
    }
}
