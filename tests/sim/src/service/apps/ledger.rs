//! What a Marathon promises, read off what it says (rows, events, calls, answers) and what it is told, and nothing else.
//!
//! A change a user was told of is written down, as he wanted it, and nothing changes that nobody asked for; every life
//! begins with what the one before wrote. Deployments take their steps in order and one after the other, those that touch
//! the same app not side by side; a step that is done has done what it says; who depends on others has his turn after
//! them; taking back restores the very definitions there were. Instances are launched for an empty place only, of the
//! version whose turn it is, with a task of a new name; none goes, and none is killed, but for a reason; an upgrade stays
//! within its strategy (`upgrade.rs`). What is kept for an instance stays with it (`keeping.rs`). A deployment ends by its
//! deadline (`deadline.rs`). Events tell what the store tells.

mod deadline;
mod keeping;
mod upgrade;

use std::collections::{BTreeMap, BTreeSet};

use dcos_core::time::Time;
use dcos_marathon::Config;
use dcos_marathon::core::{Batch, Row, View};
use dcos_marathon::instance::task_instance;
use dcos_proto::mesos::TaskState;
use dcos_proto::mesos::offer::Operation;
use dcos_proto::scheduler::{Call, Event};
use serde_json::Value;

use crate::service::ledger::moment;
pub(super) use deadline::Deadline;
use keeping::Keeping;
use upgrade::{Case, Copy, Health, Moves, Spec, Turn};

/// What has to be true of an app once it is written down.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    /// It is gone.
    Gone,
    /// It says what the document says, and maybe more.
    Like(Value),
    /// The same, and instances are of an older configuration.
    Anew(Value),
    /// It is of that very version, or is not there.
    Again(Option<String>),
}

/// What a user was answered, or will be once it is written down.
#[derive(Debug, Default)]
pub(super) struct Promise {
    pub(super) apps: BTreeMap<String, Wanted>,
    /// Deployments that are to end.
    pub(super) ended: Vec<String>,
    /// Whether those in the way of that end, too.
    pub(super) is_forced: bool,
    /// Which deployment begins, and until when it may go on.
    pub(super) deadline: Option<(String, Deadline)>,
}

/// A deployment under way.
#[derive(Debug, Clone)]
struct Deployment {
    /// What each step does to which app.
    steps: Vec<BTreeMap<String, String>>,
    step: usize,
    /// The furthest step of any life.
    reached: usize,
    /// The versions of its apps before it.
    before: BTreeMap<String, Option<String>>,
    deadline: Option<Deadline>,
    /// That moment, by the clock of this life.
    due: Option<u64>,
    /// Instances that were launched since it began.
    launched: BTreeSet<String>,
}

/// The rows, and what cannot be read off them.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    rows: BTreeMap<String, Value>,
    copies: BTreeMap<String, Copy>,
    deployments: BTreeMap<String, Deployment>,
    /// Apps whose last upgrade ended before it was done.
    half_way: BTreeSet<String>,
    promise: Promise,
    /// What users want killed.
    named: BTreeSet<String>,
    /// Tasks that were killed for a reason.
    doomed: BTreeSet<String>,
    /// What checks found in this life.
    health: BTreeMap<String, Health>,
    /// How instances are, as listeners were told in this life.
    told: BTreeMap<String, String>,
    /// Tasks that were ever launched.
    launched: BTreeSet<String>,
    /// Tasks whose end listeners were told of.
    over: BTreeSet<String>,
    /// What the master said last.
    heard: Option<(String, TaskState)>,
    /// How long launches may take.
    patience: [u64; 2],
    keeping: Keeping,
}

/// What one transaction did.
#[derive(Default)]
struct Seen {
    /// When, in milliseconds.
    now: u64,
    promise: Promise,
    /// What rows of apps said before.
    versions: BTreeMap<String, Option<String>>,
    /// What it means to each app something happened to, before and after.
    cases: BTreeMap<String, Case>,
    /// The same as a deployment that ended left it: it may have gone on before, and another begun after.
    ended: BTreeMap<String, Case>,
    moves: BTreeMap<String, Moves>,
    /// What happened to the instances of an app before it was changed, or its deployment ended, and how they were then: a
    /// deployment may go on and end at once, for its deadline.
    earlier: Vec<(String, Moves, BTreeMap<String, Copy>)>,
    /// Instances whose condition is another one.
    changed: BTreeSet<String>,
    /// How instances were.
    before: BTreeMap<String, Copy>,
    /// Those that are to lose what is kept for them from now on.
    forsaken: BTreeMap<String, Copy>,
    gone: BTreeMap<String, Copy>,
    /// Steps that are done, each the next one of its deployment as that was then.
    done: Vec<Done>,
    begun: Vec<String>,
    succeeded: Vec<Deployment>,
}

