//! keepfs: see `keepfs --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    keepfs::cli::main()
}
