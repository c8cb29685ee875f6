//! What a reader may see of the state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use dcos_proto::maintenance::{ClusterStatus, Schedule};
use dcos_proto::master::response::get_agents;
use dcos_proto::master::{Event, event};
use dcos_proto::mesos::{
    ExecutorInfo, FrameworkId, FrameworkInfo, MachineId, Resource, Task, TaskId,
};
use dcos_proto::quota::QuotaStatus;
use dcos_security::{Action, Authorizer, Object, ObjectApprover, Principal};

use crate::master::Snapshot;

/// What a reader may see: everything, or what an authorizer approves of.
#[derive(Debug, Clone)]
pub(crate) struct Sight {
    /// What hides parts of the state; `None` if nothing is hidden.
    limited: Option<Arc<Limited>>,
    authorizer: Arc<dyn Authorizer>,
    reader: Option<Principal>,
}

/// What becomes of an event for one reader.
#[derive(Debug)]
pub(crate) enum Shown {
    /// It is told as it is.
    Whole,
    /// It is told like this.
    Part(Box<Event>),
    /// It is not told.
    Hidden,
}

#[derive(Debug)]
struct Limited {
    frameworks: Arc<dyn ObjectApprover>,
    tasks: Arc<dyn ObjectApprover>,
    executors: Arc<dyn ObjectApprover>,
    roles: Arc<dyn ObjectApprover>,
    flags: bool,
    /// What a reader of events has heard of.
    heard: Mutex<Heard>,
}

/// Whose tasks there are: an update of a task names its framework only.
#[derive(Debug, Default)]
struct Heard {
    frameworks: BTreeMap<FrameworkId, FrameworkInfo>,
    hidden: BTreeSet<(FrameworkId, TaskId)>,
}

impl Sight {
    /// What `reader` may see.
    pub(crate) fn of(authorizer: &Arc<dyn Authorizer>, reader: Option<&Principal>) -> Self {
        let approver = |action| authorizer.approver(reader, action);
        let limited = Limited {
            frameworks: approver(Action::ViewFramework),
            tasks: approver(Action::ViewTask),
            executors: approver(Action::ViewExecutor),
            roles: approver(Action::ViewRole),
            flags: approver(Action::ViewFlags).approved(&Object::ANY),
            heard: Mutex::default(),
        };
        let parts = [
            &limited.frameworks,
            &limited.tasks,
            &limited.executors,
            &limited.roles,
        ];
        let whole = limited.flags && parts.iter().all(|part| part.approves_all());
        Self {
            limited: (!whole).then(|| Arc::new(limited)),
            authorizer: Arc::clone(authorizer),
            reader: reader.cloned(),
        }
    }

    /// Whether nothing is hidden.
    pub(crate) fn is_whole(&self) -> bool {
        self.limited.is_none()
    }

    fn all_or(&self, approved: impl FnOnce(&Limited) -> bool) -> bool {
        self.limited
            .as_ref()
            .is_none_or(|limited| approved(limited))
    }

    /// Whether a framework is shown.
    pub(crate) fn framework(&self, info: &FrameworkInfo) -> bool {
        self.all_or(|limited| limited.framework(info))
    }

    /// Whether a task of a framework that is shown is.
    pub(crate) fn task(&self, task: &Task, framework: &FrameworkInfo) -> bool {
        self.all_or(|limited| limited.task(task, framework))
    }

    /// Whether an executor of a framework that is shown is.
    pub(crate) fn executor(&self, executor: &ExecutorInfo, framework: &FrameworkInfo) -> bool {
        let object = Object::executor(executor, framework);
        self.all_or(|limited| limited.executors.approved(&object))
    }

    /// Whether a role is shown, and what is reserved for it.
    pub(crate) fn role(&self, role: &str) -> bool {
        self.all_or(|limited| limited.roles.approved(&Object::value(role)))
    }

    /// Whether the flags are shown.
    pub(crate) fn flags(&self) -> bool {
        self.all_or(|limited| limited.flags)
    }

    /// Leaves out what is reserved for hidden roles.
    fn resources(&self, resources: &mut Vec<Resource>) {
        resources.retain(|resource| {
            let role = match resource.reservations.last() {
                Some(last) => last.role.as_deref(),
                None => resource.role.as_deref(),
            };
            self.role(role.unwrap_or("*"))
        });
    }

    /// The same of an agent.
    pub(crate) fn agent(&self, mut agent: get_agents::Agent) -> get_agents::Agent {
        if !self.is_whole() {
            self.resources(&mut agent.agent_info.resources);
            self.resources(&mut agent.total_resources);
            self.resources(&mut agent.allocated_resources);
            self.resources(&mut agent.offered_resources);
        }
        agent
    }

