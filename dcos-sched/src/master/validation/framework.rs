//! What a framework may say about itself.

use std::collections::BTreeSet;

use dcos_core::{ids, roles};
use dcos_proto::mesos::FrameworkInfo;
use dcos_proto::mesos::framework_info::capability::Type as Capability;
use dcos_proto::scheduler::OfferConstraints;

use super::quota::scalar;
use crate::allocator::Constraints;
use crate::master::framework::{has_capability, roles_of};

/// The longest duration Mesos can hold: 2⁶³ nanoseconds, in seconds.
const LONGEST: f64 = 9_223_372_036.854_775;

pub(crate) fn info(info: &FrameworkInfo) -> Result<(), String> {
    check_roles(info)?;
    if let Some(id) = info.id.as_ref().filter(|id| !id.value.is_empty()) {
        ids::validate(&id.value).map_err(|error| error.to_string())?;
    }
    offer_filters(info)?;
    let timeout = info.failover_timeout.unwrap_or(0.0);
    // Mesos accepts negative timeouts within the range of its durations and gives up at once.
    if timeout.is_nan() || timeout.abs() > LONGEST {
        return Err(format!(
            "The framework failover_timeout ({timeout}) is invalid"
        ));
    }
    Ok(())
}

/// Filters of roles the framework does not have count for nothing, as in the original.
fn offer_filters(info: &FrameworkInfo) -> Result<(), String> {
    let minimums = info
        .offer_filters
        .values()
        .filter_map(|filters| filters.min_allocatable_resources.as_ref());
    for quantities in minimums.flat_map(|minimum| &minimum.quantities) {
        if quantities.quantities.is_empty() {
            return Err("Resource quantities must contain at least one quantity".to_owned());
        }
        for (name, amount) in &quantities.quantities {
            scalar(amount.value)
                .map_err(|error| format!("Invalid resource quantity for '{name}': {error}"))?;
        }
    }
    Ok(())
}

fn check_roles(info: &FrameworkInfo) -> Result<(), String> {
    if !has_capability(info, Capability::MultiRole) {
        if !info.roles.is_empty() {
            return Err("'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable".to_owned());
        }
        let role = info.role.as_deref().unwrap_or("*");
        return roles::validate(role)
            .map_err(|error| format!("'FrameworkInfo.role' is not a valid role: {error}"));
    }
    if info.role.is_some() {
        return Err(
            "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable"
                .to_owned(),
        );
    }
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<&str> = info
        .roles
        .iter()
        .map(String::as_str)
        .filter(|role| !seen.insert(*role))
        .collect();
    if !twice.is_empty() {
        let twice: Vec<&str> = twice.into_iter().collect();
        return Err(format!(
            "'FrameworkInfo.roles' contains duplicate items: {{ {} }}",
            twice.join(", ")
        ));
    }
    for role in &info.roles {
        roles::validate(role)
            .map_err(|error| format!("'FrameworkInfo.roles' contains invalid role: {error}"))?;
    }
    Ok(())
}

pub(crate) fn suppressed_roles(info: &FrameworkInfo, suppressed: &[String]) -> Result<(), String> {
    let own = roles_of(info);
    match suppressed.iter().find(|role| !own.contains(role)) {
        Some(role) => Err(format!(
            "Suppressed role '{role}' is not contained in the list of roles"
        )),
        None => Ok(()),
    }
}

pub(crate) fn offer_constraints(
    info: &FrameworkInfo,
    constraints: Option<&OfferConstraints>,
) -> Result<(), String> {
    constraints
        .map(Constraints::compile)
        .transpose()
        .map_err(|error| error.to_string())?;
    let own = roles_of(info);
    let mut named = constraints
        .into_iter()
        .flat_map(|constraints| constraints.role_constraints.keys());
    match named.find(|role| !own.contains(role)) {
        Some(role) => Err(format!(
            "`role_constraints` for a role '{role}' not contained in the set of roles"
        )),
        None => Ok(()),
    }
}

/// What may not change when a framework comes back.
pub(crate) fn update(old: &FrameworkInfo, new: &FrameworkInfo) -> Result<(), String> {
    if old.principal != new.principal {
        return Err("Changing framework's principal is not allowed.".to_owned());
    }
    Ok(())
}

/// What may not change in `UPDATE_FRAMEWORK` either.
pub(crate) fn immutable(old: &FrameworkInfo, new: &FrameworkInfo) -> Result<(), String> {
    if old.user != new.user {
        return Err(format!(
            "Updating 'FrameworkInfo.user' is unsupported; attempted to update from '{}' to '{}'",
            old.user, new.user
        ));
    }
    let (before, after) = (
        old.checkpoint.unwrap_or(false),
        new.checkpoint.unwrap_or(false),
    );
    if before != after {
        return Err(format!(
            "Updating 'FrameworkInfo.checkpoint' is unsupported; attempted to update from '{before}' to '{after}'"
        ));
    }
    Ok(())
}

/// Puts back what a framework that comes back can't change.
pub(crate) fn keep_immutable(old: &FrameworkInfo, new: &mut FrameworkInfo) {
    new.user.clone_from(&old.user);
    new.checkpoint = old.checkpoint;
}
