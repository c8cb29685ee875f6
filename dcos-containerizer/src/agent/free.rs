//! What nobody uses: nothing is given to two, whatever the master believes.
//!
//! A master books the outcome of an operation before the agent has said a word, and goes on from there: it launches on
//! it, and converts it again. If the operation fails, or was lost with a connection, what follows may find other
//! resources that look alike, and that a task has: four processors of which two were to be reserved look like four of
//! which none was to be. So whatever is launched or converted here comes out of what is free.
//!
//! Departure: Mesos 1.11 exits where an operation fails (`Slave::applyOperation`), and looks for what is
//! reserved or a volume only (`Slave::__run`).

use dcos_core::resources::{ResourceExt, Resources};
use dcos_proto::mesos::Resource;

use super::core::Agent;
use super::records::{Executor, ExecutorKey};

impl Agent {
    /// Counts what is in use, so that the next orders find it counted.
    pub(super) fn count_used(&mut self) {
        let used = self.in_use();
        debug_assert_eq!(used, self.counted(), "what was added and what is there");
        self.used = Some(used);
    }

    /// What an executor holds is about to change: what it holds now, for [`recount`](Self::recount).
    pub(super) fn held(&self, key: &ExecutorKey) -> Resources {
        let framework = self.frameworks.get(&key.framework);
        let framework = framework.filter(|known| !known.terminating);
        let executor = framework.and_then(|known| known.executors.get(&key.executor));
        let executor = executor.filter(|executor| !executor.state.is_over());
        executor.map(held_by).unwrap_or_default()
    }

    /// Counts an executor again that held `before`, and no others, however many there are.
    pub(super) fn recount(&mut self, key: &ExecutorKey, before: &Resources) {
        let Some(mut used) = self.used.take() else {
            return;
        };
        used -= before;
        used += &self.held(key);
        self.used = Some(used);
    }

    fn in_use(&self) -> Resources {
        self.used.clone().unwrap_or_else(|| self.counted())
    }

    /// What tasks and executors have, counted as the master does: tasks until they end, executors until they exit,
    /// and nothing for what the agent itself runs a command in, or for a framework that was torn down.
    fn counted(&self) -> Resources {
        let frameworks = self.frameworks.values().filter(|known| !known.terminating);
        let executors = frameworks.flat_map(|known| known.executors.values());
        let mut used = Resources::new();
        for executor in executors.filter(|executor| !executor.state.is_over()) {
            used += &held_by(executor);
        }
        used
    }

    /// What may be converted into something else.
    pub(super) fn convertible(&self) -> Resources {
        self.total() - &self.in_use()
    }

    /// What is wanted and not free. Shared volumes always are, lent resources are not looked for.
    pub(super) fn shortage(&self, wanted: &Resources) -> Option<Resources> {
        let wanted = wanted.filter(|resource| {
            !resource.is_shared() && !resource.is_revocable() && resource.provider_id.is_none()
        });
        if wanted.is_empty() {
            return None;
        }
        let free = self.convertible();
        (!free.contains(&wanted)).then(|| &wanted - &free)
    }
}

fn held_by(executor: &Executor) -> Resources {
    let own: &[Resource] = if executor.is_for_command() {
        &[]
    } else {
        &executor.info.resources
    };
    let live = executor.tasks.values().filter(|task| !task.is_terminal());
    let tasks = live.flat_map(|task| &task.info.resources);
    Resources::from_messages(tasks.chain(own)).unallocated()
}
