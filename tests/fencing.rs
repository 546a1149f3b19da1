//! L8 on real processes: a daemon stands still for longer than its session while its host's
//! processes write under locks, and others get these locks meanwhile.

mod support;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use support::cluster::Cluster;
use support::system::{self, errno, fallocate};
use support::{KEEPFS, can_mount, eventually};

const SOON: Duration = Duration::from_secs(20);
/// A whole file, so that a change takes long and one is under way in each file at any moment.
const BYTES: usize = 900_000;
const FILES: usize = 8;

fn open(path: &Path) -> File {
    File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

/// Waits for the lock. A machine too busy to keep a session costs a try.
fn lock(file: &File) {
    eventually("the lock is granted", Duration::from_secs(60), || {
        // SAFETY: the descriptor is open.
        unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) == 0 }
    });
}

/// Changes the locked file until that fails: by writing, truncating or allocating, as `kind` has
/// it. The errno.
fn go_on_changing(file: &File, kind: usize) -> i32 {
    let mut count = 0;
    loop {
        count += 1;
        let changed = match kind % 4 {
            0 => file.set_len(if count % 2 == 0 { 10 } else { BYTES as u64 }),
            1 => fallocate(file, libc::FALLOC_FL_ZERO_RANGE, 0, BYTES as i64),
            _ => file.write_all_at(&vec![b'o'; BYTES], 0),
        };
        if changed.is_err() {
            return errno(changed);
        }
    }
}

/// Runs one on a thread for each file; what comes of each.
fn for_each<T: Send + 'static>(
    paths: &[PathBuf],
    run: impl Fn(usize, File) -> T + Send + Copy + 'static,
) -> Receiver<T> {
    let (tell, told) = channel();
    for (kind, path) in paths.iter().enumerate() {
        let (tell, file) = (tell.clone(), open(path));
        std::thread::spawn(move || tell.send(run(kind, file)));
    }
    told
}

fn all<T>(what: &str, from: &Receiver<T>, within: Duration) -> Vec<T> {
    let deadline = Instant::now() + within;
    let left = || deadline.saturating_duration_since(Instant::now());
    (0..FILES).map(|_| from.recv_timeout(left()).expect(what)).collect()
}

fn session(cluster: &Cluster, replica: usize) -> Option<String> {
    let status = cluster.replicas[replica].status()?;
    status["session"].as_str().map(str::to_owned)
}

fn wait_for_another_session(cluster: &Cluster, replica: usize, old: &Option<String>) {
    eventually("it has another session", SOON, || {
        let now = session(cluster, replica);
        now.is_some() && now != *old
    });
}

