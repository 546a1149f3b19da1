//! Times operations in rounds, and keeps every sample.

use super::cpu;
use super::subject::Subject;
use keepfs::error::Error;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long to measure.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Turns each subject gets at each workload.
    rounds: u32,
    /// The length of a turn.
    turn: Duration,
    /// Samples of what is measured one by one (lock hand-offs).
    pub singles: u32,
}

impl Plan {
    pub fn usual() -> Plan {
        Plan { rounds: 5, turn: Duration::from_millis(600), singles: 300 }
    }

    pub fn quick() -> Plan {
        Plan { rounds: 2, turn: Duration::from_millis(150), singles: 30 }
    }
}

/// One operation on one subject.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    pub operation: &'static str,
    pub subject: String,
    pub operations: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub per_second: f64,
    /// CPU microseconds of each daemon (its name, its share) for one operation.
    pub cpu_us: Vec<(String, f64)>,
}

impl Figure {
    pub fn cpu_sum_us(&self) -> f64 {
        self.cpu_us.iter().map(|(_, share)| share).sum()
    }
}

#[derive(Default)]
struct Samples {
    nanos: Vec<u64>,
    operations: u64,
    elapsed: Duration,
    cpu: BTreeMap<String, u64>,
}

/// Collects the samples of all rounds.
pub struct Recorder {
    pub plan: Plan,
    samples: Vec<((&'static str, String), Samples)>,
}

/// One subject's turn at one workload.
pub struct Turn<'a> {
    recorder: &'a mut Recorder,
    subject: &'a Subject,
}

impl Recorder {
    pub fn new(plan: Plan) -> Recorder {
        Recorder { plan, samples: Vec::new() }
    }

    pub fn rounds(&self) -> u32 {
        self.plan.rounds
    }

