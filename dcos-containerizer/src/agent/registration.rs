//! Finding, joining, watching and re-joining the master.
//!
//! Source: Mesos 1.11 `Slave::detected`, `doReliableRegistration`, `registered`, `reregistered`,
//! `ping`. Departure: when the connection to the master breaks, the agent registers again at once
//! (with its random delay) instead of waiting for an election or the ping timeout.

use std::time::Duration;

use dcos_core::resources::convert::downgrade;
use dcos_core::time::Time;
use dcos_proto::internal::{
    MasterSlaveConnection, PongSlaveMessage, RegisterSlaveMessage, ReregisterSlaveMessage,
    SlaveRegisteredMessage, SlaveReregisteredMessage, archive,
};
use dcos_proto::mesos::agent_info::{Capability, capability};
use dcos_proto::mesos::{AgentId, Resource, Task};

use super::authentication::Standing;
use super::core::Agent;
use super::records::{Executor, Framework};
use super::words::Action;
use crate::checkpoint::Write;

const BACKOFF_MAX: Duration = Duration::from_mins(1);
/// Patience with a silent master until it says what its own is.
const PING_TIMEOUT: Duration = Duration::from_secs(75);

/// Where the agent stands with the master.
#[derive(Debug)]
pub(crate) enum Registration {
    /// Nobody knows the leading master.
    NoMaster,
    /// It asks to be admitted, again and again.
    Joining {
        master: String,
        next: Time,
        backoff: Duration,
    },
    /// It is admitted.
    Registered {
        master: String,
        ping_timeout: Duration,
        /// When the master counts as gone.
        silence: Time,
    },
}

impl Registration {
    pub(super) fn next_deadline(&self) -> Option<Time> {
        match self {
            Self::NoMaster => None,
            Self::Joining { next, .. } => Some(*next),
            Self::Registered { silence, .. } => Some(*silence),
        }
    }

    pub(super) fn registered_with(&self) -> Option<&str> {
        match self {
            Self::Registered { master, .. } => Some(master),
            _ => None,
        }
    }

    /// The master it wants to be, or is, admitted by.
    pub(super) fn master(&self) -> Option<&str> {
        match self {
            Self::NoMaster => None,
            Self::Joining { master, .. } | Self::Registered { master, .. } => Some(master),
        }
    }
}

/// What this agent can do, beyond the first agents.
pub(super) const CAPABILITIES: [capability::Type; 8] = [
    capability::Type::MultiRole,
    capability::Type::HierarchicalRole,
    capability::Type::ReservationRefinement,
    capability::Type::ResourceProvider,
    capability::Type::ResizeVolume,
    capability::Type::AgentOperationFeedback,
    capability::Type::AgentDraining,
    capability::Type::TaskResourceLimits,
];

/// Masters from before refined reservations know no other form; what it cannot tell stays as it is.
fn in_old_form(resources: &mut [Resource]) {
    for resource in resources {
        let _ = downgrade(resource);
    }
}

/// [`CAPABILITIES`] as messages carry them.
pub(super) fn capabilities() -> Vec<Capability> {
    let capability = |kind: capability::Type| Capability {
        r#type: Some(kind.into()),
    };
    CAPABILITIES.map(capability).to_vec()
}

impl Agent {
    pub(super) fn detected(&mut self, now: Time, master: Option<String>) {
        if master.is_some() && master.as_deref() == self.registration.master() {
            return;
        }
        self.updates.pause();
        self.operations.pause();
        match master {
            None => self.registration = Registration::NoMaster,
            Some(master) => self.join(now, master),
        }
    }

    /// Begins to ask `master` for admission after a random delay.
    fn join(&mut self, now: Time, master: String) {
        self.updates.pause();
        self.operations.pause();
        self.authentication.reset();
        let backoff = self.settings.registration_backoff_factor;
        let next = now + backoff.mul_f64(self.jitter.unit());
        self.registration = Registration::Joining {
            master,
            next,
            backoff,
        };
    }

    pub(super) fn disconnected(&mut self, now: Time, peer: &str) {
        if self.registration.registered_with() == Some(peer) {
            self.join(now, peer.to_owned());
        } else if self.registration.master() == Some(peer) {
            self.authentication.doubt();
        }
    }

    pub(super) fn registration_due(&mut self, now: Time) {
        match &mut self.registration {
            Registration::Registered {
                silence, master, ..
            } if silence.is_due(now) => {
                let master = master.clone();
                self.join(now, master);
            }
            Registration::Joining {
                master,
                next,
                backoff,
            } if next.is_due(now) => {
                if self.reconnecting_until.is_some() {
                    // The master has to learn of every task at once.
                    *next = now + *backoff;
                    return;
                }
                let chance = self.jitter.unit();
                match self.authentication.standing(now, chance) {
                    Standing::Ready => {}
                    Standing::Ask(time) => {
                        *next = now + time;
                        let master = master.clone();
                        self.act(Action::Link(master.clone()));
                        return self.ask_authentication(master);
                    }
                    Standing::Wait(until) => {
                        *next = until;
                        return;
                    }
                }
                *backoff = (*backoff * 2).clamp(Duration::from_millis(1), BACKOFF_MAX);
                *next = now
                    + backoff
                        .mul_f64(self.jitter.unit())
                        .max(Duration::from_millis(1));
                let master = master.clone();
                self.act(Action::Link(master.clone()));
                self.ask_admission(master);
            }
            _ => {}
        }
    }

