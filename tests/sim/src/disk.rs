//! An agent's disk: the facts that were written, folded into what recovery reads.

use dcos_containerizer::checkpoint::{
    ExecutorCheckpoint, FrameworkCheckpoint, Run, RunCheckpoint, State, TaskHistory, Write,
};
use dcos_core::time::Time;
use dcos_proto::mesos::{FrameworkId, TaskId};

/// What survives a crash of the agent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    pub(crate) state: State,
}

impl Disk {
    /// Makes one fact durable.
    pub(crate) fn apply(&mut self, now: Time, write: Write) {
        match write {
            Write::Agent(info) => self.state.agent = Some(info),
            Write::Resources(resources, operations) => {
                self.state.resources = resources;
                self.state.operations = operations;
            }
            Write::Drain(config) => self.state.drain = config,
            Write::Framework(info, pid) => {
                let id = info.id.clone().unwrap_or_default();
                let known =
                    self.state
                        .frameworks
                        .entry(id)
                        .or_insert_with(|| FrameworkCheckpoint {
                            info: info.clone(),
                            pid: None,
                            executors: Vec::new(),
                        });
                known.info = info;
                known.pid = pid;
            }
            Write::Executor(run, info, hosted) => {
                let Some(framework) = self.state.frameworks.get_mut(&run.framework) else {
                    return;
                };
                let launch = RunCheckpoint {
                    container: run.container,
                    ended: None,
                    pid: None,
                    adopted: None,
                    tasks: Vec::new(),
                };
                let known = framework
                    .executors
                    .iter_mut()
                    .find(|executor| executor.info.executor_id == run.executor);
                match known {
                    Some(executor) => {
                        executor.info = info;
                        executor.hosted = hosted;
                        executor.runs.push(launch);
                    }
                    None => framework.executors.push(ExecutorCheckpoint {
                        info,
                        hosted,
                        runs: vec![launch],
                    }),
                }
            }
            Write::Connected(run, pid) => {
                if let Some(run) = self.run(&run) {
                    run.pid = pid;
                }
            }
            Write::Adopted(run, adopted) => {
                if let Some(run) = self.run(&run) {
                    run.adopted = Some(adopted);
                }
            }
            Write::Task(run, checkpoint) => {
                if let Some(run) = self.run(&run) {
                    run.tasks.push(TaskHistory {
                        checkpoint: *checkpoint,
                        updates: Vec::new(),
                    });
                }
            }
            Write::Update(run, task, record) => {
                if let Some(task) = self.task(&run, &task) {
                    task.updates.push(*record);
                }
            }
            Write::Sentinel(run) => {
                if let Some(run) = self.run(&run) {
                    run.ended = Some(now);
                }
            }
            Write::Deleted(gone) => {
                let framework = self.state.frameworks.get_mut(&gone.framework);
                for executor in framework.into_iter().flat_map(|it| &mut it.executors) {
                    executor.runs.retain(|run| run.container != gone.container);
                }
            }
        }
    }

    /// Whether an update is there.
    pub(crate) fn has_update(&self, framework: &FrameworkId, task: &TaskId, uuid: &[u8]) -> bool {
        let framework = self.state.frameworks.get(framework);
        let executors = framework.into_iter().flat_map(|known| &known.executors);
        let runs = executors.flat_map(|executor| &executor.runs);
        let tasks = runs.flat_map(|run| &run.tasks);
        let updates = tasks
            .filter(|known| known.checkpoint.task.task_id == *task)
            .flat_map(|known| &known.updates);
        updates
            .filter_map(|record| record.update.as_ref()?.uuid.as_deref())
            .any(|known| known == uuid)
    }

    /// Whether an executor is there.
    pub(crate) fn has_executor(&self, framework: &FrameworkId, executor: &str) -> bool {
        let framework = self.state.frameworks.get(framework);
        let mut executors = framework.into_iter().flat_map(|known| &known.executors);
        executors.any(|known| known.info.executor_id.as_str() == executor)
    }

    fn run(&mut self, run: &Run) -> Option<&mut RunCheckpoint> {
        let framework = self.state.frameworks.get_mut(&run.framework)?;
        let executor = framework
            .executors
            .iter_mut()
            .find(|executor| executor.info.executor_id == run.executor)?;
        executor
            .runs
            .iter_mut()
            .find(|known| known.container == run.container)
    }

    fn task(&mut self, run: &Run, id: &TaskId) -> Option<&mut TaskHistory> {
        let run = self.run(run)?;
        run.tasks
            .iter_mut()
            .find(|task| task.checkpoint.task.task_id == *id)
    }
}
