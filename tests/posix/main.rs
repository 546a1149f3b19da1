//! The same operations, chosen by chance, on a mount and on a local filesystem: results, errno and
//! attributes must be equal. `SEED=n cargo test --test posix` runs one seed.

mod operation;
#[path = "../support/mod.rs"]
mod support;
mod world;

use operation::Operation;
use std::collections::VecDeque;
use support::dice::Dice;
use support::mounted::Mounted;
use world::World;

const SEEDS: u64 = 30;
const STEPS: usize = 300;
/// How much of the past a failure shows.
const SHOWN: usize = 30;

#[test]
fn a_mount_does_what_a_local_filesystem_does() {
    if !support::can_mount() {
        return;
    }
    let cluster = Mounted::start(1);
    let seeds = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => (0..SEEDS).collect(),
    };
    for seed in seeds {
        let local = tempfile::tempdir().unwrap();
        let mounted = cluster.fresh(&format!("seed-{seed}")).remove(0);
        compare(seed, World::new(local.path()), World::new(&mounted));
    }
}

fn compare(seed: u64, mut local: World, mut mounted: World) {
    let mut dice = Dice(seed);
    let mut past = VecDeque::new();
    for step in 0..STEPS {
        let operation = Operation::choose(&mut dice);
        let outcomes = [local.run(&operation), mounted.run(&operation)];
        past.push_back(format!("{step}: {operation:?} -> {}", outcomes[0]));
        if past.len() > SHOWN {
            past.pop_front();
        }
        let told = Vec::from(past.clone()).join("\n");
        assert_eq!(outcomes[0], outcomes[1], "SEED={seed}, after\n{told}");
    }
    assert_eq!(local.everything(), mounted.everything(), "SEED={seed}, at the end");
}
