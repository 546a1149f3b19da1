//! [`Content`]: the bytes of one file.
//!
//! A small file is one allocation. A larger one is 64 KiB chunks, so that a write copies at most
//! the chunks it touches (when a snapshot shares them), and absent chunks are holes that cost
//! nothing.

use bincode::{Decode, Encode};
use std::ops::Range;
use std::sync::Arc;

/// Up to here a file is one allocation of exactly its size.
const SMALL_BYTES_MAX: u64 = 4 << 10;
/// What one write to a large file copies at most, and the grain of its holes.
const CHUNK_BYTES: u64 = 64 << 10;

#[derive(Clone, Encode, Decode)]
pub(super) enum Content {
    Small(Arc<[u8]>),
    Chunked(Arc<Chunks>),
}

#[derive(Clone, Encode, Decode)]
pub(super) struct Chunks {
    size: u64,
    /// `None` and what lies past the end of this vector are holes. A chunk may hold less than its
    /// share of the file: the rest reads as zeros. None holds bytes past `size`.
    chunks: Vec<Option<Arc<Vec<u8>>>>,
}

impl Content {
    pub fn empty() -> Content {
        Content::Small(Arc::default())
    }

    pub fn size(&self) -> u64 {
        match self {
            Content::Small(bytes) => bytes.len() as u64,
            Content::Chunked(chunks) => chunks.size,
        }
    }

    /// Bytes kept in memory: the size without the holes.
    pub fn stored(&self) -> u64 {
        match self {
            Content::Small(bytes) => bytes.len() as u64,
            Content::Chunked(chunks) => (0..chunks.chunks.len()).map(|at| chunks.held(at)).sum(),
        }
    }

    /// How much [`Content::stored`] grows when `length` bytes are written at `offset`.
    pub fn growth(&self, offset: u64, length: u64) -> u64 {
        if length == 0 {
            return 0;
        }
        let end = offset + length;
        let held = |chunk: usize| match self {
            Content::Small(bytes) if chunk == 0 => bytes.len() as u64,
            Content::Small(_) => 0,
            Content::Chunked(chunks) => chunks.held(chunk),
        };
        if let Content::Small(bytes) = self
            && end <= SMALL_BYTES_MAX
        {
            return end.saturating_sub(bytes.len() as u64);
        }
        pieces(offset..end).map(|piece| piece.to.saturating_sub(held(piece.chunk))).sum()
    }

    /// What a file of this size stores at least once it was resized to it: a small one has no
    /// holes.
    pub fn growth_to(size: u64) -> u64 {
        if size <= SMALL_BYTES_MAX { size } else { 0 }
    }

    /// Copies out up to `length` bytes from `offset`; shorter at the end.
    pub fn read(&self, offset: u64, length: u64) -> Vec<u8> {
        let start = offset.min(self.size());
        let end = offset.saturating_add(length).min(self.size());
        match self {
            Content::Small(bytes) => bytes[start as usize..end as usize].to_vec(),
            Content::Chunked(chunks) => chunks.read(start..end),
        }
    }

