//! A Marathon's user: apps are created, scaled, changed and deleted; where they have checks, these
//! pass and fail as they like while there is trouble.

mod ledger;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_marathon::core::{Batch, Change, Core, Input, Kill, Probe, RecoverError, Row, View};
use dcos_marathon::instance::{Condition, Instance, ReadinessResult};
use dcos_marathon::model::{App, RootGroup};
use dcos_marathon::{Config, Error, PathId, Timestamp, normalize};
use dcos_proto::scheduler::Event;
use serde_json::{Value, json};

use super::User;
use crate::node::FOREVER;
use crate::sabotage::Sabotage;
use ledger::{Ledger, Promise, Wanted};

/// How long its user waits for room.
const GIVE_UP: Duration = Duration::from_mins(20);
/// Each may depend on those before it.
const APPS: [&str; 3] = ["/db", "/web", "/group/worker"];

/// Who wants apps.
#[derive(Debug)]
pub(crate) struct Apps {
    config: Arc<Config>,
    /// Decides what checks find, if apps have some.
    checks: Option<Seed>,
    ledger: Ledger,
    /// What is wrong with an answer.
    wrong: Option<String>,
    sabotage: Option<Sabotage>,
}

impl Apps {
    /// With `flaps`, apps have checks, and these do not always pass.
    pub(crate) fn new(seed: &Seed, flaps: bool, sabotage: Option<Sabotage>) -> Self {
        let config = Config::default();
        Self {
            ledger: Ledger::new(&config),
            config: Arc::new(config),
            checks: flaps.then(|| seed.stream("checks")),
            wrong: None,
            sabotage,
        }
    }

