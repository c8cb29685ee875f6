//! A node: an agent's core that may be killed, the disk it leaves, the containers that live on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dcos_containerizer::agent::{
    Action, Agent, Hooks, Input, Patience, Settings, ToMaster, VolumeWork,
};
use dcos_containerizer::checkpoint::{Write, paths};
use dcos_containerizer::containerizer::{ContainerConfig, ContainerTermination, Recovered};
use dcos_core::resources::Resources;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_marathon::instance::task_instance;
use dcos_proto::internal::status_update_record;
use dcos_proto::mesos::{AgentInfo, ContainerId, ContainerStatus, FrameworkId};

use crate::clock::Clock;
use crate::disk::Disk;
use crate::guard;
use crate::kept;
use crate::sabotage::Sabotage;
use crate::watch::holdings::{Content, plain};
use crate::world::Plan;

/// The command that does not end by itself; all others end after some seconds.
pub(crate) const FOREVER: &str = "sleep infinity";
/// The command that fails every second time.
pub(crate) const FLAKY: &str = "flaky";
/// The wait status of a command that fails.
const FAILURE: i32 = 1 << 8;
/// How a container ends that is destroyed.
const SIGKILL: i32 = 9;

/// One node of the cluster.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) number: usize,
    pub(crate) address: String,
    pub(crate) total: Resources,
    /// The agent, while it runs.
    pub(crate) agent: Option<Agent>,
    /// Which life of the agent this is: what was meant for an earlier one gets lost.
    pub(crate) life: u64,
    /// The last change of leaders it was told of.
    pub(crate) change: u64,
    pub(crate) clock: Clock,
    /// How many more actions the agent carries out before it is killed, if it is to be.
    pub(crate) fuse: Option<u32>,
    disk: Disk,
    containers: BTreeMap<ContainerId, Container>,
    /// The directories of persistent volumes, and who wrote into them.
    volumes: BTreeMap<PathBuf, Vec<String>>,
    seed: Seed,
    /// Whether it has to authenticate.
    guarded: bool,
    sabotage: Option<Sabotage>,
}

/// A container, which does not care whether the agent lives.
#[derive(Debug)]
struct Container {
    resources: Resources,
    framework: FrameworkId,
    executor: String,
    /// Set once it has ended.
    ended: Option<ContainerTermination>,
    /// Whether the agent of this life is to be told of the end.
    watched: bool,
}

/// What a node wants the world to do or to know.
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
    /// The agent ends a container that runs.
    Killed {
        framework: FrameworkId,
        executor: String,
    },
    /// A container was launched for this executor (for command tasks: this task).
    Launched { executor: String },
    /// An update is on disk.
    Wrote {
        framework: FrameworkId,
        uuid: Vec<u8>,
        what: String,
    },
    /// An acknowledgement is on disk.
    Acknowledged { uuid: Vec<u8>, what: String },
    /// Its disk holds these reservations, volumes and operations.
    Holds(Content),
    /// A volume could not be made.
    VolumeFailed { volume: String },
    /// A volume's content is deleted.
    VolumeDeleted { volume: String },
    /// Something left the agent before it was on disk.
    Rash(String),
    /// The agent ended itself.
    Stopped { fresh: bool },
}

impl Node {
    pub(crate) fn new(
        number: usize,
        plan: &Plan,
        total: &Resources,
        seed: &Seed,
        now: Time,
    ) -> Self {
        Self {
            number,
            address: format!("slave(1)@{}:5051", host(number)),
            total: total.clone(),
            agent: None,
            life: 0,
            change: 0,
            clock: Clock::right(now),
            fuse: None,
            disk: Disk::default(),
            containers: BTreeMap::new(),
            volumes: BTreeMap::new(),
            seed: seed.stream(&format!("node {number}")),
            guarded: plan.guarded,
            sabotage: plan.sabotage,
        }
    }