    fn ask_admission(&mut self, master: String) {
        if self.info.id.is_some() {
            let message = self.reregistration();
            self.send(master, message);
        } else {
            let mut message = RegisterSlaveMessage {
                agent: self.info.clone(),
                version: Some(self.settings.version.clone()),
                checkpointed_resources: self.total().checkpointed().to_messages(),
                agent_capabilities: capabilities(),
                resource_version_uuid: Some(self.operations.version.clone()),
            };
            in_old_form(&mut message.agent.resources);
            in_old_form(&mut message.checkpointed_resources);
            self.send(master, message);
        }
    }

    /// Everything a master that knows nothing has to know.
    fn reregistration(&self) -> ReregisterSlaveMessage {
        let executors = || {
            self.executors()
                .filter(|executor| !executor.state.is_over())
        };
        let listed = executors().filter(|executor| !executor.is_for_command());
        let mut message = ReregisterSlaveMessage {
            agent: self.info.clone(),
            tasks: self.tasks().collect(),
            executor_infos: listed.map(|executor| executor.info.clone()).collect(),
            completed_frameworks: self.completed.iter().map(archive_of).collect(),
            version: Some(self.settings.version.clone()),
            checkpointed_resources: self.total().checkpointed().to_messages(),
            frameworks: self.frameworks.values().map(|f| f.info.clone()).collect(),
            agent_capabilities: capabilities(),
            resource_version_uuid: Some(self.operations.version.clone()),
        };
        in_old_form(&mut message.agent.resources);
        in_old_form(&mut message.checkpointed_resources);
        for task in &mut message.tasks {
            in_old_form(&mut task.resources);
        }
        for executor in &mut message.executor_infos {
            in_old_form(&mut executor.resources);
        }
        message
    }

    pub(super) fn registered(&mut self, now: Time, from: &str, message: SlaveRegisteredMessage) {
        if self.registration.master() != Some(from) {
            return;
        }
        match &self.info.id {
            Some(id) if *id != message.agent_id => {
                return self.identity_lost(&message.agent_id);
            }
            Some(_) => {}
            None => {
                self.info.id = Some(message.agent_id);
                self.write(Write::Agent(self.info.clone()));
            }
        }
        self.admitted(now, from, message.connection);
    }

    pub(super) fn reregistered(
        &mut self,
        now: Time,
        from: &str,
        message: SlaveReregisteredMessage,
    ) {
        if self.registration.master() != Some(from) {
            return;
        }
        if self.info.id.as_ref() != Some(&message.agent_id) {
            return self.identity_lost(&message.agent_id);
        }
        self.admitted(now, from, message.connection);
        for reconciliation in message.reconciliations {
            self.reconcile(now, &reconciliation);
        }
    }

    fn admitted(&mut self, now: Time, from: &str, connection: Option<MasterSlaveConnection>) {
        if matches!(self.registration, Registration::Registered { .. }) {
            return;
        }
        let ping_timeout = connection
            .and_then(|connection| connection.total_ping_timeout_seconds)
            .and_then(|secs| Duration::try_from_secs_f64(secs).ok())
            .unwrap_or(PING_TIMEOUT);
        self.registration = Registration::Registered {
            master: from.to_owned(),
            ping_timeout,
            silence: now + ping_timeout,
        };
        self.updates.resume(now);
        self.operations.resume(now);
        if let Some(update) = self.agent_update() {
            self.send_master(update);
        }
    }

    /// The master took this agent for another one: nothing it says can be trusted.
    fn identity_lost(&mut self, other: &AgentId) {
        let reason = format!("registered as {other}, but this agent has another id");
        self.act(Action::Stop {
            reason,
            fresh: false,
        });
    }

    pub(super) fn ping(&mut self, now: Time, from: String, connected: bool) {
        let is_obeyed = self.registration.master().map(address) == Some(address(&from));
        self.send(from, PongSlaveMessage {});
        if !is_obeyed {
            return;
        }
        let Registration::Registered {
            master,
            ping_timeout,
            silence,
        } = &mut self.registration
        else {
            return;
        };
        *silence = now + *ping_timeout;
        if !connected {
            // The master saw our connection break, and we did not.
            let master = master.clone();
            self.join(now, master);
        }
    }
}

/// Where a UPID's process listens.
fn address(pid: &str) -> &str {
    pid.split_once('@').map_or(pid, |(_, address)| address)
}

fn archive_of(framework: &Framework) -> archive::Framework {
    let executors = framework.completed.iter();
    let tasks = executors.flat_map(completed_tasks);
    archive::Framework {
        framework_info: framework.info.clone(),
        pid: framework.pid.clone(),
        tasks: tasks.collect(),
    }
}

fn completed_tasks(executor: &Executor) -> impl Iterator<Item = Task> {
    let records = executor.completed.iter();
    records.map(|record| record.to_task(executor))
}