    /// What is wanted of an app.
    fn document(&mut self, at: usize, seed: &mut Seed) -> Value {
        let (least, more) = [(1.0, 1.0), (0.5, 0.0), (1.0, 0.0), (0.0, 0.5)][seed.index(4)];
        let selection = ["YOUNGEST_FIRST", "OLDEST_FIRST"][seed.index(2)];
        let mut document = json!({
            "id": APPS[at],
            "cmd": FOREVER,
            "cpus": 0.5,
            "mem": 64,
            "instances": seed.range(0..4),
            "labels": {"release": seed.range(0..1000).to_string()},
            "upgradeStrategy": {"minimumHealthCapacity": least, "maximumOverCapacity": more},
            "killSelection": selection,
            "backoffSeconds": 1,
            "maxLaunchDelaySeconds": 10,
        });
        if seed.chance(0.5) {
            let patience = json!({"inactiveAfterSeconds": 20, "expungeAfterSeconds": 120});
            document["unreachableStrategy"] = patience;
        }
        let needs = APPS[..at].iter().filter(|_| seed.chance(0.4));
        document["dependencies"] = needs.copied().collect();
        self.add_checks(&mut document);
        document
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

    /// Some apps are created or replaced, at once.
    fn put(&mut self, core: &mut Core, now: Time, seed: &mut Seed, which: &[usize]) {
        let documents = which.iter().map(|at| self.document(*at, seed));
        let documents: Vec<Value> = documents.collect();
        let reckless = self.sabotage == Some(Sabotage::Reckless);
        let wanted = documents
            .iter()
            .map(|it| (name(it), Wanted::Like(told(it))));
        self.ask(
            core,
            now,
            seed.chance(0.3),
            wanted.collect(),
            |change, root| {
                for mut document in documents {
                    if reckless {
                        document["upgradeStrategy"]["minimumHealthCapacity"] = json!(0);
                    }
                    let update = serde_json::from_value(document.clone());
                    let update = update.expect("the document is well formed");
                    let rules = change.rules(&PathId::absolute(&name(&document)));
                    let app = normalize::create(update, &PathId::root(), &rules, change.version)?;
                    root.put_app(app, change.version, false);
                }
                Ok(())
            },
        );
    }

    /// An app is changed, if it is there.
    fn alter(
        &mut self,
        core: &mut Core,
        now: Time,
        (app, force): (&str, bool),
        wanted: Wanted,
        change: impl FnOnce(&mut App),
    ) {
        let path = PathId::absolute(app);
        let wanted = BTreeMap::from([(app.to_owned(), wanted)]);
        self.ask(core, now, force, wanted, |_, root| {
            if let Some(app) = root.apps.get_mut(&path).map(Arc::make_mut) {
                app.version_info = None;
                change(app);
            }
            Ok(())
        });
    }

    /// Asks for a change, which is made, or refused as another deployment is in the way.
    fn ask(
        &mut self,
        core: &mut Core,
        now: Time,
        force: bool,
        wanted: BTreeMap<String, Wanted>,
        change: impl FnOnce(&Change<'_>, &mut RootGroup) -> Result<(), Error>,
    ) {
        let apps: BTreeSet<String> = wanted.keys().cloned().collect();
        let answer = core.change(now, force, &Kill::new(), |scope| {
            let mut root = scope.copy();
            change(scope, &mut root)?;
            Ok(root)
        });
        let wrong = match answer {
            Ok(_) => {
                let ended = Vec::new();
                self.ledger.promised(Promise {
                    apps: wanted,
                    ended,
                });
                return;
            }
            Err(Error::Locked(locks)) if !force => self.ledger.refused(&apps, &locks).err(),
            Err(error) => Some(format!("{apps:?} are refused: {error:?}")),
        };
        self.wrong = self.wrong.take().or(wrong);
    }

    /// A deployment is taken back, or ended where it is.
    fn cancel(&mut self, core: &mut Core, now: Time, id: &str, force: bool) {
        let before = self.ledger.before(id).into_iter();
        let apps = before.map(|(app, version)| (app, Wanted::Again(version)));
        let apps = if force {
            BTreeMap::new()
        } else {
            apps.collect()
        };
        let ended = vec![id.to_owned()];
        match core.cancel(now, id, force) {
            Ok(_) => self.ledger.promised(Promise { apps, ended }),
            Err(error) => self.wrong = Some(format!("{id} can't be taken back: {error:?}")),
        }
    }

    /// One instance is killed; its app replaces it, or has one less.
    fn kill(&mut self, core: &mut Core, now: Time, seed: &mut Seed) {
        let view = core.view(now);
        let all: Vec<_> = view.all_instances().collect();
        if all.is_empty() {
            return;
        }
        let one = all[seed.index(all.len())];
        let ids = BTreeSet::from([one.id.clone()]);
        let app = view.root.app(&one.app).filter(|_| seed.chance(0.5));
        let Some(app) = app else {
            self.ledger.named(one.id.as_str());
            core.kill(now, &ids);
            return;
        };
        let counts = one.is_active() && !one.is_leaving() && one.condition != Condition::Killing;
        let instances = app.instances.saturating_sub(u32::from(counts));
        let kill = Kill::from([(one.app.clone(), ids)]);
        if core.kill_and_scale(now, &kill, seed.chance(0.3)).is_ok() {
            self.ledger.named(one.id.as_str());
            let wanted = Wanted::Like(json!({"instances": instances}));
            self.ledger.promised(Promise {
                apps: BTreeMap::from([(app.id.to_string(), wanted)]),
                ended: Vec::new(),
            });
        }
    }

    /// Who waits says for what.
    fn look(&mut self, view: &View, now: Time) {
        for deployment in &view.deployments {
            let step = deployment.plan.steps.get(deployment.step);
            let mut apps = step.into_iter().flatten().map(|action| &action.app);
            let is_idle = |app: &PathId| view.waiting_for(app, Timestamp::from(now)).is_empty();
            if apps.all(is_idle) {
                let id = &deployment.plan.id;
                self.wrong = Some(format!("{id} waits, and nobody says for what"));
            }
        }
    }
}

/// The app a document is of.
fn name(document: &Value) -> String {
    document["id"].as_str().unwrap_or_default().to_owned()
}

/// What of a document is kept as it is: ports are given by Marathon.
fn told(document: &Value) -> Value {
    let mut told = document.clone();
    for field in ["portDefinitions", "readinessChecks", "healthChecks"] {
        told.as_object_mut().and_then(|fields| fields.remove(field));
    }
    told
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
        let view = core.view(now);
        self.look(&view, now);
        let at = seed.index(APPS.len());
        let (app, force) = (APPS[at], seed.chance(0.3));
        let path = PathId::absolute(app);
        let current = self.ledger.definition(app).map(told);
        let deployments: Vec<&String> = view.deployments.iter().map(|it| &it.plan.id).collect();
        match (seed.range(0..100), current) {
            (0..12, _) => {
                let wanted = BTreeMap::from([(app.to_owned(), Wanted::Gone)]);
                self.ask(core, now, force, wanted, |_, root| {
                    root.apps.remove(&path);
                    Ok(())
                });
            }
            (12..20, Some(mut document)) => {
                let version = ["version", "versionInfo", "labels"];
                let fields = document.as_object_mut().expect("an app is an object");
                fields.retain(|name, _| !version.contains(&&**name));
                self.alter(core, now, (app, force), Wanted::Anew(document), |app| {
                    app.labels
                        .insert("restarted".to_owned(), now.as_millis().to_string());
                });
            }
            (20..32, Some(_)) => {
                let instances = u32::try_from(seed.range(0..5)).unwrap_or(0);
                let wanted = Wanted::Like(json!({"instances": instances}));
                self.alter(core, now, (app, force), wanted, |app| {
                    app.instances = instances
                });
            }
            (32..42, _) => self.kill(core, now, seed),
            (42..56, _) if !deployments.is_empty() => {
                let id = deployments[seed.index(deployments.len())].clone();
                self.cancel(core, now, &id, seed.chance(0.3));
            }
            (56..66, _) => self.put(core, now, seed, &[0, 1, 2]),
            _ => self.put(core, now, seed, &[at]),
        }
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
                self.ledger
                    .probed(now, instance.as_str(), check, outcome.is_ok());
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
                self.ledger.admitted(instance.as_str(), result.ready);
                let probe = Probe::Readiness { instance, result };
                core.handle(now, Input::Probed(probe));
            }
        }
        now + Duration::from_millis(seed.range(1000..4000))
    }

    fn wait(&mut self, core: &mut Core, now: Time, waited: Duration) -> bool {
        let view = core.view(now);
        self.look(&view, now);
        if is_settled(&view) {
            self.wrong = self.wrong.take().or(self.ledger.judge_rest().err());
            return true;
        }
        waited > GIVE_UP && lacks_room(&view)
    }

    fn leave(&mut self, core: &mut Core, now: Time) -> Result<(), String> {
        let apps = APPS.map(|app| (app.to_owned(), Wanted::Gone));
        self.ledger.promised(Promise {
            apps: apps.into(),
            ended: Vec::new(),
        });
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

    fn begin(&mut self, core: &Core, now: Time) -> Result<(), String> {
        self.ledger.begin(&core.view(now))
    }

    fn hears(&mut self, event: &Event) {
        self.ledger.hears(event);
    }

    fn judge(&mut self, now: Time, batch: &Batch) -> Result<(), String> {
        if let Some(wrong) = self.wrong.take() {
            return Err(wrong);
        }
        if self.sabotage != Some(Sabotage::Reckless) {
            return self.ledger.judge(now, batch);
        }
        // As its user wanted it, who knows nothing of the sabotage.
        let rows = batch.rows.iter().map(careful).collect();
        let asked = Batch {
            rows,
            ..batch.clone()
        };
        self.ledger.judge(now, &asked)
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

/// A row, but that all must serve while an app is upgraded.
fn careful(row: &Row) -> Row {
    let careful = |value: &Vec<u8>| {
        let mut spec: Value = serde_json::from_slice(value).expect("rows are documents");
        spec["upgradeStrategy"]["minimumHealthCapacity"] = json!(1);
        spec.to_string().into_bytes()
    };
    let is_spec = row.key.starts_with("marathon/spec/");
    Row {
        key: row.key.clone(),
        value: row.value.as_ref().map(|value| {
            let same = || value.clone();
            if is_spec { careful(value) } else { same() }
        }),
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

/// Whether no deployment is under way and nothing but what is wanted is there.
fn is_settled(view: &View) -> bool {
    let stays = |one: &Instance| !(one.is_leaving() || one.kill);
    let runs = |one: &Arc<Instance>| one.condition == Condition::Running && stays(one);
    view.deployments.is_empty()
        && view.all_instances().all(runs)
        && view
            .root
            .apps
            .iter()
            .all(|(id, app)| view.instances_of(id).count() == app.instances as usize)
}
