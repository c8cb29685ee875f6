//! Containers that an original Mesos agent launched, after this agent took its place.
//!
//! Nothing of how they were made is repeated or undone: they are found by their first process,
//! watched, measured from `/proc`, and ended with everything below. What they are confined by
//! (nothing under the posix launcher, cgroups under the linux one) stays as it was when the
//! original agent stopped, until they end. New containers are the wrapped containerizer's.

mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use dcos_proto::mesos::value::Scalar;
use dcos_proto::mesos::{ContainerId, ContainerStatus, Resource, ResourceStatistics};
use tokio::sync::watch;

use super::{
    ContainerConfig, ContainerTermination, Containerizer, ContainerizerError, Origins, Recovered,
};
use crate::switchboard::Switchboard;
use process::Process;

/// The containers of `inner`, and those that an original agent left.
#[derive(Debug)]
pub struct WithAdopted {
    inner: Arc<dyn Containerizer>,
    adopted: Mutex<BTreeMap<ContainerId, Arc<Adopted>>>,
}

#[derive(Debug)]
struct Adopted {
    process: Option<Process>,
    ended: watch::Sender<Option<ContainerTermination>>,
}

impl WithAdopted {
    /// Adds to `inner` the containers whose first processes are `pids`; a pid of 0 is a container
    /// that was never started.
    pub fn new(inner: Arc<dyn Containerizer>, pids: BTreeMap<ContainerId, u32>) -> Self {
        let adopted = pids.into_iter().map(|(id, pid)| {
            let process = Process::find(pid, &id);
            let ended = watch::Sender::new(None);
            (id, Arc::new(Adopted { process, ended }))
        });
        Self {
            inner,
            adopted: Mutex::new(adopted.collect()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Arc<Adopted>>> {
        self.adopted
            .lock()
            .expect("no panic happens under this lock")
    }

    fn find(&self, id: &ContainerId) -> Option<Arc<Adopted>> {
        self.lock().get(id).cloned()
    }

    /// One that runs.
    fn running(&self, id: &ContainerId) -> Option<Result<Process, ContainerizerError>> {
        let adopted = self.find(id)?;
        let ended = adopted.ended.borrow().is_some();
        let running = adopted.process.clone().filter(|_| !ended);
        Some(running.ok_or_else(|| ContainerizerError::Unknown(id.clone())))
    }
}

impl Adopted {
    /// Waits for the first process, then ends what is left of the others.
    async fn watch(&self) {
        let Some(process) = &self.process else {
            let lost = "its process was not found when this agent took over";
            self.ended
                .send_replace(Some(ContainerTermination::lost(lost)));
            return;
        };
        process.ended().await;
        process.kill_all().await;
        let termination = match process.status() {
            Some(status) => ContainerTermination::exited(status),
            None => ContainerTermination::lost("its status was not kept"),
        };
        self.ended.send_replace(Some(termination));
    }

    async fn wait(&self) -> ContainerTermination {
        let mut ended = self.ended.subscribe();
        let termination = ended.wait_for(Option::is_some).await;
        let termination = termination.map(|termination| termination.clone());
        termination.ok().flatten().unwrap_or_default()
    }
}

#[async_trait]
impl Containerizer for WithAdopted {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn survives(&self) -> bool {
        self.inner.survives()
    }

    async fn recover(
        &self,
        known: &BTreeSet<ContainerId>,
    ) -> Result<BTreeMap<ContainerId, Recovered>, ContainerizerError> {
        let adopted = self.lock().clone();
        let own: BTreeSet<_> = known
            .iter()
            .filter(|id| !adopted.contains_key(id))
            .cloned()
            .collect();
        let mut recovered = self.inner.recover(&own).await?;
        for (id, adopted) in adopted {
            if !known.contains(&id) {
                continue;
            }
            let state = if let Some(process) = &adopted.process {
                tracing::info!(container = %id, pid = process.pid(), "adopted");
                Recovered::Running
            } else {
                let lost = "its process was not found when this agent took over";
                Recovered::Ended(ContainerTermination::lost(lost))
            };
            recovered.insert(id, state);
            // It ends with the container, or with the agent's runtime.
            tokio::spawn(async move { adopted.watch().await });
        }
        Ok(recovered)
    }

    async fn launch(
        &self,
        id: &ContainerId,
        config: ContainerConfig,
    ) -> Result<(), ContainerizerError> {
        if self.find(id.root_id()).is_some() {
            let why = "the container it would be nested in was launched by another agent";
            return Err(ContainerizerError::launch(id, "nest", why));
        }
        self.inner.launch(id, config).await
    }

    async fn wait(&self, id: &ContainerId) -> Result<ContainerTermination, ContainerizerError> {
        match self.find(id) {
            Some(adopted) => Ok(adopted.wait().await),
            None => self.inner.wait(id).await,
        }
    }

    async fn update(
        &self,
        id: &ContainerId,
        resources: &[Resource],
        limits: &BTreeMap<String, Scalar>,
    ) -> Result<(), ContainerizerError> {
        match self.running(id) {
            Some(running) => running.map(|_| ()),
            None => self.inner.update(id, resources, limits).await,
        }
    }

    async fn usage(&self, id: &ContainerId) -> Result<ResourceStatistics, ContainerizerError> {
        match self.running(id) {
            Some(running) => running.map(|process| process.usage()),
            None => self.inner.usage(id).await,
        }
    }

    async fn status(&self, id: &ContainerId) -> Result<ContainerStatus, ContainerizerError> {
        match self.running(id) {
            Some(running) => running.map(|process| ContainerStatus {
                container_id: Some(id.clone()),
                executor_pid: Some(process.pid()),
                ..ContainerStatus::default()
            }),
            None => self.inner.status(id).await,
        }
    }

    async fn kill(&self, id: &ContainerId, signal: i32) -> Result<(), ContainerizerError> {
        let Some(adopted) = self.find(id) else {
            return self.inner.kill(id, signal).await;
        };
        if let Some(process) = &adopted.process {
            process.signal(signal);
        }
        Ok(())
    }

    async fn destroy(&self, id: &ContainerId) -> Result<ContainerTermination, ContainerizerError> {
        let Some(adopted) = self.find(id) else {
            return self.inner.destroy(id).await;
        };
        if let Some(process) = &adopted.process {
            process.kill_all().await;
        }
        Ok(adopted.wait().await)
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), ContainerizerError> {
        let Some(adopted) = self.find(id) else {
            return self.inner.remove(id).await;
        };
        if adopted.ended.borrow().is_none() {
            return Err(ContainerizerError::Running(id.clone()));
        }
        self.lock().remove(id);
        Ok(())
    }

    async fn switchboard(&self, id: &ContainerId) -> Result<Switchboard, ContainerizerError> {
        match self.find(id) {
            Some(_) => Err(ContainerizerError::NotAttachable(id.clone())),
            None => self.inner.switchboard(id).await,
        }
    }

    async fn containers(&self) -> BTreeSet<ContainerId> {
        let mut all = self.inner.containers().await;
        all.extend(self.lock().keys().cloned());
        all
    }

    async fn origins(&self) -> Origins {
        let mut all = self.inner.origins().await;
        for (id, adopted) in &*self.lock() {
            if let Some(process) = &adopted.process
                && adopted.ended.borrow().is_none()
            {
                all.first.insert(process.pid(), id.clone());
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containerizer::Processes;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command};
    use std::time::Duration;

    /// A process that looks as if an original agent had launched it for `id`.
    fn launched(id: &ContainerId, runtime: &std::path::Path, script: &str) -> Child {
        let directory = runtime.join("containers").join(&id.value);
        std::fs::create_dir_all(&directory).unwrap();
        let child = Command::new("sh")
            .args(["-c", script])
            .env("MESOS_CONTAINERIZER_RUNTIME_DIRECTORY", directory)
            .process_group(0)
            .spawn()
            .unwrap();
        shows_its_environment(child.id());
        child
    }

    /// `spawn` returns when the program is found; its environment is in place a moment later.
    fn shows_its_environment(pid: u32) {
        let path = format!("/proc/{pid}/environ");
        while std::fs::read(&path).unwrap().is_empty() {
            std::thread::yield_now();
        }
    }

    fn reaped(mut child: Child) {
        std::thread::spawn(move || child.wait());
    }

    #[tokio::test]
    async fn what_another_agent_launched_is_watched_and_ended() {
        let runtime = tempfile::tempdir().unwrap();
        let id = ContainerId::root("c1");
        // A grandchild in a session of its own, as executors give their tasks.
        let child = launched(&id, runtime.path(), "setsid sleep 600 & wait");
        let pid = child.id();
        reaped(child);
        let all = WithAdopted::new(
            Arc::new(Processes::default()),
            BTreeMap::from([(id.clone(), pid)]),
        );
        let recovered = all.recover(&BTreeSet::from([id.clone()])).await.unwrap();
        assert_eq!(recovered[&id], Recovered::Running);
        assert_eq!(all.status(&id).await.unwrap().executor_pid, Some(pid));
        let alive = all.usage(&id).await.unwrap().processes;
        assert!(alive.is_some_and(|processes| processes >= 1), "{alive:?}");
        assert!(matches!(
            all.remove(&id).await,
            Err(ContainerizerError::Running(_))
        ));

        let process = all.find(&id).unwrap().process.clone().unwrap();
        while process.everything().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        all.destroy(&id).await.unwrap();
        assert!(process.everything().is_empty());
        all.remove(&id).await.unwrap();
        assert!(all.containers().await.is_empty());
    }

    #[tokio::test]
    async fn the_status_that_the_original_kept_is_told() {
        let runtime = tempfile::tempdir().unwrap();
        let id = ContainerId::root("c2");
        let directory = runtime.path().join("containers/c2");
        let script = format!("read x; printf 768 > {}/status", directory.display());
        std::fs::create_dir_all(&directory).unwrap();
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .env("MESOS_CONTAINERIZER_RUNTIME_DIRECTORY", directory)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let (pid, input) = (child.id(), child.stdin.take());
        shows_its_environment(pid);
        let all = WithAdopted::new(
            Arc::new(Processes::default()),
            BTreeMap::from([(id.clone(), pid)]),
        );
        all.recover(&BTreeSet::from([id.clone()])).await.unwrap();
        drop(input);
        reaped(child);
        assert_eq!(all.wait(&id).await.unwrap().exit_code(), Some(3));
    }

    #[tokio::test]
    async fn a_process_of_somebody_else_is_not_adopted() {
        let id = ContainerId::root("c3");
        let all = WithAdopted::new(
            Arc::new(Processes::default()),
            BTreeMap::from([(id.clone(), std::process::id())]),
        );
        let recovered = all.recover(&BTreeSet::from([id.clone()])).await.unwrap();
        assert!(matches!(recovered[&id], Recovered::Ended(_)));
        assert!(all.wait(&id).await.unwrap().status.is_none());
    }
}
