//! What keepfs promises of its speed, and whether this run kept it.

use super::pair;
use super::recorder::Figure;
use super::workloads;
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
    for operation in [workloads::STAT, workloads::READDIR] {
        let measured = ratio(ours(operation), p50(operation, "tmpfs"));
        bar(&format!("{operation}: p50 against tmpfs"), "x", measured, 1.3);
    }
    let measured = ratio(ours(workloads::OPEN), p50(workloads::OPEN, "null"));
    bar(&format!("{}: p50 against a null FUSE", workloads::OPEN), "x", measured, 1.2);

    let commit = ours(workloads::OVERWRITE);
    if replicas == 1 {
        let disk = p50(workloads::OVERWRITE, "disk");
        let base = disk.zip(p50(workloads::OVERWRITE, "null")).map(|(disk, null)| disk + null);
        bar("overwrite, one writer: p50 against disk + null FUSE", "x", ratio(commit, base), 1.5);
    }
    if let Some(limit) = [(1, 35.0), (3, 110.0)].iter().find(|(size, _)| *size == replicas) {
        let mut writers = figures.iter().filter(|figure| figure.operation == workloads::WRITERS);
        let cpu = writers.find(|figure| figure.subject == "keepfs").map(Figure::cpu_sum_us);
        bar("64 writers: CPU of all daemons for a write", "us", cpu, limit.1);
    }
    let passed = ratio(ours(pair::HAND_OFF), ours(pair::COMMIT));
    bar("lock hand-off: p50 in commits", "x", passed, 1.5);
    bars
}

#[cfg(test)]
mod tests {
    use super::*;

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
            figure(workloads::STAT, "keepfs", 1.2, 0.0),
            figure(workloads::STAT, "tmpfs", 1.0, 0.0),
            figure(workloads::OVERWRITE, "keepfs", 400.0, 0.0),
            figure(workloads::OVERWRITE, "disk", 170.0, 0.0),
            figure(workloads::OVERWRITE, "null", 30.0, 0.0),
            figure(workloads::WRITERS, "keepfs", 900.0, 20.0),
            figure(workloads::WRITERS, "null", 900.0, 90.0),
        ];
        let met: Vec<_> = judge(&figures, 1).iter().map(|bar| (bar.measured, bar.met)).collect();
        assert_eq!(met, [(1.2, true), (2.0, false), (40.0, false)]);
        let three = judge(&figures, 3);
        assert_eq!(three.len(), 2, "the overwrite bar is for one replica");
        assert!(three[1].met, "40 us is within the bar of three replicas");
    }
}
