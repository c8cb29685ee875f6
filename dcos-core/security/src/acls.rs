//! The local authorizer: access rules from a file, as Mesos's `--acls` gives them.
//!
//! Rules R-1 to R-5, from Mesos 1.11 `src/authorizer/local/authorizer.cpp`:
//!
//! 1. Rules of an action are tried in order; the first whose principals and objects both match
//!    decides; if none does, `permissive` (true unless the file says otherwise) decides.
//! 2. `NONE` matches everything and allows nothing. Whoever was not authenticated matches `ANY` and
//!    `NONE` only.
//! 3. A role `a/%` stands for all roles below `a`, not for `a`.
//! 4. A framework that subscribes with several roles needs each.
//! 5. A principal without a name (an executor's token) may do what its own container needs, and
//!    nothing else.

mod compile;
mod decide;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use dcos_proto::json::{self, Dialect, JsonError};
use dcos_proto::mesos::AcLs;

use crate::{Action, Authorizer, DenyAll, ObjectApprover, Principal};
use decide::{Claimed, Nested, Plain, Rule};

/// Whom or what a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entity {
    Some(Vec<String>),
    Any,
    None,
}

/// A line of an access list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    principals: Entity,
    objects: Entity,
}

/// The local authorizer: access rules in Mesos's form.
///
/// ```
/// use dcos_security::{Acls, Action, Authorizer as _, Object, Principal};
///
/// let acls: Acls = r#"{"reserve_resources": [
///     {"principals": {"values": ["ops"]}, "roles": {"values": ["team/%"]}},
///     {"principals": {"type": "ANY"}, "roles": {"type": "NONE"}}]}"#.parse()?;
/// let may = |who: &str, role: &str| {
///     acls.authorized(Some(&Principal::new(who)), Action::ReserveResources, &Object::value(role))
/// };
/// assert!(may("ops", "team/a") && !may("ops", "team") && !may("dev", "team/a"));
/// # Ok::<(), dcos_security::AclsError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acls {
    permissive: bool,
    lists: BTreeMap<Action, Vec<Line>>,
    /// What holds for the container that a nested one is launched in.
    parents: BTreeMap<Action, Vec<Line>>,
}

/// Why access rules can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AclsError {
    /// They are no JSON.
    #[error("reading access rules")]
    Syntax(#[source] serde_json::Error),
    /// They are not of the right form.
    #[error("understanding access rules")]
    Form(#[source] JsonError),
    /// There is no list of this name; ignoring it might allow what was to be forbidden.
    #[error("there is no list {name:?} of access rules")]
    Unknown {
        /// Its name.
        name: String,
    },
    /// `ANY` or `NONE` is misspelled.
    #[error("an entity of access rules has the type {name:?}; there are SOME, ANY and NONE")]
    Type {
        /// What stands there.
        name: String,
    },
    /// A list whose objects have no names holds some.
    #[error("ACL.{list} type must be either NONE or ANY")]
    Nameless {
        /// Which one, by the name of its message.
        list: &'static str,
    },
    /// A path that is never asked about.
    #[error("Path: '{path}' is not an authorizable path")]
    Path {
        /// Which one.
        path: String,
    },
}

/// The endpoints guarded by [`Action::GetEndpointWithPath`].
const PATHS: [&str; 6] = [
    "/containers",
    "/containerizer/debug",
    "/files/debug",
    "/logging/toggle",
    "/metrics/snapshot",
    "/monitor/statistics",
];

impl FromStr for Acls {
    type Err = AclsError;

    fn from_str(text: &str) -> Result<Self, AclsError> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(AclsError::Syntax)?;
        Self::from_json(&value)
    }
}

impl Acls {
    /// Reads the rules in a JSON document.
    ///
    /// # Errors
    /// [`AclsError`]. Departure: an unknown list or type is an error, where Mesos ignores it.
    pub fn from_json(value: &serde_json::Value) -> Result<Self, AclsError> {
        compile::check_names(value)?;
        let message: AcLs = json::from_value(value, Dialect::V0).map_err(AclsError::Form)?;
        Self::from_message(&message)
    }

    /// The rules of a message.
    ///
    /// # Errors
    /// [`AclsError`]
    pub fn from_message(message: &AcLs) -> Result<Self, AclsError> {
        let (lists, parents) = compile::lists(message);
        compile::check_objects(&lists)?;
        Ok(Self {
            permissive: message.permissive(),
            lists,
            parents,
        })
    }

    fn plain(&self, subject: Option<&Principal>, action: Action, lines: Option<&[Line]>) -> Plain {
        let rules = lines
            .unwrap_or_default()
            .iter()
            .filter_map(|line| Rule::of(line, subject));
        Plain::new(action, rules.collect(), self.permissive)
    }
}

impl Authorizer for Acls {
    fn approver(&self, subject: Option<&Principal>, action: Action) -> Arc<dyn ObjectApprover> {
        if let Some(subject) = subject
            && subject.value.is_none()
        {
            return match Claimed::of(subject, action) {
                Some(claimed) => Arc::new(claimed),
                None => Arc::new(DenyAll),
            };
        }
        let own = self.plain(subject, action, self.lists.get(&action).map(Vec::as_slice));
        match action {
            Action::LaunchNestedContainer | Action::LaunchNestedContainerSession => {
                let parent = self.parents.get(&action).map(Vec::as_slice);
                let parent = self.plain(subject, action, parent);
                Arc::new(Nested { own, parent })
            }
            _ => Arc::new(own),
        }
    }
}

#[cfg(test)]
mod tests;
