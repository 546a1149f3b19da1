//! Three real processes, each with its own mount: killed, paused, started again.

mod support;

use std::time::{Duration, Instant};
use support::cluster::{Cluster, OP_TIMEOUT, PATIENT};
use support::{can_mount, eventually, has_programs, shell};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn what_one_mount_writes_the_others_read_at_once() {
    if !can_mount() {
        return;
    }
    let cluster = Cluster::start(3);
    for round in 0..20 {
        let script = format!("echo v{round} > $a/f; cat $b/f $c/f");
        assert_eq!(cluster.sh(&script), format!("v{round}\nv{round}"));
        let script = format!("echo w{round} > $c/f; cat $a/f $b/f");
        assert_eq!(cluster.sh(&script), format!("w{round}\nw{round}"));
    }
}

#[test]
fn a_killed_replica_is_named_and_the_others_go_on() {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::start(3);
    cluster.sh("echo before > $a/f");
    // The leader: the harder of the two cases.
    let dead = cluster.leader(0);
    cluster.replicas[dead].kill();
    let (one, two) = ((dead + 1) % 3, (dead + 2) % 3);
    let (one_name, two_name) = (cluster.replicas[one].name, cluster.replicas[two].name);
    let script = format!("echo after > ${one_name}/f; cat ${two_name}/f");
    let ran = cluster.try_sh(&script, SOON);
    assert_eq!((ran.code, ran.out.trim()), (Some(0), "after"), "{ran:?}");

    let name = cluster.replicas[dead].name;
    eventually("the status names who is missing", SOON, || {
        let status = cluster.replicas[one].status().unwrap();
        let members = status["members"].as_array().unwrap();
        let gone = members.iter().filter(|member| member["reachable"] == false);
        gone.map(|member| member["name"].as_str().unwrap()).eq([name])
    });
    assert!(cluster.sh(&format!("cat ${one_name}/.keepfs/status")).contains(name));

    cluster.run(&[dead]);
    cluster.replicas[dead].wait_ready();
    assert_eq!(
        cluster.sh(&format!("cat ${name}/f; echo again > ${name}/f; cat ${one_name}/f")),
        "after\nagain"
    );
}

#[test]
fn without_a_quorum_reads_answer_and_writes_fail_with_erofs() {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::start(3);
    cluster.sh("echo kept > $a/f; mkdir $a/d");
    cluster.replicas[1].kill();
    cluster.replicas[2].kill();

    let ran = cluster.try_sh("echo lost > $a/f", OP_TIMEOUT * 4);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("Read-only file system"), "{ran:?}");
    assert!(ran.took > OP_TIMEOUT / 2, "a change of leader would have been waited out: {ran:?}");

    for quick in ["cat $a/f", "ls -l $a", "df $a", "stat $a/d", "cat $a/.keepfs/status"] {
        let ran = cluster.try_sh(quick, Duration::from_secs(5));
        assert_eq!(ran.code, Some(0), "{quick}: {ran:?}");
        assert!(ran.took < Duration::from_secs(2), "{quick}: {ran:?}");
    }
    let status = cluster.replicas[0].status().unwrap();
    assert_eq!(status["quorum"], false);
    assert!(status["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{status}");

    cluster.run(&[1, 2]);
    eventually("changes are possible again, by themselves", Duration::from_secs(30), || {
        cluster.try_sh("echo new > $a/f", OP_TIMEOUT * 4).code == Some(0)
    });
    cluster.wait_ready();
    assert_eq!(cluster.sh("cat $b/f $c/f"), "new\nnew");
}

#[test]
fn a_paused_leader_is_replaced_and_catches_up() {
    if !can_mount() {
        return;
    }
    let cluster = Cluster::start(3);
    cluster.sh("echo 0 > $a/counter");
    let paused = cluster.leader(0);
    let other = (paused + 1) % 3;
    let (paused_name, other_name) = (cluster.replicas[paused].name, cluster.replicas[other].name);
    cluster.replicas[paused].signal(libc::SIGSTOP);
    let ran = cluster.try_sh(&format!("echo 1 > ${other_name}/counter"), SOON);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    cluster.replicas[paused].signal(libc::SIGCONT);
    eventually("the paused replica shows the change", SOON, || {
        cluster.try_sh(&format!("cat ${paused_name}/counter"), SOON).out.trim() == "1"
    });
    eventually("the paused replica takes changes", SOON, || {
        cluster.try_sh(&format!("echo 2 > ${paused_name}/counter"), SOON).code == Some(0)
    });
    assert_eq!(cluster.sh(&format!("cat ${other_name}/counter")), "2");
}

