//! Waiting for a deployment, and telling what it waits for.

use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::Value;

use super::{Context, items, text};
use crate::http::Server;
use crate::output::{self, Progress};

/// All deployments, with what they wait for.
pub(crate) const ALL: &str = "/v2/deployments?embed=waitingFor";

/// How often a deployment is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Looks {
    pub(crate) interval: Duration,
    /// How many times at most.
    pub(crate) most: Option<u32>,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(200),
            most: None,
        }
    }
}

/// Waits until the deployment `id` has ended, and says meanwhile what it does and what it waits for.
///
/// # Errors
/// That it had not ended by its deadline is one.
pub(crate) async fn wait(context: &Context, marathon: &Server, id: &str) -> anyhow::Result<()> {
    watch(context, marathon, id, Looks::default()).await
}

/// The same, looking as often as said; that it goes on then is no error.
///
/// # Errors
/// Those of [`wait`].
pub(crate) async fn watch(
    context: &Context,
    marathon: &Server,
    id: &str,
    looks: Looks,
) -> anyhow::Result<()> {
    let mut progress = Progress::new(context.quiet || context.json);
    let mut overdue = None;
    let mut count = 0;
    loop {
        let deployments = marathon.get(ALL).await?;
        let list = deployments
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let Some(deployment) = list.iter().find(|deployment| text(deployment, "id") == id) else {
            progress.done();
            // Its deadline by our clock, as of when it was last seen.
            return match overdue {
                Some((moment, what)) if Instant::now() >= moment => {
                    bail!("its deadline has passed: {what}")
                }
                _ => Ok(()),
            };
        };
        let mut doing = described(deployment);
        let mut what = described(&without_clocks(deployment.clone()));
        for action in items(deployment, "currentActions") {
            let failed = |waiting: &Value| waiting["what"] == "backoff";
            if items(action, "waitingFor").iter().any(failed)
                && let Some(message) = last_message(marathon, action).await?
            {
                for text in [&mut doing, &mut what] {
                    *text = format!("{text}; {message}");
                }
                break;
            }
        }
        overdue = deployment["timeLeftSeconds"].as_f64().and_then(|left| {
            let left = Duration::try_from_secs_f64(left).ok()?;
            let rollback = deployment["onDeadline"] == "rollback";
            let end = if rollback { "taken back" } else { "stopped" };
            Some((Instant::now() + left, format!("it was {end} at {doing}")))
        });
        count += 1;
        if looks.most.is_some_and(|most| count >= most) {
            progress.done();
            if !context.quiet && !context.json {
                output::line(format!("It goes on: {doing}"));
            }
            return Ok(());
        }
        progress.count(&doing, what);
        tokio::time::sleep(looks.interval).await;
    }
}

/// The same deployment, without the seconds that pass.
fn without_clocks(mut deployment: Value) -> Value {
    let all = Value::as_array_mut;
    for action in deployment
        .get_mut("currentActions")
        .and_then(all)
        .into_iter()
        .flatten()
    {
        for waiting in action
            .get_mut("waitingFor")
            .and_then(all)
            .into_iter()
            .flatten()
        {
            waiting["timeLeftSeconds"].take();
        }
    }
    deployment
}

/// Which step a deployment is at, what is done in it, and what that waits for.
pub(crate) fn described(deployment: &Value) -> String {
    let actions = items(deployment, "currentActions");
    let waits = actions
        .iter()
        .flat_map(|action| items(action, "waitingFor"))
        .filter_map(in_words);
    let mut all = vec![describe(deployment)];
    all.extend(waits.take(MOST_REASONS));
    all.join("; ")
}

/// More would not be read.
const MOST_REASONS: usize = 5;

/// What is waited for, for people.
fn in_words(waiting: &Value) -> Option<String> {
    let count = waiting["count"].as_u64().unwrap_or_default();
    let instances = format!("{count} instance{}", if count == 1 { "" } else { "s" });
    let words = match waiting["what"].as_str()? {
        "offers" => {
            let refused = items(waiting, "refused").iter();
            let refused =
                refused.filter_map(|each| Some((text(each, "reason"), each["agents"].as_u64()?)));
            let constraints = items(waiting, "constraints").iter().map(constraint);
            let constraints = constraints.collect::<Vec<_>>().join(", ");
            return Some(
                refused_by(refused, &constraints)
                    .unwrap_or_else(|| format!("{instances}: waits for offers")),
            );
        }
        "backoff" => {
            return Some(format!(
                "failed, tries again in {} s",
                text(waiting, "timeLeftSeconds")
            ));
        }
        "master" => return Some("no master is connected".to_owned()),
        "agents" => {
            let hosts = items(waiting, "hosts").iter().filter_map(Value::as_str);
            return Some(format!(
                "{instances} out of reach, on {}",
                hosts.collect::<Vec<_>>().join(", ")
            ));
        }
        "kills" => "being ended",
        "start" => "starting",
        "health" => "not known to be healthy yet",
        "readiness" => "not ready yet",
        other => other,
    };
    Some(format!("{instances} {words}"))
}

