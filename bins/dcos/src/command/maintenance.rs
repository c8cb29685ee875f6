//! `dcos node maintenance`: planned absences of machines.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::{Context, duration, items, text};
use crate::cli::Maintenance;
use crate::http::Server;
use crate::output;

pub(crate) async fn run(context: &Context, command: Maintenance) -> anyhow::Result<()> {
    let master = context.master().await?;
    match command {
        Maintenance::Schedule => show_schedule(context, &master).await,
        Maintenance::Status => show_status(context, &master).await,
        Maintenance::Add {
            machines,
            start_in,
            duration: length,
        } => add(&master, &machines, &start_in, length.as_deref()).await,
        Maintenance::Remove { machines } => remove(&master, &machines).await,
        Maintenance::Down { machines } => {
            let machines = ids(&machines)?;
            master
                .send("POST", "/machine/down", Some(&machines))
                .await?;
            Ok(())
        }
        Maintenance::Up { machines } => {
            let machines = ids(&machines)?;
            master.send("POST", "/machine/up", Some(&machines)).await?;
            Ok(())
        }
    }
}

/// Machines written as `hostname/ip`; either may be missing.
fn ids(machines: &[String]) -> anyhow::Result<Value> {
    machines.iter().map(|machine| id(machine)).collect()
}

fn id(machine: &str) -> anyhow::Result<Value> {
    let (hostname, ip) = machine.split_once('/').unwrap_or((machine, ""));
    if hostname.is_empty() && ip.is_empty() {
        bail!("{machine:?} is no machine such as node1/10.0.0.1");
    }
    Ok(json!({"hostname": hostname, "ip": ip}))
}

fn shown(id: &Value) -> String {
    format!("{}/{}", text(id, "hostname"), text(id, "ip"))
}

async fn show_schedule(context: &Context, master: &Server) -> anyhow::Result<()> {
    let schedule = master.get("/maintenance/schedule").await?;
    if context.json {
        output::json(&schedule);
        return Ok(());
    }
    let windows = items(&schedule, "windows");
    let rows = windows.iter().flat_map(|window| {
        let absence = &window["unavailability"];
        let machines = items(window, "machine_ids").iter();
        machines
            .map(|machine| {
                vec![
                    shown(machine),
                    seconds(&absence["start"]),
                    seconds(&absence["duration"]),
                ]
            })
            .collect::<Vec<_>>()
    });
    show(
        context,
        &["MACHINE", "START (UNIX SECONDS)", "SECONDS"],
        rows,
    );
    Ok(())
}

/// A row for each machine, or only which they are.
fn show(context: &Context, headings: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    if context.quiet {
        output::lines(rows.filter_map(|row| row.into_iter().next()));
    } else {
        output::table(headings, rows);
    }
}

fn seconds(time: &Value) -> String {
    let nanoseconds = time["nanoseconds"].as_i64();
    nanoseconds.map_or_else(
        || "open".to_owned(),
        |nanoseconds| (nanoseconds / 1_000_000_000).to_string(),
    )
}

async fn show_status(context: &Context, master: &Server) -> anyhow::Result<()> {
    let status = master.get("/maintenance/status").await?;
    if context.json {
        output::json(&status);
        return Ok(());
    }
    let draining = items(&status, "draining_machines").iter().map(|machine| {
        let answers = items(machine, "statuses").iter().map(|answer| {
            let framework = text(&answer["framework_id"], "value");
            format!("{framework}: {}", text(answer, "status"))
        });
        let answers: Vec<String> = answers.collect();
        vec![
            shown(&machine["id"]),
            "DRAINING".to_owned(),
            answers.join(", "),
        ]
    });
    let down = items(&status, "down_machines").iter();
    let down = down.map(|machine| vec![shown(machine), "DOWN".to_owned(), String::new()]);
    show(
        context,
        &["MACHINE", "MODE", "ANSWERS"],
        draining.chain(down),
    );
    Ok(())
}

async fn add(
    master: &Server,
    machines: &[String],
    start_in: &str,
    length: Option<&str>,
) -> anyhow::Result<()> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock stands before 1970")?;
    let start = i64::try_from((now + duration(start_in)?).as_nanos())?;
    let mut absence = json!({"start": {"nanoseconds": start}});
    if let Some(length) = length {
        let length = i64::try_from(duration(length)?.as_nanos())?;
        absence["duration"] = json!({ "nanoseconds": length });
    }
    let mut schedule = master.get("/maintenance/schedule").await?;
    let mut windows = items(&schedule, "windows").to_vec();
    windows.push(json!({"machine_ids": ids(machines)?, "unavailability": absence}));
    schedule["windows"] = windows.into();
    replace(master, &schedule).await
}

async fn remove(master: &Server, machines: &[String]) -> anyhow::Result<()> {
    let mut schedule = master.get("/maintenance/schedule").await?;
    let mut windows = items(&schedule, "windows").to_vec();
    for window in &mut windows {
        if let Some(ids) = window["machine_ids"].as_array_mut() {
            ids.retain(|id| !machines.contains(&shown(id)));
        }
    }
    windows.retain(|window| !items(window, "machine_ids").is_empty());
    schedule["windows"] = windows.into();
    replace(master, &schedule).await
}

async fn replace(master: &Server, schedule: &Value) -> anyhow::Result<()> {
    master
        .send("POST", "/maintenance/schedule", Some(schedule))
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_written_as_they_are_shown() {
        for machine in ["node1/10.0.0.1", "node1/", "/10.0.0.1"] {
            assert_eq!(shown(&id(machine).unwrap()), machine);
        }
        assert_eq!(shown(&id("node1").unwrap()), "node1/");
        assert!(id("/").is_err());
    }

    #[test]
    fn times_are_short_or_as_mesos_writes_them() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1h", 3600), ("2mins", 120)] {
            assert_eq!(duration(text).unwrap().as_secs(), seconds);
        }
        assert!(duration("soon").is_err());
    }
}
