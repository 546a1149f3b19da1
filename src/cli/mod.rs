//! The command line: one file a verb. Thin; what a verb does lives below.
//!
//! Exit codes: 0 done, 1 failed (one sentence on standard error), 2 the command line is wrong, 3
//! the cluster has no place for this replica as it is and an operator must decide, 70 a daemon
//! panicked.

mod address;
mod bench;
mod config;
mod control;
mod daemon;
mod inspect;
mod key;
mod key_watch;
mod listing;
mod lock;
mod member;
mod memory;
mod mounts;
mod playground;
mod recover;
mod role;
mod serve;
mod signals;
mod status;
mod token;
mod up;

use crate::error::Error;
use crate::node::Program;
use clap::{Parser, Subcommand};
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

/// A filesystem that keeps a cluster in agreement: every host mounts the same tree, and `ls`,
/// `echo`, `mv` and `flock` are its client library.
#[derive(Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "\
Try it:
  keepfs playground /tmp/k                 three replicas on this host, mounted at /tmp/k/{a,b,c}
  echo v1 > /tmp/k/a/x; cat /tmp/k/b/x     in another shell: one tree, three mounts

Run it:
  keepfs up /keep                          one replica, which others may join later
  keepfs serve --help                      a replica of a cluster")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// So that systemd can be told not to try again (`RestartPreventExitStatus=3`).
const REFUSED: u8 = 3;

#[derive(Subcommand)]
enum Verb {
    Playground(playground::Args),
    Up(up::Args),
    Serve(serve::Args),
    Key(key::Args),
    Token(token::Args),
    Status(status::Args),
    Member(member::Args),
    /// Show the sessions of the cluster: the hosts whose locks and ephemeral entries live.
    Sessions(listing::Args),
    /// Show every lock of the cluster, its holder, and who waits.
    Locks(listing::Args),
    Inspect(inspect::Args),
    Recover(recover::Args),
    Config(config::Args),
    Role(role::Args),
    Lock(lock::Args),
    Bench(bench::Args),
}

/// What runs here, if it is not [`Program::this`].
static PROGRAM: OnceLock<Program> = OnceLock::new();

/// [`main`], of a program that can do another feature level: for tests of upgrades.
pub fn main_as(program: Program) -> ExitCode {
    PROGRAM.get_or_init(|| program);
    main()
}

/// Parses the arguments, runs the verb, tells an error.
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Playground(args) => playground::run(&args),
        Verb::Up(args) => up::run(&args),
        Verb::Serve(args) => serve::run(&args),
        Verb::Key(args) => key::run(&args),
        Verb::Token(args) => token::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::Member(args) => member::run(&args),
        Verb::Sessions(args) => listing::run(&args, "sessions"),
        Verb::Locks(args) => listing::run(&args, "locks"),
        Verb::Inspect(args) => inspect::run(&args),
        Verb::Recover(args) => recover::run(&args),
        Verb::Config(args) => config::run(&args),
        Verb::Role(args) => role::run(&args),
        Verb::Lock(args) => lock::run(&args),
        Verb::Bench(args) => bench::run(&args),
    };
    outcome.unwrap_or_else(|error: Error| {
        complain(&error);
        match error {
            Error::Refused(_) => ExitCode::from(REFUSED),
            _ => ExitCode::FAILURE,
        }
    })
}

/// To standard output, all of it. A reader that has seen enough (`| head`) is no error.
fn print(text: &[u8]) -> Result<(), Error> {
    match io::stdout().write_all(text).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::file("write", "standard output")(error))
        }
        _ => Ok(()),
    }
}

/// One more line of what a running program tells; whether anybody reads it changes nothing.
fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// To standard error, likewise.
fn complain(problem: impl Display) {
    let _ = writeln!(io::stderr(), "keepfs: {problem}");
}
