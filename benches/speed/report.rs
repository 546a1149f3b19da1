//! The figures as a table for people and as JSON for machines.

use super::bars::{self, Bar};
use super::cpu;
use super::recorder::Figure;
use super::subject::{Daemon, Subject};
use serde::Serialize;
use std::collections::BTreeMap;

/// One run of the benchmark.
#[derive(Serialize)]
pub struct Report {
    keepfs: &'static str,
    kernel: String,
    cores: usize,
    replicas: usize,
    quick: bool,
    /// Load averages (1, 5, 15 minutes) before and after.
    load_before: String,
    load_after: String,
    /// Share of all CPU time the hypervisor took away meanwhile.
    stolen_percent: f64,
    /// Resident memory of each daemon at the end, KiB.
    resident_kib: BTreeMap<String, u64>,
    figures: Vec<Figure>,
    bars: Vec<Bar>,
    /// What could not be measured, and why.
    notes: Vec<String>,
    #[serde(skip)]
    ticks: (u64, u64),
    #[serde(skip)]
    daemons: Vec<Daemon>,
}

impl Report {
    pub fn begin(subject: &Subject, quick: bool) -> Report {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Report {
            keepfs: env!("CARGO_PKG_VERSION"),
            kernel: kernel.trim().to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            replicas: subject.status.as_ref().map_or(0, |status| status.members.len()),
            quick,
            load_before: cpu::load(),
            load_after: String::new(),
            stolen_percent: 0.0,
            resident_kib: BTreeMap::new(),
            figures: Vec::new(),
            bars: Vec::new(),
            notes: Vec::new(),
            ticks: cpu::ticks(),
            daemons: subject.daemons().to_vec(),
        }
    }

    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    pub fn end(&mut self, figures: Vec<Figure>) {
        let (all, stolen) = cpu::ticks();
        let passed = all.saturating_sub(self.ticks.0).max(1);
        self.stolen_percent = stolen.saturating_sub(self.ticks.1) as f64 * 100.0 / passed as f64;
        self.load_after = cpu::load();
        let resident =
            |daemon: &Daemon| Some((daemon.name.clone(), cpu::resident_kib(daemon.pid)?));
        self.resident_kib = self.daemons.iter().filter_map(resident).collect();
        self.bars = bars::judge(&figures, self.replicas);
        self.figures = figures;
    }

    pub fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a report is plain data");
        text.push('\n');
        text
    }

    pub fn table(&self) -> String {
        let mut text = format!(
            "keepfs {} on Linux {}, {} cores, {} replicas; load {} before, {} after, {:.1} % stolen\n",
            self.keepfs,
            self.kernel,
            self.cores,
            self.replicas,
            self.load_before,
            self.load_after,
            self.stolen_percent
        );
        if self.quick {
            text += "a quick run: figures are noisy\n";
        }
        text += &format!(
            "\n{:<26}{:<9}{:>11}{:>11}{:>12}{:>10}  CPU us/op by daemon\n",
            "operation", "on", "p50 us", "p99 us", "per second", "CPU us/op"
        );
        let mut last = "";
        for figure in &self.figures {
            let operation = if figure.operation == last { "" } else { figure.operation };
            text += &row(figure, operation);
            last = figure.operation;
        }
        let resident =
            self.resident_kib.iter().map(|(name, kib)| format!("{name} {} MiB", kib >> 10));
        text += &format!("\nresident: {}\n\n", resident.collect::<Vec<_>>().join(", "));
        for bar in &self.bars {
            let verdict = if bar.met { "met   " } else { "MISSED" };
            text += &format!(
                "{verdict}  {:<58}{:>9.2} {} (at most {} {})\n",
                bar.promise, bar.measured, bar.unit, bar.limit, bar.unit
            );
        }
        for note in &self.notes {
            text += &format!("{note}\n");
        }
        text
    }
}

fn row(figure: &Figure, operation: &str) -> String {
    let number = |value: f64| match value {
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    };
    let each = figure.cpu_us.iter().map(|(name, share)| format!("{name} {}", number(*share)));
    let each = each.collect::<Vec<_>>().join(", ");
    let sum = if figure.cpu_us.is_empty() { "-".into() } else { number(figure.cpu_sum_us()) };
    format!(
        "{operation:<26}{:<9}{:>11}{:>11}{:>12.0}{sum:>10}  {each}\n",
        figure.subject,
        number(figure.p50_us),
        number(figure.p99_us),
        figure.per_second,
    )
}
