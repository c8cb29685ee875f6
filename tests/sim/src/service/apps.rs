//! A Marathon's user: apps are created, scaled, changed and deleted; where they have checks, these
//! pass and fail as they like while there is trouble. One app may have volumes, which its user now and then wants to lose,
//! and deployments may have deadlines.

mod ledger;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_marathon::core::{
    Batch, Change, Core, Input, Kill, Limit, Overdue, Probe, RecoverError, Row, View,
};
use dcos_marathon::deployment::Plan as Deployment;
use dcos_marathon::instance::{Condition, Instance, ReadinessResult};
use dcos_marathon::model::{App, RootGroup};
use dcos_marathon::{Config, Error, PathId, Timestamp, normalize};
use dcos_proto::scheduler::Event;
use serde_json::{Value, json};

use super::User;
use crate::kept;
use crate::node::FOREVER;
use crate::plan::Plan;
use crate::sabotage::Sabotage;
use ledger::{Deadline, Ledger, Promise, Wanted};

/// How long its user waits for room.
const GIVE_UP: Duration = Duration::from_mins(20);
/// Each may depend on those before it.
const APPS: [&str; 4] = ["/db", "/web", "/group/worker", STORE];
/// The one with volumes, in worlds that have such.
const STORE: &str = "/group/store";
/// The role of all that is kept for it.
const STORE_ROLE: &str = "group";

/// Who wants apps.
#[derive(Debug)]
pub(crate) struct Apps {
    config: Arc<Config>,
    /// Decides what checks find, if apps have some.
    checks: Option<Seed>,
    /// Which of the apps there may be.
    names: &'static [&'static str],
    /// Decides which deployments have deadlines, if any.
    deadlines: Option<Seed>,
    ledger: Ledger,
    /// What is wrong with an answer.
    wrong: Option<String>,
    sabotage: Option<Sabotage>,
}

impl Apps {
    pub(crate) fn new(seed: &Seed, plan: &Plan) -> Self {
        let config = Config::default();
        Self {
            ledger: Ledger::new(&config),
            config: Arc::new(config),
            checks: plan.flaps.then(|| seed.stream("checks")),
            names: &APPS[..if plan.volumes { 4 } else { 3 }],
            deadlines: plan.deadlines.then(|| seed.stream("deadlines")),
            wrong: None,
            sabotage: plan.sabotage,
        }
    }

    /// What is wanted of an app that is there in this way, or not.
    fn document(&mut self, at: usize, present: Option<&App>, seed: &mut Seed) -> Value {
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
        if APPS[at] == STORE {
            add_volumes(&mut document, present, seed);
        } else if seed.chance(0.5) {
            let patience = json!({"inactiveAfterSeconds": 20, "expungeAfterSeconds": 120});
            document["unreachableStrategy"] = patience;
        }
        // They are kept in order.
        let needs = APPS[..at].iter().filter(|_| seed.chance(0.4));
        let needs: BTreeSet<&str> = needs.copied().collect();
        document["dependencies"] = json!(needs);
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
        let root = core.view(now).root;
        let present = |at: usize| root.app(&PathId::absolute(APPS[at]));
        let documents = which
            .iter()
            .map(|at| self.document(*at, present(*at).map(AsRef::as_ref), seed));
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
        let is_forced = force;
        let answer = core.change(now, force, &Kill::new(), |scope| {
            let mut root = scope.copy();
            change(scope, &mut root)?;
            Ok(root)
        });
        let wrong = match answer {
            Ok(plan) => {
                let deadline = self.give_deadline(core, now, &plan);
                self.ledger.promised(Promise {
                    apps: wanted,
                    is_forced,
                    deadline,
                    ..Promise::default()
                });
                return;
            }
            Err(Error::Locked(locks)) if !force => self.ledger.refused(&apps, &locks).err(),
            Err(error) => Some(format!("{apps:?} are refused: {error:?}")),
        };
        self.wrong = self.wrong.take().or(wrong);
    }

