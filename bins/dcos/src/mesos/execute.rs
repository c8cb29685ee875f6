//! `mesos-execute`: runs one task, or a group, and tells of each of its states.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use dcos_core::config::{Schema, Values};
use dcos_core::resources::Resources;
use dcos_core::states::is_terminal;
use dcos_proto::json::{self, Dialect};
use dcos_proto::mesos::{Filters, FrameworkId, MasterInfo, Offer, TaskId, TaskState, TaskStatus};
use dcos_sched::sdk::{
    DriverConfig, Handle, HttpTransport, Scheduler, SchedulerDriver, TransportError,
};
use dcos_security::Credential;
use dcos_store::{Ensemble, TlsFiles, masters};
use dcos_wire::tls::Ssl;
use dcos_wire::{Client, ClientConfig, MediaType};
use tokio_util::sync::CancellationToken;

use super::order::{self, Order};
use crate::{leader, output};

/// After how long without a master that is told.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn run(arguments: Vec<String>) -> anyhow::Result<ExitCode> {
    let about = "Runs one task on a Mesos cluster, and tells what becomes of it.";
    let schema = Schema::new("mesos-execute", about).with(order::OPTIONS);
    let values = match super::load(&schema, arguments)? {
        Ok(values) => values,
        Err(ended) => return Ok(ended),
    };
    let order = Order::of(&values)?;
    let framework = order::framework(&values, user()?)?;
    let subscribed = CancellationToken::new();
    let mut scheduler = Execute {
        subscribed: subscribed.clone(),
        role: values.text("role"),
        kill_after: values.opt_duration("kill_after"),
        waiting: order.task_ids().cloned().collect(),
        order,
        framework: FrameworkId::default(),
        launched: false,
        refused: None,
    };
    let driver = SchedulerDriver::new(DriverConfig::new(framework), transport(&values)?);
    let master = leader::shown(&values.text("master"));
    tokio::spawn(async move {
        let answered = subscribed.cancelled();
        if tokio::time::timeout(PATIENCE, answered).await.is_err() {
            output::notice(format!(
                "No master answers at {master} yet; going on trying."
            ));
        }
    });
    let done = driver.run(&mut scheduler, &CancellationToken::new()).await;
    if let Some(message) = scheduler.refused {
        bail!("Received an ERROR event: {message}");
    }
    done?;
    Ok(ExitCode::SUCCESS)
}

/// Whom the task runs as: whoever calls.
fn user() -> anyhow::Result<String> {
    let id = std::process::Command::new("id").arg("-un").output();
    let id = id.context("asking `id -un` for the user's name")?;
    let name = String::from_utf8(id.stdout).context("the user's name")?;
    match name.trim() {
        "" => bail!("this user has no name, and a task runs as somebody"),
        name => Ok(name.to_owned()),
    }
}

fn transport(values: &Values) -> anyhow::Result<Arc<HttpTransport>> {
    let credential = values
        .opt_text("principal")
        .zip(values.opt_text("secret"))
        .map(|(principal, secret)| Credential::new(principal, secret.trim()));
    let client = Client::with_config(ClientConfig {
        tls: Ssl::from_env()?.map(|ssl| ssl.client),
        authorization: credential.map(|credential| credential.basic()),
        ..ClientConfig::default()
    })?;
    let media = if values.text("content_type").ends_with("json") {
        MediaType::Json
    } else {
        MediaType::Protobuf
    };
    let master = values.text("master");
    Ok(Arc::new(if Ensemble::is_named_by(&master) {
        let ensemble = Ensemble::parse(&master)?.with_tls(&TlsFiles::from_env())?;
        HttpTransport::following(masters(&ensemble), media, client)
    } else {
        HttpTransport::with_client(master.split(','), media, client)
    }))
}

/// Launches what it is told in the first offer that has enough, and stops when all of it has ended.
struct Execute {
    order: Order,
    subscribed: CancellationToken,
    role: String,
    kill_after: Option<Duration>,
    framework: FrameworkId,
    launched: bool,
    /// Tasks that have not ended.
    waiting: BTreeSet<TaskId>,
    /// What the master ended the framework with.
    refused: Option<String>,
}

