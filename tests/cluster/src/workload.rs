//! A framework that counts what it is told, and what it is not.
//!
//! *Long* tasks run until the end; each writes down its process number once. *Short* tasks come and go all the time;
//! each writes down that it ran. What was written and what was told must agree.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use dcos_core::resources::Resources;
use dcos_proto::mesos::{
    AgentId, CommandInfo, Filters, FrameworkId, FrameworkInfo, MasterInfo, Offer, TaskId, TaskInfo,
    TaskState, TaskStatus, framework_info, task_status::Reason,
};
use dcos_sched::sdk::{
    DriverConfig, Handle, HttpTransport, LeadingMaster, Scheduler, SchedulerDriver,
};
use dcos_wire::{Client, MediaType};
use tokio_util::sync::CancellationToken;

/// What a framework wants to run.
#[derive(Debug, Clone, Copy)]
pub struct Wants {
    /// What it is called.
    pub name: &'static str,
    /// Long tasks on each agent.
    pub long: usize,
    /// Short tasks that are on their way at a time.
    pub short: usize,
}

/// What was seen of the tasks.
#[derive(Debug, Default)]
pub struct Seen {
    /// All tasks that were launched, by id.
    pub tasks: BTreeMap<String, Task>,
    /// How often a master subscribed us, and when last.
    pub subscribed: (u32, Option<Instant>),
    /// When resources were last offered.
    pub offered: Option<Instant>,
    /// When a task's state was last told.
    pub updated: Option<Instant>,
    /// What must never be told of a long task.
    pub wrong: Vec<String>,
    /// Whether short tasks are still begun.
    pub ending: bool,
    /// The agents that were told to end their tasks.
    pub excused: BTreeSet<AgentId>,
}

/// A task as its updates tell it.
#[derive(Debug)]
pub struct Task {
    /// Where it was launched.
    pub agent: AgentId,
    /// Its last state, if any was told.
    pub state: Option<TaskState>,
    /// Whether it is to run for ever.
    pub long: bool,
    /// Whether an update said that it ran, or had run.
    pub reported: bool,
    /// All that was told of it, for those who look into what went wrong.
    pub told: Vec<String>,
}

impl Task {
    fn is_over(&self) -> bool {
        use TaskState as S;
        matches!(
            self.state,
            Some(
                S::TaskFinished
                    | S::TaskFailed
                    | S::TaskKilled
                    | S::TaskError
                    | S::TaskLost
                    | S::TaskDropped
                    | S::TaskGone
                    | S::TaskGoneByOperator
                    | S::TaskUnknown
            )
        )
    }
}

