//! What agents say of themselves and of what runs on them, before it is believed.
//!
//! Source: Mesos 1.11 `validation::master::message::registerSlave`, `reregisterSlave` (`src/master/validation.cpp`),
//! `Master::_registerSlave`. Departure: a running task whose executor is not listed is no reason to refuse its agent.

use std::collections::BTreeSet;
use std::sync::Arc;

use dcos_core::ids;
use dcos_core::resources::validate_all;
use dcos_proto::internal::{RegisterSlaveMessage, ReregisterSlaveMessage};
use dcos_proto::mesos::{AgentInfo, FrameworkId, Resource};

use super::framework;
use super::task::Check;
use crate::master::returning::Told;

/// The oldest agents there may be: what came before spoke otherwise.
const OLDEST: u64 = 1;

/// An agent that asks to be admitted.
pub(crate) fn registration(message: &RegisterSlaveMessage) -> Check {
    agent(&message.agent, &message.checkpointed_resources)?;
    version(message.version.as_deref())
}

/// An agent that comes back; `tasks` are those of the message.
pub(crate) fn returning(message: &ReregisterSlaveMessage, tasks: &[Told]) -> Check {
    agent(&message.agent, &message.checkpointed_resources)?;
    version(message.version.as_deref())?;
    let mut known = BTreeSet::new();
    for info in &message.frameworks {
        framework::info(info)?;
        let id = info.id.clone().unwrap_or_default();
        if !known.insert(id.clone()) {
            return Err(format!("Framework has a duplicate FrameworkID: '{id}'"));
        }
    }
    executors(message, &known)?;
    let mut last: Option<&Arc<[Resource]>> = None;
    for task in tasks {
        ids::validate(&task.task_id.value)
            .map_err(|error| format!("Task has an invalid TaskID: {error}"))?;
        if Some(task.record.agent_id()) != message.agent.id.as_ref() {
            let id = task.record.agent_id();
            return Err(format!("Task has an invalid SlaveID '{id}'"));
        }
        if !known.contains(&task.framework_id) {
            let id = &task.framework_id;
            return Err(format!("Task has an invalid FrameworkID '{id}'"));
        }
        // Tasks one after the other that use the same share it.
        if !last.is_some_and(|last| Arc::ptr_eq(last, &task.resources)) {
            validate_all(&task.resources)
                .map_err(|error| format!("Task uses invalid resources: {error}"))?;
            last = Some(&task.resources);
        }
    }
    Ok(())
}

fn agent(info: &AgentInfo, checkpointed: &[Resource]) -> Check {
    if let Some(id) = &info.id {
        ids::validate(&id.value).map_err(|error| error.to_string())?;
    }
    validate_all(&info.resources).map_err(|error| error.to_string())?;
    validate_all(checkpointed).map_err(|error| error.to_string())
}

fn executors(message: &ReregisterSlaveMessage, known: &BTreeSet<FrameworkId>) -> Check {
    let mut seen = BTreeSet::new();
    for executor in &message.executor_infos {
        let id = &executor.executor_id;
        ids::validate(&id.value).map_err(|error| error.to_string())?;
        validate_all(&executor.resources).map_err(|error| error.to_string())?;
        let framework = executor.framework_id.clone().unwrap_or_default();
        if !known.contains(&framework) {
            return Err(format!("Executor has an invalid FrameworkID '{framework}'"));
        }
        if !seen.insert((framework.clone(), id)) {
            return Err(format!(
                "Framework '{framework}' has a duplicate ExecutorID '{id}'"
            ));
        }
    }
    Ok(())
}

fn version(text: Option<&str>) -> Check {
    let text = text.unwrap_or_default();
    let major = text.split('.').next().and_then(|major| major.parse().ok());
    let major: u64 = major.ok_or_else(|| format!("Failed to parse version '{text}'"))?;
    if major < OLDEST {
        return Err(format!(
            "agent version is {text}, minimum supported agent version is {OLDEST}.0.0"
        ));
    }
    Ok(())
}