    /// A deployment gets some time, or all it needs.
    fn give_deadline(
        &mut self,
        core: &mut Core,
        now: Time,
        plan: &Deployment,
    ) -> Option<(String, Deadline)> {
        let seed = self.deadlines.as_mut()?;
        if seed.chance(0.7) {
            return None;
        }
        let time = Duration::from_secs(seed.range(1..60));
        let then = [Overdue::Stop, Overdue::Rollback][seed.index(2)];
        let limit = Limit::within(now.into(), time, then);
        let is_there = core.limit(&plan.id, limit);
        is_there.then(|| (plan.id.clone(), limit.into()))
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
            Ok(back) => {
                let deadline = back.and_then(|plan| self.give_deadline(core, now, &plan));
                self.ledger.promised(Promise {
                    apps,
                    ended,
                    deadline,
                    ..Promise::default()
                });
            }
            Err(error) => self.wrong = Some(format!("{id} can't be taken back: {error:?}")),
        }
    }

    /// One instance is killed; its app replaces it, or has one less. What is kept for it stays, or goes with it.
    fn kill(&mut self, core: &mut Core, now: Time, seed: &mut Seed) {
        let view = core.view(now);
        let mut all: Vec<_> = view.all_instances().collect();
        if all.iter().any(|one| one.reservation.is_some()) && seed.chance(0.5) {
            all.retain(|one| one.reservation.is_some());
        }
        if all.is_empty() {
            return;
        }
        let one = all[seed.index(all.len())];
        let ids = BTreeSet::from([one.id.clone()]);
        if one.reservation.is_some() && seed.chance(0.4) {
            self.ledger.wiped(one.id.as_str());
            core.wipe(now, &ids);
            return;
        }
        let app = view.root.app(&one.app).filter(|_| seed.chance(0.5));
        let Some(app) = app else {
            self.ledger.named(one.id.as_str());
            core.kill(now, &ids);
            return;
        };
        let counts = one.is_active() && !one.is_leaving() && one.condition != Condition::Killing;
        let instances = app.instances.saturating_sub(u32::from(counts));
        let kill = Kill::from([(one.app.clone(), ids)]);
        let is_forced = seed.chance(0.3);
        if let Ok(plan) = core.kill_and_scale(now, &kill, is_forced) {
            self.ledger.named(one.id.as_str());
            let wanted = Wanted::Like(json!({"instances": instances}));
            let deadline = self.give_deadline(core, now, &plan);
            self.ledger.promised(Promise {
                apps: BTreeMap::from([(app.id.to_string(), wanted)]),
                is_forced,
                deadline,
                ..Promise::default()
            });
        }
    }

    /// Who waits says for what, and until when.
    fn look(&mut self, core: &Core, view: &View, now: Time) {
        let wakes = core.next_deadline(now).map(Timestamp::from);
        for deployment in &view.deployments {
            let limit = deployment.limit.map(|limit| limit.at);
            if limit.is_some_and(|at| wakes.is_none_or(|wakes| wakes > at)) {
                let id = &deployment.plan.id;
                self.wrong = Some(format!("nobody wakes up at the deadline of {id}"));
            }
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

/// Volumes as it has them, since they can't be changed; one or two others if it is made anew.
fn add_volumes(document: &mut Value, present: Option<&App>, seed: &mut Seed) {
    let volume = |(path, size): (&str, u64)| json!({"containerPath": path, "mode": "RW", "persistent": {"size": size}});
    let volumes: Vec<Value> = if let Some(app) = present {
        let all = app.persistent_volumes();
        all.map(|(path, it)| volume((path, it.size))).collect()
    } else {
        let both = [("data", 8 + seed.range(0..3)), ("log", 4)].map(volume);
        both.into_iter().take(1 + seed.index(2)).collect()
    };
    document["role"] = json!(STORE_ROLE);
    document["upgradeStrategy"]["maximumOverCapacity"] = json!(0.0);
    document["container"] = json!({"type": "MESOS", "volumes": volumes});
}

/// The app a document is of.
fn name(document: &Value) -> String {
    document["id"].as_str().unwrap_or_default().to_owned()
}

/// What of a document is kept as it is: ports are given by Marathon; what volumes there are says who launches them.
fn told(document: &Value) -> Value {
    let mut told = document.clone();
    for field in [
        "portDefinitions",
        "readinessChecks",
        "healthChecks",
        "container",
    ] {
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
        let config = Arc::clone(&self.config);
        if self.sabotage != Some(Sabotage::Patient) {
            return Core::recover(config, seed, now, rows);
        }
        let rows: Vec<_> = rows
            .map(|(key, value)| (key, boundless(key, value)))
            .collect();
        Core::recover(
            config,
            seed,
            now,
            rows.iter().map(|(key, value)| (*key, &**value)),
        )
    }

    fn change_of_mind(&mut self, core: &mut Core, now: Time, seed: &mut Seed) {
        let view = core.view(now);
        self.look(core, &view, now);
        // There is more to go wrong with the one that has volumes.
        let has_store = self.names.contains(&STORE);
        let at = if has_store && seed.chance(0.4) {
            APPS.len() - 1
        } else {
            seed.index(self.names.len())
        };
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
        self.look(core, &view, now);
        if is_settled(&view) {
            self.wrong = self.wrong.take().or(self.ledger.judge_rest().err());
            return true;
        }
        waited > GIVE_UP && lacks_room(&view)
    }

    fn compares(&self) -> bool {
        self.names.contains(&STORE)
    }

    fn compare(&self, found: &kept::All) -> Result<(), String> {
        self.ledger.compare(found)
    }

    fn leave(&mut self, core: &mut Core, now: Time) -> Result<(), String> {
        let apps = APPS.map(|app| (app.to_owned(), Wanted::Gone));
        self.ledger.promised(Promise {
            apps: apps.into(),
            is_forced: true,
            ..Promise::default()
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
        self.ledger.begin(now, &core.view(now))
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

/// What a row says, but for the deadline of a deployment.
fn boundless(key: &str, value: &[u8]) -> Vec<u8> {
    if !key.starts_with("marathon/deployment/") {
        return value.to_vec();
    }
    let mut deployment: Value = serde_json::from_slice(value).expect("rows are documents");
    deployment["limit"] = Value::Null;
    deployment.to_string().into_bytes()
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
    let runs = |one: &&Arc<Instance>| one.condition == Condition::Running && stays(one);
    // One whose task is over waits for room on what is kept for it, or for its app to be scaled up.
    let is_parked = |one: &Arc<Instance>| one.condition == Condition::Reserved;
    view.deployments.is_empty()
        && view.all_instances().all(|one| runs(&one) || is_parked(one))
        && view
            .root
            .apps
            .iter()
            .all(|(id, app)| view.instances_of(id).filter(runs).count() == app.instances as usize)
}
