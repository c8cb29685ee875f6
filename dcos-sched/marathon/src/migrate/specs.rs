//! Apps and pods in all their versions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::Message as _;
use serde_json::Value;

use super::report::{Fate, Report};
use super::tree::Trees;
use super::{Found, Nodes, app, category, decode, moment, unread, words};
use crate::instance::Instance;
use crate::model::{App, VersionInfo};
use crate::normalize::{self, Rules};
use crate::{Error, PathId, Timestamp, Violation};

/// What our Marathon can be told to do beyond the ordinary; whether it is told is for its operator.
const FEATURES: [&str; 4] = ["external_volumes", "gpu_resources", "secrets", "vips"];

/// Fields of an app nobody misses: what is said of residency, which had no effect, and kinds of which there is one.
const NO_LOSS: [&str; 3] = ["26", "30.1", "19.4.4.1"];

/// Every version of every app and pod.
pub(super) struct Specs {
    pub(super) known: BTreeMap<PathId, BTreeMap<Timestamp, Arc<App>>>,
    /// Why some cannot be taken over: the reason of the newest version that cannot.
    pub(super) refused: BTreeMap<PathId, BTreeMap<Timestamp, String>>,
    /// Fields that were not taken over as they stood.
    pub(super) changed: BTreeMap<(PathId, Timestamp), Vec<String>>,
}

impl Specs {
    pub(super) fn read(nodes: &Nodes, report: &mut Report) -> Self {
        let mut specs = Self {
            known: BTreeMap::new(),
            refused: BTreeMap::new(),
            changed: BTreeMap::new(),
        };
        for found in category(nodes, "apps") {
            let definition = decode::<words::ServiceDefinition>(found.data);
            let named = definition.and_then(|definition| {
                let version = moment(definition.version.as_deref().unwrap_or_default())?;
                Ok((PathId::absolute(&definition.id), version, definition))
            });
            match named {
                Ok((id, version, definition)) => {
                    specs.add(id, version, || {
                        from_definition(&definition, found.data, version)
                    });
                }
                Err(why) => specs.unreadable(&found, why, report),
            }
        }
        for found in category(nodes, "pods") {
            let document: Result<Value, _> = serde_json::from_slice(found.data);
            let named = document
                .map_err(|error| error.to_string())
                .and_then(|document| {
                    let text = |key: &str| document[key].as_str().unwrap_or_default();
                    Ok((
                        PathId::absolute(text("id")),
                        moment(text("version"))?,
                        document,
                    ))
                });
            match named {
                Ok((id, version, document)) => {
                    specs.add(id, version, || from_pod(&document, version));
                }
                Err(why) => specs.unreadable(&found, why, report),
            }
        }
        specs.date_pods();
        let versions = specs.known.values().map(BTreeMap::len).sum();
        report.take("versions of apps and pods", versions);
        specs
    }

    /// A node whose id and version are not known.
    fn unreadable(&mut self, found: &Found<'_>, why: String, report: &mut Report) {
        let id = PathId::from_safe(found.id);
        report.note(Fate::Left, format!("node {}", found.path), &why);
        // Whoever names it learns the reason, whichever version is meant.
        let refused = self.refused.entry(id).or_default();
        refused.entry(Timestamp::default()).or_insert(why);
    }

    /// Takes over a version, unless it is there already: what holds now is kept twice.
    fn add(
        &mut self,
        id: PathId,
        version: Timestamp,
        read: impl FnOnce() -> Result<(App, Vec<String>), String>,
    ) {
        let known = self
            .known
            .get(&id)
            .is_some_and(|known| known.contains_key(&version));
        let refused = self
            .refused
            .get(&id)
            .is_some_and(|refused| refused.contains_key(&version));
        if known || refused {
            return;
        }
        match read() {
            Ok((app, changed)) => {
                if !changed.is_empty() {
                    self.changed.insert((id.clone(), version), changed);
                }
                self.known
                    .entry(id)
                    .or_default()
                    .insert(version, Arc::new(app));
            }
            Err(why) => {
                self.refused.entry(id).or_default().insert(version, why);
            }
        }
    }

    /// When a pod's configuration last changed is not noted there, but follows from its versions.
    fn date_pods(&mut self) {
        for versions in self.known.values_mut() {
            let mut before: Option<Arc<App>> = None;
            for app in versions.values_mut().filter(|app| app.is_pod()) {
                let same = before.as_ref().filter(|before| before.same_config(app));
                let version = app.version;
                Arc::make_mut(app).version_info = Some(VersionInfo {
                    last_scaling_at: version,
                    last_config_change_at: same.map_or(version, |same| same.config_version()),
                });
                before = Some(Arc::clone(app));
            }
        }
    }

    pub(super) fn spec(&self, id: &PathId, version: Timestamp) -> Option<&Arc<App>> {
        self.known.get(id)?.get(&version)
    }

