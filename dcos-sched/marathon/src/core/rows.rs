//! The rows of the store: what must survive, one row for each thing that changes on its own.
//!
//! | key | value |
//! |---|---|
//! | `marathon/framework` | the framework's id, with those it had before somebody ended it: [`Framework`] |
//! | `marathon/root` | the version of the tree |
//! | `marathon/group/<path>` | a group |
//! | `marathon/app/<path>` | the version of the app that is wanted |
//! | `marathon/spec/<path>@<version>` | one version of an app |
//! | `marathon/change/<version>` | what one change of the tree changed |
//! | `marathon/deployment/<id>` | a deployment under way |
//! | `marathon/instance/<id>` | an instance |
//! | `marathon/release/<id>` | an instance that is gone and left something reserved: for which role and, once that is known, where |
//! | `marathon/failure/<path>` | an app's last failure |

use dcos_store::MAX_VALUE_BYTES;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::resident::Release;
use super::{Running, TaskFailure, TreeChange};
use crate::instance::{Instance, InstanceId};
use crate::model::{App, Group};
use crate::{Error, PathId, Timestamp};

/// What all keys begin with.
pub const PREFIX: &str = "marathon/";

/// A change of one row; without a value the row goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub key: String,
    /// The new value.
    pub value: Option<Vec<u8>>,
}

impl Row {
    /// Sets a row.
    pub fn put(key: String, value: &impl Serialize) -> Self {
        // The types written here have string keys and finite numbers only, so that this cannot fail;
        // an empty value would be refused loudly at recovery.
        Self {
            key,
            value: Some(serde_json::to_vec(value).unwrap_or_default()),
        }
    }

    /// Whether the store takes it.
    ///
    /// # Errors
    /// [`Error::Unprocessable`] with the row and its size, for whoever asked for what it says.
    pub fn check(&self) -> Result<(), Error> {
        let bytes = self.value.as_ref().map_or(0, Vec::len);
        if bytes <= MAX_VALUE_BYTES {
            return Ok(());
        }
        let name = &self.key;
        Err(Error::Unprocessable(format!(
            "{name} would take {bytes} bytes in the store, which takes at most {MAX_VALUE_BYTES} in one row: ask for less at once"
        )))
    }

    /// Removes a row.
    pub fn delete(key: String) -> Self {
        Self { key, value: None }
    }
}

/// Who the framework is, and was, to masters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Framework {
    /// Its id; it never had another one.
    Only(String),
    /// Its id, which is empty from its end to the next subscription, and those before.
    After { id: String, former: Vec<String> },
}

impl Framework {
    /// The id there is, and those before it.
    pub(crate) fn into_ids(self) -> (Option<String>, Vec<String>) {
        let (id, former) = match self {
            Self::Only(id) => (id, Vec::new()),
            Self::After { id, former } => (id, former),
        };
        (Some(id).filter(|id| !id.is_empty()), former)
    }
}

pub(crate) fn framework(id: &str, former: &[String]) -> Row {
    let id = id.to_owned();
    let framework = if former.is_empty() {
        Framework::Only(id)
    } else {
        let former = former.to_vec();
        Framework::After { id, former }
    };
    Row::put(format!("{PREFIX}framework"), &framework)
}

pub(crate) fn root(version: Timestamp) -> Row {
    Row::put(format!("{PREFIX}root"), &version)
}

pub(crate) fn group(path: &PathId, group: Option<&Group>) -> Row {
    let key = format!("{PREFIX}group{path}");
    group.map_or_else(
        || Row::delete(key.clone()),
        |group| Row::put(key.clone(), group),
    )
}

pub(crate) fn wanted(path: &PathId, version: Option<Timestamp>) -> Row {
    let key = format!("{PREFIX}app{path}");
    version.map_or_else(
        || Row::delete(key.clone()),
        |version| Row::put(key.clone(), &version),
    )
}

pub(crate) fn spec(app: &App) -> Row {
    Row::put(spec_key(&app.id, app.version), app)
}

pub(crate) fn spec_key(path: &PathId, version: Timestamp) -> String {
    format!("{PREFIX}spec{path}@{version}")
}

pub(crate) fn change(version: Timestamp, change: &TreeChange) -> Row {
    Row::put(change_key(version), change)
}

pub(crate) fn change_key(version: Timestamp) -> String {
    format!("{PREFIX}change/{version}")
}

pub(crate) fn deployment(running: &Running) -> Row {
    let plan = &running.plan;
    let value = json!({"id": plan.id, "version": plan.version, "kill": running.kill, "lives": running.lives,
        "found": running.found, "limit": running.limit});
    Row::put(deployment_key(&plan.id), &value)
}

pub(crate) fn deployment_key(id: &str) -> String {
    format!("{PREFIX}deployment/{id}")
}

pub(crate) fn instance(instance: &Instance) -> Row {
    Row::put(instance_key(&instance.id), instance)
}

pub(crate) fn instance_key(id: &InstanceId) -> String {
    format!("{PREFIX}instance/{id}")
}

pub(crate) fn failure(failure: &TaskFailure) -> Row {
    Row::put(failure_key(&failure.app_id), failure)
}

pub(crate) fn failure_key(path: &PathId) -> String {
    format!("{PREFIX}failure{path}")
}

pub(crate) fn release(id: &InstanceId, release: &Release) -> Row {
    Row::put(release_key(id), release)
}

pub(crate) fn release_key(id: &InstanceId) -> String {
    format!("{PREFIX}release/{id}")
}
