//! From flags, environment and file to checked values, gathering every mistake on the way.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value as Json;

use super::former::{Notice, Verdict};
use super::schema::{Declared, Kind, Schema};
use super::values::{Entry, Origin, Values, parse};

/// Where values may come from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    args: Vec<String>,
    env: BTreeMap<String, String>,
}

impl Sources {
    /// The given command line (without the program's name) and an empty environment.
    pub fn new<S: Into<String>>(args: impl IntoIterator<Item = S>) -> Self {
        Self {
            args: args.into_iter().map(Into::into).collect(),
            env: BTreeMap::new(),
        }
    }

    /// This process's command line and environment.
    pub fn process() -> Self {
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Self {
            args: std::env::args_os().skip(1).map(lossy).collect(),
            env: std::env::vars_os()
                .map(|(name, value)| (lossy(name), lossy(value)))
                .collect(),
        }
    }

    /// Adds environment variables.
    #[must_use]
    pub fn env<K: Into<String>, V: Into<String>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.env.extend(
            variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into())),
        );
        self
    }
}

/// What loading a configuration led to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Loaded {
    /// Run with these values.
    Run(Values),
    /// `--check-config` was given and there is nothing to complain about.
    Checked(Values),
    /// `--help` was given: print this.
    Help(String),
    /// `--version` was given.
    Version,
}

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The option's name, or what was written instead of one.
    pub key: String,
    /// Where it was written; `None` if it is missing.
    pub origin: Option<Origin>,
    /// What is wrong and, where known, what to write instead.
    pub problem: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Some(origin) => write!(f, "{} ({origin}): {}", self.key, self.problem),
            None => write!(f, "{}: {}", self.key, self.problem),
        }
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration has mistakes:")?;
        self.0
            .iter()
            .try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl std::error::Error for Mistakes {}

impl Schema {
    /// Reads all sources and checks every value.
    ///
    /// # Errors
    /// All [`Mistakes`] at once. `--help` and `--version` win over mistakes.
    ///
    /// # Panics
    /// If the schema itself is wrong: an option declared twice, or a default that fails its own
    /// check.
    pub fn load(&self, sources: &Sources) -> Result<Loaded, Mistakes> {
        let mut loader = Loader {
            schema: self,
            declared: self.declared(),
            given: BTreeMap::new(),
            mistakes: Vec::new(),
            notices: Vec::new(),
        };
        let command = loader.flags(&sources.args);
        if command.help {
            return Ok(Loaded::Help(self.help()));
        }
        if command.version {
            return Ok(Loaded::Version);
        }
        loader.environment(&sources.env);
        if let Some(path) = command.file {
            loader.file(&path);
        }
        let values = loader.finish(command.rest)?;
        Ok(if command.check {
            Loaded::Checked(values)
        } else {
            Loaded::Run(values)
        })
    }
}

#[derive(Debug, Default)]
struct Command {
    help: bool,
    version: bool,
    check: bool,
    file: Option<String>,
    rest: Vec<String>,
}

struct Loader<'a> {
    schema: &'a Schema,
    declared: Vec<Declared>,
    given: BTreeMap<String, (String, Origin)>,
    mistakes: Vec<Mistake>,
    notices: Vec<Notice>,
}

