//! Snapshot files: the tree at one index, whole and checked.
//!
//! ```text
//! 0..8    "keepsnap"          16..16+h   mark: index, term, ConfState (bincode, protobuf)
//! 8..12   format (LE)         then       the tree, as `Tree::write_snapshot` wrote it
//! 12..16  h (LE)              last 8     "end " and the crc32 of everything before (LE)
//! ```
//!
//! A file is written aside, synced, renamed and its directory synced, so a file with its final name
//! is whole unless the disk lost something; the checksum notices that.

use super::directory::sync_directory;
use super::private;
use crate::error::Error;
use crate::replica::SnapshotMark;
use protobuf::Message;
use raft::eraftpb::ConfState;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

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
}

/// A snapshot on disk, not yet looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    pub index: u64,
    pub term: u64,
    pub path: PathBuf,
    pub bytes: u64,
}

impl Snapshots {
    /// Removes what an interrupted writer left.
    pub(super) fn open(path: PathBuf) -> Result<Snapshots, Error> {
        for entry in fs::read_dir(&path).map_err(Error::file("list", &path))? {
            let entry = entry.map_err(Error::file("list", &path))?.path();
            if entry.extension().is_some_and(|extension| extension == PARTIAL) {
                fs::remove_file(&entry).map_err(Error::file("remove", entry))?;
            }
        }
        Ok(Snapshots { path })
    }

    /// Newest first.
    pub fn list(&self) -> io::Result<Vec<SnapshotFile>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if let Some((index, term)) = parse_name(&entry.file_name().to_string_lossy()) {
                let bytes = entry.metadata()?.len();
                files.push(SnapshotFile { index, term, path: entry.path(), bytes });
            }
        }
        files.sort_by_key(|file| std::cmp::Reverse((file.index, file.term)));
        Ok(files)
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
        self.store(mark.index, mark.term, |file| {
            let mut to = Checked { inner: file, crc: crc32fast::Hasher::new() };
            write_header(&mut to, mark)?;
            let mut buffered = BufWriter::with_capacity(BUFFER_BYTES, to);
            body(&mut buffered)?;
            let mut to = buffered.into_inner().map_err(|error| error.into_error())?;
            let crc = to.crc.clone().finalize();
            to.write_all(END)?;
            to.write_all(&crc.to_le_bytes())
        })
    }

    /// Takes a file as a peer sends it, `length` bytes; durable and verified when this returns.
    pub fn receive(
        &self,
        index: u64,
        term: u64,
        length: u64,
        data: &mut dyn Read,
    ) -> io::Result<SnapshotFile> {
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
    ) -> io::Result<SnapshotFile> {
        let path = self.path.join(format!("{index:020}-{term}.snapshot"));
        let aside = path.with_extension(PARTIAL);
        let mut file =
            SteppedFile { file: private::create(&aside)?, path: aside.clone(), unsynced: 0 };
        let filled = fill(&mut file).and_then(|()| file.file.sync_all());
        if let Err(error) = filled {
            let _ = fs::remove_file(&aside);
            return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
        }
        let bytes = file.file.metadata()?.len();
        fs::rename(&aside, &path)?;
        sync_directory(&self.path)?;
        self.prune()?;
        Ok(SnapshotFile { index, term, path, bytes })
    }

    fn prune(&self) -> io::Result<()> {
        for file in self.list()?.into_iter().skip(KEPT) {
            fs::remove_file(&file.path)?;
        }
        Ok(())
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
            return Err(invalid(format!(
                "snapshot format {}, this keepfs reads {FORMAT}",
                word(8)
            )));
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
