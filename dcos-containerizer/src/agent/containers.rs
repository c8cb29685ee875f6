//! What containers of executors and tasks are made of: directories, environments, resources.
//!
//! Source: Mesos 1.11 `executorEnvironment` (`src/slave/slave.cpp`), `paths.hpp`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use dcos_core::units::format_duration;
use dcos_proto::mesos::{ContainerId, ContainerInfo, DurationInfo, Labels, TaskInfo};
use dcos_security::jwt;

use super::core::Agent;
use super::records::{Executor, ExecutorKey};
use super::tasks::environment_of;
use super::words::Action;
use crate::checkpoint::paths;
use crate::containerizer::{ContainerClass, ContainerConfig, DEFAULT_PATH, is_docker};
use crate::executor::{Hosted, HostedKind};
use crate::isolator::filesystem::AGENT_SOCKET_VARIABLE;
use crate::isolator::{READONLY_ROOTFS, USER_NAMESPACE};
use crate::logger::LogOrigin;
use crate::oci::LABEL;

/// What containers inherit from the root they are nested in: sandbox, environment, user.
pub(super) type Home = (PathBuf, BTreeMap<String, String>, Option<String>);

impl Agent {
    /// Where an executor's run finds its files.
    pub(super) fn sandbox(&self, key: &ExecutorKey, container: &ContainerId) -> PathBuf {
        let agent = self.info.id.clone().unwrap_or_default();
        paths::sandbox(&self.settings.work_dir, &agent, key, container)
    }

    /// The container of an executor: for a command task, the task itself.
    pub(super) fn executor_container(&self, executor: &Executor) -> ContainerConfig {
        let kind = executor.hosted.as_ref().map(crate::executor::Hosted::kind);
        let mut environment = self.environment(executor);
        let command = match kind {
            Some(HostedKind::Default) => None,
            _ => executor.info.command.clone(),
        };
        if let Some(command) = &command {
            environment.extend(environment_of(command));
        }
        let container = executor.info.container.as_ref();
        let agent_socket = self.tell_of_socket(executor, container, &mut environment);
        ContainerConfig {
            class: match kind {
                Some(HostedKind::Default) => ContainerClass::Holder,
                _ => ContainerClass::Task,
            },
            user: self.user(executor, command.as_ref().and_then(|c| c.user.clone())),
            command,
            container: executor.info.container.clone(),
            resources: executor.resources(),
            limits: executor.limits(),
            environment,
            directory: executor.directory.clone(),
            volumes: self.executor_volumes(executor),
            runtime: runtime_of(executor.info.labels.as_ref()),
            readonly_rootfs: is_set(executor.info.labels.as_ref(), READONLY_ROOTFS),
            user_namespace: is_set(executor.info.labels.as_ref(), USER_NAMESPACE),
            agent_socket,
            origin: Some(self.origin(executor, None)),
            ..ContainerConfig::default()
        }
    }

    /// Whose output that of an executor's container is, or of a task's that is nested in it.
    fn origin(&self, executor: &Executor, task: Option<&TaskInfo>) -> LogOrigin {
        let info = &executor.info;
        let of_task = task.and_then(|task| task.labels.as_ref());
        let labels = info.labels.iter().chain(of_task);
        let labels = labels.flat_map(|labels| &labels.labels);
        LogOrigin {
            framework: executor.key().framework.to_string(),
            executor: info.executor_id.to_string(),
            agent: self
                .info
                .id
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            name: info
                .name
                .clone()
                .unwrap_or_else(|| info.executor_id.to_string()),
            labels: labels
                .map(|label| (label.key.clone(), label.value.clone().unwrap_or_default()))
                .collect(),
        }
    }

    /// What containers nested in one that belongs to no executor inherit, and what that has.
    pub(super) fn home_of_standalone(&self, root: &ContainerId) -> Home {
        let sandbox = paths::standalone(&self.settings.work_dir, root);
        let path = DEFAULT_PATH.to_owned();
        (sandbox, BTreeMap::from([("PATH".to_owned(), path)]), None)
    }

