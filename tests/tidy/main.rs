//! Holds the architecture and the house rules: who may import whom, that no files go in circles,
//! what pure modules must not call, how long files and functions get, that nothing is left
//! unfinished, and that every numbered promise of docs/semantics.md is quoted by a test.

mod graph;
mod imports;

use graph::Graph;
use std::fs;
use std::path::{Path, PathBuf};

/// Everyone may import these.
const LEAVES: &[&str] = &["durable", "error", "limits", "random", "volume"];

/// Each top-level module of src/, and those it may import besides the leaves. `lib` and `main`
/// import what they like.
const WALLS: &[(&str, &[&str])] = &[
    ("durable", &[]),
    ("error", &[]),
    ("limits", &[]),
    ("random", &[]),
    ("volume", &[]),
    ("cow", &[]),
    ("exposition", &[]),
    ("mailbox", &[]),
    ("panics", &[]),
    ("room", &[]),
    ("mix", &[]),
    ("tree", &["cow"]),
    ("session", &["mix", "tree"]),
    ("replica", &["mix", "session", "tree"]),
    ("cluster", &["session", "tree"]),
    ("disk", &["panics", "replica", "room", "tree"]),
    ("peers", &["mailbox", "replica", "tree"]),
    (
        "node",
        &[
            "cluster",
            "disk",
            "exposition",
            "mailbox",
            "panics",
            "peers",
            "replica",
            "session",
            "tree",
        ],
    ),
    ("mount", &["cluster", "cow", "mailbox", "tree"]),
    ("backup", &["cluster", "exposition", "panics", "peers", "room", "tree"]),
    ("sim", &["replica", "session", "tree"]),
    ("config", &["node", "tree"]),
    ("cli", &["backup", "cluster", "config", "disk", "mount", "node", "panics", "peers"]),
];

/// What depends on its arguments alone: files, or all below a directory.
const PURE: &[&str] = &[
    "src/cow.rs",
    "src/mix.rs",
    "src/tree/",
    "src/session/",
    "src/replica/",
    "src/peers/frame.rs",
];

/// What reads the world, or chance: one seed must replay one history.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
    "Instant::now",
    "SystemTime::now",
    "thread_rng",
    "rand::",
    "HashMap",
    "HashSet",
    "RandomState",
];

/// The only file that implements a FUSE filesystem.
const FILESYSTEM: &str = "src/mount/adapter.rs";

/// The only file that reads what `/proc` says of processes: some of it waits for a process that may
/// wait for us, and there it is told apart.
const PROC: &str = "src/mount/proc.rs";
/// What is of no process there, or of this one alone.
const PROC_OF_NONE: &[&str] =
    &["/proc/sys/", "/proc/self/exe\"", "/proc/self/statm\"", "/proc/self/fd\""];

const FILE_LINES: usize = 400;
/// A test is read from one scenario to the next, so its file may be longer.
const TEST_FILE_LINES: usize = 450;
const FUNCTION_LINES: usize = 70;
const COLUMNS: usize = 100;

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// `src/tree/apply.rs` as `src/tree/apply.rs`, whatever the working directory.
    fn name(&self) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        self.path.strip_prefix(root).unwrap_or(&self.path).display().to_string()
    }

    /// The top-level module: `tree` of src/tree/apply.rs, `config` of src/config.rs.
    fn module(&self) -> String {
        let name = self.name();
        let inside = name.strip_prefix("src/").unwrap_or(&name);
        inside.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned()
    }
}

/// All Rust sources below `directory` of the package.
fn sources(directory: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut waiting = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { path, text });
            }
        }
    }
    found
}

fn all_sources() -> Vec<Source> {
    ["src", "tests", "examples", "benches"].into_iter().flat_map(sources).collect()
}

