//! `dcos config`: the properties of the attached cluster, by the names the DC/OS CLI has for them.

use anyhow::bail;
use toml::{Table, Value};

use super::Context;
use crate::cli;
use crate::cluster::{self, MASTER, NAME, PROPERTIES, TOKEN};
use crate::output::{self, HIDDEN, harmless};

pub(crate) fn run(context: &Context, command: cli::Config) -> anyhow::Result<()> {
    if matches!(command, cli::Config::Keys) {
        keys(context);
        return Ok(());
    }
    let attached = context.attached()?;
    let mut table = cluster::properties(&context.home, &attached.id)?;
    match command {
        cli::Config::Keys => return Ok(()),
        cli::Config::Show { name: None } => {
            show(context, &table);
            return Ok(());
        }
        cli::Config::Show { name: Some(name) } => {
            let halves = name.split_once('.');
            let Some(value) = halves.and_then(|(group, name)| table.get(group)?.get(name)) else {
                // What is unknown may be a mistake.
                slot(&mut table, &name)?;
                bail!("{name} is not set");
            };
            output::line(text(value));
            return Ok(());
        }
        cli::Config::Set { name, value } => {
            let value = value.trim().to_owned();
            if value.is_empty() {
                bail!("a property has a value; see `dcos config unset`");
            }
            slot(&mut table, &name)?.insert(last(&name).to_owned(), Value::String(value));
        }
        cli::Config::Unset { name } => {
            if [NAME, MASTER].contains(&name.as_str()) {
                bail!("a cluster can't be without {name}");
            }
            slot(&mut table, &name)?.remove(last(&name));
        }
    }
    cluster::save(&context.home, &attached.id, table)
}

/// The properties there are.
fn keys(context: &Context) {
    if context.json {
        let all = PROPERTIES.iter();
        let all = all.map(|(name, what)| ((*name).to_owned(), (*what).into()));
        output::json(&serde_json::Value::Object(all.collect()));
    } else if context.quiet {
        output::lines(PROPERTIES.iter().map(|(name, _)| (*name).to_owned()));
    } else {
        let rows = PROPERTIES.iter();
        let rows = rows.map(|(name, what)| vec![(*name).to_owned(), (*what).to_owned()]);
        output::table(&["NAME", "WHAT IT IS"], rows);
    }
}

/// A value, whatever kind it is of.
fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn show(context: &Context, table: &Table) {
    let mut rows = Vec::new();
    for (group, values) in table {
        for (name, value) in values.as_table().into_iter().flatten() {
            let name = format!("{group}.{name}");
            let value = if name == TOKEN {
                HIDDEN.to_owned()
            } else {
                harmless(&text(value))
            };
            rows.push((name, value));
        }
    }
    if context.json {
        let rows = rows.into_iter().map(|(name, value)| (name, value.into()));
        output::json(&serde_json::Value::Object(rows.collect()));
    } else if context.quiet {
        output::lines(rows.into_iter().map(|(name, _)| name));
    } else {
        let rows = rows.into_iter().map(|(name, value)| vec![name, value]);
        output::table(&["NAME", "VALUE"], rows);
    }
}

/// The group of properties in which `name` is.
fn slot<'a>(table: &'a mut Table, name: &str) -> anyhow::Result<&'a mut Table> {
    if !PROPERTIES.iter().any(|(known, _)| *known == name) {
        let all: Vec<&str> = PROPERTIES.iter().map(|(known, _)| *known).collect();
        let all = all.join(", ");
        bail!("there is no property {name:?}; there are {all}");
    }
    let group = name.split('.').next().unwrap_or_default();
    let empty = || Value::Table(Table::new());
    match table.entry(group).or_insert_with(empty) {
        Value::Table(group) => Ok(group),
        _ => bail!("{group} is no group of properties"),
    }
}

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or_default()
}
