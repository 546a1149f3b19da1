//! Whole clusters from seeds. `KEEPFS_SIM_SEEDS=N` plays N fresh seeds instead of two; a seed that
//! fails is named, and `cargo run --features sim --example simulate -- SEED` tells its story.

use keepfs::sim::{Counts, Report, Settings, run};
use std::time::{SystemTime, UNIX_EPOCH};

/// Plays a seed twice: the second time has to be the first time again.
fn play(seed: u64, settings: &Settings) -> Counts {
    let report = run(seed, settings);
    assert_good(&report, settings);
    let again = run(seed, settings);
    assert_eq!(again.trace, report.trace, "seed {seed} does not replay");
    report.counts
}

fn assert_good(report: &Report, settings: &Settings) {
    let seed = report.seed;
    assert!(
        report.violations.is_empty(),
        "seed {seed}, {} replicas: {:#?}\n\
         replay: cargo run --features sim --example simulate -- {seed} --replicas {}{}",
        settings.replicas,
        report.violations,
        settings.replicas,
        if settings.sleepers { " --sleepers" } else { "" },
    );
}

#[test]
fn a_faultless_world_has_no_failures() {
    for replicas in [1, 3, 5] {
        let settings = Settings { replicas, faults: false, ..Settings::default() };
        let counts = play(7, &settings);
        assert_eq!((counts.crashes, counts.sessions_ended), (0, 0));
        assert!(counts.answered > 800 && counts.held > 100, "{counts:?}");
        assert!(counts.travelled > 50, "{counts:?}");
    }
}

#[test]
fn clusters_survive_fixed_seeds() {
    let mut sum = Counts::default();
    for seed in 14..=26 {
        let replicas = [3, 5][seed as usize % 2];
        let counts = play(seed, &Settings { replicas, ..Settings::default() });
        sum.crashes += counts.crashes;
        sum.partitions += counts.partitions;
        sum.sessions_ended += counts.sessions_ended;
        sum.snapshots_restored += counts.snapshots_restored;
        sum.held += counts.held;
        sum.travelled += counts.travelled;
        sum.guarded += counts.guarded;
        sum.joined += counts.joined;
        sum.left += counts.left;
        sum.disks_lost += counts.disks_lost;
        sum.raised += counts.raised;
        sum.too_old += counts.too_old;
        sum.disks_put_back += counts.disks_put_back;
    }
    assert!(sum.crashes > 10 && sum.partitions > 2 && sum.sessions_ended > 10, "{sum:?}");
    assert!(sum.snapshots_restored > 3 && sum.held > 500 && sum.guarded > 200, "{sum:?}");
    assert!(sum.joined > 2 && sum.left > 0 && sum.disks_lost > 2, "{sum:?}");
    assert!(sum.disks_put_back > 2 && sum.travelled > 500, "{sum:?}");
    assert!(sum.raised > 5 && sum.too_old > 1, "{sum:?}");
}

#[test]
fn who_stands_still_writes_nothing_after_the_next_holder() {
    let settings = Settings { sleepers: true, length: 40_000_000_000, ..Settings::default() };
    for seed in 1..=4 {
        let counts = play(seed, &settings);
        assert!(counts.guarded > 100 && counts.sessions_ended > 2, "{counts:?}");
    }
}

#[test]
fn clusters_survive_fresh_seeds() {
    let count: u64 = match std::env::var("KEEPFS_SIM_SEEDS") {
        Ok(count) => count.parse().expect("KEEPFS_SIM_SEEDS is a number"),
        Err(_) => 2,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    let first = now.as_nanos() as u64 % 1_000_000_000;
    for seed in first..first + count {
        println!("seed {seed}");
        play(seed, &Settings::default());
    }
}
