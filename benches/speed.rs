//! `keepfs bench` on a cluster of one and on a cluster of three. Arguments are passed on to it:
//! `cargo bench --bench speed -- --quick --json`.

#[path = "../tests/support/mod.rs"]
mod support;

use std::process::Command;
use support::cluster::Cluster;

fn main() {
    assert!(support::can_mount(), "the benchmark needs a mount");
    // Cargo adds `--bench` to what it is given.
    let passed_on: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    for replicas in [1, 3] {
        let cluster = Cluster::start(replicas);
        let mut command = Command::new(support::KEEPFS);
        command.arg("bench").arg(&cluster.replicas[0].mount).args(&passed_on);
        let status = command.status().expect("keepfs");
        assert!(status.success(), "keepfs bench failed with {replicas} replicas");
        println!();
    }
}
