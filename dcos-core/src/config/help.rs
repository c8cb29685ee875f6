//! The text of `--help`, generated from the table of options.

use std::fmt::Write as _;

use super::schema::{Schema, Spec};

/// Where an option's explanation starts.
const INDENT: usize = 6;
/// The widest line.
const WIDTH: usize = 96;

impl Schema {
    /// The text of `--help`.
    ///
    /// # Panics
    /// If an option is declared twice.
    pub fn help(&self) -> String {
        let mut text = format!(
            "{}: {}\n\nUsage: {} [--name=value ...]\n",
            self.program, self.about, self.program
        );
        for section in &self.sections {
            match section.name {
                Some(name) => _ = writeln!(text, "\n[{name}]"),
                None => text.push('\n'),
            }
            for spec in section.specs {
                let prefix = section
                    .name
                    .map(|name| format!("{name}_"))
                    .unwrap_or_default();
                describe(&mut text, &prefix, spec);
            }
        }
        text.push_str(COMMON);
        text
    }
}

const COMMON: &str = "
  --config=PATH
      Read options from this TOML or JSON file. Flags and environment win over it.
  --check-config
      Check the configuration, report every mistake, and exit.
  --version
      Print the version and exit.
  --help
      Print this and exit.

Each option may also be given as DCOS_<NAME> or MESOS_<NAME> in the environment. A value
file:///path stands for the content of that file.
";

fn describe(text: &mut String, prefix: &str, spec: &Spec) {
    _ = write!(
        text,
        "  --{prefix}{}={}",
        spec.name,
        spec.kind.placeholder()
    );
    match spec.default {
        Some(default) if !default.is_empty() => _ = write!(text, " (default: {default})"),
        _ if spec.required => text.push_str(" (required)"),
        _ => {}
    }
    text.push('\n');
    let mut column = 0;
    for word in spec.help.split_whitespace() {
        if column > 0 && column + 1 + word.len() > WIDTH {
            text.push('\n');
            column = 0;
        }
        if column == 0 {
            text.push_str(&" ".repeat(INDENT));
            column = INDENT;
        } else {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += word.len();
    }
    if column > 0 {
        text.push('\n');
    }
}
