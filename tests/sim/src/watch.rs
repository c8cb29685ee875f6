//! What is kept beside the cores to judge them: what was asked for, told, launched, killed.

pub(crate) mod books;
pub(crate) mod holdings;

use std::collections::{BTreeMap, BTreeSet};

use dcos_marathon::PathId;
use dcos_marathon::instance::task_instance;
use dcos_proto::mesos::{AgentId, FrameworkId, Offer, OperationState, TaskId, offer};
use dcos_proto::scheduler::{Call, Event};

use crate::service::jobs::ONCE;
use holdings::{Content, Holdings};

/// The uuid of an update.
type Uuid = Vec<u8>;

/// What the promises speak of.
#[derive(Debug)]
pub(crate) struct Watch {
    /// How often each executor was launched.
    launches: BTreeMap<String, u32>,
    /// Runs of jobs that run no task twice, and the task that ran.
    runs: BTreeMap<PathId, String>,
    /// Tasks somebody asked to kill, or that make room for others.
    kills: BTreeSet<String>,
    /// Frameworks that ended themselves, or that a master ended.
    ended: BTreeSet<FrameworkId>,
    /// Nodes whose agents were told to shut down.
    shut: BTreeSet<usize>,
    /// Updates that are on disk and that no framework has seen, with where, whose and what.
    untold: BTreeMap<Uuid, (usize, FrameworkId, String)>,
    /// Updates that frameworks have seen.
    seen: BTreeSet<Uuid>,
    /// Updates that frameworks have acknowledged.
    acknowledged: BTreeSet<Uuid>,
    /// Agents of which something was just offered.
    touched: BTreeSet<AgentId>,
    holdings: Holdings,
    complaint: Option<String>,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self {
            launches: BTreeMap::new(),
            runs: BTreeMap::new(),
            kills: BTreeSet::new(),
            ended: BTreeSet::new(),
            shut: BTreeSet::new(),
            untold: BTreeMap::new(),
            seen: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            touched: BTreeSet::new(),
            holdings: Holdings::default(),
            complaint: None,
        }
    }

    /// The first violation counts.
    pub(crate) fn complain(&mut self, wrong: String) {
        self.complaint.get_or_insert(wrong);
    }

    pub(crate) fn take_complaint(&mut self) -> Option<String> {
        self.complaint.take()
    }

    pub(crate) fn launches(&self) -> usize {
        self.launches.values().map(|count| *count as usize).sum()
    }

    /// The frameworks that are no more.
    pub(crate) fn ended(&self) -> &BTreeSet<FrameworkId> {
        &self.ended
    }

    /// A container was launched: once for each executor, ever.
    pub(crate) fn launched(&mut self, executor: &str) {
        let count = self.launches.entry(executor.to_owned()).or_default();
        *count += 1;
        if *count > 1 {
            self.complain(format!("{executor} was launched twice"));
        }
        // The task of a run is of an app that is named after its job and the run.
        let run = task_instance(executor).map(|id| id.app());
        if let Some(run) = run.filter(|run| run.segments().next() == Some(ONCE))
            && let Some(other) = self.runs.insert(run.clone(), executor.to_owned())
        {
            self.complain(format!("{run} ran {executor} after {other}"));
        }
    }

    /// A framework says something.
    pub(crate) fn called(&mut self, call: &Call) {
        if let Some(kill) = &call.kill {
            self.kills.insert(kill.task_id.value.clone());
        }
        if let Some(acknowledge) = &call.acknowledge {
            self.acknowledged.insert(acknowledge.uuid.clone());
        }
        if let Some(acknowledge) = &call.acknowledge_operation_status {
            self.acknowledged.insert(acknowledge.uuid.clone());
        }
        for operation in call.accept.iter().flat_map(|it| &it.operations) {
            self.holdings.asked(operation);
        }
        if call.r#type() == dcos_proto::scheduler::call::Type::Teardown {
            self.ended.extend(call.framework_id.clone());
        }
    }

    /// A task is killed for one of a more important role.
    pub(crate) fn makes_room(&mut self, task: &TaskId) {
        self.kills.insert(task.value.clone());
    }

    /// A framework hears something.
    pub(crate) fn heard(&mut self, event: &Event) {
        if let Some(uuid) = event.update.as_ref().and_then(|it| it.status.uuid.as_ref()) {
            self.untold.remove(uuid);
            self.seen.insert(uuid.clone());
        }
        if let Some(update) = &event.update_operation_status
            && update.status.state() == OperationState::OperationFinished
            && let Some(id) = &update.status.operation_id
            && let Err(wrong) = self.holdings.finished(&id.value)
        {
            self.complain(wrong);
        }
    }

    /// A master tells an agent that a framework is no more: that must be true.
    pub(crate) fn expect_end_of(&mut self, framework: &FrameworkId) {
        if !self.ended.contains(framework) {
            self.complain(format!("{framework} is ended, which nobody asked for"));
        }
    }

    /// The agent on a node is told to shut down.
    pub(crate) fn expect_end_at(&mut self, node: usize) {
        self.shut.insert(node);
    }

    /// An agent ends a container that runs: somebody must have asked for it.
    pub(crate) fn killed(&mut self, node: usize, framework: &FrameworkId, executor: &str) {
        let is_asked = self.kills.contains(executor)
            || self.ended.contains(framework)
            || self.shut.contains(&node);
        if !is_asked {
            self.complain(format!("{executor} is killed, which nobody asked for"));
        }
    }

    /// An update is on disk: from now on it has to be told.
    pub(crate) fn wrote(&mut self, node: usize, framework: FrameworkId, uuid: &[u8], what: String) {
        if !self.seen.contains(uuid) {
            self.untold.insert(uuid.to_vec(), (node, framework, what));
        }
    }

    /// An agent forgets an update: its framework must have acknowledged it.
    pub(crate) fn dropped(&mut self, uuid: &[u8], what: &str) {
        if !self.acknowledged.contains(uuid) {
            self.complain(format!(
                "{what} is forgotten before its framework acknowledged it"
            ));
        }
    }

    /// A node forgot everything, because it was told to.
    pub(crate) fn forgot(&mut self, node: usize) {
        self.untold.retain(|_, (at, _, _)| *at != node);
        self.holdings.forgot(node);
    }

    /// Somebody asks for an operation on resources.
    pub(crate) fn operates(&mut self, operation: &offer::Operation) {
        self.holdings.asked(operation);
    }

    /// A node's disk holds this now.
    pub(crate) fn holds(&mut self, node: usize, content: Content) {
        let (ended, acknowledged) = (&self.ended, &self.acknowledged);
        let is_acknowledged = |framework: &FrameworkId, uuid: &[u8]| {
            ended.contains(framework) || acknowledged.contains(uuid)
        };
        if let Err(wrong) = self.holdings.wrote(node, content, is_acknowledged) {
            self.complain(wrong);
        }
    }

    pub(crate) fn volume_failed(&mut self, volume: &str) {
        self.holdings.failed(volume);
    }

    pub(crate) fn volume_deleted(&mut self, volume: &str) {
        if let Err(wrong) = self.holdings.deleted(volume) {
            self.complain(wrong);
        }
    }

    /// What was written down and never told.
    pub(crate) fn untold(&self) -> Option<String> {
        let mut untold = self.untold.values();
        let (_, _, what) = untold.find(|(_, whose, _)| !self.ended.contains(whose))?;
        Some(format!("{what} was never told"))
    }

    pub(crate) fn touch(&mut self, offers: &[Offer]) {
        self.touched
            .extend(offers.iter().map(|offer| offer.agent_id.clone()));
    }

    pub(crate) fn touched(&self) -> &BTreeSet<AgentId> {
        &self.touched
    }

    pub(crate) fn touch_none(&mut self) {
        self.touched.clear();
    }
}
