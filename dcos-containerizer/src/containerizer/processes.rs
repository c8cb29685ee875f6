//! Containers as plain children of this process: no confinement, no fetching, gone with us.
//!
//! The double for tests of schedulers, agents and executors: real processes, real exits, no
//! privilege, nothing on disk but the sandboxes. What a task may not do is not enforced.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::Stdio as Redirect;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use dcos_proto::mesos::value::Scalar;
use dcos_proto::mesos::{CommandInfo, ContainerId, ContainerStatus, Resource, ResourceStatistics};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::watch;

use crate::isolator::persistent::link;

use super::{
    ContainerClass, ContainerConfig, ContainerTermination, Containerizer, ContainerizerError,
    Origins, Recovered, Stream,
};

/// Containers as plain children of this process.
#[derive(Debug, Clone, Default)]
pub struct Processes {
    containers: Arc<Mutex<BTreeMap<ContainerId, Container>>>,
}

#[derive(Debug)]
struct Container {
    pid: Option<u32>,
    directory: std::path::PathBuf,
    end: watch::Sender<Option<ContainerTermination>>,
}

impl Container {
    fn running(&self) -> bool {
        self.end.borrow().is_none()
    }
}

impl Processes {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Container>> {
        self.containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The containers nested in `id`, at any depth, innermost first.
    fn below(&self, id: &ContainerId) -> Vec<ContainerId> {
        let mut below: Vec<_> = self
            .lock()
            .keys()
            .filter(|other| is_below(other, id))
            .cloned()
            .collect();
        below.sort_by_key(|id| std::cmp::Reverse(id.depth()));
        below
    }

    fn signal_all(&self, id: &ContainerId, signal: Signal) {
        if let Some(pid) = self.lock().get(id).and_then(|container| container.pid) {
            kill_group(pid, signal);
        }
    }

    /// Notes the end of `id`, after ending what is nested in it.
    fn ended(&self, id: &ContainerId, termination: ContainerTermination) {
        for nested in self.below(id) {
            self.signal_all(&nested, Signal::KILL);
        }
        if let Some(container) = self.lock().get_mut(id) {
            container.pid = None;
            container.end.send_replace(Some(termination));
        }
    }
}

#[async_trait]
impl Containerizer for Processes {
    fn name(&self) -> &'static str {
        "processes"
    }

    fn survives(&self) -> bool {
        false
    }

    async fn recover(
        &self,
        known: &BTreeSet<ContainerId>,
    ) -> Result<BTreeMap<ContainerId, Recovered>, ContainerizerError> {
        let lost = ContainerTermination::lost("its containerizer does not survive a restart");
        let lost = known
            .iter()
            .map(|id| (id.clone(), Recovered::Ended(lost.clone())));
        Ok(lost.collect())
    }

    async fn launch(
        &self,
        id: &ContainerId,
        config: ContainerConfig,
    ) -> Result<(), ContainerizerError> {
        let directory = {
            let mut containers = self.lock();
            if containers.contains_key(id) {
                return Err(ContainerizerError::Exists(id.clone()));
            }
            let mut directory = config.directory.clone();
            if let Some(parent) = id.parent.as_deref() {
                match containers.get(parent) {
                    Some(parent) if parent.running() => {
                        if directory.as_os_str().is_empty() {
                            directory.clone_from(&parent.directory);
                        }
                    }
                    _ => return Err(ContainerizerError::NoParent(id.clone())),
                }
            }
            containers.insert(
                id.clone(),
                Container {
                    pid: None,
                    directory: directory.clone(),
                    end: watch::Sender::new(None),
                },
            );
            directory
        };
        match start(id, &config, &directory) {
            Ok(None) => Ok(()),
            Ok(Some(mut child)) => {
                if let Some(container) = self.lock().get_mut(id) {
                    container.pid = child.id();
                }
                let pid = child.id();
                let (this, id) = (self.clone(), id.clone());
                tokio::spawn(async move {
                    let status = child.wait().await;
                    if let Some(pid) = pid {
                        kill_group(pid, Signal::KILL);
                    }
                    let termination = match status {
                        Ok(status) => ContainerTermination::exited(status.into_raw()),
                        Err(error) => ContainerTermination::lost(error.to_string()),
                    };
                    this.ended(&id, termination);
                });
                Ok(())
            }
            Err(error) => {
                self.lock().remove(id);
                Err(error)
            }
        }
    }

    async fn wait(&self, id: &ContainerId) -> Result<ContainerTermination, ContainerizerError> {
        let unknown = || ContainerizerError::Unknown(id.clone());
        let mut end = match self.lock().get(id) {
            Some(container) => container.end.subscribe(),
            None => return Err(unknown()),
        };
        let termination = end
            .wait_for(Option::is_some)
            .await
            .map_err(|_| unknown())?
            .clone();
        termination.ok_or_else(unknown)
    }

    async fn update(
        &self,
        id: &ContainerId,
        _resources: &[Resource],
        _limits: &BTreeMap<String, Scalar>,
    ) -> Result<(), ContainerizerError> {
        if self.lock().contains_key(id) {
            Ok(())
        } else {
            Err(ContainerizerError::Unknown(id.clone()))
        }
    }

    async fn usage(&self, id: &ContainerId) -> Result<ResourceStatistics, ContainerizerError> {
        match self.lock().get(id) {
            Some(container) if container.running() => Ok(ResourceStatistics {
                timestamp: SystemTime::now()
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .map_or(0.0, |since| since.as_secs_f64()),
                cpus_user_time_secs: Some(0.0),
                cpus_system_time_secs: Some(0.0),
                processes: Some(u32::from(container.pid.is_some())),
                ..ResourceStatistics::default()
            }),
            _ => Err(ContainerizerError::Unknown(id.clone())),
        }
    }

