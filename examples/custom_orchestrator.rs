//! An orchestrator of one's own, from the parts Marathon is made of: it keeps an app running, and replaces its instances
//! by those of the next app, within the upgrade strategy of that, as soon as all are healthy.
//!
//! ```text
//! app='{"id": "/web", "cmd": "sleep 1000", "instances": 3, "cpus": 0.1, "mem": 32,
//!     "healthChecks": [{"protocol": "COMMAND", "command": {"value": "test -w ."}, "intervalSeconds": 1}]}'
//! cargo run -p examples --example custom_orchestrator -- 127.0.0.1:5050 "$app" "${app/1000/2000}"
//! ```
//!
//! After each event [`decide`] compares what is with what should be, and names who has to go and how many are to be
//! launched. The queue knows what waits, [`matches`] what suits; [`answer`] turns offers into calls.
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use dcos_core::seed::Seed;
use dcos_marathon::deployment::drive::{Drive, Member, decide};
use dcos_marathon::engine::{Launcher, Subscription, answer, calls};
use dcos_marathon::health::Health;
use dcos_marathon::instance::{Condition, Goal, Instance, InstanceId, task_instance};
use dcos_marathon::matching::{Placed, Site, Supply, matches};
use dcos_marathon::model::App;
use dcos_marathon::queue::LaunchQueue;
use dcos_marathon::{Config, PathId, Timestamp, normalize, task};
use dcos_proto::mesos::offer::Operation;
use dcos_proto::mesos::{FrameworkId, FrameworkInfo, MasterInfo, Offer, TaskStatus};
use dcos_proto::scheduler::Call;
use dcos_sched::sdk::{DriverConfig, Handle, HttpTransport, Scheduler, SchedulerDriver};
use dcos_wire::MediaType;
use tokio_util::sync::CancellationToken;

/// The `version`th app, as Marathon reads and completes it.
fn app(document: &str, version: i64) -> anyhow::Result<Arc<App>> {
    let rules = normalize::Rules {
        default_role: "*".to_owned(),
        valid_roles: ["*".to_owned()].into(),
        ..normalize::Rules::default()
    };
    let app = normalize::read_app(document.as_bytes())?;
    let (root, version) = (PathId::root(), Timestamp::from_millis(version));
    Ok(Arc::new(normalize::create(app, &root, &rules, version)?))
}

struct Copies {
    app: Arc<App>,
    next: VecDeque<Arc<App>>,
    instances: BTreeMap<InstanceId, Instance>,
    queue: LaunchQueue,
    subscription: Subscription,
    seed: Seed,
}

impl Copies {
    fn new(documents: &[String], seed: Seed) -> anyhow::Result<Self> {
        let apps = documents.iter().zip(0..);
        let mut next: VecDeque<_> = apps
            .map(|(text, at)| app(text, at))
            .collect::<Result<_, _>>()?;
        let app = next.pop_front().context("no app")?;
        let (instances, queue, subscription) = Default::default();
        Ok(Self {
            app,
            next,
            instances,
            queue,
            subscription,
            seed,
        })
    }

    /// What follows from what there is.
    fn settle(&mut self, now: Timestamp) -> Vec<Call> {
        let active = self.instances.values().filter(|one| one.is_active());
        let members: Vec<_> = active.map(|one| Member::of(one, Some(&self.app))).collect();
        let decision = decide(Drive::Restart { spec: &self.app }, &members);
        if decision.done
            && let Some(next) = self.next.pop_front()
        {
            println!("all copies of {:?} are healthy", self.app.cmd);
            self.app = next;
            return self.settle(now);
        }
        let mut all = Vec::new();
        let victims = self
            .instances
            .values_mut()
            .filter(|one| decision.kill.contains(&one.id));
        for instance in victims {
            instance.goal = Goal::Decommissioned;
            all.extend(calls::kill_instance(instance));
        }
        if self.queue.want(now, &self.app, decision.launch) {
            all.push(calls::revive());
        }
        all
    }

    fn status(&mut self, now: Timestamp, status: &TaskStatus) -> Vec<Call> {
        let known = task_instance(&status.task_id.value);
        if let Some(instance) = known.and_then(|id| self.instances.get_mut(&id)) {
            instance.condition = Condition::of(status);
            instance.health.resize_with(1, Health::default);
            match status.healthy {
                Some(true) => instance.health[0].pass(now),
                Some(false) => instance.health[0].fail(now, "its check failed", true),
                None => {}
            }
        }
        self.instances.retain(|_, one| !one.condition.is_terminal());
        self.settle(now)
    }
}

#[async_trait]
impl Scheduler for Copies {
    async fn subscribed(&mut self, handle: &Handle, _: FrameworkId, _: Option<MasterInfo>) {
        send(handle, self.settle(now())).await;
    }

    async fn offers(&mut self, handle: &Handle, offers: Vec<Offer>) {
        send(
            handle,
            answer(self, now(), offers, &Config::default()).calls,
        )
        .await;
    }

    async fn update(&mut self, handle: &Handle, status: TaskStatus) {
        println!("{}: {}", status.task_id, Condition::of(&status).state());
        send(handle, self.status(now(), &status)).await;
    }
}

fn now() -> Timestamp {
    dcos_core::time::steady().into()
}

async fn send(handle: &Handle, calls: Vec<Call>) {
    for call in calls {
        if let Err(error) = handle.call(call).await {
            println!("{error}");
        }
    }
}

impl Launcher for Copies {
    fn queue(&self) -> &LaunchQueue {
        &self.queue
    }

    fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    fn launch(
        &mut self,
        now: Timestamp,
        _: &PathId,
        site: &Site,
        supply: &mut Supply,
        _: &Arc<Offer>,
    ) -> Option<Vec<Operation>> {
        let app = &self.app;
        let found = matches(app, site, supply, &Placed::default(), &mut self.seed).ok()?;
        supply.take(&found.resources);
        let id = InstanceId::new(&app.id, &self.seed.uuid());
        let instance = Instance::launched(id, app, site.agent.clone(), found.ports, now);
        let surroundings = task::Surroundings::default();
        let task = task::build(app, &instance, found.resources, &surroundings);
        self.instances.insert(instance.id.clone(), instance);
        self.queue.launched(now, &app.id);
        Some(vec![calls::launch(task)])
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let master = words.next().context("no master, such as 127.0.0.1:5050")?;
    let mut copies = Copies::new(&words.collect::<Vec<_>>(), Seed::from_os())?;
    let framework = FrameworkInfo {
        user: "root".into(),
        name: "copies".into(),
        roles: vec!["*".into()],
        ..FrameworkInfo::default()
    };
    let transport = Arc::new(HttpTransport::new([master], MediaType::Protobuf));
    let driver = SchedulerDriver::new(DriverConfig::new(framework), transport);
    driver.run(&mut copies, &CancellationToken::new()).await?;
    Ok(())
}

#[cfg(test)]
#[path = "custom_orchestrator/tests.rs"]
mod tests;
