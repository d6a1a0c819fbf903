//! A crate's modules, and which file imports what from which. A name counts as imported from the
//! file that defines it, also when it was handed on by another (`pub use`); to hand a name on
//! without using it, or to declare a module, is no import.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use crate::source::{self, Module, Use};

/// A longer chain of names that stand for names is a circle.
const MAX_ALIASES: usize = 16;

/// Where a module stands: its names from the root of the crate.
type Place = Vec<String>;

/// Which file imports which names from which other.
pub type Imports = BTreeMap<(String, String), BTreeSet<String>>;

/// The modules of a crate.
pub struct House {
    modules: BTreeMap<Place, (String, Module)>,
}

/// What a path leads to.
#[derive(Clone, Debug)]
enum Target {
    Module(Place),
    /// An item, and the module that defines it.
    Item(Place, String),
}

impl House {
    /// Reads a crate from its root, `src/lib.rs`, on; `read` gives a file's text, if there is such a
    /// file.
    pub fn build(root: &str, read: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let mut house = Self {
            modules: BTreeMap::new(),
        };
        let text = read(root).with_context(|| format!("read {root}"))?;
        let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
        house.add_file(&read, root, folder, Vec::new(), &text)?;
        Ok(house)
    }

    /// `folder`: where the files of its modules are.
    fn add_file(
        &mut self,
        read: &impl Fn(&str) -> Option<String>,
        file: &str,
        folder: &str,
        place: Place,
        text: &str,
    ) -> Result<()> {
        let module = source::parse(text).with_context(|| format!("read the tokens of {file}"))?;
        for name in &module.files {
            let inner = format!("{folder}/{name}");
            let (file, text) = [format!("{inner}.rs"), format!("{inner}/mod.rs")]
                .into_iter()
                .find_map(|path| read(&path).map(|text| (path, text)))
                .with_context(|| format!("find the module {name} that {file} declares"))?;
            self.add_file(read, &file, &inner, inside(&place, name), &text)?;
        }
        self.add(file, place, module);
        Ok(())
    }

    fn add(&mut self, file: &str, place: Place, mut module: Module) {
        for (name, inner) in std::mem::take(&mut module.inline) {
            self.add(file, inside(&place, &name), inner);
        }
        self.modules.insert(place, (file.to_owned(), module));
    }

    /// All files.
    pub fn files(&self) -> BTreeSet<&str> {
        self.modules
            .values()
            .map(|(file, _)| file.as_str())
            .collect()
    }

    /// All imports between them.
    pub fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (place, (file, module)) in &self.modules {
            for (from, name) in self.imported(place, module) {
                let (other, _) = &self.modules[&from];
                if other != file {
                    let names = imports.entry((file.clone(), other.clone())).or_default();
                    names.insert(name);
                }
            }
        }
        imports
    }

    /// The items that a module uses, and the modules that define them.
    fn imported(&self, place: &Place, module: &Module) -> BTreeSet<(Place, String)> {
        let mut found = BTreeSet::new();
        let mut add = |target| {
            if let Some(Target::Item(from, name)) = target {
                found.insert((from, name));
            }
        };
        let is_used = |name: &String| module.names.contains(name);
        for used in &module.uses {
            match &used.name {
                Some(name) if used.reexport && !is_used(name) => {}
                Some(_) => add(self.resolve(place, &used.path, 0)),
                None => {
                    let glob = self.resolve(place, &used.path, 0);
                    if let Some(Target::Module(from)) = &glob {
                        for name in &module.names {
                            add(self.find(from, std::slice::from_ref(name), 0));
                        }
                    }
                    // The variants of an enum.
                    add(glob);
                }
            }
        }
        for path in &module.paths {
            add(self.resolve(place, path, 0));
        }
        found
    }

    /// What a path means in a module; none: something outside the crate.
    fn resolve(&self, place: &Place, path: &[String], aliases: usize) -> Option<Target> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.from(&Vec::new(), rest, aliases),
            "self" => self.from(place, rest, aliases),
            "super" => {
                let mut above = place.clone();
                above.pop();
                match rest.first() {
                    Some(next) if next == "super" => self.resolve(&above, rest, aliases),
                    _ => self.from(&above, rest, aliases),
                }
            }
            _ => self.find(place, path, aliases),
        }
    }

    /// What a path means from a module on; a name that nobody is seen to define, as a macro may have
    /// written it, is taken for the module's own.
    fn from(&self, place: &Place, path: &[String], aliases: usize) -> Option<Target> {
        let Some(name) = path.first() else {
            return Some(Target::Module(place.clone()));
        };
        self.find(place, path, aliases).or_else(|| {
            let is_known = self.modules.contains_key(&inside(place, name))
                || self.alias(place, name).next().is_some();
            (!is_known).then(|| Target::Item(place.clone(), name.clone()))
        })
    }

    /// What a path means that begins with a name of this module.
    fn find(&self, place: &Place, path: &[String], aliases: usize) -> Option<Target> {
        let (_, module) = self.modules.get(place)?;
        let (name, rest) = path.split_first()?;
        if aliases > MAX_ALIASES {
            return None;
        }
        let inner = inside(place, name);
        let is_module = self.modules.contains_key(&inner);
        // A name may be a module's and a function's as well.
        if is_module && !rest.is_empty() {
            return self.from(&inner, rest, aliases);
        }
        if module.items.contains(name) {
            return Some(Target::Item(place.clone(), name.clone()));
        }
        let with_rest = |used: &Use| [used.path.as_slice(), rest].concat();
        self.alias(place, name)
            .find_map(|used| self.resolve(place, &with_rest(used), aliases + 1))
            .or_else(|| is_module.then_some(Target::Module(inner)))
            .or_else(|| {
                let globs = module.uses.iter().filter(|used| used.name.is_none());
                globs.into_iter().find_map(|glob| {
                    match self.resolve(place, &glob.path, aliases + 1)? {
                        Target::Module(from) if from != *place => {
                            self.find(&from, path, aliases + 1)
                        }
                        _ => None,
                    }
                })
            })
    }

    /// The `use` declarations of a module that bring in this name.
    fn alias<'a>(&'a self, place: &Place, name: &'a str) -> impl Iterator<Item = &'a Use> {
        let uses = self.modules.get(place).map(|(_, module)| &module.uses);
        let uses = uses.into_iter().flatten();
        uses.filter(move |used| used.name.as_deref() == Some(name))
    }
}

