//! The arithmetic of the benchmark `speed`: what it makes of its samples.

#![allow(dead_code)]

#[path = "../benches/speed/main.rs"]
mod speed;

use speed::bars::judge;
use speed::cpu::used;
use speed::operations;
use speed::recorder::{Figure, Plan, Recorder};
use std::time::{Duration, Instant};

fn figure(operation: &'static str, subject: &str, p50_us: f64, cpu: f64) -> Figure {
    Figure {
        operation,
        subject: subject.to_owned(),
        operations: 1,
        p50_us,
        p99_us: p50_us,
        per_second: 1.0,
        cpu_us: vec![("a".into(), cpu), ("b".into(), cpu)],
    }
}

#[test]
fn each_bar_is_judged_by_its_own_base() {
    let figures = [
        figure(operations::STAT, "keepfs", 1.2, 0.0),
        figure(operations::STAT, "tmpfs", 1.0, 0.0),
        figure(operations::OVERWRITE, "keepfs", 400.0, 0.0),
        figure(operations::OVERWRITE, "disk", 170.0, 0.0),
        figure(operations::OVERWRITE, "null", 30.0, 0.0),
        figure(operations::WRITERS, "keepfs", 900.0, 20.0),
        figure(operations::WRITERS, "null", 900.0, 90.0),
    ];
    let met: Vec<_> = judge(&figures, 1).iter().map(|bar| (bar.measured, bar.met)).collect();
    assert_eq!(met, [(1.2, true), (2.0, false), (40.0, false)]);
    let three = judge(&figures, 3);
    assert_eq!(three.len(), 2, "the overwrite bar is for one replica");
    assert!(three[1].met, "40 us is within the bar of three replicas");
}

#[test]
fn work_is_seen_and_sleep_is_not() {
    let pid = std::process::id();
    let before = used(pid).unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(20) {
        std::hint::black_box(0);
    }
    assert!(used(pid).unwrap() > before);
    assert!(used(1 << 22).is_err(), "no kernel gives a process this id");
}

#[test]
fn percentiles_are_of_all_rounds() {
    let mut recorder = Recorder::new(Plan::quick());
    recorder.add("op", "s", (1..=50).map(|n| n * 1000).collect());
    recorder.add("op", "s", (51..=101).map(|n| n * 1000).collect());
    let figures = recorder.finish();
    assert_eq!(figures.len(), 1);
    assert_eq!((figures[0].p50_us, figures[0].p99_us), (51.0, 100.0));
    assert_eq!(figures[0].operations, 101);
}
