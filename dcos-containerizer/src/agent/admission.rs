//! Which drivers are heard. Whoever reaches the agent's port can send a driver's messages, so a
//! driver is taken in only while its executor is waited for, and later heard only from the UPID
//! that was taken in.
//!
//! Executors on the HTTP API are asked who they are where HTTP is served (`http/executors.rs`).
//!
//! Source: Mesos 1.11 `Slave::registerExecutor`, `reregisterExecutor`, `statusUpdate`. Departures:
//! an executor comes back from the UPID it had (the original believes whoever is first), speaks
//! for its own tasks only, and with `--authenticate_http_executors` no new driver is heard, since it
//! has no way to show a token.

use std::net::SocketAddr;
use std::time::Duration;

use dcos_core::time::Time;
use dcos_proto::executor::call;
use dcos_proto::internal::StatusUpdate;
use dcos_proto::mesos::{ExecutorId, FrameworkId, TaskState, TaskStatus};

use super::core::Agent;
use super::records::{Executor, ExecutorKey, ExecutorState};
use super::words::{Action, FromDriver};

/// Why a driver is not taken in.
struct Refused {
    reason: &'static str,
    /// Whether it is told to end; one that works for an executor already is not, nor is the master.
    shutdown: bool,
}

/// So many drivers a second are answered that they are not heard; beyond that they hear nothing.
const REFUSALS: u32 = 10;

const NO_TOKEN: &str = "executors must show a token (--authenticate_http_executors), and libmesos' driver cannot; \
     let the executor use the v1 HTTP API";

impl Agent {
    /// The driver at `from` says something.
    pub(super) fn driver(&mut self, now: Time, from: String, message: FromDriver) {
        match message {
            FromDriver::Register(message) => {
                let key = key(message.framework_id, message.executor_id);
                self.take_in(now, key, from, None);
            }
            FromDriver::Reregister(message) => {
                let key = key(message.framework_id, message.executor_id);
                let said = (message.updates, message.tasks);
                self.take_in(now, key, from, Some(said));
            }
            FromDriver::Update(message) => {
                let executor = message.update.executor_id.clone().unwrap_or_default();
                let key = key(message.update.framework_id.clone(), executor);
                let heard = self.hears(&key, &from);
                match heard.and_then(|()| self.reported(&key, message.update)) {
                    Ok(status) if status.state() == TaskState::TaskStaging => {
                        self.invalid_update(key.clone(), from, "no executor may say TASK_STAGING");
                        self.shutdown_executor(now, &key);
                    }
                    Ok(status) => self.executor_update(now, &key, status),
                    Err(reason) => self.invalid_update(key, from, reason),
                }
            }
            FromDriver::ToFramework(message) => {
                let key = key(message.framework_id, message.executor_id);
                match self.hears(&key, &from) {
                    Ok(()) => self.executor_message(key, message.data),
                    Err(reason) => {
                        self.counters.invalid_framework_messages += 1;
                        self.turn_away(key, from, reason, false);
                    }
                }
            }
        }
    }

    /// A driver registers: with an earlier agent too, if it tells what that did not acknowledge.
    fn take_in(
        &mut self,
        now: Time,
        key: ExecutorKey,
        pid: String,
        before: Option<(Vec<StatusUpdate>, Vec<dcos_proto::mesos::TaskInfo>)>,
    ) {
        let again = before.is_some();
        if let Err(Refused { reason, shutdown }) = self.may_register(&key, &pid, again) {
            // Each answer may need a connection to wherever the message says it comes from.
            if self.refusals.0 + Duration::from_secs(1) <= now {
                self.refusals = (now, 0);
            }
            self.refusals.1 = self.refusals.1.saturating_add(1);
            if self.refusals.1 <= REFUSALS {
                self.turn_away(key, pid, reason, shutdown);
            }
            return;
        }
        let mut subscribe = call::Subscribe::default();
        let (updates, tasks) = before.unwrap_or_default();
        subscribe.unacknowledged_tasks = tasks;
        for update in updates {
            match self.reported(&key, update) {
                Ok(status) => subscribe
                    .unacknowledged_updates
                    .push(call::Update { status }),
                Err(reason) => self.invalid_update(key.clone(), pid.clone(), reason),
            }
        }
        self.act(Action::Admit {
            executor: key.clone(),
            pid: pid.clone(),
            again,
        });
        self.subscribe(now, &key, subscribe, Some(pid));
    }

