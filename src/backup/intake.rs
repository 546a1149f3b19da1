//! The writer's end of a stream: steps come in from the mount, the engine reads bytes.
//!
//! A write is answered when the engine takes its bytes, so a slow engine is a slow writer and what
//! waits here is bounded by what the writer has under way. The [`Witness`] remembers how the stream
//! really ended, for the engine takes an error for an end.

use super::files::FileId;
use super::metrics::Metrics;
use crate::cluster::streams::{StreamDone, StreamSink};
use crate::error::Error;
use crossbeam_channel::{Receiver, Sender, select_biased};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a long stream is heard of in the log.
const PROGRESS_EVERY: Duration = Duration::from_secs(30);

/// One thing the mount wants.
pub enum Step {
    Write { offset: u64, data: Vec<u8>, done: StreamDone<u32> },
    Finish(StreamDone<()>),
    Abort(String),
}

/// The mount's handle on a stream. Without it and without an end, the stream is broken.
pub struct Sink {
    pub steps: Sender<Step>,
}

impl StreamSink for Sink {
    fn write(&mut self, offset: u64, data: Vec<u8>, done: StreamDone<u32>) {
        if let Err(unsent) = self.steps.send(Step::Write { offset, data, done }) {
            refuse(unsent.into_inner(), libc::EIO);
        }
    }

    fn finish(self: Box<Self>, done: StreamDone<()>) {
        if let Err(unsent) = self.steps.send(Step::Finish(done)) {
            refuse(unsent.into_inner(), libc::EIO);
        }
    }

    fn abort(self: Box<Self>, why: &str) {
        // A stream whose thread is gone is broken already.
        let _ = self.steps.send(Step::Abort(why.to_owned()));
    }
}

/// Answers a step with an errno.
pub fn refuse(step: Step, errno: i32) {
    match step {
        Step::Write { done, .. } => done(Err(io::Error::from_raw_os_error(errno))),
        Step::Finish(done) => done(Err(io::Error::from_raw_os_error(errno))),
        Step::Abort(_) => {}
    }
}

/// What was really given to the engine.
#[derive(Default)]
pub struct Witness {
    pub bytes: u64,
    digest: Sha256,
    pub end: Option<End>,
}

pub enum End {
    /// The writer is done, and waits for this to be told.
    Finished(StreamDone<()>),
    /// And why.
    Broken(Error),
}

impl Witness {
    /// SHA-256 of all bytes given.
    pub fn digest(&self) -> FileId {
        FileId(self.digest.clone().finalize().into())
    }
}

/// The engine's end of the stream.
pub struct Intake {
    host: String,
    steps: Receiver<Step>,
    stopping: Receiver<()>,
    lost: Receiver<Error>,
    witness: Arc<Mutex<Witness>>,
    metrics: Arc<Metrics>,
    current: Vec<u8>,
    /// How much of `current` is given.
    given: usize,
    /// Where the next write must begin.
    expected: u64,
    started: Instant,
    reported: Instant,
}

impl Intake {
    /// `lost` tells that what is read here cannot be stored: it is the end of the stream, and the
    /// answer of the writes that follow. Its sender must live as long as the intake.
    pub fn new(
        host: &str,
        steps: Receiver<Step>,
        stopping: Receiver<()>,
        lost: Receiver<Error>,
        metrics: Arc<Metrics>,
    ) -> (Intake, Arc<Mutex<Witness>>) {
        let witness = Arc::new(Mutex::new(Witness::default()));
        let now = Instant::now();
        let intake = Intake {
            host: host.to_owned(),
            steps,
            stopping,
            lost,
            witness: witness.clone(),
            metrics,
            current: Vec::new(),
            given: 0,
            expected: 0,
            started: now,
            reported: now,
        };
        (intake, witness)
    }

    /// Waits for bytes: false at the end.
    fn refill(&mut self) -> io::Result<bool> {
        match &self.witness.lock().end {
            Some(End::Finished(_)) => return Ok(false),
            Some(End::Broken(error)) => return Err(io::Error::other(error.to_string())),
            None => {}
        }
        let step = select_biased! {
            recv(self.lost) -> error => {
                let died = |_| Error::Backup("the engine died".to_owned());
                return self.broken(error.unwrap_or_else(died));
            }
            recv(self.stopping) -> _ => Step::Abort("keepfs is stopping".to_owned()),
            recv(self.steps) -> step => {
                step.unwrap_or_else(|_| Step::Abort("its writer is gone".to_owned()))
            }
        };
        match step {
            Step::Write { offset, done, .. } if offset != self.expected => {
                done(Err(io::Error::from_raw_os_error(libc::ESPIPE)));
                let expected = self.expected;
                let why = format!("a write at {offset} where {expected} was next");
                self.broken(Error::Backup(why))
            }
            Step::Write { data, done, .. } => {
                self.take(data, done);
                Ok(true)
            }
            Step::Finish(done) => {
                self.witness.lock().end = Some(End::Finished(done));
                Ok(false)
            }
            Step::Abort(why) => self.broken(Error::Backup(why)),
        }
    }

    fn take(&mut self, data: Vec<u8>, done: StreamDone<u32>) {
        let length = data.len() as u64;
        {
            let mut witness = self.witness.lock();
            witness.bytes += length;
            witness.digest.update(&data);
        }
        self.metrics.taken(length);
        self.expected += length;
        (self.current, self.given) = (data, 0);
        done(Ok(length as u32));
        if self.reported.elapsed() >= PROGRESS_EVERY {
            self.reported = Instant::now();
            let (host, mib) = (&self.host, self.expected >> 20);
            let rate = mib as f64 / self.started.elapsed().as_secs_f64();
            log::info!("backup of {host}: {mib} MiB so far, {rate:.1} MiB/s");
        }
    }

    fn broken(&mut self, error: Error) -> io::Result<bool> {
        let why = error.to_string();
        self.witness.lock().end = Some(End::Broken(error));
        Err(io::Error::other(why))
    }
}

impl Read for Intake {
    /// Fills the buffer, but at the end: rustic_core's chunker never asks for more at once than the
    /// least it was ever given, and would end up with a byte a call.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            if self.given == self.current.len() && !self.refill()? {
                break;
            }
            let length = (buffer.len() - filled).min(self.current.len() - self.given);
            let piece = &self.current[self.given..self.given + length];
            buffer[filled..filled + length].copy_from_slice(piece);
            self.given += length;
            filled += length;
        }
        Ok(filled)
    }
}
