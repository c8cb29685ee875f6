//! The connection to the master: who we are there, whether we want offers, comparing all tasks.

use dcos_proto::mesos::{AgentId, FrameworkId, TaskId};
use dcos_proto::scheduler::{call, event};

use super::{Core, rows};
use crate::Timestamp;
use crate::config::Config;
use crate::event::Event;

/// How the connection to the master stands.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    pub(super) connected: bool,
    /// The region the master is in.
    pub(super) home_region: Option<String>,
    /// The master's address.
    pub(super) master: Option<String>,
    /// There is more to launch than when offers were last asked for.
    pub(super) wanted: bool,
    /// Offers do not come any more at our own wish.
    suppressed: bool,
    last_revive: Option<Timestamp>,
    last_reconciliation: Option<Timestamp>,
}

impl Subscription {
    pub(super) fn next_deadline(&self, config: &Config) -> Option<Timestamp> {
        if !self.connected {
            return None;
        }
        let reconcile = self
            .last_reconciliation
            .map(|at| at + config.reconciliation_interval);
        let revive = self
            .last_revive
            .filter(|_| self.wanted)
            .map(|at| at + config.min_revive_offers_interval);
        reconcile.into_iter().chain(revive).min()
    }
}

impl Core {
    pub(super) fn subscribed(&mut self, now: Timestamp, subscribed: &event::Subscribed) {
        let id: &FrameworkId = &subscribed.framework_id;
        let master = subscribed.master_info.as_ref();
        let address = master.map(|master| {
            let address = master.address.as_ref();
            let host = address
                .and_then(|address| address.hostname.clone().or_else(|| address.ip.clone()))
                .or_else(|| master.hostname.clone())
                .unwrap_or_default();
            let port = address.map_or(5050, |address| address.port);
            format!("{host}:{port}")
        });
        let address = address.unwrap_or_default();
        if self.framework_id.as_ref() == Some(id) {
            self.batch.events.push(Event::reregistered(now, &address));
        } else {
            self.batch.rows.push(rows::framework(&id.value));
            self.framework_id = Some(id.clone());
            self.batch
                .events
                .push(Event::registered(now, &id.value, &address));
        }
        let region = master
            .and_then(|master| master.domain.as_ref())
            .and_then(|domain| domain.fault_domain.as_ref())
            .map(|domain| domain.region.name.clone());
        self.subscription = Subscription {
            connected: true,
            home_region: region,
            master: Some(address),
            wanted: self.queue.entries().next().is_some(),
            ..Subscription::default()
        };
        // What was sent before may be lost with the old connection.
        for sent in self.kills.values_mut() {
            *sent = None;
        }
        self.reconcile(now);
    }

    pub(super) fn disconnected(&mut self, now: Timestamp) {
        if std::mem::take(&mut self.subscription.connected) {
            self.batch.events.push(Event::disconnected(now));
        }
    }

    pub(super) fn reconcile_if_due(&mut self, now: Timestamp) {
        let interval = self.config.reconciliation_interval;
        let due = self
            .subscription
            .last_reconciliation
            .is_some_and(|last| last + interval <= now);
        if self.subscription.connected && due {
            self.reconcile(now);
        }
    }

    /// Asks the master about each task we know, then about all it knows.
    fn reconcile(&mut self, now: Timestamp) {
        self.subscription.last_reconciliation = Some(now);
        let tasks: Vec<_> = self
            .all_instances()
            .map(|instance| call::reconcile::Task {
                task_id: TaskId::from(instance.task_id.as_str()),
                agent_id: Some(AgentId::from(instance.agent.id.as_str())),
            })
            .collect();
        if !tasks.is_empty() {
            let reconcile = call::Reconcile { tasks };
            self.call(call::Type::Reconcile, |call| {
                call.reconcile = Some(reconcile)
            });
        }
        self.call(call::Type::Reconcile, |call| {
            call.reconcile = Some(call::Reconcile::default())
        });
    }

    /// Asks for offers when there is something new to launch, and for none when there is nothing.
    pub(super) fn ask_for_offers(&mut self, now: Timestamp) {
        if !self.subscription.connected {
            return;
        }
        let due = self.queue.due(now);
        let held_back = self.held.iter().any(|app| due.contains(app));
        self.held = self
            .queue
            .entries()
            .map(|entry| entry.spec.id.clone())
            .filter(|app| !due.contains(app))
            .collect();
        self.subscription.wanted |= held_back;
        if due.is_empty() {
            self.subscription.wanted = false;
            let idle = self.queue.entries().next().is_none();
            if idle && !std::mem::replace(&mut self.subscription.suppressed, true) {
                self.counters.suppresses += 1;
                self.call(call::Type::Suppress, |call| {
                    call.suppress = Some(call::Suppress::default());
                });
            }
            return;
        }
        let rested = self
            .subscription
            .last_revive
            .is_none_or(|last| last + self.config.min_revive_offers_interval <= now);
        if self.subscription.wanted && rested {
            self.subscription.wanted = false;
            self.subscription.suppressed = false;
            self.subscription.last_revive = Some(now);
            self.counters.revives += 1;
            self.call(call::Type::Revive, |call| {
                call.revive = Some(call::Revive::default())
            });
        }
    }
}
