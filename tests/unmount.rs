//! Mounts that others take away, abort, or put something else in the place of.

mod support;

use keepfs::cluster::Cluster as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use support::cluster::Cluster;
use support::mounted::Mounted;
use support::{KEEPFS, can_mount, eventually, has_programs};

const SOON: Duration = Duration::from_secs(20);

fn is_mounted(path: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    table.contains(&format!(" {} ", path.display()))
}

/// E5: a filesystem that took the mount's place is left alone.
#[test]
fn stopping_takes_away_no_other_mount() {
    if !can_mount() || !has_programs(&["mount", "umount"]) {
        return;
    }
    let mut cluster = Cluster::start(1);
    cluster.sh("umount $a; sleep 1; mount -t tmpfs other $a; echo mine > $a/x");
    assert_eq!(cluster.replicas[0].stop(), Some(0));
    let kept = cluster.try_sh("cat $a/x", SOON);
    support::detach(&cluster.replicas[0].mount);
    assert_eq!(kept.out, "mine\n");
    let log = fs::read_to_string(cluster.replicas[0].log()).unwrap();
    assert!(!log.contains("does not let go"), "{log}");
}

/// Also if it is there before the session has heard that its mount is gone.
#[test]
fn a_mount_that_takes_the_place_at_once_is_left_alone() {
    if !can_mount() {
        return;
    }
    // SAFETY: geteuid has no precondition and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return;
    }
    let mut mounted = Mounted::start(1);
    let root = mounted.root(0);
    for round in 0..20 {
        replace(&root);
        fs::write(root.join("x"), "mine").unwrap();
        if round % 2 == 0 {
            let has_ended = || !mounted.node(0).status().mounted;
            eventually("the session has ended", SOON, has_ended);
        }
        mounted.unmount(0);
        let kept = fs::read_to_string(root.join("x")).ok();
        support::detach(&root);
        assert_eq!(kept.as_deref(), Some("mine"), "round {round}");
        assert!(!is_mounted(&root), "round {round}");
        mounted.mount(0);
    }
}

/// Unmounts what is here, and mounts a tmpfs, as fast as can be.
fn replace(path: &Path) {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    let start = Instant::now();
    // A request that is being answered makes it busy.
    // SAFETY: the strings end in NUL and outlive the calls.
    while unsafe { libc::umount2(path.as_ptr(), 0) } != 0 {
        assert!(start.elapsed() < SOON, "{}", std::io::Error::last_os_error());
    }
    let kind = c"tmpfs";
    // SAFETY: as above; tmpfs takes no options.
    let done =
        unsafe { libc::mount(kind.as_ptr(), path.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_replica_that_is_unmounted_from_outside_votes_on_and_says_so_once() {
    if !can_mount() || !has_programs(&["umount"]) {
        return;
    }
    let mut cluster = Cluster::start(1);
    let data = cluster.replicas[0].data.display().to_string();
    assert!(cluster.sh("cat $a/.keepfs/status").lines().any(|line| is_pair(line, "mounted")));
    assert_eq!(cluster.replicas[0].status().unwrap()["mounted"], true);
    cluster.sh("umount $a");
    eventually("the status says so", SOON, || {
        let ran = cluster.try_sh(&format!("{KEEPFS} status --json {data}"), SOON);
        ran.code == Some(0) && ran.out.contains("\"mounted\":false")
    });
    let text = cluster.sh(&format!("{KEEPFS} status {data}"));
    assert!(text.lines().any(|line| is_pair(line, "not mounted")), "{text}");
    assert_eq!(cluster.replicas[0].stop(), Some(0));
    let log = fs::read_to_string(cluster.replicas[0].log()).unwrap();
    assert_eq!(log.matches("unmounted").count(), 1, "{log}");
    assert!(!log.contains("let go"), "{log}");
}

fn is_pair(line: &str, mount: &str) -> bool {
    line.split_once(':').is_some_and(|(name, value)| (name, value.trim()) == ("mount", mount))
}

/// What is aborted answers ENOTCONN, so that nobody writes into the directory below, until the
/// daemon stops.
#[test]
fn a_mount_that_is_aborted_is_taken_away_by_stopping() {
    if !can_mount() || !has_programs(&["mount", "umount"]) {
        return;
    }
    let mut cluster = Cluster::start(1);
    let ran = cluster.try_sh(
        "t=$(mktemp -d); mount -t fusectl none $t
         echo 1 > $t/$(mountpoint -d $a | cut -d: -f2)/abort; umount $t; rmdir $t; cat $a/f",
        SOON,
    );
    assert!(ran.err.contains("not connected"), "{ran:?}");
    let mount = cluster.replicas[0].mount.clone();
    assert!(is_mounted(&mount));
    assert_eq!(cluster.replicas[0].stop(), Some(0));
    let is_left = is_mounted(&mount);
    support::detach(&mount);
    assert!(!is_left, "it has been cleared");
}

#[test]
fn a_mount_in_use_is_taken_away_without_delay() {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::start(1);
    let mut worker = cluster.background("cd $a; exec sleep 1000 > $a/f");
    eventually("it works there", SOON, || cluster.try_sh("cat $a/f", SOON).code == Some(0));
    let start = Instant::now();
    assert_eq!(cluster.replicas[0].stop(), Some(0));
    let took = start.elapsed();
    let is_left = is_mounted(&cluster.replicas[0].mount);
    support::detach(&cluster.replicas[0].mount);
    assert!(!is_left && worker.is_running(), "it has been unmounted");
    assert!(took < Duration::from_secs(3), "{took:?}");
}
