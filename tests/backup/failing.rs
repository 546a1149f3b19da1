//! What leaves no snapshot.

use crate::world::{World, bytes, eventually, put, wait};
use keepfs::backup::RusticEngine;
use keepfs::backup::catalogue::NotRecorded;
use keepfs::backup::credentials::Credentials;
use keepfs::backup::engine::{Archived, Engine, Follower, Label, Stored};
use keepfs::backup::files::FileId;
use keepfs::backup::repository::Repository;
use keepfs::cluster::streams::StreamStore;
use keepfs::error::Error;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Nothing counts, nothing waits to count, on no replica; and the next stream is taken.
fn left_nothing_and_goes_on(world: &World) {
    assert!(world.manifests().is_empty());
    eventually("the next stream", || match world.write(0, b"the next one") {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => false,
        result => result.map(|()| true).unwrap(),
    });
    assert_eq!(world.manifests().len(), 1);
    for replica in 0..3 {
        eventually("one snapshot", || world.files(replica, "snapshots").len() == 1);
        assert_eq!(world.read(replica).unwrap(), b"the next one");
    }
    assert!(world.files(0, "pending").is_empty());
    assert!(world.files(0, "aside").is_empty());
}

#[test]
fn a_stream_whose_writer_goes_away() {
    let world = World::new();
    let mut sink = world.replicas[0].backup.begin("web1").unwrap();
    put(&mut *sink, 0, &bytes(10, 20 << 20)).unwrap();
    drop(sink);
    left_nothing_and_goes_on(&world);
}

#[test]
fn a_stream_that_is_aborted() {
    let world = World::new();
    let mut sink = world.replicas[0].backup.begin("web1").unwrap();
    put(&mut *sink, 0, &bytes(11, 20 << 20)).unwrap();
    sink.abort("its writer was killed");
    left_nothing_and_goes_on(&world);
}

#[test]
fn a_stream_with_a_hole() {
    let world = World::new();
    let mut sink = world.replicas[0].backup.begin("web1").unwrap();
    put(&mut *sink, 0, b"front").unwrap();
    let hole = put(&mut *sink, 6, b"after a hole");
    assert_eq!(hole.unwrap_err().raw_os_error(), Some(libc::ESPIPE));
    assert_eq!(put(&mut *sink, 5, b"x").unwrap_err().raw_os_error(), Some(libc::EIO));
    assert_eq!(wait(|done| sink.finish(done)).unwrap_err().raw_os_error(), Some(libc::EIO));
    left_nothing_and_goes_on(&world);
}

#[test]
fn an_empty_stream() {
    let world = World::new();
    let empty = world.write(0, b"");
    assert_eq!(empty.unwrap_err().raw_os_error(), Some(libc::ENODATA));
    left_nothing_and_goes_on(&world);
}

#[test]
fn a_stop_of_the_daemon() {
    let mut world = World::new();
    let mut sink = world.replicas[0].backup.begin("web1").unwrap();
    put(&mut *sink, 0, &bytes(12, 20 << 20)).unwrap();
    world.restart(0);
    assert!(wait(|done| sink.finish(done)).is_err());
    left_nothing_and_goes_on(&world);
}

#[test]
fn too_few_peers() {
    let world = World::new();
    world.network.down.lock().unwrap().extend(["b", "c"]);
    let alone = world.write(0, &bytes(13, 4 << 20));
    assert_eq!(alone.unwrap_err().raw_os_error(), Some(libc::ENOTCONN));
    assert!(world.files(0, "pending").is_empty());
    world.network.down.lock().unwrap().clear();
    left_nothing_and_goes_on(&world);
}

#[test]
fn a_log_that_refuses_the_record() {
    let world = World::new();
    let no_quorum = Error::file("record", "web1")(io::Error::from_raw_os_error(libc::EROFS));
    *world.catalogue.refuse.lock().unwrap() = Some(NotRecorded::Never(no_quorum));
    let refused = world.write(0, b"refused");
    assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EROFS));
    left_nothing_and_goes_on(&world);
}

#[test]
fn a_repository_that_takes_no_more() {
    let world = World::new();
    let mut sink = world.replicas[0].backup.begin("web1").unwrap();
    put(&mut *sink, 0, b"front").unwrap();
    // Where every file is written first.
    let aside = world.repository(0).join("aside");
    eventually("the repository is made", || aside.exists());
    std::fs::remove_dir(&aside).unwrap();
    std::fs::write(&aside, b"in the way").unwrap();
    let errno = |result: io::Result<()>| result.unwrap_err().raw_os_error();
    let refused = put(&mut *sink, 5, &bytes(14, 200 << 20));
    assert_eq!(errno(refused), Some(libc::ENOTDIR));
    assert_eq!(errno(put(&mut *sink, 5, b"once more")), Some(libc::ENOTDIR));
    assert_eq!(errno(wait(|done| sink.finish(done))), Some(libc::ENOTDIR));
    std::fs::remove_file(&aside).unwrap();
    std::fs::create_dir(&aside).unwrap();
    left_nothing_and_goes_on(&world);
}

#[test]
fn a_repository_that_takes_no_more_at_the_end() {
    let world = World::new();
    let mut sink = world.replicas[0].backup.begin("web1").unwrap();
    put(&mut *sink, 0, b"less than a pack").unwrap();
    let aside = world.repository(0).join("aside");
    eventually("the repository is made", || aside.exists());
    std::fs::remove_dir(&aside).unwrap();
    std::fs::write(&aside, b"in the way").unwrap();
    let refused = wait(|done| sink.finish(done));
    assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
    std::fs::remove_file(&aside).unwrap();
    std::fs::create_dir(&aside).unwrap();
    left_nothing_and_goes_on(&world);
}

/// Gives up as `rustic_core` does on what it cannot read: in a thread of its own.
struct GivesUp(AtomicBool);

impl Engine for GivesUp {
    fn create(&self) -> Result<Credentials, Error> {
        RusticEngine.create()
    }

    fn archive(
        &self,
        repository: &Arc<Repository>,
        mut stream: Box<dyn Read + Send>,
        label: &Label,
        follower: Arc<dyn Follower>,
    ) -> Result<Archived, Error> {
        if self.0.swap(false, Ordering::Relaxed) {
            let worker = std::thread::spawn(move || {
                stream.read_exact(&mut [0; 1000]).unwrap();
                panic!("a blob of the index is not there");
            });
            worker.join().unwrap();
        }
        RusticEngine.archive(repository, stream, label, follower)
    }

    fn open(&self, of: &Arc<Repository>, snapshot: FileId) -> Result<Box<dyn Stored>, Error> {
        if self.0.swap(false, Ordering::Relaxed) {
            panic!("a blob of the index is not there");
        }
        RusticEngine.open(of, snapshot)
    }
}

#[test]
fn an_engine_that_panics() {
    let engine = Arc::new(GivesUp(AtomicBool::new(true)));
    let world = World::with(engine.clone());
    let gave_up = world.write(0, &bytes(15, 20 << 20)).unwrap_err();
    assert_eq!(gave_up.raw_os_error(), Some(libc::EIO));
    left_nothing_and_goes_on(&world);
    engine.0.store(true, Ordering::Relaxed);
    assert_eq!(world.read(0).unwrap_err().raw_os_error(), Some(libc::EIO));
    assert_eq!(world.read(0).unwrap(), b"the next one");
}
