//! Backup streams: reading and writing `/backup/node/NAME/backup`. Whatever may take long (finding
//! a snapshot, looking at who else writes) has a thread of its own: streams are rare.

use crate::cluster::streams::StreamStore;
use crate::mount::handles::{Handle, HandleKind};
use crate::mount::opened::OpenReply;
use crate::mount::stream::OpenStream;
use crate::mount::stream::closing::{self, Verdict};
use crate::mount::stream::holders::{OpenFile, Suspects};
use crate::mount::stream::writer::Writer;
use crate::mount::waiters::{End, Wait, Waiter};
use crate::mount::{Caller, Mount, processes};
use crate::tree::{Attributes, Ino};
use fuser::{Errno, FileHandle, FopenFlags, ReplyData, ReplyEmpty, ReplyWrite};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a new writer waits for the store to put away a stream that was given up.
const PUT_AWAY: Duration = Duration::from_secs(5);

impl Mount {
    /// OPEN or CREATE of a znode of kind `Stream`: for reading or for writing, not both, and not
    /// for appending to what is stored (EINVAL). EBUSY while another writer has it.
    pub fn open_stream(
        self: &Arc<Self>,
        caller: Caller,
        attributes: Attributes,
        flags: i32,
        reply: OpenReply,
    ) {
        let Some(store) = self.streams.clone() else { return reply.error(Errno::ENOTSUP) };
        let writes = flags & libc::O_ACCMODE == libc::O_WRONLY;
        if flags & libc::O_ACCMODE == libc::O_RDWR || writes && flags & libc::O_APPEND != 0 {
            return reply.error(Errno::EINVAL);
        }
        let Some(name) = self.stream_host(attributes.ino) else {
            return reply.error(Errno::ESTALE);
        };
        let mount = Arc::clone(self);
        aside("keepfs-open", move || {
            let opened = match writes {
                true => mount.begin_stream(&*store, caller, attributes.ino, name),
                false => open(&*store, &name),
            };
            match opened {
                Ok(stream) => mount.answer_opened(stream, attributes, flags, reply),
                Err(error) => reply.error(errno_of(&error)),
            }
        });
    }

