//! `/reserve`, `/unreserve`, `/create-volumes`, `/destroy-volumes`: what operators change, in the
//! form API v0 takes it. Each makes the call of API v1 that says the same.

use axum::extract::State;
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dcos_proto::master::Call;
use dcos_proto::master::call::{self, Type};
use dcos_proto::mesos::{AgentId, Resource};
use dcos_security::Caller;
use dcos_wire::Refusal;

use super::orders::{list, order};
use super::reads::parameter;
use super::{Api, only};

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
        let call = Call {
            reserve_resources: Some(call::ReserveResources {
                agent_id,
                source,
                resources,
            }),
            ..Call::default()
        };
        Ok((Type::ReserveResources, call))
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
        let call = Call {
            unreserve_resources: Some(call::UnreserveResources {
                agent_id,
                resources,
            }),
            ..Call::default()
        };
        Ok((Type::UnreserveResources, call))
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
        let call = Call {
            create_volumes: Some(call::CreateVolumes { agent_id, volumes }),
            ..Call::default()
        };
        Ok((Type::CreateVolumes, call))
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
        let call = Call {
            destroy_volumes: Some(call::DestroyVolumes { agent_id, volumes }),
            ..Call::default()
        };
        Ok((Type::DestroyVolumes, call))
    };
    handle(&api, &caller, &method, &form, read).await
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
        list(self.required(name)?.as_bytes()).map_err(wrong)
    }
}

async fn handle(
    api: &Api,
    caller: &Caller,
    method: &Method,
    body: &Bytes,
    read: impl FnOnce(AgentId, &Form) -> Result<(Type, Call), Refusal>,
) -> Response {
    if let Err(refused) = only(&Method::POST, method) {
        return *refused;
    }
    let form = Form(String::from_utf8_lossy(body).into_owned());
    let call = form
        .required("slaveId")
        .and_then(|agent| read(agent.into(), &form));
    match call {
        Ok((kind, call)) => Box::pin(order(api, caller, kind, call)).await,
        Err(refusal) => refusal.into_response(),
    }
}
