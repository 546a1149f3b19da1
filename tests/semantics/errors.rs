//! E: how things fail.

use super::support;
use super::support::mounted::{Mounted, OP_TIMEOUT};
use super::support::system::errno;
use keepfs::mount::{Mount, MountConfig};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// **E1** Without a quorum, changes fail with EROFS after `op_timeout`, and opening with `O_TRUNC`
/// fails at once; what can be read stays readable.
#[test]
fn e1_without_a_quorum() {
    if !support::can_mount() {
        return;
    }
    let mut cluster = Mounted::start(3);
    let here = cluster.fresh("e1").remove(2);
    fs::write(here.join("f"), "readable").unwrap();
    let open = OpenOptions::new().write(true).open(here.join("f")).unwrap();
    cluster.stop(0);
    cluster.stop(1);
    let start = Instant::now();
    assert_eq!(errno(open.write_at(b"x", 0)), libc::EROFS);
    assert!(start.elapsed() < OP_TIMEOUT + Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(errno(fs::create_dir(here.join("d"))), libc::EROFS);
    assert_eq!(errno(fs::remove_file(here.join("f"))), libc::EROFS);
    let start = Instant::now();
    assert_eq!(errno(File::create(here.join("f"))), libc::EROFS);
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    assert_eq!(fs::read(here.join("f")).unwrap(), b"readable");
    let status = fs::read_to_string(cluster.root(2).join(".keepfs/status")).unwrap();
    assert!(status.contains("quorum"), "{status}");
}

/// **E2** An unmount never hangs: files that are still open then fail with ENOTCONN.
#[test]
fn e2_unmounting_what_is_in_use() {
    if !support::can_mount() {
        return;
    }
    let mut cluster = Mounted::start(1);
    let here = cluster.fresh("e2").remove(0);
    fs::write(here.join("f"), "x").unwrap();
    let open = File::open(here.join("f")).unwrap();
    let start = Instant::now();
    cluster.stop(0);
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    let mut byte = [0; 8192];
    assert_eq!(errno(open.sync_all()), libc::ENOTCONN);
    let _ = open.read_at(&mut byte, 0);
    assert!(!here.exists(), "the mount point is bare again");
}

/// **E3** Mounting makes the mount point if it is missing, clears the mount a killed daemon left,
/// and refuses another mount's place with a sentence that says what is there.
#[test]
fn e3_mounting() {
    if !support::can_mount() {
        return;
    }
    let cluster = Mounted::start(1);
    let mount =
        |path| Mount::start(std::sync::Arc::new(cluster.node(0).clone()), MountConfig::new(path));
    let problem = |path| mount(path).err().expect("must be refused").to_string();
    assert!(problem(cluster.root(0)).contains("a keepfs is mounted here already"));
    assert!(problem("/proc".into()).contains("proc"));
    let file = cluster.root(0).join("a file");
    fs::write(&file, "").unwrap();
    assert!(problem(file).contains("not a directory"));
    let elsewhere = tempfile::tempdir().unwrap();
    let missing = elsewhere.path().join("made/for it");
    let mounted = mount(missing.clone()).unwrap();
    assert!(missing.join(".keepfs/status").exists());
    let ended = mounted.ended().clone();
    support::detach(&missing);
    ended.recv_timeout(Duration::from_secs(10)).expect("an umount from outside is noticed");
    drop(mounted);
    assert!(fs::read_dir(&missing).unwrap().next().is_none());
}
