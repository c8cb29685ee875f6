//! What is kept for the instances of apps with volumes: asked for once, used by nobody else, on one agent, and given back
//! only once nobody is left it is kept for. Who waits for his volumes comes before who would get new ones.

use std::collections::{BTreeMap, BTreeSet};

use dcos_core::resources::Scalar;
use dcos_marathon::instance::task_instance;
use dcos_proto::mesos::offer::Operation;
use dcos_proto::mesos::{Resource, TaskInfo, TaskState};
use serde_json::Value;

use super::upgrade::{Case, Copy, Moves};
use super::{Ledger, Seen};
use crate::kept::{All, Kept, owner};
use crate::watch::holdings::volume_id;

/// What cannot be read off the rows.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// Instances something was ever reserved for.
    reserved: BTreeSet<String>,
    /// Volumes that were ever made.
    made: BTreeSet<String>,
    /// Instances an agent spoke of as of one that was started: what was to be kept for them is.
    began: BTreeSet<String>,
    /// Instances that users want to lose their volumes.
    wiped: BTreeSet<String>,
}

impl Ledger {
    /// A user wants an instance to go with all that is kept for it.
    pub(in super::super) fn wiped(&mut self, instance: &str) {
        self.named(instance);
        self.keeping.wiped.insert(instance.to_owned());
    }

    /// What should be kept on agents.
    pub(in super::super) fn kept(&self) -> All {
        let resident = self
            .copies
            .iter()
            .filter(|(_, copy)| !copy.volumes.is_empty());
        let kept = |(id, copy): (&String, &Copy)| {
            let spec = self.spec(&copy.app, &copy.version);
            let kept = Kept {
                agents: BTreeSet::from([copy.agent.clone()]),
                volumes: copy.volumes.clone(),
                amounts: spec.map(|spec| spec.needs).unwrap_or_default(),
            };
            (id.clone(), kept)
        };
        resident.map(kept).collect()
    }

    /// Whether that is what is found there.
    pub(in super::super) fn compare(&self, found: &All) -> Result<(), String> {
        let wanted = self.kept();
        let differs = |id: &&String| wanted.get(*id) != found.get(*id);
        match wanted.keys().chain(found.keys()).find(differs) {
            Some(id) => Err(format!(
                "at rest {:?} is kept for {id}, and {:?} should be",
                found.get(id),
                wanted.get(id)
            )),
            None => Ok(()),
        }
    }

    /// What was heard of a task is written down now.
    pub(super) fn note_begin(&mut self) {
        use TaskState::{TaskFailed, TaskFinished, TaskKilling, TaskRunning, TaskStarting};
        let begun = [
            TaskStarting,
            TaskRunning,
            TaskKilling,
            TaskFinished,
            TaskFailed,
        ];
        let Some((task, _)) = self.heard.as_ref().filter(|it| begun.contains(&it.1)) else {
            return;
        };
        if let Some(id) = task_instance(task) {
            self.keeping.began.insert(id.to_string());
        }
    }

    /// A task is launched for an instance: on what is kept for it, all of that and nothing of others, where that is.
    pub(super) fn judge_place(task: &TaskInfo, id: &str, copy: &Copy) -> Result<(), String> {
        let name = &task.task_id.value;
        let ids = task.resources.iter().filter_map(volume_id);
        let volumes: BTreeSet<String> = ids.map(ToOwned::to_owned).collect();
        if volumes != copy.volumes {
            return Err(format!(
                "{name} is launched with the volumes {volumes:?}, not {:?}",
                copy.volumes
            ));
        }
        let mut owners = task.resources.iter().filter_map(owner);
        if let Some(other) = owners.find(|other| *other != id) {
            return Err(format!("{name} is launched on what is kept for {other}"));
        }
        if task.agent_id.value != copy.agent {
            let (agent, own) = (&task.agent_id, &copy.agent);
            return Err(format!("{name} is launched on {agent}, and is of {own}"));
        }
        Ok(())
    }

    /// Something is reserved, made, destroyed or given back.
    pub(super) fn judge_keeping(&mut self, operation: &Operation) -> Result<(), String> {
        let reserved = operation.reserve.iter().flat_map(|it| &it.resources);
        let owners: BTreeSet<&str> = reserved.filter_map(owner).collect();
        for id in owners {
            if !self.copies.contains_key(id) {
                return Err(format!(
                    "something is reserved for {id}, which is not there"
                ));
            }
            if !self.keeping.reserved.insert(id.to_owned()) {
                return Err(format!("something is reserved for {id} a second time"));
            }
        }
        let made = operation.create.iter().flat_map(|it| &it.volumes);
        for (id, volume) in made.filter_map(volume_of) {
            let copy = self.copies.get(id);
            if copy.is_none_or(|copy| !copy.volumes.contains(volume)) {
                return Err(format!(
                    "{volume} is made for {id}, which has no such volume"
                ));
            }
            if !self.keeping.made.insert(volume.to_owned()) {
                return Err(format!("{volume} is made a second time"));
            }
        }
        let destroyed = operation.destroy.iter().flat_map(|it| &it.volumes);
        let given_back = operation.unreserve.iter().flat_map(|it| &it.resources);
        for id in destroyed.chain(given_back).filter_map(owner) {
            let copy = self.copies.get(id);
            if copy.is_some_and(|copy| !copy.volumes.is_empty()) {
                return Err(format!(
                    "what is kept for {id} is given back, though it is there"
                ));
            }
        }
        Ok(())
    }

