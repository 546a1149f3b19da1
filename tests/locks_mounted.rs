//! `flock` and `fcntl` between two mounts of one cluster: the promises L of docs/semantics.md.

mod support;

use std::time::Duration;
use support::cluster::Cluster;
use support::{can_mount, eventually, has_programs};

const SOON: Duration = Duration::from_secs(20);

/// Waits until `.keepfs/locks` of `$a` shows this many waiters.
fn waiters(cluster: &Cluster, count: usize) {
    let script = "awk 'NR>1 && $2!=\"holder\"' $a/.keepfs/locks | wc -l";
    eventually(&format!("{count} wait"), SOON, || cluster.sh(script) == count.to_string());
}

fn holders(cluster: &Cluster) -> String {
    cluster.sh("awk '$2==\"holder\"' $a/.keepfs/locks | wc -l")
}

/// L1, L5: a lock of one host keeps the other out, and passes in the order of asking.
#[test]
fn a_lock_passes_between_hosts_in_the_order_of_asking() {
    if !can_mount() || !has_programs(&["flock", "awk"]) {
        return;
    }
    let cluster = Cluster::start(2);
    cluster.sh("touch $a/f $a/order");
    let _holder =
        cluster.background("export a; flock $a/f -c 'while [ ! -e $a/go ]; do sleep 0.02; done'");
    eventually("a holds", SOON, || holders(&cluster) == "1");
    let mut queue = Vec::new();
    for (place, host) in ["b", "a", "b", "a"].into_iter().enumerate() {
        let script = format!("export a b; flock ${host}/f -c 'echo {place} >> ${host}/order'");
        queue.push(cluster.background(&script));
        waiters(&cluster, place + 1);
    }
    assert_eq!(cluster.sh("cat $b/order"), "");
    cluster.sh("touch $a/go");
    eventually("all had it", SOON, || cluster.sh("cat $b/order") == "0\n1\n2\n3");
    eventually("nobody holds", SOON, || holders(&cluster) == "0");
}

/// L2: `-n` answers at once, `-w` when its time is over, and both find a free lock free.
#[test]
fn a_try_fails_at_once_and_a_timed_wait_in_time() {
    if !can_mount() || !has_programs(&["flock", "awk"]) {
        return;
    }
    let cluster = Cluster::start(2);
    cluster.sh("touch $a/f; for i in $(seq 50); do flock -n $b/f true; done");
    let holder = cluster.background("flock $a/f sleep 60");
    eventually("a holds", SOON, || holders(&cluster) == "1");
    let ran = cluster.try_sh("flock -n -E 9 $b/f true", SOON);
    assert_eq!(ran.code, Some(9), "{ran:?}");
    let ran = cluster.try_sh("flock -w 0.5 -E 9 $b/f true", SOON);
    assert_eq!(ran.code, Some(9), "{ran:?}");
    assert!(ran.took > Duration::from_millis(450) && ran.took < Duration::from_secs(3), "{ran:?}");
    waiters(&cluster, 0);
    drop(holder);
    cluster.sh("flock -w 10 $b/f true");
}

/// L3, L4: a waiter that is interrupted or killed leaves the queue; a killed holder's lock passes
/// on.
#[test]
fn whoever_is_killed_neither_waits_nor_holds() {
    if !can_mount() || !has_programs(&["flock", "awk", "timeout"]) {
        return;
    }
    let cluster = Cluster::start(2);
    cluster.sh("touch $a/f");
    let holder = cluster.background("exec flock $a/f sleep 60");
    eventually("a holds", SOON, || holders(&cluster) == "1");
    for signal in ["INT", "TERM", "KILL"] {
        // `--foreground` sends to flock alone, as a terminal sends Ctrl-C.
        let script = format!("timeout --foreground -s {signal} 0.3 flock $b/f true");
        let ran = cluster.try_sh(&script, SOON);
        assert!(matches!(ran.code, Some(124 | 137)), "{signal}: {ran:?}");
        assert!(ran.took < Duration::from_secs(3), "{signal}: {ran:?}");
        waiters(&cluster, 0);
    }
    let next = cluster.background("flock $b/f sleep 60");
    waiters(&cluster, 1);
    drop(holder);
    waiters(&cluster, 0);
    eventually("b holds", SOON, || holders(&cluster) == "1");
    drop(next);
    eventually("nobody holds", SOON, || holders(&cluster) == "0");
}

