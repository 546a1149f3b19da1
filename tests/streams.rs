//! Backup streams as real programs write them: the promises B of docs/semantics.md.

mod support;

use std::path::PathBuf;
use std::time::Duration;
use support::cluster::{Cluster, Replica};
use support::shell::{self, Ran};
use support::{can_mount, has_programs};

const SOON: Duration = Duration::from_secs(30);

/// Two hosts; `$B` is the stream on the first, `$R` on the second, `$f` a file of 3 MB.
struct Streams {
    cluster: Cluster,
}

impl Streams {
    fn start() -> Option<Streams> {
        if !can_mount() || !has_programs(&["tar", "gzip", "dd", "cmp", "timeout"]) {
            return None;
        }
        let streams = Streams { cluster: Cluster::start(2) };
        streams.sh("mkdir $a/backup/node/web1; head -c 3000000 /dev/urandom > $f");
        Some(streams)
    }

    fn script(&self, script: &str) -> String {
        format!(
            "export B=$a/backup/node/web1/backup R=$b/backup/node/web1/backup f={}/f\n{script}",
            self.cluster.dir.path().display()
        )
    }

    fn sh(&self, script: &str) -> String {
        self.cluster.sh(&self.script(script))
    }

    fn try_sh(&self, script: &str) -> Ran {
        self.cluster.try_sh(&self.script(script), SOON)
    }

    /// On the host that writes: the other one may be behind on a machine this busy.
    fn snapshots(&self) -> usize {
        self.snapshots_at("$a")
    }

    fn snapshots_at(&self, host: &str) -> usize {
        let names = self.sh(&format!("ls {host}/backup/node/web1/snapshots 2>/dev/null || true"));
        names.lines().count()
    }

    /// Runs `script`, which must leave one more snapshot by the time it ends.
    fn makes_one(&self, script: &str) {
        let before = self.snapshots();
        self.sh(script);
        assert_eq!(self.snapshots(), before + 1, "{script}");
        let shows = || self.snapshots_at("$b") == before + 1;
        support::eventually("the other host shows it", SOON, shows);
    }

    /// Runs `script`, which must leave no snapshot, and the stream free for the next writer.
    fn makes_none(&self, script: &str) -> Ran {
        let before = self.snapshots();
        let ran = self.try_sh(script);
        assert!(ran.code.is_some(), "{script} ends");
        self.makes_one("for i in $(seq 100); do echo next > $B && exit; sleep 0.1; done; exit 1");
        assert_eq!(self.snapshots(), before + 1, "{script}");
        ran
    }
}

/// B1: when `close` returns, the snapshot is there and is read on every host.
#[test]
fn what_programs_write_is_read_elsewhere_when_they_return() {
    let Some(streams) = Streams::start() else { return };
    for write in ["cat $f > $B", "cp $f $B", "dd if=$f of=$B bs=64k status=none"] {
        streams.makes_one(write);
        streams.sh("cmp $f $R && cmp $f $B");
    }
    streams.makes_one("tar c -C /etc passwd hosts > $B");
    assert_eq!(streams.sh("tar t < $R"), "passwd\nhosts");
    assert_eq!(streams.sh("stat -c %s $B"), streams.sh("wc -c < $R"));
    streams.makes_one("exec 3> $B; cat $f >&3; exec 3>&-; echo ok");
    streams.sh("cmp $f $R");
}

/// B2: a stream that several processes write ends with the last of them.
#[test]
fn several_processes_write_one_stream() {
    let Some(streams) = Streams::start() else { return };
    streams.makes_one("(echo a; sleep 0.2; /bin/echo b) > $B");
    assert_eq!(streams.sh("cat $R"), "a\nb");
    streams.makes_one("{ echo a; cat $f; /bin/echo c; } > $B");
    assert_eq!(streams.sh("wc -c < $R"), "3000004");
    streams.makes_one("for i in $(seq 30); do /bin/echo $i; done > $B");
    assert_eq!(streams.sh("wc -l < $R"), "30");
    streams.makes_one("(tar c -C /etc passwd; tar c -C /etc hosts) | gzip > $B");
    assert_eq!(streams.sh("zcat $R | tar ti"), "passwd\nhosts");
    // A helper that was killed is no writer that was killed.
    streams.makes_one("{ sleep 60 & /bin/echo x; kill $!; wait $! || true; echo y; } > $B");
    assert_eq!(streams.sh("cat $R"), "x\ny");
}