    /// Lets `subject` have its turn at `work`, in its directory: names are looked up from there, so
    /// that the depth of a mount point does not count.
    pub fn turn(
        &mut self,
        subject: &Subject,
        work: impl FnOnce(&mut Turn<'_>) -> io::Result<()>,
    ) -> Result<(), Error> {
        self.in_directory(subject.path(), |recorder| work(&mut Turn { recorder, subject }))
    }

    fn in_directory(
        &mut self,
        path: &Path,
        work: impl FnOnce(&mut Recorder) -> io::Result<()>,
    ) -> Result<(), Error> {
        let measured = std::env::set_current_dir(path).and_then(|()| work(self));
        // Whoever works in a mount keeps it from being unmounted.
        measured.and(std::env::set_current_dir("/")).map_err(Error::file("measure", path))
    }

    fn samples(&mut self, operation: &'static str, subject: &str) -> &mut Samples {
        let key = (operation, subject.to_owned());
        if let Some(found) = self.samples.iter().position(|(known, _)| *known == key) {
            return &mut self.samples[found].1;
        }
        self.samples.push((key, Samples::default()));
        &mut self.samples.last_mut().expect("just pushed").1
    }

    /// Adds samples measured elsewhere.
    pub fn add(&mut self, operation: &'static str, subject: &str, nanos: Vec<u64>) {
        let samples = self.samples(operation, subject);
        samples.operations += nanos.len() as u64;
        samples.elapsed += Duration::from_nanos(nanos.iter().sum());
        samples.nanos.extend(nanos);
    }

    /// Calls `step` with 0, 1, 2, ... for a turn's length and keeps the time of each call.
    pub fn repeat(
        &mut self,
        operation: &'static str,
        subject: &str,
        mut step: impl FnMut(u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let nanos = timed(self.plan.turn, 1, &mut step)?;
        self.add(operation, subject, nanos);
        Ok(())
    }

    /// The figures, those of one operation together, in the order the operations came.
    pub fn finish(self) -> Vec<Figure> {
        let mut order: Vec<&'static str> = Vec::new();
        for ((operation, _), _) in &self.samples {
            if !order.contains(operation) {
                order.push(operation);
            }
        }
        let figure = |((operation, subject), samples)| figure(operation, subject, samples);
        let mut figures: Vec<Figure> = self.samples.into_iter().map(figure).collect();
        figures.sort_by_key(|figure| order.iter().position(|known| *known == figure.operation));
        figures
    }
}

impl Turn<'_> {
    /// Calls `step` with 0, 1, 2, ... for a turn's length; a sample is the mean of `batch` calls
    /// (more than one for what is hardly longer than reading the clock). Returns the calls made.
    pub fn repeat(
        &mut self,
        operation: &'static str,
        batch: u32,
        mut step: impl FnMut(u64) -> io::Result<()>,
    ) -> io::Result<u64> {
        let turn = self.recorder.plan.turn;
        self.record(operation, batch, || timed(turn, batch, &mut step))
    }

    /// Calls `step` with each of `0..count` and keeps the time of each call.
    pub fn each(
        &mut self,
        operation: &'static str,
        count: u64,
        mut step: impl FnMut(u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let one = |number| {
            let start = Instant::now();
            step(number)?;
            Ok(start.elapsed().as_nanos() as u64)
        };
        self.record(operation, 1, || (0..count).map(one).collect()).map(drop)
    }

    /// One thread for each of `writers`, all at once for a turn's length.
    pub fn together<W: Send>(
        &mut self,
        operation: &'static str,
        writers: Vec<W>,
        step: impl Fn(&mut W, u64) -> io::Result<()> + Sync,
    ) -> io::Result<()> {
        let (turn, step, failed) = (self.recorder.plan.turn, &step, &AtomicBool::new(false));
        let work = |mut writer: W| {
            timed(turn, 1, &mut |number| match failed.load(Ordering::Relaxed) {
                true => Err(io::ErrorKind::Interrupted.into()),
                false => {
                    step(&mut writer, number).inspect_err(|_| failed.store(true, Ordering::Relaxed))
                }
            })
        };
        let all = || {
            std::thread::scope(|scope| {
                let start = |writer| scope.spawn(move || work(writer));
                let threads: Vec<_> = writers.into_iter().map(start).collect();
                let joined = threads.into_iter().map(|thread| thread.join().expect("no panic"));
                joined.collect::<io::Result<Vec<Vec<u64>>>>().map(|all| all.concat())
            })
        };
        self.record(operation, 1, all).map(drop)
    }

    /// Keeps the samples of `work`, the time it took, and the CPU the subject's daemons used.
    fn record(
        &mut self,
        operation: &'static str,
        batch: u32,
        work: impl FnOnce() -> io::Result<Vec<u64>>,
    ) -> io::Result<u64> {
        let daemons = self.subject.daemons();
        let used =
            || daemons.iter().map(|daemon| cpu::used(daemon.pid)).collect::<Result<Vec<_>, _>>();
        let (before, start) = (used()?, Instant::now());
        let nanos = work()?;
        let (elapsed, after) = (start.elapsed(), used()?);
        let samples = self.recorder.samples(operation, self.subject.name());
        let operations = nanos.len() as u64 * u64::from(batch);
        samples.nanos.extend(nanos);
        samples.operations += operations;
        samples.elapsed += elapsed;
        for (daemon, (before, after)) in daemons.iter().zip(before.iter().zip(&after)) {
            *samples.cpu.entry(daemon.name.clone()).or_default() += after - before;
        }
        Ok(operations)
    }
}

/// The nanoseconds of each call, or the mean of each `batch` of calls, over at least `length`.
fn timed(
    length: Duration,
    batch: u32,
    step: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<Vec<u64>> {
    let (begin, mut nanos, mut number) = (Instant::now(), Vec::with_capacity(1 << 12), 0);
    while begin.elapsed() < length {
        let start = Instant::now();
        for _ in 0..batch {
            step(number)?;
            number += 1;
        }
        nanos.push(start.elapsed().as_nanos() as u64 / u64::from(batch));
    }
    Ok(nanos)
}

fn figure(operation: &'static str, subject: String, mut samples: Samples) -> Figure {
    samples.nanos.sort_unstable();
    let at = |share: f64| {
        let last = samples.nanos.len().saturating_sub(1);
        let index = (last as f64 * share).round() as usize;
        samples.nanos.get(index).map_or(0.0, |nanos| *nanos as f64 / 1000.0)
    };
    let operations = samples.operations.max(1) as f64;
    let share =
        |(name, nanos): (&String, &u64)| (name.clone(), *nanos as f64 / 1000.0 / operations);
    Figure {
        operation,
        subject,
        operations: samples.operations,
        p50_us: at(0.50),
        p99_us: at(0.99),
        per_second: operations / samples.elapsed.as_secs_f64().max(1e-9),
        cpu_us: samples.cpu.iter().map(share).collect(),
    }
}
