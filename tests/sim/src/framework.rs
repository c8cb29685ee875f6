//! A scripted framework: it wants a number of tasks done, and does them over if they get lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dcos_core::resources::Resources;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_proto::mesos::framework_info::{Capability, capability};
use dcos_proto::mesos::{
    AgentId, CommandInfo, Filters, FrameworkId, FrameworkInfo, Offer, TaskId, TaskInfo, TaskState,
    TaskStatus, offer,
};
use dcos_proto::scheduler::{Call, Event, call, event};

use crate::party::Party;

/// How often it asks what became of its tasks.
const RECONCILE: Duration = Duration::from_secs(30);
/// How long it waits before it subscribes again.
const RETRY: Duration = Duration::from_secs(1);

/// What the framework knows of one task.
#[derive(Debug, Clone)]
struct Known {
    agent: AgentId,
    state: TaskState,
}

/// A framework that keeps what it knows across broken connections.
#[derive(Debug)]
pub(crate) struct Framework {
    id: Option<FrameworkId>,
    /// Its stream, while it is subscribed.
    stream: Option<String>,
    /// When it subscribes again, if it is not.
    retry: Option<Time>,
    reconcile: Time,
    partition_aware: bool,
    /// How many tasks are still to be launched.
    wanted: usize,
    tasks: BTreeMap<String, Known>,
    /// The last offer of each agent since it has all it wanted: whether nothing was kept back.
    idle_offers: BTreeMap<AgentId, Resources>,
    /// What went wrong with what it saw.
    complaint: Option<String>,
    next: u64,
    name: String,
    seed: Seed,
}

impl Framework {
    pub(crate) fn new(number: usize, wanted: usize, seed: &Seed) -> Self {
        let mut seed = seed.stream(&format!("framework {number}"));
        Self {
            id: None,
            stream: None,
            retry: Some(Time::EPOCH),
            reconcile: Time::MAX,
            partition_aware: seed.chance(0.5),
            wanted,
            tasks: BTreeMap::new(),
            idle_offers: BTreeMap::new(),
            complaint: None,
            next: 0,
            name: format!("script-{number}"),
            seed,
        }
    }

    fn has_all(&self) -> bool {
        self.wanted == 0 && self.tasks.values().all(|task| is_over(task.state))
    }

    fn subscribe(&self) -> Call {
        let mut capabilities = vec![capability::Type::MultiRole];
        if self.partition_aware {
            capabilities.push(capability::Type::PartitionAware);
        }
        let info = FrameworkInfo {
            user: "nobody".to_owned(),
            name: self.name.clone(),
            id: self.id.clone(),
            failover_timeout: Some(604_800.0),
            checkpoint: Some(true),
            roles: vec!["sim".to_owned()],
            capabilities: capabilities
                .into_iter()
                .map(|kind| Capability {
                    r#type: Some(kind.into()),
                })
                .collect(),
            ..FrameworkInfo::default()
        };
        Call {
            framework_id: self.id.clone(),
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe {
                framework_info: info,
                ..call::Subscribe::default()
            }),
            ..Call::default()
        }
    }

    fn call(&self, kind: call::Type) -> Call {
        Call {
            framework_id: self.id.clone(),
            r#type: Some(kind.into()),
            ..Call::default()
        }
    }

    fn kill(&self, status: &TaskStatus) -> Call {
        let kill = call::Kill {
            task_id: status.task_id.clone(),
            agent_id: status.agent_id.clone(),
            ..call::Kill::default()
        };
        Call {
            kill: Some(kill),
            ..self.call(call::Type::Kill)
        }
    }

    fn reconcile_call(&self) -> Call {
        let open = self.tasks.iter().filter(|(_, task)| !is_over(task.state));
        let tasks = open.map(|(id, task)| call::reconcile::Task {
            task_id: TaskId::from(id.as_str()),
            agent_id: Some(task.agent.clone()),
        });
        let tasks = tasks.collect();
        Call {
            reconcile: Some(call::Reconcile { tasks }),
            ..self.call(call::Type::Reconcile)
        }
    }

    /// Launches what fits, or declines.
    fn answer(&mut self, offer: &Offer) -> Call {
        let refuse = [0.0, 1.0, 5.0][self.seed.index(3)];
        let filters = Some(Filters {
            refuse_seconds: Some(refuse),
        });
        let mut left = Resources::from_messages(&offer.resources);
        if self.has_all() {
            self.idle_offers
                .insert(offer.agent_id.clone(), left.unallocated());
        } else {
            self.idle_offers.clear();
        }
        let most = self.seed.index(4);
        let mut tasks = Vec::new();
        let need = Resources::parse("cpus:1;mem:64")
            .expect("it is well formed")
            .allocated_to("sim");
        while tasks.len() < most && self.wanted > 0 && left.contains(&need) {
            left -= &need;
            self.wanted -= 1;
            tasks.push(self.task(&offer.agent_id, &need));
        }
        let offer_ids = vec![offer.id.clone()];
        if tasks.is_empty() {
            let decline = call::Decline { offer_ids, filters };
            return Call {
                decline: Some(decline),
                ..self.call(call::Type::Decline)
            };
        }
        let launch = offer::Operation {
            r#type: Some(offer::operation::Type::Launch.into()),
            launch: Some(offer::operation::Launch { task_infos: tasks }),
            ..offer::Operation::default()
        };
        let accept = call::Accept {
            offer_ids,
            operations: vec![launch],
            filters,
        };
        Call {
            accept: Some(accept),
            ..self.call(call::Type::Accept)
        }
    }

    fn task(&mut self, agent: &AgentId, need: &Resources) -> TaskInfo {
        self.next += 1;
        let id = format!("{}-task-{}", self.name, self.next);
        let known = Known {
            agent: agent.clone(),
            state: TaskState::TaskStaging,
        };
        self.tasks.insert(id.clone(), known);
        TaskInfo {
            name: id.clone(),
            task_id: TaskId::from(id),
            agent_id: agent.clone(),
            resources: need.to_messages(),
            command: Some(CommandInfo {
                value: Some("true".to_owned()),
                ..CommandInfo::default()
            }),
            ..TaskInfo::default()
        }
    }

    fn update(&mut self, status: TaskStatus) -> Option<Call> {
        let state = status.state();
        let id = status.task_id.value.clone();
        match self.tasks.get_mut(&id) {
            None => {
                self.complaint = Some(format!("an update for {id}, which was never launched"));
            }
            Some(task) => {
                if task.state == TaskState::TaskFinished && state != TaskState::TaskFinished {
                    // Mesos declares a task lost with its agent even if it has finished, as long
                    // as nobody acknowledged that. The agent itself must not change its mind.
                    if is_over(state) && status.uuid.is_some() {
                        let text = format!("{id} finished and then was {state:?}");
                        self.complaint = Some(text);
                    }
                } else {
                    // What was believed lost may come back (partitions heal); it is done over
                    // only once.
                    if !is_over(task.state) && is_over(state) && state != TaskState::TaskFinished {
                        self.wanted += 1;
                    }
                    if is_over(task.state) && !is_over(state) {
                        // It came back: let it run beside its replacement.
                        task.state = state;
                        self.wanted = self.wanted.saturating_sub(1);
                    } else if task.state != TaskState::TaskFinished {
                        task.state = state;
                    }
                }
            }
        }
        let uuid = status.uuid.filter(|uuid| !uuid.is_empty())?;
        let acknowledge = call::Acknowledge {
            agent_id: status.agent_id.unwrap_or_default(),
            task_id: status.task_id,
            uuid,
        };
        Some(Call {
            acknowledge: Some(acknowledge),
            ..self.call(call::Type::Acknowledge)
        })
    }
}

