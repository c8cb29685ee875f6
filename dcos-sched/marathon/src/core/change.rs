//! Changes of the tree, and the deployments they start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dcos_core::time::Time;

use super::history::TreeChange;
use super::{Core, History, Row, Running, rows};
use crate::config::Config;
use crate::deployment::{ActionKind, Findings, Found, Plan, revert};
use crate::event::Event;
use crate::instance::InstanceId;
use crate::model::{App, RootGroup};
use crate::normalize::Rules;
use crate::{Error, PathId, Timestamp, validate};

/// Instances that go in any case, by app.
pub type Kill = BTreeMap<PathId, BTreeSet<InstanceId>>;

/// What a change of the tree can look at.
#[derive(Debug)]
pub struct Change<'a> {
    /// The tree as it is.
    pub root: &'a RootGroup,
    /// Earlier versions.
    pub history: &'a History,
    /// The settings.
    pub config: &'a Config,
    /// The version of the new tree, and of every app that changes.
    pub version: Timestamp,
}

impl Change<'_> {
    /// What validity of the service at `id` depends on.
    pub fn rules(&self, id: &PathId) -> Rules {
        let default = self.config.mesos_role.clone();
        let mut rules = Rules {
            features: self.config.features.clone(),
            default_network_name: self.config.default_network_name.clone(),
            mesos_bridge_name: self.config.mesos_bridge_name.clone(),
            default_role: default.clone(),
            valid_roles: BTreeSet::new(),
        };
        rules
            .valid_roles
            .extend(self.root.app(id).map(|app| app.role.clone()));
        match id.top_level() {
            None => {
                rules.valid_roles = BTreeSet::from([default]);
            }
            Some(top) => {
                let enforce = self
                    .root
                    .groups
                    .get(&top)
                    .map_or(self.config.new_group_enforce_role, |group| {
                        group.enforce_role.unwrap_or_default()
                    });
                let group_role = top.name().to_owned();
                if enforce {
                    rules.default_role.clone_from(&group_role);
                } else {
                    rules.valid_roles.insert(default);
                }
                rules.valid_roles.insert(group_role);
            }
        }
        rules
    }

    /// The copy of the tree a change is made in.
    pub fn copy(&self) -> RootGroup {
        RootGroup {
            version: self.version,
            ..self.root.clone()
        }
    }
}