fn inside(place: &Place, name: &str) -> Place {
    let mut inner = place.clone();
    inner.push(name.to_owned());
    inner
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The imports of a crate of these files, `from -> to: names`.
    fn imports(files: &[(&str, &str)]) -> Vec<String> {
        let read = |path: &str| {
            let file = files.iter().find(|(name, _)| *name == path)?;
            Some(file.1.to_owned())
        };
        let imports = House::build("src/lib.rs", read).unwrap().imports();
        let show = |((from, to), names): (&(String, String), &BTreeSet<String>)| {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let short = |path: &str| path.trim_start_matches("src/").to_owned();
            format!("{} -> {}: {}", short(from), short(to), names.join(" "))
        };
        imports.iter().map(show).collect()
    }

    #[test]
    fn names_are_from_where_they_are_defined() {
        let found = imports(&[
            ("src/lib.rs", "pub mod a; mod b; mod units;"),
            (
                "src/a/mod.rs",
                "mod shared; mod user; pub use shared::{Shared, help};",
            ),
            ("src/a/shared.rs", "pub struct Shared; pub fn help() {}"),
            (
                "src/a/user.rs",
                "use super::Shared; fn f(_: Shared) { crate::units::g() }",
            ),
            (
                "src/b.rs",
                "use crate::{a, units as u}; fn f() { a::help(); u::h(); Vec::<u8>::new(); }",
            ),
            ("src/units.rs", "pub fn g() {} pub fn h() {}"),
        ]);
        let expected = [
            "a/user.rs -> a/shared.rs: Shared",
            "a/user.rs -> units.rs: g",
            "b.rs -> a/shared.rs: help",
            "b.rs -> units.rs: h",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_parent_that_uses_what_it_hands_on_imports_it() {
        let found = imports(&[
            ("src/lib.rs", "mod a;"),
            (
                "src/a.rs",
                "mod run; pub use run::{Run, run}; pub const N: u8 = 1; fn f(_: Run) {}",
            ),
            (
                "src/a/run.rs",
                "use super::N; pub struct Run; pub fn run() -> u8 { N }",
            ),
        ]);
        assert_eq!(found, ["a.rs -> a/run.rs: Run", "a/run.rs -> a.rs: N"]);
    }

    #[test]
    fn a_glob_imports_what_is_used_of_it() {
        let found = imports(&[
            ("src/lib.rs", "mod a; mod b; mod c; pub use b::*;"),
            (
                "src/a.rs",
                "use crate::*; use crate::c::E::*; fn f() -> B { B }",
            ),
            ("src/b.rs", "pub struct B; pub struct Unused;"),
            ("src/c.rs", "pub enum E { F }"),
        ]);
        assert_eq!(found, ["a.rs -> b.rs: B", "a.rs -> c.rs: E"]);
    }

    #[test]
    fn modules_inside_a_file_and_names_of_macros_are_the_files() {
        let found = imports(&[
            ("src/lib.rs", "mod a; mod b; item! { made }"),
            (
                "src/a.rs",
                "pub mod inner { use super::super::b; fn f() { b::B::new() } pub fn g() {} }",
            ),
            (
                "src/b.rs",
                "use crate::{a::inner, made::X}; use std::fmt; pub struct B; fn f(_: fmt::Error) { inner::g() }",
            ),
        ]);
        let expected = ["a.rs -> b.rs: B", "b.rs -> a.rs: g", "b.rs -> lib.rs: made"];
        assert_eq!(found, expected);
    }

    #[test]
    fn names_that_stand_for_each_other_come_to_an_end() {
        let files = [
            ("src/lib.rs", "mod a; mod b;"),
            ("src/a.rs", "pub use crate::b::X; fn f(_: X) {}"),
            ("src/b.rs", "pub use crate::a::X; pub use crate::a::*;"),
        ];
        assert_eq!(imports(&files), Vec::<String>::new());
    }

    #[test]
    fn a_missing_file_is_named() {
        let read = |path: &str| (path == "src/lib.rs").then(|| "mod gone;".to_owned());
        let error = House::build("src/lib.rs", read).err().unwrap().to_string();
        assert_eq!(error, "find the module gone that src/lib.rs declares");
    }
}