    /// The container of one task of a default executor.
    pub(super) fn nested_container(
        &self,
        executor: &Executor,
        task: &TaskInfo,
        container: &ContainerId,
    ) -> ContainerConfig {
        let mut environment = self.environment(executor);
        let user = task
            .command
            .as_ref()
            .and_then(|command| command.user.clone());
        let executor_user = || executor.info.command.as_ref()?.user.clone();
        if let Some(command) = &task.command {
            environment.extend(environment_of(command));
        }
        self.tell_of_socket(executor, task.container.as_ref(), &mut environment);
        let directory = paths::nested_sandbox(&executor.directory, container);
        environment.insert(
            "MESOS_DIRECTORY".to_owned(),
            directory.display().to_string(),
        );
        ContainerConfig {
            class: ContainerClass::Task,
            user: self.user(executor, user.or_else(executor_user)),
            command: task.command.clone(),
            container: task.container.clone(),
            resources: task.resources.clone(),
            limits: task.limits.clone(),
            environment,
            directory,
            volumes: self.volumes_of((&executor.key(), Some(&task.task_id)), &task.resources),
            runtime: runtime_of(task.labels.as_ref())
                .or_else(|| runtime_of(executor.info.labels.as_ref())),
            readonly_rootfs: is_set(task.labels.as_ref(), READONLY_ROOTFS)
                || is_set(executor.info.labels.as_ref(), READONLY_ROOTFS),
            user_namespace: is_set(task.labels.as_ref(), USER_NAMESPACE)
                || is_set(executor.info.labels.as_ref(), USER_NAMESPACE),
            origin: Some(self.origin(executor, Some(task))),
            ..ContainerConfig::default()
        }
    }

    /// Tells the containerizer what an executor that runs may use now.
    pub(super) fn resize(&mut self, key: &ExecutorKey) {
        let Some(executor) = self.executor(key) else {
            return;
        };
        if executor.hosts(HostedKind::Command) || executor.state.is_over() || executor.destroying {
            return;
        }
        let (resources, limits) = (executor.resources(), executor.limits());
        let container = executor.container.clone();
        self.act(Action::Resize(container, resources, limits));
    }

    fn user(&self, executor: &Executor, own: Option<String>) -> Option<String> {
        if !self.settings.switch_user {
            return None;
        }
        let framework = self.frameworks.get(executor.info.framework_id.as_ref()?)?;
        own.or_else(|| Some(framework.info.user.clone()).filter(|user| !user.is_empty()))
    }

    /// What every process of an executor finds in its environment.
    fn environment(&self, executor: &Executor) -> BTreeMap<String, String> {
        let key = executor.key();
        let settings = &self.settings;
        let mut all = BTreeMap::from([("PATH".to_owned(), DEFAULT_PATH.to_owned())]);
        all.extend(settings.executor_environment.clone());
        let mut set = |name: &str, value: String| {
            all.insert(name.to_owned(), value);
        };
        let ip = settings.endpoint.rsplit_once(':').map_or("", |(ip, _)| ip);
        set("LIBPROCESS_IP", ip.trim_matches(['[', ']']).to_owned());
        set("LIBPROCESS_PORT", "0".to_owned());
        set("MESOS_FRAMEWORK_ID", key.framework.value);
        set("MESOS_EXECUTOR_ID", key.executor.value);
        set(
            "MESOS_SLAVE_ID",
            self.info.id.clone().unwrap_or_default().value,
        );
        set("MESOS_SLAVE_PID", settings.pid.clone());
        set("MESOS_AGENT_ENDPOINT", settings.endpoint.clone());
        set("MESOS_DIRECTORY", executor.directory.display().to_string());
        set("MESOS_HTTP_COMMAND_EXECUTOR", "0".to_owned());
        set(
            "MESOS_CHECKPOINT",
            u8::from(executor.checkpoint).to_string(),
        );
        if executor.checkpoint {
            set(
                "MESOS_RECOVERY_TIMEOUT",
                format_duration(settings.recovery_timeout),
            );
            let backoff = settings.executor_reregistration_timeout;
            set("MESOS_SUBSCRIPTION_BACKOFF_MAX", format_duration(backoff));
        }
        let grace = self.shutdown_grace(executor);
        set(
            "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD",
            format_duration(grace),
        );
        if let Some(token) = self.executor_token(executor) {
            set("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", token);
        }
        if let Some(role) = allocation_role(executor) {
            set("MESOS_ALLOCATION_ROLE", role);
        }
        all.extend(settings.hooks.environment(&executor.info));
        all
    }

