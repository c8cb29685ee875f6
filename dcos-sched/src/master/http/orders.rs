//! The v0 endpoints by which operators change something: each makes the call of API v1 that says
//! the same.

use axum::extract::State;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dcos_proto::Message;
use dcos_proto::json::{self, Dialect, to_value};
use dcos_proto::maintenance::Schedule;
use dcos_proto::master::Call;
use dcos_proto::master::call::{self, Type};
use dcos_proto::mesos::{FrameworkId, MachineId, WeightInfo};
use dcos_proto::quota::QuotaRequest;
use dcos_security::Caller;
use dcos_wire::Refusal;
use serde_json::Value;

use super::reads::{parameter, read};
use super::{Api, answer, name_of, one_of, only, views};

/// Carries out an order and says how that went.
pub(super) async fn order(api: &Api, caller: &Caller, kind: Type, call: Call) -> Response {
    let principal = match name_of(caller) {
        Ok(principal) => principal.map(ToOwned::to_owned),
        Err(refusal) => return refusal.into_response(),
    };
    let call = Call {
        r#type: Some(kind.into()),
        ..call
    };
    match api.master.order(principal, call).await {
        Ok(reply) => answer(reply),
        Err(stopped) => Refusal::from(stopped).into_response(),
    }
}

fn refused(text: impl Into<String>) -> Response {
    Refusal::bad_request(text.into()).into_response()
}

/// The messages of a JSON array.
pub(super) fn list<M: Message + json::Json>(content: &[u8]) -> Result<Vec<M>, String> {
    let values: Vec<Value> = serde_json::from_slice(content).map_err(|error| error.to_string())?;
    let messages = values
        .iter()
        .map(|value| json::from_value(value, Dialect::V0).map_err(|error| error.to_string()));
    messages.collect()
}

pub(super) async fn teardown(
    State(api): State<Api>,
    caller: Caller,
    method: Method,
    content: Bytes,
) -> Response {
    if let Err(refused) = only(&Method::POST, &method) {
        return *refused;
    }
    let form = String::from_utf8_lossy(&content);
    let Some(id) = parameter(Some(&form), "frameworkId") else {
        return refused("Missing 'frameworkId' query parameter in the request body");
    };
    let teardown = call::Teardown {
        framework_id: FrameworkId::from(id),
    };
    let call = Call {
        teardown: Some(teardown),
        ..Call::default()
    };
    order(&api, &caller, Type::Teardown, call).await
}

pub(super) async fn weights(
    State(api): State<Api>,
    caller: Caller,
    method: Method,
    uri: Uri,
    content: Bytes,
) -> Response {
    if let Err(refused) = one_of(&[Method::GET, Method::PUT], &method) {
        return *refused;
    }
    if method != Method::PUT {
        let sight = api.sight(&caller);
        return read(&api, &uri, move |snapshot, _, _| {
            let weights = views::seen_weights(snapshot, &sight).weight_infos;
            weights
                .iter()
                .map(|weight| to_value(weight, Dialect::V0))
                .collect::<Value>()
        })
        .await;
    }
    let text = String::from_utf8_lossy(&content);
    match list::<WeightInfo>(&content) {
        Ok(weight_infos) => {
            let update = call::UpdateWeights { weight_infos };
            let call = Call {
                update_weights: Some(update),
                ..Call::default()
            };
            order(&api, &caller, Type::UpdateWeights, call).await
        }
        Err(error) => refused(format!(
            "Failed to parse update weights request JSON '{text}': {error}"
        )),
    }
}

/// A role and its priority, as `/priorities` takes them.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RolePriority {
    role: String,
    priority: i32,
}

pub(super) async fn priorities(
    State(api): State<Api>,
    caller: Caller,
    method: Method,
    uri: Uri,
    content: Bytes,
) -> Response {
    if let Err(refused) = one_of(&[Method::GET, Method::PUT], &method) {
        return *refused;
    }
    if method != Method::PUT {
        let sight = api.sight(&caller);
        return read(&api, &uri, move |snapshot, _, _| {
            let all = snapshot.standing.priorities.iter();
            let seen = all.filter(|(role, _)| sight.role(role));
            seen.map(|(role, priority)| serde_json::json!({"role": role, "priority": priority}))
                .collect::<Value>()
        })
        .await;
    }
    let named: Vec<RolePriority> = match serde_json::from_slice(&content) {
        Ok(named) => named,
        Err(error) => return refused(format!("Failed to parse priorities of roles: {error}")),
    };
    let named = named.into_iter().map(|one| (one.role, one.priority));
    let principal = match name_of(&caller) {
        Ok(principal) => principal.map(ToOwned::to_owned),
        Err(refusal) => return refusal.into_response(),
    };
    match api.master.prioritize(principal, named.collect()).await {
        Ok(reply) => answer(reply),
        Err(stopped) => Refusal::from(stopped).into_response(),
    }
}

