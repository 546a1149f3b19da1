//! A backup stream being written: its order, its end, and who may end it.

use super::holders::Suspects;
use crate::cluster::streams::{StreamDone, StreamSink};
use crate::mount::processes;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// Zeros for a hole go to the store in pieces of this size, bytes.
const ZEROS_AT_ONCE: u64 = 1 << 20;

/// Told once the step is done, or at once.
pub type Then<T> = Box<dyn FnOnce(io::Result<T>) + Send>;

/// Told how the stream ended; an errno if it left no snapshot.
pub type Closed = Box<dyn FnOnce(Result<(), i32>) + Send>;

/// One open stream. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Writer(Arc<Mutex<State>>);

struct State {
    /// For the log.
    name: String,
    phase: Phase,
    /// Bytes handed to the store: where the next write must begin, or leave a hole.
    length: u64,
    /// Processes that wrote, and those that started them.
    involved: BTreeSet<u32>,
    suspects: Suspects,
    /// Told of the end, once it is known.
    closing: Vec<Closed>,
}

enum Phase {
    Open(Box<dyn StreamSink>),
    /// The end is under way.
    Finishing,
    /// The snapshot is stored, or there is none and why not (errno).
    Ended(Result<(), i32>),
}

impl Writer {
    pub fn new(name: String, sink: Box<dyn StreamSink>, suspects: Suspects) -> Writer {
        Writer(Arc::new(Mutex::new(State {
            name,
            phase: Phase::Open(sink),
            length: 0,
            involved: BTreeSet::new(),
            suspects,
            closing: Vec::new(),
        })))
    }

    /// Writes at `offset`; a hole before it becomes zeros. ESPIPE for what is written already; once
    /// the stream has ended, what it failed with, or EIO.
    pub fn write(&self, offset: u64, data: Vec<u8>, then: Then<u32>) {
        let writer = self.clone();
        self.grow(
            offset,
            Box::new(move |grown| match grown {
                Ok(()) => writer.append(offset, data, then),
                Err(error) => then(Err(error)),
            }),
        );
    }

    /// Appends zeros up to `length` (`ftruncate`, or before a write past the end). ESPIPE for less
    /// than was written, and then nothing comes of the stream: what is stored is not what its
    /// writer meant.
    pub fn grow(&self, length: u64, then: Then<()>) {
        let at = self.0.lock().length;
        if length < at {
            self.abort("a write before its end", libc::ESPIPE);
            return then(Err(io::Error::from_raw_os_error(libc::ESPIPE)));
        }
        if length == at {
            return then(Ok(()));
        }
        let writer = self.clone();
        let zeros = vec![0; (length - at).min(ZEROS_AT_ONCE) as usize];
        self.append(
            at,
            zeros,
            Box::new(move |written| match written {
                Ok(_) => writer.grow(length, then),
                Err(error) => then(Err(error)),
            }),
        );
    }

    fn append(&self, offset: u64, data: Vec<u8>, then: Then<u32>) {
        let mut state = self.0.lock();
        let sink = match &mut state.phase {
            Phase::Open(sink) => sink,
            Phase::Ended(Err(errno)) => {
                let error = io::Error::from_raw_os_error(*errno);
                drop(state);
                return then(Err(error));
            }
            Phase::Finishing | Phase::Ended(Ok(())) => {
                drop(state);
                return then(Err(io::Error::from_raw_os_error(libc::EIO)));
            }
        };
        let writer = self.clone();
        let length = data.len() as u64;
        let done: StreamDone<u32> = Box::new(move |written| {
            if let Err(error) = &written {
                writer.abort(&format!("a write failed: {error}"), errno_of(error));
            }
            then(written);
        });
        sink.write(offset, data, done);
        state.length = offset + length;
    }

    /// Notes a process that writes, and those that started it.
    pub fn involve(&self, process: u32) {
        let with_ancestors: Vec<u32> = processes::with_ancestors(process).collect();
        let mut state = self.0.lock();
        state.suspects.note(process);
        state.involved.extend(with_ancestors);
    }

    /// Who may have the stream open, now that this process closes it.
    pub fn suspects(&self, closer: Option<u32>) -> Suspects {
        let mut state = self.0.lock();
        closer.into_iter().for_each(|process| state.suspects.note(process));
        state.suspects.clone()
    }

    /// Whether [`Writer::involve`] was told of this process itself.
    pub fn knows(&self, process: u32) -> bool {
        let state = self.0.lock();
        state.involved.contains(&process) && state.suspects.knows(process)
    }

    /// Whether this process, or one it started, has written.
    pub fn involves(&self, process: u32) -> bool {
        self.0.lock().involved.contains(&process)
    }

