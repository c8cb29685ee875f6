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
        let reasons: Vec<_> = items(&entry["processedOffersSummary"], "rejectSummaryLastOffers")
            .iter()
            .filter(|reason| reason["declined"].as_u64() > Some(0))
            .map(|reason| {
                format!(
                    "{} offers: {}",
                    text(reason, "declined"),
                    text(reason, "reason")
                )
            })
            .collect();
        if !reasons.is_empty() {
            return Ok(Some(reasons.join(", ")));
        }
    }
    Ok(None)
}
