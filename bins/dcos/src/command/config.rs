//! `dcos config`: the properties of the attached cluster, by the names the DC/OS CLI has for them.

use anyhow::bail;
use toml::{Table, Value};

use super::Context;
use crate::cli;
use crate::cluster::{self, Config};
use crate::output;

/// The one that is not shown unless it is named.
const TOKEN: &str = "core.dcos_acs_token";
/// Those a cluster can't be without.
const NEEDED: [&str; 2] = ["cluster.name", "core.mesos_master_url"];
/// The others.
const FREE: [&str; 5] = [
    TOKEN,
    "core.dcos_url",
    "marathon.url",
    "mesos_dns.url",
    "metronome.url",
];

pub(crate) fn run(context: &Context, command: cli::Config) -> anyhow::Result<()> {
    let mut attached = context.attached()?;
    let mut table = Table::try_from(&attached.config)?;
    match command {
        cli::Config::Show { name: None } => {
            show(context, &table);
            return Ok(());
        }
        cli::Config::Show { name: Some(name) } => {
            let Some(Value::String(value)) = slot(&mut table, &name)?.remove(last(&name)) else {
                bail!("{name} is not set");
            };
            output::line(value);
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
            if NEEDED.contains(&name.as_str()) {
                bail!("a cluster can't be without {name}");
            }
            slot(&mut table, &name)?.remove(last(&name));
        }
    }
    table.retain(|_, group| group.as_table().is_none_or(|group| !group.is_empty()));
    attached.config = table.try_into::<Config>()?;
    cluster::save(&context.home, &attached.id, &attached.config)
}

fn show(context: &Context, table: &Table) {
    let mut rows = Vec::new();
    for (group, values) in table {
        for (name, value) in values.as_table().into_iter().flatten() {
            let name = format!("{group}.{name}");
            let value = if name == TOKEN {
                "********"
            } else {
                value.as_str().unwrap_or_default()
            };
            rows.push((name, value.to_owned()));
        }
    }
    if context.json {
        let rows = rows.into_iter().map(|(name, value)| (name, value.into()));
        output::json(&serde_json::Value::Object(rows.collect()));
    } else {
        let rows = rows.into_iter().map(|(name, value)| vec![name, value]);
        output::table(&["NAME", "VALUE"], rows);
    }
}

/// The group of properties in which `name` is.
fn slot<'a>(table: &'a mut Table, name: &str) -> anyhow::Result<&'a mut Table> {
    if !NEEDED.contains(&name) && !FREE.contains(&name) {
        let all = [&NEEDED[..], &FREE[..]].concat().join(", ");
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