/// A step that is done.
struct Done {
    step: BTreeMap<String, String>,
    deployment: Deployment,
    /// How many new instances have to be ready, of apps that are scaled up.
    fresh: BTreeMap<String, usize>,
}

impl Ledger {
    pub(super) fn new(config: &Config) -> Self {
        let most = [
            config.task_launch_confirm_timeout,
            config.task_launch_timeout,
        ];
        Self {
            patience: most.map(|most| u64::try_from(most.as_millis()).unwrap_or(u64::MAX)),
            ..Self::default()
        }
    }

    /// A user is promised something.
    pub(super) fn promised(&mut self, promise: Promise) {
        self.promise = promise;
    }

    /// A user wants an instance killed.
    pub(super) fn named(&mut self, instance: &str) {
        self.named.insert(instance.to_owned());
    }

    /// A user was refused something of an app, for these deployments are in the way.
    pub(super) fn refused(&self, apps: &BTreeSet<String>, locks: &[String]) -> Result<(), String> {
        let known = |id: &&String| self.deployments.contains_key(*id);
        match locks.iter().find(|id| !known(id)) {
            Some(id) => Err(format!("{apps:?} are locked by {id}, which is over")),
            None => Ok(()),
        }
    }

    /// The versions that taking back a deployment restores.
    pub(super) fn before(&self, deployment: &str) -> BTreeMap<String, Option<String>> {
        let known = self.deployments.get(deployment);
        known.map_or_else(BTreeMap::new, |it| it.before.clone())
    }

    /// What a user sees of an app: its definition.
    pub(super) fn definition(&self, app: &str) -> Option<&Value> {
        let version = self.wanted(app)?;
        self.rows.get(&format!("marathon/spec{app}@{version}"))
    }

    /// The master says something.
    pub(super) fn hears(&mut self, event: &Event) {
        let status = event.update.as_ref().map(|update| &update.status);
        self.heard = status.map(|it| (it.task_id.value.clone(), it.state()));
    }

    /// A health check comes to an end.
    pub(super) fn probed(&mut self, now: Time, instance: &str, check: usize, passes: bool) {
        let Some(copy) = self.copies.get(instance) else {
            return;
        };
        let spec = self.spec(&copy.app, &copy.version);
        let limits = spec.map(|spec| spec.check(check)).unwrap_or_default();
        let age = now.as_millis().saturating_sub(copy.since);
        let health = self.health.entry(instance.to_owned()).or_default();
        health.probed(check, passes, limits, age);
    }

    /// A readiness check comes to an end.
    pub(super) fn admitted(&mut self, instance: &str, is_ready: bool) {
        self.health
            .entry(instance.to_owned())
            .or_default()
            .is_admitted = is_ready;
    }

    /// Another life begins, and shows what it knows.
    pub(super) fn begin(&mut self, now: Time, view: &View) -> Result<(), String> {
        self.promise = Promise::default();
        self.named.clear();
        self.forget_wishes();
        self.health.clear();
        self.told.clear();
        self.heard = None;
        self.wake(now);
        let shown = view.root.apps.iter();
        let shown: BTreeMap<String, String> = shown
            .map(|(id, app)| (id.to_string(), app.version.to_string()))
            .collect();
        let kept: BTreeMap<String, String> = self.apps().collect();
        if shown != kept {
            return Err(format!(
                "after a restart {shown:?} are wanted, not {kept:?}"
            ));
        }
        let mut deployments = view.deployments.iter().map(|it| &it.plan.id);
        if let Some(id) = deployments.find(|id| !self.deployments.contains_key(*id)) {
            return Err(format!("after a restart there is a deployment {id}"));
        }
        let mut instances = view.all_instances().map(|it| it.id.as_str());
        if let Some(id) = instances.find(|id| !self.copies.contains_key(*id)) {
            return Err(format!("after a restart there is an instance {id}"));
        }
        Ok(())
    }

    /// A life whose clock shows `now` reads what is written down.
    fn wake(&mut self, now: Time) {
        for copy in self.copies.values_mut() {
            copy.read_at(now.as_millis());
        }
        for deployment in self.deployments.values_mut() {
            deployment.step = 0;
            deployment.read_at(now);
        }
    }