/// Which step a deployment is at, and what is done in it.
fn describe(deployment: &Value) -> String {
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

/// What the task or container that failed last of an action's app or pod said.
async fn last_message(marathon: &Server, action: &Value) -> anyhow::Result<Option<String>> {
    if action["app"].is_string() {
        return last_failure(marathon, &action["app"]).await;
    }
    let pod = text(action, "pod");
    let answer = marathon.get(&format!("/v2/pods/{pod}::status")).await?;
    let ends = items(&answer, "terminationHistory");
    Ok(ends.first().map(|end| text(end, "message")))
}

/// Why all offers were of no use to an entry of the queue; `None` if there was none.
pub(crate) fn refusals(entry: &Value) -> Option<String> {
    let summary = items(
        &entry["processedOffersSummary"],
        "rejectSummaryLaunchAttempt",
    );
    let refused = summary.iter();
    let refused =
        refused.filter_map(|each| Some((text(each, "reason"), each["declined"].as_u64()?)));
    refused_by(refused, &constraints(entry))
}

/// How many agents were refused for which reasons, for people; `None` if there was none.
fn refused_by(reasons: impl Iterator<Item = (String, u64)>, constraints: &str) -> Option<String> {
    let refused = reasons.filter(|(_, agents)| *agents > 0);
    let refused = refused.map(|(reason, agents)| {
        let plural = if agents == 1 { "" } else { "s" };
        format!(
            "{agents} agent{plural}: {}",
            reason_in_words(&reason, constraints)
        )
    });
    let refused: Vec<_> = refused.collect();
    (!refused.is_empty()).then(|| refused.join(", "))
}

/// A reason Marathon names, for people.
fn reason_in_words(reason: &str, constraints: &str) -> String {
    let words = match reason {
        "UnfulfilledRole" => "offered to another role",
        "UnfulfilledConstraint" => return format!("constraint {constraints}"),
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
    let of_app = items(&entry["app"], "constraints").iter().map(constraint);
    let placement = &entry["pod"]["scheduling"]["placement"];
    let of_pod = items(placement, "constraints").iter().map(|each| {
        let fields = ["fieldName", "operator", "value"].map(|key| text(each, key));
        fields.join(":").trim_end_matches(':').to_owned()
    });
    of_app.chain(of_pod).collect::<Vec<_>>().join(", ")
}

/// A constraint as apps write it.
fn constraint(words: &Value) -> String {
    let fields = words.as_array().map(Vec::as_slice);
    let words: Vec<_> = fields
        .unwrap_or_default()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    words.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn refusals_are_told_in_words() {
        let summary = json!({"rejectSummaryLaunchAttempt": [
            {"reason": "UnfulfilledRole", "declined": 0, "processed": 5},
            {"reason": "UnfulfilledConstraint", "declined": 2, "processed": 5},
            {"reason": "InsufficientMemory", "declined": 1, "processed": 3},
        ]});
        let app = json!({"app": {"constraints": [["zone", "GROUP_BY", "3"], ["hostname", "UNIQUE"]]},
            "processedOffersSummary": summary});
        assert_eq!(
            refusals(&app).unwrap(),
            "2 agents: constraint zone:GROUP_BY:3, hostname:UNIQUE, 1 agent: not enough memory"
        );
        let placement = json!({"constraints": [{"fieldName": "hostname", "operator": "UNIQUE"}]});
        let pod = json!({"pod": {"scheduling": {"placement": placement}}, "processedOffersSummary": summary});
        assert!(
            refusals(&pod)
                .unwrap()
                .starts_with("2 agents: constraint hostname:UNIQUE, ")
        );
        assert_eq!(refusals(&json!({"app": {}})), None);
    }
    #[test]
    fn what_a_deployment_waits_for_is_told_in_words() {
        let deployment = |waiting: Value| {
            json!({"currentStep": 1, "totalSteps": 2,
                "currentActions": [{"action": "ScaleApplication", "app": "/a", "waitingFor": [waiting]}]})
        };
        for (waiting, words) in [
            (
                json!({"what": "offers", "count": 2, "refused": [{"reason": "InsufficientCpus", "agents": 3}]}),
                "3 agents: not enough cpus",
            ),
            (
                json!({"what": "offers", "count": 1, "constraints": [["zone", "IS", "a"]],
                "refused": [{"reason": "UnfulfilledConstraint", "agents": 1}]}),
                "1 agent: constraint zone:IS:a",
            ),
            (
                json!({"what": "offers", "count": 2, "refused": []}),
                "2 instances: waits for offers",
            ),
            (
                json!({"what": "backoff", "count": 2, "timeLeftSeconds": 7}),
                "failed, tries again in 7 s",
            ),
            (
                json!({"what": "agents", "count": 1, "hosts": ["h"]}),
                "1 instance out of reach, on h",
            ),
            (
                json!({"what": "health", "count": 2}),
                "2 instances not known to be healthy yet",
            ),
            (json!({"what": "stars", "count": 1}), "1 instance stars"),
        ] {
            let told = described(&deployment(waiting));
            assert_eq!(told, format!("step 1 of 2: ScaleApplication /a; {words}"));
        }
        let still = |seconds: u32| {
            let waiting = json!({"what": "backoff", "count": 2, "timeLeftSeconds": seconds});
            described(&without_clocks(deployment(waiting)))
        };
        assert_eq!(still(7), still(6));
    }
}
