//! [`CowMap`]: a sorted map whose clone is cheap and independent.
//!
//! Items lie in chunks of up to `N`, each behind an `Arc`. A clone shares all chunks; the first
//! write into a shared chunk copies that chunk alone. So a snapshot of a million inodes costs one
//! reference per chunk, and memory beyond the items themselves stays small: chunks grow by a
//! quarter and have room for `N` items at most, and ascending keys (inode numbers) fill them whole.

use bincode::de::{BorrowDecoder, Decoder};
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{BorrowDecode, Decode, Encode};
use std::fmt;
use std::sync::Arc;

/// A sorted map of chunks with at most `N` items each.
#[derive(Clone)]
pub struct CowMap<K, V, const N: usize> {
    chunks: Vec<Chunk<K, V>>,
    len: usize,
}

#[derive(Clone)]
struct Chunk<K, V> {
    /// Not above the first key, and above every key of the chunk before: found without touching
    /// `items`.
    low: K,
    /// Never empty.
    items: Arc<Vec<(K, V)>>,
}

impl<K: Ord + Copy, V: Clone, const N: usize> CowMap<K, V, N> {
    /// An empty map; it allocates nothing.
    pub fn new() -> Self {
        CowMap { chunks: Vec::new(), len: 0 }
    }

    /// The number of items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of `key`: two binary searches, over chunks and in one.
    pub fn get(&self, key: K) -> Option<&V> {
        let items = &self.chunks.get(self.chunk_of(key))?.items;
        items.binary_search_by(|item| item.0.cmp(&key)).ok().map(|at| &items[at].1)
    }

    /// Whether `key` has a value.
    pub fn contains(&self, key: K) -> bool {
        self.get(key).is_some()
    }

    /// For writing: copies the chunk if a clone shares it.
    pub fn get_mut(&mut self, key: K) -> Option<&mut V> {
        let chunk = self.chunk_of(key);
        let items = &mut self.chunks.get_mut(chunk)?.items;
        let at = items.binary_search_by(|item| item.0.cmp(&key)).ok()?;
        Some(&mut Arc::make_mut(items)[at].1)
    }

