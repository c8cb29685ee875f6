//! Objects of the v0 endpoints, key for key as in Mesos 1.11 (`src/master/readonly_handler.cpp`,
//! `src/common/http.cpp`).
//!
//! What is shown of an agent, a task or an executor must follow from that record and from what it
//! names: [`documents`](super::documents) keeps the text of records that did not change.

use dcos_core::resources::{Resources, append_endpoint_json, append_endpoint_json_of, convert};
use dcos_core::time::Time;
use dcos_proto::json::{JsonEnum as _, append_text};
use dcos_proto::mesos::framework_info::capability::Type as FrameworkCapability;
use dcos_proto::mesos::{AgentInfo, ExecutorInfo, Labels, Offer, Resource, Task, TaskStatus};

use super::sight::Sight;
use super::text::{Object, items_of, object, v0};
use crate::master::{Agent, Framework, Link, Snapshot};

pub(super) fn resources(o: &mut Object<'_>, key: &str, resources: &Resources) {
    resources.append_endpoint_json(o.key(key));
}

/// Resources as whole messages, with both forms of reservations.
fn full(out: &mut Vec<u8>, sight: &Sight, resources: &Resources) {
    let mut messages: Vec<Resource> = resources.to_messages();
    sight.resources(&mut messages);
    messages.iter_mut().for_each(convert::to_endpoint);
    out.push(b'[');
    items_of(out, &messages, v0);
    out.push(b']');
}

fn labels(o: &mut Object<'_>, labels: Option<&Labels>) {
    if let Some(labels) = labels {
        o.list("labels", &labels.labels, |out, label| {
            object(out, |o| {
                o.text("key", &label.key);
                if let Some(value) = &label.value {
                    o.text("value", value);
                }
            });
        });
    }
}

