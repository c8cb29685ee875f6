//! The promises of [`Authorizer`].
//!
//! ```
//! use dcos_security::testkit::authorizer::{self, Case};
//! use dcos_security::{Action, AllowAll, Principal};
//!
//! let ops = Principal::new("ops");
//! let cases = [Case { subject: Some(&ops), action: Action::ViewRole, object: "web", allowed: true }];
//! authorizer::all(&AllowAll, &cases);
//! ```

use std::thread;

use dcos_proto::mesos::{ContainerId, FrameworkInfo, MachineId, Resource, TaskInfo, resource};

use crate::{Action, Authorizer, Object, Principal};

/// What an implementation is known to decide.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// Who asks; `None` is nobody in particular.
    pub subject: Option<&'a Principal>,
    /// What for.
    pub action: Action,
    /// To what: a role, a path, a user.
    pub object: &'a str,
    /// What the answer is.
    pub allowed: bool,
}

/// Runs every promise.
pub fn all(authorizer: &impl Authorizer, cases: &[Case<'_>]) {
    decides(authorizer, cases);
    approvers_agree(authorizer);
    repeats_itself(authorizer);
    means_all_by_all(authorizer);
    serves_many_at_once(authorizer);
}

/// An object of each kind, all named `name`.
fn with_objects(name: &str, mut each: impl FnMut(&Object<'_>)) {
    let framework = FrameworkInfo {
        user: name.to_owned(),
        principal: Some(name.to_owned()),
        role: Some(name.to_owned()),
        ..FrameworkInfo::default()
    };
    let task = TaskInfo::default();
    let reserved = Resource {
        reservations: vec![resource::ReservationInfo {
            role: Some(name.to_owned()),
            principal: Some(name.to_owned()),
            ..resource::ReservationInfo::default()
        }],
        ..Resource::default()
    };
    let container = ContainerId {
        value: name.to_owned(),
        parent: None,
    };
    let machine = MachineId {
        hostname: Some(name.to_owned()),
        ip: None,
    };
    each(&Object::ANY);
    each(&Object::value(name));
    each(&Object::framework(&framework));
    each(&Object::launch(&task, &framework));
    each(&Object::resource(&reserved));
    each(&Object::machine(&machine));
    each(&Object::framework(&framework).in_container(&container));
}

fn subjects() -> [Option<Principal>; 3] {
    let claimed = Principal::of_claims([("cid", "c"), ("fid", "f")]);
    [None, Some(Principal::new("kit")), Some(claimed)]
}

fn each(mut check: impl FnMut(Option<&Principal>, Action, &Object<'_>)) {
    for subject in subjects() {
        for action in Action::ALL {
            for name in ["", "*", "a", "a/b", "root", "/metrics/snapshot"] {
                with_objects(name, |object| check(subject.as_ref(), *action, object));
            }
        }
    }
}

/// What the implementation is known to decide, it decides.
///
/// # Panics
/// If it does not.
pub fn decides(authorizer: &impl Authorizer, cases: &[Case<'_>]) {
    for case in cases {
        let framework = FrameworkInfo {
            user: case.object.to_owned(),
            principal: Some(case.object.to_owned()),
            role: Some(case.object.to_owned()),
            ..FrameworkInfo::default()
        };
        let object = Object {
            value: Some(case.object),
            ..Object::framework(&framework)
        };
        let allowed = authorizer.authorized(case.subject, case.action, &object);
        assert_eq!(allowed, case.allowed, "{case:?}");
    }
}

/// An approver says of each object what the authorizer says.
///
/// # Panics
/// If the authorizer breaks it.
pub fn approvers_agree(authorizer: &impl Authorizer) {
    each(|subject, action, object| {
        let approved = authorizer.approver(subject, action).approved(object);
        let authorized = authorizer.authorized(subject, action, object);
        assert_eq!(approved, authorized, "{subject:?} {action} {object:?}");
    });
}

/// Promise 1: asking changes nothing, whatever was asked in between.
///
/// # Panics
/// If the authorizer breaks it.
pub fn repeats_itself(authorizer: &impl Authorizer) {
    let mut first = Vec::new();
    each(|subject, action, object| first.push(authorizer.authorized(subject, action, object)));
    let mut again = first.into_iter();
    each(|subject, action, object| {
        let now = authorizer.authorized(subject, action, object);
        assert_eq!(Some(now), again.next(), "{subject:?} {action} {object:?}");
    });
}

/// An approver that says it approves everything does.
///
/// # Panics
/// If the authorizer breaks it.
pub fn means_all_by_all(authorizer: &impl Authorizer) {
    each(|subject, action, object| {
        let approver = authorizer.approver(subject, action);
        assert!(
            !approver.approves_all() || approver.approved(object),
            "{action} by {subject:?} is said to be allowed on everything, but not on {object:?}"
        );
    });
}

/// Promise 4: approvers are kept and shared between threads.
///
/// # Panics
/// If the authorizer breaks it.
pub fn serves_many_at_once(authorizer: &impl Authorizer) {
    let approver = authorizer.approver(None, Action::ViewRole);
    let alone = approver.approved(&Object::value("a"));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    assert_eq!(approver.approved(&Object::value("a")), alone);
                }
            });
        }
    });
}
