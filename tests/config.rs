//! The configuration: its layers, its bounds, and the sample file that is made from it.

use keepfs::config::{Config, Flags, Span, sample};
use std::path::Path;

fn load(file: Option<&Path>, environment: &[(&str, &str)], flags: Flags) -> Result<Config, String> {
    let variables = environment.iter().map(|(k, v)| (k.to_string(), v.to_string()));
    Config::load(file, variables, flags).map_err(|error| error.to_string())
}

fn from_text(text: &str) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keepfs.toml");
    std::fs::write(&path, text).unwrap();
    load(Some(&path), &[], Flags::default())
}

/// `#name = value` lines with their mark taken off; prose lines start with `# `.
fn uncommented(keep: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    for line in sample().lines() {
        match line.strip_prefix('#') {
            Some(setting) if setting.contains(" = ") && !setting.starts_with(' ') => {
                if keep(setting) {
                    text.push_str(setting);
                    text.push('\n');
                }
            }
            _ => assert!(line.is_empty() || line.starts_with('#'), "{line}"),
        }
    }
    text
}

#[test]
fn the_sample_as_printed_is_the_defaults() {
    assert_eq!(from_text(&sample()).unwrap(), Config::default());
}

#[test]
fn the_sample_uncommented_is_the_defaults_but_for_its_examples() {
    let examples =
        ["name", "data", "listen", "key", "bootstrap", "join", "mount", "allow_other", "run"];
    let is_example = |line: &str| examples.contains(&line.split(' ').next().unwrap());
    let defaults = uncommented(|line| !is_example(line));
    assert!(defaults.lines().count() >= 9, "{defaults}");
    assert_eq!(from_text(&defaults).unwrap(), Config::default());
    let examples = uncommented(|line| is_example(line) && !line.starts_with("join"));
    let shown = from_text(&examples).expect("the examples fit together");
    assert_eq!(shown.bootstrap.len(), 3);
}

#[test]
fn every_setting_has_a_line_of_the_sample() {
    let text = uncommented(|_| true);
    let table = toml::Table::try_from(Config::default()).unwrap();
    for name in table.keys() {
        assert!(text.lines().any(|line| line.starts_with(&format!("{name} = "))), "{name}");
    }
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keepfs.toml");
    std::fs::write(&path, "op_timeout = \"5s\"\nname = \"file\"\nmax_inodes = 5000\n").unwrap();
    let environment = [("KEEPFS_OP_TIMEOUT", "6s"), ("KEEPFS_NAME", "env"), ("KEEPFS_TOKEN", "7")];
    let config = load(Some(&path), &environment, Flags::default().set("name", Some("flag")));
    let config = config.unwrap();
    assert_eq!(config.name.as_deref(), Some("flag"));
    assert_eq!(config.op_timeout, Span::secs(6));
    assert_eq!(config.max_inodes, 5000);
}

#[test]
fn lists_numbers_and_switches_are_read_from_the_environment() {
    let environment = [
        ("KEEPFS_JOIN", "h1:1,h2:2"),
        ("KEEPFS_MAX_INODES", "2000"),
        ("KEEPFS_ALLOW_OTHER", "false"),
    ];
    let config = load(None, &environment, Flags::default()).unwrap();
    assert_eq!(config.join, ["h1:1", "h2:2"]);
    assert_eq!((config.max_inodes, config.allow_other), (2000, Some(false)));
    let error = load(None, &[("KEEPFS_MAX_INODES", "many")], Flags::default()).unwrap_err();
    assert_eq!(error, "KEEPFS_MAX_INODES=many is not a whole number");
}

#[test]
fn a_broken_relation_is_said_back() {
    let cases = [
        (
            "session_timeout = \"2s\"",
            "session_timeout (2s) must be at least 4 times election_timeout (1s)",
        ),
        ("op_timeout = \"1s\"", "op_timeout (1s) must be at least 2 times election_timeout (1s)"),
        ("heartbeat = \"1ms\"", "heartbeat (1ms) must be between 10ms and 10s"),
        ("max_file_size = \"17MiB\"", "max_file_size (17MiB) must be between 4KiB and 16MiB"),
        (
            "max_tree_size = \"64KiB\"",
            "max_tree_size (64KiB) must be at least max_file_size (1MiB)",
        ),
        (
            "name = \"a/b\"",
            "\"a/b\" cannot name a replica: use 1 to 64 letters, digits, dots, dashes, underscores",
        ),
        ("listen = \"7411\"", "\"7411\" is not HOST:PORT"),
        (
            "name = \"a\"\nbootstrap = [\"b=h:1\"]",
            "bootstrap must name this replica too: add a=HOST:PORT to it",
        ),
        (
            "name = \"a\"\nlisten = \"h:2\"\nbootstrap = [\"a=h:1\"]",
            "listen (h:2) must be what bootstrap gives for a (h:1)",
        ),
        ("bootstrap = [\"a=h:1\", \"b=h:1\"]", "bootstrap: b=h:1 repeats a name or an address"),
        (
            "join = [\"h:1\"]\nbootstrap = [\"a=h:1\"]",
            "bootstrap founds a cluster and join enters one: give one of them",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(from_text(text).unwrap_err(), expected);
    }
}

#[test]
fn an_error_in_the_file_names_file_and_line() {
    for text in ["name = \"a\"\nop_timeut = \"5s\"\n", "name = \"a\"\nop_timeout = \"5\"\n"] {
        let error = from_text(text).unwrap_err();
        assert!(error.contains("keepfs.toml") && error.contains("line 2"), "{error}");
    }
}
