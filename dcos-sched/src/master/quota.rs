//! Quota: what a role is guaranteed, and what it may have at most.
//!
//! Rules QU-2 to QU-5 of the conformance inventory; Mesos 1.11 `src/master/quota_handler.cpp`. The
//! allocator enforces both; here they are checked, stored, and offers in their way are taken back.

use std::collections::BTreeMap;

use dcos_core::resources::convert::upgrade_all;
use dcos_core::resources::{Quantities, Resources, Scalar, scalar_resource, validate_all};
use dcos_proto::mesos::master_info::capability::Type as Ability;
use dcos_proto::mesos::value;
use dcos_proto::mesos::{Offer, OfferId};
use dcos_proto::quota::{QuotaConfig, QuotaInfo, QuotaRequest};

use super::breakdown::{Breakdown, amounts};
use super::validation::quota as check;
use super::{Master, Reply, convert, registry};
use crate::allocator::{Event as Allocation, Quota};

/// Whether `amounts` are within limits.
pub(crate) fn within(amounts: &Quantities, limits: &BTreeMap<String, Scalar>) -> bool {
    let mut limits = limits.iter();
    limits.all(|(name, limit)| amounts.get(name) <= *limit)
}

/// Limits as the original writes them in its answers.
pub(crate) fn show_limits(limits: &BTreeMap<String, Scalar>) -> String {
    let shown: Vec<String> = limits
        .iter()
        .map(|(name, limit)| format!("{name}:{limit}"))
        .collect();
    or_braces(shown.join("; "))
}

/// Amounts as the original writes them in its answers.
pub(crate) fn show(amounts: &Quantities) -> String {
    or_braces(amounts.to_string())
}

fn or_braces(text: String) -> String {
    if text.is_empty() {
        "{}".to_owned()
    } else {
        text
    }
}

/// A role's quota as a message.
pub(crate) fn config_of(role: &str, quota: &Quota) -> QuotaConfig {
    let scalar = |amount: Scalar| value::Scalar {
        value: amount.as_f64(),
    };
    let guarantees = quota.guarantees.iter();
    let limits = quota.limits.iter();
    QuotaConfig {
        role: role.to_owned(),
        guarantees: guarantees
            .map(|(name, amount)| (name.to_owned(), scalar(amount)))
            .collect(),
        limits: limits
            .map(|(name, limit)| (name.clone(), scalar(*limit)))
            .collect(),
    }
}

/// The same in the older form, in which only guarantees can be told.
pub(crate) fn info_of(role: &str, quota: &Quota) -> QuotaInfo {
    let guarantees = quota.guarantees.iter();
    QuotaInfo {
        role: Some(role.to_owned()),
        principal: None,
        guarantee: guarantees
            .map(|(name, amount)| scalar_resource(name, amount.as_f64()))
            .collect(),
    }
}

impl Master {
    /// `UPDATE_QUOTA`: all roles named, or none of them. Everything is looked through once, however many those are.
    pub(crate) fn update_quota(&mut self, configs: &[QuotaConfig], force: bool) -> Reply {
        let mut held = self.breakdown();
        match self.check_quotas(configs, force, &held) {
            Ok(()) => {
                self.change_quotas(configs);
                for config in configs {
                    self.rescind_for_limits(config, &mut held);
                    self.rescind_for_guarantees(config, &mut held);
                }
                Reply::Done
            }
            Err(text) => Reply::refused(400, text),
        }
    }

    fn check_quotas(
        &self,
        configs: &[QuotaConfig],
        force: bool,
        held: &Breakdown,
    ) -> Result<(), String> {
        for config in configs {
            let role = &config.role;
            if !self.is_whitelisted(role) {
                return Err(format!(
                    "Invalid QuotaConfig: '{role}' is not on the roles whitelist"
                ));
            }
            check::flat(role).map_err(|_| {
                format!("Updating quota on nested role '{role}' is not supported yet")
            })?;
            check::config(config).map_err(|error| format!("Invalid QuotaConfig: {error}"))?;
        }
        if force {
            return Ok(());
        }
        for config in configs {
            let limits = Quota::from_config(config).limits;
            let consumed = held.role(&config.role).consumed();
            if !within(&consumed, &limits) {
                return Err(format!(
                    "Invalid QuotaConfig: Role '{}' is already consuming '{}'; this is more than the requested limits '{}' (use 'force' flag to bypass this check)",
                    config.role,
                    show(&consumed),
                    show_limits(&limits)
                ));
            }
        }
        self.check_capacity(configs).map_err(|(total, capacity)| {
            format!(
                "Invalid QuotaConfig: total quota guarantees '{}' exceed cluster capacity '{}' (use 'force' flag to bypass this check)",
                show(&total),
                show(&capacity)
            )
        })
    }

