//! Stock restic reads what keepfs writes.

use crate::world::{World, bytes};
use keepfs::cluster::streams::StreamStore;
use std::process::Command;

/// restic on a replica's copy; `None` if it is not installed here (in CI it must be).
fn restic(world: &World, replica: usize, arguments: &[&str]) -> Option<Vec<u8>> {
    let mut command = Command::new("restic");
    command
        .args(["--no-cache", "-r"])
        .arg(world.repository(replica))
        .args(arguments)
        .env("RESTIC_PASSWORD", world.password());
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            let required = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!required, "restic must be installed in CI: {error}");
            eprintln!("SKIPPED: restic is not installed ({error}); apt-get install restic");
            return None;
        }
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "restic {arguments:?}: {errors}");
    Some(output.stdout)
}

#[test]
fn stock_restic_lists_checks_dumps_and_restores() {
    let world = World::new();
    let first = bytes(20, 24 << 20);
    world.write(0, &first).unwrap();
    let second = [&first[..10 << 20], &bytes(21, 3 << 20)].concat();
    world.write(1, &second).unwrap();
    // An interrupted one leaves packs that nobody names: no harm.
    let mut sink = world.replicas[0].backup.begin("web1").unwrap();
    crate::world::put(&mut *sink, 0, &bytes(22, 20 << 20)).unwrap();
    sink.abort("a test");

    for replica in 0..3 {
        let Some(listed) = restic(&world, replica, &["snapshots", "--json"]) else { return };
        let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
        let ids: Vec<_> = listed.as_array().unwrap().iter().map(|s| s["id"].as_str()).collect();
        let recorded: Vec<_> = world.manifests().iter().map(|m| m.snapshot.to_string()).collect();
        assert_eq!(ids.len(), 2);
        assert!(recorded.iter().all(|id| ids.contains(&Some(id))), "{ids:?} {recorded:?}");
        assert_eq!(listed[0]["hostname"], "web1");

        restic(&world, replica, &["check", "--read-data"]).unwrap();
        let dumped = restic(&world, replica, &["dump", &recorded[0], "/backup"]).unwrap();
        assert!(dumped == first, "restic dump gave other bytes");
        let target = tempfile::tempdir().unwrap();
        let into = target.path().to_str().unwrap();
        restic(&world, replica, &["restore", &recorded[1], "--verify", "--target", into]).unwrap();
        let restored = std::fs::read(target.path().join("backup")).unwrap();
        assert!(restored == second, "restic restore gave other bytes");
    }
}