impl Loader<'_> {
    fn flags(&mut self, args: &[String]) -> Command {
        let mut command = Command::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let Some(flag) = arg.strip_prefix("--") else {
                self.mistake(arg, Some(Origin::Flag), "expected a flag: --name=value");
                continue;
            };
            if flag.is_empty() {
                command.rest = args.cloned().collect();
                break;
            }
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name.replace('-', "_"), Some(value.to_owned())),
                None => (flag.replace('-', "_"), None),
            };
            match (&*name, value) {
                ("help", None) => command.help = true,
                ("version", None) => command.version = true,
                ("check_config", None) => command.check = true,
                ("config", Some(path)) => command.file = Some(path),
                ("config", None) => self.mistake("config", Some(Origin::Flag), "needs a path"),
                (name, value) => match self.former(name, value.as_deref(), Origin::Flag) {
                    Some(Some(option)) => self.flag(option, value),
                    Some(None) => {}
                    None => self.flag(name, value),
                },
            }
        }
        command
    }

    fn flag(&mut self, name: &str, value: Option<String>) {
        let origin = Some(Origin::Flag);
        if let Some(kind) = self.kind(name) {
            let value = match (kind, value) {
                (_, Some(value)) => value,
                (Kind::Switch, None) => "true".to_owned(),
                (_, None) => {
                    return self.mistake(name, origin, &format!("needs a value: --{name}=VALUE"));
                }
            };
            if self
                .given
                .insert(name.to_owned(), (value, Origin::Flag))
                .is_some()
            {
                self.mistake(name, origin, "is given twice");
            }
            return;
        }
        let negated = name
            .strip_prefix("no_")
            .filter(|name| self.kind(name) == Some(Kind::Switch));
        match (negated, value) {
            (Some(name), None) => {
                if self
                    .given
                    .insert(name.to_owned(), ("false".into(), Origin::Flag))
                    .is_some()
                {
                    self.mistake(name, origin, "is given twice");
                }
            }
            (Some(_), Some(_)) => self.mistake(name, origin, "takes no value"),
            (None, _) => self.unknown(name, Origin::Flag),
        }
    }

    fn environment(&mut self, env: &BTreeMap<String, String>) {
        for option in &self.declared {
            let upper = option.name.to_uppercase();
            let value = env
                .get(&format!("DCOS_{upper}"))
                .or_else(|| env.get(&format!("MESOS_{upper}")));
            if let Some(value) = value {
                self.given
                    .entry(option.name.clone())
                    .or_insert_with(|| (value.clone(), Origin::Environment));
            }
        }
        let schema = self.schema;
        for former in schema.formers() {
            let upper = former.name.to_uppercase();
            let value = env
                .get(&format!("DCOS_{upper}"))
                .or_else(|| env.get(&format!("MESOS_{upper}")));
            // Units leave variables empty that they do not need.
            let Some(value) = value.filter(|value| !value.is_empty()) else {
                continue;
            };
            if let Some(Some(option)) = self.former(former.name, Some(value), Origin::Environment) {
                self.given
                    .entry(option.to_owned())
                    .or_insert_with(|| (value.clone(), Origin::Environment));
            }
        }
    }

    /// Judges a former name: the option it stands for, if there is one; `None` if it is no former name.
    #[expect(
        clippy::option_option,
        reason = "no former name; one that stands for nothing; one that stands for an option"
    )]
    fn former(
        &mut self,
        name: &str,
        value: Option<&str>,
        origin: Origin,
    ) -> Option<Option<&'static str>> {
        let find = |name: &str| self.schema.formers().find(|former| former.name == name);
        let (former, value) = if let Some(former) = find(name) {
            (former, value.unwrap_or("true"))
        } else {
            // `--no-name`
            let name = name.strip_prefix("no_").filter(|_| value.is_none())?;
            (find(name)?, "false")
        };
        match former.judge(value) {
            Verdict::Means(option) => return Some(Some(option)),
            Verdict::Silent => {}
            Verdict::Told(why) => self.notices.push(Notice {
                key: name.to_owned(),
                origin,
                why,
            }),
            Verdict::Refused(problem) => self.mistake(name, Some(origin), &problem),
        }
        Some(None)
    }

    fn file(&mut self, path: &str) {
        let path = path.strip_prefix("file://").unwrap_or(path);
        let document = match fs::read_to_string(path) {
            Ok(text) => parse_document(&text),
            Err(error) => Err(format!("cannot read {path}: {error}")),
        };
        match document {
            Ok(table) => self.table(None, table),
            Err(problem) => self.mistake("config", Some(Origin::File), &problem),
        }
    }

    fn table(&mut self, section: Option<&str>, table: serde_json::Map<String, Json>) {
        for (key, value) in table {
            let mut name = match section {
                Some(section) => format!("{section}_{key}"),
                None => key.clone(),
            };
            let text = file_text(Kind::Json, &value);
            match self.former(&name, text.as_deref(), Origin::File) {
                Some(Some(option)) => option.clone_into(&mut name),
                Some(None) => continue,
                None => {}
            }
            match (self.kind(&name), value) {
                (Some(kind), value) => match file_text(kind, &value) {
                    Some(text) => {
                        self.given.entry(name).or_insert((text, Origin::File));
                    }
                    None => self.mistake(
                        &name,
                        Some(Origin::File),
                        &format!("expected {}, got a table or array", kind.placeholder()),
                    ),
                },
                (None, Json::Object(inner)) if section.is_none() && self.is_section(&key) => {
                    self.table(Some(&key), inner);
                }
                (None, _) => self.unknown(&name, Origin::File),
            }
        }
    }

    fn finish(mut self, rest: Vec<String>) -> Result<Values, Mistakes> {
        let mut entries = BTreeMap::new();
        for Declared { name, spec } in self.declared.clone() {
            let default = spec.default.map(|text| (text.to_owned(), Origin::Default));
            let Some((text, origin)) = self.given.remove(&name).or(default) else {
                if spec.required {
                    self.mistake(&name, None, "is required");
                }
                continue;
            };
            let checked =
                resolve(spec.kind, &text).and_then(|resolved| parse(spec.kind, &resolved));
            match checked {
                Ok(parsed) => {
                    entries.insert(
                        name,
                        Entry {
                            spec,
                            text,
                            parsed,
                            origin,
                        },
                    );
                }
                Err(problem) => {
                    assert!(
                        origin != Origin::Default,
                        "option `{name}` has a default that is wrong: {problem}"
                    );
                    self.mistake(&name, Some(origin), &problem);
                }
            }
        }
        if !self.mistakes.is_empty() {
            return Err(Mistakes(self.mistakes));
        }
        let names = self
            .declared
            .into_iter()
            .map(|option| option.name)
            .collect();
        Ok(Values {
            names,
            entries,
            rest,
            notices: self.notices,
        })
    }

    fn kind(&self, name: &str) -> Option<Kind> {
        self.declared
            .iter()
            .find(|option| option.name == name)
            .map(|option| option.spec.kind)
    }

    fn is_section(&self, name: &str) -> bool {
        self.schema
            .sections
            .iter()
            .any(|section| section.name == Some(name))
    }

    fn unknown(&mut self, name: &str, origin: Origin) {
        let nearest = self
            .declared
            .iter()
            .map(|option| (distance(name, &option.name), &option.name))
            .min()
            .filter(|(distance, _)| *distance <= 1 + name.len() / 4);
        let problem = match nearest {
            Some((_, nearest)) => format!("is unknown; did you mean `{nearest}`?"),
            None => "is unknown".to_owned(),
        };
        self.mistake(name, Some(origin), &problem);
    }

    fn mistake(&mut self, key: &str, origin: Option<Origin>, problem: &str) {
        self.mistakes.push(Mistake {
            key: key.to_owned(),
            origin,
            problem: problem.to_owned(),
        });
    }
}