/// B2, E4: so it does when it goes through `exec`, whatever others on the host have open.
#[test]
fn a_stream_is_handed_on_by_exec_and_no_other_process_is_looked_through() {
    let Some(streams) = Streams::start() else { return };
    if !has_programs(&["perl", "python3"]) {
        return;
    }
    let opened = "$| = 1; open F, \">\", $ENV{B}; F->autoflush(1); print F \"a\\n\";";
    streams.makes_one(&format!("perl -MIO::Handle -e '{opened} system \"/bin/true\"; print F 1'"));
    assert_eq!(streams.sh("cat $R"), "a\n1");
    streams.makes_one(&format!("perl -MIO::Handle -e '{opened} exec \"/bin/true\"'"));
    assert_eq!(streams.sh("cat $R"), "a");
    let took = || {
        let each = (0..5).map(|_| {
            streams.sh("t=$EPOCHREALTIME; echo x > $B; u=$EPOCHREALTIME
             echo $(((${u/.} - ${t/.}) / 1000))")
        });
        each.map(|ms| ms.parse::<u64>().unwrap()).min().unwrap()
    };
    let few = took();
    let holder = "import os,resource,time; resource.setrlimit(resource.RLIMIT_NOFILE,(20000,20000))
z=os.open('/dev/null',0)
for i in range(19000): os.dup(z)
[os.fork() for i in range(3)]
open(os.environ['f']+'.has','w'); time.sleep(60)";
    let _holder =
        streams.cluster.background(&streams.script(&format!("python3 - <<'P'\n{holder}\nP")));
    support::eventually("it has them", SOON, || streams.try_sh("[ -e $f.has ]").code == Some(0));
    let many = took();
    assert!(many < few + 500, "{few} ms with few descriptors open on the host, {many} with 152000");
}

/// B1: a stream of the same number and name that is written through another mount is another one,
/// even in the very process that closes this one.
#[test]
fn streams_of_two_mounts_are_written_at_the_same_time() {
    let Some(streams) = Streams::start() else { return };
    let counted = streams.sh("count() { ls $1/backup/node/web1/snapshots 2>/dev/null | wc -l; }
         exec 4> $R; echo theirs >&4
         echo mine > $B; count $a
         exec 4>&-; count $b");
    assert_eq!(counted, "1\n2");
    assert_eq!(streams.sh("cat $R"), "theirs");
}

/// B2: in other mount namespaces, and by other names, it is the same stream.
#[test]
fn a_stream_is_known_through_bind_mounts_and_in_other_mount_namespaces() {
    let Some(streams) = Streams::start() else { return };
    if !has_programs(&["unshare", "mount", "mkfifo"]) {
        return;
    }
    streams.makes_one("unshare -m bash -c '(echo a; sleep 0.2; /bin/echo b) > $B'");
    assert_eq!(streams.sh("cat $R"), "a\nb");
    streams.makes_one(
        "mkdir $f.d; unshare -m bash -c \
         'mount --bind ${B%/*} $f.d; (echo c; sleep 0.2; /bin/echo d) > $f.d/backup'",
    );
    assert_eq!(streams.sh("cat $R"), "c\nd");
    streams.makes_one(
        "touch $f.f; unshare -m bash -c \
         'mount --bind $B $f.f; (echo e; sleep 0.2; /bin/echo f) > $f.f'",
    );
    assert_eq!(streams.sh("cat $R"), "e\nf");
    // The last holder has a descriptor of a namespace that is not its own.
    streams.makes_one(
        "mkfifo $f.go; (unshare -m sh -c 'cat $f.go; echo late' & echo early) > $B
         echo go > $f.go; until grep -q late $R; do sleep 0.1; done",
    );
    assert_eq!(streams.sh("cat $R"), "early\ngo\nlate");
}

/// B3: a stream whose writer is killed, or ends with an error before it closes it, is no snapshot.
#[test]
fn an_interrupted_stream_leaves_no_snapshot() {
    let Some(streams) = Streams::start() else { return };
    for signal in ["INT", "TERM", "KILL"] {
        let cut = format!("timeout -s {signal} 0.5 bash -c 'cat $f; exec sleep 20' > $B || true");
        streams.makes_none(&cut);
        // Again and again: a child that the shell has only just forked drops a SIGINT.
        let writer_cut = format!(
            "(while :; do cat $f; done) > $B & p=$!; sleep 0.3
             while kill -{signal} $p $(cat /proc/$p/task/$p/children); do sleep 0.1; done
             wait $p || true"
        );
        streams.makes_none(&writer_cut);
    }
    let ran = streams.makes_none("sh -c 'echo part; exit 3' > $B");
    assert_eq!(ran.code, Some(3));
    // The rest of a stream that lost its writer is refused.
    let ran =
        streams.makes_none("(bash -c 'echo part; kill -9 $$' || true; sleep 0.2; echo rest) > $B");
    assert!(ran.err.contains("Input/output error"), "{ran:?}");
}

/// B3: nor does one whose daemon ends, and the stream can be written again after it.
#[test]
fn a_daemon_that_ends_leaves_no_snapshot() {
    let Some(mut streams) = Streams::start() else { return };
    let stop = |replica: &mut Replica| assert_eq!(replica.stop(), Some(0));
    let ends: [fn(&mut Replica); 2] = [Replica::kill, stop];
    for end in ends {
        let writing = streams.script("(while :; do cat $f; done) > $B");
        let writer = streams.cluster.background(&writing);
        std::thread::sleep(Duration::from_millis(500));
        end(&mut streams.cluster.replicas[0]);
        drop(writer);
        support::detach(&streams.cluster.replicas[0].mount);
        streams.cluster.run(&[0]);
        streams.cluster.wait_ready();
        assert_eq!(streams.snapshots(), 0);
    }
    streams.makes_one("cat $f > $B");
    streams.sh("cmp $f $R");
}

/// B3: whoever waits in `close` can be killed; a stream that was closed before goes on to its end.
#[test]
fn a_close_that_waits_for_a_hanging_peer_can_be_killed() {
    let Some(streams) = Streams::start() else { return };
    streams.makes_one("echo before > $B");
    let hanging = &streams.cluster.replicas[1];
    let pid = hanging.pid();
    let ran = streams.try_sh(&format!(
        "bash -c 'exec 3> $B; cat $f >&3; kill -STOP {pid}; touch $f.closing; exec 3>&-' & p=$!
         until [ -e $f.closing ]; do sleep 0.05; done; sleep 0.5
         kill -0 $p && kill -9 $p && timeout 3 tail --pid=$p -f /dev/null; echo $?"
    ));
    hanging.signal(libc::SIGCONT);
    assert_eq!(ran.out, "0\n", "{ran:?}");
    // Its peer took too long, or came back in time: the stream is free when it has ended.
    streams.sh("for i in $(seq 100); do echo next > $B && exit; sleep 0.1; done; exit 1");
    let last = || streams.try_sh("cat $R").out == "next\n";
    support::eventually("the next stream is read", SOON, last);
}

/// A small filesystem of its own, gone with this value.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: PathBuf, size: &str) -> Tmpfs {
        shell::sh(&format!("mount -t tmpfs -o size={size} none {}", at.display()));
        Tmpfs(at)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        support::detach(&self.0);
    }
}

