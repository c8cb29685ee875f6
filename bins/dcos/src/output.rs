//! What people and machines read: tables and progress on a terminal, JSON if asked for.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, Table};
use indicatif::{ProgressBar, ProgressStyle};

/// Prints a line to standard output; that nobody reads it keeps nothing from being done.
pub(crate) fn line(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stdout(), "{}", text.as_ref());
}

/// Ends a program that shows something where nobody reads on: well where the reader has enough, as `head` has.
fn heard(written: std::io::Result<()>) {
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            let _ = writeln!(
                std::io::stderr(),
                "error: writing to standard output: {error}"
            );
            std::process::exit(1);
        }
    }
}

/// Prints each of `texts` on a line of its own.
pub(crate) fn lines(texts: impl Iterator<Item = String>) {
    for text in texts {
        heard(writeln!(std::io::stdout(), "{text}"));
    }
}

/// Writes bytes to standard output as they are.
pub(crate) fn raw(bytes: &[u8]) {
    let mut out = std::io::stdout();
    heard(out.write_all(bytes).and_then(|()| out.flush()));
}

/// Prints a JSON document.
pub(crate) fn json(value: &serde_json::Value) {
    line(serde_json::to_string_pretty(value).unwrap_or_default());
}

/// What is shown in place of what is not for everybody's eyes.
pub(crate) const HIDDEN: &str = "********";

/// A URL, or whatever it is, as it may be seen in passing: without a password.
pub(crate) fn harmless(value: &str) -> String {
    let (scheme, rest) = value.split_at(value.find("://").map_or(0, |at| at + 3));
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let Some((user, _)) = authority.rsplit_once('@') else {
        return value.to_owned();
    };
    if scheme.is_empty() && !user.contains(':') {
        // Somebody's address.
        return value.to_owned();
    }
    let name = user.split(':').next().unwrap_or_default();
    format!("{scheme}{name}:{HIDDEN}{}", &rest[user.len()..])
}

/// Prints a table: a row of headings and the rows below.
pub(crate) fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    let mut table = Table::new();
    table.load_style(NOTHING);
    let bold = std::io::stdout().is_terminal();
    table.set_header(headings.iter().map(|heading| {
        let cell = Cell::new(heading);
        if bold {
            cell.add_attribute(Attribute::Bold)
        } else {
            cell
        }
    }));
    for row in rows {
        table.add_row(row);
    }
    heard(writeln!(std::io::stdout(), "{}", table.trim_fmt()));
}

/// Prints an error and what caused it.
pub(crate) fn error(error: &anyhow::Error) {
    let (red, plain) = if std::io::stderr().is_terminal() {
        ("\x1b[31m", "\x1b[0m")
    } else {
        ("", "")
    };
    let _ = writeln!(std::io::stderr(), "{red}error:{plain} {error:#}");
}

/// Prints a line to standard error.
pub(crate) fn notice(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr(), "{}", text.as_ref());
}

/// Says what is going on, on standard error: a spinner on a terminal, lines elsewhere.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    terminal: bool,
    last: String,
}

impl Progress {
    pub(crate) fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal && !quiet {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(80));
        Self {
            bar,
            terminal: terminal || quiet,
            last: String::new(),
        }
    }

    /// What is being done now.
    pub(crate) fn say(&mut self, text: impl Into<String>) {
        let text = text.into();
        self.count(&text.clone(), text);
    }

    /// The same; where there is no terminal, what merely counts is no news: it is told if `what` is.
    pub(crate) fn count(&mut self, text: &str, what: String) {
        self.bar.set_message(text.to_owned());
        if !self.terminal && what != self.last {
            notice(text);
        }
        self.last = what;
    }

    /// Done; the spinner goes.
    pub(crate) fn done(self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_seen_in_passing() {
        for (value, shown) in [
            (
                "http://user:secret@host:8080/x",
                "http://user:********@host:8080/x",
            ),
            ("http://user:s@cret@host", "http://user:********@host"),
            ("http://host/a@b", "http://host/a@b"),
            (
                "zk://u:p@a:2181,b:2181/mesos",
                "zk://u:********@a:2181,b:2181/mesos",
            ),
            // As a host and port may be set.
            ("user:secret@host:8080", "user:********@host:8080"),
            ("user@host", "user@host"),
            ("local", "local"),
        ] {
            assert_eq!(harmless(value), shown);
        }
    }
}