#[async_trait]
impl Scheduler for Execute {
    async fn subscribed(&mut self, _: &Handle, id: FrameworkId, _: Option<MasterInfo>) {
        self.subscribed.cancel();
        output::line(format!("Subscribed with ID {id}"));
        self.framework = id;
    }

    async fn offers(&mut self, handle: &Handle, offers: Vec<Offer>) {
        for offer in offers {
            let launch = self.order.launch(&self.framework, &self.role, &offer);
            let Some(launch) = launch.filter(|_| !self.launched) else {
                // More is wanted until it is launched, and nothing after.
                let seconds = if self.launched { 1e6 } else { 5.0 };
                let filters = Filters {
                    refuse_seconds: Some(seconds),
                };
                let _ = handle.decline(vec![offer.id], Some(filters)).await;
                continue;
            };
            self.launched = true;
            let done = handle.accept(vec![offer.id], vec![launch], None).await;
            let what = match &self.order {
                Order::Task(task) => format!("task '{}'", task.name),
                Order::Group(..) => {
                    let ids: Vec<_> = self.order.task_ids().map(ToString::to_string).collect();
                    format!("task group with tasks [ {} ]", ids.join(", "))
                }
            };
            match done {
                Ok(()) => output::line(format!("Submitted {what} to agent '{}'", offer.agent_id)),
                // Others are offered.
                Err(error @ (TransportError::NotReady { .. } | TransportError::Refused { .. })) => {
                    self.launched = false;
                    output::notice(format!("Submitting {what}: {error}"));
                    continue;
                }
                // Whether it arrived is told by an update, or by nobody.
                Err(error) => output::notice(format!("Submitting {what}: {error}")),
            }
            let _ = handle.suppress(Vec::new()).await;
        }
    }

    async fn update(&mut self, handle: &Handle, status: TaskStatus) {
        output::lines(words(&status).into_iter());
        if let Some(after) = self
            .kill_after
            .filter(|_| status.state() == TaskState::TaskRunning)
        {
            let (handle, status) = (handle.clone(), status.clone());
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                let (task, agent) = (status.task_id, status.agent_id.unwrap_or_default());
                output::line(format!("Asked to kill task '{task}' on agent '{agent}'"));
                if let Err(error) = handle.kill(task, Some(agent), None).await {
                    output::line(format!("Killing it: {error}"));
                }
            });
        }
        if is_terminal(status.state()) {
            self.waiting.remove(&status.task_id);
        }
        if self.waiting.is_empty() {
            let _ = handle.acknowledge(&status).await;
            if handle.teardown().await.is_err() {
                // It has no failover timeout: the master removes it once the stream is closed.
                handle.stop();
            }
        }
    }

    async fn error(&mut self, message: String) {
        self.refused = Some(message);
    }
}

/// How the original tells of a status, line by line.
fn words(status: &TaskStatus) -> Vec<String> {
    let (state, task) = (status.state().as_str_name(), &status.task_id);
    let mut words = vec![format!("Received status update {state} for task '{task}'")];
    if let Some(message) = &status.message {
        words.push(format!("  message: '{message}'"));
    }
    if status.source.is_some() {
        words.push(format!("  source: {}", status.source().as_str_name()));
    }
    if status.reason.is_some() {
        words.push(format!("  reason: {}", status.reason().as_str_name()));
    }
    if let Some(healthy) = status.healthy {
        words.push(format!("  healthy?: {}", u8::from(healthy)));
    }
    if let Some(check) = &status.check_status {
        let check = json::to_string(check, Dialect::V1);
        words.push(format!("  check status: {check}"));
    }
    let limitation = status.limitation.as_ref();
    if let Some(limitation) = limitation.filter(|limitation| !limitation.resources.is_empty()) {
        let resources = Resources::from_messages(&limitation.resources);
        words.push(format!("  resource limit violation: {resources}"));
    }
    words
}