/// B1, B3: a disk that is full while the stream is written fails the write, not only the close.
#[test]
fn a_full_disk_fails_the_write_and_leaves_no_snapshot() {
    let Some(streams) = Streams::start() else { return };
    let repositories = streams.cluster.replicas[0].data.join("backup/repository");
    let small = Tmpfs::mount(repositories, "40m");
    let ran = streams.makes_none(&format!(
        "head -c 500M /dev/urandom > $B && exit; code=$?
         mount -o remount,size=1g {}; exit $code",
        small.0.display()
    ));
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("No space left on device"), "{ran:?}");
    let log = std::fs::read_to_string(streams.cluster.replicas[0].log()).unwrap();
    assert!(log.contains("kept for the log"), "{log}");
    streams.sh("echo next | cmp - $R");
}

/// B4, B5: what a stream cannot do is refused, and what it need not do is no snapshot.
#[test]
fn a_stream_is_no_ordinary_file() {
    let Some(streams) = Streams::start() else { return };
    streams.makes_one("cat $f > $B");
    let ran = streams.makes_none("echo x >> $B");
    assert!(ran.err.contains("Invalid argument"), "{ran:?}");
    let ran = streams.makes_none("exec 3<> $B");
    assert!(ran.err.contains("Invalid argument"), "{ran:?}");
    for nothing in [": > $B", "touch $B", "cp /dev/null $B", "chmod 600 $B"] {
        assert_eq!(streams.makes_none(nothing).code, Some(0), "{nothing}");
    }
    let ran = streams.try_sh("exec 3> $B; echo mine >&3; (echo x > $B)");
    assert!(ran.err.contains("Device or resource busy"), "{ran:?}");
    // A host's name is text: it goes into manifests.
    let ran = streams.try_sh(r"mkdir $a/backup/node/$'\xff'");
    assert!(ran.err.contains("Invalid argument"), "{ran:?}");
    if has_programs(&["python3"]) {
        let back = "import os,sys; fd=os.open(sys.argv[1],os.O_WRONLY); os.write(fd,b'abc'); \
                    os.pwrite(fd,b'x',0)";
        let ran = streams.try_sh(&format!("python3 -c \"{back}\" $B"));
        assert!(ran.err.contains("Illegal seek"), "{ran:?}");
    }
}

/// B5: a hole is zeros, also at the end.
#[test]
fn a_sparse_file_is_stored_as_it_reads() {
    let Some(streams) = Streams::start() else { return };
    streams.sh("truncate -s 5M $f; echo data >> $f; truncate -s 9M $f");
    streams.makes_one("cp --sparse=always $f $B");
    streams.sh("cmp $f $R");
}

/// B6: a reader keeps the snapshot it opened.
#[test]
fn a_reader_keeps_its_snapshot() {
    let Some(streams) = Streams::start() else { return };
    assert_eq!(streams.sh(": > $B; cat $B"), "");
    streams.makes_one("echo old > $B");
    assert_eq!(
        streams.sh("echo old > $B; exec 3< $R; echo newer > $B; cat <&3; cat $R"),
        "old\nnewer"
    );
}