    /// Writes `data` at `offset`; what lies between the old end and `offset` becomes zeros.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let end = offset + data.len() as u64;
        match self {
            Content::Small(bytes) if end <= SMALL_BYTES_MAX => write_small(bytes, offset, data),
            _ => self.chunked().write(offset, data),
        }
    }

    /// Cuts off what lies past `size`, or adds zeros up to it.
    pub fn resize(&mut self, size: u64) {
        if size <= SMALL_BYTES_MAX {
            if size != self.size() || matches!(self, Content::Chunked(_)) {
                let mut bytes = self.read(0, size);
                bytes.resize(size as usize, 0);
                *self = Content::Small(bytes.into());
            }
        } else {
            self.chunked().resize(size);
        }
    }

    /// Makes the range zeros and whole chunks of it holes; the size stays.
    pub fn punch(&mut self, range: Range<u64>) {
        let range = range.start..range.end.min(self.size());
        if range.is_empty() {
            return;
        }
        match self {
            Content::Small(bytes) => {
                Arc::make_mut(bytes)[range.start as usize..range.end as usize].fill(0);
            }
            Content::Chunked(chunks) => Arc::make_mut(chunks).punch(range),
        }
    }

    /// The next hole or data from `offset` on; the end counts as a hole. `None`: there is no more.
    pub fn seek(&self, offset: u64, hole: bool) -> Option<u64> {
        let size = self.size();
        if offset >= size {
            return None;
        }
        match self {
            Content::Small(_) => Some(if hole { size } else { offset }),
            Content::Chunked(chunks) => {
                let last = (size - 1) / CHUNK_BYTES;
                let mut at = offset / CHUNK_BYTES..=last;
                let found = at.find(|chunk| chunks.is_hole(*chunk as usize) == hole);
                match found {
                    Some(chunk) => Some(offset.max(chunk * CHUNK_BYTES)),
                    None => hole.then_some(size),
                }
            }
        }
    }

    fn chunked(&mut self) -> &mut Chunks {
        if let Content::Small(bytes) = self {
            let first = (!bytes.is_empty()).then(|| Arc::new(bytes.to_vec()));
            let size = bytes.len() as u64;
            *self = Content::Chunked(Arc::new(Chunks { size, chunks: vec![first] }));
        }
        match self {
            Content::Chunked(chunks) => Arc::make_mut(chunks),
            Content::Small(_) => unreachable!("made large above"),
        }
    }
}

fn write_small(bytes: &mut Arc<[u8]>, offset: u64, data: &[u8]) {
    let (start, end) = (offset as usize, offset as usize + data.len());
    if start == 0 && end >= bytes.len() {
        if end == bytes.len()
            && let Some(own) = Arc::get_mut(bytes)
        {
            own.copy_from_slice(data);
        } else {
            *bytes = data.into();
        }
    } else if end <= bytes.len() {
        Arc::make_mut(bytes)[start..end].copy_from_slice(data);
    } else {
        let mut grown = Vec::with_capacity(end);
        grown.extend_from_slice(&bytes[..start.min(bytes.len())]);
        grown.resize(start, 0);
        grown.extend_from_slice(data);
        *bytes = grown.into();
    }
}

impl Chunks {
    /// Bytes the chunk holds.
    fn held(&self, chunk: usize) -> u64 {
        self.chunks.get(chunk).and_then(Option::as_ref).map_or(0, |bytes| bytes.len() as u64)
    }

    fn is_hole(&self, chunk: usize) -> bool {
        self.held(chunk) == 0
    }

    fn read(&self, range: Range<u64>) -> Vec<u8> {
        let mut read = Vec::with_capacity((range.end - range.start) as usize);
        for piece in pieces(range) {
            let end = read.len() + (piece.to - piece.from) as usize;
            if let Some(Some(bytes)) = self.chunks.get(piece.chunk) {
                let to = (piece.to as usize).min(bytes.len());
                read.extend_from_slice(&bytes[(piece.from as usize).min(to)..to]);
            }
            read.resize(end, 0);
        }
        read
    }

    fn write(&mut self, offset: u64, mut data: &[u8]) {
        let end = offset + data.len() as u64;
        self.size = self.size.max(end);
        for piece in pieces(offset..end) {
            let (now, later) = data.split_at((piece.to - piece.from) as usize);
            data = later;
            if self.chunks.len() <= piece.chunk {
                self.chunks.resize(piece.chunk + 1, None);
            }
            let bytes = Arc::make_mut(self.chunks[piece.chunk].get_or_insert_default());
            let (from, to) = (piece.from as usize, piece.to as usize);
            if to > bytes.capacity() {
                let wanted = (bytes.len() + bytes.len() / 4).min(CHUNK_BYTES as usize).max(to);
                bytes.reserve_exact(wanted - bytes.len());
            }
            if bytes.len() < to {
                bytes.resize(to, 0);
            }
            bytes[from..to].copy_from_slice(now);
        }
    }

    fn resize(&mut self, size: u64) {
        if size < self.size {
            self.chunks.truncate(size.div_ceil(CHUNK_BYTES) as usize);
            let last = (size / CHUNK_BYTES) as usize;
            if let Some(Some(bytes)) = self.chunks.get_mut(last) {
                let kept = (size % CHUNK_BYTES) as usize;
                if kept < bytes.len() {
                    *bytes = Arc::new(bytes[..kept].to_vec());
                }
            }
        }
        self.size = size;
    }

