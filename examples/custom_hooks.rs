//! Code of one's own where master and agent decide: the master labels tasks with who pays for them, the agent tells in
//! which rack it stands, its tasks find both in their environment, and what is told of them names the rack.
//!
//! Run: `cargo run -p examples --example custom_hooks`
//!
//! ```text
//! offered an agent in rack r7
//! hello is told of: TASK_STARTING in rack r7
//! hello is told of: TASK_RUNNING in rack r7
//! hello is told of: TASK_FINISHED in rack r7
//! ```
//!
//! The task succeeds only if it finds `4711 r7` in its environment.

#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use dcos_containerizer::agent::{self, AgentHooks, StatusChange};
use dcos_containerizer::containerizer::Processes;
use dcos_core::resources::Resources;
use dcos_proto::mesos::value::{Text, Type};
use dcos_proto::mesos::{
    AgentInfo, Attribute, CommandInfo, Environment, ExecutorInfo, FrameworkId, FrameworkInfo,
    Label, Labels, MasterInfo, Offer, TaskInfo, TaskState, TaskStatus, environment,
};
use dcos_sched::master::{Config, MasterHooks, Node};
use dcos_sched::sdk::{DriverConfig, Handle, Scheduler, SchedulerDriver};
use dcos_store::{Fence, MemoryStore, Term};
use dcos_wire::Listener;
use tokio_util::sync::CancellationToken;

const PAYS: &str = "cost_centre";
const RACK: &str = "rack";

/// `own` with one more label.
fn with(own: Option<&Labels>, key: &str, value: &str) -> Labels {
    let mut all = own.cloned().unwrap_or_default();
    all.labels.retain(|label| label.key != key);
    all.labels.push(Label {
        key: key.to_owned(),
        value: Some(value.to_owned()),
    });
    all
}

fn find<'a>(labels: Option<&'a Labels>, key: &str) -> Option<&'a str> {
    let mut labels = labels?.labels.iter();
    labels.find(|label| label.key == key)?.value.as_deref()
}

/// In the master: who pays for a framework's tasks.
#[derive(Debug)]
struct CostCentre(&'static str);

impl MasterHooks for CostCentre {
    fn task_labels(&self, task: &TaskInfo, _: &FrameworkInfo, _: &AgentInfo) -> Option<Labels> {
        Some(with(task.labels.as_ref(), PAYS, self.0))
    }
}

/// In the agent: where it stands.
#[derive(Debug)]
struct Rack(&'static str);

impl AgentHooks for Rack {
    fn attributes(&self, agent: &AgentInfo) -> Option<Vec<Attribute>> {
        let mut all = agent.attributes.clone();
        all.push(Attribute {
            name: RACK.to_owned(),
            r#type: Type::Text.into(),
            text: Some(Text {
                value: self.0.to_owned(),
            }),
            ..Attribute::default()
        });
        Some(all)
    }

    fn executor_environment(&self, executor: &ExecutorInfo) -> Option<Environment> {
        let command = executor.command.as_ref();
        let mut all = command
            .and_then(|command| command.environment.clone())
            .unwrap_or_default();
        let pays = find(executor.labels.as_ref(), PAYS).unwrap_or("nobody");
        for (name, value) in [("RACK", self.0), ("COST_CENTRE", pays)] {
            all.variables.push(environment::Variable {
                name: name.to_owned(),
                value: Some(value.to_owned()),
                ..environment::Variable::default()
            });
        }
        Some(all)
    }

    fn task_status(&self, _: &FrameworkId, status: &TaskStatus) -> StatusChange {
        StatusChange {
            labels: Some(with(status.labels.as_ref(), RACK, self.0)),
            ..StatusChange::default()
        }
    }
}

/// Runs one task that looks at its environment.
#[derive(Default)]
struct Hello {
    launched: bool,
    end: Option<TaskState>,
}

#[async_trait]
impl Scheduler for Hello {
    async fn subscribed(&mut self, _: &Handle, _: FrameworkId, _: Option<MasterInfo>) {}

    async fn offers(&mut self, handle: &Handle, offers: Vec<Offer>) {
        if std::mem::replace(&mut self.launched, true) {
            return;
        }
        for offer in offers {
            let mut attributes = offer.attributes.iter();
            let rack = attributes.find(|attribute| attribute.name == RACK);
            let rack = rack.and_then(|rack| rack.text.as_ref());
            println!(
                "offered an agent in rack {}",
                rack.map_or("?", |rack| &rack.value)
            );
            let task = TaskInfo {
                name: "hello".to_owned(),
                task_id: "hello".into(),
                agent_id: offer.agent_id.clone(),
                resources: Resources::parse("cpus:0.1;mem:32")
                    .unwrap_or_default()
                    .to_messages(),
                command: Some(CommandInfo {
                    value: Some("test \"$COST_CENTRE $RACK\" = '4711 r7'".to_owned()),
                    ..CommandInfo::default()
                }),
                ..TaskInfo::default()
            };
            handle.launch(vec![offer.id], vec![task], None).await.ok();
        }
    }

    async fn update(&mut self, handle: &Handle, status: TaskStatus) {
        let rack = find(status.labels.as_ref(), RACK).unwrap_or("?");
        let state = status.state();
        println!(
            "{} is told of: {} in rack {rack}",
            status.task_id,
            state.as_str_name()
        );
        if !matches!(state, TaskState::TaskStarting | TaskState::TaskRunning) {
            self.end = Some(state);
            handle.acknowledge(&status).await.ok();
            handle.teardown().await.ok();
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("custom-hooks-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let ended = cluster(&folder).await;
    std::fs::remove_dir_all(&folder)?;
    ended
}

async fn cluster(folder: &Path) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let listener = Listener::tcp((Ipv4Addr::LOCALHOST, 0).into()).await?;
    let address = listener.address().context("bound to TCP")?;
    let mut config = Config::default();
    config.settings.hooks.push(Arc::new(CostCentre("4711")));
    let node = Node::new(config);
    let master = node.handle();
    let (store, fence) = (Arc::new(MemoryStore::new()), Fence::new("master", Term(1)));
    let deciding = tokio::spawn(node.run(store, fence, listener, stop.clone()));

    let listener = Listener::tcp((Ipv4Addr::LOCALHOST, 0).into()).await?;
    let mut config = agent::Config {
        resources: "cpus:1;mem:512;disk:1024".to_owned(),
        switch_user: false,
        ..agent::Config::new(address.to_string(), folder)
    };
    config.hooks.push(Arc::new(Rack("r7")));
    let containers = Arc::new(Processes::new());
    let working = tokio::spawn(agent::run(config, containers, listener, stop.clone()));

    let framework = FrameworkInfo {
        user: "nobody".to_owned(),
        name: "hello".to_owned(),
        ..FrameworkInfo::default()
    };
    let driver = SchedulerDriver::new(DriverConfig::new(framework), Arc::new(master));
    let mut hello = Hello::default();
    driver.run(&mut hello, &stop).await?;
    stop.cancel();
    working.await?.context("the agent")?;
    deciding.await?.context("the master")?;
    anyhow::ensure!(
        hello.end == Some(TaskState::TaskFinished),
        "{:?}",
        hello.end
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_keep_the_promises() {
        dcos_sched::master::hooks::testkit::all(&CostCentre("4711"));
        dcos_containerizer::agent::hooks::testkit::all(&Rack("r7"));
    }

    #[test]
    fn the_example_runs() {
        main().unwrap();
    }
}
