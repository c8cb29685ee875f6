//! `POST /v2/plan`: what a change would do, before it is made. An addition; the original knows `dryRun` of groups only.
//!
//! The body is what is sent to make the change: an app, a list of apps, a pod, or a group with its apps. The answer has
//! the `steps` of the deployment and the `changes`: for each app or pod what would become of it, and which fields of its
//! definition change from what to what.
//!
//! `POST /v2/simulate`: where the instances would run. The body has such a `change`, and `offers` in Mesos's JSON (v1), one
//! of what is free on each agent. The answer has `placements` (`id`, `agentId`, `hostname`, `instances`) and what is
//! `waiting` because no agent suits, as `/v2/queue` has it.

use std::collections::BTreeSet;

use dcos_core::seed::Seed;
use dcos_proto::json::{Dialect, from_value};
use dcos_proto::mesos::Offer;
use serde_json::{Value, json};

use super::{Reply, apps, groups, json_of, pods, queue};
use crate::core::{Change, QueueItem};
use crate::deployment::{ActionKind, Plan, step_to_json};
use crate::model::{App, AppUpdate, GroupUpdate, Pod, RootGroup, shape};
use crate::shell::Mailbox;
use crate::{Error, PathId, Timestamp, normalize};

use super::request::Request;

pub(super) async fn dry_run(mailbox: &Mailbox, request: &Request) -> Reply {
    let wanted = Wanted::read(&request.body)?;
    let plan = mailbox
        .ask(move |core, now| core.dry_run(now, |change| wanted.apply(change)))
        .await?;
    let steps: Vec<Value> = plan.steps.iter().map(|step| step_to_json(step)).collect();
    let changes: Vec<Value> = plan.affected().iter().map(|id| change(&plan, id)).collect();
    Ok(json_of(&json!({"steps": steps, "changes": changes})))
}

pub(super) async fn simulate(mailbox: &Mailbox, request: &Request) -> Reply {
    let document: Value =
        serde_json::from_slice(&request.body).map_err(|error| Error::NotJson(error.to_string()))?;
    let Value::Object(mut document) = document else {
        let message = "an object with `change` and `offers` is needed";
        return Err(Error::Unprocessable(message.to_owned()));
    };
    let change = document.remove("change").unwrap_or_default();
    let wanted = Wanted::read(change.to_string().as_bytes())?;
    let Some(Value::Array(offers)) = document.remove("offers") else {
        let message = "offers: a list of what is free on each agent is needed";
        return Err(Error::Unprocessable(message.to_owned()));
    };
    let offers: Result<Vec<Offer>, _> = offers
        .iter()
        .map(|offer| from_value(offer, Dialect::V1))
        .collect();
    let offers = offers.map_err(|error| Error::Unprocessable(format!("offers: {error}")))?;
    let found = mailbox
        .ask(move |core, now| {
            let plan = core.dry_run(now, |change| wanted.apply(change))?;
            core.simulate(Timestamp::from(now), &plan, offers, &mut Seed::from_os())
        })
        .await?;
    let placements = found.placements.iter().map(|each| {
        json!({
            "id": each.app,
            "agentId": each.agent.id,
            "hostname": each.agent.host,
            "instances": each.count,
        })
    });
    let now = Timestamp::from(crate::shell::now());
    let waiting = found.waiting.into_iter().map(|entry| {
        let item = QueueItem {
            spec: entry.spec,
            count: entry.count,
            since: entry.since,
            held_until: None,
            summary: entry.summary,
        };
        queue::item(&item, now, false)
    });
    let placements: Vec<Value> = placements.collect();
    Ok(json_of(
        &json!({"placements": placements, "waiting": waiting.collect::<Vec<_>>()}),
    ))
}

/// What somebody thinks of changing.
enum Wanted {
    Apps(Vec<AppUpdate>),
    Pod(Box<Pod>),
    Group(Box<GroupUpdate>),
}

impl Wanted {
    fn read(body: &[u8]) -> Result<Self, Error> {
        // What is no JSON is told by who reads it as an app.
        let document: Value = serde_json::from_slice(body).unwrap_or_default();
        let has = |field| document.get(field).is_some();
        if document.is_array() {
            let updates = apps::parse(body, shape::APP_UPDATES)?;
            return apps::typed(updates).map(Self::Apps);
        }
        if has("containers") {
            return Ok(Self::Pod(Box::new(normalize::read_pod(body)?)));
        }
        if ["apps", "groups", "scaleBy"].into_iter().any(has) {
            return Ok(Self::Group(Box::new(normalize::read_group(body)?)));
        }
        let update = apps::typed(apps::parse(body, shape::APP_UPDATE)?)?;
        Ok(Self::Apps(vec![update]))
    }

    fn apply(self, change: &Change<'_>) -> Result<RootGroup, Error> {
        match self {
            Self::Apps(updates) => apps::put_all(change, updates, true, true),
            Self::Pod(pod) => {
                let id = PathId::absolute(pod.id.as_str());
                pods::taken(change.root, &id, true)?;
                let spec = normalize::pod(*pod, &change.rules(&id), change.version)?;
                let mut root = change.copy();
                root.put_app(spec, change.version, change.config.new_group_enforce_role);
                Ok(root)
            }
            Self::Group(update) => groups::changed(change, &PathId::root(), *update),
        }
    }
}

/// What becomes of one app or pod.
fn change(plan: &Plan, id: &PathId) -> Value {
    let (before, after) = (plan.original.app(id), plan.target.app(id));
    let actions = plan
        .steps
        .iter()
        .flatten()
        .filter(|action| action.app == *id);
    let restarts = actions
        .clone()
        .any(|action| action.kind == ActionKind::Restart);
    let what = match (before, after) {
        (None, _) => "create",
        (_, None) => "remove",
        _ if restarts => "restart",
        _ => "scale",
    };
    let mut fields = Vec::new();
    if let (Some(before), Some(after)) = (before, after) {
        differences("", &definition(before), &definition(after), &mut fields);
    }
    json!({
        "id": id,
        "pod": before.or(after).is_some_and(|app| app.is_pod()),
        "change": what,
        "instances": {
            "from": before.map_or(0, |app| app.instances),
            "to": after.map_or(0, |app| app.instances),
        },
        "fields": fields,
    })
}

/// What users say of an app or pod.
fn definition(app: &App) -> Value {
    let mut document = match app.pod_document() {
        Some(pod) => json!(pod),
        None => json!(app),
    };
    if let Some(document) = document.as_object_mut() {
        document.remove("version");
        document.remove("versionInfo");
    }
    document
}

/// Each field that differs, by its path, as `from` and `to`; `null` where there is none.
fn differences(path: &str, before: &Value, after: &Value, out: &mut Vec<Value>) {
    let (old, new) = (before.as_object(), after.as_object());
    // An object is told field by field, also one that comes or goes.
    let apart = |other: &Value| other.is_object() || other.is_null();
    if (old.is_none() && new.is_none()) || !apart(before) || !apart(after) {
        if before != after {
            out.push(json!({"path": path, "from": before, "to": after}));
        }
        return;
    }
    let fields = [old, new]
        .into_iter()
        .flatten()
        .flat_map(|fields| fields.keys());
    for key in fields.collect::<BTreeSet<_>>() {
        let (before, after) = (&before[key], &after[key]);
        differences(&format!("{path}/{key}"), before, after, out);
    }
}
