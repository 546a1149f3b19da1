//! READ and LSEEK: from the tree here, with no quorum.

use crate::mount::handles::HandleKind;
use crate::mount::{Mount, errno};
use crate::tree::Ino;
use fuser::{Errno, ReplyData, ReplyLseek};
use std::sync::Arc;

/// What READ asks for.
#[derive(Clone, Copy)]
pub struct Reading {
    pub offset: u64,
    pub size: u32,
    /// For the kernel's page cache: a descriptor that does direct I/O says who reads.
    pub into_cache: bool,
}

impl Mount {
    pub fn read(self: &Arc<Self>, ino: Ino, fh: u64, reading: Reading, reply: ReplyData) {
        let Reading { offset, size, into_cache } = reading;
        let Some(handle) = self.handles.get(fh) else { return reply.error(Errno::EBADF) };
        match &handle.kind {
            HandleKind::Control(text) => reply.data(part(text, offset, size)),
            HandleKind::Stream(stream) => self.read_stream(stream, offset, size, reply),
            HandleKind::File | HandleKind::Ticket => {
                // Pages are everybody's.
                if !into_cache && self.sees_truncation(ino, fh) {
                    return reply.data(&[]);
                }
                if into_cache {
                    // Before the tree is read: a change after that finds the mark.
                    self.inodes.gives_pages(ino);
                }
                let data = self.cluster.tree().read(ino, offset, size as usize);
                match data {
                    Ok(data) => {
                        if into_cache {
                            self.mapped.given(ino, offset, size as usize, &data);
                        }
                        reply.data(&data);
                    }
                    Err(refusal) => reply.error(errno::of_refusal(refusal)),
                }
            }
        }
    }

    pub fn lseek(&self, ino: Ino, fh: u64, offset: i64, whence: i32, reply: ReplyLseek) {
        let hole = match whence {
            libc::SEEK_DATA => false,
            libc::SEEK_HOLE => true,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
        if self.sees_truncation(ino, fh) {
            return reply.error(Errno::ENXIO);
        }
        let found = self.cluster.tree().seek(ino, offset, hole);
        match found {
            Ok(Some(offset)) => reply.offset(offset as i64),
            Ok(None) => reply.error(Errno::ENXIO),
            Err(refusal) => reply.error(errno::of_refusal(refusal)),
        }
    }
}

fn part(text: &[u8], offset: u64, size: u32) -> &[u8] {
    let start = usize::try_from(offset).map_or(text.len(), |offset| offset.min(text.len()));
    let end = start.saturating_add(size as usize).min(text.len());
    &text[start..end]
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn reading_past_the_end_of_a_text_is_empty() {
        assert_eq!(part(b"leader: a\n", 8, 100), b"a\n");
        assert_eq!(part(b"leader: a\n", 10, 1), b"");
        assert_eq!(part(b"leader: a\n", u64::MAX, 1), b"");
    }
}
