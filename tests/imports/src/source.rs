//! What one file says of modules and names: from its tokens, so comments, strings and the way it is
//! formatted make no difference. What is compiled for tests only is left out.

use std::collections::BTreeSet;

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A module: a file, or the part of one between `mod name {` and `}`.
#[derive(Debug, Default)]
pub struct Module {
    /// The modules that are files of their own: `mod name;`.
    pub files: Vec<String>,
    /// The modules that are written here: `mod name { … }`.
    pub inline: Vec<(String, Module)>,
    /// The items that are defined here.
    pub items: BTreeSet<String>,
    /// What its `use` declarations name.
    pub uses: Vec<Use>,
    /// The paths of at least two names in the rest of the code.
    pub paths: BTreeSet<Vec<String>>,
    /// All names in the rest of the code.
    pub names: BTreeSet<String>,
}

/// One name that a `use` declaration brings in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// Where it is from: `crate`, `self`, `super`, or a module or crate, and so on.
    pub path: Vec<String>,
    /// What it is called here; none: whatever is at `path` (`*`).
    pub name: Option<String>,
    /// Others can have it from here.
    pub reexport: bool,
}

/// Reads a file's text.
pub fn parse(text: &str) -> Result<Module> {
    let tokens = text.parse::<TokenStream>().map_err(|e| anyhow!("{e}"))?;
    let mut module = Module::default();
    module.read(&tokens.into_iter().collect::<Vec<_>>(), true);
    Ok(module)
}

impl Module {
    /// Reads tokens of one nesting; `outermost`: items defined here are the module's.
    fn read(&mut self, tokens: &[TokenTree], outermost: bool) {
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at = match token {
                TokenTree::Punct(punct)
                    if punct.as_char() == '#' && is_for_tests(&tokens[at..]) =>
                {
                    after_item(tokens, at + 2)
                }
                TokenTree::Group(group) => {
                    self.read(&group.stream().into_iter().collect::<Vec<_>>(), false);
                    at + 1
                }
                TokenTree::Ident(word) => match word.to_string().as_str() {
                    "use" => self.read_use(tokens, at),
                    "mod" if outermost => self.read_module(tokens, at),
                    word => {
                        if outermost {
                            self.items.extend(defined(word, &tokens[at + 1..]));
                        }
                        self.read_path(tokens, at)
                    }
                },
                _ => at + 1,
            };
        }
    }

    /// From `use` to behind its `;`.
    fn read_use(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        let length = tokens[at..].iter().position(|token| is(token, ';'));
        let end = at + length.unwrap_or(tokens.len() - at);
        // `use` in bounds, `impl Trait + use<'a>`, is none.
        if tokens.get(at + 1).is_some_and(|token| is(token, '<')) {
            return at + 1;
        }
        let reexport = is_visible(&tokens[..at]);
        tree(&tokens[at + 1..end], &[], &mut |path, name| {
            self.uses.push(Use {
                path,
                name,
                reexport,
            });
        });
        end + 1
    }

    /// From `mod` to behind its `;` or `}`.
    fn read_module(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        let Some(TokenTree::Ident(name)) = tokens.get(at + 1) else {
            return at + 1;
        };
        match tokens.get(at + 2) {
            Some(TokenTree::Group(body)) => {
                let mut module = Module::default();
                module.read(&body.stream().into_iter().collect::<Vec<_>>(), true);
                self.inline.push((name.to_string(), module));
            }
            _ => self.files.push(name.to_string()),
        }
        at + 3
    }

    /// From the first name of a path to behind its last.
    fn read_path(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        let mut path = Vec::new();
        let mut next = at;
        while let Some(TokenTree::Ident(name)) = tokens.get(next) {
            path.push(name.to_string());
            next += 1;
            if !is_double_colon(tokens, next) {
                break;
            }
            next += 2;
        }
        // What follows `.` is a field or a method, what follows `::` is in a crate of that name.
        let before = tokens[..at].last();
        let is_member = before.is_some_and(|token| is(token, '.')) && !ends_a_range(&tokens[..at]);
        if !is_member && !is_double_colon(tokens, at.wrapping_sub(2)) {
            self.names.insert(path[0].clone());
            if path.len() > 1 {
                self.paths.insert(path);
            }
        }
        next.max(at + 1)
    }
}

/// The attribute at the beginning is `#[cfg(test)]`, or one like it.
fn is_for_tests(tokens: &[TokenTree]) -> bool {
    let Some(TokenTree::Group(group)) = tokens.get(1) else {
        return false;
    };
    let text: String = group.stream().to_string().split_whitespace().collect();
    group.delimiter() == Delimiter::Bracket
        && (text == "cfg(test)" || text.starts_with("cfg(all(test,"))
}

/// Where the item at `at` ends: behind its `}` or `;`.
fn after_item(tokens: &[TokenTree], at: usize) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        other => is(other, ';'),
    };
    let length = tokens[at..].iter().position(ends);
    length.map_or(tokens.len(), |length| at + length + 1)
}