    /// Which node a UPID names.
    pub(crate) fn number_of(address: &str) -> Option<usize> {
        let rest = address.strip_prefix("slave(1)@10.")?;
        let mut parts = rest.strip_suffix(":5051")?.split('.');
        let high: usize = parts.next()?.parse().ok()?;
        let low: usize = parts.next()?.parse().ok()?;
        let last: usize = parts.next()?.parse().ok()?;
        Some(((high.checked_sub(1)?) * 256 + low) * 250 + last)
    }

    /// Starts the agent, on whatever an earlier one left.
    pub(crate) fn start(&mut self, now: Time) {
        self.life += 1;
        self.fuse = None;
        self.clock = Clock::some(now, &mut self.seed);
        if self.sabotage == Some(Sabotage::Memory) {
            self.forget();
        }
        let settings = Settings {
            pid: self.address.clone(),
            endpoint: format!("{}:5051", host(self.number)),
            work_dir: PathBuf::from("/work"),
            credential: self.guarded.then(guard::credential),
            ..settings()
        };
        let info = AgentInfo {
            hostname: host(self.number),
            port: Some(5051),
            resources: self.total.to_messages(),
            ..AgentInfo::default()
        };
        let state = self.disk.state.clone();
        self.disk.state.rebooted = false;
        let known = state.containers();
        let mut recovered = BTreeMap::new();
        for (id, container) in &self.containers {
            let root = ContainerId {
                value: id.root_id().value.clone(),
                parent: None,
            };
            if known.contains(&root) {
                let known = match &container.ended {
                    Some(termination) => Recovered::Ended(termination.clone()),
                    None => Recovered::Running,
                };
                recovered.insert(id.clone(), known);
            }
        }
        let life = self.seed.stream(&format!("life {}", self.life));
        let now = self.clock.show(now);
        self.agent = Some(Agent::recover(now, settings, &life, info, state, recovered));
    }

    /// Kills the agent; its containers go on.
    pub(crate) fn crash(&mut self) {
        self.agent = None;
        self.fuse = None;
        for container in self.containers.values_mut() {
            container.watched = false;
        }
    }

    /// The machine goes down, and everything on it.
    pub(crate) fn power_off(&mut self) {
        self.crash();
        self.containers.clear();
        self.disk.state.rebooted = true;
    }

    /// Carries out what the agent decided, until there is nothing left or the fuse has burnt down;
    /// says whether it was killed.
    pub(crate) fn carry_out(&mut self, now: Time) -> (Vec<Wish>, bool) {
        let mut wishes = Vec::new();
        while let Some(action) = self.agent.as_mut().and_then(Agent::poll) {
            if let Some(left) = &mut self.fuse {
                if *left == 0 {
                    self.crash();
                    return (wishes, true);
                }
                *left -= 1;
            }
            self.perform(now, action, &mut wishes);
        }
        (wishes, false)
    }

    fn perform(&mut self, now: Time, action: Action, wishes: &mut Vec<Wish>) {
        match action {
            Action::Write(write) => self.write(now, *write, wishes),
            Action::Send(to, message) => {
                self.check_sent(&message, wishes);
                let (name, body) = message.encode();
                wishes.push(Wish::Send { to, name, body });
            }
            Action::Launch(id, config) => self.launch(id, &config, wishes),
            Action::Watch(id) => self.watch(&id, wishes),
            Action::Signal(id, signal) => {
                let grace = Duration::from_millis(self.seed.range(1..300));
                self.note_kill(&id, wishes);
                wishes.push(Wish::End(grace, id, signal));
            }
            Action::Destroy(id) => {
                self.note_kill(&id, wishes);
                wishes.push(Wish::End(Duration::from_millis(1), id, SIGKILL));
            }
            Action::Remove(id) => _ = self.containers.remove(&id),
            Action::Stop { fresh, .. } => wishes.push(Wish::Stopped { fresh }),
            Action::Volumes(work) => {
                let outcome = self.change_volumes(&work, wishes);
                let now = self.clock.show(now);
                if let Some(agent) = &mut self.agent {
                    agent.handle(now, Input::Volumes(work.operation, outcome));
                }
            }
            // What has no place here: custom executors' streams, checks, files, readers.
            _ => {}
        }
    }

