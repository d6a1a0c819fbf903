//! Options from a file (`--config FILE`, TOML): each key is the long name of an option, each table a subcommand.
//!
//! Nothing here knows an option by its name. What the file says becomes words of the command line, and clap
//! makes of them what it makes of typed ones: the same values are wrong, the same options exclude each other.
//! An option that is typed replaces that of the file. Which ones are typed is found by parsing the typed words
//! alone, without the rules between options, which may be met only together with the file.

use crate::exit::Usage;
use anyhow::Result;
use clap::builder::{Resettable, ValueParser};
use clap::error::ContextValue;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, Id};
use netns::reason;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// The option that names the file; no file names another.
const OPTION: &str = "config";
/// Upper bound on the size of a file, bytes.
const MAX_SIZE: u64 = 1 << 20;
/// Similarity (Jaro-Winkler, 0 to 1) from which a name may have been meant: clap's own.
const SIMILAR: f64 = 0.7;

/// A file of options.
#[derive(Clone, Debug)]
pub struct Config {
    name: String,
    text: String,
}

/// What a file says of one option.
#[derive(Clone, Debug)]
pub struct Given {
    id: Id,
    is_global: bool,
    /// `--NAME`.
    option: String,
    line: usize,
    /// The option as words of the command line; none for a flag that is false.
    words: Vec<OsString>,
}

/// The typed words as far as they are understood without the rules between options.
pub struct Typed {
    matches: ArgMatches,
    /// The names of the subcommand and those that it is in.
    pub subcommands: Vec<String>,
}

impl Typed {
    /// `None` if clap has something to say of the words themselves.
    pub fn new(command: Command, words: &[OsString]) -> Option<Self> {
        let lenient = without_rules(command, true);
        let matches = lenient.try_get_matches_from(words).ok()?;
        let mut subcommands = Vec::new();
        let mut innermost = &matches;
        while let Some((name, inner)) = innermost.subcommand() {
            subcommands.push(name.to_owned());
            innermost = inner;
        }
        Some(Self {
            matches: innermost.clone(),
            subcommands,
        })
    }

    /// The file of options, if one is named.
    pub fn file(&self) -> Option<PathBuf> {
        let name = self.matches.get_one::<OsString>(OPTION)?;
        Some(name.into())
    }

    fn has(&self, id: &Id) -> bool {
        self.matches.value_source(id.as_str()) == Some(ValueSource::CommandLine)
    }
}

