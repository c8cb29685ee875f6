//! Taking up where an earlier life left off.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_proto::mesos::FrameworkId;
use imbl::OrdMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::resident::Release;
use super::rows::Framework;
use super::versions::ServicePorts;
use super::{Core, History, Kill, Limit, Lives, PREFIX, Running, TaskFailure, TreeChange};
use crate::config::Config;
use crate::deployment::{Findings, Plan};
use crate::engine::{Deadlines, Kills, Subscription};
use crate::health::executor_found;
use crate::instance::{Instance, InstanceId};
use crate::model::{App, Group, RootGroup};
use crate::queue::LaunchQueue;
use crate::{PathId, Timestamp};

/// The store holds something this version cannot make sense of.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A row that cannot be read.
    #[error("row {key} is not readable: {source}")]
    Unreadable {
        /// The row.
        key: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// A row of a kind nobody knows, such as one of a later version.
    #[error("row {0} is of an unknown kind")]
    Unknown(String),
    /// A row names another that is not there.
    #[error("row {0} names a version that is not there")]
    Dangling(String),
    /// There are instances, but not the framework they were launched by.
    #[error("there are instances but no framework id: they would be lost")]
    NoFramework,
}

#[derive(Deserialize)]
struct DeploymentRow {
    id: String,
    version: Timestamp,
    kill: Kill,
    /// Those of earlier versions do not say.
    #[serde(default)]
    lives: Lives,
    #[serde(default)]
    found: Findings,
    #[serde(default)]
    limit: Option<Limit>,
}

/// Rows, sorted by kind.
#[derive(Default)]
struct Rows {
    framework: Option<Framework>,
    version: Timestamp,
    groups: BTreeMap<PathId, Group>,
    wanted: BTreeMap<PathId, Timestamp>,
    history: History,
    deployments: Vec<DeploymentRow>,
    instances: Vec<Instance>,
    failures: OrdMap<PathId, Arc<TaskFailure>>,
    releasing: BTreeMap<InstanceId, Release>,
}

impl RecoverError {
    /// The value of a row.
    ///
    /// # Errors
    /// [`Self::Unreadable`].
    pub fn read<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, Self> {
        serde_json::from_slice(value).map_err(|source| Self::Unreadable {
            key: key.to_owned(),
            source,
        })
    }
}

impl Core {
    /// A core that knows what `rows` (all with [`PREFIX`]) tell; none is a first start.
    ///
    /// # Errors
    /// [`RecoverError`]: nothing is guessed and nothing dropped.
    pub fn recover<'a>(
        config: Arc<Config>,
        seed: Seed,
        now: Time,
        rows: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, RecoverError> {
        let mut sorted = Rows::default();
        for (key, value) in rows {
            sorted.add(key, value)?;
        }
        if sorted.framework.is_none() && !sorted.instances.is_empty() {
            return Err(RecoverError::NoFramework);
        }
        let root = Arc::new(sorted.root()?);
        let mut deployments = BTreeMap::new();
        for row in sorted.deployments {
            let dangling = || RecoverError::Dangling(super::rows::deployment_key(&row.id));
            let original = sorted
                .history
                .root_before(&root, row.version)
                .ok_or_else(dangling)?;
            let target = sorted
                .history
                .root_at(&root, row.version)
                .ok_or_else(dangling)?;
            let plan = Plan::new(
                row.id.clone(),
                Arc::new(original),
                Arc::new(target),
                &row.kill,
                &row.found,
            );
            let running = Running {
                limit: row.limit,
                ..Running::begun(Arc::new(plan), (row.kill, row.lives), row.found)
            };
            deployments.insert(row.id, running);
        }
        let (id, former_ids) = sorted
            .framework
            .map(Framework::into_ids)
            .unwrap_or_default();
        let mut core = Self {
            config,
            seed,
            framework_id: id.map(FrameworkId::from),
            former_ids,
            root,
            history: Arc::new(sorted.history),
            deployments,
            instances: OrdMap::new(),
            tallies: HashMap::new(),
            queue: LaunchQueue::default(),
            failures: sorted.failures,
            kills: Kills::default(),
            deadlines: Deadlines::default(),
            limits: Deadlines::default(),
            subscription: Subscription::default(),
            places: crate::matching::Places::default(),
            roles: BTreeMap::new(),
            service_ports: ServicePorts::default(),
            unhealthy: BTreeSet::new(),
            releasing: sorted.releasing,
            releases: Deadlines::default(),
            unreleased: BTreeSet::new(),
            dirty: BTreeSet::new(),
            batch: super::Batch::default(),
            counters: super::Counters::default(),
        };
        core.count_apps(&RootGroup::default(), &Arc::clone(&core.root));
        let at = Timestamp::from(now);
        for mut instance in sorted.instances {
            instance.told_at(at);
            let goes = instance.is_leaving() || instance.kill;
            if goes && instance.live_tasks().next().is_some() {
                core.kills.add(&instance.id);
            }
            core.put_instance(core.with_known_health(instance, at), false);
        }
        core.name_tasks();
        core.renew_limits(at);
        core.dirty.extend(core.root.apps.keys().cloned());
        for running in core.deployments.values() {
            core.dirty.extend(running.plan.affected().iter().cloned());
        }
        core.settle(at);
        Ok(core)
    }

