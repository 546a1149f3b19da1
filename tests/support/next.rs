//! `keepfs-next`: this program, as if it could do one feature level more. Nothing belongs to that
//! level but probes, so what it says is true. For tests of upgrades.

use keepfs::node::Program;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Program { level, version } = Program::this();
    keepfs::cli::main_as(Program { level: level + 1, version: format!("{version}-next") })
}