    /// Returns the value it replaces.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let index = self.chunk_of(key);
        let is_last = index + 1 == self.chunks.len();
        let Some(chunk) = self.chunks.get_mut(index) else {
            self.chunks.push(Chunk::of(vec![(key, value)]));
            self.len = 1;
            return None;
        };
        let at = match chunk.items.binary_search_by(|item| item.0.cmp(&key)) {
            Ok(at) => {
                let old = &mut Arc::make_mut(&mut chunk.items)[at].1;
                return Some(std::mem::replace(old, value));
            }
            Err(at) => at,
        };
        self.len += 1;
        if chunk.items.len() < N {
            chunk.insert::<N>(at, key, value);
        } else if at == N && is_last {
            // Keys ascend, so this chunk will be full soon as well.
            let mut items = Vec::with_capacity(N);
            items.push((key, value));
            self.chunks.push(Chunk::of(items));
        } else {
            let mut upper = chunk.split(N / 2);
            if at <= N / 2 {
                chunk.insert::<N>(at, key, value);
            } else {
                upper.insert::<N>(at - N / 2, key, value);
            }
            self.chunks.insert(index + 1, upper);
        }
        None
    }

    /// Returns the value removed.
    pub fn remove(&mut self, key: K) -> Option<V> {
        let index = self.chunk_of(key);
        let items = &mut self.chunks.get_mut(index)?.items;
        let at = items.binary_search_by(|item| item.0.cmp(&key)).ok()?;
        let items = Arc::make_mut(items);
        let (_, value) = items.remove(at);
        self.len -= 1;
        if items.is_empty() {
            self.chunks.remove(index);
        } else if items.len() <= N / 4 {
            self.merge(index);
        }
        Some(value)
    }

    /// All items in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.chunks.iter().flat_map(|chunk| chunk.items.iter()).map(|(key, value)| (*key, value))
    }

    /// Items with keys from `key` on, in ascending order.
    pub fn from(&self, key: K) -> impl Iterator<Item = (K, &V)> {
        let chunks = &self.chunks[self.chunk_of(key).min(self.chunks.len())..];
        let skipped =
            chunks.first().map_or(0, |chunk| chunk.items.partition_point(|item| item.0 < key));
        let items = chunks.iter().flat_map(|chunk| chunk.items.iter());
        items.skip(skipped).map(|(key, value)| (*key, value))
    }

    /// The item with the least key.
    pub fn first(&self) -> Option<(K, &V)> {
        self.iter().next()
    }

    /// How many keys are below `key`: counted a chunk at a time.
    pub fn rank(&self, key: K) -> usize {
        let Some(chunk) = self.chunks.get(self.chunk_of(key)) else { return 0 };
        let before = &self.chunks[..self.chunk_of(key)];
        before.iter().map(|chunk| chunk.items.len()).sum::<usize>()
            + chunk.items.partition_point(|item| item.0 < key)
    }

    /// How many chunks of this map the other does not share: what writing since a clone has copied.
    #[cfg(test)]
    pub fn unshared(&self, other: &Self) -> usize {
        let shared = |chunk: &Chunk<K, V>| {
            let of = other.chunks.get(other.chunk_of(chunk.low));
            of.is_some_and(|of| Arc::ptr_eq(&of.items, &chunk.items))
        };
        self.chunks.iter().filter(|chunk| !shared(chunk)).count()
    }

    /// The chunk that holds `key` if any does; 0 if it lies before all.
    fn chunk_of(&self, key: K) -> usize {
        self.chunks.partition_point(|chunk| chunk.low <= key).saturating_sub(1)
    }

    /// Joins a chunk that has become small with a neighbour that has room.
    fn merge(&mut self, index: usize) {
        let left = if index + 1 < self.chunks.len() { index } else { index.saturating_sub(1) };
        let right = left + 1;
        let fits = self
            .chunks
            .get(right)
            .is_some_and(|chunk| chunk.items.len() + self.chunks[left].items.len() <= N / 2);
        if fits {
            let from = self.chunks.remove(right).items;
            Arc::make_mut(&mut self.chunks[left].items).extend(from.iter().cloned());
        }
        let items = Arc::make_mut(&mut self.chunks[left].items);
        if items.capacity() > 2 * items.len() {
            items.shrink_to_fit();
        }
    }
}

impl<K: Ord + Copy, V: Clone> Chunk<K, V> {
    /// `items` are sorted and not empty.
    fn of(items: Vec<(K, V)>) -> Self {
        Chunk { low: items[0].0, items: Arc::new(items) }
    }

    /// There are less than `N`.
    fn insert<const N: usize>(&mut self, at: usize, key: K, value: V) {
        self.low = self.low.min(key);
        let items = Arc::make_mut(&mut self.items);
        if items.len() == items.capacity() {
            items.reserve_exact((items.len() / 4).max(2).min(N - items.len()));
        }
        items.insert(at, (key, value));
    }

    /// Cuts off and returns what lies from `at` on.
    fn split(&mut self, at: usize) -> Self {
        let items = Arc::make_mut(&mut self.items);
        let upper = items.split_off(at);
        items.shrink_to_fit();
        Chunk::of(upper)
    }
}

impl<K: Ord + Copy, V: Clone, const N: usize> Default for CowMap<K, V, N> {
    fn default() -> Self {
        CowMap::new()
    }
}

impl<K: Ord + Copy, V: Clone, const N: usize> FromIterator<(K, V)> for CowMap<K, V, N> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(items: I) -> Self {
        let mut map = CowMap::new();
        for (key, value) in items {
            map.insert(key, value);
        }
        map
    }
}

impl<K: Ord + Copy, V: Clone + PartialEq, const N: usize> PartialEq for CowMap<K, V, N> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K, V, const N: usize> fmt::Debug for CowMap<K, V, N>
where
    K: Ord + Copy + fmt::Debug,
    V: Clone + fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// As a `BTreeMap` would be: the number of items, then each.
