//! What a role is promised and how much it may have.

use std::collections::BTreeMap;

use dcos_core::resources::{Quantities, Scalar};
use dcos_proto::quota::{QuotaConfig, QuotaInfo};

/// The bounds of a role and everything below it; the default promises nothing and has no limit.
///
/// Both speak of what the role *consumes*: all that is reserved for it, held or not, and what it
/// holds of unreserved, non-revocable scalars. Nothing is taken away when a limit falls below the
/// consumption; there is only no more. Source: QU-2, QU-3, AL-5 to AL-7 of the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quota {
    /// What is kept free for the role until it consumes as much.
    pub guarantees: Quantities,
    /// What it may consume; names that are missing have no limit, zero means nothing at all.
    pub limits: BTreeMap<String, Scalar>,
}

impl Quota {
    /// Whether nothing is promised and nothing limited.
    pub fn is_default(&self) -> bool {
        self.guarantees.is_empty() && self.limits.is_empty()
    }

    /// What a configuration of the operator API says.
    pub fn from_config(config: &QuotaConfig) -> Self {
        let amounts = |(name, amount): (&String, &dcos_proto::mesos::value::Scalar)| {
            (name.clone(), Scalar::from_f64(amount.value))
        };
        Self {
            guarantees: config.guarantees.iter().map(amounts).collect(),
            limits: config.limits.iter().map(amounts).collect(),
        }
    }

    /// What the older form says: a guarantee that is a limit as well.
    pub fn from_info(info: &QuotaInfo) -> Self {
        let guarantees = Quantities::from_scalars(&info.guarantee);
        let limits = guarantees
            .iter()
            .map(|(name, amount)| (name.to_owned(), amount))
            .collect();
        Self { guarantees, limits }
    }
}