fn report(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// The code of a line, without a trailing comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

#[test]
fn no_module_looks_upward() {
    let mut problems = Vec::new();
    let sources = sources("src");
    for source in &sources {
        let module = source.module();
        let has_a_place = WALLS.iter().any(|(known, _)| *known == module);
        if !has_a_place && !["lib", "main"].contains(&module.as_str()) {
            problems.push(format!("{}: module {module} has no place in WALLS", source.name()));
        }
    }
    for edge in graph(&sources, "src/").edges() {
        let (Some(module), named) = (edge.from.first(), edge.by) else { continue };
        if !WALLS.iter().any(|(known, _)| *known == named) {
            continue;
        }
        let mut walls = WALLS.iter().filter(|(known, _)| known == module);
        let allowed = walls.any(|(_, allowed)| allowed.contains(&named.as_str()));
        if named != *module && !allowed && !LEAVES.contains(&named.as_str()) {
            problems.push(format!("{}: {module} must not import {named}", edge.words));
        }
    }
    report(problems);
}

/// Within each module, its parts (a file, or a directory with all in it) name each other in one
/// direction. Only a parent and those below it may name each other, and tests name whom they like.
#[test]
fn no_files_go_in_circles() {
    let mut problems = graph(&sources("src"), "src/").circles();
    for directory in ["benches/speed/", "tests/tidy/"] {
        problems.extend(graph(&sources(directory), directory).circles());
    }
    report(problems);
}

fn graph(sources: &[Source], directory: &str) -> Graph {
    let files = sources.iter().filter(|source| source.name() != "src/main.rs");
    Graph::new(files.map(|source| (source.name(), source.text.as_str())), directory)
}

#[test]
fn pure_modules_do_not_touch_the_world() {
    let mut problems = Vec::new();
    let pure = |source: &Source| PURE.iter().any(|path| source.name().starts_with(path));
    for source in sources("src").into_iter().filter(pure) {
        // What a module's own tests do is their affair.
        let shipped = source.text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in shipped.lines().enumerate() {
            for word in IMPURE.iter().filter(|word| code(line).contains(**word)) {
                problems.push(format!("{}:{}: {word}", source.name(), number + 1));
            }
        }
    }
    report(problems);
}

#[test]
fn only_the_adapter_is_a_filesystem() {
    let implements = |s: &Source| s.text.lines().any(|line| code(line).contains("Filesystem for "));
    let sources = sources("src");
    let found = sources.iter().filter(|source| implements(source)).map(Source::name);
    report(found.filter(|name| name != FILESYSTEM).collect());
}

#[test]
fn one_door_leads_to_what_proc_says_of_processes() {
    let mut problems = Vec::new();
    for source in sources("src").iter().filter(|source| source.name() != PROC) {
        let shipped = source.text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in shipped.lines().enumerate() {
            if reads_proc(line) {
                problems.push(format!("{}:{}: reads /proc itself", source.name(), number + 1));
            }
        }
    }
    report(problems);
}

fn reads_proc(line: &str) -> bool {
    let code = match line.trim_start().starts_with("//") {
        true => "",
        false => line,
    };
    let mut found = code.match_indices("\"/proc").map(|(at, _)| &code[at + 1..]);
    found.any(|path| !PROC_OF_NONE.iter().any(|free| path.starts_with(free)))
}

#[test]
fn a_look_into_proc_is_seen() {
    assert!(reads_proc("let x = fs::read(format!(\"/proc/{id}/stat\"));"));
    assert!(reads_proc("fs::read_dir(\"/proc\")"));
    assert!(!reads_proc("fs::read_to_string(\"/proc/sys/kernel/hostname\")"));
    assert!(!reads_proc("    // as in \"/proc/mounts\""));
}

#[test]
fn files_and_functions_are_short_and_narrow() {
    let mut problems = Vec::new();
    for source in all_sources() {
        let name = source.name();
        let lines: Vec<&str> = source.text.lines().collect();
        let most = if name.starts_with("src/") { FILE_LINES } else { TEST_FILE_LINES };
        if lines.len() > most {
            problems.push(format!("{name}: {} lines, at most {most}", lines.len()));
        }
        for (number, line) in lines.iter().enumerate() {
            // rustfmt holds the width of code.
            let comment = line.trim_start().starts_with("//");
            if comment && line.chars().count() > COLUMNS {
                problems.push(format!("{name}:{}: over {COLUMNS} columns", number + 1));
            }
            let length = function_length(&lines[number..]);
            if length > FUNCTION_LINES {
                let place = format!("{name}:{}", number + 1);
                problems.push(format!("{place}: {length} lines, at most {FUNCTION_LINES}"));
            }
        }
    }
    report(problems);
}

/// The length of the function that starts at the first line; 0 if none does.
fn function_length(lines: &[&str]) -> usize {
    let first = lines[0];
    let indent = &first[..first.len() - first.trim_start().len()];
    let mut words = first.trim_start().split(' ');
    let starts = words.by_ref().take(5).any(|word| word == "fn");
    if !starts || first.contains("//") || first.trim_end().ends_with([';', '}']) {
        return 0;
    }
    let end = format!("{indent}}}");
    let ends = |line: &&str| **line == end || line.trim_end().ends_with(';') && !line.contains('{');
    let declared = lines.iter().take_while(|line| !line.trim_end().ends_with('{')).count();
    match lines[..declared.min(lines.len())].iter().any(ends) {
        true => 0,
        false => lines.iter().position(|line| *line == end).map_or(0, |last| last + 1),
    }
}

#[test]
fn function_lengths_are_measured() {
    let text = ["    pub fn f(", "        a: u8,", "    ) {", "        g();", "    }", "}"];
    assert_eq!(function_length(&text), 5);
    assert_eq!(function_length(&["fn declared(&self);", "}"]), 0);
    assert_eq!(function_length(&["fn one() {}"]), 0);
}

#[test]
fn nothing_is_left_unfinished() {
    let unfinished = ["todo!", "unimplemented!", "dbg!", "TODO", "FIXME", "XXX"];
    let mut problems = Vec::new();
    for source in all_sources().iter().filter(|source| source.name() != "tests/tidy/main.rs") {
        for (number, line) in source.text.lines().enumerate() {
            for word in unfinished.iter().filter(|word| line.contains(**word)) {
                problems.push(format!("{}:{}: {word}", source.name(), number + 1));
            }
        }
    }
    report(problems);
}

/// A panic of a thread without a name is taken for one of a crate's (`src/panics.rs`).
#[test]
fn every_thread_of_a_daemon_has_a_name() {
    let mut problems = Vec::new();
    for source in &sources("src") {
        let tests = source.text.find("#[cfg(test)]").unwrap_or(source.text.len());
        for (number, line) in source.text[..tests].lines().enumerate() {
            if ["thread::spawn(", "thread::scope("].iter().any(|call| line.contains(call)) {
                problems.push(format!("{}:{}: a thread without a name", source.name(), number + 1));
            }
        }
    }
    report(problems);
}

#[test]
fn every_module_says_what_it_is_for() {
    let silent = |source: &Source| !source.text.starts_with("//!");
    let sources = all_sources();
    report(sources.iter().filter(|source| silent(source)).map(Source::name).collect());
}

#[test]
fn every_promise_is_quoted_by_a_test() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/semantics.md");
    let promises = promises(&fs::read_to_string(docs).expect("docs/semantics.md"));
    assert!(promises.len() >= 10, "docs/semantics.md numbers its promises: {promises:?}");
    let mut tests: String = sources("tests").into_iter().map(|source| source.text).collect();
    for source in sources("src") {
        tests.extend(source.text.split("#[cfg(test)]").skip(1));
    }
    let quoted = |id: &String| {
        tests.match_indices(id.as_str()).any(|(at, _)| {
            let word = |c: char| c.is_ascii_alphanumeric();
            !tests[..at].ends_with(word) && !tests[at + id.len()..].starts_with(word)
        })
    };
    let missing = promises.into_iter().filter(|id| !quoted(id));
    report(missing.map(|id| format!("no test quotes promise {id}")).collect());
}