    /// Takes in one transaction, and what follows it.
    pub(super) fn judge(&mut self, now: Time, batch: &Batch) -> Result<(), String> {
        let mut seen = Seen {
            now: now.as_millis(),
            promise: std::mem::take(&mut self.promise),
            ..Seen::default()
        };
        let touched = batch
            .rows
            .iter()
            .filter_map(|row| row.key.strip_prefix("marathon/instance/"));
        for app in touched
            .filter_map(task_instance)
            .map(|id| id.app().to_string())
        {
            let case = self.case(&app);
            seen.cases.insert(app, case);
        }
        for row in &batch.rows {
            self.write(&mut seen, row)?;
        }
        self.expect_rollbacks(batch, &mut seen.promise);
        self.judge_promise(&seen)?;
        for event in &batch.events {
            let document = serde_json::from_str(&event.data).map_err(|error| error.to_string())?;
            self.tell(&mut seen, event.kind, &document)?;
        }
        self.begin_deadline(&seen.promise);
        self.note_begin();
        self.judge_whole(&seen)?;
        self.judge_deadlines(seen.now)?;
        self.judge_forsaken(&seen)?;
        for (app, moves, all) in &seen.earlier {
            self.judge_app(&seen, app, moves, all.iter())?;
        }
        for (app, moves) in &seen.moves {
            self.judge_app(&seen, app, moves, self.of(app))?;
        }
        self.judge_calls(&seen, &batch.calls)?;
        for (id, copy) in &seen.gone {
            self.judge_end(id, copy)?;
            self.health.remove(id);
            self.told.remove(id);
            self.named.remove(id);
        }
        self.heard = None;
        Ok(())
    }

    /// Nothing is under way: everything has to be as users want it.
    pub(super) fn judge_rest(&self) -> Result<(), String> {
        for (id, copy) in &self.copies {
            let spec = self
                .wanted(&copy.app)
                .and_then(|version| self.spec(&copy.app, version));
            let Some(spec) = spec else {
                return Err(format!("{id} is left of an app that is gone"));
            };
            if copy.is_parked() {
                continue;
            }
            if copy.condition != "Running" || copy.is_leaving() || copy.is_to_be_killed {
                return Err(format!("at rest {id} is {}", copy.condition));
            }
            if copy.config != spec.config && !self.half_way.contains(&copy.app) {
                return Err(format!(
                    "at rest {id} is of an old version, {}",
                    copy.config
                ));
            }
        }
        for (app, version) in self.apps() {
            let wanted = self.spec(&app, &version).map_or(0, |spec| spec.instances);
            let running = self.of(&app).filter(|(_, copy)| copy.stays()).count();
            if running != wanted {
                return Err(format!("at rest {app} has {running} of {wanted} instances"));
            }
        }
        Ok(())
    }

    fn apps(&self) -> impl Iterator<Item = (String, String)> {
        let from = self.rows.range("marathon/app/".to_owned()..);
        from.map_while(|(key, version)| {
            let app = key.strip_prefix("marathon/app")?;
            Some((app.to_owned(), version.as_str()?.to_owned()))
        })
    }

    fn wanted(&self, app: &str) -> Option<&str> {
        self.rows.get(&format!("marathon/app{app}"))?.as_str()
    }

    fn spec(&self, app: &str, version: &str) -> Option<Spec> {
        let row = self.rows.get(&format!("marathon/spec{app}@{version}"));
        row.map(Spec::read)
    }

