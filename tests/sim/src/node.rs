//! A node: an agent's core that may be killed, the disk it leaves, the containers that live on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use dcos_containerizer::agent::{Action, Agent, Input, Settings};
use dcos_containerizer::containerizer::{ContainerConfig, ContainerTermination, Recovered};
use dcos_core::resources::Resources;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_proto::mesos::{AgentInfo, ContainerId, ContainerStatus};

use crate::disk::Disk;
use crate::sabotage::Sabotage;
use crate::world::Plan;

/// The command that does not end by itself; all others end after some seconds.
pub(crate) const FOREVER: &str = "sleep infinity";
/// How a container ends that is destroyed.
const SIGKILL: i32 = 9;

/// One node of the cluster.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) address: String,
    pub(crate) total: Resources,
    /// The agent, while it runs.
    pub(crate) agent: Option<Agent>,
    /// Which life of the agent this is: what was meant for an earlier one gets lost.
    pub(crate) life: u64,
    disk: Disk,
    containers: BTreeMap<ContainerId, Container>,
    seed: Seed,
    sabotage: Option<Sabotage>,
}

/// A container, which does not care whether the agent lives.
#[derive(Debug)]
struct Container {
    resources: Resources,
    /// Set once it has ended.
    ended: Option<ContainerTermination>,
    /// Whether the agent of this life is to be told of the end.
    watched: bool,
}

/// What a node wants the world to do.
#[derive(Debug)]
pub(crate) enum Wish {
    /// Send to a process.
    Send {
        to: String,
        name: &'static str,
        body: Vec<u8>,
    },
    /// Feed the agent, after a while.
    Later(Duration, Box<Input>),
    /// End a container after a while, with this wait status.
    End(Duration, ContainerId, i32),
    /// A container was launched for this executor (for command tasks: this task).
    Launched { executor: String },
    /// The agent ended itself.
    Stopped { fresh: bool },
}

impl Node {
    pub(crate) fn new(number: usize, plan: &Plan, seed: &Seed) -> Self {
        Self {
            address: format!("slave(1)@10.0.1.{number}:5051"),
            total: Resources::parse(plan.resources).expect("the plan's resources are well formed"),
            agent: None,
            life: 0,
            disk: Disk::default(),
            containers: BTreeMap::new(),
            seed: seed.stream(&format!("node {number}")),
            sabotage: plan.sabotage,
        }
    }

    /// Starts the agent, on whatever an earlier one left.
    pub(crate) fn start(&mut self, now: Time, number: usize) {
        self.life += 1;
        if self.sabotage == Some(Sabotage::Memory) {
            self.forget();
        }
        let endpoint = format!("10.0.1.{number}:5051");
        let settings = Settings {
            pid: self.address.clone(),
            endpoint: endpoint.clone(),
            work_dir: PathBuf::from("/work"),
            ..settings()
        };
        let info = AgentInfo {
            hostname: format!("10.0.1.{number}"),
            port: Some(5051),
            resources: self.total.to_messages(),
            ..AgentInfo::default()
        };
        let state = self.disk.state.clone();
        let mut recovered = BTreeMap::new();
        for (id, container) in &self.containers {
            let root = ContainerId {
                value: id.root_id().value.clone(),
                parent: None,
            };
            if state.containers().contains(&root) {
                let known = match &container.ended {
                    Some(termination) => Recovered::Ended(termination.clone()),
                    None => Recovered::Running,
                };
                recovered.insert(id.clone(), known);
            }
        }
        let life = self.seed.stream(&format!("life {}", self.life));
        self.agent = Some(Agent::recover(now, settings, &life, info, state, recovered));
    }

    /// Kills the agent; its containers go on.
    pub(crate) fn crash(&mut self) {
        self.agent = None;
        for container in self.containers.values_mut() {
            container.watched = false;
        }
    }

    /// Carries out what the agent decided; `survive` is asked before each action whether the
    /// agent lives to see it.
    pub(crate) fn carry_out(
        &mut self,
        now: Time,
        mut survive: impl FnMut() -> bool,
    ) -> (Vec<Wish>, bool) {
        let mut wishes = Vec::new();
        while let Some(action) = self.agent.as_mut().and_then(Agent::poll) {
            if !survive() {
                self.crash();
                return (wishes, true);
            }
            self.perform(now, action, &mut wishes);
        }
        (wishes, false)
    }

