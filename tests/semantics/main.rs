//! One test a promise of `docs/semantics.md`, through the kernel. Each quotes its promise.

mod consistency;
mod errors;
mod files;
mod mappings;
mod metadata;
mod names;
#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::sync::Arc;
use support::mounted::Mounted;

/// A directory of this test's own on three hosts; the cluster stays while any test holds it.
struct Hosts {
    a: PathBuf,
    b: PathBuf,
    c: PathBuf,
    cluster: Arc<Mounted>,
}

/// `None`: this machine cannot mount, which has been said.
fn hosts(name: &str) -> Option<Hosts> {
    if !support::can_mount() {
        return None;
    }
    let cluster = Mounted::shared();
    let [a, b, c] = cluster.fresh(name).try_into().ok()?;
    Some(Hosts { a, b, c, cluster })
}

impl Hosts {
    fn all(&self) -> [&PathBuf; 3] {
        [&self.a, &self.b, &self.c]
    }
}

/// Runs `work` in a thread for each host and returns what they return.
fn together<T: Send>(hosts: &Hosts, work: impl Fn(usize, &PathBuf) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = hosts
            .all()
            .into_iter()
            .enumerate()
            .map(|(at, host)| scope.spawn(move || work(at, host)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}
