//! What keepfs promises of its speed, and whether this run kept it.

use super::operations;
use super::pair;
use super::recorder::Figure;
use serde::Serialize;

/// One promise: `measured` shall not exceed `limit`.
#[derive(Clone, Debug, Serialize)]
pub struct Bar {
    pub promise: String,
    pub unit: &'static str,
    pub measured: f64,
    pub limit: f64,
    pub met: bool,
}

/// The promises that can be judged from these figures, for a cluster of `replicas`.
pub fn judge(figures: &[Figure], replicas: usize) -> Vec<Bar> {
    let p50 = |operation: &str, subject: &str| {
        let same = |figure: &&Figure| figure.operation == operation && figure.subject == subject;
        figures.iter().find(same).map(|figure| figure.p50_us)
    };
    let ours = |operation: &str| p50(operation, "keepfs");
    let mut bars = Vec::new();
    let mut bar = |promise: &str, unit, measured: Option<f64>, limit| {
        bars.extend(measured.map(|measured| Bar {
            promise: promise.to_owned(),
            unit,
            measured,
            limit,
            met: measured <= limit,
        }));
    };
    let ratio = |ours: Option<f64>, base: Option<f64>| Some(ours? / base?);
    for operation in [operations::STAT, operations::READDIR] {
        let measured = ratio(ours(operation), p50(operation, "tmpfs"));
        bar(&format!("{operation}: p50 against tmpfs"), "x", measured, 1.3);
    }
    let measured = ratio(ours(operations::OPEN), p50(operations::OPEN, "null"));
    bar(&format!("{}: p50 against a null FUSE", operations::OPEN), "x", measured, 1.2);

    let commit = ours(operations::OVERWRITE);
    if replicas == 1 {
        let disk = p50(operations::OVERWRITE, "disk");
        let base = disk.zip(p50(operations::OVERWRITE, "null")).map(|(disk, null)| disk + null);
        bar("overwrite, one writer: p50 against disk + null FUSE", "x", ratio(commit, base), 1.5);
    }
    if let Some(limit) = [(1, 35.0), (3, 110.0)].iter().find(|(size, _)| *size == replicas) {
        let mut writers = figures.iter().filter(|figure| figure.operation == operations::WRITERS);
        let cpu = writers.find(|figure| figure.subject == "keepfs").map(Figure::cpu_sum_us);
        bar("64 writers: CPU of all daemons for a write", "us", cpu, limit.1);
    }
    let passed = ratio(ours(pair::HAND_OFF), ours(pair::COMMIT));
    bar("lock hand-off: p50 in commits", "x", passed, 1.5);
    bars
}
