//! What listeners of `/v2/events` hear.

use std::sync::Arc;

use dcos_proto::mesos::TaskStatus;
use serde::Serialize;
use serde_json::{Value, json};

use crate::PathId;
use crate::Timestamp;
use crate::deployment::{Plan, Step, step_to_json};
use crate::instance::{Condition, Instance, InstanceId};
use crate::model::{App, HealthCheck};

/// One event: its type and its document, which names the type again.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Such as `status_update_event`.
    pub kind: &'static str,
    /// The document, written out once for all listeners.
    pub data: Arc<str>,
}

/// An event written out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<Fields> {
    event_type: &'static str,
    timestamp: Timestamp,
    #[serde(flatten)]
    fields: Fields,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusUpdate<'a> {
    slave_id: &'a str,
    task_id: &'a str,
    task_status: &'a str,
    message: &'a str,
    app_id: &'a PathId,
    host: &'a str,
    ip_addresses: Vec<Value>,
    ports: Vec<u16>,
    version: Timestamp,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InstanceChanged<'a> {
    instance_id: &'a InstanceId,
    condition: Condition,
    run_spec_id: &'a PathId,
    agent_id: &'a str,
    host: &'a str,
    run_spec_version: Timestamp,
}

impl Event {
    /// An event with the fields of `document` besides type and time.
    pub fn new(kind: &'static str, now: Timestamp, mut document: Value) -> Self {
        document["eventType"] = json!(kind);
        document["timestamp"] = json!(now);
        Self {
            kind,
            data: document.to_string().into(),
        }
    }

    /// The same without a document in between: of what each instance gives rise to there is much.
    fn written(kind: &'static str, now: Timestamp, fields: impl Serialize) -> Self {
        let document = Document {
            event_type: kind,
            timestamp: now,
            fields,
        };
        let data = serde_json::to_string(&document).expect("it is of names, numbers and text");
        Self {
            kind,
            data: data.into(),
        }
    }

    pub(crate) fn api_post(now: Timestamp, client: &str, uri: &str, app: &App) -> Self {
        let document = json!({"clientIp": client, "uri": uri, "appDefinition": app});
        Self::new("api_post_event", now, document)
    }

    /// `kind` says what became of a pod, such as `pod_created_event`.
    pub(crate) fn pod(kind: &'static str, now: Timestamp, client: &str, uri: &str) -> Self {
        Self::new(kind, now, json!({"clientIp": client, "uri": uri}))
    }

    pub(crate) fn status_update(
        now: Timestamp,
        instance: &Instance,
        status: &TaskStatus,
        state: &str,
        message: &str,
    ) -> Self {
        let document = StatusUpdate {
            slave_id: &instance.agent.id,
            task_id: &status.task_id.value,
            task_status: state,
            message,
            app_id: &instance.app,
            host: &instance.agent.host,
            ip_addresses: instance.shown_addresses(),
            ports: instance.host_ports(),
            version: instance.version,
        };
        Self::written("status_update_event", now, document)
    }

    pub(crate) fn instance_changed(now: Timestamp, instance: &Instance) -> Self {
        let document = InstanceChanged {
            instance_id: &instance.id,
            condition: instance.condition,
            run_spec_id: &instance.app,
            agent_id: &instance.agent.id,
            host: &instance.agent.host,
            run_spec_version: instance.version,
        };
        Self::written("instance_changed_event", now, document)
    }

    pub(crate) fn unknown_terminated(
        now: Timestamp,
        id: &InstanceId,
        condition: Condition,
    ) -> Self {
        let document = json!({"instanceId": id, "runSpecId": id.app(), "condition": condition});
        Self::new("unknown_instance_terminated_event", now, document)
    }

    pub(crate) fn instance_health(
        now: Timestamp,
        instance: &Instance,
        healthy: Option<bool>,
    ) -> Self {
        let document = json!({
            "instanceId": instance.id,
            "runSpecId": instance.app,
            "healthy": healthy,
            "runSpecVersion": instance.version,
        });
        Self::new("instance_health_changed_event", now, document)
    }

    pub(crate) fn health_status(now: Timestamp, instance: &Instance, alive: bool) -> Self {
        let document = json!({
            "appId": instance.app,
            "instanceId": instance.id,
            "version": instance.version,
            "alive": alive,
        });
        Self::new("health_status_changed_event", now, document)
    }

    pub(crate) fn failed_check(now: Timestamp, instance: &Instance, check: &HealthCheck) -> Self {
        // `taskId` holds the instance's id, as in the original.
        let document = json!({"appId": instance.app, "taskId": instance.id, "healthCheck": check});
        Self::new("failed_health_check_event", now, document)
    }