    /// Why a version is not there.
    pub(super) fn reason(&self, id: &PathId, version: Timestamp) -> String {
        let refused = self.refused.get(id);
        let why = refused.and_then(|refused| {
            let any = || refused.values().next_back();
            refused.get(&version).or_else(any)
        });
        why.cloned()
            .unwrap_or_else(|| format!("its version {version} is not there"))
    }

    /// Notes the pods of which instances run whose configuration nobody can tell from that of today any more.
    pub(super) fn note_undated_pods(&self, instances: &[Instance], report: &mut Report) {
        let undated = instances.iter().filter(|one| {
            let known = self.known.get(&one.app);
            let pod = known.and_then(|known| known.values().next_back());
            pod.is_some_and(|pod| pod.is_pod()) && self.spec(&one.app, one.version).is_none()
        });
        let undated: BTreeSet<(&PathId, Timestamp)> =
            undated.map(|one| (&one.app, one.version)).collect();
        for (id, version) in undated {
            let why = format!(
                "its version {version} is not kept any more: whatever changes the pod next, be it the number of instances, replaces those of it"
            );
            report.note(Fate::Changed, format!("pod {id}"), why);
        }
    }

    /// What an instance was launched with. Of an app that goes there may be an older version only.
    pub(super) fn spec_of(
        &self,
        trees: &Trees,
        id: &PathId,
        version: Timestamp,
    ) -> Result<Arc<App>, String> {
        if let Some(refused) = trees.left.get(id) {
            return Err(refused.clone());
        }
        let known = self.known.get(id);
        let spec =
            known.and_then(|known| known.get(&version).or_else(|| known.values().next_back()));
        spec.cloned().ok_or_else(|| self.reason(id, version))
    }
}

/// The rules that hold for what was accepted once.
fn rules(role: &str) -> Rules {
    Rules {
        features: FEATURES.map(str::to_owned).into(),
        default_network_name: None,
        mesos_bridge_name: crate::Config::default().mesos_bridge_name,
        default_role: role.to_owned(),
        valid_roles: [role.to_owned()].into(),
    }
}

fn from_definition(
    definition: &words::ServiceDefinition,
    data: &[u8],
    version: Timestamp,
) -> Result<(App, Vec<String>), String> {
    let document = app::document(definition)?;
    let role = definition.role.as_deref().unwrap_or("*");
    let update = serde_json::to_vec(&document).map_err(|error| error.to_string())?;
    let update = normalize::read_app(&update).map_err(|error| in_words(&error))?;
    let mut app = normalize::create(update, &PathId::root(), &rules(role), version)
        .map_err(|error| in_words(&error))?;
    let dates = definition
        .last_scaling_at
        .zip(definition.last_config_change_at);
    app.version_info = dates.map(|(scaling, change)| VersionInfo {
        last_scaling_at: Timestamp::from_millis(scaling),
        last_config_change_at: Timestamp::from_millis(change),
    });
    let shown = serde_json::to_value(&app).unwrap_or_default();
    let mut changed = Vec::new();
    compare(&document, &shown, "", &mut changed);
    let mut missing = unread(data, &definition.encode_to_vec());
    missing.retain(|field| !NO_LOSS.contains(&field.as_str()));
    changed.extend(
        missing
            .iter()
            .map(|field| format!("field {field} of its message")),
    );
    Ok((app, changed))
}

fn from_pod(document: &Value, version: Timestamp) -> Result<(App, Vec<String>), String> {
    let role = document["role"].as_str().unwrap_or("*").to_owned();
    let body = serde_json::to_vec(document).map_err(|error| error.to_string())?;
    let pod = normalize::read_pod(&body).map_err(|error| in_words(&error))?;
    let app = normalize::pod(pod, &rules(&role), version).map_err(|error| in_words(&error))?;
    let shown = app.pod_document();
    let shown = serde_json::to_value(&shown).unwrap_or_default();
    let mut changed = Vec::new();
    compare(document, &shown, "", &mut changed);
    Ok((app, changed))
}

/// Why it is refused, in one line.
fn in_words(error: &Error) -> String {
    match error {
        Error::Shape(violations) | Error::Invalid(violations) => Violation::join(violations),
        Error::NotJson(why) => why.clone(),
        other => other.to_string(),
    }
}

/// Where `was` says something that `is` does not.
fn compare(was: &Value, is: &Value, path: &str, out: &mut Vec<String>) {
    let same = match (was, is) {
        (Value::Object(was), Value::Object(is)) => {
            for (key, value) in was {
                let there = is.get(key).unwrap_or(&Value::Null);
                compare(value, there, &format!("{path}/{key}"), out);
            }
            true
        }
        (Value::Array(was), Value::Array(is)) if was.len() == is.len() => {
            for (at, (was, is)) in was.iter().zip(is).enumerate() {
                compare(was, is, &format!("{path}/{at}"), out);
            }
            true
        }
        (Value::Number(was), Value::Number(is)) => was.as_f64() == is.as_f64(),
        (was, Value::Null) => says_nothing(was),
        _ => was == is,
    };
    if !same {
        out.push(path.to_owned());
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(says_nothing),
        Value::Number(_) | Value::Bool(true) => false,
    }
}
