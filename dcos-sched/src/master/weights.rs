//! Weights of roles: how much of the cluster a role is due beside its siblings.
//!
//! Rules QU-1 of the conformance inventory; Mesos 1.11 `src/master/weights_handler.cpp`.

use std::collections::{BTreeMap, BTreeSet};

use dcos_core::roles;
use dcos_proto::mesos::{OfferId, WeightInfo};

use super::{Master, Reply, registry};
use crate::allocator::Event as Allocation;

impl Master {
    /// `UPDATE_WEIGHTS`, `PUT /weights`: all roles named, or none of them.
    pub(crate) fn update_weights(&mut self, infos: Vec<WeightInfo>) -> Reply {
        let weights = match self.checked_weights(infos) {
            Ok(weights) => weights,
            Err(text) => return Reply::refused(400, text),
        };
        if weights.is_empty() {
            return Reply::Done;
        }
        let writes = weights
            .iter()
            .map(|(role, weight)| registry::put_weight(role, *weight))
            .collect();
        self.persist(writes);
        self.standing_mut().weights.extend(weights.clone());
        let roles: Vec<String> = weights.keys().cloned().collect();
        self.allocator
            .handle(self.now, Allocation::Weights(weights));
        self.offer_anew(&roles);
        Reply::Done
    }

    /// Takes back what is offered if one of these roles is in use, so that it is shared anew.
    pub(crate) fn offer_anew(&mut self, roles: &[String]) {
        if roles.iter().any(|role| self.is_in_use(role)) {
            let offers: Vec<OfferId> = self.offers.keys().cloned().collect();
            for offer in offers {
                self.rescind(&offer);
            }
        }
    }

    fn checked_weights(&self, infos: Vec<WeightInfo>) -> Result<BTreeMap<String, f64>, String> {
        const WHAT: &str = "Failed to validate update weights request JSON";
        let mut weights = BTreeMap::new();
        for info in infos {
            let role = info.role().trim().to_owned();
            roles::validate(&role)
                .map_err(|error| format!("{WHAT}: Invalid role '{role}': {error}"))?;
            if !self.is_whitelisted(&role) {
                return Err(format!("{WHAT}: Unknown role '{role}'"));
            }
            if info.weight <= 0.0 || !info.weight.is_finite() {
                return Err(format!(
                    "{WHAT} for role '{role}': Invalid weight '{}': Weights must be positive",
                    info.weight
                ));
            }
            weights.insert(role, info.weight);
        }
        Ok(weights)
    }

    /// Whether frameworks may use a role at all (`--roles`).
    pub(crate) fn is_whitelisted(&self, role: &str) -> bool {
        let allowed = self.settings.roles.as_ref();
        role == roles::DEFAULT || allowed.is_none_or(|allowed| allowed.contains(role))
    }

    /// Whether a framework is subscribed to the role or to one below it, or holds something there.
    fn is_in_use(&self, role: &str) -> bool {
        let within = |own: &str| {
            let below = own.strip_prefix(role);
            below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.frameworks.values().any(|framework| {
            let mut used = framework.used.values();
            framework.roles().iter().any(|own| within(own))
                || used.any(|used| used.allocations().keys().any(|own| within(own)))
        })
    }

    /// Weights come from the registry; those of `--weights` only seed an empty one.
    pub(crate) fn recover_weights(&mut self) {
        let seed = self.settings.weights.clone();
        if self.standing.weights.is_empty() && !seed.is_empty() {
            let writes = seed
                .iter()
                .map(|(role, weight)| registry::put_weight(role, *weight))
                .collect();
            self.persist(writes);
            self.standing_mut().weights = seed;
        }
        // The allocator began with those of the flag.
        let named: BTreeSet<String> = self
            .settings
            .weights
            .keys()
            .chain(self.standing.weights.keys())
            .cloned()
            .collect();
        let weights = named.into_iter().map(|role| {
            let weight = self.standing.weights.get(&role).copied().unwrap_or(1.0);
            (role, weight)
        });
        let weights: BTreeMap<String, f64> = weights.collect();
        if !weights.is_empty() {
            self.allocator
                .handle(self.now, Allocation::Weights(weights));
        }
    }
}