    fn breakdown(&self) -> Breakdown {
        Breakdown::of(&self.frameworks, &self.agents, &self.offers)
    }

    /// Whether all guarantees together, with those of `configs`, are there at all; disconnected
    /// agents count, since they are expected back.
    fn check_capacity(&self, configs: &[QuotaConfig]) -> Result<(), (Quantities, Quantities)> {
        let mut quotas = self.standing.quotas.clone();
        for config in configs {
            quotas.insert(config.role.clone(), Quota::from_config(config));
        }
        let mut total = Quantities::default();
        for quota in quotas.values() {
            total.add_all(&quota.guarantees);
        }
        let mut capacity = Quantities::default();
        for agent in self.agents.values() {
            let lasting = agent.total.filter(|resource| resource.revocable.is_none());
            capacity.add_all(&lasting.scalar_quantities());
        }
        if capacity.contains(&total) {
            Ok(())
        } else {
            Err((total, capacity))
        }
    }

    /// Stores quotas and tells the allocator.
    fn change_quotas(&mut self, configs: &[QuotaConfig]) {
        let mut writes = Vec::new();
        let mut changed = BTreeMap::new();
        for config in configs {
            let (role, quota) = (&config.role, Quota::from_config(config));
            let quotas = &mut self.standing_mut().quotas;
            if quota.is_default() {
                quotas.remove(role);
                writes.push(registry::delete_quota(role));
            } else {
                quotas.insert(role.clone(), quota.clone());
                writes.push(registry::put_quota(config));
            }
            changed.insert(role.clone(), quota);
        }
        if !writes.is_empty() {
            writes.push(registry::put_needed(Ability::QuotaV2));
            self.persist(writes);
            self.allocator.handle(self.now, Allocation::Quotas(changed));
        }
    }

    /// Takes back offers to the role until what it has is within its limits. What is offered may
    /// be reserved and so be counted twice: too much is taken back rather than too little.
    fn rescind_for_limits(&mut self, config: &QuotaConfig, held: &mut Breakdown) {
        let limits = Quota::from_config(config).limits;
        let mut has = held.role(&config.role).promised();
        if within(&has, &limits) {
            return;
        }
        for id in self.offers_by_kinship(&config.role, true) {
            has.remove_all(&self.take_back(&id, held));
            if within(&has, &limits) {
                return;
            }
        }
    }

    /// Takes back offers to others until the role's guarantees could be met from them.
    fn rescind_for_guarantees(&mut self, config: &QuotaConfig, held: &mut Breakdown) {
        let wanted = Quota::from_config(config).guarantees;
        let mut has = held.role(&config.role).promised();
        if has.contains(&wanted) {
            return;
        }
        for id in self.offers_by_kinship(&config.role, false) {
            has.add_all(&self.take_back(&id, held));
            if has.contains(&wanted) {
                return;
            }
        }
    }

    /// Rescinds an offer; what was in it.
    fn take_back(&mut self, id: &OfferId, held: &mut Breakdown) -> Quantities {
        let Some(offer) = self.offers.get(id) else {
            return Quantities::default();
        };
        let resources = Resources::from(&offer.resources);
        held.take_back(&resources);
        self.rescind(id);
        amounts(&resources)
    }

    /// Offers to the role and those below it, or all the others.
    fn offers_by_kinship(&self, role: &str, kin: bool) -> Vec<OfferId> {
        let is_kin = |offer: &Offer| {
            let own = convert::role_of(offer);
            own == role || dcos_core::roles::is_strict_subrole(&own, role)
        };
        let offers = self.offers.iter();
        let wanted = offers.filter(|(_, offer)| is_kin(offer) == kin);
        wanted.map(|(id, _)| id.clone()).collect()
    }

