//! An orchestrator of one's own, from the parts Marathon is made of: one copy of a service on every agent.
//!
//! ```text
//! cargo run -p examples --example custom_orchestrator -- 127.0.0.1:5050 'sleep 1000'
//! ```
//!
//! A copy that ends is launched again, and a new agent gets one as soon as it is offered. The engine knows what waits
//! ([`LaunchQueue`]), what suits ([`matches`] with the app's constraints), answers offers ([`answer`]) and makes tasks;
//! what is left for this program is to say that one more is always wanted, and only where none is yet.
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use dcos_core::seed::Seed;
use dcos_marathon::engine::{Launcher, Subscription, answer, calls};
use dcos_marathon::instance::{Condition, Instance, InstanceId, task_instance};
use dcos_marathon::matching::{Placed, Site, Supply, matches};
use dcos_marathon::model::App;
use dcos_marathon::queue::LaunchQueue;
use dcos_marathon::{Config, PathId, Timestamp, normalize, task};
use dcos_proto::mesos::offer::Operation;
use dcos_proto::mesos::{FrameworkId, FrameworkInfo, MasterInfo, Offer, TaskStatus};
use dcos_sched::sdk::{DriverConfig, Handle, HttpTransport, Scheduler, SchedulerDriver};
use dcos_wire::MediaType;
use tokio_util::sync::CancellationToken;

struct Everywhere {
    service: Arc<App>,
    instances: BTreeMap<InstanceId, Instance>,
    queue: LaunchQueue,
    subscription: Subscription,
    config: Config,
    seed: Seed,
}

impl Everywhere {
    fn new(command: &str, seed: Seed) -> anyhow::Result<Self> {
        let service = serde_json::json!({"id": "/everywhere", "cmd": command, "cpus": 0.1, "mem": 32, "role": "*",
            "constraints": [["hostname", "UNIQUE"]], "portDefinitions": []});
        let service = normalize::read_app(service.to_string().as_bytes())?;
        let rules = normalize::Rules {
            valid_roles: ["*".to_owned()].into(),
            ..normalize::Rules::default()
        };
        let root = PathId::root();
        let service = normalize::create(service, &root, &rules, Timestamp::default())?;
        Ok(Self {
            service: Arc::new(service),
            instances: BTreeMap::new(),
            queue: LaunchQueue::default(),
            subscription: Subscription::default(),
            config: Config::default(),
            seed,
        })
    }
}

#[async_trait]
impl Scheduler for Everywhere {
    async fn subscribed(&mut self, _: &Handle, id: FrameworkId, _: Option<MasterInfo>) {
        println!("subscribed as {id}");
    }

    async fn offers(&mut self, handle: &Handle, offers: Vec<Offer>) {
        let now = Timestamp::from(dcos_core::time::steady());
        self.queue.want(now, &Arc::clone(&self.service), u32::MAX);
        let config = self.config.clone();
        for call in answer(self, now, offers, &config).calls {
            if let Err(error) = handle.call(call).await {
                println!("answering offers: {error}");
            }
        }
    }

    async fn update(&mut self, handle: &Handle, status: TaskStatus) {
        let known = task_instance(&status.task_id.value);
        let Some(instance) = known.and_then(|id| self.instances.get_mut(&id)) else {
            return;
        };
        instance.condition = Condition::of(&status);
        println!("{}: {}", instance.agent.host, instance.condition.state());
        if instance.condition.is_terminal() {
            let id = instance.id.clone();
            self.instances.remove(&id);
            // The agent was declined for a while.
            handle.revive(Vec::new()).await.ok();
        }
    }
}

impl Launcher for Everywhere {
    fn queue(&self) -> &LaunchQueue {
        &self.queue
    }

    fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    fn launch(
        &mut self,
        now: Timestamp,
        spec: &PathId,
        site: &Site,
        supply: &mut Supply,
        offer: &Arc<Offer>,
    ) -> Option<Vec<Operation>> {
        let app = Arc::clone(&self.service);
        let placed = Placed::of(&app, self.instances.values().map(|one| &one.agent));
        let refused = |reasons| self.queue.refused(now, spec, offer, reasons);
        let found = matches(&app, site, supply, &placed, &mut self.seed)
            .map_err(refused)
            .ok()?;
        supply.take(&found.resources);
        let id = InstanceId::new(&app.id, &self.seed.uuid());
        let instance = Instance::launched(id, &app, site.agent.clone(), found.ports, now);
        let surroundings = task::Surroundings::default();
        let task = task::build(&app, &instance, found.resources, &surroundings);
        self.instances.insert(instance.id.clone(), instance);
        Some(vec![calls::launch(task)])
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let master = words.next().context("no master, such as 127.0.0.1:5050")?;
    let command = words.next().unwrap_or_else(|| "sleep 1000".to_owned());
    let framework = FrameworkInfo {
        user: "root".to_owned(),
        name: "everywhere".to_owned(),
        roles: vec!["*".to_owned()],
        ..FrameworkInfo::default()
    };
    let transport = Arc::new(HttpTransport::new([master], MediaType::Protobuf));
    let driver = SchedulerDriver::new(DriverConfig::new(framework), transport);
    let mut orchestrator = Everywhere::new(&command, Seed::from_os())?;
    driver
        .run(&mut orchestrator, &CancellationToken::new())
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dcos_core::resources::Resources;

    #[test]
    fn each_agent_gets_one() {
        let offer = |agent: &str| Offer {
            agent_id: agent.into(),
            hostname: agent.to_owned(),
            resources: Resources::parse("cpus:1;mem:1024").unwrap().to_messages(),
            ..Offer::default()
        };
        let mut all = Everywhere::new("serve", Seed::new(1)).unwrap();
        let now = Timestamp::default();
        all.queue.want(now, &Arc::clone(&all.service), u32::MAX);
        let config = all.config.clone();
        let mut launched = |agents: &[&str]| {
            let offers = agents.iter().map(|agent| offer(agent)).collect();
            answer(&mut all, now, offers, &config).launched
        };
        assert_eq!(launched(&["a", "b", "a"]), 2);
        assert_eq!(launched(&["b", "c"]), 1);
    }
}
