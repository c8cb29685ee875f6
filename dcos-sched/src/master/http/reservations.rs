//! `/reserve`, `/unreserve`, `/create-volumes`, `/destroy-volumes`: what operators change, in the
//! form API v0 takes it. Each makes the call of API v1 that says the same.

use axum::extract::State;
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dcos_proto::json::{Dialect, from_value};
use dcos_proto::master::Call;
use dcos_proto::master::call::{self, Type};
use dcos_proto::mesos::{AgentId, Resource};
use dcos_security::Caller;
use dcos_wire::Refusal;
use serde_json::Value;

use super::reads::parameter;
use super::{Api, answer, name_of, only};

pub(super) async fn reserve(
    State(api): State<Api>,
    caller: Caller,
    method: Method,
    form: Bytes,
) -> Response {
    let read = |agent_id, form: &Form| {
        let resources = form.resources("resources", "Error parsing")?;
        let source = match form.get("source") {
            Some(_) => form.resources("source", "Error parsing")?,
            None => Vec::new(),
        };
        Ok(Call {
            reserve_resources: Some(call::ReserveResources {
                agent_id,
                source,
                resources,
            }),
            ..of(Type::ReserveResources)
        })
    };
    handle(&api, &caller, &method, &form, read).await
}

pub(super) async fn unreserve(
    State(api): State<Api>,
    caller: Caller,
    method: Method,
    form: Bytes,
) -> Response {
    let read = |agent_id, form: &Form| {
        let resources = form.resources("resources", "Error in parsing")?;
        Ok(Call {
            unreserve_resources: Some(call::UnreserveResources {
                agent_id,
                resources,
            }),
            ..of(Type::UnreserveResources)
        })
    };
    handle(&api, &caller, &method, &form, read).await
}

pub(super) async fn create_volumes(
    State(api): State<Api>,
    caller: Caller,
    method: Method,
    form: Bytes,
) -> Response {
    let read = |agent_id, form: &Form| {
        let volumes = form.resources("volumes", "Error in parsing")?;
        Ok(Call {
            create_volumes: Some(call::CreateVolumes { agent_id, volumes }),
            ..of(Type::CreateVolumes)
        })
    };
    handle(&api, &caller, &method, &form, read).await
}

pub(super) async fn destroy_volumes(
    State(api): State<Api>,
    caller: Caller,
    method: Method,
    form: Bytes,
) -> Response {
    let read = |agent_id, form: &Form| {
        let volumes = form.resources("volumes", "Error in parsing")?;
        Ok(Call {
            destroy_volumes: Some(call::DestroyVolumes { agent_id, volumes }),
            ..of(Type::DestroyVolumes)
        })
    };
    handle(&api, &caller, &method, &form, read).await
}

fn of(kind: Type) -> Call {
    Call {
        r#type: Some(kind.into()),
        ..Call::default()
    }
}

/// The body of a request: a form.
struct Form(String);

impl Form {
    fn get(&self, name: &str) -> Option<String> {
        parameter(Some(&self.0), name)
    }

    fn required(&self, name: &str) -> Result<String, Refusal> {
        self.get(name).ok_or_else(|| {
            Refusal::bad_request(format!(
                "Missing '{name}' query parameter in the request body"
            ))
        })
    }

    /// A parameter that holds a JSON array of resources.
    fn resources(&self, name: &str, failed: &str) -> Result<Vec<Resource>, Refusal> {
        let wrong = |error: String| {
            Refusal::bad_request(format!(
                "{failed} '{name}' query parameter in the request body: {error}"
            ))
        };
        let items: Vec<Value> = serde_json::from_str(&self.required(name)?)
            .map_err(|error| wrong(error.to_string()))?;
        items
            .iter()
            .map(|item| from_value(item, Dialect::V0).map_err(|error| wrong(error.to_string())))
            .collect()
    }
}

async fn handle(
    api: &Api,
    caller: &Caller,
    method: &Method,
    body: &Bytes,
    read: impl FnOnce(AgentId, &Form) -> Result<Call, Refusal>,
) -> Response {
    if let Err(refused) = only(&Method::POST, method) {
        return *refused;
    }
    let principal = match name_of(caller) {
        Ok(principal) => principal.map(ToOwned::to_owned),
        Err(refusal) => return refusal.into_response(),
    };
    let form = Form(String::from_utf8_lossy(body).into_owned());
    let call = form
        .required("slaveId")
        .and_then(|agent| read(agent.into(), &form));
    match call {
        Ok(call) => match api.master.order(principal, call).await {
            Ok(reply) => answer(reply),
            Err(stopped) => Refusal::from(stopped).into_response(),
        },
        Err(refusal) => refusal.into_response(),
    }
}
