//! [`OpenReply`]: OPEN and CREATE end alike.

use super::attr::{GENERATION, file_attr};
use crate::tree::Attributes;
use fuser::{Errno, FileHandle, FopenFlags, ReplyCreate, ReplyOpen};
use std::time::Duration;

/// The reply to an operation that opens a file.
pub enum OpenReply {
    Open(ReplyOpen),
    Create(ReplyCreate),
}

impl OpenReply {
    /// `attributes` and `ttl` matter to CREATE only; the caller has counted its lookup.
    pub fn opened(
        self,
        handle: FileHandle,
        flags: FopenFlags,
        attributes: &Attributes,
        ttl: Duration,
    ) {
        match self {
            OpenReply::Open(reply) => reply.opened(handle, flags),
            OpenReply::Create(reply) => {
                reply.created(&ttl, &file_attr(attributes), GENERATION, handle, flags);
            }
        }
    }

    /// CREATE counts as a lookup of what it opened.
    pub fn is_create(&self) -> bool {
        matches!(self, OpenReply::Create(_))
    }

    pub fn error(self, errno: Errno) {
        match self {
            OpenReply::Open(reply) => reply.error(errno),
            OpenReply::Create(reply) => reply.error(errno),
        }
    }
}
