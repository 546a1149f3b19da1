//! Conversations between replicas, as scripts: `tests/scripts/replica/*`, one fact a file.
//!
//! A script is blocks of commands, `----`, and what came of them, with an empty line between
//! blocks. `REWRITE=1 cargo test --test replica` writes what comes of them now.

mod chaos;
mod commands;
mod disk;
mod show;
mod world;

use std::fmt::Write as _;
use std::path::Path;

/// Runs a script and returns it with what came of it.
fn run(text: &str) -> String {
    let mut world = world::World::new();
    let mut result = String::new();
    for block in text.split("\n\n").filter(|block| !block.trim().is_empty()) {
        let commands = block.split("----").next().unwrap_or_default().trim_matches('\n');
        for line in commands.lines().filter(|line| !line.starts_with('#')) {
            commands::run(&mut world, line);
        }
        let comment = commands.lines().all(|line| line.starts_with('#'));
        let output = std::mem::take(&mut world.out);
        writeln!(result, "{commands}").unwrap();
        if !comment {
            writeln!(
                result,
                "----\n{}",
                if output.is_empty() { "ok\n" } else { &output }.trim_end()
            )
            .unwrap();
        }
        result.push('\n');
    }
    result.trim_end().to_owned() + "\n"
}

#[test]
fn scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/replica");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    let only = std::env::var("SCRIPT").ok();
    let mut wrong = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if only.as_ref().is_some_and(|only| !name.contains(only)) {
            continue;
        }
        let expected = std::fs::read_to_string(&path).unwrap();
        let result = run(&expected);
        assert_eq!(result, run(&expected), "{name}: twice the same script, two histories");
        if std::env::var_os("REWRITE").is_some() {
            std::fs::write(&path, result).unwrap();
        } else if result != expected {
            let differs = |(a, b): &(&str, &str)| a != b;
            let at = result.lines().zip(expected.lines()).position(|pair| differs(&pair));
            wrong.push(format!("{name} differs from line {at:?} on; it is now:\n{result}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