impl<K, V, const N: usize> Encode for CowMap<K, V, N>
where
    K: Ord + Copy + Encode,
    V: Clone + Encode,
{
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (self.len as u64).encode(encoder)?;
        self.iter().try_for_each(|(key, value)| {
            key.encode(encoder)?;
            value.encode(encoder)
        })
    }
}

impl<Context, K, V, const N: usize> Decode<Context> for CowMap<K, V, N>
where
    K: Ord + Copy + Decode<Context>,
    V: Clone + Decode<Context>,
{
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let mut map = CowMap::new();
        for _ in 0..u64::decode(decoder)? {
            let key = K::decode(decoder)?;
            map.insert(key, V::decode(decoder)?);
        }
        Ok(map)
    }
}

impl<'de, Context, K, V, const N: usize> BorrowDecode<'de, Context> for CowMap<K, V, N>
where
    K: Ord + Copy + Decode<Context>,
    V: Clone + Decode<Context>,
{
    fn borrow_decode<D: BorrowDecoder<'de, Context = Context>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        Decode::decode(decoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Small = CowMap<u16, u32, 4>;

    fn same(map: &Small, model: &BTreeMap<u16, u32>) {
        assert_eq!(map.len(), model.len());
        assert_eq!(map.is_empty(), model.is_empty());
        assert!(map.iter().eq(model.iter().map(|(key, value)| (*key, value))));
        assert_eq!(map.first(), model.first_key_value().map(|(key, value)| (*key, value)));
        for key in 0..70 {
            assert_eq!(map.get(key), model.get(&key));
            assert!(map.from(key).eq(model.range(key..).map(|(key, value)| (*key, value))));
            assert_eq!(map.rank(key), model.range(..key).count());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
        /// Does what a `BTreeMap` does, and clones taken on the way never change.
        #[test]
        fn behaves_as_a_map(operations in prop::collection::vec((0..4u8, 0..64u16), 0..300)) {
            let (mut map, mut model) = (Small::new(), BTreeMap::new());
            let mut clones = Vec::new();
            for (step, (what, key)) in operations.into_iter().enumerate() {
                let value = step as u32;
                match what {
                    0 | 1 => prop_assert_eq!(map.insert(key, value), model.insert(key, value)),
                    2 => prop_assert_eq!(map.remove(key), model.remove(&key)),
                    _ => {
                        if let Some(found) = map.get_mut(key) { *found = value }
                        if let Some(found) = model.get_mut(&key) { *found = value }
                        clones.push((map.clone(), model.clone()));
                    }
                }
            }
            clones.push((map, model));
            for (map, model) in &clones {
                same(map, model);
                prop_assert!(map.chunks.iter().all(|chunk| chunk.items.capacity() <= 4));
            }
        }
    }

    #[test]
    fn a_write_after_a_clone_copies_one_chunk() {
        let mut map: CowMap<u32, u32, 64> = (0..6400).map(|key| (key, 0)).collect();
        let clone = map.clone();
        assert_eq!(map.unshared(&clone), 0);
        map.insert(3200, 1);
        map.get_mut(3201);
        assert_eq!(map.unshared(&clone), 1);
    }

    #[test]
    fn comes_back_from_bytes_as_a_map_would() {
        let config = bincode::config::standard();
        let map: Small = (0..50).map(|key| (key * 3 % 50, u32::from(key))).collect();
        let model: BTreeMap<u16, u32> = map.iter().map(|(key, value)| (key, *value)).collect();
        let bytes = bincode::encode_to_vec(&map, config).unwrap();
        assert_eq!(bytes, bincode::encode_to_vec(&model, config).unwrap());
        let (read, _): (Small, usize) = bincode::decode_from_slice(&bytes, config).unwrap();
        assert_eq!(read, map);
    }

    #[test]
    fn ascending_keys_fill_chunks() {
        let mut map = CowMap::<u32, (), 64>::new();
        for key in 0..640 {
            map.insert(key, ());
        }
        assert_eq!(map.chunks.len(), 10);
        assert!(map.chunks.iter().all(|chunk| chunk.items.len() == 64));
        assert!(map.chunks.iter().all(|chunk| chunk.items.capacity() == 64));
    }
}