impl Config {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let mut text = String::new();
        let read =
            File::open(path).and_then(|file| file.take(MAX_SIZE + 1).read_to_string(&mut text));
        read.map_err(|e| Usage(format!("cannot read {name} (--config): {}", reason(&e))))?;
        if text.len() as u64 > MAX_SIZE {
            return Err(Usage(format!("{name} (--config) is larger than 1 MB")).into());
        }
        Ok(Self::new(name, text))
    }

    /// This text, as that of a file of this name.
    pub fn new(name: String, text: String) -> Self {
        Self { name, text }
    }

    /// What it says for a subcommand; none: for a client or a server. All of it is checked, whatever is asked for.
    pub fn options(&self, command: &Command, subcommands: &[String]) -> Result<Vec<Given>> {
        let table = DeTable::parse(&self.text).map_err(|e| {
            let message = e.message().trim_end().replace('\n', "; ");
            self.error(&e.span().unwrap_or_default(), &message)
        })?;
        let mut given = Vec::new();
        self.take(table.get_ref(), command, Some(subcommands), &mut given)?;
        Ok(given)
    }

    /// Checks a table, and takes what concerns the subcommand; `None`: nothing does.
    fn take(
        &self,
        table: &DeTable<'_>,
        command: &Command,
        subcommands: Option<&[String]>,
        given: &mut Vec<Given>,
    ) -> Result<()> {
        let inner = subcommands.and_then(<[_]>::split_first);
        let (mut own, mut tables): (Vec<Given>, _) = (Vec::new(), Vec::new());
        for (key, value) in table {
            let (name, at, value) = (key.get_ref().as_ref(), key.span(), value.get_ref());
            let subcommand = command.find_subcommand(name);
            if let Some(found) = subcommand.filter(|_| name != "help") {
                let DeValue::Table(table) = value else {
                    let message = format!("'{name}' is a subcommand: its options are in [{name}]");
                    return Err(self.error(&at, &message));
                };
                tables.push((found, table));
                continue;
            }
            let Some(arg) = options(command).find(|arg| names(arg).any(|n| n == name)) else {
                return Err(self.error(&at, &unknown(command, name)));
            };
            if let Some(other) = own.iter().find(|given| given.id == *arg.get_id()) {
                let message = format!("'{name}' is the option of line {}", other.line);
                return Err(self.error(&at, &message));
            }
            let words = words(arg, value).map_err(|message| self.error(&at, &message))?;
            own.push(Given {
                id: arg.get_id().clone(),
                is_global: arg.is_global_set(),
                option: option(arg),
                line: self.line(&at),
                words,
            });
        }
        if subcommands.is_some() {
            given.retain(|outer| own.iter().all(|given| given.id != outer.id));
            let concerns = |given: &Given| inner.is_none() || given.is_global;
            given.extend(own.into_iter().filter(concerns));
        }
        for (found, table) in tables {
            let rest = inner.filter(|(first, _)| *first == found.get_name());
            self.take(table, found, rest.map(|(_, rest)| rest), given)?;
        }
        Ok(())
    }

    /// The typed words with what they leave to the file; `withdrawn`: see [`withdrawn`].
    pub fn complete(
        typed_words: &[OsString],
        typed: &Typed,
        given: &[Given],
        withdrawn: &[String],
    ) -> Vec<OsString> {
        let end = typed_words.iter().position(|word| word == "--");
        let (options, rest) = typed_words.split_at(end.unwrap_or(typed_words.len()));
        let left = given.iter().filter(|given| !typed.has(&given.id));
        let left = left.filter(|given| !withdrawn.contains(&given.option));
        let from_file = left.flat_map(|given| &given.words);
        options
            .iter()
            .chain(from_file)
            .chain(rest)
            .cloned()
            .collect()
    }

    /// What clap says of an option that the file gives, with the place in the file; else `None`.
    pub fn located(&self, said: &clap::Error, given: &[Given]) -> Option<Usage> {
        let concerned: Vec<&str> = said
            .context()
            .flat_map(|(_, value)| strings(value))
            .collect();
        let is_concerned = |given: &&Given| {
            let is_option = |word: &&str| word.split([' ', '=', '[']).next() == Some(&given.option);
            !given.words.is_empty() && concerned.iter().any(is_option)
        };
        let found = given.iter().find(is_concerned)?;
        let said = said.to_string();
        let paragraph = said.split("\n\n").next().unwrap_or_default();
        let message = paragraph.trim_start_matches("error: ").lines();
        let message = message.map(str::trim).collect::<Vec<_>>().join(" ");
        Some(Usage(format!(
            "{}, line {}: {message}",
            self.name, found.line
        )))
    }

    fn error(&self, at: &Range<usize>, message: &str) -> anyhow::Error {
        Usage(format!("{}, line {}: {message}", self.name, self.line(at))).into()
    }

    /// From 1.
    fn line(&self, at: &Range<usize>) -> usize {
        let before = self.text.get(..at.start).unwrap_or(&self.text);
        before.matches('\n').count() + 1
    }
}

/// The typed words without `--no-NAME` of any option, and the options (`--NAME`) of those: what a file says of them
/// does not count.
pub fn withdrawn(command: &Command, words: &[OsString]) -> (Vec<OsString>, Vec<String>) {
    let (mut rest, mut withdrawn) = (Vec::new(), Vec::new());
    let mut is_option = true;
    for word in words {
        is_option &= word != "--";
        let name = word.to_str().and_then(|word| word.strip_prefix("--no-"));
        match name.and_then(|name| named(command, name)) {
            Some(option) if is_option => withdrawn.push(option),
            _ => rest.push(word.clone()),
        }
    }
    (rest, withdrawn)
}

/// The option of this name, also of a subcommand.
fn named(command: &Command, name: &str) -> Option<String> {
    let own = options(command).find(|arg| names(arg).any(|n| n == name));
    let mut inner = command.get_subcommands();
    own.map(option)
        .or_else(|| inner.find_map(|inner| named(inner, name)))
}

