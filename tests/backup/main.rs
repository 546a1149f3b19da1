//! Backup with the real engine, real repositories and an in-process cluster.

mod failing;
#[path = "../support/key.rs"]
mod key;
mod nodes;
mod restic;
mod world;

use keepfs::backup::files::FileId;
use keepfs::cluster::streams::StreamStore;
use world::{World, bytes, eventually, put, wait};

#[test]
fn a_stream_is_on_every_replica_when_close_returns() {
    let world = World::new();
    let content = bytes(1, 40 << 20);
    world.write(0, &content).unwrap();

    let [manifest] = &world.manifests()[..] else { panic!("one stream, one manifest") };
    assert_eq!((manifest.host.as_str(), manifest.writer.as_str()), ("web1", "a"));
    assert_eq!(manifest.bytes, content.len() as u64);
    assert_eq!(manifest.sha256, FileId::of(&content));
    let mut holders: Vec<_> = manifest.holders.iter().map(|holder| &*holder.replica).collect();
    holders.sort();
    assert_eq!(holders, ["a", "b", "c"]);
    for replica in 0..3 {
        assert_eq!(world.read(replica).unwrap(), content, "read at {replica}");
        assert_eq!(world.files(replica, "data").len() as u64, manifest.packs.count);
    }
    assert!(world.replicas[0].backup.metrics().contains("streams_stored_total 1\n"));
}

#[test]
fn what_is_known_already_is_not_stored_again() {
    let world = World::new();
    // Each repository draws where it cuts. What is put in costs the piece it is in, anything from
    // half a MiB to eight, and seldom the next one: of this much, a fifth is more than both.
    let mut content = bytes(2, 80 << 20);
    world.write(0, &content).unwrap();
    content.splice(1000..1000, *b"a few bytes put in near the front");
    // From another replica: it has the first one's blobs.
    world.write(1, &content).unwrap();
    let manifests = world.manifests();
    let (first, second) = (manifests[0].packs.bytes, manifests[1].packs.bytes);
    assert!(second * 5 < first, "{second} bytes of packs after {first}");
    assert_eq!(world.read(2).unwrap(), content);
}

#[test]
fn one_stream_at_a_time_for_a_registered_host() {
    let world = World::new();
    let backup = &world.replicas[0].backup;
    let errno = |result: std::io::Result<_>| result.map(drop).unwrap_err().raw_os_error().unwrap();
    assert_eq!(errno(backup.begin("nobody")), libc::ENOENT);
    assert_eq!(backup.open("web1").err().unwrap().raw_os_error(), Some(libc::ENODATA));
    let mut first = backup.begin("web1").unwrap();
    assert_eq!(errno(backup.begin("web1")), libc::EBUSY);
    put(&mut *first, 0, b"first").unwrap();
    wait(|done| first.finish(done)).unwrap();
    world.write(0, b"second").unwrap();
    assert_eq!(world.read(1).unwrap(), b"second");
}

#[test]
fn first_writers_on_two_hosts_make_one_repository() {
    let world = World::new();
    std::thread::scope(|scope| {
        for (replica, content) in [(0, &b"written at a"[..]), (1, b"written at b")] {
            let world = &world;
            scope.spawn(move || world.write(replica, content).unwrap());
        }
    });
    let manifests = world.manifests();
    assert_eq!(manifests.len(), 2);
    assert_eq!(manifests[0].repository, manifests[1].repository);
    let configs = [0, 1, 2].map(|number| std::fs::read(world.repository(number).join("config")));
    let configs = configs.map(Result::unwrap);
    assert!(configs[0] == configs[1] && configs[1] == configs[2]);
    let newest = if manifests[1].writer == "a" { b"written at a" } else { b"written at b" };
    for replica in 0..3 {
        assert_eq!(world.read(replica).unwrap(), newest);
    }
}

#[test]
fn reading_heals_what_is_missing_or_damaged_here() {
    let world = World::new();
    let content = bytes(3, 80 << 20);
    world.write(0, &content).unwrap();
    let mut packs = world.files(2, "data");
    // The small ones hold trees, one of them of the first pass: reading does not need that.
    packs.retain(|path| path.metadata().unwrap().len() > 1 << 20);
    assert!(packs.len() >= 3, "{packs:?}");
    std::fs::remove_file(&packs[0]).unwrap();
    let mut damaged = std::fs::read(&packs[1]).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(&packs[1], &damaged).unwrap();
    std::fs::write(&packs[2], b"cut short").unwrap();
    for index in world.files(2, "index") {
        std::fs::write(index, b"damaged").unwrap();
    }
    for snapshot in world.files(2, "snapshots") {
        std::fs::remove_file(snapshot).unwrap();
    }
    assert_eq!(world.read(2).unwrap(), content);
    let named_by_content = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.ends_with(".damaged") || FileId::of(&std::fs::read(path).unwrap()).to_string() == name
    };
    assert!(packs[..3].iter().all(|path| path.exists()));
    assert!(world.files(2, "data").iter().all(named_by_content));
}

