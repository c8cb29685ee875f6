//! Turning an offer down at little cost.
//!
//! All services that wait look at each offer, and most of them in vain. What a service needs is read once ([`Needs`]), what
//! an offer has left is summed up once ([`Stock`]); a refusal is then a few comparisons. What is right is what
//! [`super::matches`] says: [`refusal`] gives the same reasons.

use super::{
    GpuScheduling, Placed, Reason, Reasons, Site, Supply, accepted_roles, amounts, constraints,
    ports,
};
use crate::model::App;

/// Cores, memory, disk and GPUs, in thousandths.
type Amounts = [i64; 4];

/// What an instance needs of any offer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Needs {
    amounts: Amounts,
    /// How many ports; `None` if it wants certain ones.
    ports: Option<usize>,
    /// Whether it takes what is reserved for its role, and what is for everybody.
    own: bool,
    common: bool,
    /// What it says itself about agents with GPUs.
    gpu_scheduling: Option<GpuScheduling>,
}

impl Needs {
    pub(crate) fn of(app: &App) -> Self {
        let roles = accepted_roles(app);
        Self {
            amounts: amounts(app).map(|(_, amount, _)| super::supply::thousandths(amount)),
            ports: ports::arbitrary(app),
            own: roles.contains(&app.role.as_str()),
            common: app.role != "*" && roles.contains(&"*"),
            gpu_scheduling: super::own_gpu_scheduling(app),
        }
    }

    /// Whether any ports will do.
    pub(crate) fn wants_any_ports(&self) -> bool {
        self.ports.is_some()
    }

    /// What there is against an instance beside a constraint that does not hold, and that; any ports will do, and the role is
    /// that of the site.
    pub(crate) fn turned_down(&self, site: &Site, stock: &Stock) -> Reasons {
        let mut reasons = self.reasons(site, stock);
        reasons.insert(Reason::UnfulfilledConstraint);
        if self.ports.is_some_and(|count| count > stock.ports(self)) {
            reasons.insert(Reason::InsufficientPorts);
        }
        reasons
    }

    /// What there is against an instance beside constraints and ports.
    fn reasons(&self, site: &Site, stock: &Stock) -> Reasons {
        let mut reasons = stock.missing(self);
        if site.maintenance {
            reasons.insert(Reason::AgentMaintenance);
        }
        let scheduling = self.gpu_scheduling.unwrap_or(site.gpu_scheduling);
        let wants_gpus = self.amounts[3] > 0;
        if site.has_gpus && !wants_gpus && scheduling == GpuScheduling::Restricted {
            reasons.insert(Reason::DeclinedScarceResources);
        }
        reasons
    }
}

/// What is left of an offer to one role: of what is reserved for the role, and of what is for everybody.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Stock {
    pub(super) own: Shelf,
    pub(super) common: Shelf,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Shelf {
    pub(super) amounts: Amounts,
    pub(super) ports: usize,
}

impl Stock {
    fn missing(&self, needs: &Needs) -> Reasons {
        let amount = |at: usize| {
            let own = if needs.own { self.own.amounts[at] } else { 0 };
            let common = if needs.common {
                self.common.amounts[at]
            } else {
                0
            };
            own + common
        };
        let mut missing = Reasons::default();
        let reasons = [
            Reason::InsufficientCpus,
            Reason::InsufficientMemory,
            Reason::InsufficientDisk,
            Reason::InsufficientGpus,
        ];
        for (at, reason) in reasons.into_iter().enumerate() {
            let wanted = needs.amounts[at];
            if wanted > 0 && wanted > amount(at) {
                missing.insert(reason);
            }
        }
        missing
    }

    fn ports(&self, needs: &Needs) -> usize {
        let own = if needs.own { self.own.ports } else { 0 };
        let common = if needs.common { self.common.ports } else { 0 };
        own + common
    }
}

/// The reasons [`super::matches`] gives against an instance of `app`; none if it finds what the instance takes.
///
/// `needs` are those of `app`, `stock` is what `supply` has for the role of `site`. Apps with persistent volumes are
/// matched by [`super::resident`].
pub(crate) fn refusal(
    app: &App,
    needs: &Needs,
    site: &Site,
    supply: &Supply,
    stock: &Stock,
    placed: &Placed,
) -> Reasons {
    if site.role != app.role {
        return Reason::UnfulfilledRole.into();
    }
    let mut reasons = needs.reasons(site, stock);
    if !constraints::hold(app, site, placed) {
        reasons.insert(Reason::UnfulfilledConstraint);
    }
    let has_ports = match needs.ports {
        Some(count) => count <= stock.ports(needs),
        None => ports::suffice(app, supply, &accepted_roles(app)),
    };
    if !has_ports {
        reasons.insert(Reason::InsufficientPorts);
    }
    reasons
}
