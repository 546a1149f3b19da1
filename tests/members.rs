//! Members that lose their disk, come back from a copy, die for good, and those that take their
//! place: real processes, and the commands an operator has.

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;
use support::cluster::Cluster;
use support::shell::{self, Ran};
use support::{KEEPFS, can_mount, eventually, key};

const SOON: Duration = Duration::from_secs(30);

fn keepfs(arguments: &str) -> Ran {
    shell::try_sh(&format!("{KEEPFS} {arguments} 2>&1"), Duration::from_secs(60))
}

/// `keepfs WHAT`, at the daemon of a replica, which succeeds.
fn command(cluster: &Cluster, at: usize, what: &str) -> String {
    let ran = keepfs(&format!("{what} --at {}", cluster.replicas[at].data.display()));
    assert_eq!(ran.code, Some(0), "{what}: {}", ran.out);
    ran.out
}

fn members(cluster: &Cluster, at: usize) -> Vec<serde_json::Value> {
    serde_json::from_str(&command(cluster, at, "member list --json")).unwrap()
}

fn votes(cluster: &Cluster, at: usize, name: &str) -> bool {
    let all = members(cluster, at);
    all.iter().any(|member| member["name"] == name && member["learner"] == false)
}

/// The disk is another one, empty but for the cluster's key.
fn wipe(data: &Path) {
    fs::remove_dir_all(data).unwrap();
    key::give(data);
}

#[test]
fn a_wiped_replica_never_votes_as_the_old_one_and_comes_back_by_one_command() {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::start(3);
    cluster.sh("echo before > $a/f");
    cluster.replicas[2].kill();
    let ran =
        cluster.try_sh("until echo acknowledged 2>/dev/null > $a/x; do sleep 0.1; done", SOON);
    assert_eq!(ran.code, Some(0));
    cluster.replicas[1].kill();
    wipe(&cluster.replicas[1].data);
    cluster.replicas[0].kill();

    // The wiped one and the one that lags are a majority that knows nothing of `x`.
    cluster.run(&[1, 2]);
    let (code, said) = cluster.replicas[1].ends_by_itself();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("keepfs member replace b"), "{said}");
    let below = cluster.try_sh("echo lost > $b/y", SOON);
    assert_ne!(below.code, Some(0), "the directory below takes no writes");
    let lonely = cluster.try_sh("echo other 2>/dev/null > $c/y", SOON);
    assert_ne!(lonely.code, Some(0), "one of three changes nothing");

    cluster.run(&[0]);
    cluster.replicas[0].wait_ready();
    cluster.replicas[2].wait_ready();
    assert_eq!(cluster.sh("cat $c/x"), "acknowledged");
    let mut load = cluster.background("for n in $(seq 100); do echo $n >> $a/log || exit 1; done");
    command(&cluster, 2, "member replace b");
    // With the flags it always had.
    cluster.run(&[1]);
    cluster.replicas[1].wait_ready();
    assert_eq!(cluster.sh("cat $b/x; cat $b/f"), "acknowledged\nbefore");
    eventually("it votes", SOON, || votes(&cluster, 0, "b"));
    eventually("the load ends", SOON, || !load.is_running());
    assert_eq!(cluster.sh("wc -l < $b/log"), "100");
    cluster.replicas[0].kill();
    let ran =
        cluster.try_sh("until echo on 2>/dev/null > $b/f; do sleep 0.1; done; cat $c/f", SOON);
    assert_eq!((ran.code, ran.out.trim()), (Some(0), "on"), "its vote counts");
}

/// As operations.md has it: nobody starts the wiped one before there is room for it.
#[test]
fn a_replaced_founder_joins_by_its_first_start_with_the_old_flags() {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::start(3);
    cluster.sh("echo before > $a/f; cat $c/f");
    cluster.replicas[0].kill();
    command(&cluster, 1, "member replace a --force");
    wipe(&cluster.replicas[0].data);
    cluster.run(&[0]);
    cluster.replicas[0].wait_ready();
    assert_eq!(cluster.sh("cat $a/f"), "before");
    eventually("it votes", SOON, || votes(&cluster, 1, "a"));
}