    fn perform(&mut self, now: Time, action: Action, wishes: &mut Vec<Wish>) {
        match action {
            Action::Write(write) => {
                let is_lost = self.sabotage == Some(Sabotage::Disk) && self.seed.chance(0.2);
                if !is_lost {
                    self.disk.apply(now, *write);
                }
            }
            Action::Send(to, message) => {
                let (name, body) = message.encode();
                wishes.push(Wish::Send { to, name, body });
            }
            Action::Launch(id, config) => self.launch(id, &config, wishes),
            Action::Watch(id) => self.watch(&id, wishes),
            Action::Signal(id, signal) => {
                let grace = Duration::from_millis(self.seed.range(1..300));
                wishes.push(Wish::End(grace, id, signal));
            }
            Action::Destroy(id) => wishes.push(Wish::End(Duration::from_millis(1), id, SIGKILL)),
            Action::Remove(id) => _ = self.containers.remove(&id),
            Action::Stop { fresh, .. } => wishes.push(Wish::Stopped { fresh }),
            // What has no place here: custom executors' streams, checks, files, readers.
            _ => {}
        }
    }

    fn launch(&mut self, id: ContainerId, config: &ContainerConfig, wishes: &mut Vec<Wish>) {
        let mut parts = config.directory.iter().map(|part| part.to_string_lossy());
        if id.parent.is_none() && parts.any(|part| part == "executors") {
            let executor = parts
                .next()
                .map(std::borrow::Cow::into_owned)
                .unwrap_or_default();
            wishes.push(Wish::Launched { executor });
        }
        let resources = Resources::from_messages(&config.resources).unallocated();
        self.containers.insert(
            id.clone(),
            Container {
                resources,
                ended: None,
                watched: true,
            },
        );
        let begin = Duration::from_millis(self.seed.range(1..200));
        wishes.push(Wish::Later(begin, launched(&id)));
        let command = config
            .command
            .as_ref()
            .and_then(|command| command.value.as_deref());
        if command != Some(FOREVER) {
            let runs = Duration::from_millis(self.seed.range(100..20_000));
            wishes.push(Wish::End(begin + runs, id, 0));
        }
    }

    fn watch(&mut self, id: &ContainerId, wishes: &mut Vec<Wish>) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        container.watched = true;
        let soon = Duration::from_millis(1);
        wishes.push(Wish::Later(soon, launched(id)));
        if let Some(termination) = container.ended.clone() {
            wishes.push(Wish::Later(
                2 * soon,
                Box::new(Input::Ended(id.clone(), termination)),
            ));
        }
    }

    /// Ends a container; returns what the agent is to be told, if it listens.
    pub(crate) fn end(&mut self, id: &ContainerId, status: i32) -> Option<Input> {
        let container = self.containers.get_mut(id)?;
        if container.ended.is_some() {
            return None;
        }
        let termination = ContainerTermination::exited(status);
        container.ended = Some(termination.clone());
        container
            .watched
            .then(|| Input::Ended(id.clone(), termination))
    }

    /// Forgets who it was, as `Action::Stop { fresh: true }` asks.
    pub(crate) fn forget(&mut self) {
        self.disk = Disk::default();
    }

    /// What the containers that run have, all in all.
    pub(crate) fn in_use(&self) -> Resources {
        let mut sum = Resources::new();
        for (id, container) in &self.containers {
            if container.ended.is_none() && id.parent.is_none() {
                sum += &container.resources;
            }
        }
        sum
    }

    /// Whether what runs fits the node, ports included.
    pub(crate) fn fits(&self) -> bool {
        let mut rest = self.total.clone();
        self.containers
            .iter()
            .filter(|(id, container)| container.ended.is_none() && id.parent.is_none())
            .all(|(_, container)| {
                let fits = rest.contains(&container.resources);
                rest -= &container.resources;
                fits
            })
    }
}

fn launched(id: &ContainerId) -> Box<Input> {
    Box::new(Input::Launched(id.clone(), ContainerStatus::default()))
}

fn settings() -> Settings {
    Settings {
        version: "1.11.0".to_owned(),
        pid: String::new(),
        endpoint: String::new(),
        work_dir: PathBuf::new(),
        registration_backoff_factor: Duration::from_secs(1),
        executor_registration_timeout: Duration::from_mins(1),
        executor_reregistration_timeout: Duration::from_secs(2),
        executor_shutdown_grace_period: Duration::from_secs(5),
        recovery_timeout: Duration::from_mins(15),
        gc_delay: Duration::from_hours(168),
        gc_disk_headroom: 0.1,
        max_completed_executors_per_framework: 150,
        switch_user: false,
        executor_environment: BTreeMap::new(),
    }
}