    pub(crate) fn unhealthy_kill(now: Timestamp, instance: &Instance, reason: &str) -> Self {
        let document = json!({
            "appId": instance.app,
            "taskId": instance.task_id,
            "instanceId": instance.id,
            "version": instance.version,
            "reason": reason,
            "host": instance.agent.host,
            "slaveId": instance.agent.id,
        });
        Self::new("unhealthy_instance_kill_event", now, document)
    }

    pub(crate) fn check_added(now: Timestamp, app: &App, check: &HealthCheck) -> Self {
        let document = json!({"appId": app.id, "version": app.version, "healthCheck": check});
        Self::new("add_health_check_event", now, document)
    }

    pub(crate) fn checks_removed(now: Timestamp, app: &PathId) -> Self {
        Self::new("remove_health_check_event", now, json!({"appId": app}))
    }

    pub(crate) fn app_terminated(now: Timestamp, app: &PathId) -> Self {
        Self::new("app_terminated_event", now, json!({"appId": app}))
    }

    pub(crate) fn group_changed(now: Timestamp, group: &PathId, version: Timestamp) -> Self {
        let document = json!({"groupId": group, "version": version});
        Self::new("group_change_success", now, document)
    }

    pub(crate) fn group_failed(
        now: Timestamp,
        group: &PathId,
        version: Timestamp,
        reason: &str,
    ) -> Self {
        let document = json!({"groupId": group, "version": version, "reason": reason});
        Self::new("group_change_failed", now, document)
    }

    pub(crate) fn deployment_info(now: Timestamp, plan: &Plan, step: &Step) -> Self {
        let document = json!({"plan": plan.to_json(), "currentStep": step_to_json(step)});
        Self::new("deployment_info", now, document)
    }

    pub(crate) fn step_success(now: Timestamp, plan: &Plan, step: &Step) -> Self {
        let document = json!({"plan": plan.to_json(), "currentStep": step_to_json(step)});
        Self::new("deployment_step_success", now, document)
    }

    pub(crate) fn deployment_success(now: Timestamp, plan: &Plan) -> Self {
        let document = json!({"id": plan.id, "plan": plan.to_json()});
        Self::new("deployment_success", now, document)
    }

    pub(crate) fn deployment_failed(now: Timestamp, plan: &Plan, reason: &str) -> Self {
        let document = json!({"id": plan.id, "plan": plan.to_json(), "reason": reason});
        Self::new("deployment_failed", now, document)
    }

    pub(crate) fn registered(now: Timestamp, framework: &str, master: &str) -> Self {
        let document = json!({"frameworkId": framework, "master": master});
        Self::new("scheduler_registered_event", now, document)
    }

    pub(crate) fn reregistered(now: Timestamp, master: &str) -> Self {
        Self::new(
            "scheduler_reregistered_event",
            now,
            json!({"master": master}),
        )
    }

    pub(crate) fn disconnected(now: Timestamp) -> Self {
        Self::new("scheduler_disconnected_event", now, json!({}))
    }

    pub(crate) fn framework_message(
        now: Timestamp,
        executor: &str,
        agent: &str,
        data: &[u8],
    ) -> Self {
        let document = json!({"executorId": executor, "slaveId": agent, "message": data});
        Self::new("framework_message_event", now, document)
    }

    pub(crate) fn attached(now: Timestamp, remote: &str) -> Self {
        Self::new(
            "event_stream_attached",
            now,
            json!({"remoteAddress": remote}),
        )
    }

    pub(crate) fn detached(now: Timestamp, remote: &str) -> Self {
        Self::new(
            "event_stream_detached",
            now,
            json!({"remoteAddress": remote}),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Agent;

    #[test]
    fn a_status_names_the_protocol_of_each_address() {
        let spec = json!({"id": "/a", "cmd": "run"});
        let spec: App = serde_json::from_value(spec).unwrap();
        let (now, id) = (Timestamp::default(), InstanceId::new(&spec.id, "u"));
        let mut instance = Instance::launched(id, &spec, Agent::default(), Vec::new(), now);
        instance.addresses = vec!["9.0.0.5".to_owned(), "fd01::5".to_owned()];
        let event = Event::status_update(now, &instance, &TaskStatus::default(), "", "");
        let document: Value = serde_json::from_str(&event.data).unwrap();
        let expected = json!([{"ipAddress": "9.0.0.5", "protocol": "IPv4"},
            {"ipAddress": "fd01::5", "protocol": "IPv6"}]);
        assert_eq!(document["ipAddresses"], expected);
    }
}