    fn write(&mut self, now: Time, mut write: Write, wishes: &mut Vec<Wish>) {
        if self.sabotage == Some(Sabotage::Eraser)
            && let Write::Resources(resources, _) = &mut write
            && self.seed.chance(0.1)
        {
            resources.retain(|resource| kept::owner(resource).is_none());
        }
        if let Write::Update(run, task, record) = &write {
            let what = |state: &str| format!("{state} of {task}");
            match record.r#type() {
                status_update_record::Type::Update => {
                    let update = record.update.clone().unwrap_or_default();
                    wishes.push(Wish::Wrote {
                        framework: run.framework.clone(),
                        uuid: update.uuid.unwrap_or_default(),
                        what: what(update.status.state().as_str_name()),
                    });
                }
                status_update_record::Type::Ack => wishes.push(Wish::Acknowledged {
                    uuid: record.uuid.clone().unwrap_or_default(),
                    what: what("the update"),
                }),
            }
        }
        if let Write::Resources(resources, operations) = &write {
            wishes.push(Wish::Holds(Content::of(resources, operations)));
        }
        let is_lost = self.sabotage == Some(Sabotage::Disk) && self.seed.chance(0.2);
        if !is_lost {
            self.disk.apply(self.clock.show(now), write);
        }
    }

    /// Makes and deletes directories; now and then the disk refuses.
    fn change_volumes(&mut self, work: &VolumeWork, wishes: &mut Vec<Wish>) -> Result<(), String> {
        let name = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        if work.operation.is_some() && self.seed.chance(0.05) {
            let failed = work.make.iter().map(name);
            wishes.extend(failed.map(|volume| Wish::VolumeFailed { volume }));
            return Err("no space left on device".to_owned());
        }
        for path in &work.make {
            self.volumes.entry(path.clone()).or_default();
        }
        for path in work.delete.iter().chain(&work.empty) {
            self.volumes.remove(path);
            wishes.push(Wish::VolumeDeleted { volume: name(path) });
        }
        Ok(())
    }

    /// An update may leave only once it is on disk.
    fn check_sent(&self, message: &ToMaster, wishes: &mut Vec<Wish>) {
        // What an agent says of tasks it never had is in no checkpoint.
        let ToMaster::Update(message) = message else {
            return;
        };
        if message.update.executor_id.is_none() {
            return;
        }
        let Some(uuid) = message.update.uuid.as_deref().filter(|it| !it.is_empty()) else {
            return;
        };
        let task = &message.update.status.task_id;
        if !self
            .disk
            .has_update(&message.update.framework_id, task, uuid)
        {
            let state = message.update.status.state().as_str_name();
            wishes.push(Wish::Rash(format!(
                "{} sent {state} of {task} before it was written down",
                self.address
            )));
        }
    }

    fn note_kill(&self, id: &ContainerId, wishes: &mut Vec<Wish>) {
        if let Some(container) = self.containers.get(id)
            && container.ended.is_none()
        {
            wishes.push(Wish::Killed {
                framework: container.framework.clone(),
                executor: container.executor.clone(),
            });
        }
    }

    fn launch(&mut self, id: ContainerId, config: &ContainerConfig, wishes: &mut Vec<Wish>) {
        let mut parts = config.directory.iter().map(|part| part.to_string_lossy());
        let mut named = |folder: &str| {
            parts.by_ref().find(|part| part == folder)?;
            parts.next().map(std::borrow::Cow::into_owned)
        };
        let framework = FrameworkId::from(named("frameworks").unwrap_or_default());
        let executor = named("executors").unwrap_or_default();
        if id.parent.is_none() && !executor.is_empty() {
            let twice = self.sabotage == Some(Sabotage::Twins) && self.seed.chance(0.1);
            for _ in 0..=usize::from(twice) {
                let executor = executor.clone();
                wishes.push(Wish::Launched { executor });
            }
            if !self.disk.has_executor(&framework, &executor) {
                wishes.push(Wish::Rash(format!(
                    "{} launched {executor} before it was written down",
                    self.address
                )));
            }
        }
        if id.parent.is_none() && self.disk.state.drain.is_some() {
            wishes.push(Wish::Rash(format!(
                "{executor} is launched on a draining agent"
            )));
        }
        for volume in &config.resources {
            let Some(path) = paths::volume(Path::new("/work"), volume) else {
                continue;
            };
            match self.volumes.get_mut(&path) {
                Some(content) => {
                    let instance = task_instance(&executor);
                    let is_other = |writer: &String| task_instance(writer) != instance;
                    let other = content.iter().find(|it| is_other(it));
                    if let (Some(other), Some(_)) = (other, &instance) {
                        let path = path.display();
                        wishes.push(Wish::Rash(format!(
                            "{executor} is launched on {path}, which {other} wrote into"
                        )));
                    }
                    content.push(executor.clone());
                }
                None => wishes.push(Wish::Rash(format!(
                    "{executor} is launched without its volume {}",
                    path.display()
                ))),
            }
        }
        let resources = plain(&Resources::from_messages(&config.resources));
        self.containers.insert(
            id.clone(),
            Container {
                resources,
                framework,
                executor,
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
            let is_failure = command == Some(FLAKY) && self.seed.chance(0.5);
            let status = if is_failure { FAILURE } else { 0 };
            wishes.push(Wish::End(begin + runs, id, status));
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
        self.volumes.clear();
    }

    /// Somebody deletes all the agent knew, and with it all it ran.
    pub(crate) fn wipe(&mut self) {
        self.forget();
        self.containers.clear();
    }

    /// The machine gets more of everything.
    pub(crate) fn grow(&mut self) {
        self.total += &Resources::parse("cpus:1;mem:128").expect("it is well formed");
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

    /// What runs, and what each has.
    pub(crate) fn running(&self) -> String {
        let mut text = String::new();
        for (id, container) in &self.containers {
            if container.ended.is_none() && id.parent.is_none() {
                let Container {
                    executor,
                    resources,
                    ..
                } = container;
                text += &format!("\n    {executor} in {id} has {resources}");
            }
        }
        text
    }

    /// Whether nothing runs.
    pub(crate) fn is_empty(&self) -> bool {
        self.containers
            .values()
            .all(|container| container.ended.is_some())
    }

    /// Whether nothing runs but what `ended` frameworks left, which is being killed.
    pub(crate) fn is_left_empty(&self, ended: &BTreeSet<FrameworkId>) -> bool {
        self.containers
            .values()
            .all(|container| container.ended.is_some() || ended.contains(&container.framework))
    }

    /// Whether what runs fits the node, ports included. What `ended` frameworks ran is free as soon
    /// as they end, as in Mesos, and killed a little later.
    pub(crate) fn fits(&self, ended: &BTreeSet<FrameworkId>) -> bool {
        let mut rest = self.total.clone();
        self.containers
            .iter()
            .filter(|(id, container)| container.ended.is_none() && id.parent.is_none())
            .filter(|(_, container)| !ended.contains(&container.framework))
            .all(|(_, container)| {
                let fits = rest.contains(&container.resources);
                rest -= &container.resources;
                fits
            })
    }
}

/// The address of a node's machine: one of `10.1.0.0/8`.
pub(crate) fn host(number: usize) -> String {
    let (high, last) = (number / 250, number % 250);
    format!("10.{}.{}.{last}", 1 + high / 256, high % 256)
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
        executor_reregistration_retry_interval: None,
        executor_shutdown_grace_period: Duration::from_secs(5),
        docker_stop_timeout: None,
        recovery_timeout: Duration::from_mins(15),
        gc_delay: Duration::from_hours(168),
        gc_disk_headroom: 0.1,
        max_completed_executors_per_framework: 150,
        switch_user: false,
        executor_environment: BTreeMap::new(),
        executor_socket: None,
        credential: None,
        patience: Patience::default(),
        executor_key: None,
        drivers: true,
        authorizer: None,
        hooks: Hooks::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_its_node() {
        for number in [0, 1, 249, 250, 4999, 64_000, 70_001] {
            let address = format!("slave(1)@{}:5051", host(number));
            assert_eq!(Node::number_of(&address), Some(number));
        }
    }
}
