//! C: what one host sees of another.

use super::support::mounted::Mounted;
use super::{hosts, support, together};
use keepfs::cluster::Cluster as _;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// **C1** When a call that changes something returns, the change is seen through every mount that
/// is in touch with the cluster: its data, names, absence of names, attributes and listings.
#[test]
fn c1_a_change_is_seen_everywhere_when_its_call_returns() {
    let Some(hosts) = hosts("c1") else { return };
    let [a, b, c] = hosts.all();
    let listed = |host: &Path, name: &str| {
        fs::read_dir(host).unwrap().any(|entry| entry.unwrap().file_name() == name)
    };
    for round in 0..15 {
        let name = format!("f{round}");
        // Everything is in every kernel's cache when it changes: the absence first.
        for host in hosts.all() {
            assert!(!host.join(&name).exists() && !listed(host, &name));
        }
        fs::write(a.join(&name), "one").unwrap();
        for host in hosts.all() {
            assert_eq!(fs::read(host.join(&name)).unwrap(), b"one");
            assert!(listed(host, &name));
        }
        fs::write(b.join(&name), "other data").unwrap();
        for host in hosts.all() {
            assert_eq!(fs::read(host.join(&name)).unwrap(), b"other data");
            assert_eq!(fs::metadata(host.join(&name)).unwrap().len(), 10);
        }
        fs::rename(c.join(&name), c.join("moved")).unwrap();
        for host in hosts.all() {
            assert!(!host.join(&name).exists() && host.join("moved").exists());
        }
        fs::remove_file(a.join("moved")).unwrap();
        for host in hosts.all() {
            assert!(!host.join("moved").exists() && !listed(host, "moved"));
        }
    }
}

/// **C1**, for hosts that change one directory at once: what each has done is seen by the others.
#[test]
fn c1_holds_while_all_hosts_change_one_directory() {
    let Some(hosts) = hosts("c1-together") else { return };
    let start = Instant::now();
    together(&hosts, |at, host| {
        for round in 0..40 {
            let name = format!("{at}-{round}");
            fs::write(host.join(&name), &name).unwrap();
            for other in hosts.all() {
                assert_eq!(fs::read(other.join(&name)).unwrap(), name.as_bytes());
            }
            fs::remove_file(host.join(&name)).unwrap();
            for other in hosts.all() {
                assert!(!other.join(&name).exists(), "{name} is still at {other:?}");
            }
        }
    });
    // 240 changes. Hosts that waited for each other would take `visibility_timeout` for each.
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

/// **C2** What was read or looked up once is answered by the kernel, without the daemon, until it
/// changes: `stat`, `ls`, reading, and names that do not exist.
#[test]
fn c2_the_kernel_answers_again() {
    if !support::can_mount() {
        return;
    }
    let cluster = Mounted::start(1);
    let root = cluster.fresh("c2").remove(0);
    fs::write(root.join("f"), "cached").unwrap();
    let mut file = File::open(root.join("f")).unwrap();
    let mut look = || {
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_string(&mut text).unwrap();
        let listed = fs::read_dir(&root).unwrap().count();
        let size = fs::metadata(root.join("f")).unwrap().len();
        (text, listed, size, root.join("nothing").exists())
    };
    // Reading and listing make the kernel ask for the access time once more.
    look();
    look();
    let warm = look();
    // Under pressure the kernel may have dropped something meanwhile, so one of a few tries counts.
    let answered = (0..5).find_map(|attempt| answered_by_the_kernel(&cluster, attempt, &mut look));
    assert_eq!(answered.expect("the daemon was asked"), warm);
}

/// What `look` sees while the tree is locked, which answers nobody; `None` if the daemon was asked.
fn answered_by_the_kernel<T: Send>(
    cluster: &Mounted,
    attempt: u32,
    look: &mut (impl FnMut() -> T + Send),
) -> Option<T> {
    let (told, tell) = crossbeam_channel::bounded(1);
    std::thread::scope(|scope| {
        let node = cluster.node(0).clone();
        let (release, released) = crossbeam_channel::bounded::<()>(0);
        let (locked, is_locked) = crossbeam_channel::bounded::<()>(0);
        scope.spawn(move || {
            let tree = node.tree();
            locked.send(()).unwrap();
            let _ = released.recv_timeout(Duration::from_secs(20));
            drop(tree);
        });
        is_locked.recv().unwrap();
        // A change that waits for the lock keeps new readers of the tree out.
        let other = cluster.root(0).join(format!("other{attempt}"));
        scope.spawn(move || File::create(other).unwrap());
        std::thread::sleep(Duration::from_millis(300));
        scope.spawn(move || drop(told.send(look())));
        let answered = tell.recv_timeout(Duration::from_secs(3)).ok();
        drop(release);
        answered
    })
}

/// **C3** `fsync` is a barrier: when it returns, everything that was committed anywhere before it
/// was called is seen on this host.
#[test]
fn c3_fsync_is_a_barrier() {
    let Some(hosts) = hosts("c3") else { return };
    let there = File::create(hosts.a.join("f")).unwrap();
    let here = OpenOptions::new().read(true).open(hosts.b.join("f")).unwrap();
    let directory = File::open(&hosts.c).unwrap();
    for round in 1..30_u64 {
        there.write_at(&round.to_be_bytes(), 0).unwrap();
        let committed = hosts.cluster.node(0).tree().zxid();
        here.sync_all().unwrap();
        directory.sync_all().unwrap();
        let mut seen = [0; 8];
        here.read_at(&mut seen, 0).unwrap();
        assert_eq!(u64::from_be_bytes(seen), round);
        for at in [1, 2] {
            assert!(hosts.cluster.node(at).tree().zxid() >= committed);
        }
    }
}

/// **C4** Reads, listings and `statfs` are answered on this host, with no network and no quorum.
#[test]
fn c4_reading_needs_nobody() {
    if !support::can_mount() {
        return;
    }
    let mut cluster = Mounted::start(3);
    let directories = cluster.fresh("c4");
    fs::write(directories[0].join("f"), "x".repeat(5000)).unwrap();
    fs::write(directories[0].join("g"), "never read before").unwrap();
    cluster.stop(0);
    cluster.stop(1);
    let here = &directories[2];
    let start = Instant::now();
    assert_eq!(fs::read(here.join("g")).unwrap(), b"never read before");
    assert_eq!(fs::read(here.join("f")).unwrap().len(), 5000);
    assert_eq!(fs::read_dir(here).unwrap().count(), 2);
    assert!(fs::metadata(here).unwrap().is_dir());
    assert!(keepfs::volume::statvfs(here).unwrap().f_blocks > 0);
    assert!(fs::read_to_string(cluster.root(2).join(".keepfs/status")).is_ok());
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(fs::metadata(here.join("f")).unwrap().ino() > 15);
}
