//! What a reader may see of the state.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dcos_proto::maintenance::{ClusterStatus, Schedule};
use dcos_proto::master::response::get_agents;
use dcos_proto::master::{Event, event};
use dcos_proto::mesos::{
    AgentInfo, ExecutorInfo, FrameworkId, FrameworkInfo, MachineId, Resource, Task, offer,
};
use dcos_proto::quota::QuotaStatus;
use dcos_security::{
    Action, AllowAll, Authorizer, Object, ObjectApprover, Principal, sees_operation, sees_resource,
};

use crate::master::{Snapshot, TaskRecord};

/// What stands for a name a reader may not see.
pub(crate) const HIDDEN: &str = "(hidden)";

/// What a reader may see: everything, or what an authorizer approves of.
#[derive(Debug, Clone)]
pub(crate) struct Sight {
    /// What hides parts of the state; `None` if nothing is hidden.
    limited: Option<Arc<Limited>>,
    authorizer: Arc<dyn Authorizer>,
    reader: Option<Principal>,
}

/// Whose eyes see the same at the same moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Eyes {
    /// Of all who see everything.
    All,
    /// Of one principal (or of all without one), who sees a part.
    Of(Option<Principal>),
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
    /// The frameworks a reader of events has heard of: what is told of tasks names them only.
    heard: Mutex<BTreeMap<FrameworkId, FrameworkInfo>>,
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

    /// With whom it is shared: an authorizer knows readers by their principals alone.
    pub(crate) fn eyes(&self) -> Eyes {
        match self.limited {
            None => Eyes::All,
            Some(_) => Eyes::Of(self.reader.clone()),
        }
    }

    /// Of the process itself, which sees everything.
    pub(crate) fn all() -> Self {
        let everybody: Arc<dyn Authorizer> = Arc::new(AllowAll);
        Self::of(&everybody, None)
    }

    /// A role's name, if it may be told.
    pub(crate) fn named(&self, role: String) -> String {
        if self.role(&role) {
            role
        } else {
            HIDDEN.to_owned()
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
    pub(crate) fn task(&self, task: &TaskRecord, framework: &FrameworkInfo) -> bool {
        self.all_or(|limited| limited.task(&task.read(), framework))
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

    /// Leaves out what is reserved for hidden roles or allocated to them.
    pub(crate) fn resources(&self, resources: &mut Vec<Resource>) {
        if let Some(limited) = &self.limited {
            resources.retain(|resource| sees_resource(&*limited.roles, resource));
        }
    }

    /// Whether an operation is shown, for what it uses up.
    pub(crate) fn operation(&self, operation: &offer::Operation) -> bool {
        self.all_or(|limited| sees_operation(&*limited.roles, operation))
    }

    /// An agent that has not come back, as far as it is shown.
    pub(crate) fn recovered<'a>(&self, info: &'a AgentInfo) -> Cow<'a, AgentInfo> {
        if self.is_whole() {
            return Cow::Borrowed(info);
        }
        let mut shown = info.clone();
        self.resources(&mut shown.resources);
        Cow::Owned(shown)
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
                heard.insert(id.clone(), framework.info.clone());
            }
        }
    }

    /// What of an event is told, and of the `task` it is about. Events are asked about in their order.
    pub(crate) fn event(&self, event: &Event, task: Option<&Task>) -> Shown {
        let Some(limited) = &self.limited else {
            return Shown::Whole;
        };
        if !limited.shows(event, task).unwrap_or(true) {
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
    fn heard(&self) -> MutexGuard<'_, BTreeMap<FrameworkId, FrameworkInfo>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn framework(&self, info: &FrameworkInfo) -> bool {
        self.frameworks.approved(&Object::framework(info))
    }

    fn task(&self, task: &Task, framework: &FrameworkInfo) -> bool {
        self.tasks.approved(&Object::task(task, framework))
    }

    /// Whether an event is told; `None` for one about nothing that could be hidden.
    fn shows(&self, event: &Event, task: Option<&Task>) -> Option<bool> {
        let mut heard = self.heard();
        let owned = |task: &Task, heard: &BTreeMap<_, _>| {
            let info = heard.get(&task.framework_id);
            info.is_some_and(|info| self.framework(info) && self.task(task, info))
        };
        match event.r#type() {
            event::Type::FrameworkAdded | event::Type::FrameworkUpdated => {
                let added = event.framework_added.as_ref().map(|added| &added.framework);
                let updated = event.framework_updated.as_ref();
                let framework = added.or(updated.map(|updated| &updated.framework))?;
                let info = &framework.framework_info;
                heard.insert(info.id.clone()?, info.clone());
                Some(self.framework(info))
            }
            event::Type::FrameworkRemoved => {
                let info = &event.framework_removed.as_ref()?.framework_info;
                let id = info.id.as_ref()?;
                heard.remove(id);
                Some(self.framework(info))
            }
            event::Type::TaskAdded => Some(owned(&event.task_added.as_ref()?.task, &heard)),
            // Of a task nobody knows, nothing is told.
            event::Type::TaskUpdated => Some(task.is_some_and(|task| owned(task, &heard))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
