//! Reading a snapshot. A thread for each open reader answers its requests from windows of the
//! stream; while it reads one after the other, the next window is decoded ahead.

use super::Context;
use super::engine::Stored;
use super::files::FileId;
use crate::cluster::streams::{StreamDone, StreamSource};
use crate::error::Error;
use crate::limits::BACKUP_WINDOW_BYTES;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// Windows kept: the kernel's readahead asks a little out of order.
const WINDOWS: usize = 3;

/// An open snapshot, as the mount holds it.
pub struct Source {
    size: u64,
    requests: Sender<Request>,
}

struct Request {
    offset: u64,
    length: u32,
    done: StreamDone<Vec<u8>>,
}

impl Source {
    /// Opens `snapshot` of `host`, `size` bytes. The repository is opened by the first read.
    pub fn open(
        context: Arc<Context>,
        host: String,
        snapshot: FileId,
        size: u64,
    ) -> Result<Source, Error> {
        let (requests, asked) = unbounded::<Request>();
        let mut reader = Reader { context, host, snapshot, size, windows: None };
        std::thread::Builder::new()
            .name("backup reader".to_owned())
            .spawn(move || {
                for Request { offset, length, done } in asked {
                    done(reader.read(offset, length as usize));
                }
            })
            .map_err(|error| Error::Backup(format!("cannot start a thread: {error}")))?;
        Ok(Source { size, requests })
    }
}

impl StreamSource for Source {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, length: u32, done: StreamDone<Vec<u8>>) {
        if let Err(unsent) = self.requests.send(Request { offset, length, done }) {
            (unsent.into_inner().done)(Err(io::Error::from_raw_os_error(libc::EIO)));
        }
    }
}

struct Reader {
    context: Arc<Context>,
    host: String,
    snapshot: FileId,
    /// As the manifest says.
    size: u64,
    windows: Option<Windows>,
}

impl Reader {
    fn read(&mut self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let result = self.open().and_then(|windows| windows.read(offset, length));
        match result {
            Ok(bytes) => {
                self.context.metrics.read(bytes.len() as u64);
                Ok(bytes)
            }
            Err(error) => {
                let (host, snapshot) = (&self.host, self.snapshot.short());
                log::error!("backup of {host}: cannot read snapshot {snapshot}: {error}");
                Err(io::Error::from_raw_os_error(error.errno()))
            }
        }
    }

    fn open(&mut self) -> Result<&mut Windows, Error> {
        if self.windows.is_none() {
            let Context { repositories, catalogue, engine, .. } = &*self.context;
            let repository = repositories
                .of_host(&self.host, &**catalogue)?
                .ok_or_else(|| Error::Backup("the host has no repository (any more)".into()))?;
            let stored = engine.open(&repository, self.snapshot)?;
            if stored.size() != self.size {
                let (here, said) = (stored.size(), self.size);
                return Err(Error::Backup(format!("{here} bytes are stored, {said} recorded")));
            }
            self.windows = Some(Windows::new(stored.into()));
        }
        Ok(self.windows.as_mut().expect("was opened above"))
    }
}

/// A window on its way.
type Decoding = Receiver<Result<Vec<u8>, Error>>;

/// A stream in pieces of [`BACKUP_WINDOW_BYTES`], numbered from 0.
struct Windows {
    stored: Arc<dyn Stored>,
    /// The latest ones, newest last.
    cached: VecDeque<(u64, Arc<Vec<u8>>)>,
    /// The one being decoded ahead.
    ahead: Option<(u64, Decoding)>,
    /// Where the last read ended.
    last: u64,
}

impl Windows {
    fn new(stored: Arc<dyn Stored>) -> Windows {
        Windows { stored, cached: VecDeque::new(), ahead: None, last: 0 }
    }

    fn read(&mut self, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        let end = self.stored.size().min(offset.saturating_add(length as u64));
        let mut bytes = Vec::with_capacity(end.saturating_sub(offset) as usize);
        let mut at = offset;
        while at < end {
            let number = at / BACKUP_WINDOW_BYTES;
            let Some(window) = self.window(number)? else {
                bytes.extend(self.stored.read_at(at, (end - at) as usize)?);
                break;
            };
            let start = (at % BACKUP_WINDOW_BYTES) as usize;
            let stop = window.len().min(start + (end - at) as usize);
            bytes.extend_from_slice(&window[start..stop]);
            at += (stop - start) as u64;
            if start == stop {
                return Err(Error::Backup("the stream is shorter than its size".into()));
            }
        }
        self.last = number_of(end);
        Ok(bytes)
    }