impl Party for Framework {
    fn stream(&self) -> Option<&str> {
        self.stream.as_deref()
    }

    fn next_deadline(&self, _now: Time) -> Time {
        self.retry.unwrap_or(Time::MAX).min(self.reconcile)
    }

    fn tick(&mut self, now: Time, _is_calm: bool) -> Vec<Call> {
        if self.retry.is_some_and(|retry| retry.is_due(now)) {
            // Whether the call arrives or not, it is tried again unless an answer comes.
            self.retry = Some(now + 10 * RETRY);
            return vec![self.subscribe()];
        }
        if self.reconcile.is_due(now) {
            self.reconcile = now + RECONCILE;
            return vec![self.reconcile_call()];
        }
        Vec::new()
    }

    fn subscribed(&mut self, now: Time, stream: String) {
        self.stream = Some(stream);
        self.retry = None;
        self.reconcile = now + Duration::from_secs(1);
    }

    fn refused(&mut self, now: Time) {
        if self.stream.is_none() {
            self.retry = Some(now + RETRY);
        }
    }

    fn disconnected(&mut self, now: Time) {
        self.stream = None;
        self.retry = Some(now + RETRY.mul_f64(1.0 + self.seed.unit()));
        self.reconcile = Time::MAX;
    }

    fn crash(&mut self, now: Time) {
        // It writes down everything, so that only its connection is lost.
        self.disconnected(now);
    }

    fn event(&mut self, _now: Time, event: &Arc<Event>) -> Vec<Call> {
        match event.r#type() {
            event::Type::Subscribed => {
                self.id = event.subscribed.as_ref().map(|it| it.framework_id.clone());
                Vec::new()
            }
            event::Type::Offers => {
                let offers = event.offers.clone().unwrap_or_default().offers;
                offers
                    .into_iter()
                    .map(|offer| self.answer(&offer))
                    .collect()
            }
            event::Type::Update => {
                let status = event.update.clone().unwrap_or_default().status;
                let doomed = status.state() == TaskState::TaskRunning && self.seed.chance(0.05);
                let kill = doomed.then(|| self.kill(&status));
                self.update(status).into_iter().chain(kill).collect()
            }
            event::Type::Error => {
                let text = event.error.as_ref().map(|error| error.message.clone());
                self.complaint = Some(format!(
                    "the master says ERROR: {}",
                    text.unwrap_or_default()
                ));
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn is_content(&self, _now: Time) -> bool {
        self.has_all()
    }

    fn idle_offer(&self, agent: &AgentId) -> Option<&Resources> {
        self.idle_offers.get(agent)
    }

    fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    fn open(&self, _now: Time) -> String {
        let open = self.tasks.iter().filter(|(_, task)| !is_over(task.state));
        let open: Vec<String> = open
            .map(|(id, task)| format!("{id} {:?} on {}", task.state, task.agent))
            .collect();
        format!("{} to launch, open: [{}]", self.wanted, open.join(", "))
    }
}

/// Whether a framework that starts things over would do so now.
fn is_over(state: TaskState) -> bool {
    matches!(
        state,
        TaskState::TaskFinished
            | TaskState::TaskFailed
            | TaskState::TaskKilled
            | TaskState::TaskError
            | TaskState::TaskLost
            | TaskState::TaskDropped
            | TaskState::TaskGone
            | TaskState::TaskGoneByOperator
            | TaskState::TaskUnknown
    )
}
