//! Who this is: `/ping`, `/metrics`, `/v2/info`, `/v2/leader`, and a page for people.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use dcos_wire::tls::Ssl;
use http::StatusCode;
use serde_json::{Value, json};

use super::metrics::Report;
use super::request::Request;
use super::{Api, Reply, json_of, leader, set, typed};
use crate::config::Config;
use crate::core::View;
use crate::instance::{Condition, Instance};
use crate::shell::{Between, Mailbox};
use crate::{Error, Timestamp, standby};

/// The Marathon whose API this is.
const VERSION: &str = "1.11.24";

pub(super) fn home() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    set(&mut response, "location", "/ui/");
    response
}

pub(super) fn page(mailbox: &Mailbox) -> Response {
    let view = mailbox.view();
    let (apps, tasks) = (view.root.plain_apps().count(), view.all_instances().count());
    let page = format!(
        "<!doctype html><title>Marathon</title><h1>Marathon</h1>\
         <p>{apps} <a href=\"/v2/apps\">apps</a>, {tasks} <a href=\"/v2/tasks\">tasks</a>, \
         {} <a href=\"/v2/deployments\">deployments</a>, {} \
         <a href=\"/v2/queue\">waiting</a>.</p>",
        view.deployments.len(),
        view.queue.len(),
    );
    typed(StatusCode::OK, "text/html; charset=utf-8", page)
}

pub(super) fn ping(request: &Request) -> Response {
    let any = request.headers.get(http::header::ACCEPT).is_none() || request.accepts("*/*");
    if any || request.accepts("text/plain") || request.accepts("text/*") {
        typed(StatusCode::OK, "text/plain", "pong")
    } else if request.accepts("text/html") {
        typed(StatusCode::OK, "text/html", "pong")
    } else if request.accepts("application/json") {
        typed(StatusCode::OK, "application/json", "\"pong\"")
    } else {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    }
}

pub(super) fn leader_of(mailbox: &Mailbox) -> Response {
    json_of(&json!({"leader": leader(mailbox)}))
}

/// Gives up the leadership, shortly after answering; before the next one leads, state is written to `backup` and read
/// from `restore`.
pub(super) fn abdicate(mailbox: &Mailbox, request: &Request) -> Reply {
    let file = |name| {
        let uri = request.param(name);
        uri.map(|uri| backup_file(mailbox.config(), uri))
            .transpose()
    };
    let between = Between {
        backup: file("backup")?,
        restore: file("restore")?,
    };
    let mailbox = mailbox.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        mailbox.abdicate(between);
    });
    Ok(json_of(&json!({"message": "Leadership abdicated"})))
}

/// The file a URI means. Whoever may speak to Marathon must not thereby reach any file of its host, so that all lie in
/// one directory.
fn backup_file(config: &Config, uri: &str) -> Result<PathBuf, Error> {
    let refused = |why: String| Err(Error::Unprocessable(why));
    let Some(directory) = &config.backup_dir else {
        return refused("This Marathon has no directory for backups".to_owned());
    };
    let path = uri.strip_prefix("file://").map(Path::new);
    let named = path.filter(|path| path.parent() == Some(directory) && path.file_name().is_some());
    match named {
        Some(path) => Ok(path.to_owned()),
        None => refused(format!(
            "'{uri}' is no file in the directory of backups, such as file://{}",
            directory.join("name.json").display()
        )),
    }
}

/// What is measured.
pub(super) fn report(api: &Api) -> Report {
    let view = api.mailbox.view();
    let mut report = Report::default();
    for (name, value) in gauges(&view, api.mailbox.config()) {
        report.gauge(name, value);
    }
    for (name, count) in view.counters.named() {
        report.counter(name, count);
    }
    for (name, count) in view.counters.spoken.named("marathon") {
        report.counter(name, count);
    }
    let (streams, bytes) = api.http.streams();
    report.gauge("marathon.http.event-streams.active.gauge", streams);
    report.counter(
        "marathon.http.responses.event-stream.size.counter.bytes",
        bytes,
    );
    api.http.add_to(&mut report, "marathon");
    api.mailbox.writes().add_to(&mut report, "marathon");
    report
}

