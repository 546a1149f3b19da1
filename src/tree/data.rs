//! The bytes of files: write and fallocate.

use super::content::Content;
use super::edit::Edit;
use super::inode::Body;
use super::{AllocateHow, Change, Ino, Place, Refusal, Reply, Stored, Write};

impl Edit<'_> {
    pub fn write(&mut self, write: &Write) -> Result<Reply, Refusal> {
        let content = self.content(write.ino)?;
        let size = content.size();
        let (offset, replace) = match write.place {
            Place::At(offset) => (offset, false),
            Place::End => (size, false),
            Place::Replace(offset) => (offset, true),
        };
        let length = write.data.len() as u64;
        let end = self.check_size(offset, length)?;
        let written = Reply::Written { offset, length: write.data.len() as u32 };
        if length == 0 && !replace {
            return Ok(written);
        }
        let growth = if replace {
            (Content::empty().growth(offset, length) + Content::growth_to(offset))
                .saturating_sub(content.stored())
        } else {
            content.growth(offset, length)
        };
        self.check_space(0, growth)?;
        let (zxid, now) = (self.zxid(), self.now());
        self.change_stored(write.ino, |inode| {
            if let Body::File(content) = &mut inode.body {
                if replace {
                    *content = Content::empty();
                    content.resize(offset);
                }
                content.write(offset, &write.data);
            }
            if write.clear_set_id {
                inode.clear_set_id();
            }
            inode.touch_data(zxid, now);
        });
        // What lay between the old end and the offset reads as zeros now.
        let from = if replace { 0 } else { offset.min(size) };
        let to = if replace { end.max(size) } else { end };
        self.change(if from < to {
            Change::Data { ino: write.ino, offset: from, length: to - from }
        } else {
            Change::Attributes { ino: write.ino }
        });
        Ok(written)
    }

    /// Nothing stored is nothing changed, but shown as if something were.
    pub fn store(&mut self, stored: &Stored) -> Result<Reply, Refusal> {
        let content = self.content(stored.ino)?;
        if stored.data.is_empty() {
            self.change(Change::Attributes { ino: stored.ino });
            return Ok(Reply::Done);
        }
        let size = content.size();
        let mut merged = content.clone();
        let mut span = None;
        for (offset, data) in stored.runs().take_while(|(offset, _)| *offset < size) {
            let end = (offset + data.len() as u64).min(size);
            merged.write(offset, &data[..(end - offset) as usize]);
            span = Some((span.map_or(offset, |(from, _)| from), end));
        }
        let Some((from, to)) = span else { return Ok(Reply::Done) };
        self.check_space(0, merged.stored().saturating_sub(content.stored()))?;
        let (zxid, now) = (self.zxid(), self.now());
        self.change_stored(stored.ino, |inode| {
            if let Body::File(content) = &mut inode.body {
                *content = merged;
            }
            inode.touch_data(zxid, now);
        });
        self.change(Change::Stored { ino: stored.ino, offset: from, length: to - from });
        Ok(Reply::Done)
    }

    pub fn allocate(
        &mut self,
        ino: Ino,
        offset: u64,
        length: u64,
        how: AllocateHow,
    ) -> Result<Reply, Refusal> {
        let content = self.content(ino)?;
        if length == 0 {
            return Err(Refusal::Invalid);
        }
        let size = content.size();
        let (grows, zeroes) = match how {
            AllocateHow::Grow => (true, false),
            AllocateHow::KeepSize => (false, false),
            AllocateHow::PunchHole => (false, true),
            AllocateHow::ZeroRange { keep_size } => (!keep_size, true),
        };
        let end = match how {
            AllocateHow::PunchHole => offset.saturating_add(length),
            _ => self.check_size(offset, length)?,
        };
        let new_size = if grows { size.max(end) } else { size };
        self.check_space(0, Content::growth_to(new_size).saturating_sub(content.stored()))?;
        if new_size == size && !(zeroes && offset < size) {
            return Ok(Reply::Done);
        }
        let (zxid, now) = (self.zxid(), self.now());
        self.change_stored(ino, |inode| {
            if let Body::File(content) = &mut inode.body {
                if zeroes {
                    content.punch(offset..end);
                }
                if new_size != size {
                    content.resize(new_size);
                }
            }
            inode.touch_data(zxid, now);
        });
        let from = if zeroes { offset.min(size) } else { size };
        let to = end.min(size).max(new_size);
        self.change(Change::Data { ino, offset: from, length: to.saturating_sub(from) });
        Ok(Reply::Done)
    }

    /// The bytes of a regular file.
    ///
    /// # Errors
    /// `Stale`, `IsADirectory`, `Invalid` for what keeps no bytes in the tree.
    pub fn content(&self, ino: Ino) -> Result<&Content, Refusal> {
        match &self.inode(ino)?.body {
            Body::File(content) => Ok(content),
            Body::Directory(_) => Err(Refusal::IsADirectory),
            _ => Err(Refusal::Invalid),
        }
    }

    /// The end of a range, if a file may reach so far.
    ///
    /// # Errors
    /// `FileTooBig`.
    pub fn check_size(&self, offset: u64, length: u64) -> Result<u64, Refusal> {
        let end = offset.checked_add(length).ok_or(Refusal::FileTooBig)?;
        if end > self.tree.limits.file_bytes { Err(Refusal::FileTooBig) } else { Ok(end) }
    }
}