/// An agent; `whole` adds the resources as messages, as `/slaves` shows them.
pub(super) fn agent(
    o: &mut Object<'_>,
    snapshot: &Snapshot,
    sight: &Sight,
    agent: &Agent,
    whole: bool,
) {
    agent_info(o, &agent.info);
    let offered = snapshot.offered(&agent.offers);
    let unreserved = agent.total.unreserved();
    o.text("pid", &agent.pid);
    o.put("registered_time", agent.registered.as_secs_f64());
    o.put_some(
        "reregistered_time",
        agent.reregistered.map(Time::as_secs_f64),
    );
    resources(o, "resources", &agent.total);
    append_endpoint_json_of(agent.used.values(), o.key("used_resources"));
    resources(o, "offered_resources", &offered);
    o.object("reserved_resources", |o| {
        let reservations = agent.total.reservations().into_iter();
        for (role, reserved) in reservations.filter(|(role, _)| sight.role(role)) {
            resources(o, &role, &reserved);
        }
    });
    resources(o, "unreserved_resources", &unreserved);
    o.put("active", agent.active);
    o.put("deactivated", agent.deactivated);
    if let Some(info) = &agent.drain_info {
        o.message("drain_info", Some(info));
        o.put_some(
            "estimated_drain_start_time_seconds",
            agent.drain_started.map(Time::as_secs_f64),
        );
    }
    o.text("version", &agent.version);
    o.list("capabilities", &agent.capabilities, |out, capability| {
        append_text(out, capability.r#type().name());
    });
    if whole {
        o.object("reserved_resources_full", |o| {
            let reservations = agent.total.reservations().into_iter();
            for (role, reserved) in reservations.filter(|(role, _)| sight.role(role)) {
                full(o.key(&role), sight, &reserved);
            }
        });
        full(o.key("unreserved_resources_full"), sight, &unreserved);
        full(o.key("used_resources_full"), sight, &agent.used_total());
        full(o.key("offered_resources_full"), sight, &offered);
    }
}

/// What an agent said about itself.
pub(super) fn agent_info(o: &mut Object<'_>, info: &AgentInfo) {
    o.put("id", info.id.as_ref().map_or("", |id| &id.value));
    o.text("hostname", &info.hostname);
    o.put("port", info.port.unwrap_or(5051));
    let attributes = dcos_core::attributes::to_endpoint_json(&info.attributes);
    o.put("attributes", attributes);
    o.message("domain", info.domain.as_ref());
}

/// A framework's description, without what it runs.
pub(super) fn framework_head(o: &mut Object<'_>, snapshot: &Snapshot, framework: &Framework) {
    let info = &framework.info;
    o.put("id", info.id.as_ref().map_or("", |id| &id.value));
    o.put("name", &info.name);
    o.put_some("pid", framework.pid.as_ref());
    resources(o, "used_resources", &framework.held);
    let offered = snapshot.offered(&framework.offers);
    resources(o, "offered_resources", &offered);
    o.list("capabilities", &info.capabilities, |out, capability| {
        append_text(out, capability.r#type().name());
    });
    o.put("hostname", info.hostname.as_deref().unwrap_or_default());
    o.put("webui_url", info.webui_url.as_deref().unwrap_or_default());
    o.put("active", framework.active);
    o.put("connected", framework.link.is_connected());
    o.put("recovered", framework.link == Link::Recovered);
}

/// The rest of a framework's description, but for tasks and executors.
pub(super) fn framework_rest(o: &mut Object<'_>, snapshot: &Snapshot, framework: &Framework) {
    let info = &framework.info;
    o.put("user", &info.user);
    o.put("failover_timeout", info.failover_timeout.unwrap_or(0.0));
    o.put("checkpoint", info.checkpoint.unwrap_or(false));
    o.put("registered_time", framework.registered.as_secs_f64());
    let unregistered = framework.unregistered.map_or(0.0, Time::as_secs_f64);
    o.put("unregistered_time", unregistered);
    if framework.reregistered > framework.registered {
        o.put("reregistered_time", framework.reregistered.as_secs_f64());
    }
    o.put_some("principal", info.principal.as_ref());
    let held = &framework.held + &snapshot.offered(&framework.offers);
    resources(o, "resources", &held);
    if framework.has(FrameworkCapability::MultiRole) {
        o.put("roles", &info.roles);
    } else {
        o.put("role", info.role.as_deref().unwrap_or("*"));
    }
    let offers = framework.offers.iter();
    let offers = offers.filter_map(|id| snapshot.offers.get(id));
    o.list("offers", offers, |out, held| offer(out, held));
    labels(o, info.labels.as_ref());
    match &framework.offer_constraints {
        Some(constraints) => v0(o.key("offer_constraints"), constraints),
        None => o.object("offer_constraints", |_| {}),
    }
}

fn offer(out: &mut Vec<u8>, offer: &Offer) {
    object(out, |o| {
        o.put("id", &offer.id.value);
        o.put("framework_id", &offer.framework_id.value);
        o.message("allocation_info", offer.allocation_info.as_ref());
        o.put("slave_id", &offer.agent_id.value);
        append_endpoint_json(&offer.resources, o.key("resources"));
    });
}

pub(super) fn executor(out: &mut Vec<u8>, info: &ExecutorInfo, agent: &str) {
    object(out, |o| {
        o.put("executor_id", &info.executor_id.value);
        o.put("name", info.name.as_deref().unwrap_or_default());
        let framework = info.framework_id.as_ref();
        o.put("framework_id", framework.map_or("", |id| &id.value));
        o.object("command", |o| {
            if let Some(info) = &info.command {
                command(o, info);
            }
        });
        append_endpoint_json(&info.resources, o.key("resources"));
        o.put_some("role", role(&info.resources));
        labels(o, info.labels.as_ref());
        o.put("type", info.r#type().name());
        o.put("slave_id", agent);
    });
}

/// The role that resources are allocated to.
fn role(resources: &[Resource]) -> Option<&str> {
    let allocation = resources.first()?.allocation_info.as_ref()?;
    allocation.role.as_deref()
}

/// A command: what stands in protobuf as `arguments` is called `argv`.
fn command(o: &mut Object<'_>, command: &dcos_proto::mesos::CommandInfo) {
    o.put("shell", command.shell.unwrap_or(true));
    o.put_some("value", command.value.as_ref());
    o.put("argv", &command.arguments);
    o.message("environment", command.environment.as_ref());
    o.list("uris", &command.uris, |out, uri| {
        object(out, |o| {
            o.put("value", &uri.value);
            o.put("executable", uri.executable.unwrap_or(false));
        });
    });
}

pub(super) fn task(out: &mut Vec<u8>, task: &Task) {
    object(out, |o| {
        o.text("id", &task.task_id.value);
        o.text("name", &task.name);
        o.text("framework_id", &task.framework_id.value);
        let executor = task.executor_id.as_ref();
        o.text("executor_id", executor.map_or("", |id| &id.value));
        o.text("slave_id", &task.agent_id.value);
        o.text("state", task.state().name());
        append_endpoint_json(&task.resources, o.key("resources"));
        if !task.limits.is_empty() {
            o.object("limits", |o| {
                for (name, limit) in &task.limits {
                    if limit.value.is_infinite() {
                        o.put(name, "Infinity");
                    } else {
                        o.put(name, limit.value);
                    }
                }
            });
        }
        o.text("role", role(&task.resources).unwrap_or("*"));
        o.list("statuses", &task.statuses, status);
        if let Some(user) = &task.user {
            o.text("user", user);
        }
        labels(o, task.labels.as_ref());
        o.message("discovery", task.discovery.as_deref());
        o.message("container", task.container.as_deref());
        o.message("health_check", task.health_check.as_deref());
    });
}

fn status(out: &mut Vec<u8>, status: &TaskStatus) {
    object(out, |o| {
        o.text("state", status.state().name());
        o.put("timestamp", status.timestamp.unwrap_or_default());
        labels(o, status.labels.as_ref());
        o.message("container_status", status.container_status.as_ref());
        o.put_some("healthy", status.healthy);
        o.message("check_status", status.check_status.as_ref());
    });
}