fn gauges(view: &View, config: &Config) -> [(&'static str, usize); 9] {
    let count = |test: &dyn Fn(Condition) -> bool| {
        view.all_instances()
            .filter(|instance| test(instance.condition))
            .count()
    };
    let now = Timestamp::from(dcos_core::time::steady());
    let (inflight, attempts) = view.kills;
    [
        ("marathon.apps.active.gauge", view.root.plain_apps().count()),
        (
            "marathon.pods.active.gauge",
            super::pods::pods(&view.root).count(),
        ),
        ("marathon.groups.active.gauge", view.root.groups.len()),
        ("marathon.deployments.active.gauge", view.deployments.len()),
        (
            "marathon.instances.running.gauge",
            count(&|condition| condition == Condition::Running),
        ),
        (
            "marathon.instances.staged.gauge",
            count(&Condition::is_launching),
        ),
        (
            "marathon.instances.launch-overdue.gauge",
            view.all_instances()
                .filter(|instance| is_overdue(instance, view, config, now))
                .count(),
        ),
        ("marathon.instances.inflight-kills.gauge", inflight),
        (
            "marathon.instances.inflight-kill-attempts.gauge",
            usize::try_from(attempts).unwrap_or(usize::MAX),
        ),
    ]
}

/// Whether nobody confirmed a launch in time, or a task takes too long to start.
fn is_overdue(instance: &Instance, view: &View, config: &Config, now: Timestamp) -> bool {
    let most = match instance.condition {
        Condition::Provisioned => config.task_launch_confirm_timeout,
        Condition::Staging | Condition::Starting => config.task_launch_timeout,
        _ => return false,
    };
    let since = view.connected_since.map(|since| since.max(instance.since));
    since.is_some_and(|since| since + most <= now)
}

pub(super) fn info(mailbox: &Mailbox) -> Response {
    let view = mailbox.view();
    let config = mailbox.config();
    json_of(&json!({
        "name": "marathon",
        "version": VERSION,
        "buildref": env!("CARGO_PKG_VERSION"),
        "elected": true,
        "leader": leader(mailbox),
        "frameworkId": view.framework_id,
        "marathon_config": marathon_config(config, view.master.as_deref()),
        // Kept although there may be no ZooKeeper: clients read these keys.
        "zookeeper_config": {
            "zk": null,
            "zk_compression": null,
            "zk_compression_threshold": null,
            "zk_connection_timeout": null,
            "zk_max_node_size": null,
            "zk_max_versions": config.max_versions,
            "zk_session_timeout": null,
            "zk_timeout": null,
        },
        "http_config": {
            "http_port": config.http_port,
            "https_port": config.tls.is_some().then_some(config.http_port),
        },
    }))
}

/// The settings this Marathon runs with.
pub(super) fn settings(mailbox: &Mailbox) -> Value {
    marathon_config(mailbox.config(), mailbox.view().master.as_deref())
}

fn marathon_config(config: &Config, master: Option<&str>) -> Value {
    let millis = |duration: std::time::Duration| duration.as_millis();
    json!({
        "access_control_allow_origin": config.origins.list(),
        "checkpoint": config.checkpoint,
        "decline_offer_duration": millis(config.decline_offer_duration),
        "default_network_name": config.default_network_name,
        "env_vars_prefix": config.env_vars_prefix,
        "executor": "//cmd",
        "failover_timeout": config.failover_timeout.as_secs(),
        "features": config.features,
        "framework_name": config.framework_name,
        "ha": true,
        "hostname": config.hostname,
        "launch_token": null,
        "launch_token_refresh_interval": null,
        "leader_proxy_connection_timeout_ms": millis(standby::CONNECT_TIMEOUT),
        "leader_proxy_read_timeout_ms": millis(standby::READ_TIMEOUT),
        "local_port_max": config.local_port_max,
        "local_port_min": config.local_port_min,
        "maintenance_mode": false,
        "master": config.master,
        "max_instances_per_offer": config.max_instances_per_offer,
        "mesos_bridge_name": config.mesos_bridge_name,
        "mesos_heartbeat_failure_threshold": 5,
        "mesos_heartbeat_interval": 15000,
        "mesos_leader_ui_url": master.map(|master| format!("{}://{master}/", Ssl::scheme())),
        "mesos_role": config.mesos_role,
        "mesos_user": config.mesos_user,
        "min_revive_offers_interval": millis(config.min_revive_offers_interval),
        "new_group_enforce_role": if config.new_group_enforce_role { "top" } else { "off" },
        "offer_matching_timeout": null,
        "on_elected_prepare_timeout": null,
        "reconciliation_initial_delay": 0,
        "reconciliation_interval": millis(config.reconciliation_interval),
        "scale_apps_initial_delay": 0,
        "scale_apps_interval": 0,
        "store_cache": true,
        "task_launch_confirm_timeout": millis(config.task_launch_confirm_timeout),
        "task_launch_timeout": millis(config.task_launch_timeout),
        "task_lost_expunge_initial_delay": 0,
        "task_lost_expunge_interval": 0,
        "task_reservation_timeout": null,
        "webui_url": config.webui_url,
    })
}