/// The framework, while it runs.
#[derive(Debug)]
pub struct Workload {
    seen: Arc<Mutex<Seen>>,
    handle: Handle,
    directory: PathBuf,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Workload {
    /// Subscribes a framework, which keeps what its tasks write in `directory`.
    pub fn start(leading: LeadingMaster, wants: Wants, directory: &Path) -> Self {
        let framework = FrameworkInfo {
            user: "root".to_owned(),
            name: wants.name.to_owned(),
            failover_timeout: Some(3600.0),
            checkpoint: Some(true),
            capabilities: vec![framework_info::Capability {
                r#type: Some(framework_info::capability::Type::PartitionAware.into()),
            }],
            ..FrameworkInfo::default()
        };
        let transport = HttpTransport::following(leading, MediaType::Protobuf, Client::new());
        let config = DriverConfig {
            backoff: (Duration::from_millis(100), Duration::from_secs(2)),
            ..DriverConfig::new(framework)
        };
        let driver = SchedulerDriver::new(config, Arc::new(transport));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (handle, stop) = (driver.handle(), CancellationToken::new());
        let mut drill = Drill {
            seen: Arc::clone(&seen),
            directory: directory.to_owned(),
            wants,
            number: 0,
        };
        let stopped = stop.clone();
        let running = tokio::spawn(async move {
            driver.run(&mut drill, &stopped).await?;
            Ok(())
        });
        Self {
            seen,
            handle,
            directory: directory.to_owned(),
            stop,
            running,
        }
    }

    /// What was seen until now.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    /// Waits until `what` holds; `false` if it does not for `patience`.
    pub async fn sees(&self, patience: Duration, what: impl Fn(&Seen) -> bool) -> bool {
        let begin = Instant::now();
        while !what(&self.seen()) {
            if begin.elapsed() > patience || self.running.is_finished() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        true
    }

    /// How many long tasks are known to run.
    pub fn long_running(&self) -> usize {
        let running = |task: &&Task| task.long && task.state == Some(TaskState::TaskRunning);
        self.seen().tasks.values().filter(running).count()
    }

    /// Its id, once it is subscribed.
    pub fn framework_id(&self) -> Option<String> {
        self.handle.framework_id().map(|id| id.value)
    }

    /// From now on tasks of this agent may end.
    pub fn excuse(&self, agent: &str) {
        self.seen().excused.insert(AgentId::from(agent));
    }

    /// How many long tasks are known to run on an agent.
    pub fn running_on(&self, agent: &str) -> usize {
        let seen = self.seen();
        let running = seen.tasks.values().filter(|task| {
            task.long && task.agent.value == agent && task.state == Some(TaskState::TaskRunning)
        });
        running.count()
    }

    /// The long tasks whose processes are there.
    pub fn alive(&self) -> Vec<String> {
        let seen = self.seen();
        let long = seen.tasks.iter().filter(|(_, task)| task.long);
        let alive = long.filter(|(id, _)| {
            let begun = std::fs::read_to_string(self.directory.join(id));
            begun.is_ok_and(|begun| begun.lines().any(is_asleep))
        });
        alive.map(|(id, _)| id.clone()).collect()
    }

    /// Begins no more short tasks, and waits until the end of each is known.
    pub async fn settle(&self, patience: Duration) -> bool {
        self.seen().ending = true;
        let begin = Instant::now();
        let open = |seen: &Seen| {
            seen.tasks
                .values()
                .any(|task| !task.long && !task.is_over())
        };
        while open(&self.seen()) {
            if begin.elapsed() > patience {
                return false;
            }
            let asked = unfinished(&self.seen());
            let _ = self.handle.reconcile(asked).await;
            let settled = self.sees(Duration::from_secs(3), |seen| !open(seen));
            settled.await;
        }
        true
    }

    /// What was told against what was done: everything that went wrong.
    pub fn judge(&self) -> Vec<String> {
        let seen = self.seen();
        let mut wrong = seen.wrong.clone();
        if self.running.is_finished() {
            wrong.push("the framework was ended".to_owned());
        }
        for (id, task) in &seen.tasks {
            let ran = std::fs::read_to_string(self.directory.join(id)).unwrap_or_default();
            let begun: Vec<&str> = ran.lines().collect();
            let excused = seen.excused.contains(&task.agent) && task.is_over();
            if begun.len() > 1 {
                wrong.push(format!("{id} was begun {} times", begun.len()));
            }
            if excused {
                continue;
            }
            if task.long {
                let alive = begun.first().is_some_and(|pid| is_asleep(pid));
                if !alive {
                    wrong.push(format!("{id} does not run any more: {:?}", task.state));
                }
            } else if !begun.is_empty() && task.state != Some(TaskState::TaskFinished) {
                wrong.push(format!("{id} ran, and was told to be {:?}", task.told));
            } else if begun.is_empty() && task.reported {
                wrong.push(format!(
                    "{id} did not run, and was told to be {:?}",
                    task.told
                ));
            }
        }
        wrong
    }

    /// Ends the framework; its tasks go on.
    pub async fn stop(self) {
        self.stop.cancel();
        let _ = self.running.await;
    }
}

/// Whether the process of a long task is still the one it was.
fn is_asleep(pid: &str) -> bool {
    let command = std::fs::read_to_string(format!("/proc/{pid}/comm"));
    command.is_ok_and(|command| command.trim() == "sleep")
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unfinished(seen: &Seen) -> Vec<(TaskId, Option<AgentId>)> {
    let open = seen.tasks.iter().filter(|(_, task)| !task.is_over());
    open.map(|(id, task)| (TaskId::from(id.as_str()), Some(task.agent.clone())))
        .collect()
}

struct Drill {
    seen: Arc<Mutex<Seen>>,
    directory: PathBuf,
    wants: Wants,
    number: u32,
}

impl Drill {
    /// What to launch with an offer, if anything.
    fn wanted(&mut self, offer: &Offer) -> Vec<TaskInfo> {
        let mut seen = lock(&self.seen);
        let open = |long: bool| {
            let tasks = seen.tasks.values();
            tasks.filter(move |task| task.long == long && !task.is_over())
        };
        let here = open(true).filter(|task| task.agent == offer.agent_id);
        let long = self.wants.long.saturating_sub(here.count());
        let short = usize::from(!seen.ending && open(false).count() < self.wants.short);
        let mut tasks = Vec::new();
        for long in std::iter::repeat_n(true, long).chain(std::iter::repeat_n(false, short)) {
            self.number += 1;
            let id = format!("{}-{:05}", if long { "long" } else { "short" }, self.number);
            let file = self.directory.join(&id);
            let file = file.display();
            let command = if long {
                format!("echo $$ >> {file}; exec sleep 1000000")
            } else {
                format!("echo ran >> {file}")
            };
            tasks.push(TaskInfo {
                name: id.clone(),
                task_id: TaskId::from(id.as_str()),
                agent_id: offer.agent_id.clone(),
                resources: Resources::parse("cpus:0.1;mem:16")
                    .unwrap_or_default()
                    .to_messages(),
                command: Some(CommandInfo {
                    value: Some(command),
                    ..CommandInfo::default()
                }),
                ..TaskInfo::default()
            });
            let task = Task {
                agent: offer.agent_id.clone(),
                state: None,
                long,
                reported: false,
                told: Vec::new(),
            };
            seen.tasks.insert(id, task);
        }
        tasks
    }
}

#[async_trait]
impl Scheduler for Drill {
    async fn subscribed(&mut self, handle: &Handle, _: FrameworkId, _: Option<MasterInfo>) {
        let asked = {
            let mut seen = lock(&self.seen);
            seen.subscribed = (seen.subscribed.0 + 1, Some(Instant::now()));
            unfinished(&seen)
        };
        let _ = handle.reconcile(asked).await;
    }

    async fn offers(&mut self, handle: &Handle, offers: Vec<Offer>) {
        lock(&self.seen).offered = Some(Instant::now());
        for offer in offers {
            let tasks = self.wanted(&offer);
            let filters = Filters {
                refuse_seconds: Some(0.3),
            };
            let _ = if tasks.is_empty() {
                handle.decline(vec![offer.id], Some(filters)).await
            } else {
                handle.launch(vec![offer.id], tasks, Some(filters)).await
            };
        }
    }

    async fn update(&mut self, _: &Handle, status: TaskStatus) {
        use TaskState as S;
        let mut seen = lock(&self.seen);
        seen.updated = Some(Instant::now());
        let (id, state) = (status.task_id.value.clone(), status.state());
        let excused = seen
            .tasks
            .get(&id)
            .is_some_and(|task| seen.excused.contains(&task.agent));
        let Some(task) = seen.tasks.get_mut(&id) else {
            seen.wrong.push(format!(
                "{id} was never launched, and is told to be {state:?}"
            ));
            return;
        };
        let (reason, message) = (status.reason(), status.message());
        task.told
            .push(format!("{state:?} ({reason:?}, {message:?})"));
        // Asked while the end was on its way, answered after that was acknowledged: by then no agent knows the task.
        let late = reason == Reason::Reconciliation && state == S::TaskGone;
        if late && task.state == Some(S::TaskFinished) {
            return;
        }
        task.state = Some(state);
        task.reported |= matches!(state, S::TaskRunning | S::TaskFinished | S::TaskFailed);
        let fine = matches!(state, S::TaskStaging | S::TaskStarting | S::TaskRunning);
        let away = state == S::TaskUnreachable;
        // A launch that never reached its agent is no task that died.
        let never_was = !task.reported && task.is_over();
        if task.long && !fine && !away && !never_was && !excused {
            let why = status.message.clone().unwrap_or_default();
            let wrong = format!("{id} is told to be {state:?}: {:?} {why}", status.reason());
            seen.wrong.push(wrong);
        }
    }
}
