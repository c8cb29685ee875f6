//! `dcos task metrics`: what a task's container uses, as its agent measures it.

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{container_id, found};
use crate::cli::TaskMetrics;
use crate::command::{Context, items};
use crate::output;

/// Bytes in a gibibyte.
const GIB: f64 = 1_073_741_824.0;

pub(super) async fn run(context: &Context, command: TaskMetrics) -> anyhow::Result<()> {
    let (TaskMetrics::Details { task } | TaskMetrics::Summary { task }) = &command;
    let figures = figures(context, task).await?;
    if context.json {
        output::json(&figures);
        return Ok(());
    }
    match command {
        TaskMetrics::Details { .. } => {
            let figures = figures.as_object().into_iter().flatten();
            let rows = figures.map(|(name, value)| vec![name.clone(), value.to_string()]);
            output::table(&["NAME", "VALUE"], rows);
        }
        TaskMetrics::Summary { .. } => {
            output::table(&["CPU", "MEM", "DISK"], [summary(&figures)]);
        }
    }
    Ok(())
}

/// The statistics of the container that a task is in.
async fn figures(context: &Context, task: &str) -> anyhow::Result<Value> {
    let found = found(context, task, false).await?;
    let container = found.container()?;
    let call = json!({"type": "GET_CONTAINERS", "get_containers": {"show_nested": true}});
    let mut answer = found.agent.send("POST", "/api/v1", Some(&call)).await?;
    let containers = answer["get_containers"].take();
    let own = items(&containers, "containers")
        .iter()
        .find(|known| container_id(&known["container_id"]) == container);
    let own = own.with_context(|| format!("the agent knows no container of {task}"))?;
    Ok(own["resource_statistics"].clone())
}

fn summary(figures: &Value) -> Vec<String> {
    let number = |key: &str| figures[key].as_f64();
    let cpu = number("cpus_user_time_secs").unwrap_or(0.0)
        + number("cpus_system_time_secs").unwrap_or(0.0);
    vec![
        format!("{cpu:.2}s"),
        share(number("mem_total_bytes"), number("mem_limit_bytes")),
        share(number("disk_used_bytes"), number("disk_limit_bytes")),
    ]
}

/// Bytes used, and how much of the limit that is.
fn share(used: Option<f64>, limit: Option<f64>) -> String {
    match (used, limit.filter(|limit| *limit > 0.0)) {
        (None, _) => "N/A".to_owned(),
        (Some(used), None) => format!("{:.2}GiB", used / GIB),
        (Some(used), Some(limit)) => {
            format!("{:.2}GiB ({:.2}%)", used / GIB, used / limit * 100.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_shows_what_is_known() {
        let figures = json!({"cpus_user_time_secs": 1.25, "cpus_system_time_secs": 0.25,
            "mem_total_bytes": 536_870_912_u64, "mem_limit_bytes": 1_073_741_824_u64});
        assert_eq!(summary(&figures), ["1.50s", "0.50GiB (50.00%)", "N/A"]);
    }
}