    /// A new stream. While the store still puts away one that was given up, waits for that; what
    /// another writer has is EBUSY at once.
    fn begin_stream(
        &self,
        store: &dyn StreamStore,
        caller: Caller,
        ino: Ino,
        name: String,
    ) -> io::Result<OpenStream> {
        let suspects = Suspects::of_opener(processes::process_of(caller.pid));
        let deadline = Instant::now() + PUT_AWAY;
        loop {
            match store.begin(&name) {
                Ok(sink) => return Ok(OpenStream::Writing(Writer::new(name, sink, suspects))),
                Err(error)
                    if error.raw_os_error() == Some(libc::EBUSY)
                        && Instant::now() < deadline
                        && !self.is_being_written(ino) =>
                {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn is_being_written(&self, ino: Ino) -> bool {
        let writes = |handle: &Handle| match &handle.kind {
            HandleKind::Stream(OpenStream::Writing(writer)) => {
                handle.ino == ino && writer.outcome().is_none()
            }
            _ => false,
        };
        self.handles.any(writes)
    }

    pub fn read_stream(&self, stream: &OpenStream, offset: u64, size: u32, reply: ReplyData) {
        match stream {
            OpenStream::Reading(Some(source)) if offset < source.size() => {
                let done = |result: io::Result<Vec<u8>>| match result {
                    Ok(bytes) => reply.data(&bytes),
                    Err(error) => reply.error(errno_of(&error)),
                };
                source.read(offset, size, Box::new(done));
            }
            OpenStream::Reading(_) => reply.data(&[]),
            OpenStream::Writing(_) => reply.error(Errno::EBADF),
        }
    }

    /// In order only (ESPIPE); a hole is filled with zeros.
    pub fn write_stream(
        &self,
        caller: Caller,
        stream: &OpenStream,
        offset: u64,
        data: &[u8],
        reply: ReplyWrite,
    ) {
        let OpenStream::Writing(writer) = stream else { return reply.error(Errno::EBADF) };
        let written = |result: io::Result<u32>| match result {
            Ok(length) => reply.written(length),
            Err(error) => reply.error(errno_of(&error)),
        };
        if let Some(process) = processes::process_of(caller.pid)
            && !writer.knows(process)
        {
            writer.involve(process);
        }
        writer.write(offset, data.to_vec(), Box::new(written));
    }

    /// `ftruncate` of an open stream: can only make a hole at the end of it.
    pub fn grow_stream(
        &self,
        stream: &OpenStream,
        length: u64,
        then: impl FnOnce(Result<(), Errno>) + Send + 'static,
    ) {
        match stream {
            OpenStream::Writing(writer) => {
                let grown =
                    move |result: io::Result<()>| then(result.map_err(|error| errno_of(&error)));
                writer.grow(length, Box::new(grown));
            }
            OpenStream::Reading(_) => then(Err(Errno::EINVAL)),
        }
    }

    /// The lock is lost under which it was written: nothing comes of it. The errno for its writer.
    pub fn give_up_stream(&self, stream: &OpenStream) -> Errno {
        if let OpenStream::Writing(writer) = stream {
            writer.abort("the lock on it was lost", libc::EIO);
        }
        Errno::EIO
    }

    /// FLUSH: some descriptor of it is being closed, or its process is ending.
    pub fn flush_stream(
        self: &Arc<Self>,
        caller: Caller,
        handle: &Arc<Handle>,
        stream: &OpenStream,
        reply: ReplyEmpty,
    ) {
        let OpenStream::Writing(writer) = stream else { return reply.ok() };
        let (mount, writer, fh, ino) = (Arc::clone(self), writer.clone(), handle.fh, handle.ino);
        aside("keepfs-close", move || {
            let device = mount.device.get().map(String::as_str);
            let file = OpenFile { device, ino };
            match closing::judge(&writer, file, caller.pid) {
                Verdict::HeldByOthers => reply.ok(),
                Verdict::Finish => mount.finish_stream(fh, writer, caller.pid, reply),
                Verdict::Abort(why) => {
                    writer.abort(&why, libc::EIO);
                    reply.error(Errno::EIO);
                }
            }
        });
    }

    /// RELEASE: the last descriptor is gone. As a rule the stream has ended with a FLUSH.
    pub fn release_stream(&self, stream: &OpenStream) {
        if let OpenStream::Writing(writer) = stream {
            writer.finish(Box::new(|_| ()));
        }
    }

    /// Answers when the stream has ended; earlier if `thread` is to die of a signal, which ends no
    /// stream that is closed already.
    fn finish_stream(&self, fh: u64, writer: Writer, thread: u32, reply: ReplyEmpty) {
        let ended = writer.clone();
        let on_end = move |end| match (end, ended.outcome()) {
            (End::Done, Some(Ok(()))) => reply.ok(),
            (End::Done, Some(Err(errno))) => reply.error(Errno::from_i32(errno)),
            (End::TimedOut, _) => reply.error(Errno::ETIMEDOUT),
            (End::Interrupted, _) => reply.error(Errno::EINTR),
            _ => reply.error(Errno::EIO),
        };
        let deadline = self.patience.map(|patience| Instant::now() + patience);
        let waiter = Waiter { session: None, thread, deadline, on_end: Box::new(on_end) };
        self.waiters.enter(Wait::Close(fh), waiter);
        let waiters = Arc::clone(&self.waiters);
        writer.finish(Box::new(move |_| waiters.end(Wait::Close(fh), End::Done)));
    }

    fn answer_opened(
        &self,
        stream: OpenStream,
        attributes: Attributes,
        flags: i32,
        reply: OpenReply,
    ) {
        let kind = HandleKind::Stream(stream);
        let handle = Handle::new(attributes.ino, flags, self.cluster.session(), kind);
        let Some(handle) = self.handles.open(handle) else { return reply.error(Errno::ESTALE) };
        if reply.is_create() {
            self.inodes.looked_up(attributes.ino);
        }
        // Past the page cache: what it holds would be of another snapshot, and pages that wait for
        // a slow store would hold up the notifier.
        reply.opened(
            FileHandle(handle.fh),
            FopenFlags::FOPEN_DIRECT_IO,
            &attributes,
            Duration::ZERO,
        );
    }

    /// The directory a stream is in: `/backup/node/NAME/backup`.
    fn stream_host(&self, ino: Ino) -> Option<String> {
        let path = self.cluster.tree().path(ino)?;
        let mut parts = path.rsplit(|&byte| byte == b'/').skip(1);
        String::from_utf8(parts.next()?.to_vec()).ok()
    }
}

fn open(store: &dyn StreamStore, name: &str) -> io::Result<OpenStream> {
    match store.open(name) {
        Ok(source) => Ok(OpenStream::Reading(Some(Arc::from(source)))),
        Err(error) if error.raw_os_error() == Some(libc::ENODATA) => Ok(OpenStream::Reading(None)),
        Err(error) => Err(error),
    }
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_i32(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Runs what may block. Without a thread, the reply in it is dropped, which answers EIO.
fn aside(name: &str, work: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name(name.into()).spawn(work) {
        log::error!("cannot start a thread for a backup stream: {error}");
    }
}