/// The ids in bold at the start of a line or a list item: `**F3**` or `- **L12.** ...`.
fn promises(text: &str) -> Vec<String> {
    let id = |line: &str| {
        let bold = line.trim_start().trim_start_matches("- ").strip_prefix("**")?;
        let id: String = bold.chars().take_while(char::is_ascii_alphanumeric).collect();
        let letters = id.chars().take_while(char::is_ascii_uppercase).count();
        let numbered = letters > 0 && letters < id.len();
        (numbered && id[letters..].chars().all(|c| c.is_ascii_digit())).then_some(id)
    };
    text.lines().filter_map(id).collect()
}

#[test]
fn promises_are_found() {
    let text = "**F1** a\n- **L12.** b\n**bold** c\n  **W3**: d\nsee **F9**\n";
    assert_eq!(promises(text), ["F1", "L12", "W3"]);
}

/// A name in the docs that reads as a file of ours: `replica/hub.rs`, `tests/golden/`.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).filter(|word| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
        let ours = ["src/", "tests/", "benches/", "examples/", "docs/"];
        word.chars().all(plain)
            && (word.ends_with(".rs") || ours.iter().any(|root| word.starts_with(root)))
    })
}

#[test]
fn what_the_docs_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut gone = Vec::new();
    for page in docs.chain([root.join("README.md"), root.join("CHANGELOG.md")]) {
        let text = fs::read_to_string(&page).unwrap();
        let is_there =
            |path: &&str| root.join(path).exists() || root.join("src").join(path).exists();
        let missing = paths(&text).filter(|path| !is_there(path));
        gone.extend(missing.map(|path| format!("{}: no {path}", page.display())));
    }
    report(gone);
}
