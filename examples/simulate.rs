//! Plays seeds of the simulated cluster and tells what happened.
//!
//! ```text
//! cargo run --features sim --example simulate -- SEED [--replicas N] [--seeds COUNT] [--quiet]
//! ```

use clap::Parser;
use keepfs::sim::{Settings, run};
use std::io::{BufWriter, Write, stdout};
use std::process::ExitCode;

/// Plays a whole cluster in one thread, from a seed.
#[derive(Parser)]
struct Arguments {
    /// The first seed.
    seed: u64,
    /// How many seeds from there on.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    #[arg(long, default_value_t = 3)]
    replicas: usize,
    /// Nothing goes wrong in this world.
    #[arg(long)]
    faultless: bool,
    /// For 40 seconds, lock holders' replicas stand still, and nothing else goes wrong.
    #[arg(long, conflicts_with = "faultless")]
    sleepers: bool,
    /// Only the outcome, not the story.
    #[arg(long)]
    quiet: bool,
}

fn main() -> std::io::Result<ExitCode> {
    let arguments = Arguments::parse();
    let settings = Settings {
        replicas: arguments.replicas,
        faults: !arguments.faultless,
        keep_trace: !arguments.quiet,
        sleepers: arguments.sleepers,
        ..Settings::default()
    };
    let length = if arguments.sleepers { 40_000_000_000 } else { settings.length };
    let settings = Settings { length, ..settings };
    let mut out = BufWriter::new(stdout().lock());
    let mut code = ExitCode::SUCCESS;
    for seed in arguments.seed..arguments.seed + arguments.seeds {
        let report = run(seed, &settings);
        for line in &report.lines {
            writeln!(out, "{line}")?;
        }
        writeln!(out, "seed {seed}: trace {:016x}, {:?}", report.trace, report.counts)?;
        for violation in &report.violations {
            code = ExitCode::FAILURE;
            writeln!(out, "VIOLATION {violation}")?;
        }
    }
    out.flush()?;
    Ok(code)
}
