//! Where things are below the agent's work directory.
//!
//! Ids are used as names of directories: whoever takes an id in checks it before
//! ([`dcos_core::ids::validate`]).

use std::path::{Path, PathBuf};

use dcos_proto::mesos::{AgentId, ContainerId, ExecutorId, FrameworkId, TaskId};

use super::Run;
use crate::agent::ExecutorKey;

/// The name of the link to the newest of its kind.
pub const LATEST: &str = "latest";

/// The checkpoints of all agents that ever lived here.
pub fn agents(work_dir: &Path) -> PathBuf {
    work_dir.join("meta/slaves")
}

/// What is kept of an agent.
pub fn agent(work_dir: &Path, agent: &AgentId) -> PathBuf {
    agents(work_dir).join(agent.as_str())
}

/// What is kept of a framework.
pub fn framework(work_dir: &Path, id: &AgentId, framework: &FrameworkId) -> PathBuf {
    agent(work_dir, id)
        .join("frameworks")
        .join(framework.as_str())
}

/// What is kept of an executor.
pub fn executor(
    work_dir: &Path,
    agent: &AgentId,
    owner: &FrameworkId,
    executor: &ExecutorId,
) -> PathBuf {
    framework(work_dir, agent, owner)
        .join("executors")
        .join(executor.as_str())
}

/// What is kept of one launch of an executor.
pub fn run(work_dir: &Path, agent: &AgentId, run: &Run) -> PathBuf {
    executor(work_dir, agent, &run.framework, &run.executor)
        .join("runs")
        .join(&run.container.value)
}

/// What is kept of a task.
pub fn task(work_dir: &Path, agent: &AgentId, of: &Run, task: &TaskId) -> PathBuf {
    run(work_dir, agent, of).join("tasks").join(task.as_str())
}

/// The sandboxes of an executor's launches.
pub fn sandboxes(work_dir: &Path, agent: &AgentId, key: &ExecutorKey) -> PathBuf {
    let executors = work_dir
        .join("slaves")
        .join(agent.as_str())
        .join("frameworks");
    let executors = executors.join(key.framework.as_str()).join("executors");
    executors.join(key.executor.as_str()).join("runs")
}

/// The sandbox of one launch of an executor.
pub fn sandbox(
    work_dir: &Path,
    agent: &AgentId,
    key: &ExecutorKey,
    container: &ContainerId,
) -> PathBuf {
    sandboxes(work_dir, agent, key).join(&container.value)
}

/// The sandbox of a container nested (however deep) in the one whose sandbox is `root`.
pub fn nested_sandbox(root: &Path, container: &ContainerId) -> PathBuf {
    match &container.parent {
        None => root.to_owned(),
        Some(parent) => nested_sandbox(root, parent)
            .join("containers")
            .join(&container.value),
    }
}