impl Core {
    /// Changes the tree and starts the deployment that leads there.
    ///
    /// `force` cancels deployments that are in the way; `kill` names instances that go in any case.
    ///
    /// # Errors
    /// Whatever `change` refuses, rules of the whole tree, and [`Error::Locked`].
    pub fn change(
        &mut self,
        now: Time,
        force: bool,
        kill: &Kill,
        change: impl FnOnce(&Change<'_>) -> Result<RootGroup, Error>,
    ) -> Result<Arc<Plan>, Error> {
        let started = self.try_change(now, force, kill, change);
        if let Err(error) = &started {
            let (now, version) = (Timestamp::from(now), self.root.version);
            let event = Event::group_failed(now, &PathId::root(), version, &error.to_string());
            self.batch.events.push(event);
        }
        started
    }

    fn try_change(
        &mut self,
        now: Time,
        force: bool,
        kill: &Kill,
        change: impl FnOnce(&Change<'_>) -> Result<RootGroup, Error>,
    ) -> Result<Arc<Plan>, Error> {
        let (now, target) = self.target(now, change)?;
        let (before, target) = (Arc::clone(&self.root), Arc::new(target));
        let found = self.found(&target, kill);
        let plan = Plan::new(self.seed.uuid(), before, Arc::clone(&target), kill, &found);
        let plan = Arc::new(plan);
        let change = self.measure(&target)?;
        let named = (kill.clone(), self.lives(kill));
        let running = Running::begun(Arc::clone(&plan), named, found);
        rows::deployment(&running).check()?;
        self.make_way(now, &plan, force)?;
        self.commit(&target, change);
        self.start(now, running);
        Ok(plan)
    }

    /// The steps a change would start, without making it.
    ///
    /// # Errors
    /// As [`Core::change`], but for locks.
    pub fn dry_run(
        &self,
        now: Time,
        change: impl FnOnce(&Change<'_>) -> Result<RootGroup, Error>,
    ) -> Result<Plan, Error> {
        let (_, target) = self.target(now, change)?;
        let (kill, found) = (Kill::new(), self.found(&target, &Kill::new()));
        let (before, target) = (Arc::clone(&self.root), Arc::new(target));
        Ok(Plan::new(String::new(), before, target, &kill, &found))
    }

    /// What there is of the apps that get another definition, where it is not what the present one says.
    fn found(&self, target: &RootGroup, kill: &Kill) -> Findings {
        let differences = self.root.differences(target);
        let touched = differences.filter_map(|(id, _, after)| Some((id, after?)));
        let named = kill.keys();
        let named = named.filter_map(|id| Some((id, target.app(id)?)));
        let of_app = |(id, app): (&PathId, &Arc<App>)| {
            let named = kill.get(id);
            let staying = self.instances_of(id).filter(|one| {
                let stays = one.is_active() && !one.is_leaving();
                stays && !named.is_some_and(|named| named.contains(&one.id))
            });
            let mut found = Found::default();
            for one in staying {
                found.staying += 1;
                found.outdated |= one.config_version != app.config_version();
            }
            (id.clone(), found)
        };
        let expected = |id: &PathId, found: &Found| {
            let before = self.root.app(id).map_or(0, |app| app.instances);
            *found
                == Found {
                    staying: before,
                    outdated: false,
                }
        };
        // An upgrade looks at each instance anyhow.
        let scaled = |(id, app): &(&PathId, &Arc<App>)| {
            let before = self.root.app(id);
            before.is_none_or(|before| before.config_version() == app.config_version())
        };
        let all = touched.chain(named).filter(scaled).map(of_app);
        all.filter(|(id, found)| !expected(id, found)).collect()
    }

    /// Changes what needs no deployment.
    ///
    /// # Errors
    /// Whatever `change` refuses.
    pub fn patch(
        &mut self,
        now: Time,
        change: impl FnOnce(&Change<'_>) -> Result<RootGroup, Error>,
    ) -> Result<(), Error> {
        let (_, target) = self.target(now, change)?;
        let change = self.measure(&target)?;
        self.commit(&Arc::new(target), change);
        Ok(())
    }

    /// Cancels a deployment: with `force` it stops where it is, else its change is taken back by a new
    /// deployment, which is returned.
    ///
    /// # Errors
    /// [`Error::NotFound`], and those of the new deployment.
    pub fn cancel(&mut self, now: Time, id: &str, force: bool) -> Result<Option<Arc<Plan>>, Error> {
        let Some(running) = self.deployments.get(id) else {
            return Err(Error::unknown_deployment(id));
        };
        let plan = Arc::clone(&running.plan);
        if force {
            let now = Timestamp::from(now);
            self.end(now, id, "canceled by force");
            return Ok(None);
        }
        let undo = |change: &Change<'_>| Ok(revert(&plan, change.root, change.version));
        let back = self.change(now, true, &Kill::new(), undo)?;
        // There is nothing to take back, and nobody is in its way, where it only replaces instances.
        self.end(Timestamp::from(now), id, "canceled");
        Ok(Some(back))
    }

    fn target(
        &self,
        now: Time,
        change: impl FnOnce(&Change<'_>) -> Result<RootGroup, Error>,
    ) -> Result<(Timestamp, RootGroup), Error> {
        let now = Timestamp::from(now);
        // Versions are names: no two may be equal, whatever the clock says.
        let version = now.max(self.root.version.next());
        let scope = Change {
            root: &self.root,
            history: &self.history,
            config: &self.config,
            version,
        };
        let mut target = change(&scope)?;
        target.version = version;
        self.give_service_ports(&mut target)?;
        self.set_versions(&mut target);
        validate::group::root(&self.root, &target)?;
        validate::resident::changes(&self.root, &target)?;
        if let Some(most) = self.config.max_apps
            && target.apps.len() > most
            && target.apps.len() > self.root.apps.len()
        {
            let text = format!("This Marathon instance may only handle up to {most} Apps!");
            return Err(Error::invalid("/", text));
        }
        Ok((now, target))
    }

    /// Cancels the deployments in the way of `plan`, if that is asked for.
    fn make_way(&mut self, now: Timestamp, plan: &Plan, force: bool) -> Result<(), Error> {
        let affected = plan.affected();
        let in_the_way: Vec<String> = self
            .deployments
            .iter()
            .filter(|(_, running)| !running.plan.affected().is_disjoint(affected))
            .map(|(id, _)| id.clone())
            .collect();
        if !force && !in_the_way.is_empty() {
            return Err(Error::Locked(in_the_way));
        }
        let most = self.config.max_running_deployments;
        if !plan.steps.is_empty() && self.deployments.len() - in_the_way.len() >= most {
            return Err(Error::TooManyDeployments(most));
        }
        for id in in_the_way {
            self.end(now, &id, "canceled by a later deployment");
        }
        Ok(())
    }

    pub(super) fn end(&mut self, now: Timestamp, id: &str, reason: &str) {
        if let Some(running) = self.deployments.remove(id) {
            self.limits.set(&running.plan.id, None);
            self.counters.deployments_dismissed += 1;
            self.batch.rows.push(Row::delete(rows::deployment_key(id)));
            self.batch
                .events
                .push(Event::deployment_failed(now, &running.plan, reason));
            self.dirty.extend(running.plan.affected().iter().cloned());
        }
    }

    /// What leads to `target`, with the rows that say so, if the store takes them.
    fn measure(&self, target: &RootGroup) -> Result<(TreeChange, Vec<Row>), Error> {
        let change = TreeChange::between(&self.root, target);
        let mut made = Vec::new();
        for (id, (_, version)) in &change.apps {
            made.push(rows::wanted(id, *version));
            let spec = target.app(id);
            let new = spec.filter(|app| self.history.spec(id, app.version).is_none());
            made.extend(new.map(|app| rows::spec(app)));
        }
        for (id, (_, group)) in &change.groups {
            made.push(rows::group(id, group.as_ref()));
        }
        made.push(rows::change(target.version, &change));
        made.push(rows::root(target.version));
        made.iter().try_for_each(Row::check)?;
        Ok((change, made))
    }

    /// Makes `target` the tree that is wanted.
    fn commit(&mut self, target: &Arc<RootGroup>, (change, made): (TreeChange, Vec<Row>)) {
        self.batch.rows.extend(made);
        for (id, (_, version)) in &change.apps {
            if let Some(app) = target.app(id)
                && self.history.spec(id, app.version).is_none()
            {
                Arc::make_mut(&mut self.history).add_spec(Arc::clone(app));
            }
            if version.is_none() && self.failures.remove(id).is_some() {
                self.batch.rows.push(Row::delete(rows::failure_key(id)));
            }
            self.dirty.insert(id.clone());
        }
        Arc::make_mut(&mut self.history).add_change(target.version, change);
        let before = std::mem::replace(&mut self.root, Arc::clone(target));
        self.count_apps(&before, target);
        self.collect_history();
    }

    fn collect_history(&mut self) {
        let oldest = self
            .deployments
            .values()
            .map(|running| running.plan.version)
            .min();
        let Self {
            root,
            instances,
            deployments,
            history,
            config,
            ..
        } = self;
        let rows = Arc::make_mut(history).collect(config.max_versions, oldest, |id, version| {
            let of_instance = || {
                instances
                    .get(id)
                    .is_some_and(|all| all.values().any(|i| i.version == version))
            };
            let of_deployment = || {
                deployments.values().any(|running| {
                    let in_tree =
                        |root: &RootGroup| root.app(id).is_some_and(|app| app.version == version);
                    in_tree(&running.plan.original) || in_tree(&running.plan.target)
                })
            };
            root.app(id).is_some_and(|app| app.version == version)
                || of_instance()
                || of_deployment()
        });
        self.batch.rows.extend(rows);
    }

    fn start(&mut self, now: Timestamp, running: Running) {
        let plan = &Arc::clone(&running.plan);
        self.batch
            .events
            .push(Event::group_changed(now, &PathId::root(), plan.version));
        let (original, target) = (&plan.original, &plan.target);
        for id in plan.affected() {
            let checks = |app: Option<&Arc<App>>| {
                app.map(|app| app.health_checks.clone()).unwrap_or_default()
            };
            let (old, new) = (checks(original.app(id)), checks(target.app(id)));
            if !old.is_empty() && old != new {
                self.batch.events.push(Event::checks_removed(now, id));
            }
            if let Some(app) = target.app(id).filter(|_| old != new) {
                let added = new.iter().map(|check| Event::check_added(now, app, check));
                self.batch.events.extend(added);
            }
        }
        for action in plan.steps.iter().flatten() {
            // An app of that name that comes before its turn begins anew, with volumes of its own.
            if action.kind == ActionKind::Stop {
                self.stop(now, &action.app);
            }
            // What comes back while others have their turn would count as what is to be scaled.
            if let (ActionKind::Scale { .. }, Some(spec)) = (&action.kind, target.app(&action.app))
            {
                self.drop_outdated(now, spec);
            }
            if action.kind == ActionKind::Restart {
                self.queue.backoff().reset(&action.app);
                // A scaling kills them itself.
                for id in running.kill.get(&action.app).into_iter().flatten() {
                    self.decommission(now, id);
                }
            }
        }
        if plan.steps.is_empty() {
            self.batch.events.push(Event::deployment_success(now, plan));
            return;
        }
        self.counters.deployments += 1;
        self.batch.rows.push(rows::deployment(&running));
        if let Some(step) = plan.steps.first() {
            self.batch
                .events
                .push(Event::deployment_info(now, plan, step));
        }
        self.dirty.extend(plan.affected().iter().cloned());
        self.deployments.insert(plan.id.clone(), running);
    }
}
