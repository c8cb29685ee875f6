//! Who we are to the master, and comparing all tasks with it.

use dcos_proto::mesos::FrameworkId;
use dcos_proto::scheduler::{call, event};

use super::{Core, rows};
use crate::Timestamp;
use crate::event::Event;

impl Core {
    pub(super) fn subscribed(&mut self, now: Timestamp, subscribed: &event::Subscribed) {
        let waits = self.queue.entries().next().is_some() || !self.releasing.is_empty();
        self.subscription.begin(now, subscribed, waits);
        let address = self.subscription.master().cloned().unwrap_or_default();
        let id: &FrameworkId = &subscribed.framework_id;
        if self.framework_id.as_ref() == Some(id) {
            self.batch.events.push(Event::reregistered(now, &address));
        } else {
            let before = self.framework_id.replace(id.clone());
            self.former_ids.extend(before.map(|id| id.value));
            self.put_framework();
            self.batch
                .events
                .push(Event::registered(now, &id.value, &address));
        }
        self.kills.forget_sent();
        self.renew_deadlines();
        self.reconcile(now);
    }

    /// Its id goes; what is reserved in its name stays.
    pub(super) fn framework_ended(&mut self) {
        if let Some(id) = self.framework_id.take() {
            self.former_ids.push(id.value);
            self.put_framework();
        }
    }

    fn put_framework(&mut self) {
        let id = self.framework_id.as_ref().map(|id| id.value.as_str());
        let row = rows::framework(id.unwrap_or_default(), &self.former_ids);
        self.batch.rows.push(row);
    }

    /// The framework's id, and those it had before.
    pub(super) fn own_ids(&self) -> Vec<String> {
        let id = self.framework_id.iter().map(|id| &id.value);
        id.chain(&self.former_ids).cloned().collect()
    }

    pub(super) fn disconnected(&mut self, now: Timestamp) {
        if self.subscription.end() {
            self.renew_deadlines();
            self.batch.events.push(Event::disconnected(now));
        }
    }

    pub(super) fn reconcile(&mut self, now: Timestamp) {
        let instances = self.instances.values().flat_map(|of_app| of_app.values());
        let calls = self
            .subscription
            .reconcile(now, instances.map(AsRef::as_ref));
        for call in calls {
            self.send(call);
        }
    }

    pub(super) fn ask_for_offers(&mut self, now: Timestamp) {
        let Some(call) =
            self.subscription
                .ask(now, &self.queue, &self.config, !self.releasing.is_empty())
        else {
            return;
        };
        match call.r#type() {
            call::Type::Revive => self.counters.revives += 1,
            _ => self.counters.suppresses += 1,
        }
        self.send(call);
    }
}