    /// Deployments of earlier versions do not tell which tasks were named: the present ones, then.
    fn name_tasks(&mut self) {
        let named = self.deployments.iter();
        let named = named.map(|(id, running)| (id.clone(), self.lives(&running.kill)));
        for (id, lives) in named.collect::<Vec<_>>() {
            let Some(running) = self.deployments.get_mut(&id) else {
                continue;
            };
            for (instance, life) in lives {
                running.lives.entry(instance).or_insert(life);
            }
        }
    }

    /// What the executor said of an instance's health still holds; it speaks up only when it changes.
    fn with_known_health(&self, mut instance: Instance, now: Timestamp) -> Instance {
        let spec = self.history.spec(&instance.app, instance.version);
        if let Some((spec, healthy)) = spec.zip(instance.healthy) {
            let cause = "failed before this Marathon started";
            executor_found(&mut instance.health, spec, now, healthy, cause);
        }
        instance
    }
}

impl Rows {
    fn add(&mut self, key: &str, value: &[u8]) -> Result<(), RecoverError> {
        let unknown = || RecoverError::Unknown(key.to_owned());
        let rest = key.strip_prefix(PREFIX).ok_or_else(unknown)?;
        let (kind, name) = rest.split_once('/').unwrap_or((rest, ""));
        match kind {
            "framework" => self.framework = Some(RecoverError::read(key, value)?),
            "root" => self.version = RecoverError::read(key, value)?,
            "group" => {
                self.groups
                    .insert(PathId::absolute(name), RecoverError::read(key, value)?);
            }
            "app" => {
                self.wanted
                    .insert(PathId::absolute(name), RecoverError::read(key, value)?);
            }
            "spec" => self
                .history
                .add_spec(Arc::new(RecoverError::read::<App>(key, value)?)),
            "change" => {
                let version = name.parse().map_err(|_| unknown())?;
                self.history
                    .add_change(version, RecoverError::read::<TreeChange>(key, value)?);
            }
            "deployment" => self.deployments.push(RecoverError::read(key, value)?),
            "instance" => self.instances.push(RecoverError::read(key, value)?),
            "release" => {
                self.releasing.insert(
                    InstanceId::from(name.to_owned()),
                    RecoverError::read(key, value)?,
                );
            }
            "failure" => {
                self.failures.insert(
                    PathId::absolute(name),
                    Arc::new(RecoverError::read(key, value)?),
                );
            }
            _ => return Err(unknown()),
        }
        Ok(())
    }

    fn root(&mut self) -> Result<RootGroup, RecoverError> {
        let mut root = RootGroup {
            version: self.version,
            ..RootGroup::default()
        };
        root.groups.extend(std::mem::take(&mut self.groups));
        for (id, version) in &self.wanted {
            let Some(app) = self.history.spec(id, *version) else {
                return Err(RecoverError::Dangling(format!("{PREFIX}app{id}")));
            };
            root.apps.insert(id.clone(), Arc::clone(app));
        }
        Ok(root)
    }
}
