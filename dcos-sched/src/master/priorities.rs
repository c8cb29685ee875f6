//! Priorities of roles: who comes first, before shares are looked at.
//!
//! Ours; Mesos has none. They are kept and changed as weights are.

use std::collections::{BTreeMap, BTreeSet};

use dcos_core::roles;
use dcos_security::{Action, Object};

use super::{Master, Reply, registry};
use crate::allocator::Event as Allocation;

impl Master {
    /// `PUT /priorities`: all roles named, or none of them. Whoever may update the weight of a role
    /// may update its priority.
    pub(crate) fn prioritize(
        &mut self,
        principal: Option<&str>,
        named: Vec<(String, i32)>,
    ) -> Reply {
        let named = named.into_iter();
        let priorities: BTreeMap<String, i32> = named
            .map(|(role, priority)| (role.trim().to_owned(), priority))
            .collect();
        let mut all = priorities.keys();
        if !all.all(|role| self.may(principal, Action::UpdateWeight, &Object::value(role))) {
            return Reply::refused(403, "403 Forbidden.");
        }
        for role in priorities.keys() {
            if let Err(text) = self.check_role(role) {
                return Reply::refused(400, text);
            }
        }
        let changed: BTreeMap<String, i32> = priorities
            .into_iter()
            .filter(|(role, priority)| self.standing.priorities.get(role) != Some(priority))
            .collect();
        if changed.is_empty() {
            return Reply::Done;
        }
        self.store_priorities(&changed);
        self.standing_mut().priorities.extend(changed.clone());
        let roles: Vec<String> = changed.keys().cloned().collect();
        self.allocator
            .handle(self.now, Allocation::Priorities(changed));
        self.offer_anew(&roles);
        Reply::Done
    }

    fn check_role(&self, role: &str) -> Result<(), String> {
        roles::validate(role).map_err(|error| format!("Invalid role '{role}': {error}"))?;
        if self.is_whitelisted(role) {
            Ok(())
        } else {
            Err(format!("Unknown role '{role}'"))
        }
    }

    fn store_priorities(&mut self, priorities: &BTreeMap<String, i32>) {
        let writes = priorities.iter();
        let writes = writes.map(|(role, priority)| registry::put_priority(role, *priority));
        self.persist(writes.collect());
    }

    /// Priorities come from the registry; those of `--role_priorities` only seed an empty one.
    pub(crate) fn recover_priorities(&mut self) {
        let seed = self.settings.priorities.clone();
        if self.standing.priorities.is_empty() && !seed.is_empty() {
            self.store_priorities(&seed);
            self.standing_mut().priorities = seed;
        } else if !seed.is_empty() && seed != self.standing.priorities {
            tracing::warn!(
                "--role_priorities is not what the registry holds, which counts: PUT /priorities changes it"
            );
        }
        // The allocator began with those of the flag.
        let stored = &self.standing.priorities;
        let named: BTreeSet<&String> = self
            .settings
            .priorities
            .keys()
            .chain(stored.keys())
            .collect();
        let priorities: BTreeMap<String, i32> = named
            .into_iter()
            .map(|role| (role.clone(), stored.get(role).copied().unwrap_or(0)))
            .collect();
        if !priorities.is_empty() {
            self.allocator
                .handle(self.now, Allocation::Priorities(priorities));
        }
    }
}
