//! The shell examples, each on a real cluster.

mod support;

use std::time::Duration;
use support::cluster::Cluster;
use support::{can_mount, eventually, has_programs};

const SOON: Duration = Duration::from_secs(20);

/// Runs `script` with `$x` set to the directory of the examples.
fn with_examples(script: &str) -> String {
    format!("x={}/examples\n{script}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn one_host_leads_and_the_next_takes_over() {
    if !can_mount() {
        return;
    }
    let cluster = Cluster::start(3);
    let out = cluster.dir.path().join("out");
    let lead = |mount: &str| {
        let script =
            format!("INTERVAL=0.1 $x/leader_election.sh ${mount} web >>{}.{mount}", out.display());
        cluster.background(&with_examples(&script))
    };
    let said = |mount: &str| {
        std::fs::read_to_string(format!("{}.{mount}", out.display())).unwrap_or_default()
    };
    let first = lead("a");
    eventually("a leads", SOON, || said("a").contains("leading web with token"));
    let _second = lead("b");
    eventually("b waits", SOON, || said("b").contains("waiting"));
    std::thread::sleep(Duration::from_millis(500));
    assert!(!said("b").contains("leading"), "one at a time");
    drop(first);
    eventually("b takes over", SOON, || said("b").contains("leading web with token"));
    let token = |mount: &str| -> u64 {
        said(mount).trim_end().rsplit(' ').next().unwrap().parse().expect("a token")
    };
    assert!(token("a") < token("b"), "the fencing token grows");
}

#[test]
fn a_nightly_job_runs_once() {
    if !can_mount() {
        return;
    }
    let cluster = Cluster::start(3);
    let ran = cluster.dir.path().join("ran");
    let job = format!("report sh -c 'sleep 0.3; echo ran >> {}'", ran.display());
    let script = format!(
        "$x/nightly_job.sh $a {job} & $x/nightly_job.sh $b {job} & $x/nightly_job.sh $c {job} & wait"
    );
    let said = cluster.sh(&with_examples(&script));
    assert_eq!(std::fs::read_to_string(&ran).unwrap(), "ran\n");
    assert_eq!(said.matches("done already today").count(), 2, "{said}");
}

#[test]
fn a_pushed_configuration_is_whole_everywhere() {
    if !can_mount() {
        return;
    }
    let cluster = Cluster::start(3);
    let from = cluster.dir.path().join("etc");
    for version in ["one", "two", "three"] {
        cluster.sh(&with_examples(&format!(
            "mkdir -p {0}/d; echo {version} > {0}/x; echo {version} > {0}/d/y; \
             $x/config_push.sh $a {0} app",
            from.display()
        )));
        assert_eq!(
            cluster.sh("cat $c/config/app/x $b/config/app/d/y"),
            format!("{version}\n{version}")
        );
    }
    assert_eq!(cluster.sh("ls $a/config/.versions/app | wc -l"), "1", "older versions are gone");
}

#[test]
fn a_backup_is_read_back_from_another_host() {
    if !can_mount() || !has_programs(&["tar"]) {
        return;
    }
    let cluster = Cluster::start(3);
    let what = cluster.dir.path().join("what");
    cluster.sh(&format!("mkdir {0}; touch {0}/f1 {0}/f2", what.display()));
    let script = format!("$x/backup.sh $a {} $b", what.display());
    let said = cluster.sh(&with_examples(&script));
    assert!(said.contains("snapshot ") && said.ends_with("3 entries, read back"), "{said}");
}