    /// `SET_QUOTA`, `POST /quota`: the older way, in which a guarantee is a limit too.
    pub(crate) fn set_quota(&mut self, _principal: Option<&str>, request: QuotaRequest) -> Reply {
        let force = request.force();
        let config = match self.checked_request(request) {
            Ok(config) => config,
            Err(text) => return Reply::refused(400, text),
        };
        if !force && let Err((total, capacity)) = self.check_capacity(std::slice::from_ref(&config))
        {
            let text = format!(
                "Quota guarantees overcommit the cluster (use 'force' to bypass this check): Total quota guarantees '{}' exceed cluster capacity '{}'",
                show(&total),
                show(&capacity)
            );
            return Reply::refused(409, text);
        }
        self.change_quotas(std::slice::from_ref(&config));
        self.rescind_for_request(&config);
        Reply::Done
    }

    fn checked_request(&self, request: QuotaRequest) -> Result<QuotaConfig, String> {
        const WHAT: &str = "Failed to validate set quota request";
        let mut info = QuotaInfo {
            role: Some(request.role.unwrap_or_default()),
            principal: None,
            guarantee: request.guarantee,
        };
        validate_all(&info.guarantee)
            .map_err(|error| format!("{WHAT}: QuotaInfo with invalid resource: {error}"))?;
        upgrade_all(&mut info.guarantee);
        check::info(&info).map_err(|error| format!("{WHAT}: {error}"))?;
        let role = info.role().to_owned();
        if !self.is_whitelisted(&role) {
            return Err(format!("{WHAT}: Unknown role '{role}'"));
        }
        if self.standing.quotas.contains_key(&role) {
            return Err(format!(
                "{WHAT}: Cannot set quota for role '{role}' which already has quota"
            ));
        }
        self.check_parent(&info)
            .map_err(|error| format!("{WHAT}: {error}"))?;
        check::flat(&role)
            .map_err(|_| format!("Setting quota on nested role '{role}' is not supported yet"))?;
        let amounts: BTreeMap<String, value::Scalar> = info
            .guarantee
            .into_iter()
            .filter_map(|resource| Some((resource.name, resource.scalar?)))
            .collect();
        Ok(QuotaConfig {
            role,
            guarantees: amounts.clone(),
            limits: amounts,
        })
    }

    /// A role's guarantees have to be within those of the one above it.
    fn check_parent(&self, info: &QuotaInfo) -> Result<(), String> {
        let Some(parent) = dcos_core::roles::ancestors(info.role()).next() else {
            return Ok(());
        };
        let has = self
            .standing
            .quotas
            .get(parent)
            .cloned()
            .unwrap_or_default();
        let wanted = Quantities::from_scalars(&info.guarantee);
        if has.guarantees.contains(&wanted) {
            return Ok(());
        }
        let name = parent.rsplit('/').next().unwrap_or(parent);
        Err(format!(
            "Invalid quota configuration. Parent role '{name}' with guarantees ({}) does not contain the sum of its children's guarantees ({})",
            show(&has.guarantees),
            show(&wanted)
        ))
    }

    /// Takes back offers, agent by agent, until they hold what is guaranteed and as many agents
    /// are free as the role has frameworks.
    fn rescind_for_request(&mut self, config: &QuotaConfig) {
        let wanted = Quota::from_config(config).guarantees;
        let waiting = self
            .frameworks
            .values()
            .filter(|framework| framework.active && framework.roles().contains(&config.role));
        let mut waiting = waiting.count();
        let mut freed = Quantities::default();
        let agents: Vec<_> = self
            .agents
            .values()
            .filter(|agent| agent.active && !agent.offers.is_empty())
            .map(|agent| agent.offers.clone())
            .collect();
        for offers in agents {
            if freed.contains(&wanted) && waiting == 0 {
                return;
            }
            for id in offers {
                if let Some(offer) = self.offers.get(&id) {
                    freed.add_all(&amounts(&Resources::from(&offer.resources)));
                    self.rescind(&id);
                }
            }
            waiting = waiting.saturating_sub(1);
        }
    }

    /// `REMOVE_QUOTA`, `DELETE /quota/<role>`.
    pub(crate) fn remove_quota(&mut self, role: &str) -> Reply {
        if !self.standing.quotas.contains_key(role) {
            let text = format!("Failed to remove quota: Role '{role}' has no quota set");
            return Reply::refused(400, text);
        }
        let nothing = QuotaConfig {
            role: role.to_owned(),
            ..QuotaConfig::default()
        };
        self.change_quotas(&[nothing]);
        Reply::Done
    }
}
