//! A Marathon with a restless user: apps are created, scaled, changed and deleted while things
//! break; afterwards every deployment has to end, then everything is deleted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dcos_core::resources::Resources;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_marathon::core::{Core, Input, Kill, View};
use dcos_marathon::instance::Condition;
use dcos_marathon::model::RootGroup;
use dcos_marathon::shell::framework_info;
use dcos_marathon::{Config, PathId, normalize};
use dcos_proto::mesos::AgentId;
use dcos_proto::scheduler::{Call, Event, call, event};
use serde_json::json;

use crate::node::FOREVER;
use crate::party::Party;

/// How long its user waits for room.
const GIVE_UP: Duration = Duration::from_mins(20);
const APPS: [&str; 3] = ["/web", "/db", "/group/worker"];

/// A Marathon: its core, which may be killed, and its rows, which stay.
#[derive(Debug)]
pub(crate) struct Service {
    config: Arc<Config>,
    core: Core,
    rows: BTreeMap<String, Vec<u8>>,
    stream: Option<String>,
    /// When it subscribes again, if it is not subscribed.
    retry: Option<Time>,
    /// When its user wants something next.
    whim: Time,
    phase: Phase,
    /// Calls that wait for their turn.
    calls: Vec<Call>,
    complaint: Option<String>,
    seed: Seed,
    lives: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// The user changes his mind now and then.
    Restless,
    /// Deployments have to end, or to say what they wait for.
    Waiting(Time),
    /// Everything was deleted, and has to go.
    Leaving,
}

impl Service {
    pub(crate) fn new(now: Time, seed: &Seed) -> Self {
        let config = Arc::new(Config::default());
        let seed = seed.stream("marathon");
        let rows = BTreeMap::new();
        Self {
            core: recover(&config, &rows, &seed, now),
            config,
            rows,
            stream: None,
            retry: Some(now),
            whim: now,
            phase: Phase::Restless,
            calls: Vec::new(),
            complaint: None,
            seed,
            lives: 0,
        }
    }

    /// Makes durable what the core decided, then lets it out.
    fn settle(&mut self, now: Time) -> Vec<Call> {
        let batch = self.core.take(now);
        for row in batch.rows {
            match row.value {
                Some(value) => _ = self.rows.insert(row.key, value),
                None => _ = self.rows.remove(&row.key),
            }
        }
        if let Some(fatal) = batch.fatal {
            self.complaint = Some(format!("Marathon gives up: {fatal}"));
        }
        self.calls.extend(batch.calls);
        if self.stream.is_none() {
            // Without a stream there is nobody to call; the core is made to live with that.
            self.calls.clear();
        }
        let id = self.core.framework_id().cloned();
        let mut calls = std::mem::take(&mut self.calls);
        for call in &mut calls {
            call.framework_id.clone_from(&id);
        }
        calls
    }

    fn subscribe(&self) -> Call {
        let id = self.core.framework_id().cloned();
        let info = framework_info(&self.config, id.clone(), self.core.roles());
        Call {
            framework_id: id,
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe {
                framework_info: info,
                ..call::Subscribe::default()
            }),
            ..Call::default()
        }
    }

    /// The user wants something else.
    fn change_of_mind(&mut self, now: Time) {
        let app = APPS[self.seed.index(APPS.len())];
        let path = PathId::absolute(app);
        let instances = self.seed.range(0..4);
        let release = self.seed.range(0..1000);
        let is_deletion = self.seed.chance(0.15);
        let force = self.seed.chance(0.3);
        let document = json!({
            "id": app,
            "cmd": FOREVER,
            "cpus": 0.5,
            "mem": 64,
            "instances": instances,
            "labels": {"release": release.to_string()},
            "backoffSeconds": 1,
            "maxLaunchDelaySeconds": 10,
        });
        // A refusal (another deployment is in the way) is an answer as well.
        _ = self.core.change(now, force, &Kill::new(), |change| {
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

    fn delete_everything(&mut self, now: Time) {
        let nothing = self.core.change(now, true, &Kill::new(), |change| {
            Ok(RootGroup {
                version: change.version,
                ..RootGroup::default()
            })
        });
        if let Err(error) = nothing {
            self.complaint = Some(format!("nothing can be deleted: {error}"));
        }
    }
}

impl Party for Service {
    fn stream(&self) -> Option<&str> {
        self.stream.as_deref()
    }

    fn next_deadline(&self, now: Time) -> Time {
        let own = self.retry.unwrap_or(Time::MAX).min(self.whim);
        self.core
            .next_deadline(now)
            .map_or(own, |core| core.min(own))
    }

    fn tick(&mut self, now: Time, is_calm: bool) -> Vec<Call> {
        let mut calls = Vec::new();
        if self.retry.is_some_and(|retry| retry.is_due(now)) {
            self.retry = Some(now + Duration::from_secs(10));
            calls.push(self.subscribe());
        }
        if self.whim.is_due(now) {
            self.whim = now + Duration::from_millis(self.seed.range(2000..20_000));
            match self.phase {
                Phase::Restless if is_calm => self.phase = Phase::Waiting(now),
                Phase::Restless => self.change_of_mind(now),
                Phase::Waiting(since) => {
                    let view = self.core.view(now);
                    let is_hopeless = now.since(since) > GIVE_UP && lacks_room(&view);
                    if is_settled(&view) || is_hopeless {
                        self.delete_everything(now);
                        self.phase = Phase::Leaving;
                    }
                }
                Phase::Leaving => {}
            }
        }
        self.core.handle(now, Input::Tick);
        calls.extend(self.settle(now));
        calls
    }

    fn subscribed(&mut self, _now: Time, stream: String) {
        self.stream = Some(stream);
        self.retry = None;
    }

    fn refused(&mut self, now: Time) {
        if self.stream.is_none() {
            self.retry = Some(now + Duration::from_secs(1));
        }
    }

    fn disconnected(&mut self, now: Time) {
        self.stream = None;
        self.retry = Some(now + Duration::from_millis(self.seed.range(500..3000)));
        self.core.handle(now, Input::Disconnected);
        self.settle(now);
    }

    fn crash(&mut self, now: Time) {
        self.lives += 1;
        let seed = self.seed.stream(&format!("life {}", self.lives));
        self.core = recover(&self.config, &self.rows, &seed, now);
        self.calls.clear();
        self.stream = None;
        self.retry = Some(now + Duration::from_millis(self.seed.range(500..10_000)));
    }

    fn event(&mut self, now: Time, event: &Arc<Event>) -> Vec<Call> {
        if event.r#type() == event::Type::Error {
            self.complaint = Some(format!("the master says ERROR: {:?}", event.error));
        }
        self.core
            .handle(now, Input::Event(Box::new((**event).clone())));
        self.settle(now)
    }

    fn is_content(&self, now: Time) -> bool {
        let view = self.core.view(now);
        self.phase == Phase::Leaving
            && view.deployments.is_empty()
            && view.all_instances().next().is_none()
    }

    fn idle_offer(&self, _agent: &AgentId) -> Option<&Resources> {
        None
    }

    fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    fn open(&self, now: Time) -> String {
        let view = self.core.view(now);
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
        format!(
            "{:?}, deployments {deployments:?}, instances {instances:?}, waiting {waiting:?}",
            self.phase
        )
    }
}

fn recover(config: &Arc<Config>, rows: &BTreeMap<String, Vec<u8>>, seed: &Seed, now: Time) -> Core {
    let rows = rows.iter().map(|(key, value)| (&**key, &**value));
    Core::recover(Arc::clone(config), seed.clone(), now, rows)
        .expect("what a Marathon wrote, a Marathon reads")
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