    /// What is launched has the volumes its version wants, and no new ones while others wait for theirs.
    pub(super) fn judge_volumes(
        &self,
        seen: &Seen,
        app: &str,
        moves: &Moves,
        cases: [Option<&Case>; 3],
    ) -> Result<(), String> {
        let mut fresh = None;
        for id in &moves.launched {
            let Some(copy) = self.copies.get(id) else {
                continue;
            };
            let spec = self.spec(app, &copy.version);
            if let Some(spec) = spec.filter(|spec| spec.paths != copy.paths) {
                return Err(format!(
                    "{id} is launched with volumes at {:?}, and its version has {:?}",
                    copy.paths, spec.paths
                ));
            }
            if copy.life == 1 {
                fresh = Some(id);
            }
        }
        let Some(fresh) = fresh else {
            return Ok(());
        };
        let mut waiting = self.of(app).filter(|(id, copy)| {
            copy.condition == "Reserved" && !copy.is_forsaken() && !seen.changed.contains(*id)
        });
        let Some((other, _)) = waiting.next() else {
            return Ok(());
        };
        let taken = 1 + waiting.count() + self.of(app).filter(|(_, copy)| copy.stays()).count();
        let wanted = cases.into_iter().flatten().map(Case::most);
        let wanted = wanted.max().unwrap_or_default();
        if taken > wanted {
            return Err(format!(
                "{fresh} gets volumes, and {other} waits for its own"
            ));
        }
        Ok(())
    }

    /// An instance is gone: not one that something is kept for, unless its app goes, a user or the agent's end wants it.
    pub(super) fn judge_end(&mut self, id: &str, copy: &Copy) -> Result<(), String> {
        let is_gone = self.heard.as_ref().is_some_and(|(task, state)| {
            *task == copy.task && *state == TaskState::TaskGoneByOperator
        });
        let is_free = self.wanted(&copy.app).is_none() || copy.is_forsaken();
        let began = self.keeping.began.remove(id);
        let is_kept = !copy.volumes.is_empty() && (copy.is_confirmed || began);
        if is_kept && !(is_free || is_gone || self.keeping.wiped.remove(id)) {
            return Err(format!("{id} loses what is kept for it"));
        }
        Ok(())
    }

    /// Nobody is to lose his volumes while his app is there.
    pub(super) fn judge_forsaken(&self, seen: &Seen) -> Result<(), String> {
        let mut forsaken = seen.forsaken.iter().filter(|(_, copy)| {
            self.wanted(&copy.app).is_some() && !seen.versions.contains_key(&copy.app)
        });
        match forsaken.next() {
            Some((id, copy)) => Err(format!(
                "{id} is to lose what is kept for it, though {} is there",
                copy.app
            )),
            None => Ok(()),
        }
    }

    /// Another life begins: what users asked for and was not written down is forgotten.
    pub(super) fn forget_wishes(&mut self) {
        self.keeping.wiped.clear();
    }
}

/// The volume a resource is, and whose.
fn volume_of(resource: &Resource) -> Option<(&str, &str)> {
    Some((owner(resource)?, volume_id(resource)?))
}

/// How much of everything a version of an app needs, volumes included.
pub(super) fn needs(row: &Value) -> BTreeMap<String, Scalar> {
    let amount = |value: &Value| Scalar::from_f64(value.as_f64().unwrap_or_default());
    let own = ["cpus", "mem", "disk"].map(|it| (it.to_owned(), amount(&row[it])));
    let mut needs = BTreeMap::from(own);
    for volume in row["container"]["volumes"].as_array().into_iter().flatten() {
        *needs.entry("disk".to_owned()).or_default() += amount(&volume["persistent"]["size"]);
    }
    let ports = row["portDefinitions"].as_array().map_or(0, Vec::len);
    let ports = i64::try_from(ports).unwrap_or_default();
    needs.insert("ports".to_owned(), Scalar::from_millis(1000 * ports));
    needs.retain(|_, amount| !amount.is_zero());
    needs
}
