//! Snapshot files: the tree at one index, whole and checked.
//!
//! ```text
//! 0..8    "keepsnap"          16..16+h   mark: index, term, ConfState (bincode, protobuf)
//! 8..12   format (LE)         then       the tree, as `Tree::write_snapshot` wrote it
//! 12..16  h (LE)              last 8     "end " and the crc32 of everything before (LE)
//! ```
//!
//! A file is written aside, synced, renamed and its directory synced, so a file with its final name
//! is whole unless the disk lost something; the checksum notices that. What came from a peer stays
//! aside until the log adopts it: until then it is none of this replica's snapshots, and no older
//! one is removed for it.

use super::private;
use crate::durable::sync_directory;
use crate::error::Error;
use crate::replica::SnapshotMark;
use crate::room;
use protobuf::Message;
use raft::eraftpb::ConfState;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const MAGIC: &[u8; 8] = b"keepsnap";
const FORMAT: u32 = 1;
const END: &[u8; 4] = b"end ";
const TRAILER_BYTES: u64 = 8;
const MARK_BYTES_MAX: u32 = 64 << 10;
/// Newest snapshots to keep: one, and one to fall back on should it turn out damaged.
const KEPT: usize = 2;
/// Written in steps of this, each synced: one large flush would hold up the log's small ones.
const SYNC_STEP_BYTES: u64 = 4 << 20;
const BUFFER_BYTES: usize = 256 << 10;
const PARTIAL: &str = "partial";

/// `DIR/snapshots`
#[derive(Clone, Debug)]
pub struct Snapshots {
    path: PathBuf,
    /// Sets the names of files that are written at once apart.
    written: Arc<AtomicU64>,
}

/// A snapshot on disk, not yet looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    pub index: u64,
    pub term: u64,
    pub path: PathBuf,
    pub bytes: u64,
}

/// Those in a directory, the newest first.
pub(super) fn list(directory: &Path) -> io::Result<Vec<SnapshotFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if let Some((index, term)) = parse_name(&entry.file_name().to_string_lossy()) {
            let bytes = entry.metadata()?.len();
            files.push(SnapshotFile { index, term, path: entry.path(), bytes });
        }
    }
    files.sort_by_key(|file| std::cmp::Reverse((file.index, file.term)));
    Ok(files)
}

impl Snapshots {
    /// Removes what an interrupted writer left, and what came from peers and was not adopted.
    pub(super) fn open(path: PathBuf) -> Result<Snapshots, Error> {
        for entry in fs::read_dir(&path).map_err(Error::file("list", &path))? {
            let entry = entry.map_err(Error::file("list", &path))?.path();
            if entry.extension().is_some_and(|extension| extension == PARTIAL) {
                fs::remove_file(&entry).map_err(Error::file("remove", entry))?;
            }
        }
        Ok(Snapshots { path, written: Arc::default() })
    }

    /// Newest first.
    pub fn list(&self) -> io::Result<Vec<SnapshotFile>> {
        list(&self.path)
    }

    /// The file at exactly this place, if it is (still) there.
    pub fn find(&self, index: u64, term: u64) -> io::Result<Option<SnapshotFile>> {
        Ok(self.list()?.into_iter().find(|file| (file.index, file.term) == (index, term)))
    }

    /// Makes a snapshot of what `body` writes, durable when this returns.
    pub fn write(
        &self,
        mark: &SnapshotMark,
        body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<SnapshotFile> {
        let written = self.store(mark.index, mark.term, |file| {
            let mut to = Checked { inner: file, crc: crc32fast::Hasher::new() };
            write_header(&mut to, mark)?;
            let mut buffered = BufWriter::with_capacity(BUFFER_BYTES, to);
            body(&mut buffered)?;
            let mut to = buffered.into_inner().map_err(|error| error.into_error())?;
            let crc = to.crc.clone().finalize();
            to.write_all(END)?;
            to.write_all(&crc.to_le_bytes())
        })?;
        written.adopt()
    }

    /// Takes a file as a peer sends it, `length` bytes; durable and verified when this returns, and
    /// one of this replica's snapshots once it is adopted. ENOSPC if it would take the log's room.
    pub fn receive(
        &self,
        index: u64,
        term: u64,
        length: u64,
        data: &mut dyn Read,
    ) -> io::Result<ReceivedSnapshot> {
        room::check(&self.path, length)
            .map_err(|error| io::Error::new(ErrorKind::StorageFull, error.to_string()))?;
        self.store(index, term, |file| {
            if io::copy(&mut data.take(length), file)? != length {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let mut reader = SnapshotReader::open(&file.path)?;
            let mark = reader.mark().clone();
            if (mark.index, mark.term) != (index, term) {
                return Err(invalid(format!("says {} of term {}", mark.index, mark.term)));
            }
            io::copy(&mut reader, &mut io::sink())?;
            reader.finish()
        })
    }

    fn store(
        &self,
        index: u64,
        term: u64,
        fill: impl FnOnce(&mut SteppedFile) -> io::Result<()>,
    ) -> io::Result<ReceivedSnapshot> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(format!("{index:020}-{term}.{number}.{PARTIAL}"));
        let mut file =
            SteppedFile { file: private::create(&path)?, path: path.clone(), unsynced: 0 };
        // Removes the file if anything fails from here on.
        let mut stored = ReceivedSnapshot { snapshots: self.clone(), index, term, path, bytes: 0 };
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", stored.path.display()))
        };
        fill(&mut file).and_then(|()| file.file.sync_all()).map_err(named)?;
        stored.bytes = file.file.metadata()?.len();
        Ok(stored)
    }