#[test]
fn a_lock_passes_between_mounts_and_from_a_dead_host() {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::start(3);
    cluster.sh("touch $a/lck");
    let first = cluster.background("flock $a/lck sleep 1000");
    eventually("the lock is taken", SOON, || {
        cluster.try_sh("flock -n $b/lck true", SOON).code == Some(1)
    });
    let mut second = cluster.background("flock $b/lck true");
    std::thread::sleep(Duration::from_millis(500));
    assert!(second.is_running(), "the second waits");
    drop(first);
    eventually("the second has got it", SOON, || !second.is_running());

    let _holder = cluster.background("flock $c/lck sleep 1000");
    eventually("c holds it", SOON, || cluster.try_sh("flock -n $b/lck true", SOON).code == Some(1));
    cluster.replicas[2].kill();
    let start = Instant::now();
    let ran = cluster.try_sh("flock $b/lck true", Duration::from_secs(30));
    assert_eq!(ran.code, Some(0), "the lock of a dead host is freed: {ran:?}");
    assert!(
        start.elapsed() > Duration::from_millis(500),
        "not before its session could have ended"
    );
}

/// L8: a daemon that stands still while its host's lock is granted and its session expires wakes up
/// without the lock.
#[test]
fn a_grant_that_a_host_sleeps_through_is_not_its_own() {
    if !can_mount() {
        return;
    }
    let cluster = Cluster::start(3);
    let got = cluster.dir.path().join("got");
    let holder = cluster.background("flock $a/lck sleep 1000");
    eventually("a holds it", SOON, || cluster.try_sh("flock -n $b/lck true", SOON).code == Some(1));
    // By descriptor: given a name, flock(1) opens it anew after EIO and queues once more.
    let script = format!("exec 9>> $c/lck; flock 9; touch {}", got.display());
    let mut sleeper = cluster.background(&script);
    eventually("c waits", SOON, || cluster.sh("cat $a/.keepfs/locks").contains("flock 9"));
    cluster.replicas[2].signal(libc::SIGSTOP);
    drop(holder);
    let ran = cluster.try_sh("flock $b/lck sh -c 'echo mine > $b/f'", Duration::from_secs(40));
    let mut next = cluster.background("flock $b/lck sleep 1000");
    eventually("b holds it again", SOON, || {
        cluster.try_sh("flock -n $a/lck true", SOON).code == Some(1)
    });
    cluster.replicas[2].signal(libc::SIGCONT);
    assert_eq!(ran.code, Some(0), "the lock passed to b: {ran:?}");
    eventually("the sleeper is told", SOON, || !sleeper.is_running());
    assert!(next.is_running() && !got.exists(), "two had the lock");
}

#[test]
fn sigterm_unmounts_and_ends_with_zero() {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::start(1);
    cluster.sh("echo kept > $a/f");
    assert_eq!(cluster.replicas[0].stop(), Some(0));
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!table.contains(&cluster.replicas[0].mount.display().to_string()));
    cluster.run(&[0]);
    cluster.wait_ready();
    assert_eq!(cluster.sh("cat $a/f"), "kept");
}

/// E5: what a disk that is full leaves is a dead mount, not the bare directory below.
#[test]
fn a_replica_that_fails_leaves_its_mount_dead() {
    if !can_mount() || !has_programs(&["mount", "dd"]) {
        return;
    }
    let mut cluster = Cluster::start(1);
    cluster.sh("echo kept > $a/f");
    assert_eq!(cluster.replicas[0].stop(), Some(0));
    let data = cluster.replicas[0].data.display().to_string();
    shell::sh(&format!(
        "cp -a {data} {data}.old; mount -t tmpfs -o size=64m none {data}; chmod 700 {data}
         cp -a {data}.old/. {data}/"
    ));
    cluster.run(&[0]);
    cluster.wait_ready();
    let ran = cluster.try_sh(
        &format!(
            "dd if=/dev/zero of={data}/fill bs=64k 2>/dev/null || true
             for i in $(seq 500); do head -c 300000 /dev/urandom > $a/b$i || break; done
             for i in $(seq 100); do e=$(cat $a/f 2>&1) || true
               case $e in *'not connected'*) break;; esac; sleep 0.1; done
             echo \"$e\"; echo precious > $a/order && echo written; true"
        ),
        SOON,
    );
    let replica = &cluster.replicas[0];
    support::detach(&replica.mount);
    support::detach(&replica.data);
    assert!(ran.out.contains("not connected") && !ran.out.contains("written"), "{ran:?}");
}

