//! Backup streams: reading and writing `/backup/node/NAME/backup`.

use super::handles::Handle;
use super::opened::OpenReply;
use super::{Caller, Mount};
use crate::tree::Attributes;
use fuser::{Errno, ReplyData, ReplyEmpty, ReplyWrite};
use std::sync::Arc;

/// What an open stream handle keeps.
pub enum OpenStream {}

impl Mount {
    pub fn open_stream(
        self: &Arc<Self>,
        caller: Caller,
        attributes: Attributes,
        flags: i32,
        reply: OpenReply,
    ) {
        let _ = (caller, attributes, flags, &self.streams);
        reply.error(Errno::ENOTSUP);
    }

    pub fn read_stream(&self, stream: &OpenStream, offset: u64, size: u32, reply: ReplyData) {
        let _ = (stream, offset, size);
        reply.error(Errno::ENOTSUP);
    }

    pub fn write_stream(
        &self,
        caller: Caller,
        stream: &OpenStream,
        offset: u64,
        data: &[u8],
        reply: ReplyWrite,
    ) {
        let _ = (caller, stream, offset, data);
        reply.error(Errno::ENOTSUP);
    }

    pub fn grow_stream(
        &self,
        stream: &OpenStream,
        length: u64,
        then: impl FnOnce(Result<(), Errno>) + Send + 'static,
    ) {
        let _ = (stream, length);
        then(Err(Errno::ENOTSUP));
    }

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

    pub fn release_stream(&self, stream: &OpenStream) {
        let _ = stream;
    }
}
