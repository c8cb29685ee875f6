//! Checked values and their typed getters.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value as Json;

use super::former::Notice;
use super::schema::{Kind, Spec};
use crate::units::{parse_bytes, parse_duration, parse_percent};

/// Where a value was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// On the command line.
    Flag,
    /// In the environment.
    Environment,
    /// In the configuration file.
    File,
    /// Nowhere; it is the option's default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::File => "file",
            Self::Default => "default",
        })
    }
}

/// A value that has passed its kind's check.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Parsed {
    Text(String),
    Switch(bool),
    Integer(i64),
    Number(f64),
    Duration(Duration),
    Bytes(u64),
    Path(PathBuf),
    List(Vec<String>),
    Json(Json),
}

/// Checks `text` against `kind`; the error says what is wrong, without the key.
pub(crate) fn parse(kind: Kind, text: &str) -> Result<Parsed, String> {
    let unit = |error: crate::units::UnitError| error.to_string();
    match kind {
        Kind::Text => Ok(Parsed::Text(text.to_owned())),
        Kind::Switch => match text {
            "true" | "1" => Ok(Parsed::Switch(true)),
            "false" | "0" => Ok(Parsed::Switch(false)),
            _ => Err(format!("expected `true` or `false`, got `{text}`")),
        },
        Kind::Integer { min, max } => text
            .parse()
            .ok()
            .filter(|number| (min..=max).contains(number))
            .map(Parsed::Integer)
            .ok_or_else(|| format!("expected a whole number from {min} to {max}, got `{text}`")),
        Kind::Number => text
            .parse()
            .ok()
            .filter(|number: &f64| number.is_finite())
            .map(Parsed::Number)
            .ok_or_else(|| format!("expected a number, got `{text}`")),
        Kind::Duration => parse_duration(text).map(Parsed::Duration).map_err(unit),
        Kind::Bytes => parse_bytes(text).map(Parsed::Bytes).map_err(unit),
        Kind::Percent => parse_percent(text).map(Parsed::Number).map_err(unit),
        Kind::Path => {
            let path = text.strip_prefix("file://").unwrap_or(text);
            if path.is_empty() {
                return Err("expected a path, got nothing".to_owned());
            }
            Ok(Parsed::Path(path.into()))
        }
        Kind::List => Ok(Parsed::List(
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(Into::into)
                .collect(),
        )),
        Kind::Choice(words) => {
            if words.contains(&text) {
                return Ok(Parsed::Text(text.to_owned()));
            }
            Err(format!(
                "expected one of {}, got `{text}`",
                words.join(", ")
            ))
        }
        Kind::Json => serde_json::from_str(text)
            .map(Parsed::Json)
            .map_err(|error| format!("expected a JSON document: {error}")),
    }
}

/// What is shown in place of a secret.
const MASK: &str = "******";

/// Masks `password` wherever there is `scheme://user:password@`. A password may hold anything but `/`, as for those who
/// read such an URL; what stands before a later `@` is masked with it.
fn without_passwords(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((scheme, after)) = rest.split_once("://") {
        shown.extend([scheme, "://"]);
        let end = after.find('/');
        let authority = &after[..end.unwrap_or(after.len())];
        rest = after;
        if let Some((user_info, _)) = authority.rsplit_once('@')
            && let Some((user, _)) = user_info.split_once(':')
        {
            shown.extend([user, ":", MASK]);
            rest = &after[user_info.len()..];
        }
    }
    shown.push_str(rest);
    shown
}

/// One option of [`Values`].
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) spec: Spec,
    /// As it was written: the name of a file, not what it holds.
    pub(crate) text: String,
    pub(crate) parsed: Parsed,
    pub(crate) origin: Origin,
}

/// Every option's checked value.
///
/// Getters take the option's full name (`<section>_<name>`). Those without `opt_` are for options
/// that are required or have a default. Asking for an option that is not in the schema, or as
/// another kind, is a mistake in the program and panics.
#[derive(Clone)]
pub struct Values {
    pub(crate) names: Vec<String>,
    pub(crate) entries: BTreeMap<String, Entry>,
    pub(crate) rest: Vec<String>,
    pub(crate) notices: Vec<Notice>,
}

macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident / $opt:ident: $variant:ident => $type:ty = $convert:expr;)+) => {
        $(
            $(#[$doc])*
            ///
            /// # Panics
            /// If the option has no value, is not in the schema, or is of another kind.
            pub fn $name(&self, option: &str) -> $type {
                self.$opt(option).unwrap_or_else(|| panic!("option `{option}` has no value"))
            }

            #[doc = concat!("Like [`Values::", stringify!($name), "`], for options that may be unset.")]
            ///
            /// # Panics
            /// If the option is not in the schema or is of another kind.
            pub fn $opt(&self, option: &str) -> Option<$type> {
                match &self.entry(option)?.parsed {
                    Parsed::$variant(value) => {
                        let convert: fn(&_) -> $type = $convert;
                        Some(convert(value))
                    }
                    other => panic!("option `{option}` is {other:?}"),
                }
            }
        )+
    };
}

impl Values {
    getters! {
        /// A text or a choice.
        text / opt_text: Text => String = Clone::clone;
        /// A switch.
        switch / opt_switch: Switch => bool = |value| *value;
        /// A whole number.
        integer / opt_integer: Integer => i64 = |value| *value;
        /// A number, or a percentage as a fraction.
        number / opt_number: Number => f64 = |value| *value;
        /// A duration.
        duration / opt_duration: Duration => Duration = |value| *value;
        /// A size in bytes.
        bytes / opt_bytes: Bytes => u64 = |value| *value;
        /// A path.
        path / opt_path: Path => PathBuf = |value: &PathBuf| Path::to_path_buf(value);
        /// A list.
        list / opt_list: List => Vec<String> = Clone::clone;
        /// A JSON document.
        json / opt_json: Json => Json = Clone::clone;
    }

    /// A whole number as a port.
    ///
    /// # Panics
    /// As [`Values::integer`], and if the option's bounds exceed a port's.
    pub fn port(&self, option: &str) -> u16 {
        u16::try_from(self.integer(option)).expect("the option's bounds are those of a port")
    }

    /// A whole number as a count.
    ///
    /// # Panics
    /// As [`Values::integer`], and if the option's lower bound is negative.
    pub fn count(&self, option: &str) -> usize {
        usize::try_from(self.integer(option)).expect("the option's lower bound is not negative")
    }

    /// Where the option's value was written; `None` if it has none.
    ///
    /// # Panics
    /// If the option is not in the schema.
    pub fn origin(&self, option: &str) -> Option<Origin> {
        self.entry(option).map(|entry| entry.origin)
    }

    /// Every option that has a value, as text; what `/flags` serves. Secrets and the passwords in URLs
    /// are masked, and of a value in a file the file's name is shown.
    pub fn flags(&self) -> BTreeMap<String, String> {
        let shown = |entry: &Entry| {
            if entry.spec.secret {
                return MASK.to_owned();
            }
            without_passwords(&entry.text)
        };
        self.entries
            .iter()
            .map(|(name, entry)| (name.clone(), shown(entry)))
            .collect()
    }

    /// Former names that were given and change nothing, for the program to tell of.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// What stood after `--` on the command line.
    pub fn rest(&self) -> &[String] {
        &self.rest
    }

    fn entry(&self, option: &str) -> Option<&Entry> {
        assert!(
            self.names.iter().any(|name| name == option),
            "option `{option}` is not in the schema"
        );
        self.entries.get(option)
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.flags()).finish()
    }
}
