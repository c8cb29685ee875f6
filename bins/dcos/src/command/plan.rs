//! `dcos plan`: what a change of services would do, before it is made.

use serde_json::Value;

use super::{Context, items, marathon, text};
use crate::output;

pub(crate) async fn run(context: &Context, file: Option<&str>) -> anyhow::Result<()> {
    let definition = marathon::definition(file).await?;
    let marathon = context.marathon().await?;
    let plan = marathon.send("POST", "/v2/plan", Some(&definition)).await?;
    if context.json {
        output::json(&plan);
    } else if context.quiet {
        output::lines(
            items(&plan, "changes")
                .iter()
                .map(|change| text(change, "id")),
        );
    } else {
        output::lines(describe(&plan).into_iter());
    }
    Ok(())
}

/// A line for each service, below it one for each field that changes, then the steps.
fn describe(plan: &Value) -> Vec<String> {
    let changes = items(plan, "changes");
    if changes.is_empty() {
        return vec!["nothing would change".to_owned()];
    }
    let mut lines = Vec::new();
    for change in changes {
        lines.push(headline(change));
        for field in items(change, "fields") {
            let path = text(field, "path")
                .trim_start_matches('/')
                .replace('/', ".");
            let (from, to) = (&field["from"], &field["to"]);
            lines.push(format!("    {path}: {} -> {}", shown(from), shown(to)));
        }
    }
    lines.push(String::new());
    for (at, step) in items(plan, "steps").iter().enumerate() {
        let actions = items(step, "actions").iter().map(|action| {
            let what = if action["pod"].is_string() {
                "pod"
            } else {
                "app"
            };
            format!("{} {}", text(action, "action"), text(action, what))
        });
        let actions: Vec<_> = actions.collect();
        lines.push(format!("step {}: {}", at + 1, actions.join(", ")));
    }
    lines
}

fn headline(change: &Value) -> String {
    let (from, to) = (
        text(&change["instances"], "from"),
        text(&change["instances"], "to"),
    );
    let id = text(change, "id");
    match change["change"].as_str() {
        Some("create") => format!("+ {id}: new, {to} instances"),
        Some("remove") => format!("- {id}: removed, {from} instances end"),
        Some("restart") => format!("~ {id}: all {from} instances are replaced, {to} in the end"),
        _ => format!("~ {id}: from {from} to {to} instances"),
    }
}

/// A value as JSON, or a dash where there is none.
fn shown(value: &Value) -> String {
    if value.is_null() {
        "-".to_owned()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_plan_reads_like_a_difference() {
        let plan = json!({
            "changes": [
                {"id": "/new", "change": "create", "instances": {"from": 0, "to": 2}, "fields": []},
                {"id": "/web", "change": "restart", "instances": {"from": 3, "to": 3},
                    "fields": [{"path": "/env/A", "from": null, "to": "b"}]},
            ],
            "steps": [{"actions": [{"action": "StartApplication", "app": "/new"}]}],
        });
        let lines = [
            "+ /new: new, 2 instances",
            "~ /web: all 3 instances are replaced, 3 in the end",
            "    env.A: - -> \"b\"",
            "",
            "step 1: StartApplication /new",
        ];
        assert_eq!(describe(&plan), lines);
        let nothing = describe(&json!({"changes": [], "steps": []}));
        assert_eq!(nothing, ["nothing would change"]);
    }
}