    fn may_register(&self, key: &ExecutorKey, pid: &str, again: bool) -> Result<(), Refused> {
        // Told to end, an executor would be lost to a copy of its message, or to a forged one.
        let connected = self.executors().filter(|other| other.connected);
        let known = connected.filter_map(|other| other.pid.as_deref());
        let at = place(pid);
        let works = known
            .chain(self.registration.master())
            .any(|other| place(other) == at);
        let shutdown = |reason| Refused {
            reason,
            shutdown: !works,
        };
        let executor = self.executor(key).filter(|it| it.hosted.is_none());
        // One that began before proofs were asked for, or with an original agent, may come back to where it was.
        let returns = |it: &Executor| again && it.is_awaited() && it.pid.as_deref() == Some(pid);
        if !self.settings.drivers && !executor.is_some_and(returns) {
            return Err(shutdown(NO_TOKEN));
        }
        let Some(executor) = executor else {
            return Err(shutdown("there is no such executor"));
        };
        match executor.state {
            ExecutorState::Registering if executor.is_awaited() != again => {
                Err(shutdown("it is not the executor that is waited for"))
            }
            ExecutorState::Registering if again && executor.pid.as_deref() != Some(pid) => {
                Err(shutdown("the executor was at another UPID"))
            }
            ExecutorState::Registering => Ok(()),
            // Whoever calls drivers repeatedly hears some repeatedly.
            ExecutorState::Running
                if again
                    && self
                        .settings
                        .executor_reregistration_retry_interval
                        .is_some() =>
            {
                Err(Refused {
                    reason: "the executor is registered already",
                    shutdown: false,
                })
            }
            ExecutorState::Running => Err(shutdown("the executor is registered already")),
            ExecutorState::Terminating | ExecutorState::Terminated => {
                Err(shutdown("the executor has to end"))
            }
        }
    }

    /// Whether `pid` speaks for an executor.
    fn hears(&self, key: &ExecutorKey, pid: &str) -> Result<(), &'static str> {
        match self.executor(key) {
            None => Err("there is no such executor"),
            Some(Executor { pid: Some(at), .. }) if at == pid => Ok(()),
            Some(_) => Err("the executor is not at this UPID"),
        }
    }

    /// What an update says; the status is as good as one that came by HTTP.
    fn reported(
        &self,
        key: &ExecutorKey,
        update: StatusUpdate,
    ) -> Result<TaskStatus, &'static str> {
        let executor = update.executor_id.unwrap_or_default();
        if update.framework_id != key.framework || executor != key.executor {
            return Err("the update is another executor's");
        }
        let Some(uuid) = update.uuid.filter(|uuid| uuid.len() == 16) else {
            return Err("the update has no uuid of 16 bytes");
        };
        // Nobody would ever acknowledge it. Not all drivers say in both places whose it is.
        let said = [&update.agent_id, &update.status.agent_id];
        if said
            .into_iter()
            .flatten()
            .any(|id| Some(id) != self.info.id.as_ref())
        {
            return Err("the update is of another agent");
        }
        Ok(TaskStatus {
            uuid: Some(uuid),
            ..update.status
        })
    }

    fn invalid_update(&mut self, key: ExecutorKey, from: String, reason: &'static str) {
        self.counters.invalid_status_updates += 1;
        self.turn_away(key, from, reason, false);
    }

    fn turn_away(
        &mut self,
        executor: ExecutorKey,
        pid: String,
        reason: &'static str,
        shutdown: bool,
    ) {
        self.act(Action::Refuse {
            executor,
            pid,
            reason,
            shutdown,
        });
    }
}

/// Where a UPID's process listens, however its address is written.
fn place(pid: &str) -> Option<SocketAddr> {
    let (_, address) = pid.rsplit_once('@')?;
    let address: SocketAddr = address.parse().ok()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

fn key(framework: FrameworkId, executor: ExecutorId) -> ExecutorKey {
    ExecutorKey {
        framework,
        executor,
    }
}
