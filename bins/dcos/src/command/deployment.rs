//! Waiting for a deployment, and telling what it waits for.

use std::time::Duration;

use serde_json::Value;

use super::{Context, items, text};
use crate::http::Server;
use crate::output::Progress;

const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Waits until the deployment `id` has ended, and says meanwhile what it does.
pub(crate) async fn wait(context: &Context, marathon: &Server, id: &str) -> anyhow::Result<()> {
    let mut progress = Progress::new(context.quiet || context.json);
    loop {
        let deployments = marathon.get("/v2/deployments").await?;
        let list = deployments
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let Some(deployment) = list.iter().find(|deployment| text(deployment, "id") == id) else {
            progress.done();
            return Ok(());
        };
        let mut doing = describe(deployment);
        if let Some(why) = waiting(marathon, deployment).await? {
            doing = format!("{doing}; {why}");
        }
        progress.say(doing);
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Which step a deployment is at, and what is done in it.
pub(crate) fn describe(deployment: &Value) -> String {
    let actions: Vec<_> = items(deployment, "currentActions")
        .iter()
        .map(|action| {
            let what = if action["pod"].is_string() {
                "pod"
            } else {
                "app"
            };
            format!("{} {}", text(action, "action"), text(action, what))
        })
        .collect();
    let (step, steps) = (
        text(deployment, "currentStep"),
        text(deployment, "totalSteps"),
    );
    format!("step {step} of {steps}: {}", actions.join(", "))
}

/// What the last task of `app` that failed said.
pub(crate) async fn last_failure(marathon: &Server, app: &Value) -> anyhow::Result<Option<String>> {
    let path = format!("/v2/apps/{}", app.as_str().unwrap_or_default());
    let answer = marathon.get(&path).await?;
    let message = answer["app"]["lastTaskFailure"]["message"].as_str();
    Ok(message.map(str::to_owned))
}

/// What the container of `pod` that failed last said.
async fn last_end(marathon: &Server, pod: &Value) -> anyhow::Result<Option<String>> {
    let path = format!("/v2/pods/{}::status", pod.as_str().unwrap_or_default());
    let answer = marathon.get(&path).await?;
    let ends = items(&answer, "terminationHistory");
    Ok(ends.first().map(|end| text(end, "message")))
}

/// Why instances of the deployment's apps are not running yet: failures, or offers that did not
/// fit.
async fn waiting(marathon: &Server, deployment: &Value) -> anyhow::Result<Option<String>> {
    let queue = marathon.get("/v2/queue").await?;
    let affected = |id| {
        let among = |kind| items(deployment, kind).contains(id);
        among("affectedApps") || among("affectedPods")
    };
    for entry in items(&queue, "queue") {
        let pod = entry["pod"].is_object();
        let id = &entry[if pod { "pod" } else { "app" }]["id"];
        if !affected(id) {
            continue;
        }
        if let Some(seconds) = entry["delay"]["timeLeftSeconds"]
            .as_u64()
            .filter(|left| *left > 0)
        {
            let failure = if pod {
                last_end(marathon, id).await?
            } else {
                last_failure(marathon, id).await?
            };
            let failure = failure.map(|message| format!(": {message}"));
            let failure = failure.unwrap_or_default();
            return Ok(Some(format!("failed, tries again in {seconds} s{failure}")));
        }
        if let Some(reasons) = refusals(entry, LAST_OFFERS) {
            return Ok(Some(reasons));
        }
    }
    Ok(None)
}

/// The reasons of the last offer of each agent, of some agents.
const LAST_OFFERS: &str = "rejectSummaryLastOffers";
/// The reasons of all offers.
pub(crate) const ALL_OFFERS: &str = "rejectSummaryLaunchAttempt";

/// Why offers were of no use to an entry of the queue, by the summary of that name; `None` if there was none.
pub(crate) fn refusals(entry: &Value, summary: &str) -> Option<String> {
    let summary = items(&entry["processedOffersSummary"], summary);
    let refused = summary.iter().filter_map(|each| {
        let agents = each["declined"].as_u64().filter(|agents| *agents > 0)?;
        let plural = if agents == 1 { "" } else { "s" };
        let why = in_words(&text(each, "reason"), entry);
        Some(format!("{agents} agent{plural}: {why}"))
    });
    let refused: Vec<_> = refused.collect();
    (!refused.is_empty()).then(|| refused.join(", "))
}

/// A reason Marathon names, for people.
fn in_words(reason: &str, entry: &Value) -> String {
    let words = match reason {
        "UnfulfilledRole" => "offered to another role",
        "UnfulfilledConstraint" => return format!("constraint {}", constraints(entry)),
        "NoCorrespondingReservationFound" => "its volumes are elsewhere",
        "AgentMaintenance" => "under maintenance",
        "InsufficientCpus" => "not enough cpus",
        "InsufficientMemory" => "not enough memory",
        "InsufficientDisk" => "not enough disk",
        "InsufficientGpus" => "not enough gpus",
        "InsufficientPorts" => "its ports are taken",
        "DeclinedScarceResources" => "gpus kept for those who need them",
        other => other,
    };
    words.to_owned()
}

/// The constraints of what waits, as `zone:GROUP_BY:3`.
fn constraints(entry: &Value) -> String {
    let words = |constraint: &Value| -> String {
        let fields = constraint.as_array().map(Vec::as_slice);
        let words: Vec<_> = fields
            .unwrap_or_default()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        words.join(":")
    };
    let of_app = items(&entry["app"], "constraints").iter().map(words);
    let placement = &entry["pod"]["scheduling"]["placement"];
    let of_pod = items(placement, "constraints").iter().map(|each| {
        let fields = ["fieldName", "operator", "value"].map(|key| text(each, key));
        fields.join(":").trim_end_matches(':').to_owned()
    });
    of_app.chain(of_pod).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn refusals_are_told_in_words() {
        let summary = json!({"rejectSummaryLastOffers": [
            {"reason": "UnfulfilledRole", "declined": 0, "processed": 5},
            {"reason": "UnfulfilledConstraint", "declined": 2, "processed": 5},
            {"reason": "InsufficientMemory", "declined": 1, "processed": 3},
        ]});
        let app = json!({"app": {"constraints": [["zone", "GROUP_BY", "3"], ["hostname", "UNIQUE"]]},
            "processedOffersSummary": summary});
        assert_eq!(
            refusals(&app, LAST_OFFERS).unwrap(),
            "2 agents: constraint zone:GROUP_BY:3, hostname:UNIQUE, 1 agent: not enough memory"
        );
        let placement = json!({"constraints": [{"fieldName": "hostname", "operator": "UNIQUE"}]});
        let pod = json!({"pod": {"scheduling": {"placement": placement}}, "processedOffersSummary": summary});
        assert!(
            refusals(&pod, LAST_OFFERS)
                .unwrap()
                .starts_with("2 agents: constraint hostname:UNIQUE, ")
        );
        assert_eq!(refusals(&json!({"app": {}}), LAST_OFFERS), None);
    }
}
