//! U4: real processes, each with its mount, that get another program one after the other, while
//! others write and hold locks. `KEEPFS_PREVIOUS=PATH` is the program of the release before.

mod support;

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::cluster::{Cluster, PATIENT};
use support::{KEEPFS, can_mount, eventually, has_programs};

const NEXT: &str = env!("CARGO_BIN_EXE_keepfs-next");
const SOON: Duration = Duration::from_secs(60);
/// Longer than a leader takes to raise a level.
const WHILE: Duration = Duration::from_secs(3);

fn program_of_before() -> PathBuf {
    match std::env::var_os("KEEPFS_PREVIOUS") {
        Some(path) => path.into(),
        None => {
            eprintln!("KEEPFS_PREVIOUS is not set: this program is its own predecessor");
            KEEPFS.into()
        }
    }
}

fn status(cluster: &Cluster, asked: usize) -> Value {
    let mut status = None;
    eventually("a status", SOON, || {
        status = cluster.replicas[asked].status();
        status.is_some()
    });
    status.unwrap()
}

fn level(cluster: &Cluster, asked: usize) -> u64 {
    status(cluster, asked)["level"].as_u64().expect("a level")
}

/// What each member runs: version and level.
fn runs(cluster: &Cluster, asked: usize) -> Vec<(String, u64)> {
    let status = status(cluster, asked);
    let members = status["members"].as_array().expect("members").iter();
    let one = |member: &Value| {
        let version = member["version"].as_str().unwrap_or_default().to_owned();
        (version, member["level"].as_u64().unwrap_or_default())
    };
    members.map(one).collect()
}

fn has_lock(cluster: &Cluster, of: &str) -> bool {
    cluster.try_sh(&format!("flock -n ${of}/lck true"), SOON).code == Some(1)
}

/// Stops a replica in order and starts it with `program`, while its neighbour's host writes and the
/// other one's holds a lock.
fn restart(cluster: &mut Cluster, index: usize, program: &Path) {
    let [name, writer, holder] = [0, 1, 2].map(|at| cluster.replicas[(index + at) % 3].name);
    let lock = cluster.background(&format!("flock ${holder}/lck sleep 1000"));
    eventually("the lock is held", SOON, || has_lock(cluster, writer));
    let acked = cluster.dir.path().join("acked");
    let write = format!(
        "n=0; while sleep 0.02; do n=$((n + 1)); line={index}.$n
         echo $line >> ${writer}/log && echo $line >> {}; done",
        acked.display()
    );
    let writing = cluster.background(&write);
    let lines = || fs::read_to_string(&acked).unwrap_or_default().lines().count();
    let begun = lines();
    eventually("writes go on", SOON, || lines() > begun + 5);

    assert_eq!(cluster.replicas[index].stop(), Some(0), "{name}");
    cluster.replicas[index].program = program.to_owned();
    let away = lines();
    eventually("writes go on without it", SOON, || lines() > away + 5);
    cluster.run(&[index]);
    cluster.replicas[index].wait_ready();
    let back = lines();
    eventually("writes go on with it", SOON, || lines() > back + 5);
    assert!(has_lock(cluster, name), "a session that lives keeps its lock");
    drop((writing, lock));
}

/// Every line that was acknowledged is there, once, on every mount.
fn assert_nothing_is_lost(cluster: &Cluster) {
    let acked = fs::read_to_string(cluster.dir.path().join("acked")).unwrap();
    for name in ["a", "b", "c"] {
        let log = cluster.sh(&format!("cat ${name}/log"));
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        log.lines().for_each(|line| *counts.entry(line).or_default() += 1);
        let wrong: Vec<_> = acked.lines().filter(|line| counts.get(line) != Some(&1)).collect();
        assert!(wrong.is_empty(), "{name}: lost or there twice: {wrong:?}");
    }
}

fn cluster_of(program: &Path) -> Cluster {
    let cluster = Cluster::start_as(program, 3, PATIENT);
    cluster.sh("touch $a/lck $a/log");
    eventually("everyone says what it runs", SOON, || {
        runs(&cluster, 0).iter().all(|(version, _)| !version.is_empty())
    });
    cluster
}

#[test]
fn the_release_before_is_replaced_one_host_after_the_other() {
    if !can_mount() || !has_programs(&["flock"]) {
        return;
    }
    let mut cluster = cluster_of(&program_of_before());
    let before = level(&cluster, 0);
    for index in 0..3 {
        restart(&mut cluster, index, Path::new(KEEPFS));
        assert!(level(&cluster, index) >= before, "a level never falls");
    }
    assert_nothing_is_lost(&cluster);
    let can = runs(&cluster, 0).iter().map(|(_, level)| *level).min();
    eventually("the level is what all can", SOON, || {
        (0..3).all(|index| Some(level(&cluster, index)) == can)
    });
}

/// U1, U3: with the last host the level rises, and there is no way back.
#[test]
fn the_level_rises_with_the_last_host() {
    if !can_mount() || !has_programs(&["flock"]) {
        return;
    }
    let mut cluster = cluster_of(Path::new(KEEPFS));
    let (before, own) = (level(&cluster, 0), runs(&cluster, 0)[0].clone());
    let next = (format!("{}-next", own.0), own.1 + 1);
    assert_eq!(before, own.1);
    for index in 0..2 {
        restart(&mut cluster, index, Path::new(NEXT));
        let mut mixed = vec![next.clone(); index + 1];
        mixed.resize(3, own.clone());
        for asked in 0..3 {
            eventually("versions are mixed", SOON, || runs(&cluster, asked) == mixed);
        }
        std::thread::sleep(WHILE);
        assert!((0..3).all(|asked| level(&cluster, asked) == before));
    }
    let text = cluster.sh("cat $a/.keepfs/status");
    assert!(text.contains(&format!("{before} ({} when c can)", before + 1)), "{text}");

    restart(&mut cluster, 2, Path::new(NEXT));
    eventually("the level rises", SOON, || {
        (0..3).all(|asked| level(&cluster, asked) == before + 1)
    });
    assert_nothing_is_lost(&cluster);

    assert_eq!(cluster.replicas[1].stop(), Some(0));
    cluster.replicas[1].program = KEEPFS.into();
    cluster.run(&[1]);
    let (code, log) = cluster.replicas[1].ends_by_itself();
    assert_eq!(code, Some(3), "{log}");
    let why = format!("written by a newer keepfs (level {}; this", before + 1);
    assert!(log.contains(&why), "{log}");
    cluster.replicas[1].program = NEXT.into();
    support::detach(&cluster.replicas[1].mount);
    cluster.run(&[1]);
    cluster.replicas[1].wait_ready();
    assert_eq!(cluster.sh("echo on > $b/f; cat $c/f"), "on");
}