/// L4: the lock is the open file's: it stays until the last copy of the descriptor is closed.
#[test]
fn a_lock_stays_with_every_copy_of_the_descriptor() {
    if !can_mount() || !has_programs(&["flock", "awk"]) {
        return;
    }
    let cluster = Cluster::start(2);
    cluster.sh("touch $a/f");
    let copy = cluster.background("exec 9<$a/f; flock 9; sleep 60 & exec 9<&-; sleep 60");
    eventually("a holds", SOON, || holders(&cluster) == "1");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(cluster.try_sh("flock -n -E 9 $b/f true", SOON).code, Some(9));
    drop(copy);
    cluster.sh("flock -w 10 $b/f true");
}

const FCNTL: &str = r#"
import fcntl, os, sys, time
a, b = sys.argv[1:]
fa, fb = os.open(a, os.O_RDWR), os.open(b, os.O_RDWR)
def pid_holding(fd, start, length):
    "Takes the range in a child, which says whether it could."
    child = os.fork()
    if child == 0:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
            os._exit(0)
        except BlockingIOError:
            os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
fcntl.lockf(fa, fcntl.LOCK_EX, 10, 0)
assert pid_holding(fb, 5, 1) == 7, 'bytes 0-9 are taken'
assert pid_holding(fb, 10, 5) == 0, 'bytes 10-14 are free'
assert pid_holding(fa, 9, 2) == 7, 'on the same host too'
fcntl.lockf(fa, fcntl.LOCK_UN, 5, 0)
assert pid_holding(fb, 0, 5) == 0, 'the first half was given back'
assert pid_holding(fb, 5, 5) == 7, 'the second was not'
fcntl.lockf(fa, fcntl.LOCK_SH, 10, 0)
child = os.fork()
if child == 0:
    fcntl.lockf(fb, fcntl.LOCK_SH | fcntl.LOCK_NB, 10, 0)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, 'readers share'
# fcntl's own rule: closing any descriptor of the file ends all of the process's locks on it.
os.close(os.open(a, os.O_RDWR))
assert pid_holding(fb, 0, 10) == 0, 'closed'
# A lock taken through a descriptor for reading only goes with that one.
fr = os.open(a, os.O_RDONLY)
fcntl.lockf(fr, fcntl.LOCK_SH, 10, 0)
assert pid_holding(fb, 0, 10) == 7
os.close(fr)
for _ in range(100):
    if pid_holding(fb, 0, 10) == 0: break
    time.sleep(0.05)
else:
    raise AssertionError('the reader is closed')
"#;

/// L6: byte ranges, shared and exclusive, given back piece by piece and by closing.
#[test]
fn byte_ranges_are_locked_between_hosts() {
    if !can_mount() || !has_programs(&["python3"]) {
        return;
    }
    let cluster = Cluster::start(2);
    cluster.sh(&format!("touch $a/f; python3 - $a/f $b/f <<'END'{FCNTL}\nEND"));
}

/// L7: a grant is a barrier: who holds the lock reads what the holder before it wrote.
#[test]
fn the_next_holder_reads_what_the_last_one_wrote() {
    if !can_mount() || !has_programs(&["flock"]) {
        return;
    }
    let cluster = Cluster::start(2);
    cluster.sh("echo 0 > $a/counter; touch $a/f; cat $b/counter");
    let add = |host: &str| {
        let script = format!(
            "export a b; for i in $(seq 40); do flock ${host}/f bash -c \
             'n=$(cat ${host}/counter); echo $((n+1)) > ${host}/counter'; done; \
             touch ${host}/{host}"
        );
        cluster.background(&script)
    };
    let _both = [add("a"), add("b")];
    let done = "[ -e $a/a ] && [ -e $a/b ]";
    eventually("both are through", Duration::from_secs(60), || {
        cluster.try_sh(done, SOON).code == Some(0)
    });
    assert_eq!(cluster.sh("cat $a/counter"), "80");
}

/// L8: who loses its session loses its locks: writes through such a descriptor fail with EIO, and
/// another host gets the lock.
#[test]
fn a_lost_lock_fails_the_writes_it_protected() {
    if !can_mount() || !has_programs(&["flock", "awk"]) {
        return;
    }
    let cluster = Cluster::start(3);
    let leader = cluster.leader(0);
    let (cut, other) = ((leader + 1) % 3, leader);
    let (cut, other) = (cluster.replicas[cut].name, cluster.replicas[other].name);
    let replica = cluster.replicas.iter().find(|replica| replica.name == cut).unwrap();
    let said = cluster.dir.path().join("said");
    cluster.sh(&format!("touch ${cut}/f"));
    let _holder = cluster.background(&format!(
        "exec 9>>${cut}/f; flock 9; echo held > {said}; \
         while [ ! -e {said}.go ]; do sleep 0.05; done; \
         (echo late >&9) 2> {said}.error || true; touch {said}.done",
        said = said.display()
    ));
    eventually("it holds", SOON, || said.exists());
    replica.signal(libc::SIGSTOP);
    let ran = cluster.try_sh(&format!("flock -w 15 ${other}/f echo mine"), SOON);
    replica.signal(libc::SIGCONT);
    assert_eq!(ran.out.trim(), "mine", "{ran:?}");
    cluster.sh(&format!("touch {}.go", said.display()));
    let done = said.with_extension("done");
    eventually("it wrote", SOON, || done.exists());
    let error = std::fs::read_to_string(said.with_extension("error")).unwrap();
    assert!(error.contains("Input/output error"), "{error}");
    assert_eq!(cluster.sh(&format!("cat ${other}/f")), "");
}

