//! What frameworks wish for, and who makes room for it.

use dcos_core::resources::{Quantities, ResourceExt, Resources};
use dcos_core::states::is_terminal;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{FrameworkId, OfferId, Task, TaskState, TaskStatus};
use dcos_proto::scheduler::call;

use super::{Master, TaskRecord, convert};
use crate::allocator::{Event as Allocation, Preemption};

impl Master {
    /// REQUEST: each request is a piece that the framework would use on one agent.
    pub(crate) fn wish(&mut self, framework: &FrameworkId, request: &call::Request) {
        let pieces = request
            .requests
            .iter()
            .map(|piece| Quantities::from_scalars(&piece.resources))
            .filter(|piece| !piece.is_empty())
            .collect();
        let event = Allocation::Wish {
            framework: framework.clone(),
            pieces,
        };
        self.allocator.handle(self.now, event);
    }

    /// Takes back offers and ends tasks until what was to be freed is free. Offers go first: nobody
    /// loses anything by them.
    pub(crate) fn preempt(&mut self, preemption: &Preemption) {
        let mut lacking = preemption.resources.clone();
        for offer in self.offers_in_the_way(preemption) {
            if lacking.is_empty() {
                return;
            }
            if let Some(offer) = self.offers.get(&offer) {
                lacking.remove_all(&open_scalars(&Resources::from(&offer.resources)));
            }
            self.rescind(&offer);
        }
        for task in self.tasks_in_the_way(preemption) {
            if lacking.is_empty() {
                return;
            }
            lacking.remove_all(&open_scalars(&Resources::from(&task.resources)));
            let key = (preemption.framework.clone(), task.task_id.clone());
            self.preempted.insert(key, preemption.to_role.clone());
            let kill = call::Kill {
                task_id: task.task_id,
                agent_id: Some(task.agent_id),
                kill_policy: None,
            };
            self.kill(&preemption.framework, kill);
        }
    }

    fn offers_in_the_way(&self, preemption: &Preemption) -> Vec<OfferId> {
        let Some(agent) = self.agents.get(&preemption.agent) else {
            return Vec::new();
        };
        let is_in_the_way = |id: &&OfferId| {
            self.offers.get(id).is_some_and(|offer| {
                offer.framework_id == preemption.framework
                    && convert::role_of(offer) == preemption.role
            })
        };
        agent.offers.iter().filter(is_in_the_way).cloned().collect()
    }

    /// The tasks that hold something there in that role, the youngest first.
    fn tasks_in_the_way(&self, preemption: &Preemption) -> Vec<Task> {
        let Some(framework) = self.frameworks.get(&preemption.framework) else {
            return Vec::new();
        };
        let is_in_the_way = |task: &&TaskRecord| {
            *task.agent_id() == preemption.agent
                && !is_terminal(task.state())
                && task
                    .read()
                    .resources
                    .iter()
                    .any(|resource| resource.allocation_role() == Some(&preemption.role))
        };
        let tasks = framework.tasks.values().filter(is_in_the_way);
        let mut tasks: Vec<Task> = tasks.map(|task| task.read().into_owned()).collect();
        let begin = |task: &Task| {
            let first = task.statuses.first();
            first
                .and_then(|status| status.timestamp)
                .unwrap_or(f64::MAX)
        };
        tasks.sort_by(|one, other| {
            let (one_id, other_id) = (&one.task_id, &other.task_id);
            begin(other)
                .total_cmp(&begin(one))
                .then_with(|| one_id.cmp(other_id))
        });
        tasks
    }

    /// The end of a task that had to make room says so.
    pub(crate) fn explain_preemption(&mut self, framework: &FrameworkId, status: &mut TaskStatus) {
        if !is_terminal(status.state()) {
            return;
        }
        let key = (framework.clone(), status.task_id.clone());
        let role = self.preempted.remove(&key);
        if let Some(role) = role.filter(|_| status.state() == TaskState::TaskKilled) {
            status.set_reason(Reason::ContainerPreempted);
            status.message = Some(format!("Preempted by role {role}"));
        }
    }
}

/// What counts as made room: what is reserved would not be given to others.
fn open_scalars(resources: &Resources) -> Quantities {
    let open = resources.filter(|resource| resource.is_unreserved() && !resource.is_revocable());
    open.scalar_quantities()
}