#[test]
fn an_older_copy_of_a_data_directory_finds_out_that_it_is_one() {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::start(3);
    let data = cluster.replicas[1].data.clone();
    let copy = cluster.dir.path().join("copy");
    cluster.replicas[1].stop();
    let cp = |from: &Path, to: &Path| {
        shell::sh(&format!("cp -a '{}' '{}'", from.display(), to.display()));
    };
    cp(&data, &copy);
    cluster.run(&[1]);
    cluster.replicas[1].wait_ready();
    cluster.sh("echo acknowledged > $b/x; cat $a/x");
    cluster.replicas[1].kill();
    fs::remove_dir_all(&data).unwrap();
    cp(&copy, &data);
    cluster.run(&[1]);
    let (code, said) = cluster.replicas[1].ends_by_itself();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("an old copy") && said.contains("member replace b"), "{said}");
    assert_eq!(cluster.sh("cat $c/x"), "acknowledged");
}

#[test]
fn a_dead_member_is_removed_and_a_dead_newcomer_never_votes() {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::start(3);
    cluster.replicas[2].kill();
    let refused = |what: &str| {
        let ran = keepfs(&format!("{what} --at {}", cluster.replicas[0].data.display()));
        assert_eq!(ran.code, Some(1), "{what}: {}", ran.out);
        ran.out
    };
    eventually("it is missed", SOON, || {
        members(&cluster, 0).iter().any(|m| m["name"] == "c" && m["reachable"] == false)
    });
    assert!(refused("member remove b").contains("only 1 of the 2"));
    assert!(refused("member replace b").contains("is alive"));
    assert!(refused("member remove nobody").contains("is no member; these are: a, b, c"));
    assert!(refused("member transfer c").contains("was not heard"));
    command(&cluster, 1, "member remove c");
    assert_eq!(members(&cluster, 0).len(), 2);
    cluster.sh("echo on > $a/f; cat $b/f");
    for what in
        ["'' h:1", "'bad name/x' h:1", "$'a\\nb' h:1", "d nonsense", "d localhost:99999", "b h:1"]
    {
        let said = refused(&format!("member add {what}"));
        assert_eq!(said.trim().lines().count(), 1, "{what}: {said}");
    }
    // One that is announced and never comes.
    command(&cluster, 0, "member add d 127.0.0.1:9");
    cluster.sh("for n in $(seq 20); do echo $n > $a/f; done; sleep 1");
    assert!(!votes(&cluster, 0, "d"));
    command(&cluster, 1, "member remove d");
    let leader = cluster.leader(0);
    let other = 1 - leader;
    command(&cluster, 0, &format!("member transfer {}", cluster.replicas[other].name));
    eventually("it leads", SOON, || cluster.leader(other) == other);
    // One that runs must not be started again by what watches over it.
    command(&cluster, other, &format!("member remove {}", cluster.replicas[leader].name));
    let (code, said) = cluster.replicas[leader].ends_by_itself();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("was removed from the cluster") && said.contains("--join"), "{said}");
}