    /// The window, unless it is far from what was read last: then reading all of it would be waste.
    fn window(&mut self, number: u64) -> Result<Option<Arc<Vec<u8>>>, Error> {
        let near = number == self.last || number == self.last + 1;
        let window = match self.cached.iter().find(|(cached, _)| *cached == number) {
            Some((_, window)) => window.clone(),
            None if !near && self.ahead.as_ref().is_none_or(|(ahead, _)| *ahead != number) => {
                return Ok(None);
            }
            None => {
                let window = Arc::new(self.decode(number)?);
                if self.cached.len() == WINDOWS {
                    self.cached.pop_front();
                }
                self.cached.push_back((number, window.clone()));
                window
            }
        };
        if near {
            self.last = number;
            self.decode_ahead(number + 1);
        }
        Ok(Some(window))
    }

    fn decode(&mut self, number: u64) -> Result<Vec<u8>, Error> {
        match self.ahead.take() {
            Some((ahead, decoded)) if ahead == number => decoded
                .recv()
                .unwrap_or_else(|_| Err(Error::Backup("a reading thread died".into()))),
            _ => read_window(&*self.stored, number),
        }
    }

    /// Starts to decode a window on another thread, unless that is done or under way.
    fn decode_ahead(&mut self, number: u64) {
        let known = self.cached.iter().any(|(cached, _)| *cached == number);
        if known || self.ahead.is_some() || number * BACKUP_WINDOW_BYTES >= self.stored.size() {
            return;
        }
        let stored = self.stored.clone();
        let (tell, decoded) = bounded(1);
        let thread = std::thread::Builder::new().name("backup readahead".to_owned());
        // A reader that has gone does not want to know; without a thread, nothing is ahead.
        if thread.spawn(move || drop(tell.send(read_window(&*stored, number)))).is_ok() {
            self.ahead = Some((number, decoded));
        }
    }
}

/// The window that holds the byte before `end`.
fn number_of(end: u64) -> u64 {
    end.saturating_sub(1) / BACKUP_WINDOW_BYTES
}

fn read_window(stored: &dyn Stored, number: u64) -> Result<Vec<u8>, Error> {
    stored.read_at(number * BACKUP_WINDOW_BYTES, BACKUP_WINDOW_BYTES as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Byte n is n mod 251; counts what it decodes.
    #[derive(Default)]
    struct Pattern {
        decoded: AtomicU64,
    }

    const SIZE: u64 = 5 * BACKUP_WINDOW_BYTES + 1000;

    impl Stored for Pattern {
        fn size(&self) -> u64 {
            SIZE
        }

        fn read_at(&self, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
            let end = SIZE.min(offset + length as u64);
            self.decoded.fetch_add(end - offset, Ordering::Relaxed);
            Ok((offset..end).map(|at| (at % 251) as u8).collect())
        }
    }

    #[test]
    fn in_order_every_byte_is_decoded_once() {
        let pattern = Arc::new(Pattern::default());
        let mut windows = Windows::new(pattern.clone());
        let (mut at, step) = (0, 131_072);
        while at < SIZE {
            let bytes = windows.read(at, step).unwrap();
            assert!(bytes.iter().enumerate().all(|(n, b)| *b == ((at + n as u64) % 251) as u8));
            at += bytes.len() as u64;
        }
        assert_eq!(pattern.decoded.load(Ordering::Relaxed), SIZE);
        assert!(windows.read(SIZE, 10).unwrap().is_empty());
        assert!(windows.read(u64::MAX, 10).unwrap().is_empty());
    }

    #[test]
    fn a_jump_decodes_only_what_is_asked_for() {
        let pattern = Arc::new(Pattern::default());
        let mut windows = Windows::new(pattern.clone());
        let at = 3 * BACKUP_WINDOW_BYTES - 10;
        let bytes = windows.read(at, 20).unwrap();
        assert_eq!(bytes[19], ((at + 19) % 251) as u8);
        assert_eq!(pattern.decoded.load(Ordering::Relaxed), 20);
    }
}