    fn approver(&self, action: Action) -> Arc<dyn ObjectApprover> {
        self.authorizer.approver(self.reader.as_ref(), action)
    }

    /// The quotas of roles that are shown.
    pub(crate) fn quota(&self, mut quota: QuotaStatus) -> QuotaStatus {
        let approver = self.approver(Action::GetQuota);
        let seen = |role: &str| approver.approved(&Object::value(role));
        quota.configs.retain(|config| seen(&config.role));
        quota
            .infos
            .retain(|info| seen(info.role.as_deref().unwrap_or_default()));
        quota
    }

    /// The maintenance of machines that are shown.
    pub(crate) fn schedule(&self, mut schedule: Schedule) -> Schedule {
        let approver = self.approver(Action::GetMaintenanceSchedule);
        for window in &mut schedule.windows {
            window
                .machine_ids
                .retain(|machine| approver.approved(&Object::machine(machine)));
        }
        schedule
            .windows
            .retain(|window| !window.machine_ids.is_empty());
        schedule
    }

    /// The standing of machines that are shown.
    pub(crate) fn status(&self, mut status: ClusterStatus) -> ClusterStatus {
        let approver = self.approver(Action::GetMaintenanceStatus);
        let seen = |machine: &MachineId| approver.approved(&Object::machine(machine));
        status.draining_machines.retain(|machine| seen(&machine.id));
        status.down_machines.retain(seen);
        status
    }

    /// A reader of events was told the state.
    pub(crate) fn hear_of(&self, snapshot: &Snapshot) {
        if let Some(limited) = &self.limited {
            let mut heard = limited.heard();
            for (id, framework) in &snapshot.frameworks {
                heard.frameworks.insert(id.clone(), framework.info.clone());
                for task in framework.tasks.values() {
                    limited.learn(&mut heard, task);
                }
            }
        }
    }

    /// What of an event is told. Events are asked about in their order.
    pub(crate) fn event(&self, event: &Event) -> Shown {
        let Some(limited) = &self.limited else {
            return Shown::Whole;
        };
        if !limited.shows(event).unwrap_or(true) {
            return Shown::Hidden;
        }
        let mut part = event.clone();
        if let Some(added) = &mut part.agent_added {
            added.agent = self.agent(std::mem::take(&mut added.agent));
        }
        let added = part.framework_added.as_mut();
        let updated = part.framework_updated.as_mut();
        let framework = added
            .map(|added| &mut added.framework)
            .or(updated.map(|updated| &mut updated.framework));
        if let Some(framework) = framework {
            self.resources(&mut framework.allocated_resources);
            self.resources(&mut framework.offered_resources);
        }
        Shown::Part(Box::new(part))
    }
}

impl Limited {
    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn framework(&self, info: &FrameworkInfo) -> bool {
        self.frameworks.approved(&Object::framework(info))
    }

    fn task(&self, task: &Task, framework: &FrameworkInfo) -> bool {
        self.tasks.approved(&Object::task(task, framework))
    }

    fn learn(&self, heard: &mut Heard, task: &Task) -> bool {
        let info = heard.frameworks.get(&task.framework_id);
        let shown = info.is_some_and(|info| self.framework(info) && self.task(task, info));
        if !shown {
            let key = (task.framework_id.clone(), task.task_id.clone());
            heard.hidden.insert(key);
        }
        shown
    }

    /// Whether an event is told; `None` for one about nothing that could be hidden.
    fn shows(&self, event: &Event) -> Option<bool> {
        let mut heard = self.heard();
        match event.r#type() {
            event::Type::FrameworkAdded | event::Type::FrameworkUpdated => {
                let added = event.framework_added.as_ref().map(|added| &added.framework);
                let updated = event.framework_updated.as_ref();
                let framework = added.or(updated.map(|updated| &updated.framework))?;
                let info = &framework.framework_info;
                heard.frameworks.insert(info.id.clone()?, info.clone());
                Some(self.framework(info))
            }
            event::Type::FrameworkRemoved => {
                let info = &event.framework_removed.as_ref()?.framework_info;
                let id = info.id.as_ref()?;
                heard.frameworks.remove(id);
                heard.hidden.retain(|(framework, _)| framework != id);
                Some(self.framework(info))
            }
            event::Type::TaskAdded => {
                Some(self.learn(&mut heard, &event.task_added.as_ref()?.task))
            }
            event::Type::TaskUpdated => {
                let updated = event.task_updated.as_ref()?;
                let task = updated.status.task_id.clone();
                let key = (updated.framework_id.clone(), task);
                Some(!heard.hidden.contains(&key))
            }
            _ => None,
        }
    }
}