    async fn status(&self, id: &ContainerId) -> Result<ContainerStatus, ContainerizerError> {
        match self.lock().get(id) {
            Some(container) if container.running() => Ok(ContainerStatus {
                container_id: Some(id.clone()),
                executor_pid: container.pid,
                ..ContainerStatus::default()
            }),
            _ => Err(ContainerizerError::Unknown(id.clone())),
        }
    }

    async fn kill(&self, id: &ContainerId, signal: i32) -> Result<(), ContainerizerError> {
        let (pid, holder) = match self.lock().get(id) {
            Some(container) => (
                container.pid,
                container.pid.is_none() && container.running(),
            ),
            None => return Err(ContainerizerError::Unknown(id.clone())),
        };
        match (pid, Signal::from_named_raw(signal)) {
            (Some(pid), Some(signal)) => kill_group(pid, signal),
            (None, _) if holder => self.ended(id, ContainerTermination::exited(signal)),
            _ => {}
        }
        Ok(())
    }

    async fn destroy(&self, id: &ContainerId) -> Result<ContainerTermination, ContainerizerError> {
        for nested in self.below(id) {
            self.kill(&nested, libc::SIGKILL).await.ok();
            self.wait(&nested).await.ok();
        }
        self.kill(id, libc::SIGKILL).await?;
        self.wait(id).await
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), ContainerizerError> {
        let mut containers = self.lock();
        if containers.get(id).is_some_and(Container::running) {
            return Err(ContainerizerError::Running(id.clone()));
        }
        containers.retain(|other, _| other != id && !is_below(other, id));
        Ok(())
    }

    async fn containers(&self) -> BTreeSet<ContainerId> {
        self.lock().keys().cloned().collect()
    }

    async fn origins(&self) -> Origins {
        let containers = self.lock();
        let first = containers
            .iter()
            .filter_map(|(id, one)| Some((one.pid?, id.clone())));
        Origins {
            first: first.collect(),
            ..Origins::default()
        }
    }
}

/// Whether `id` is nested in `ancestor`, at any depth.
pub(crate) fn is_below(id: &ContainerId, ancestor: &ContainerId) -> bool {
    let mut parent = id.parent.as_deref();
    while let Some(id) = parent {
        if id == ancestor {
            return true;
        }
        parent = id.parent.as_deref();
    }
    false
}

/// Program and arguments of a command, as `execvp(3)` takes them.
pub(crate) fn argv(command: &CommandInfo) -> Result<Vec<String>, &'static str> {
    match (command.shell(), command.value.clone()) {
        (true, Some(value)) => Ok(vec!["/bin/sh".into(), "-c".into(), value]),
        (true, None) => Err("a shell command needs a value"),
        (false, None) if command.arguments.is_empty() => Err("nothing to execute"),
        (false, None) => Ok(command.arguments.clone()),
        (false, Some(program)) => {
            // `value` is the program and `arguments` its whole argv, argv[0] included.
            let mut argv = vec![program];
            argv.extend(command.arguments.iter().skip(1).cloned());
            Ok(argv)
        }
    }
}

fn start(
    id: &ContainerId,
    config: &ContainerConfig,
    directory: &Path,
) -> Result<Option<tokio::process::Child>, ContainerizerError> {
    std::fs::create_dir_all(directory)
        .map_err(|error| ContainerizerError::launch(id, "make the sandbox", error))?;
    for volume in &config.volumes {
        link(directory, volume)
            .map_err(|error| ContainerizerError::launch(id, "link a volume", error))?;
    }
    let command = match (&config.command, config.class) {
        (_, ContainerClass::Holder) => return Ok(None),
        (Some(command), _) => command,
        (None, _) => {
            return Err(ContainerizerError::launch(id, "command", "there is none"));
        }
    };
    let argv = argv(command).map_err(|why| ContainerizerError::launch(id, "command", why))?;
    let redirect = |stream: &Stream, name: Option<&str>| -> std::io::Result<Redirect> {
        Ok(match (stream, name) {
            (Stream::File(file), _) => file.try_clone()?.into(),
            (Stream::Logger, Some(name)) => append(&directory.join(name))?.into(),
            _ => Redirect::null(),
        })
    };
    let streams = |error| ContainerizerError::launch(id, "open the standard streams", error);
    let mut process = std::process::Command::new(&argv[0]);
    if !command.shell()
        && let Some(name) = command.arguments.first()
    {
        process.arg0(name);
    }
    process
        .args(&argv[1..])
        .env_clear()
        .envs(&config.environment)
        .env("MESOS_SANDBOX", directory)
        .current_dir(config.working_directory.as_deref().unwrap_or(directory))
        .process_group(0)
        .stdin(redirect(&config.stdio.input, None).map_err(streams)?)
        .stdout(redirect(&config.stdio.output, Some("stdout")).map_err(streams)?)
        .stderr(redirect(&config.stdio.error, Some("stderr")).map_err(streams)?);
    tokio::process::Command::from(process)
        .kill_on_drop(true)
        .spawn()
        .map(Some)
        .map_err(|error| ContainerizerError::launch(id, format!("execute {}", argv[0]), error))
}

fn append(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn kill_group(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // Gone already is as good.
        kill_process_group(pid, signal).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testkit;
    use super::*;

    #[tokio::test]
    async fn it_keeps_the_promises_of_a_containerizer() {
        let dir = tempfile::tempdir().unwrap();
        testkit::all(&Processes::new(), dir.path()).await;
    }
}