#[test]
fn damage_that_nobody_can_heal_is_an_error_and_never_other_bytes() {
    let world = World::new();
    let content = bytes(7, 20 << 20);
    world.write(0, &content).unwrap();
    for replica in 0..3 {
        for pack in world.files(replica, "data") {
            let mut damaged = std::fs::read(&pack).unwrap();
            damaged[100] ^= 1;
            std::fs::write(&pack, &damaged).unwrap();
        }
    }
    assert_eq!(world.read(1).unwrap_err().raw_os_error(), Some(libc::EIO));
}

#[test]
fn a_replica_that_was_away_gets_what_it_missed() {
    let world = World::new();
    world.network.down.lock().unwrap().insert("c");
    let content = bytes(4, 20 << 20);
    world.write(0, &content).unwrap();
    world.write(1, &bytes(5, 1 << 20)).unwrap();
    assert_eq!(world.manifests()[0].holders.len(), 2);
    assert!(world.read(2).is_err());
    world.network.down.lock().unwrap().clear();
    eventually("catching up", || world.files(2, "snapshots").len() == 2);
    for lost in ["a", "b"] {
        world.network.down.lock().unwrap().insert(lost);
    }
    assert_eq!(world.read(2).unwrap(), bytes(5, 1 << 20));
}

/// A snapshot whose blobs were stored by an earlier stream that this peer has missed.
#[test]
fn a_receipt_means_that_the_peer_needs_nobody() {
    let world = World::new();
    let content = bytes(6, 20 << 20);
    // So long that the keeper of c does not come first.
    world.network.down.lock().unwrap().insert("c");
    world.write(0, &content).unwrap();
    world.network.down.lock().unwrap().clear();
    world.write(0, &content).unwrap();
    let second = world.manifests().pop().unwrap();
    assert!(second.holders.iter().any(|holder| holder.replica == "c"));
    world.network.down.lock().unwrap().extend(["a", "b"]);
    assert_eq!(world.read(2).unwrap(), content);
}

#[test]
fn a_peer_that_hangs_holds_up_no_close() {
    let world = World::new();
    world.network.hung.lock().unwrap().insert("c");
    let content = bytes(8, 20 << 20);
    world.write(0, &content).unwrap();
    let manifest = world.manifests().pop().unwrap();
    let holders: Vec<_> = manifest.holders.iter().map(|holder| &*holder.replica).collect();
    assert_eq!(holders, ["a", "b"]);
    eventually("c fetches it by itself", || world.files(2, "snapshots").len() == 1);
    world.network.hung.lock().unwrap().clear();
    world.network.down.lock().unwrap().extend(["a", "b"]);
    assert_eq!(world.read(2).unwrap(), content);
}

/// A holder that lost its disk has nothing to give, and one that caught up later has it all.
#[test]
fn catching_up_asks_whoever_has_all_of_it() {
    let mut world = World::new();
    world.network.down.lock().unwrap().insert("c");
    let content = bytes(9, 20 << 20);
    world.write(0, &content).unwrap();
    world.network.down.lock().unwrap().clear();
    eventually("c catches up", || world.files(2, "snapshots").len() == 1);
    // From now on, a and b are holders by the manifest alone.
    for (replica, directory) in
        [0, 1].iter().flat_map(|&r| ["data", "index", "snapshots"].map(|d| (r, d)))
    {
        world.files(replica, directory).iter().for_each(|file| std::fs::remove_file(file).unwrap());
    }
    world.restart(0);
    eventually("a is whole again", || world.files(0, "snapshots").len() == 1);
    world.network.down.lock().unwrap().extend(["b", "c"]);
    assert_eq!(world.read(0).unwrap(), content);
}

/// What stands in the way of one snapshot stands in the way of that one only.
#[test]
fn a_manifest_that_cannot_be_read_stops_no_other_from_catching_up() {
    let world = World::new();
    world.network.down.lock().unwrap().insert("c");
    world.write(0, b"first").unwrap();
    world.catalogue.spoil("web1");
    world.write(0, b"second").unwrap();
    world.network.down.lock().unwrap().clear();
    eventually("c has the second", || world.files(2, "snapshots").len() == 1);
}