/// The name that the keyword defines, if it is one that does.
fn defined(keyword: &str, rest: &[TokenTree]) -> Option<String> {
    let is_macro = keyword == "macro_rules";
    let kinds = [
        "fn", "struct", "enum", "union", "trait", "type", "const", "static",
    ];
    if !is_macro && !kinds.contains(&keyword) {
        return None;
    }
    match rest.get(usize::from(is_macro))? {
        TokenTree::Ident(name) => Some(name.to_string()),
        _ => None,
    }
}

/// The tokens end with `pub`, or `pub(…)`.
fn is_visible(tokens: &[TokenTree]) -> bool {
    let word = match tokens {
        [.., word, TokenTree::Group(group)] if group.delimiter() == Delimiter::Parenthesis => word,
        [.., word] => word,
        [] => return false,
    };
    matches!(word, TokenTree::Ident(word) if word == "pub")
}

/// What a use tree names: `found` is given each path and what its end is called.
fn tree(
    tokens: &[TokenTree],
    prefix: &[String],
    found: &mut impl FnMut(Vec<String>, Option<String>),
) {
    let mut path = prefix.to_vec();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Ident(word) if word == "as" => {
                return found(path, tokens.get(at + 1).map(ToString::to_string));
            }
            TokenTree::Ident(word) if word == "self" && !path.is_empty() => {}
            TokenTree::Ident(word) => path.push(word.to_string()),
            TokenTree::Group(group) => {
                let inner: Vec<_> = group.stream().into_iter().collect();
                let parts = inner.split(|token| is(token, ','));
                parts
                    .filter(|part| !part.is_empty())
                    .for_each(|part| tree(part, &path, found));
                return;
            }
            token if is(token, '*') => return found(path, None),
            _ => {}
        }
    }
    let name = path.last().cloned();
    found(path, name);
}

fn is(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

fn is_double_colon(tokens: &[TokenTree], at: usize) -> bool {
    tokens
        .get(at..at.saturating_add(2))
        .is_some_and(|pair| pair.iter().all(|token| is(token, ':')))
}

/// `..` is no access to a field.
fn ends_a_range(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [.., first, second] if is(first, '.') && is(second, '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(text: &str) -> Vec<String> {
        let show = |part: &Use| {
            let name = part.name.as_deref().unwrap_or("*");
            let public = if part.reexport { "pub " } else { "" };
            format!("{public}{} as {name}", part.path.join("::"))
        };
        parse(text).unwrap().uses.iter().map(show).collect()
    }

    #[test]
    fn a_use_tree_is_taken_apart() {
        let text = "use crate::{a::{self, B as C}, d::*}; pub(crate) use super::e;";
        let expected = [
            "crate::a as a",
            "crate::a::B as C",
            "crate::d as *",
            "pub super::e as e",
        ];
        assert_eq!(uses(text), expected);
    }

    #[test]
    fn paths_are_found_in_code_and_in_macros_but_not_in_comments_and_strings() {
        let text = r#"
            /// crate::comment::a()
            fn f(x: &crate::types::X) -> usize {
                println!("crate::text::b() {}", super::shown::c());
                x.crate_like::<self::inner::Y>(::std::mem::size_of::<u8>()) + list.len()
            }
        "#;
        let module = parse(text).unwrap();
        let paths: Vec<_> = module.paths.iter().map(|path| path.join("::")).collect();
        assert_eq!(
            paths,
            ["crate::types::X", "self::inner::Y", "super::shown::c"]
        );
        assert!(
            !module.names.contains("len"),
            "a method is no name of a module"
        );
        assert!(module.items.contains("f"));
    }

    #[test]
    fn what_is_for_tests_is_left_out() {
        let text = "
            #[cfg(test)] use crate::a::A;
            #[cfg(test)] pub(crate) fn b(x: Vec<u8, B>) -> crate::b::B { crate::b::b() }
            #[cfg(test)] mod tests { use super::*; use crate::c::C; }
            #[cfg(test)] mod more;
            #[cfg(not(test))] mod kept;
            struct D { #[cfg(test)] e: crate::e::E }
        ";
        let module = parse(text).unwrap();
        assert!(module.uses.is_empty() && module.inline.is_empty() && module.paths.is_empty());
        assert_eq!(module.files, ["kept"]);
        assert_eq!(module.items.iter().collect::<Vec<_>>(), ["D"]);
    }

    #[test]
    fn items_are_those_of_the_module_itself() {
        let text = "
            pub const A: u8 = 1; static B: u8 = 2; type C = u8; trait D { fn e(&self); }
            impl F { pub fn g() {} } macro_rules! h { () => { fn i() {} } }
            mod j { pub struct K; }
        ";
        let module = parse(text).unwrap();
        assert_eq!(
            module.items.iter().collect::<Vec<_>>(),
            ["A", "B", "C", "D", "h"]
        );
        assert!(module.inline[0].1.items.contains("K"));
    }
}