#[test]
fn the_last_survivor_goes_on_alone_with_all_it_has() {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::start(3);
    cluster.sh("mkdir $a/d; for n in $(seq 50); do echo $n > $a/d/$n; done; cat $c/d/50");
    let data = cluster.replicas[2].data.clone();
    let running = keepfs(&format!("inspect {}", data.display()));
    assert!(running.out.contains("runs on it"), "{}", running.out);
    for index in 0..3 {
        cluster.replicas[index].kill();
    }
    for index in 0..2 {
        wipe(&cluster.replicas[index].data);
    }
    let found = keepfs(&format!("inspect --json {}", data.display()));
    let found: serde_json::Value = serde_json::from_str(&found.out).unwrap();
    assert_eq!((&found["name"], found["members"].as_array().unwrap().len()), (&"c".into(), 3));
    assert!(found["log"]["Ok"]["last"].as_u64().unwrap() > 50, "{found}");

    let asked = keepfs(&format!("recover --force {}", data.display()));
    assert_eq!(asked.code, Some(1));
    assert!(asked.out.contains("--yes-lose-acknowledged-changes"), "{}", asked.out);
    let yes = format!("recover --force --yes-lose-acknowledged-changes {}", data.display());
    let done = keepfs(&yes);
    assert_eq!(done.code, Some(0), "{}", done.out);
    assert!(done.out.contains("Never start these again with the data they have: a, b"));
    // It may have been interrupted, and is done again.
    assert_eq!(keepfs(&yes).code, Some(0));

    cluster.run(&[2]);
    cluster.replicas[2].wait_ready();
    assert_eq!(cluster.sh("cat $c/d/50; ls $c/d | wc -l; echo more > $c/more"), "50\n50");
    for index in 0..2 {
        cluster.join_again(index, 2);
    }
    assert_eq!(cluster.sh("cat $a/d/7 $b/more"), "7\nmore");
    eventually("both vote", SOON, || votes(&cluster, 2, "a") && votes(&cluster, 2, "b"));
    cluster.replicas[2].kill();
    let ran =
        cluster.try_sh("until echo on 2>/dev/null > $a/f; do sleep 0.1; done; cat $b/f", SOON);
    assert_eq!((ran.code, ran.out.trim()), (Some(0), "on"));
}

#[test]
fn a_replica_that_is_started_at_another_address_is_reached_there() {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::start(3);
    cluster.sh("echo before > $a/f; cat $c/f");
    cluster.replicas[2].stop();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    cluster.replicas[2].address = free.clone();
    cluster.run(&[2]);
    cluster.replicas[2].wait_ready();
    for at in 0..3 {
        eventually("it is known and reached there", SOON, || {
            let all = members(&cluster, at);
            let moved = all.iter().find(|member| member["name"] == "c").expect("c");
            moved["address"] == free.as_str() && (at == 2 || moved["reachable"] == true)
        });
    }
    assert!(votes(&cluster, 0, "c"));
    cluster.replicas[1].kill();
    let ran =
        cluster.try_sh("until echo after 2>/dev/null > $a/f; do sleep 0.1; done; cat $c/f", SOON);
    assert_eq!((ran.code, ran.out.trim()), (Some(0), "after"), "its vote counts");

    // One that has missed it learns of it.
    cluster.run(&[1]);
    cluster.replicas[1].wait_ready();
    cluster.replicas[0].kill();
    let ran =
        cluster.try_sh("until echo later 2>/dev/null > $b/f; do sleep 0.1; done; cat $c/f", SOON);
    assert_eq!((ran.code, ran.out.trim()), (Some(0), "later"));
}

#[test]
fn only_root_and_the_daemons_user_command_it() {
    // SAFETY: geteuid has no precondition and cannot fail.
    if !can_mount() || unsafe { libc::geteuid() } != 0 {
        return;
    }
    let cluster = Cluster::start(1);
    let link = cluster.replicas[0].data.join("control");
    let socket = fs::canonicalize(&link).unwrap();
    assert!(command(&cluster, 0, "sessions").contains("0x"));
    assert!(command(&cluster, 0, "locks").contains("POSITION"));
    let status = keepfs(&format!("status --json {}", cluster.replicas[0].data.display()));
    assert!(status.out.contains("\"quorum\":true"), "{}", status.out);
    if socket.parent().is_some_and(|run| run.ends_with("keepfs")) {
        let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups";
        let asked = format!("{nobody} {KEEPFS} member list --at {}", socket.display());
        let ran = shell::try_sh(&asked, SOON);
        assert!(ran.err.contains("only root may command a"), "{ran:?}");
    }
}
