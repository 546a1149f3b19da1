//! What a source names: a walk over its tokens, so that no form of an import goes unseen, nested,
//! over several lines, or written out as a path in code or in a macro.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::collections::BTreeMap;

/// A path that a file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// As written: `super`, `locks`, `Grant`; a glob ends in `*`.
    pub path: Vec<String>,
    /// The inline modules around it, outermost first.
    pub within: Vec<String>,
    /// In what only tests are built with.
    pub tested: bool,
}

/// All that a file names, and the names by which it does so.
#[derive(Default)]
pub struct Imports {
    pub named: Vec<Named>,
    /// What a `use` at the top of the file calls a path.
    pub aliases: BTreeMap<String, Vec<String>>,
}

/// Where the walk is.
#[derive(Clone, Default)]
struct Scope {
    within: Vec<String>,
    tested: bool,
}

pub fn imports(text: &str) -> Imports {
    let tokens: TokenStream = text.parse().expect("a source is tokens");
    let mut found = Imports::default();
    walk(tokens, &Scope::default(), &mut found);
    found
}

fn walk(tokens: TokenStream, scope: &Scope, found: &mut Imports) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut tested = false;
    let mut at = 0;
    while at < tokens.len() {
        let token = &tokens[at];
        at += 1;
        match token {
            TokenTree::Group(group) => {
                tested |= is_attribute(&tokens, at - 1) && group.to_string() == "[cfg (test)]";
                let mut inner = scope.clone();
                if group.delimiter() == Delimiter::Brace {
                    inner.tested |= std::mem::take(&mut tested);
                    inner.within.extend(inline_module(&tokens, at - 1));
                }
                walk(group.stream(), &inner, found);
            }
            TokenTree::Ident(word) if word == "use" && !is_punct(tokens.get(at), '<') => {
                let scope = Scope { tested: scope.tested || tested, ..scope.clone() };
                at = use_tree(&tokens, at, &[], &scope, found);
            }
            TokenTree::Ident(word) => {
                let mut path = vec![word.to_string()];
                while let Some(TokenTree::Ident(next)) = after_colons(&tokens, at) {
                    path.push(next.to_string());
                    at += 3;
                }
                if path.len() > 1 {
                    let Scope { within, tested } = scope.clone();
                    found.named.push(Named { path, within, tested });
                }
            }
            TokenTree::Punct(punct) if punct.as_char() == ';' => tested = false,
            _ => {}
        }
    }
}

/// One branch of a `use`, from `at` on; returns where it ends.
fn use_tree(
    tokens: &[TokenTree],
    mut at: usize,
    above: &[String],
    scope: &Scope,
    found: &mut Imports,
) -> usize {
    let mut path = above.to_vec();
    let mut alias = None;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Ident(word) if word == "as" => {
                alias = tokens.get(at).map(ToString::to_string);
                at += 1;
            }
            // `a::{self}` is `a`.
            TokenTree::Ident(word) if word == "self" && !path.is_empty() => {}
            TokenTree::Ident(word) => path.push(word.to_string()),
            TokenTree::Punct(punct) if punct.as_char() == '*' => path.push("*".to_owned()),
            TokenTree::Punct(punct) if [';', ','].contains(&punct.as_char()) => break,
            TokenTree::Group(group) => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                let mut next = 0;
                while next < inner.len() {
                    next = use_tree(&inner, next, &path, scope, found);
                }
                path.clear();
            }
            _ => {}
        }
    }
    if let Some(last) = path.last() {
        let Scope { within, tested } = scope.clone();
        if within.is_empty() && last != "*" {
            found.aliases.insert(alias.unwrap_or_else(|| last.clone()), path.clone());
        }
        found.named.push(Named { path, within, tested });
    }
    at
}

/// The word behind `::` at `at`.
fn after_colons(tokens: &[TokenTree], at: usize) -> Option<&TokenTree> {
    let colons = is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':');
    colons.then(|| tokens.get(at + 2)).flatten()
}

fn is_punct(token: Option<&TokenTree>, mark: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == mark)
}

fn is_attribute(tokens: &[TokenTree], at: usize) -> bool {
    at > 0 && is_punct(tokens.get(at - 1), '#')
}

/// The name of the inline module whose body is at `at`.
fn inline_module(tokens: &[TokenTree], at: usize) -> Option<String> {
    let is_module = at > 1 && tokens[at - 2].to_string() == "mod";
    is_module.then(|| tokens[at - 1].to_string())
}

fn paths(text: &str) -> Vec<String> {
    imports(text).named.iter().map(|named| named.path.join("::")).collect()
}

#[test]
fn imports_are_seen_in_every_form() {
    assert_eq!(paths("use crate::tree::Tree;"), ["crate::tree::Tree"]);
    let nested = "pub use crate::{limits,\n tree::{self, locks::{Grant as G, *}}};";
    let expected =
        ["crate::limits", "crate::tree", "crate::tree::locks::Grant", "crate::tree::locks::*"];
    assert_eq!(paths(nested), expected);
    assert_eq!(imports(nested).aliases["G"].join("::"), "crate::tree::locks::Grant");
    assert_eq!(
        paths("fn f() { g(crate::node::x(), !crate::disk::Y); }"),
        ["crate::node::x", "crate::disk::Y"]
    );
    assert_eq!(paths("f!(\"{}\", super::name::MAX)"), ["super::name::MAX"]);
    assert_eq!(paths("// crate::node\nfn f(x: u8) -> bool { x }"), [""; 0]);
}

#[test]
fn the_tests_of_a_file_are_told_apart() {
    let text = "#[cfg(test)]\nmod tests;\nuse a::b;\n#[cfg(test)]\nmod tests { use super::c; }";
    let named = imports(text).named;
    let seen: Vec<_> = named.iter().map(|n| (n.tested, n.within.len())).collect();
    assert_eq!(seen, [(false, 0), (true, 1)]);
}
