//! What the mount needs of a place for backup streams; `backup/` is that place.

use std::io;

/// The outcome of one step, told on a thread of the store's.
pub type StreamDone<T> = Box<dyn FnOnce(io::Result<T>) + Send>;

/// Takes and gives the bytes of `/backup/node/NAME/backup`.
pub trait StreamStore: Send + Sync {
    /// A new stream for host `name` (the directory's name). One at a time for each host: EBUSY.
    fn begin(&self, name: &str) -> io::Result<Box<dyn StreamSink>>;
    /// The newest snapshot's bytes (ENODATA if there is none), from here or a peer's copy.
    fn open(&self, name: &str) -> io::Result<Box<dyn StreamSource>>;
    /// Counters and gauges in the Prometheus text format, to follow the node's.
    fn metrics(&self) -> String {
        String::new()
    }
}

/// A stream being written. Steps are taken in order; dropping it is an abort.
pub trait StreamSink: Send {
    /// `offset` must be where the last write ended (ESPIPE otherwise). `done` runs when the bytes
    /// are taken: a slow store is a slow writer, in bounded memory.
    fn write(&mut self, offset: u64, data: Vec<u8>, done: StreamDone<u32>);
    /// The end: `done` runs when the snapshot is stored, copied to the peers, and recorded.
    fn finish(self: Box<Self>, done: StreamDone<()>);
    /// No snapshot shall come of it; `why` is logged.
    fn abort(self: Box<Self>, why: &str);
}

/// A snapshot being read.
pub trait StreamSource: Send + Sync {
    fn size(&self) -> u64;
    /// Reads at any offset; sequential reads are fast. Tells on a thread of the store's.
    fn read(&self, offset: u64, length: u32, done: StreamDone<Vec<u8>>);
}
