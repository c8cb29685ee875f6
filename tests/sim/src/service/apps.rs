//! A Marathon's user: apps are created, scaled, changed and deleted; where they have checks, these
//! pass and fail as they like while there is trouble.

use std::sync::Arc;
use std::time::Duration;

use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_marathon::core::{Core, Input, Kill, Probe, RecoverError, View};
use dcos_marathon::instance::{Condition, Instance, ReadinessResult};
use dcos_marathon::model::RootGroup;
use dcos_marathon::{Config, PathId, normalize};
use serde_json::{Value, json};

use super::User;
use crate::node::FOREVER;

/// How long its user waits for room.
const GIVE_UP: Duration = Duration::from_mins(20);
const APPS: [&str; 3] = ["/web", "/db", "/group/worker"];

/// Who wants apps.
#[derive(Debug)]
pub(crate) struct Apps {
    config: Arc<Config>,
    /// Decides what checks find, if apps have some.
    checks: Option<Seed>,
}

impl Apps {
    /// With `flaps`, apps have checks, and these do not always pass.
    pub(crate) fn new(seed: &Seed, flaps: bool) -> Self {
        Self {
            config: Arc::new(Config::default()),
            checks: flaps.then(|| seed.stream("checks")),
        }
    }

    /// Some checks, or none.
    fn add_checks(&mut self, document: &mut Value) {
        let Some(seed) = &mut self.checks else {
            return;
        };
        if seed.chance(0.7) {
            document["healthChecks"] = json!([{
                "protocol": "TCP",
                "gracePeriodSeconds": seed.range(0..10),
                "intervalSeconds": 2,
                "maxConsecutiveFailures": seed.range(0..4),
            }]);
        }
        if seed.chance(0.3) {
            document["portDefinitions"] = json!([{"port": 0, "name": "http"}]);
            document["readinessChecks"] = json!([{"portName": "http"}]);
        }
    }
}

impl User for Apps {
    type Machine = Core;

    const NAME: &'static str = "marathon";

    fn config(&self) -> &Config {
        &self.config
    }

    fn recover<'a>(
        &self,
        seed: Seed,
        now: Time,
        rows: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Core, RecoverError> {
        Core::recover(Arc::clone(&self.config), seed, now, rows)
    }

    fn change_of_mind(&mut self, core: &mut Core, now: Time, seed: &mut Seed) {
        let app = APPS[seed.index(APPS.len())];
        let path = PathId::absolute(app);
        let instances = seed.range(0..4);
        let release = seed.range(0..1000);
        let is_deletion = seed.chance(0.15);
        let force = seed.chance(0.3);
        let mut document = json!({
            "id": app,
            "cmd": FOREVER,
            "cpus": 0.5,
            "mem": 64,
            "instances": instances,
            "labels": {"release": release.to_string()},
            "backoffSeconds": 1,
            "maxLaunchDelaySeconds": 10,
        });
        self.add_checks(&mut document);
        // A refusal (another deployment is in the way) is an answer as well.
        _ = core.change(now, force, &Kill::new(), |change| {
            let mut root = change.copy();
            if is_deletion {
                root.apps.remove(&path);
                return Ok(root);
            }
            let update = serde_json::from_value(document).expect("the document is well formed");
            let rules = change.rules(&path);
            let app = normalize::create(update, &PathId::root(), &rules, change.version)?;
            root.put_app(app, change.version, false);
            Ok(root)
        });
    }

    /// The checks of all that run come to an end.
    fn surround(&mut self, core: &mut Core, now: Time, is_calm: bool) -> Time {
        let Some(seed) = &mut self.checks else {
            return Time::MAX;
        };
        let view = core.view(now);
        let running = view
            .all_instances()
            .filter(|instance| instance.condition == Condition::Running && !instance.is_leaving());
        for instance in running {
            let Some(spec) = view.spec_of(instance) else {
                continue;
            };
            let mut passes = || is_calm || seed.chance(0.7);
            for check in 0..spec.health_checks.len() {
                let outcome = if passes() {
                    Ok(())
                } else {
                    Err("connection refused".to_owned())
                };
                let instance = instance.id.clone();
                let probe = Probe::Health {
                    instance,
                    check,
                    outcome,
                };
                core.handle(now, Input::Probed(probe));
            }
            if let Some(check) = spec
                .readiness_checks
                .first()
                .filter(|_| !is_ready(instance))
            {
                let result = ReadinessResult {
                    name: check.name.clone(),
                    ready: passes(),
                    last_response: None,
                };
                let instance = instance.id.clone();
                let probe = Probe::Readiness { instance, result };
                core.handle(now, Input::Probed(probe));
            }
        }
        now + Duration::from_millis(seed.range(1000..4000))
    }

    fn wait(&mut self, core: &mut Core, now: Time, waited: Duration) -> bool {
        let view = core.view(now);
        is_settled(&view) || (waited > GIVE_UP && lacks_room(&view))
    }

    fn leave(&mut self, core: &mut Core, now: Time) -> Result<(), String> {
        let nothing = core.change(now, true, &Kill::new(), |change| {
            Ok(RootGroup {
                version: change.version,
                ..RootGroup::default()
            })
        });
        nothing.map(drop).map_err(|error| error.to_string())
    }

    fn has_left(&self, core: &Core, now: Time) -> bool {
        let view = core.view(now);
        view.root.apps.is_empty()
            && view.deployments.is_empty()
            && view.all_instances().next().is_none()
    }

    fn open(&self, core: &Core, now: Time) -> String {
        let view = core.view(now);
        let instances: Vec<String> = view
            .all_instances()
            .map(|instance| format!("{} {:?}", instance.id, instance.condition))
            .collect();
        let deployments: Vec<&str> = view
            .deployments
            .iter()
            .map(|deployment| &*deployment.plan.id)
            .collect();
        let waiting: Vec<String> = view
            .queue
            .iter()
            .map(|item| format!("{} x {} ({:?})", item.count, item.spec.id, item.summary))
            .collect();
        format!("deployments {deployments:?}, instances {instances:?}, waiting {waiting:?}")
    }
}

fn is_ready(instance: &Instance) -> bool {
    instance.ready.as_ref().is_some_and(|ready| ready.ready)
}

/// Whether what is still to be launched was refused room: a full cluster has none for the new
/// instances of an app whose old ones have to stay until those run.
fn lacks_room(view: &View) -> bool {
    let mut waiting = view.queue.iter();
    !view.queue.is_empty() && waiting.all(|item| item.summary.last_unused.is_some())
}

/// Whether no deployment is under way and every app runs as often as it should.
fn is_settled(view: &View) -> bool {
    view.deployments.is_empty()
        && view.root.apps.iter().all(|(id, app)| {
            let instances = view.instances_of(id);
            let running = instances.filter(|instance| instance.condition == Condition::Running);
            running.count() == app.instances as usize
        })
}
