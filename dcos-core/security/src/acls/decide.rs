//! Deciding about an object by the rules that are left for one subject.

use super::{Entity, Line};
use crate::{Action, Object, ObjectApprover, Principal};

/// A rule whose principals match the subject.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// Whether the subject is among those it allows.
    allowed: bool,
    objects: Entity,
}

impl Rule {
    /// The rule for `subject`, unless its principals don't match.
    pub(super) fn of(line: &Line, subject: Option<&Principal>) -> Option<Self> {
        let name = subject.and_then(|subject| subject.value.as_deref());
        let allowed = match (&line.principals, name) {
            (Entity::Any, _) => true,
            (Entity::None, _) => false,
            (Entity::Some(_), None) => return None,
            (Entity::Some(names), Some(name)) => {
                if !names.iter().any(|listed| listed == name) {
                    return None;
                }
                true
            }
        };
        let objects = match &line.objects {
            // `SOME` of nothing is never matched; keeping it would only cost time.
            Entity::Some(values) if values.is_empty() => return None,
            objects => objects.clone(),
        };
        Some(Self { allowed, objects })
    }

    /// What it says about an object: `None` if it doesn't match.
    fn verdict(&self, asked: Asked<'_>, hierarchical: bool) -> Option<bool> {
        let covered = match (&self.objects, asked) {
            (Entity::Any, _) => true,
            (Entity::None, _) => return Some(false),
            (Entity::Some(_), Asked::Any) => return None,
            (Entity::Some(values), Asked::Value(value)) => {
                let covers = |listed: &String| match listed.strip_suffix('%') {
                    Some(above) if hierarchical && above.ends_with('/') => value.starts_with(above),
                    _ => listed == value,
                };
                if !values.iter().any(covers) {
                    return None;
                }
                true
            }
        };
        Some(self.allowed && covered)
    }
}

/// What is asked about: any object, or one with a name.
#[derive(Debug, Clone, Copy)]
enum Asked<'a> {
    Any,
    Value(&'a str),
}

impl<'a> From<Option<&'a str>> for Asked<'a> {
    fn from(value: Option<&'a str>) -> Self {
        value.map_or(Self::Any, Self::Value)
    }
}

/// The first matching rule decides.
#[derive(Debug)]
pub(super) struct Plain {
    action: Action,
    rules: Vec<Rule>,
    permissive: bool,
}

impl Plain {
    pub(super) fn new(action: Action, rules: Vec<Rule>, permissive: bool) -> Self {
        Self {
            action,
            rules,
            permissive,
        }
    }

    fn decide(&self, asked: Asked<'_>) -> bool {
        let hierarchical = by_role(self.action);
        let mut verdicts = self.rules.iter();
        let verdict = verdicts.find_map(|rule| rule.verdict(asked, hierarchical));
        verdict.unwrap_or(self.permissive)
    }
}

impl ObjectApprover for Plain {
    fn approved(&self, object: &Object<'_>) -> bool {
        if self.action == Action::RegisterFramework
            && let Some(roles) = object.framework_roles()
        {
            if roles.is_empty() {
                return self.permissive;
            }
            return roles.iter().all(|role| self.decide(Asked::Value(role)));
        }
        self.decide(name_of(self.action, object).into())
    }

    fn approves_all(&self) -> bool {
        match self.rules.first() {
            None => self.permissive,
            Some(first) => first.allowed && first.objects == Entity::Any,
        }
    }
}

/// A nested container needs what its command may run as, and what its parent runs as.
#[derive(Debug)]
pub(super) struct Nested {
    pub(super) own: Plain,
    pub(super) parent: Plain,
}

impl ObjectApprover for Nested {
    fn approved(&self, object: &Object<'_>) -> bool {
        let parent = self.parent.decide(object.executor_user().into());
        let own = object.command.is_none_or(|command| {
            let user = crate::object::user(Some(command));
            self.own.decide(user.into())
        });
        parent && own
    }

    fn approves_all(&self) -> bool {
        self.own.approves_all() && self.parent.approves_all()
    }
}

/// Whether the objects of an action are roles, which stand in a hierarchy.
fn by_role(action: Action) -> bool {
    matches!(
        action,
        Action::RegisterFramework
            | Action::ReserveResources
            | Action::CreateVolume
            | Action::ResizeVolume
            | Action::UpdateWeight
            | Action::ViewRole
            | Action::GetQuota
            | Action::UpdateQuota
            | Action::UpdateQuotaWithConfig
            | Action::CreateBlockDisk
            | Action::DestroyBlockDisk
            | Action::CreateMountDisk
            | Action::DestroyMountDisk
            | Action::DestroyRawDisk
    )
}

/// By which name rules know an object; `None` for any object.
fn name_of<'a>(action: Action, object: &Object<'a>) -> Option<&'a str> {
    match action {
        Action::GetEndpointWithPath
        | Action::ViewRole
        | Action::GetQuota
        | Action::UpdateQuota
        | Action::UpdateQuotaWithConfig
        | Action::UpdateWeight
        | Action::RegisterFramework => object.value,
        Action::TeardownFramework => object
            .framework
            .map(|framework| framework.principal.as_deref().unwrap_or_default())
            .or(object.value),
        Action::DestroyVolume => object.creator().or(object.value),
        Action::UnreserveResources => object.reserver().or(object.value),
        Action::ReserveResources
        | Action::CreateVolume
        | Action::ResizeVolume
        | Action::CreateBlockDisk
        | Action::DestroyBlockDisk
        | Action::CreateMountDisk
        | Action::DestroyMountDisk
        | Action::DestroyRawDisk => object.role_of_resource().or(object.value),
        Action::RunTask | Action::ViewTask => object.task_user(),
        Action::ViewFramework => object.framework_user(),
        Action::ViewExecutor | Action::AccessSandbox | Action::ViewContainer => {
            object.executor_user()
        }
        Action::AttachContainerInput
        | Action::AttachContainerOutput
        | Action::RemoveNestedContainer
        | Action::KillNestedContainer
        | Action::WaitNestedContainer => object
            .executor_user()
            .or_else(|| object.container.map(|container| container.value.as_str())),
        // Their objects have no names.
        _ => None,
    }
}

/// What a token's claims allow without any rule.
#[derive(Debug)]
pub(super) enum Claimed {
    /// An executor: whatever is nested in its own container.
    Executor(String),
    /// A resource provider: its own standalone containers, told by how their ids begin.
    Provider(String),
}

impl Claimed {
    pub(super) fn of(subject: &Principal, action: Action) -> Option<Self> {
        match action {
            Action::LaunchNestedContainer
            | Action::WaitNestedContainer
            | Action::KillNestedContainer
            | Action::LaunchNestedContainerSession
            | Action::RemoveNestedContainer
            | Action::AttachContainerOutput => {
                subject.claim("cid").map(|id| Self::Executor(id.to_owned()))
            }
            Action::LaunchStandaloneContainer
            | Action::WaitStandaloneContainer
            | Action::KillStandaloneContainer
            | Action::RemoveStandaloneContainer
            | Action::ViewStandaloneContainer => subject
                .claim("cid_prefix")
                .map(|prefix| Self::Provider(prefix.to_owned())),
            _ => None,
        }
    }
}

impl ObjectApprover for Claimed {
    fn approved(&self, object: &Object<'_>) -> bool {
        object.container.is_some_and(|container| match self {
            Self::Executor(own) => container.root_id().value == *own,
            Self::Provider(prefix) => container.value.starts_with(prefix.as_str()),
        })
    }
}
