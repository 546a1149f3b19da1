//! Data directories that were moved, and older copies that were put back, on real processes.

mod support;

use std::fs;
use std::time::Duration;
use support::cluster::{Cluster, quoted};
use support::{KEEPFS, can_mount, eventually, shell};

const SOON: Duration = Duration::from_secs(20);
/// Several election timeouts.
const LONG: Duration = Duration::from_secs(5);

const DOUBT: &str = "was moved, or is an older copy";
const LEADS: &str = "leads, in term";
const SURE: &str = "as new as what this replica has promised";

/// Copies a data directory, and puts the copy in its place.
fn copy(cluster: &Cluster, index: usize) -> String {
    let data = quoted(&cluster.replicas[index].data);
    shell::sh(&format!("rm -rf {data}.copy; cp -a {data} {data}.copy; echo {data}.copy"));
    data
}

fn put_back(data: &str) {
    shell::sh(&format!("rm -rf {data}; mv {data}.copy {data}"));
}

fn says(cluster: &Cluster, index: usize, what: &str) -> usize {
    let log = fs::read_to_string(cluster.replicas[index].log()).unwrap_or_default();
    log.matches(what).count()
}

#[test]
fn an_older_copy_of_a_data_directory_does_not_vote_away_what_it_acknowledged() {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::start(3);
    cluster.sh("echo old > $a/f; cat $c/f");
    cluster.replicas[2].kill();
    let data = copy(&cluster, 1);
    let led = says(&cluster, 2, LEADS);
    cluster.sh("echo new > $a/f; cat $b/f");
    cluster.replicas[1].kill();
    put_back(&data);
    cluster.replicas[0].kill();
    cluster.run(&[1, 2]);
    eventually("it asks", SOON, || says(&cluster, 1, DOUBT) > 0);
    std::thread::sleep(LONG);
    assert_eq!((says(&cluster, 2, LEADS), says(&cluster, 1, SURE)), (led, 0));
    let reason = cluster.sh("cat $b/.keepfs/status");
    assert!(reason.contains("it has no vote until 1 of replicas 1"), "{reason}");
    cluster.run(&[0]);
    cluster.wait_ready();
    for mount in ["$a", "$b", "$c"] {
        assert_eq!(cluster.sh(&format!("cat {mount}/f")), "new");
    }
    eventually("it knows all again", SOON, || says(&cluster, 1, SURE) == 1);
}

#[test]
fn a_moved_data_directory_goes_on_in_its_new_place() {
    if !can_mount() {
        return;
    }
    for replicas in [1, 2, 3] {
        let mut cluster = Cluster::start(replicas);
        cluster.sh("echo there > $a/f");
        let moved = |cluster: &mut Cluster, which: &[usize]| {
            for index in which {
                assert_eq!(cluster.replicas[*index].stop(), Some(0));
            }
            let data: Vec<_> = which.iter().map(|index| copy(cluster, *index)).collect();
            data.iter().for_each(|data| put_back(data));
            cluster.run(which);
            cluster.wait_ready();
            cluster.sh("cat $a/f; echo again >> $a/f");
            for index in which {
                let asked = says(cluster, *index, DOUBT);
                eventually("it knows", SOON, || says(cluster, *index, SURE) == asked);
            }
        };
        moved(&mut cluster, &[0]);
        assert_eq!(says(&cluster, 0, DOUBT), 1);
        // All at once.
        moved(&mut cluster, &(0..replicas).collect::<Vec<_>>());
        // It is held to be there from then on.
        assert_eq!(cluster.replicas[0].stop(), Some(0));
        cluster.run(&[0]);
        cluster.wait_ready();
        assert_eq!(says(&cluster, 0, DOUBT), 2);
        assert_eq!(cluster.sh("wc -l < $a/f").trim(), "3");
    }
}

#[test]
fn an_operator_may_say_that_it_was_only_moved() {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::start(3);
    cluster.sh("echo there > $a/f");
    cluster.replicas[2].kill();
    assert_eq!(cluster.replicas[1].stop(), Some(0));
    let data = copy(&cluster, 1);
    put_back(&data);
    cluster.run(&[1]);
    eventually("it asks", SOON, || says(&cluster, 1, DOUBT) > 0);
    let running = shell::try_sh(&format!("{KEEPFS} recover --moved {data}"), SOON);
    assert!(running.code == Some(1) && running.err.contains("in use by process"), "{running:?}");
    cluster.replicas[1].kill();
    assert_eq!(shell::sh(&format!("{KEEPFS} recover --moved {data}")), "b votes as before.");
    cluster.run(&[1]);
    cluster.wait_ready();
    assert_eq!(cluster.sh("cat $b/f; echo on > $b/f; cat $a/f"), "there\non");
}