    fn punch(&mut self, range: Range<u64>) {
        for piece in pieces(range) {
            let Some(chunk) = self.chunks.get_mut(piece.chunk) else { return };
            let Some(bytes) = chunk else { continue };
            let (from, to) = (piece.from as usize, (piece.to as usize).min(bytes.len()));
            if from == 0 && to == bytes.len() {
                *chunk = None;
            } else if from < to {
                Arc::make_mut(bytes)[from..to].fill(0);
            }
        }
    }
}

/// A part of a range that lies in one chunk; `from..to` counts from the chunk's start.
struct Piece {
    chunk: usize,
    from: u64,
    to: u64,
}

fn pieces(range: Range<u64>) -> impl Iterator<Item = Piece> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        if at >= range.end {
            return None;
        }
        let (chunk, from) = (at / CHUNK_BYTES, at % CHUNK_BYTES);
        let to = CHUNK_BYTES.min(from + (range.end - at));
        at += to - from;
        Some(Piece { chunk: chunk as usize, from, to })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const END: u64 = 3 * CHUNK_BYTES;

    /// Sizes around which things change.
    fn place() -> impl Strategy<Value = u64> {
        prop_oneof![
            0..64u64,
            SMALL_BYTES_MAX - 32..SMALL_BYTES_MAX + 32,
            CHUNK_BYTES - 32..CHUNK_BYTES + 32,
            0..END
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
        /// Does what a vector of bytes does; clones never change; `growth` is exact.
        #[test]
        fn behaves_as_bytes(steps in prop::collection::vec((0..6u8, place(), place()), 1..40)) {
            let (mut content, mut model) = (Content::empty(), Vec::<u8>::new());
            let mut clone = (content.clone(), model.clone());
            for (step, (what, offset, length)) in steps.into_iter().enumerate() {
                let end = (offset + length).min(END);
                match what {
                    0..3 => {
                        let data = vec![step as u8 + 1; end.saturating_sub(offset) as usize];
                        let stored = content.stored() + content.growth(offset, data.len() as u64);
                        content.write(offset, &data);
                        prop_assert_eq!(content.stored(), stored);
                        if !data.is_empty() {
                            model.resize(model.len().max(end as usize), 0);
                            model[offset as usize..end as usize].copy_from_slice(&data);
                        }
                    }
                    3 => {
                        content.resize(length);
                        model.resize(length as usize, 0);
                    }
                    4 => {
                        content.punch(offset..end);
                        let end = (end as usize).min(model.len());
                        let start = (offset as usize).min(end);
                        model[start..end].fill(0);
                    }
                    _ => clone = (content.clone(), model.clone()),
                }
                prop_assert_eq!(content.size(), model.len() as u64);
                prop_assert!(content.stored() <= content.size());
                prop_assert!(content.read(0, u64::MAX) == model);
                prop_assert!(clone.0.read(0, u64::MAX) == clone.1);
                let (from, to) = (offset.min(content.size()), end.min(content.size()));
                if from < to {
                    let expected = &model[from as usize..to as usize];
                    prop_assert!(content.read(from, to - from) == expected);
                }
            }
        }
    }

    #[test]
    fn holes_are_found() {
        let mut content = Content::empty();
        content.write(2 * CHUNK_BYTES + 5, b"x");
        assert_eq!(content.seek(0, false), Some(2 * CHUNK_BYTES));
        assert_eq!(content.seek(7, true), Some(7));
        assert_eq!(content.seek(2 * CHUNK_BYTES + 1, true), Some(2 * CHUNK_BYTES + 6));
        assert_eq!(content.seek(2 * CHUNK_BYTES + 6, false), None);
        content.punch(2 * CHUNK_BYTES..3 * CHUNK_BYTES);
        assert_eq!(content.seek(0, false), None);
        assert_eq!((content.size(), content.stored()), (2 * CHUNK_BYTES + 6, 0));
    }
}
