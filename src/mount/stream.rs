//! Backup streams: reading and writing `/backup/node/NAME/backup`.

use super::handles::Handle;
use super::opened::OpenReply;
use super::{Caller, Mount};
use crate::tree::Attributes;
use fuser::{Errno, ReplyData, ReplyEmpty, ReplyWrite};
use std::sync::Arc;

/// What an open stream handle keeps.
pub struct OpenStream {}

impl Mount {
    /// OPEN or CREATE of a znode of kind `Stream`. Enter the handle with `handles.open`, and answer
    /// with `FOPEN_DIRECT_IO`: a READ that waits must not hold pages locked, or the notifier blocks.
    pub fn open_stream(
        self: &Arc<Self>,
        caller: Caller,
        attributes: Attributes,
        flags: i32,
        reply: OpenReply,
    ) {
        let _ = (caller, attributes, flags);
        reply.error(Errno::ENOTSUP);
    }

    pub fn read_stream(
        self: &Arc<Self>,
        stream: &OpenStream,
        offset: u64,
        size: u32,
        reply: ReplyData,
    ) {
        let _ = (stream, offset, size);
        reply.error(Errno::ENOTSUP);
    }

    pub fn write_stream(
        self: &Arc<Self>,
        stream: &OpenStream,
        offset: u64,
        data: &[u8],
        reply: ReplyWrite,
    ) {
        let _ = (stream, offset, data);
        reply.error(Errno::ENOTSUP);
    }

    /// FLUSH: some descriptor of it is being closed, or its process is ending.
    pub fn flush_stream(
        self: &Arc<Self>,
        caller: Caller,
        handle: &Arc<Handle>,
        stream: &OpenStream,
        reply: ReplyEmpty,
    ) {
        let _ = (caller, handle, stream);
        reply.ok();
    }

    /// RELEASE: the last descriptor is closed; the handle leaves the table right after.
    pub fn release_stream(self: &Arc<Self>, stream: &OpenStream) {
        let _ = stream;
    }
}
