//! Runs `tests/scripts/*/*`: text scripts on the pure parts, one fact a file.
//!
//! A line that starts with `> ` is a command; the lines after it are what it must print. Everything
//! else is for the reader. `REWRITE=1` writes what was printed into the files; review the diff.

#[path = "scripts/commands.rs"]
mod commands;
#[path = "scripts/show.rs"]
mod show;

use std::fs;
use std::path::Path;

/// A world that a script acts on, a line at a time.
trait Stage {
    /// What the command printed, each line ended.
    fn command(&mut self, line: &str) -> String;
    /// What is wrong with the world now, if anything.
    fn verdict(&self) -> Result<(), String>;
}

/// The script as it would read with this stage's output.
fn perform(script: &str, stage: &mut dyn Stage) -> String {
    let mut played = String::new();
    let mut printing = false;
    for line in script.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            played += &format!("{line}\n{}", stage.command(command));
            printing = true;
        } else if !printing || line.is_empty() || line.starts_with("# ") {
            played += &format!("{line}\n");
            printing = false;
        }
    }
    if let Err(problem) = stage.verdict() {
        played += &format!("UNSOUND: {problem}\n");
    }
    played
}

fn run_all(directory: &str, new_stage: fn() -> Box<dyn Stage>) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(directory);
    let mut scripts: Vec<_> = fs::read_dir(&directory)
        .expect("the scripts are there")
        .map(|file| file.expect("a directory can be listed").path())
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "no scripts in {}", directory.display());
    let mut wrong = 0;
    for path in scripts {
        let script = fs::read_to_string(&path).expect("a script is text");
        let played = perform(&script, new_stage().as_mut());
        if played == script && !played.contains("UNSOUND") {
            continue;
        }
        if std::env::var_os("REWRITE").is_some() {
            fs::write(&path, &played).expect("the script can be rewritten");
            continue;
        }
        wrong += 1;
        println!("{}:", path.display());
        let (was, is): (Vec<_>, Vec<_>) = (script.lines().collect(), played.lines().collect());
        let at = was.iter().zip(&is).take_while(|(was, is)| was == is).count();
        println!(
            "  line {}\n    expected {:?}\n    printed  {:?}",
            at + 1,
            was.get(at),
            is.get(at)
        );
    }
    assert_eq!(wrong, 0, "scripts that print something else; REWRITE=1 takes it over");
}

#[test]
fn lock() {
    run_all("lock", || Box::new(commands::TreeStage::new()));
}

#[test]
fn tree() {
    run_all("tree", || Box::new(commands::TreeStage::new()));
}