    /// Tells what runs in `container` of the agent's socket, if it can be there: where the node's files are seen, and in
    /// the roots of executors that are processes. True for the latter, into which it is to be mounted.
    fn tell_of_socket(
        &self,
        executor: &Executor,
        container: Option<&ContainerInfo>,
        environment: &mut BTreeMap<String, String>,
    ) -> bool {
        let Some(path) = &self.settings.executor_socket else {
            return false;
        };
        let own_root = has_own_root(container);
        if container.is_some_and(is_docker) || (own_root && executor.hosted.is_some()) {
            return false;
        }
        environment.insert(AGENT_SOCKET_VARIABLE.to_owned(), path.display().to_string());
        own_root
    }

    /// What an executor shows this agent. Those the agent hosts need none, and their tasks must not
    /// have one.
    fn executor_token(&self, executor: &Executor) -> Option<String> {
        let key = self.settings.executor_key.as_ref()?;
        if executor.hosted.is_some() {
            return None;
        }
        let own = executor.key();
        let claims = [
            ("fid", &own.framework.value),
            ("eid", &own.executor.value),
            ("cid", &executor.container.value),
        ];
        Some(jwt::sign(&claims, key))
    }

    /// A built-in executor for `executor`. What a Docker Engine runs is given longer to end.
    pub(super) fn hosted_executor(
        &self,
        executor: &Executor,
        kind: HostedKind,
        killing_state: bool,
    ) -> Hosted {
        let hosted = Hosted::new(kind, killing_state);
        if !executor.info.container.as_ref().is_some_and(is_docker) {
            return hosted;
        }
        let timeout = self.settings.docker_stop_timeout;
        hosted.with_grace(timeout.unwrap_or_else(|| self.shutdown_grace(executor)))
    }

    /// How long an executor may take to end after SHUTDOWN.
    pub(super) fn shutdown_grace(&self, executor: &Executor) -> Duration {
        let own = executor.info.shutdown_grace_period.map(duration_of);
        own.unwrap_or(self.settings.executor_shutdown_grace_period)
    }
}

/// Whether a container sees the files of an image in place of the node's.
pub(super) fn has_own_root(container: Option<&ContainerInfo>) -> bool {
    let mesos = container.and_then(|container| container.mesos.as_ref());
    mesos.is_some_and(|mesos| mesos.image.is_some())
}

/// The runtime that a task or an executor asks for.
fn runtime_of(labels: Option<&Labels>) -> Option<String> {
    label(labels, LABEL)
}

/// Whether a label of a task or an executor says `true`.
fn is_set(labels: Option<&Labels>, key: &str) -> bool {
    label(labels, key).is_some_and(|value| value == "true")
}

fn label(labels: Option<&Labels>, key: &str) -> Option<String> {
    let mut labels = labels?.labels.iter();
    labels.find(|label| label.key == key)?.value.clone()
}

fn allocation_role(executor: &Executor) -> Option<String> {
    let resources = executor.resources();
    let allocation = resources
        .iter()
        .find_map(|resource| resource.allocation_info.clone());
    allocation?.role
}

fn duration_of(info: DurationInfo) -> Duration {
    Duration::from_nanos(u64::try_from(info.nanoseconds).unwrap_or(0))
}