    /// How it ended, once it has.
    pub fn outcome(&self) -> Option<Result<(), i32>> {
        match self.0.lock().phase {
            Phase::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Ends the stream well, unless it has ended; `then` is told how it ended. A stream without a
    /// byte ends as if it had not been opened.
    pub fn finish(&self, then: Closed) {
        let mut state = self.0.lock();
        if let Phase::Ended(outcome) = &state.phase {
            let outcome = *outcome;
            drop(state);
            return then(outcome);
        }
        state.closing.push(then);
        if let Phase::Open(sink) = std::mem::replace(&mut state.phase, Phase::Finishing) {
            let (writer, name) = (self.clone(), state.name.clone());
            let empty = state.length == 0;
            drop(state);
            if empty {
                sink.abort("nothing was written");
                return writer.ended(Ok(()));
            }
            sink.finish(Box::new(move |result| {
                if let Err(error) = &result {
                    log::error!("backup of {name}: no snapshot: {error}");
                }
                writer.ended(result.map_err(|error| errno_of(&error)));
            }));
        }
    }

    /// Ends the stream without a snapshot, unless it has ended or is ending.
    pub fn abort(&self, why: &str, errno: i32) {
        let mut state = self.0.lock();
        if !matches!(state.phase, Phase::Open(_)) {
            return;
        }
        let phase = std::mem::replace(&mut state.phase, Phase::Ended(Err(errno)));
        log::warn!("backup of {}: no snapshot: {why}", state.name);
        drop(state);
        if let Phase::Open(sink) = phase {
            sink.abort(why);
        }
    }

    fn ended(&self, outcome: Result<(), i32>) {
        let mut state = self.0.lock();
        state.phase = Phase::Ended(outcome);
        let closing = std::mem::take(&mut state.closing);
        drop(state);
        closing.into_iter().for_each(|then| then(outcome));
    }
}

fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::{Receiver, Sender, unbounded};

    /// Says what was done with it; `broken` refuses writes.
    struct Recorder {
        say: Sender<String>,
        broken: bool,
    }

    impl StreamSink for Recorder {
        fn write(&mut self, offset: u64, data: Vec<u8>, done: StreamDone<u32>) {
            let _ = self.say.send(format!("{offset}+{}", data.len()));
            let result = match self.broken {
                true => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
                false => Ok(data.len() as u32),
            };
            std::thread::spawn(move || done(result));
        }
        fn finish(self: Box<Self>, done: StreamDone<()>) {
            let _ = self.say.send("finish".into());
            std::thread::spawn(move || done(Ok(())));
        }
        fn abort(self: Box<Self>, why: &str) {
            let _ = self.say.send(format!("abort: {why}"));
        }
    }

    fn writer(broken: bool) -> (Writer, Receiver<String>) {
        let (say, said) = unbounded();
        let sink = Box::new(Recorder { say, broken });
        (Writer::new("web1".into(), sink, Suspects::of_opener(None)), said)
    }

    fn write(writer: &Writer, offset: u64, data: &[u8]) -> Result<u32, i32> {
        let (tell, told) = unbounded();
        let then = Box::new(move |result: io::Result<u32>| tell.send(result).unwrap());
        writer.write(offset, data.to_vec(), then);
        told.recv().unwrap().map_err(|error| errno_of(&error))
    }

    fn finish(writer: &Writer) -> Result<(), i32> {
        let (tell, told) = unbounded();
        writer.finish(Box::new(move |outcome| tell.send(outcome).unwrap()));
        told.recv().unwrap()
    }

    #[test]
    fn bytes_go_on_in_order_holes_as_zeros_and_the_end_is_told_to_all() {
        let (writer, said) = writer(false);
        assert_eq!(write(&writer, 0, b"abc"), Ok(3));
        assert_eq!(write(&writer, 5, b"d"), Ok(1));
        assert_eq!((finish(&writer), finish(&writer)), (Ok(()), Ok(())));
        assert_eq!(write(&writer, 6, b"late"), Err(libc::EIO));
        writer.abort("too late", libc::EIO);
        drop(writer);
        assert_eq!(said.iter().collect::<Vec<_>>(), ["0+3", "3+2", "5+1", "finish"]);
    }

    #[test]
    fn an_empty_stream_and_one_that_failed_leave_no_snapshot() {
        let (empty, said) = writer(false);
        assert_eq!(finish(&empty), Ok(()));
        assert_eq!(said.recv().unwrap(), "abort: nothing was written");
        let (back, said) = writer(false);
        assert_eq!(write(&back, 0, b"abc"), Ok(3));
        assert_eq!(write(&back, 1, b"x"), Err(libc::ESPIPE));
        assert_eq!(write(&back, 3, b"d"), Err(libc::ESPIPE));
        assert_eq!(finish(&back), Err(libc::ESPIPE));
        assert_eq!(said.recv().unwrap(), "0+3");
        assert_eq!(said.recv().unwrap(), "abort: a write before its end");
        let (full, said) = writer(true);
        assert_eq!(write(&full, 0, b"abc"), Err(libc::ENOSPC));
        assert_eq!(write(&full, 3, b"def"), Err(libc::ENOSPC));
        assert_eq!(finish(&full), Err(libc::ENOSPC));
        assert_eq!(said.recv().unwrap(), "0+3");
        assert!(said.recv().unwrap().starts_with("abort: a write failed"));
    }
}
