//! Big things beside the Raft stream, each on a connection of its own: tree snapshots, backup files.

use crate::tree::ReplicaId;
use std::io::{self, Read};
use std::sync::Arc;

/// The side channel to the other replicas.
pub struct Bulk {}

/// Serves one kind of thing to peers. Called on a connection's own thread.
pub trait BulkHandler: Send + Sync {
    /// A peer pushes `name`, `length` bytes. Returns once it is verified and durable here; the
    /// returned bytes (at most 64 KiB) are the receipt the pusher gets.
    fn receive(
        &self,
        from: ReplicaId,
        name: &str,
        length: u64,
        data: &mut dyn Read,
    ) -> io::Result<Vec<u8>>;
    /// A peer asks for `name` from `offset` on.
    fn fetch(
        &self,
        from: ReplicaId,
        name: &str,
        offset: u64,
        length: u64,
    ) -> io::Result<(u64, Box<dyn Read + Send>)>;
}

impl Bulk {
    /// From now on, `handler` serves what peers push and fetch under `kind` (`backup`, `snapshot`).
    pub fn serve(&self, kind: &'static str, handler: Arc<dyn BulkHandler>) {
        let _ = (kind, handler);
        todo!()
    }

    /// Pushes `length` bytes of `data` to a peer and waits for its receipt.
    pub fn push(
        &self,
        to: ReplicaId,
        kind: &str,
        name: &str,
        length: u64,
        data: &mut dyn Read,
    ) -> io::Result<Vec<u8>> {
        let _ = (to, kind, name, length, data);
        todo!()
    }

    /// Opens `name` at a peer from `offset`, at most `length` bytes; the length that will come, and
    /// the bytes.
    pub fn fetch(
        &self,
        from: ReplicaId,
        kind: &str,
        name: &str,
        offset: u64,
        length: u64,
    ) -> io::Result<(u64, Box<dyn Read + Send>)> {
        let _ = (from, kind, name, offset, length);
        todo!()
    }
}