/// Reads a TOML or JSON document with a table at its top.
fn parse_document(text: &str) -> Result<serde_json::Map<String, Json>, String> {
    let parsed = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))
    } else {
        toml::from_str(text).map_err(|error| format!("is not TOML: {error}"))
    };
    match parsed? {
        Json::Object(table) => Ok(table),
        _ => Err("expected a table at the top".to_owned()),
    }
}

/// A file's value spelled as a flag's value; `None` if its shape does not suit the kind.
fn file_text(kind: Kind, value: &Json) -> Option<String> {
    match (kind, value) {
        // A text may hold a JSON document, or name a file that does.
        (_, Json::String(text)) => Some(text.clone()),
        (Kind::List, Json::Array(items)) => {
            let items: Option<Vec<&str>> = items.iter().map(Json::as_str).collect();
            items.map(|items| items.join(","))
        }
        (_, Json::Bool(_) | Json::Number(_)) | (Kind::Json | Kind::Text, _) => {
            Some(value.to_string())
        }
        _ => None,
    }
}

/// Replaces `file:///path` by what that file says, and the path of a file with JSON by its content.
fn resolve(kind: Kind, text: &str) -> Result<String, String> {
    let bare = || Some(text).filter(|text| kind == Kind::Json && text.starts_with('/'));
    match text.strip_prefix("file://").or_else(bare) {
        Some(path) if kind != Kind::Path => {
            read_value(Path::new(path)).map_err(|error| format!("cannot read {path}: {error}"))
        }
        _ => Ok(text.to_owned()),
    }
}

fn read_value(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map(|text| text.trim_end_matches(['\n', '\r']).to_owned())
}

/// How many letters must be added, removed or replaced to turn one word into the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[other.len()]
}