#[test]
fn a_leader_that_is_stopped_costs_the_others_no_election_and_no_session() {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::start_with(3, PATIENT);
    cluster.sh("touch $a/lck");
    let stopped = cluster.leader(0);
    let (leader, other) =
        (cluster.replicas[stopped].name, cluster.replicas[(stopped + 1) % 3].name);
    let _holder = cluster.background(&format!("flock ${leader}/lck sleep 1000"));
    eventually("the leader's host holds the lock", SOON, || {
        cluster.try_sh(&format!("flock -n ${other}/lck true"), SOON).code == Some(1)
    });
    let mut next = cluster.background(&format!("flock ${other}/lck true"));
    let writes = format!(
        "while sleep 0.01; do echo x > ${other}/f; date +%s%N; done > {}/moments",
        cluster.dir.path().display()
    );
    let writer = cluster.background(&writes);
    std::thread::sleep(Duration::from_millis(500));
    let start = Instant::now();
    assert_eq!(cluster.replicas[stopped].stop(), Some(0));
    let ran = cluster.try_sh(&format!("echo after > ${other}/f"), SOON);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    eventually("the lock has passed on", SOON, || !next.is_running());
    // An election takes ten seconds and more, and a session forty.
    let took = start.elapsed();
    assert!(took < Duration::from_secs(8), "{leader} was gone for {took:?}");
    drop(writer);
    let moments = std::fs::read_to_string(cluster.dir.path().join("moments")).unwrap();
    let moments: Vec<u64> = moments.lines().map(|line| line.parse().unwrap()).collect();
    let gap = moments.windows(2).map(|pair| pair[1] - pair[0]).max().expect("some writes");
    assert!(gap < 4_000_000_000, "no write for {gap} ns while {leader} stopped");
    assert_ne!(cluster.leader((stopped + 1) % 3), stopped);
}

#[test]
fn a_cluster_of_one_grows_by_joins() {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::start(1);
    cluster.sh("echo old > $a/f");
    for expected in [2, 3] {
        cluster.join();
        let newest = cluster.replicas.last().unwrap().name;
        assert_eq!(
            cluster.sh(&format!("cat ${newest}/f; echo {expected} > ${newest}/n; cat $a/n")),
            format!("old\n{expected}")
        );
        eventually("it votes", SOON, || {
            let status = cluster.replicas[0].status().unwrap();
            let members = status["members"].as_array().unwrap();
            members.len() == expected && members.iter().all(|member| member["learner"] == false)
        });
    }
    // Now the loss of the first is survived.
    cluster.replicas[0].kill();
    let ran = cluster.try_sh("echo after > $b/f; cat $c/f", SOON);
    assert_eq!((ran.code, ran.out.trim()), (Some(0), "after"), "{ran:?}");
}

#[test]
fn keepfs_lock_runs_a_command_under_the_lock_with_its_token() {
    if !can_mount() {
        return;
    }
    let cluster = Cluster::start(3);
    let keepfs = support::KEEPFS;
    let token = |mount: &str| -> u64 {
        let script = format!("{keepfs} lock ${mount}/lck -- sh -c 'echo $KEEPFS_TOKEN'");
        cluster.sh(&script).parse().expect("a token")
    };
    let (first, second) = (token("a"), token("b"));
    assert!(first < second, "the fencing token grows: {first} {second}");
    assert_eq!(
        cluster.try_sh(&format!("{keepfs} lock $a/lck -- sh -c 'exit 7'"), SOON).code,
        Some(7)
    );

    for (command, code) in [("no-such-command", 127), ("/etc/passwd", 126)] {
        let ran = cluster.try_sh(&format!("{keepfs} lock $a/lck -- {command}"), SOON);
        assert_eq!(ran.code, Some(code), "{ran:?}");
    }

    let _holder = cluster.background("flock $c/lck sleep 1000");
    eventually("c holds it", SOON, || {
        cluster.try_sh(&format!("{keepfs} lock -n $a/lck -- true"), SOON).code == Some(1)
    });
    let ran = cluster.try_sh(&format!("{keepfs} lock -n $a/lck -- true"), SOON);
    assert!(ran.err.contains(".keepfs/locks says by whom"), "{ran:?}");
}

#[test]
fn keepfs_lock_ends_its_command_when_the_lock_is_lost() {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::start(3);
    let keepfs = support::KEEPFS;
    let mut job = cluster.background(&format!("{keepfs} lock $a/lck -- sleep 1000"));
    eventually("a holds it", SOON, || cluster.try_sh("flock -n $b/lck true", SOON).code == Some(1));
    // Without a quorum a's session cannot be kept.
    cluster.replicas[1].kill();
    cluster.replicas[2].kill();
    eventually("the command has been ended", SOON, || !job.is_running());
}