/// The same options without what they demand of each other; `values` of any kind, if they are not to be parsed.
pub fn without_rules(command: Command, any_value: bool) -> Command {
    let groups: Vec<Id> = command.get_groups().map(|g| g.get_id().clone()).collect();
    let command = command.args_conflicts_with_subcommands(false);
    let command = command.mut_args(|arg| {
        let arg = arg.required(false);
        let arg = arg.conflicts_with(Resettable::Reset);
        let arg = arg.requires(Resettable::Reset);
        if any_value && arg.get_action().takes_values() {
            arg.value_parser(ValueParser::os_string())
        } else {
            arg
        }
    });
    let free = |command: Command, id: Id| {
        command.mut_group(id, |group| group.required(false).multiple(true))
    };
    let command = groups.into_iter().fold(command, free);
    command.mut_subcommands(|inner| without_rules(inner, any_value))
}

/// The options that a file can give.
pub fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| {
        let asks_for_text = matches!(
            arg.get_action(),
            ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
        );
        arg.get_long().is_some() && arg.get_id() != OPTION && !asks_for_text
    })
}

/// Its long name, and those that it had.
fn names(arg: &Arg) -> impl Iterator<Item = &str> {
    let others = arg.get_all_aliases().unwrap_or_default();
    arg.get_long().into_iter().chain(others)
}

/// `--NAME`.
fn option(arg: &Arg) -> String {
    format!("--{}", arg.get_long().unwrap_or_default())
}

fn unknown(command: &Command, name: &str) -> String {
    if name == OPTION {
        return "a file names no other one".to_owned();
    }
    let of = match command.get_name() {
        "pingtrace" => String::new(),
        subcommand => format!(" of {subcommand}"),
    };
    let options = options(command).filter(|arg| !arg.is_hide_set());
    let subcommands = command.get_subcommands().map(Command::get_name);
    let known = options.flat_map(names).chain(subcommands);
    let scored = known.map(|known| (strsim::jaro_winkler(known, name), known));
    let similar = scored.filter(|(score, _)| *score > SIMILAR);
    let nearest = similar.max_by(|(a, _), (b, _)| a.total_cmp(b));
    let meant = nearest.map_or(String::new(), |(_, known)| {
        format!(" (is '{known}' meant?)")
    });
    format!("there is no option '{name}'{of}{meant}")
}

/// The option as it would be typed.
fn words(arg: &Arg, value: &DeValue<'_>) -> Result<Vec<OsString>, String> {
    let (option, name) = (option(arg), arg.get_long().unwrap_or_default());
    let takes_value = arg.get_action().takes_values();
    let needs_value = takes_value && arg.get_num_args().is_none_or(|n| n.min_values() > 0);
    let is_list = matches!(arg.get_action(), ArgAction::Append);
    let word = |text: String| OsString::from(format!("{option}={text}"));
    match value {
        DeValue::Boolean(_) if needs_value => Err(format!("'{name}' needs a value")),
        DeValue::Boolean(true) => Ok(vec![option.into()]),
        DeValue::Boolean(false) => Ok(Vec::new()),
        _ if !takes_value => Err(format!("'{name}' is true or false")),
        DeValue::Array(values) if is_list => {
            let texts = values.iter().map(|value| scalar(value.get_ref()));
            let words = texts.map(|text| Some(word(text?))).collect::<Option<_>>();
            words.ok_or_else(|| format!("'{name}' is a list of strings or numbers"))
        }
        _ => match scalar(value) {
            Some(text) => Ok(vec![word(text)]),
            None if is_list => Err(format!("'{name}' is a string, a number, or a list of them")),
            None => Err(format!("'{name}' is a string or a number")),
        },
    }
}