    fn of<'a>(&'a self, app: &'a str) -> impl Iterator<Item = (&'a String, &'a Copy)> {
        self.copies.iter().filter(move |(_, copy)| copy.app == app)
    }

    /// What may happen to an app now.
    fn case(&self, app: &str) -> Case {
        self.case_of(app, self.wanted(app))
    }

    /// The same if that version is wanted.
    fn case_of(&self, app: &str, version: Option<&str>) -> Case {
        let spec = version.and_then(|version| self.spec(app, version));
        let mut turn = Turn::Past;
        for deployment in self.deployments.values() {
            let at = deployment.turn(app);
            let Some(at) = at else {
                continue;
            };
            let before = deployment.before.get(app).cloned().flatten();
            let before = before.and_then(|version| self.spec(app, &version));
            turn = if at > deployment.reached {
                Turn::ToCome(before)
            } else if at > deployment.step {
                Turn::Again(before)
            } else if at == deployment.step && deployment.steps[at][app].starts_with("Restart") {
                Turn::Restart
            } else {
                Turn::Past
            };
        }
        Case { spec, turn }
    }

    fn write(&mut self, seen: &mut Seen, row: &Row) -> Result<(), String> {
        let rest = row.key.strip_prefix("marathon/");
        let rest = rest.ok_or_else(|| format!("{} is no row of a Marathon", row.key))?;
        let (kind, name) = rest.split_once('/').unwrap_or((rest, ""));
        let value = row
            .value
            .as_ref()
            .map(|value| serde_json::from_slice::<Value>(value));
        let value = value
            .transpose()
            .map_err(|error| format!("{}: {error}", row.key))?;
        if kind == "instance" {
            return self.write_instance(seen, name, value.as_ref());
        }
        let ends = self.deployments.get(name);
        if let Some(deployment) = ends.filter(|_| kind == "deployment" && value.is_none()) {
            for app in deployment.before.keys() {
                self.part(seen, app);
            }
        }
        let before = match &value {
            Some(value) => self.rows.insert(row.key.clone(), value.clone()),
            None => self.rows.remove(&row.key),
        };
        if kind == "app" {
            let before = before
                .as_ref()
                .and_then(Value::as_str)
                .map(ToOwned::to_owned);
            let app = format!("/{name}");
            self.part(seen, &app);
            seen.versions.entry(app).or_insert(before);
        }
        Ok(())
    }

    /// What happens to instances of an app from now on has other reasons.
    fn part(&self, seen: &mut Seen, app: &str) {
        if let Some(moves) = seen.moves.remove(app) {
            let all = self.of(app).map(|(id, copy)| (id.clone(), copy.clone()));
            seen.earlier.push((app.to_owned(), moves, all.collect()));
        }
    }

    fn write_instance(
        &mut self,
        seen: &mut Seen,
        id: &str,
        value: Option<&Value>,
    ) -> Result<(), String> {
        let Some(value) = value else {
            if let Some(copy) = self.copies.remove(id) {
                seen.gone.insert(id.to_owned(), copy);
            }
            return Ok(());
        };
        let copy = Copy::read(value);
        let moves = seen.moves.entry(copy.app.clone()).or_default();
        let before = self.copies.get(id);
        let is_launch = before.is_none_or(|before| before.task != copy.task);
        if is_launch {
            moves.launched.insert(id.to_owned());
            let deployments = self.deployments.values_mut();
            for deployment in deployments.filter(|it| it.before.contains_key(&copy.app)) {
                deployment.launched.insert(id.to_owned());
            }
        } else if copy.is_leaving() && before.is_some_and(|before| !before.is_leaving()) {
            moves.dismissed.insert(id.to_owned(), copy.clone());
        }
        if let Some(before) = before {
            before.goes_on(id, &copy)?;
            seen.before
                .entry(id.to_owned())
                .or_insert_with(|| before.clone());
        }
        let was_forsaken = before.is_some_and(Copy::is_forsaken);
        if copy.is_forsaken() && !was_forsaken && !copy.volumes.is_empty() {
            seen.forsaken.insert(id.to_owned(), copy.clone());
        }
        if is_launch || copy.is_parked() {
            // What was found was found of another task.
            self.health.remove(id);
        }
        if before.is_none_or(|before| before.condition != copy.condition) {
            seen.changed.insert(id.to_owned());
        }
        self.copies.insert(id.to_owned(), copy);
        Ok(())
    }

    /// What a user was told is so, and nothing else has changed.
    fn judge_promise(&self, seen: &Seen) -> Result<(), String> {
        let promise = &seen.promise;
        for (app, before) in &seen.versions {
            let is_asked = promise.apps.contains_key(app);
            if self.wanted(app) != before.as_deref() && !is_asked {
                return Err(format!("{app} is changed, which nobody asked for"));
            }
        }
        for (app, wanted) in &promise.apps {
            let version = self.wanted(app);
            let is_new = seen
                .versions
                .get(app)
                .is_some_and(|it| it.as_deref() != version);
            let wrong = match wanted {
                Wanted::Gone => version.map(|_| "is not gone".to_owned()),
                Wanted::Anew(_) if !is_new => Some("is of no new version".to_owned()),
                Wanted::Like(document) | Wanted::Anew(document) => {
                    other(self.definition(app).unwrap_or(&Value::Null), document)
                }
                Wanted::Again(before) if version == before.as_deref() => None,
                Wanted::Again(before) => Some(format!("is of {version:?}, not of {before:?}")),
            };
            if let Some(wrong) = wrong {
                return Err(format!("{app} is not as was asked for: {wrong}"));
            }
        }
        for id in &promise.ended {
            if self.rows.contains_key(&format!("marathon/deployment/{id}")) {
                return Err(format!("deployment {id} was to end, and goes on"));
            }
        }
        Ok(())
    }

    /// Listeners hear of something.
    fn tell(&mut self, seen: &mut Seen, kind: &str, event: &Value) -> Result<(), String> {
        let id = event["plan"]["id"].as_str().unwrap_or_default();
        match kind {
            "deployment_info" => self.tell_step(seen, id, event)?,
            "deployment_step_success" => {
                let wrong = || {
                    Err(format!(
                        "a step of {id} is done that is not its next one: {event}"
                    ))
                };
                let Some(deployment) = self.deployments.get(id) else {
                    return wrong();
                };
                let Some(step) = deployment.steps.get(deployment.step) else {
                    return wrong();
                };
                if *step != actions(&event["currentStep"]) {
                    return wrong();
                }
                seen.done.push(Done {
                    step: step.clone(),
                    deployment: deployment.clone(),
                    fresh: self.fresh(id, deployment),
                });
                let deployment = self.deployments.get_mut(id).expect("it is there");
                deployment.step += 1;
                deployment.reached = deployment.reached.max(deployment.step);
            }
            "deployment_success"
                if event["plan"]["steps"].as_array().is_some_and(Vec::is_empty) => {}
            "deployment_success" => match self.deployments.remove(id) {
                Some(it) if it.step == it.steps.len() => seen.succeeded.push(it),
                it => return Err(format!("{id} succeeds, and is not done: {it:?}")),
            },
            "deployment_failed" => match self.deployments.get(id).cloned() {
                Some(it) => {
                    deadline::judge_failure(seen, id, &it, &text(&event["reason"]))?;
                    for app in it.before.keys() {
                        let wanted = || self.wanted(app).map(ToOwned::to_owned);
                        let version = seen.versions.get(app).cloned().unwrap_or_else(wanted);
                        let case = self.case_of(app, version.as_deref());
                        seen.ended.insert(app.clone(), case);
                    }
                    self.deployments.remove(id);
                    self.half_way.extend(it.before.into_keys());
                }
                None => return Err(format!("{id} fails, which was not under way")),
            },
            "instance_changed_event" => {
                let [id, condition] = ["instanceId", "condition"].map(|it| text(&event[it]));
                self.told.insert(id, condition);
            }
            "status_update_event" => {
                let [task, state] = ["taskId", "taskStatus"].map(|it| text(&event[it]));
                let heard = self.heard.as_ref();
                if heard.is_none_or(|(of, it)| *of != task || it.as_str_name() != state) {
                    return Err(format!("{task} is told to be {state}, not {heard:?}"));
                }
                if self.over.contains(&task) {
                    return Err(format!("{task} is told to be {state} after its end"));
                }
                // What is lost with its volumes is waited for, and may run after all.
                let id = task_instance(&task).map(|id| id.to_string());
                let copy = id.and_then(|id| self.copies.get(&id));
                let is_waited_for = copy.is_some_and(|copy| !copy.volumes.is_empty());
                if is_final(&state) || (is_end(&state) && !is_waited_for) {
                    self.over.insert(task);
                }
            }
            "unhealthy_instance_kill_event" => {
                let id = text(&event["instanceId"]);
                if !self
                    .health
                    .get(&id)
                    .is_some_and(|health| health.is_condemned)
                {
                    return Err(format!("{id} is called unhealthy, and is not"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A deployment begins, or goes on to its next step.
    fn tell_step(&mut self, seen: &mut Seen, id: &str, event: &Value) -> Result<(), String> {
        let step = actions(&event["currentStep"]);
        if let Some(deployment) = self.deployments.get(id) {
            let is_next = deployment.steps.get(deployment.step) == Some(&step);
            let wrong = || format!("{id} goes on with another step than {}", deployment.step);
            return if is_next { Ok(()) } else { Err(wrong()) };
        }
        let steps = event["plan"]["steps"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let steps: Vec<_> = steps.iter().map(actions).collect();
        if steps.first() != Some(&step) {
            return Err(format!("{id} does not begin with its first step"));
        }
        let apps: BTreeSet<&String> = steps.iter().flat_map(BTreeMap::keys).collect();
        for (other, deployment) in &self.deployments {
            if let Some(app) = apps
                .iter()
                .find(|app| deployment.before.contains_key(**app))
            {
                return Err(format!("{id} and {other} change {app} at once"));
            }
        }
        let version = |app: &String| {
            let now = || self.wanted(app).map(ToOwned::to_owned);
            seen.versions.get(app).cloned().unwrap_or_else(now)
        };
        let before = apps
            .iter()
            .map(|app| ((*app).clone(), version(app)))
            .collect();
        for app in apps {
            self.half_way.remove(app);
        }
        let deployment = Deployment {
            steps,
            step: 0,
            reached: 0,
            before,
            deadline: None,
            due: None,
            launched: BTreeSet::new(),
        };
        self.judge_order(id, &deployment)?;
        self.deployments.insert(id.to_owned(), deployment);
        seen.begun.push(id.to_owned());
        Ok(())
    }

    /// Who depends on others has his turn after them.
    fn judge_order(&self, id: &str, deployment: &Deployment) -> Result<(), String> {
        for app in deployment.before.keys() {
            let needs = self.definition(app).map(|it| &it["dependencies"]);
            let needs = needs
                .and_then(Value::as_array)
                .map_or(&[][..], Vec::as_slice);
            for other in needs.iter().filter_map(Value::as_str) {
                let is_there = self.wanted(other).is_some();
                let turns = [app.as_str(), other].map(|app| deployment.turn(app));
                if let ([Some(own), Some(first)], true) = (turns, is_there)
                    && own <= first
                {
                    return Err(format!("in {id} {app} has its turn before {other}"));
                }
            }
        }
        Ok(())
    }

    fn judge_whole(&self, seen: &Seen) -> Result<(), String> {
        let rows = self.rows.range("marathon/deployment/".to_owned()..);
        let kept: Vec<&str> = rows
            .map_while(|(key, _)| key.strip_prefix("marathon/deployment/"))
            .collect();
        let told: Vec<&String> = self.deployments.keys().collect();
        if kept != told {
            return Err(format!(
                "{kept:?} are deployments in the store, and {told:?} are told"
            ));
        }
        for (id, copy) in seen
            .changed
            .iter()
            .filter_map(|id| Some((id, self.copies.get(id)?)))
        {
            let told = self.told.get(id).map_or("nothing", String::as_str);
            let is_kept = copy.condition == "Reserved" && is_over(told);
            if told != copy.condition && !is_kept {
                return Err(format!("{id} is {}, and {told} is told", copy.condition));
            }
            if self.spec(&copy.app, &copy.version).is_none() {
                return Err(format!("{id} is of a version that is not there"));
            }
        }
        let gone = seen
            .gone
            .iter()
            .filter(|(_, copy)| copy.condition != "Reserved");
        for (id, _) in gone {
            let told = self.told.get(id).map_or("nothing", String::as_str);
            if !is_over(told) {
                return Err(format!("{id} is gone, and {told} is told"));
            }
        }
        for done in &seen.done {
            // What is wanted may be another thing already.
            for (app, action) in done
                .step
                .iter()
                .filter(|(app, _)| !seen.versions.contains_key(*app))
            {
                self.judge_done(app, action)?;
                self.judge_scaled(app, action, done)?;
            }
        }
        let succeeded = seen.succeeded.iter().flat_map(|it| it.before.keys());
        for app in succeeded.filter(|app| !seen.versions.contains_key(*app)) {
            let wanted = self.wanted(app).and_then(|version| self.spec(app, version));
            let config = wanted.map(|spec| spec.config);
            let old = |copy: &Copy| Some(&copy.config) != config.as_ref() && !copy.is_leaving();
            if let Some((id, _)) = self
                .of(app)
                .find(|(_, copy)| old(copy) && !copy.is_parked())
            {
                return Err(format!("{app} is deployed, and {id} is of an old version"));
            }
        }
        Ok(())
    }

    /// A step is done with an app: it is as the step leaves it.
    fn judge_done(&self, app: &str, action: &str) -> Result<(), String> {
        if action.starts_with("Start") {
            return Ok(());
        }
        let spec = self.wanted(app).and_then(|version| self.spec(app, version));
        let Some(spec) = spec else {
            return match self.of(app).next() {
                Some((id, copy)) => Err(format!("{action} of {app} ends, and {id} is {copy:?}")),
                None => Ok(()),
            };
        };
        if action.starts_with("Stop") {
            return Ok(());
        }
        let active = self.of(app).filter(|(_, copy)| copy.is_active());
        let (mut staying, mut leaving) = (0, 0);
        for (id, copy) in active {
            staying += usize::from(!copy.is_leaving());
            leaving += usize::from(copy.is_leaving());
            let is_new = copy.config == spec.config && self.is_ready(id, copy);
            if action.starts_with("Restart") && !is_new {
                return Err(format!("{app} is restarted, and {id} is not new and ready"));
            }
        }
        if staying != spec.instances || leaving > 0 {
            let wanted = spec.instances;
            return Err(format!(
                "{action} of {app} ends with {staying} of {wanted}, {leaving} leave"
            ));
        }
        Ok(())
    }

    /// How many new instances a deployment has to bring, of each app, as it says itself.
    fn fresh(&self, id: &str, deployment: &Deployment) -> BTreeMap<String, usize> {
        let row = self.rows.get(&format!("marathon/deployment/{id}"));
        let of_app = |(app, before): (&String, &Option<String>)| {
            let before = before.as_ref();
            let before = before.and_then(|version| self.spec(app, version));
            let found = row.and_then(|row| row["found"][app]["staying"].as_u64());
            let found = found.and_then(|found| usize::try_from(found).ok());
            let there = found.or(before.map(|spec| spec.instances));
            let wanted = self.wanted(app).and_then(|version| self.spec(app, version));
            let wanted = wanted.map_or(0, |spec| spec.instances);
            (
                app.clone(),
                wanted.saturating_sub(there.unwrap_or_default()),
            )
        };
        deployment.before.iter().map(of_app).collect()
    }

    /// An app that is scaled up has as many new instances that are ready, or all that were launched for it are.
    fn judge_scaled(&self, app: &str, action: &str, done: &Done) -> Result<(), String> {
        let fresh = done.fresh.get(app).copied().unwrap_or_default();
        let version = self.wanted(app);
        let own = self.of(app).filter(|(id, copy)| {
            let is_own = done.deployment.launched.contains(*id) && version == Some(&*copy.version);
            is_own && copy.stays()
        });
        let own: Vec<bool> = own.map(|(id, copy)| self.is_ready(id, copy)).collect();
        let ready = own.iter().filter(|is_ready| **is_ready).count();
        if action.starts_with("Scale") && ready < fresh && ready < own.len() {
            return Err(format!(
                "{action} of {app} ends, and of {fresh} new ones {ready} are ready"
            ));
        }
        Ok(())
    }

    fn is_ready(&self, id: &str, copy: &Copy) -> bool {
        let spec = self.spec(&copy.app, &copy.version);
        let nothing = Health::default();
        let health = self.health.get(id).unwrap_or(&nothing);
        copy.condition == "Running" && spec.is_some_and(|spec| health.is_ready(&spec))
    }

    /// What was launched of an app, and what was dismissed, was so for a reason, each as things stood before, after, or in between.
    fn judge_app<'a>(
        &self,
        seen: &Seen,
        app: &str,
        moves: &Moves,
        all: impl Iterator<Item = (&'a String, &'a Copy)>,
    ) -> Result<(), String> {
        let after = self.case(app);
        let cases = [Some(&after), seen.cases.get(app), seen.ended.get(app)];
        let all = all.map(|(id, copy)| {
            let is_failing = self.health.get(id).is_some_and(Health::is_failing);
            (id, (copy, self.is_ready(id, copy), is_failing))
        });
        let all = all.collect();
        for moves in moves.apart() {
            let judge = |case: &Case| upgrade::judge(app, case, &moves, &all, &self.named);
            let wrong = cases.iter().flatten().map(|case| judge(case).err());
            let wrong: Option<Vec<String>> = wrong.collect();
            if let Some(wrong) = wrong.and_then(|all| all.into_iter().next()) {
                return Err(wrong);
            }
        }
        self.judge_volumes(seen, app, moves, cases)
    }

    fn judge_calls(&mut self, seen: &Seen, calls: &[Call]) -> Result<(), String> {
        let operations = calls.iter().filter_map(|call| call.accept.as_ref());
        for operation in operations.flat_map(|accept| &accept.operations) {
            self.judge_operation(operation)?;
        }
        let earlier = seen.earlier.iter().map(|(_, moves, _)| moves);
        let moves = seen.moves.values().chain(earlier);
        for id in moves.flat_map(|moves| &moves.launched) {
            let copy = self.copies.get(id);
            if let Some(copy) = copy.filter(|copy| !self.launched.contains(&copy.task)) {
                return Err(format!("{} is written down and not launched", copy.task));
            }
        }
        for task in calls.iter().filter_map(|call| call.kill.as_ref()) {
            let task = &task.task_id.value;
            let Some(id) = task_instance(task).map(|id| id.to_string()) else {
                continue;
            };
            let Some(copy) = self.copies.get(&id).filter(|copy| copy.task == *task) else {
                // It was given up, or nobody knows it.
                continue;
            };
            let is_late = |copy: &Copy| {
                let waited = seen.now.saturating_sub(copy.changed);
                match &*copy.condition {
                    "Provisioned" => waited >= self.patience[0],
                    "Staging" | "Starting" => waited >= self.patience[1],
                    _ => false,
                }
            };
            // One that something is kept for waits for its next launch as soon as this one is given up.
            let before = seen.before.get(&id).filter(|_| copy.is_parked());
            let is_late = is_late(copy) || before.is_some_and(is_late);
            let is_sick = self
                .health
                .get(&id)
                .is_some_and(|health| health.is_condemned);
            let is_doomed = copy.is_leaving() || copy.is_to_be_killed || is_late || is_sick;
            // Who is killed is killed again until it is over, whatever becomes of it meanwhile.
            if is_doomed {
                self.doomed.insert(task.clone());
            } else if !self.doomed.contains(task) {
                return Err(format!("{task} is killed for no reason"));
            }
        }
        Ok(())
    }

    fn judge_operation(&mut self, operation: &Operation) -> Result<(), String> {
        for task in operation
            .launch
            .iter()
            .flat_map(|launch| &launch.task_infos)
        {
            let name = &task.task_id.value;
            let id = task_instance(name).map(|id| id.to_string());
            let known = id.and_then(|id| Some((self.copies.get(&id)?, id)));
            let Some((copy, id)) = known.filter(|(copy, _)| copy.task == *name) else {
                return Err(format!("{name} is launched and not written down"));
            };
            Self::judge_place(task, &id, copy)?;
            if !self.launched.insert(name.clone()) {
                return Err(format!("{name} is launched a second time"));
            }
        }
        self.judge_keeping(operation)
    }
}

impl Deployment {
    /// The step in which something happens to the instances of an app.
    fn turn(&self, app: &str) -> Option<usize> {
        let acts = |step: &BTreeMap<String, String>| {
            step.get(app)
                .is_some_and(|action| !action.starts_with("Start"))
        };
        self.steps.iter().position(acts)
    }
}

/// What a step does to which app.
fn actions(step: &Value) -> BTreeMap<String, String> {
    let all = step["actions"].as_array().map_or(&[][..], Vec::as_slice);
    let all = all.iter().map(|it| (text(&it["app"]), text(&it["action"])));
    all.collect()
}

/// What a definition says otherwise than a document.
fn other(definition: &Value, document: &Value) -> Option<String> {
    let is_same = match document {
        Value::Object(fields) => {
            let mut fields = fields.iter();
            return fields.find_map(|(name, value)| other(&definition[name], value));
        }
        Value::Number(number) => number.as_f64() == definition.as_f64(),
        Value::Array(all) if all.is_empty() => definition.as_array().is_none_or(Vec::is_empty),
        other => definition == other,
    };
    (!is_same).then(|| format!("{definition} instead of {document}"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Whether somebody saw the end of a task that is told to be like that.
fn is_final(state: &str) -> bool {
    let final_states = ["ERROR", "FAILED", "FINISHED", "KILLED"];
    final_states.iter().any(|it| state.ends_with(it))
}

fn is_end(state: &str) -> bool {
    let going_on = ["STAGING", "STARTING", "RUNNING", "KILLING", "UNREACHABLE"];
    !going_on.iter().any(|it| state.ends_with(it))
}

/// Whether an instance that is told to be like that is over.
fn is_over(condition: &str) -> bool {
    [
        "Error", "Failed", "Finished", "Killed", "Gone", "Dropped", "Unknown",
    ]
    .contains(&condition)
}

#[cfg(test)]
mod tests;