#[test]
fn what_a_host_was_changing_when_it_stood_still_does_not_land_after_the_next_holders() {
    if !can_mount() {
        return;
    }
    let cluster = Cluster::start(3);
    let leader = cluster.leader(0);
    let (still, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let paths = |at: usize| -> Vec<PathBuf> {
        (0..FILES).map(|number| cluster.path(at, &format!("f{number}"))).collect()
    };
    let before = session(&cluster, still);

    let (tell_locked, locked) = channel();
    let (tell_kept, kept) = channel();
    let old = {
        let (tell, told) = channel();
        for (kind, path) in paths(still).iter().enumerate() {
            let (tell, tell_locked, tell_kept) =
                (tell.clone(), tell_locked.clone(), tell_kept.clone());
            let file = open(path);
            std::thread::spawn(move || {
                lock(&file);
                let _ = tell_locked.send(());
                let _ = tell.send(go_on_changing(&file, kind));
                let _ = tell_kept.send((kind, file));
            });
        }
        told
    };
    all("the lock is held", &locked, SOON * 2);
    std::thread::sleep(Duration::from_millis(500));
    cluster.replicas[still].signal(libc::SIGSTOP);

    let new = for_each(&paths(other), |_, file| {
        lock(&file);
        file.set_len(0).and_then(|()| file.write_all_at(&vec![b'n'; BYTES], 0)).unwrap();
        // Held until the end, so that whoever changes the file does it without the lock.
        file
    });
    let holders = all("the locks pass on", &new, Duration::from_secs(60));
    cluster.replicas[still].signal(libc::SIGCONT);

    let errors = all("each is told", &old, Duration::from_secs(60));
    let expected = [libc::EIO, libc::EROFS, libc::ETIMEDOUT];
    assert!(errors.iter().all(|errno| expected.contains(errno)), "{errors:?}");
    wait_for_another_session(&cluster, still, &before);
    // A moment for what may be late.
    std::thread::sleep(Duration::from_secs(1));
    for path in paths(other) {
        let content = std::fs::read(&path).unwrap();
        let stale = content.len() != BYTES || content.iter().any(|byte| *byte != b'n');
        assert!(!stale, "{path:?} is not what its last holder wrote");
    }
    drop(holders);

    no_other_way_around(&cluster, still, kept);
}

/// Whoever lost a lock changes the file by no other descriptor, name or mapping either, until the
/// descriptor that was locked is closed.
fn no_other_way_around(cluster: &Cluster, still: usize, kept: Receiver<(usize, File)>) {
    let mut kept = all("its descriptor is there still", &kept, SOON);
    kept.sort_by_key(|(kind, _)| *kind);
    let (_, locked) = kept.remove(0);
    let path = cluster.path(still, "f0");
    let again = open(&path);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    let tries = [
        ("write", errno(again.write_at(b"x", 0))),
        ("ftruncate", errno(again.set_len(5))),
        ("fallocate", errno(fallocate(&again, 0, 0, 1_000_000))),
        ("truncate", errno(system::truncate(&path, 5))),
        ("chmod", errno(std::fs::set_permissions(&path, mode))),
        ("setxattr", errno(system::set_xattr(&path, "user.a", b"b", 0))),
        ("removexattr", errno(system::remove_xattr(&path, "user.a"))),
    ];
    for (call, errno) in tries {
        assert_eq!(errno, libc::EIO, "{call}");
    }
    let script = format!("echo x >> {}", path.display());
    let ran = cluster.try_sh(&script, SOON);
    assert!(ran.code == Some(1) && ran.err.contains("Input/output error"), "a child: {ran:?}");
    drop(locked);
    eventually("nothing is left of the lost lock", SOON, || again.write_at(b"x", 0).is_ok());
    let (_, locked) = kept.remove(0);
    assert_eq!(errno(locked.write_at(b"x", 0)), libc::EIO);
    lock(&locked);
    assert_eq!(errno(locked.write_at(b"x", 0)), 0, "it is locked again");
}

/// `keepfs lock` stands still between flock(2) and its command, and so does the daemon, for longer
/// than the session.
#[test]
fn keepfs_lock_does_not_take_the_next_session_for_its_own() {
    if !can_mount() {
        return;
    }
    let cluster = Cluster::start(3);
    let before = session(&cluster, 0);
    let begun = cluster.dir.path().join("begun");
    let code = cluster.dir.path().join("code");
    let holder = cluster.background("flock $b/lck sleep 1000");
    eventually("b holds it", SOON, || cluster.try_sh("flock -n $c/lck true", SOON).code == Some(1));
    let pid = cluster.dir.path().join("pid");
    let _waiter = cluster.background(&format!(
        "{KEEPFS} lock $a/lck -- touch {} & echo $! > {}; code=0; wait $! || code=$?; \
         echo $code > {code}.new; mv {code}.new {code}",
        begun.display(),
        pid.display(),
        code = code.display(),
    ));
    let locks = || cluster.sh("cat $c/.keepfs/locks");
    let waiting = |line: &&str| line.contains(" lock ") && line.contains("touch");
    eventually("a waits", SOON, || locks().lines().any(|line| waiting(&line)));
    let pid: u32 = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    // Takes effect when flock(2) returns.
    support::send(pid, libc::SIGSTOP);
    drop(holder);
    eventually("a has got it", SOON, || {
        cluster.try_sh("flock -n $c/lck true", SOON).code == Some(1)
    });
    std::thread::sleep(Duration::from_millis(500));
    cluster.replicas[0].signal(libc::SIGSTOP);
    let _next = cluster.background("flock $b/lck sleep 1000");
    let lck = cluster.path(2, "lck");
    eventually("b has it again", Duration::from_secs(40), || {
        system::xattr(&lck, "user.keepfs.holder").is_ok_and(|holder| holder.starts_with(b"b:"))
    });
    cluster.replicas[0].signal(libc::SIGCONT);
    wait_for_another_session(&cluster, 0, &before);
    support::send(pid, libc::SIGCONT);
    eventually("it gives up", SOON, || code.exists());
    assert_eq!(std::fs::read_to_string(&code).unwrap().trim(), "75");
    assert!(!begun.exists(), "two had the lock");
}

/// A daemon that does not answer cannot say that the lock is lost.
#[test]
fn keepfs_lock_ends_its_command_though_the_daemon_stands_still() {
    if !can_mount() {
        return;
    }
    let cluster = Cluster::start(3);
    let [ended, code] = ["ended", "code"].map(|name| cluster.dir.path().join(name));
    let job = cluster.dir.path().join("job");
    let script = format!("trap 'touch {}; exit' TERM; sleep 1000 & wait", ended.display());
    std::fs::write(&job, script).unwrap();
    // It cannot end before the daemon takes its `close`.
    let mut locker = cluster.background(&format!(
        "code=0; {KEEPFS} lock $a/lck -- sh {} || code=$?; echo $code > {}",
        job.display(),
        code.display()
    ));
    eventually("a holds it", SOON, || cluster.try_sh("flock -n $b/lck true", SOON).code == Some(1));
    std::thread::sleep(Duration::from_millis(500));
    cluster.replicas[0].signal(libc::SIGSTOP);
    let mut next = cluster.background("flock $b/lck true");
    eventually("the command has been ended", SOON, || {
        assert!(next.is_running() || ended.exists(), "the next holder came first");
        ended.exists()
    });
    cluster.replicas[0].signal(libc::SIGCONT);
    eventually("it ends too", SOON, || !locker.is_running());
    assert_eq!(std::fs::read_to_string(&code).unwrap().trim(), "75");
}