    fn prune(&self) -> io::Result<()> {
        for file in self.list()?.into_iter().skip(KEPT) {
            fs::remove_file(&file.path)?;
        }
        Ok(())
    }
}

/// A snapshot that is whole and durable, and not (yet) one of this replica's. Gone when dropped.
#[derive(Debug)]
pub struct ReceivedSnapshot {
    snapshots: Snapshots,
    index: u64,
    term: u64,
    path: PathBuf,
    bytes: u64,
}

impl ReceivedSnapshot {
    /// Where it lies aside.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it one of this replica's, durably. Then there are more than are kept, and the oldest
    /// go.
    pub fn adopt(self) -> io::Result<SnapshotFile> {
        let (index, term, bytes) = (self.index, self.term, self.bytes);
        let path = self.snapshots.path.join(format!("{index:020}-{term}.snapshot"));
        fs::rename(&self.path, &path)?;
        sync_directory(&self.snapshots.path)?;
        self.snapshots.prune()?;
        Ok(SnapshotFile { index, term, path, bytes })
    }
}

impl Drop for ReceivedSnapshot {
    fn drop(&mut self) {
        // Not there any more once it is adopted; what is left by a failure, the next start removes.
        let _ = fs::remove_file(&self.path);
    }
}

fn parse_name(name: &str) -> Option<(u64, u64)> {
    let (index, term) = name.strip_suffix(".snapshot")?.split_once('-')?;
    Some((index.parse().ok()?, term.parse().ok()?))
}

fn write_header(to: &mut dyn Write, mark: &SnapshotMark) -> io::Result<()> {
    let conf = mark.conf.write_to_bytes().map_err(io::Error::other)?;
    let mark = bincode::encode_to_vec((mark.index, mark.term, conf), bincode::config::standard())
        .map_err(io::Error::other)?;
    to.write_all(MAGIC)?;
    to.write_all(&FORMAT.to_le_bytes())?;
    to.write_all(&(mark.len() as u32).to_le_bytes())?;
    to.write_all(&mark)
}

/// The body of a snapshot, to be read to its end; [`SnapshotReader::finish`] then says whether it
/// is what was written.
pub struct SnapshotReader {
    mark: SnapshotMark,
    file: Checked<BufReader<File>>,
    remaining: u64,
}

impl SnapshotReader {
    pub fn open(path: &Path) -> io::Result<SnapshotReader> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        let mut file = Checked { inner: file, crc: crc32fast::Hasher::new() };
        let mut start = [0; 16];
        file.read_exact(&mut start)?;
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| start[at + byte]));
        if &start[..8] != MAGIC {
            return Err(invalid("not a keepfs snapshot"));
        }
        if word(8) != FORMAT {
            let text = format!(
                "written in format {}, and this program reads {FORMAT}: install the keepfs that \
                 wrote it",
                word(8)
            );
            return Err(io::Error::new(ErrorKind::Unsupported, text));
        }
        if word(12) > MARK_BYTES_MAX {
            return Err(invalid("header damaged"));
        }
        let mut mark = vec![0; word(12) as usize];
        file.read_exact(&mut mark)?;
        let remaining = length
            .checked_sub(16 + mark.len() as u64 + TRAILER_BYTES)
            .ok_or_else(|| invalid("cut short"))?;
        Ok(SnapshotReader { mark: decode_mark(&mark)?, file, remaining })
    }

    pub fn mark(&self) -> &SnapshotMark {
        &self.mark
    }

    /// `InvalidData` unless all of the body was read and is what was written.
    pub fn finish(mut self) -> io::Result<()> {
        if self.remaining > 0 {
            return Err(invalid(format!("{} bytes too many", self.remaining)));
        }
        let expected = self.file.crc.clone().finalize();
        let mut trailer = [0; TRAILER_BYTES as usize];
        self.file.read_exact(&mut trailer)?;
        let crc = u32::from_le_bytes([trailer[4], trailer[5], trailer[6], trailer[7]]);
        if &trailer[..4] != END || crc != expected {
            return Err(invalid("checksum mismatch"));
        }
        Ok(())
    }
}

impl Read for SnapshotReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        let count = self.file.read(&mut buffer[..most])?;
        self.remaining -= count as u64;
        Ok(count)
    }
}

fn decode_mark(bytes: &[u8]) -> io::Result<SnapshotMark> {
    // Nothing has been checked yet: a length in here may be any.
    let layout = bincode::config::standard().with_limit::<{ MARK_BYTES_MAX as usize }>();
    let ((index, term, conf), _): ((u64, u64, Vec<u8>), usize) =
        bincode::decode_from_slice(bytes, layout).map_err(|error| invalid(error.to_string()))?;
    let conf: ConfState =
        ConfState::parse_from_bytes(&conf).map_err(|error| invalid(error.to_string()))?;
    Ok(SnapshotMark { index, term, conf })
}

fn invalid(problem: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, problem.into())
}

/// Sums up what passes through.
struct Checked<T> {
    inner: T,
    crc: crc32fast::Hasher,
}

impl<T: Read> Read for Checked<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.crc.update(&buffer[..count]);
        Ok(count)
    }
}

impl<T: Write> Write for Checked<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.crc.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A file that is synced as it grows.
struct SteppedFile {
    file: File,
    path: PathBuf,
    unsynced: u64,
}

impl Write for SteppedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.unsynced += count as u64;
        if self.unsynced >= SYNC_STEP_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_whose_length_is_beyond_all_memory_is_refused() {
        let mark = [77, 2, 253, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        let problem = decode_mark(&mark).expect_err("no mark is that long");
        assert_eq!(problem.kind(), ErrorKind::InvalidData);
    }
}