pub(super) async fn quota(
    State(api): State<Api>,
    caller: Caller,
    method: Method,
    uri: Uri,
    content: Bytes,
) -> Response {
    let allowed = [Method::GET, Method::POST, Method::DELETE];
    if let Err(refused) = one_of(&allowed, &method) {
        return *refused;
    }
    match method {
        Method::POST => set_quota(&api, &caller, &content).await,
        Method::DELETE => remove_quota(&api, &caller, &uri).await,
        _ => {
            let sight = api.sight(&caller);
            read(&api, &uri, move |snapshot, _, _| {
                to_value(&sight.quota(views::quota(snapshot)), Dialect::V0)
            })
            .await
        }
    }
}

async fn set_quota(api: &Api, caller: &Caller, content: &Bytes) -> Response {
    match json::from_slice::<QuotaRequest>(content, Dialect::V0) {
        Ok(quota_request) => {
            let call = Call {
                set_quota: Some(call::SetQuota { quota_request }),
                ..Call::default()
            };
            order(api, caller, Type::SetQuota, call).await
        }
        Err(error) => {
            let text = String::from_utf8_lossy(content);
            let what = match &error {
                json::JsonError::Syntax { .. } => "parse",
                _ => "validate",
            };
            refused(format!(
                "Failed to {what} set quota request JSON '{text}': {error}"
            ))
        }
    }
}

async fn remove_quota(api: &Api, caller: &Caller, uri: &Uri) -> Response {
    // The original's routes all lie under its actor's name.
    let path = uri.path();
    let path = path.strip_prefix("/master").unwrap_or(path);
    let role = path.strip_prefix("/quota").unwrap_or_default();
    let role = role.trim_start_matches('/');
    let path = format!("/master{path}");
    if role.is_empty() {
        return refused(format!(
            "Failed to parse remove quota request for path '{path}': expected 3 tokens, found 2 tokens"
        ));
    }
    let snapshot = match api.snapshot().await {
        Ok(snapshot) => snapshot,
        Err(refusal) => return refusal.into_response(),
    };
    let whitelist = snapshot.settings.roles.as_ref();
    if role != "*" && whitelist.is_some_and(|roles| !roles.contains(role)) {
        return refused(format!(
            "Failed to validate remove quota request for path '{path}': Unknown role '{role}'"
        ));
    }
    if !snapshot.standing.quotas.contains_key(role) {
        return refused(format!(
            "Failed to remove quota for path '{path}': Role '{role}' has no quota set"
        ));
    }
    let remove = call::RemoveQuota {
        role: role.to_owned(),
    };
    let call = Call {
        remove_quota: Some(remove),
        ..Call::default()
    };
    order(api, caller, Type::RemoveQuota, call).await
}

pub(super) async fn schedule(
    State(api): State<Api>,
    caller: Caller,
    method: Method,
    uri: Uri,
    content: Bytes,
) -> Response {
    if let Err(refused) = one_of(&[Method::GET, Method::POST], &method) {
        return *refused;
    }
    if method != Method::POST {
        let sight = api.sight(&caller);
        return read(&api, &uri, move |snapshot, _, _| {
            let schedule = sight.schedule(snapshot.standing.schedule.clone());
            to_value(&schedule, Dialect::V0)
        })
        .await;
    }
    match json::from_slice::<Schedule>(&content, Dialect::V0) {
        Ok(schedule) => {
            let update = call::UpdateMaintenanceSchedule { schedule };
            let call = Call {
                update_maintenance_schedule: Some(update),
                ..Call::default()
            };
            order(&api, &caller, Type::UpdateMaintenanceSchedule, call).await
        }
        Err(error) => refused(error.to_string()),
    }
}

pub(super) async fn status(
    State(api): State<Api>,
    caller: Caller,
    method: Method,
    uri: Uri,
) -> Response {
    if let Err(refused) = only(&Method::GET, &method) {
        return *refused;
    }
    let sight = api.sight(&caller);
    read(&api, &uri, move |snapshot, _, _| {
        to_value(&sight.status(snapshot.maintenance_status()), Dialect::V0)
    })
    .await
}

pub(super) async fn machine_down(
    State(api): State<Api>,
    caller: Caller,
    method: Method,
    content: Bytes,
) -> Response {
    machines(&api, &caller, &method, &content, Type::StartMaintenance).await
}

pub(super) async fn machine_up(
    State(api): State<Api>,
    caller: Caller,
    method: Method,
    content: Bytes,
) -> Response {
    machines(&api, &caller, &method, &content, Type::StopMaintenance).await
}

async fn machines(
    api: &Api,
    caller: &Caller,
    method: &Method,
    content: &Bytes,
    kind: Type,
) -> Response {
    if let Err(refused) = only(&Method::POST, method) {
        return *refused;
    }
    let machines = match list::<MachineId>(content) {
        Ok(machines) => machines,
        Err(error) => return refused(error),
    };
    let call = match kind {
        Type::StartMaintenance => Call {
            start_maintenance: Some(call::StartMaintenance { machines }),
            ..Call::default()
        },
        _ => Call {
            stop_maintenance: Some(call::StopMaintenance { machines }),
            ..Call::default()
        },
    };
    order(api, caller, kind, call).await
}