/// A value as it would be typed; `None`: it could not be.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            let number = i64::from_str_radix(number.as_str(), number.radix()).ok()?;
            Some(number.to_string())
        }
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn strings(value: &ContextValue) -> Vec<&str> {
    match value {
        ContextValue::String(text) => vec![text],
        ContextValue::Strings(texts) => texts.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory as _;
    use std::collections::BTreeSet;

    const EXAMPLE: &str = include_str!("../../../scripts/dist/pingtrace.toml");

    fn parse(typed: &str, file: &str) -> Result<Cli> {
        let words: Vec<_> = typed.split(' ').map(OsString::from).collect();
        Cli::parse_with(&words, &Config::new("f.toml".into(), file.into()))
    }

    fn built() -> Command {
        let mut command = Cli::command();
        command.build();
        command
    }

    /// Each setting of the example with its table: what follows the mark of a comment and looks like one.
    fn settings() -> Vec<(&'static str, &'static str, &'static str)> {
        let mut table = "";
        let mut settings = Vec::new();
        for line in EXAMPLE.lines().filter_map(|line| line.strip_prefix("# ")) {
            if let Some(name) = line.strip_prefix('[') {
                table = name.trim_end_matches(']');
            } else if let Some((key, value)) = line.split_once(" = ") {
                settings.push((table, key, value));
            }
        }
        settings
    }

    #[test]
    fn what_the_file_says_can_be_taken_back() {
        let file = "explain = true\ninterval = \"1ms\"\nslo = \"loss<1%\"\n";
        let file = format!("{file}[irqoff]\nthreshold = \"2ms\"\n");
        let cli = parse("pingtrace -c h", &file).unwrap();
        assert!(cli.args.explain.is_some() && cli.args.results.slo.is_some());
        let cli = parse("pingtrace --no-explain -c h --no-slo --no-interval", &file).unwrap();
        let plain = parse("pingtrace -c h", "").unwrap();
        assert_eq!(cli.args.explain, None);
        assert!(cli.args.results.slo.is_none());
        assert_eq!(cli.args.interval, plain.args.interval);
        parse("pingtrace irqoff --no-threshold", &file).unwrap();
        // Nothing is taken back, and what is typed stays typed.
        parse("pingtrace -c h --no-explain", "").unwrap();
        assert!(parse("pingtrace -c h --no-such", &file).is_err());
        assert!(parse("pingtrace -c h -- --no-explain", &file).is_err());
    }

    #[test]
    fn the_example_is_a_file_that_changes_nothing() {
        let cli = parse("pingtrace -c h", EXAMPLE).unwrap();
        assert_eq!(cli.args.client, ["h"]);
    }

    /// A value that is wrong there would be copied. Files that an option reads are not there.
    #[test]
    fn each_setting_of_the_example_is_right() {
        for (table, key, value) in settings() {
            let header = if table.is_empty() {
                ""
            } else {
                &format!("[{table}]\n")
            };
            let file = Config::new("f.toml".into(), format!("{header}{key} = {value}\n"));
            let subcommands: Vec<_> = Some(table.to_owned())
                .filter(|t| !t.is_empty())
                .into_iter()
                .collect();
            let given = file.options(&built(), &subcommands).unwrap();
            let words = ["pingtrace".into()].into_iter();
            let words = words.chain(subcommands.iter().map(OsString::from));
            let words = words.chain(given.into_iter().flat_map(|given| given.words));
            let lenient = without_rules(Cli::command(), key == "key-file");
            if let Err(error) = lenient.try_get_matches_from(words) {
                let is_missing = error.kind() == clap::error::ErrorKind::MissingRequiredArgument;
                assert!(is_missing, "[{table}] {key}: {error}");
            }
        }
    }

    /// An option that means the same in several subcommands is there once.
    #[test]
    fn the_example_has_every_option() {
        let command = built();
        let find = |table: &str| match table {
            "" => &command,
            name => command.find_subcommand(name).unwrap(),
        };
        let help = |arg: &Arg| arg.get_help().map(ToString::to_string);
        let described: BTreeSet<_> = settings()
            .iter()
            .map(|(table, key, _)| {
                let arg = options(find(table)).find(|arg| arg.get_long() == Some(key));
                let arg = arg.unwrap_or_else(|| panic!("[{table}] {key}"));
                (arg.get_long(), help(arg))
            })
            .map(|(long, help)| (long.map(str::to_owned), help))
            .collect();
        for of in [&command].into_iter().chain(command.get_subcommands()) {
            for arg in options(of).filter(|arg| !arg.is_hide_set()) {
                let long = arg.get_long().map(str::to_owned);
                let is_described = described.contains(&(long, help(arg)));
                assert!(
                    is_described,
                    "{}: {arg} is not in the example",
                    of.get_name()
                );
            }
        }
    }

    /// The file in the manifest for Kubernetes is one, and makes an agent.
    #[test]
    fn the_manifest_has_options_of_an_agent() {
        let manifest = include_str!("../../../scripts/dist/kubernetes/pingtrace.yaml");
        let (_, file) = manifest.split_once("  pingtrace.toml: |\n").unwrap();
        let lines = file.lines().map_while(|line| line.strip_prefix("    "));
        let file = lines.collect::<Vec<_>>().join("\n");
        let cli = parse("pingtrace agent", &file).unwrap();
        let Some(crate::cli::Command::Agent(agent)) = cli.command else {
            panic!("another subcommand");
        };
        assert_eq!((agent.args.ring, agent.args.client.len()), (Some(4), 0));
        assert!(agent.args.targets.is_some() && agent.metrics.listen.is_some());
    }

    #[test]
    fn what_is_typed_replaces_what_the_file_says() {
        let file =
            "client = ['a', 'b']\ninterval = '10ms'\nutc = true\ntos = 0xb8\nexplain = true\n";
        let cli = parse("pingtrace", file).unwrap();
        assert_eq!(cli.args.client, ["a", "b"]);
        assert_eq!((cli.utc, cli.args.tos), (true, Some(0xb8)));
        assert_eq!(cli.args.interval.as_millis(), 10);
        assert_eq!(cli.args.explain.unwrap().as_micros(), 200);
        let cli = parse("pingtrace -c c -i1s", file).unwrap();
        assert_eq!(cli.args.client, ["c"]);
        assert_eq!(cli.args.interval.as_secs(), 1);
    }

    #[test]
    fn a_subcommand_has_a_table_and_options_of_all() {
        let file =
            "client = ['a']\nutc = true\ncolor = 'never'\n\n[irqoff]\ntime = 2\ncolor = 'always'\n";
        let cli = parse("pingtrace irqoff", file).unwrap();
        assert!(cli.utc && cli.args.client.is_empty());
        assert_eq!(cli.color, crate::output::screen::Color::Always);
        let Some(crate::cli::Command::Companion(crate::diag::Companion::Irqoff(args))) =
            cli.command
        else {
            panic!("another subcommand");
        };
        let shown = format!("{args:?}");
        assert!(shown.contains("time: Some(2s)"), "{shown}");
    }

    #[test]
    fn what_is_wrong_in_a_file_is_said_with_its_line() {
        for (typed, file, words) in [
            (
                "-c h",
                "\n\nintervall = '1s'",
                "line 3: there is no option 'intervall' (is 'interval' meant?)",
            ),
            ("-c h", "web_config = 'x'", "(is 'web-config' meant?)"),
            ("-c h", "zzz = 1", "there is no option 'zzz'"),
            ("-c h", "config = 'x'", "line 1: a file names no other one"),
            ("-c h", "help = true", "there is no option 'help'"),
            ("-c h", "[irqof]\ntime = 1", "(is 'irqoff' meant?)"),
            (
                "-c h",
                "[irqoff]\nring = 1",
                "line 2: there is no option 'ring' of irqoff",
            ),
            ("-c h", "irqoff = 1", "its options are in [irqoff]"),
            ("-c h", "interval = ", "line 1: "),
            ("-c h", "x = [\n\n", "unclosed array"),
            ("-c h", "utc = true\nutc = true", "line 2: duplicate key"),
            (
                "-c h",
                "threshold = 1\nmaxdelay = 1",
                "'threshold' is the option of line 2",
            ),
            ("-c h", "interval = true", "'interval' needs a value"),
            ("-c h", "utc = 'yes'", "'utc' is true or false"),
            (
                "-c h",
                "interval = ['1s', '2s']",
                "'interval' is a string or a number",
            ),
            (
                "-c h",
                "interval = 1979-05-27",
                "'interval' is a string or a number",
            ),
            (
                "-c h",
                "interface = {a = 1}",
                "'interface' is a string, a number, or a list of them",
            ),
            (
                "-c h",
                "interface = [['a']]",
                "'interface' is a list of strings or numbers",
            ),
            (
                "-c h",
                "\ninterval = 'x'",
                "line 2: invalid value 'x' for '--interval <T>'",
            ),
            (
                "-c h -A",
                "\ninterval = '1s'",
                "line 2: the argument '--adaptive' cannot be used with '--interval <T>'",
            ),
            (
                "-s",
                "client = ['h']",
                "line 1: the argument '--server' cannot be used with '--client <HOST>'",
            ),
        ] {
            let error = parse(&format!("pingtrace {typed}"), file).expect_err(file);
            assert!(error.is::<Usage>(), "{file}: {error}");
            let said = error.to_string();
            assert!(
                said.starts_with("f.toml, line ") && said.contains(words),
                "{file}: {said}"
            );
        }
    }

    /// What the file has nothing to do with is said as without one.
    #[test]
    fn what_is_wrong_in_what_is_typed_stays_so() {
        for typed in ["pingtrace -c h --nonsense", "pingtrace --help", "pingtrace"] {
            let error = parse(typed, "utc = true").expect_err(typed);
            assert!(error.is::<clap::Error>(), "{typed}: {error}");
        }
    }
}
