//! The plug point that decides who may do what.

use std::fmt;
use std::sync::Arc;

use crate::{Action, Object, Principal};

/// Decides who may do what to what.
///
/// Reads show only what their reader may see, object by object: so an authorizer is asked once for
/// an [`ObjectApprover`], which is then applied to many objects.
///
/// # Contract
/// 1. An answer depends on subject, action and object only, for as long as the rules stay as they
///    are; asking changes nothing.
/// 2. Nothing here waits. One that asks somebody else does so beforehand, keeps what it heard, and
///    refuses what it has not heard of.
/// 3. No subject means that nobody was authenticated, not that everything is allowed.
/// 4. An approver may be kept for long; one that is asked later answers by the rules as they are
///    then.
///
/// # Source
/// Mesos 1.11 `Authorizer` (`include/mesos/authorizer/authorizer.hpp`). Departure: asking for an
/// approver never fails; one that can't be made refuses every object. See `docs/authorizer.md`.
///
/// # Implementing
/// Run `testkit::authorizer::all` in your tests; start from `examples/custom_authorizer.rs`.
pub trait Authorizer: fmt::Debug + Send + Sync + 'static {
    /// What applies `action` by `subject` to objects.
    fn approver(&self, subject: Option<&Principal>, action: Action) -> Arc<dyn ObjectApprover>;

    /// Whether `subject` may do `action` to `object`.
    fn authorized(&self, subject: Option<&Principal>, action: Action, object: &Object<'_>) -> bool {
        self.approver(subject, action).approved(object)
    }
}

/// Decides about objects, for one subject and one action. See [`Authorizer`].
pub trait ObjectApprover: fmt::Debug + Send + Sync + 'static {
    /// Whether it may be done to this object.
    fn approved(&self, object: &Object<'_>) -> bool;

    /// Whether every object is approved, now and later. `false` if that is not known: then each is
    /// asked for.
    fn approves_all(&self) -> bool {
        false
    }
}

/// Everybody may do everything: what holds where no rules are given.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

/// Nobody may do anything: a double for tests, and what a broken rule amounts to.
#[derive(Debug, Clone, Copy, Default)]
pub struct DenyAll;

impl Authorizer for AllowAll {
    fn approver(&self, _: Option<&Principal>, _: Action) -> Arc<dyn ObjectApprover> {
        Arc::new(Self)
    }
}

impl ObjectApprover for AllowAll {
    fn approved(&self, _: &Object<'_>) -> bool {
        true
    }

    fn approves_all(&self) -> bool {
        true
    }
}

impl Authorizer for DenyAll {
    fn approver(&self, _: Option<&Principal>, _: Action) -> Arc<dyn ObjectApprover> {
        Arc::new(Self)
    }
}

impl ObjectApprover for DenyAll {
    fn approved(&self, _: &Object<'_>) -> bool {
        false
    }
}
