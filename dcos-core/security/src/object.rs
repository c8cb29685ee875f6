//! What something is done to.

use std::fmt;

use dcos_proto::mesos::{
    CommandInfo, ContainerId, ExecutorInfo, FrameworkInfo, MachineId, Resource, Task, TaskInfo,
};

use crate::Action;

/// What something is done to, as far as the asker knows it. Nothing set means any object.
///
/// Which fields are set depends on the action, as in Mesos 1.11 (`ObjectApprover::Object`): a role
/// or a path is `value`; a task comes with its framework; reserved resources come as the resource.
#[derive(Debug, Clone, Copy, Default)]
pub struct Object<'a> {
    /// A role, a path, a principal: what the action is about, as text.
    pub value: Option<&'a str>,
    /// A framework, or the one that what is asked about belongs to.
    pub framework: Option<&'a FrameworkInfo>,
    /// A task that runs or ran.
    pub task: Option<&'a Task>,
    /// A task that is to run.
    pub task_info: Option<&'a TaskInfo>,
    /// An executor.
    pub executor: Option<&'a ExecutorInfo>,
    /// Reserved resources, or a volume.
    pub resource: Option<&'a Resource>,
    /// What is to run in a nested container.
    pub command: Option<&'a CommandInfo>,
    /// A container.
    pub container: Option<&'a ContainerId>,
    /// A machine.
    pub machine: Option<&'a MachineId>,
}

impl<'a> Object<'a> {
    /// Any object, or an action that has none.
    pub const ANY: Object<'static> = Object {
        value: None,
        framework: None,
        task: None,
        task_info: None,
        executor: None,
        resource: None,
        command: None,
        container: None,
        machine: None,
    };

    /// A role, a path, a principal.
    pub fn value(value: &'a str) -> Self {
        Self {
            value: Some(value),
            ..Self::default()
        }
    }

    /// A framework.
    pub fn framework(framework: &'a FrameworkInfo) -> Self {
        Self {
            framework: Some(framework),
            ..Self::default()
        }
    }

    /// A task and its framework.
    pub fn task(task: &'a Task, framework: &'a FrameworkInfo) -> Self {
        Self {
            task: Some(task),
            ..Self::framework(framework)
        }
    }

    /// A task that is to run, and its framework.
    pub fn launch(task: &'a TaskInfo, framework: &'a FrameworkInfo) -> Self {
        Self {
            task_info: Some(task),
            ..Self::framework(framework)
        }
    }

    /// An executor and its framework.
    pub fn executor(executor: &'a ExecutorInfo, framework: &'a FrameworkInfo) -> Self {
        Self {
            executor: Some(executor),
            ..Self::framework(framework)
        }
    }

    /// Reserved resources, or a volume.
    pub fn resource(resource: &'a Resource) -> Self {
        Self {
            resource: Some(resource),
            ..Self::default()
        }
    }

    /// A machine.
    pub fn machine(machine: &'a MachineId) -> Self {
        Self {
            machine: Some(machine),
            ..Self::default()
        }
    }

    /// The same with a container.
    #[must_use]
    pub fn in_container(self, container: &'a ContainerId) -> Self {
        Self {
            container: Some(container),
            ..self
        }
    }

    /// The same with a command.
    #[must_use]
    pub fn running(self, command: Option<&'a CommandInfo>) -> Self {
        Self { command, ..self }
    }

    /// The role the resource is reserved for, in the old or the new form; `*` if it is not.
    pub(crate) fn role_of_resource(&self) -> Option<&'a str> {
        let resource = self.resource?;
        let old = resource.role.as_deref();
        let role = match resource.reservations.last() {
            Some(last) => last.role.as_deref().unwrap_or_default(),
            None => old.unwrap_or("*"),
        };
        Some(role)
    }

    /// Who reserved the resource.
    pub(crate) fn reserver(&self) -> Option<&'a str> {
        let resource = self.resource?;
        let old = resource.reservation.as_ref();
        let info = resource.reservations.last().or(old);
        Some(info.map_or("", |info| info.principal.as_deref().unwrap_or_default()))
    }

    /// Who made the volume.
    pub(crate) fn creator(&self) -> Option<&'a str> {
        let resource = self.resource?;
        let persistence = resource
            .disk
            .as_ref()
            .and_then(|disk| disk.persistence.as_ref());
        Some(persistence.map_or("", |volume| volume.principal.as_deref().unwrap_or_default()))
    }

    /// The user a task would run as, or runs as; the framework's if it says none.
    pub(crate) fn task_user(&self) -> Option<&'a str> {
        let of_info = |info: &'a TaskInfo| {
            let command = info.command.as_ref();
            let executor = info.executor.as_ref().and_then(|one| one.command.as_ref());
            user(command).or_else(|| user(executor))
        };
        let own = match self.task {
            Some(task) => task.user.as_deref(),
            None => self.task_info.and_then(of_info),
        };
        own.or_else(|| self.framework_user())
    }

    /// The user an executor runs as; the framework's if it says none.
    pub(crate) fn executor_user(&self) -> Option<&'a str> {
        let command = self.executor.and_then(|one| one.command.as_ref());
        user(command).or_else(|| self.framework_user())
    }

    pub(crate) fn framework_user(&self) -> Option<&'a str> {
        self.framework.map(|framework| framework.user.as_str())
    }

    /// Roles a framework subscribes with.
    pub(crate) fn framework_roles(&self) -> Option<Vec<&'a str>> {
        let framework = self.framework?;
        let multi = framework.capabilities.iter().any(|capability| {
            capability.r#type() == dcos_proto::mesos::framework_info::capability::Type::MultiRole
        });
        Some(if multi {
            framework.roles.iter().map(String::as_str).collect()
        } else {
            vec![framework.role.as_deref().unwrap_or("*")]
        })
    }

    /// What is refused, in words for people: `launch task t1 of framework f1 under user 'root'`.
    pub fn describe(&self, action: Action) -> String {
        Described(action, self).to_string()
    }
}

/// The user a command names.
pub(crate) fn user(command: Option<&CommandInfo>) -> Option<&str> {
    command?.user.as_deref()
}

struct Described<'a>(Action, &'a Object<'a>);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(action, object) = self;
        let framework = || {
            let id = object.framework.and_then(|framework| framework.id.as_ref());
            id.map_or("", |id| id.value.as_str())
        };
        match (action, object.task_info, object.framework_roles()) {
            (Action::RunTask, Some(task), _) => write!(
                f,
                "launch task {} of framework {} under user '{}'",
                task.task_id,
                framework(),
                object.task_user().unwrap_or_default()
            ),
            (Action::RegisterFramework, _, Some(roles)) => write!(
                f,
                "register framework {} with roles {{ {} }}",
                framework(),
                roles.join(", ")
            ),
            _ => {
                write!(f, "perform action {action} on ")?;
                let about = object.value.or_else(|| match action {
                    Action::UnreserveResources => object.reserver(),
                    Action::DestroyVolume => object.creator(),
                    _ => object.role_of_resource(),
                });
                match about {
                    Some(value) => write!(f, "object '{value}'"),
                    None => f.write_str("ANY object"),
                }
            }
        }
    }
}
