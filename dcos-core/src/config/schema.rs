//! The table of options: what there is, of which kind, with which default.

use super::former::{Fate, Former};

/// What an option's value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Any text.
    Text,
    /// `true` or `false`.
    Switch,
    /// A whole number between two bounds, both included.
    Integer {
        /// The smallest value.
        min: i64,
        /// The largest value.
        max: i64,
    },
    /// A finite number.
    Number,
    /// A duration such as `10secs`.
    Duration,
    /// A size such as `2GB`.
    Bytes,
    /// A percentage such as `80%`.
    Percent,
    /// A path; a leading `file://` is taken off instead of reading the file.
    Path,
    /// Texts separated by commas; a file may also give an array.
    List,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A JSON document; a file may also give it as a table.
    Json,
}

impl Kind {
    /// The placeholder shown in help.
    pub(crate) fn placeholder(self) -> String {
        match self {
            Self::Text => "TEXT".to_owned(),
            Self::Switch => "true|false".to_owned(),
            Self::Integer { .. } | Self::Number => "NUMBER".to_owned(),
            Self::Duration => "DURATION".to_owned(),
            Self::Bytes => "SIZE".to_owned(),
            Self::Percent => "PERCENT".to_owned(),
            Self::Path => "PATH".to_owned(),
            Self::List => "A,B,...".to_owned(),
            Self::Choice(words) => words.join("|"),
            Self::Json => "JSON".to_owned(),
        }
    }
}

/// One option. Built in `const` context, so that a crate's options are a plain table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: Option<&'static str>,
    pub(crate) required: bool,
    pub(crate) secret: bool,
    pub(crate) help: &'static str,
}

impl Spec {
    /// An option called `name` (small letters, digits, underscores) with values of `kind`.
    pub const fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            default: None,
            required: false,
            secret: false,
            help: "",
        }
    }

    /// Any text.
    pub const fn text(name: &'static str) -> Self {
        Self::new(name, Kind::Text)
    }

    /// A switch, off unless a default says otherwise.
    pub const fn switch(name: &'static str) -> Self {
        Self::new(name, Kind::Switch).default("false")
    }

    /// A whole number from `min` to `max`.
    pub const fn integer(name: &'static str, min: i64, max: i64) -> Self {
        Self::new(name, Kind::Integer { min, max })
    }

    /// A TCP or UDP port; 0 asks the system for one.
    pub const fn port(name: &'static str) -> Self {
        Self::integer(name, 0, 65_535)
    }

    /// A finite number.
    pub const fn number(name: &'static str) -> Self {
        Self::new(name, Kind::Number)
    }

    /// A duration such as `10secs`.
    pub const fn duration(name: &'static str) -> Self {
        Self::new(name, Kind::Duration)
    }

    /// A size such as `2GB`.
    pub const fn bytes(name: &'static str) -> Self {
        Self::new(name, Kind::Bytes)
    }

    /// A percentage such as `80%`.
    pub const fn percent(name: &'static str) -> Self {
        Self::new(name, Kind::Percent)
    }

    /// A path.
    pub const fn path(name: &'static str) -> Self {
        Self::new(name, Kind::Path)
    }

    /// Texts separated by commas.
    pub const fn list(name: &'static str) -> Self {
        Self::new(name, Kind::List)
    }

    /// One of `words`.
    pub const fn choice(name: &'static str, words: &'static [&'static str]) -> Self {
        Self::new(name, Kind::Choice(words))
    }

    /// A JSON document.
    pub const fn json(name: &'static str) -> Self {
        Self::new(name, Kind::Json)
    }

    /// The value if nobody gives one, spelled as a flag's value.
    #[must_use]
    pub const fn default(mut self, value: &'static str) -> Self {
        self.default = Some(value);
        self
    }

    /// Refuses to start without a value.
    #[must_use]
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Keeps the value out of help, `/flags` and debug output.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// What the option does: unit, and what goes wrong at either end.
    #[must_use]
    pub const fn help(mut self, help: &'static str) -> Self {
        self.help = help;
        self
    }
}

/// All options of a program.
#[derive(Debug, Clone)]
pub struct Schema {
    pub(crate) program: &'static str,
    pub(crate) about: &'static str,
    pub(crate) sections: Vec<Section>,
    pub(crate) former: Vec<&'static [Former]>,
}

/// A table of options under a name; the first tables have none.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    pub(crate) name: Option<&'static str>,
    pub(crate) specs: &'static [Spec],
}

/// An option with its full name: `<section>_<name>`.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) spec: Spec,
}

impl Schema {
    /// A program without options of its own.
    pub const fn new(program: &'static str, about: &'static str) -> Self {
        Self {
            program,
            about,
            sections: Vec::new(),
            former: Vec::new(),
        }
    }

    /// The program's name.
    pub const fn program(&self) -> &'static str {
        self.program
    }

    /// Adds options under their own names.
    #[must_use]
    pub fn with(mut self, specs: &'static [Spec]) -> Self {
        self.sections.push(Section { name: None, specs });
        self
    }

    /// Adds options under `<name>_`; in a file they may also stand in the table `[name]`.
    #[must_use]
    pub fn section(mut self, name: &'static str, specs: &'static [Spec]) -> Self {
        self.sections.push(Section {
            name: Some(name),
            specs,
        });
        self
    }

    /// Adds names that are no options any more.
    #[must_use]
    pub fn former(mut self, names: &'static [Former]) -> Self {
        self.former.push(names);
        self
    }

    /// Every former name.
    pub(crate) fn formers(&self) -> impl Iterator<Item = &'static Former> + '_ {
        self.former.iter().copied().flatten()
    }

    /// Every option, in the order of declaration.
    ///
    /// # Panics
    /// If two options share a name, or a former name is an option: tables that cannot live in one
    /// program.
    pub(crate) fn declared(&self) -> Vec<Declared> {
        let mut all: Vec<Declared> = Vec::new();
        for section in &self.sections {
            for spec in section.specs {
                let name = match section.name {
                    Some(section) => format!("{section}_{}", spec.name),
                    None => spec.name.to_owned(),
                };
                assert!(
                    all.iter().all(|other| other.name != name),
                    "option `{name}` is declared twice"
                );
                all.push(Declared { name, spec: *spec });
            }
        }
        for former in self.formers() {
            let known = |name: &str| all.iter().any(|option| option.name == name);
            assert!(
                !known(former.name),
                "`{}` is an option and a former name",
                former.name
            );
            if let Fate::Renamed(now) = former.fate {
                assert!(known(now), "`{}` stands for no option", former.name);
            }
        }
        all
    }
}