/// A process whose command line lies in a file of the mount itself, a page that is not there yet:
/// whoever reads the one has to be brought the other.
const SELF_DESCRIBED: &str = "
import ctypes, fcntl, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p] + [ctypes.c_size_t] * 4 + [ctypes.c_long]
page = os.open(sys.argv[1] + '/page', os.O_RDONLY)
lock = os.open(sys.argv[1] + '/f', os.O_RDWR)
arguments = int(open('/proc/self/stat').read().rsplit(')', 1)[1].split()[45])
# MAP_PRIVATE and MAP_FIXED.
where = libc.mmap(arguments & ~4095, 4096, 1, 0x12, page, 0)
assert where == arguments & ~4095
fcntl.flock(lock, fcntl.LOCK_EX)
print(os.stat(sys.argv[1] + '/f').st_size)
";

/// A command line is read for `.keepfs/locks`, and no request waits for that.
#[test]
fn a_command_line_in_a_page_of_the_mount_holds_nobody_up() {
    if !can_mount() || !has_programs(&["python3"]) {
        return;
    }
    let cluster = Cluster::start(2);
    cluster.sh("echo x > $a/f; head -c 4096 /dev/zero | tr '\\0' m > $b/page; cat $a/f");
    let script = cluster.dir.path().join("described.py");
    std::fs::write(&script, SELF_DESCRIBED).unwrap();
    let ran = cluster.try_sh(&format!("python3 {} $a", script.display()), SOON);
    assert_eq!((ran.code, ran.out.trim()), (Some(0), "2"), "{ran:?}");
}

/// L5: command lines may hold secrets; many readers at once get the same listing, and none of them
/// somebody else's.
#[test]
fn command_lines_are_shown_to_root_and_their_own_user() {
    if !can_mount() || !has_programs(&["flock", "setpriv"]) {
        return;
    }
    let cluster = Cluster::start(1);
    cluster.sh("touch $a/root; mkdir -m 777 $a/d; chmod 711 $a/..");
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    let hold = |file: &str| format!("flock $a/{file} -c 'sleep 60 # secret-of-{file}'");
    let _root = cluster.background(&hold("root"));
    let _other = cluster.background(&format!("{nobody} sh -c \"{}\"", hold("d/nobody")));
    eventually("both hold", SOON, || holders(&cluster) == "2");
    let listed = "grep -o 'secret-of-[a-z/]*\\|-$' $a/.keepfs/locks";
    let many = |who: &str| {
        format!("for i in $(seq 20); do {who} {listed} & done | sort | uniq -c | sort -k2 | xargs")
    };
    let seen = cluster.sh(&format!("{listed} | sort | xargs"));
    assert_eq!(seen.trim(), "secret-of-d/nobody secret-of-root");
    for _ in 0..2 {
        assert_eq!(cluster.sh(&many(nobody)).trim(), "20 - 20 secret-of-d/nobody");
    }
    assert_eq!(cluster.sh(&many("")).trim(), "20 secret-of-d/nobody 20 secret-of-root");
}

/// L9: closing does not fail without a quorum; the lock is given back when there is one again.
#[test]
fn closing_without_a_quorum_gives_the_lock_back_later() {
    if !can_mount() || !has_programs(&["flock", "awk"]) {
        return;
    }
    let cluster = Cluster::start(2);
    cluster.sh("touch $a/f");
    let script = "exec 9<$a/f; flock 9; while [ ! -e $a/../go ]; do sleep 0.05; done; \
                  exec 9<&-; touch $a/../closed; sleep 60";
    let _holder = cluster.background(script);
    eventually("a holds", SOON, || holders(&cluster) == "1");
    cluster.replicas[1].signal(libc::SIGSTOP);
    std::fs::write(cluster.dir.path().join("go"), "").unwrap();
    let closed = cluster.dir.path().join("closed");
    eventually("it is closed", SOON, || closed.exists());
    std::thread::sleep(support::cluster::OP_TIMEOUT + Duration::from_secs(2));
    cluster.replicas[1].signal(libc::SIGCONT);
    cluster.sh("flock -w 20 $b/f true");
}
