//! Which file of a crate names which. A name that a file only hands on (`pub use`) counts as of the
//! file that has it.

use super::imports::{Imports, Named, imports};
use std::collections::{BTreeMap, BTreeSet};

/// A module's place: `["tree", "locks"]`; the crate itself is empty.
pub type Place = Vec<String>;

/// One crate's files by their modules.
pub struct Graph {
    files: BTreeMap<Place, (String, Imports)>,
}

/// One file names another.
#[derive(Clone, Debug)]
pub struct Edge {
    pub from: Place,
    pub to: Place,
    /// The module at the crate's root by which it does so.
    pub by: String,
    /// ``src/tree/apply.rs: `super::Tree` ``, for whoever looks for it.
    pub words: String,
    pub tested: bool,
}

impl Graph {
    /// Of `name, text` for each file below a crate's directory, its root among them.
    pub fn new<'a>(files: impl Iterator<Item = (String, &'a str)>, directory: &str) -> Graph {
        let module = |name: &str| {
            let inside = name.trim_start_matches(directory).trim_end_matches(".rs");
            let mut place: Place = inside.split('/').map(str::to_owned).collect();
            let is_parent = |last: &mut String| ["mod", "lib", "main"].contains(&last.as_str());
            place.pop_if(is_parent);
            place
        };
        let files = files.map(|(name, text)| (module(&name), (name, imports(text))));
        Graph { files: files.collect() }
    }

    /// Every name of another file, also of those above and below.
    pub fn edges(&self) -> Vec<Edge> {
        let mut edges = Vec::new();
        for (from, (name, imports)) in &self.files {
            for named in &imports.named {
                let Some(path) = self.absolute(from, imports, named) else { continue };
                let by = path.first().cloned().unwrap_or_default();
                let Some(to) = self.home(path) else { continue };
                let words = format!("{name}: `{}`", named.path.join("::"));
                edges.push(Edge { from: from.clone(), to, by, words, tested: named.tested });
            }
        }
        edges
    }

    /// A path from the crate's root; `None` if it leads into another crate.
    fn absolute(&self, from: &Place, imports: &Imports, named: &Named) -> Option<Place> {
        let mut place: Place = from.iter().chain(&named.within).cloned().collect();
        let mut path = named.path.as_slice();
        let first = &path[0];
        if first == "crate" {
            place.clear();
        } else if !["self", "super"].contains(&first.as_str()) {
            let child: Place = place.iter().chain([first]).cloned().collect();
            if !self.files.contains_key(&child) {
                let known = imports.aliases.get(first).filter(|known| known[0] != *first)?;
                let path = known.iter().chain(&path[1..]).cloned().collect();
                return self.absolute(from, imports, &Named { path, ..named.clone() });
            }
        }
        while let Some((first, rest)) = path.split_first() {
            match first.as_str() {
                "crate" | "self" => {}
                "super" => drop(place.pop()?),
                _ => break,
            }
            path = rest;
        }
        place.extend_from_slice(path);
        Some(place)
    }

    /// The file that has what an absolute path names.
    fn home(&self, path: Place) -> Option<Place> {
        let known = (0..=path.len()).rev().find(|&end| self.files.contains_key(&path[..end]))?;
        let module = path[..known].to_vec();
        let Some(item) = path.get(known) else { return Some(module) };
        let imports = &self.files[&module].1;
        let Some(handed_on) = imports.aliases.get(item) else { return Some(module) };
        let mut target = handed_on.clone();
        target.extend_from_slice(&path[known + 1..]);
        let named = Named { path: target, within: Vec::new(), tested: false };
        match self.absolute(&module, imports, &named) {
            Some(next) if next != path => self.home(next),
            _ => Some(module),
        }
    }

    /// The circles among the parts of each module. A part is a file with all that is below it. A
    /// file and those below it may name each other: a parent holds what its children share.
    pub fn circles(&self) -> Vec<String> {
        let mut modules: BTreeMap<Place, BTreeMap<(String, String), String>> = BTreeMap::new();
        for edge in self.edges().into_iter().filter(|edge| !edge.tested) {
            let same = edge.from.iter().zip(&edge.to).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (edge.from.get(same), edge.to.get(same)) {
                let parts = modules.entry(edge.from[..same].to_vec()).or_default();
                parts.entry((from.clone(), to.clone())).or_insert(edge.words);
            }
        }
        modules.iter().flat_map(|(module, parts)| circles_of(&module.join("::"), parts)).collect()
    }
}

/// One line for each name that is part of a circle.
fn circles_of(module: &str, parts: &BTreeMap<(String, String), String>) -> Vec<String> {
    let on_a_circle = |((from, to), _): &(&(String, String), &String)| {
        let mut reached = BTreeSet::from([to.as_str()]);
        let mut waiting = vec![to.as_str()];
        while let Some(next) = waiting.pop() {
            let named = parts.keys().filter(|(by, _)| by == next).map(|(_, named)| named.as_str());
            waiting.extend(named.filter(|named| reached.insert(named)));
        }
        reached.contains(from.as_str())
    };
    let found = parts.iter().filter(on_a_circle);
    found
        .map(|((from, to), words)| format!("{words}: a circle, {module}::{{{from}, {to}}}"))
        .collect()
}

#[test]
fn circles_are_found() {
    let graph = |files: &[(&str, &'static str)]| {
        let named: Vec<_> =
            files.iter().map(|(name, text)| (format!("src/{name}"), *text)).collect();
        Graph::new(named.into_iter(), "src/").circles()
    };
    let root = ("lib.rs", "mod a;\nmod b;\nmod c;\npub use b::Handed;");
    assert_eq!(graph(&[root, ("a.rs", "use crate::Handed;"), ("b.rs", "use crate::c;")]), [""; 0]);
    let found = graph(&[
        root,
        ("a/mod.rs", "pub mod deep;"),
        ("a/deep.rs", "fn f() { crate::Handed::new() }"),
        ("b.rs", "use super::c;\nfn f() { c::f() }"),
        ("c.rs", "use crate::{\n  a::deep,\n};"),
    ]);
    let lines: Vec<_> = found.iter().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(lines, ["src/a/deep.rs", "src/b.rs", "src/c.rs"]);
    let parent = ("a/mod.rs", "mod deep;\nstruct A(deep::D);");
    assert_eq!(graph(&[("lib.rs", ""), parent, ("a/deep.rs", "struct D(super::A);")]), [""; 0]);
    let tests = "#[cfg(test)]\nmod tests { use crate::b::B; }";
    assert_eq!(graph(&[root, ("a.rs", tests), ("b.rs", "use crate::a::A;")]), [""; 0]);
}
