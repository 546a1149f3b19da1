//! Telling a torn tail from a damaged log.
//!
//! A crash may leave the last batch of the last file half written; it was never acknowledged, and
//! cutting it off is right. Every batch is synced before the next is written, so when a *valid*
//! batch follows the broken one, the broken one had been whole: the disk lost it, and entries this
//! replica has acknowledged with it. Going on without them could undo a commit.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// raft-engine's batch: u56 length, u8 compression, u64 offset of the footer; the footer ends in a
/// crc32 of itself, signed with the file's number.
const BATCH_HEADER_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 4;
/// raft-engine's file begins with a name of itself (53 bytes), its version, and an alignment of 0.
const FILE_HEADER_BYTES: u64 = 53 + 8 + 8;
/// More than all that a replica has on its way at once.
const BATCH_BYTES_MAX: u64 = 1 << 30;

/// Refuses to cut `path` to `length` if a whole batch stands behind the cut.
pub fn check_cut(file: &File, path: &Path, length: u64) -> io::Result<()> {
    let Some(signature) = append_file_number(path) else { return Ok(()) };
    let mut tail = vec![0; file.metadata()?.len().saturating_sub(length) as usize];
    file.read_exact_at(&mut tail, length)?;
    match whole_batch_behind_start(&tail, signature) {
        None => Ok(()),
        Some(at) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{} is damaged at byte {length}: a valid record follows at byte {}; this is no torn \
                 write but a fault of the disk. Move the data directory away and let this replica \
                 join again",
                path.display(),
                length + at as u64
            ),
        )),
    }
}

/// Refuses a log that holds a record of an absurd length: raft-engine would ask for that much
/// memory, and the process would end without a word.
pub fn check_lengths(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if append_file_number(&path).is_none() {
            continue;
        }
        let (file, mut at, mut header) = (File::open(&path)?, FILE_HEADER_BYTES, [0; 8]);
        while file.read_exact_at(&mut header, at).is_ok() {
            let length = u64::from_be_bytes(header) >> 8;
            if length > BATCH_BYTES_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "{} is damaged at byte {at}: a record of {length} bytes. Move the data \
                         directory away and let this replica join again",
                        path.display()
                    ),
                ));
            }
            if length == 0 {
                break;
            }
            at += length;
        }
    }
    Ok(())
}

/// The number in `0000000000000001.raftlog`; other files hold nothing acknowledged by itself.
fn append_file_number(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    name.strip_suffix(".raftlog")?.parse::<u64>().ok().map(|number| number as u32)
}

fn whole_batch_behind_start(tail: &[u8], signature: u32) -> Option<usize> {
    // No batch ends in the zeros the file was filled with, but its checksum may.
    let written = tail.iter().rposition(|&byte| byte != 0)? + 1;
    let tail = &tail[..(written + CHECKSUM_BYTES).min(tail.len())];
    (1..tail.len()).find(|&at| tail[at] == 0 && is_batch(&tail[at..], signature))
}

fn is_batch(bytes: &[u8], signature: u32) -> bool {
    let Some(header) = bytes.get(..BATCH_HEADER_BYTES) else { return false };
    let word = |at: usize| header[at..at + 8].iter().fold(0u64, |word, &b| word << 8 | b as u64);
    let (length, footer) = ((word(0) >> 8) as usize, word(8) as usize);
    if footer < BATCH_HEADER_BYTES || length <= footer + CHECKSUM_BYTES || length > bytes.len() {
        return false;
    }
    let (content, checksum) = bytes[footer..length].split_at(length - footer - CHECKSUM_BYTES);
    let expected = u32::from_le_bytes(checksum.try_into().unwrap_or_default()) ^ signature;
    crc32fast::hash(content) == expected
}
