//! What a quota may say.
//!
//! Source: Mesos 1.11 `src/master/quota.cpp`.

use std::collections::{BTreeMap, BTreeSet};

use dcos_core::roles;
use dcos_proto::mesos::value::{Scalar, Type};
use dcos_proto::quota::{QuotaConfig, QuotaInfo};

use crate::allocator::Quota;
use crate::master::quota::within;

/// The most there may be of memory and disk, in megabytes: an exabyte.
const EXABYTE: i64 = 1 << 40;

/// The most there may be of anything else.
const TRILLION: i64 = 1_000_000_000_000;

/// A role that is below another one.
pub(crate) struct Nested;

/// Quota is for roles at the top only (QU-4).
pub(crate) fn flat(role: &str) -> Result<(), Nested> {
    if role.contains('/') {
        Err(Nested)
    } else {
        Ok(())
    }
}

pub(crate) fn config(config: &QuotaConfig) -> Result<(), String> {
    roles::validate(&config.role)
        .map_err(|error| format!("Invalid 'QuotaConfig.role': {error}"))?;
    for (what, amounts) in [
        ("guarantees", &config.guarantees),
        ("limits", &config.limits),
    ] {
        not_too_large(amounts).map_err(|error| format!("Invalid 'QuotaConfig.{what}': {error}"))?;
    }
    for (what, amounts) in [("guarantee", &config.guarantees), ("limit", &config.limits)] {
        for (name, amount) in amounts {
            scalar(amount.value).map_err(|error| {
                format!(
                    "Invalid {what} configuration {{'{name}': {}}}: {error}",
                    amount.value
                )
            })?;
        }
    }
    let quota = Quota::from_config(config);
    if within(&quota.guarantees, &quota.limits) {
        return Ok(());
    }
    Err(format!(
        "'QuotaConfig.guarantees' {} is not contained within the 'QuotaConfig.limits' {}",
        shown(&config.guarantees),
        shown(&config.limits)
    ))
}

fn not_too_large(amounts: &BTreeMap<String, Scalar>) -> Result<(), String> {
    #[expect(clippy::cast_precision_loss, reason = "both are exact as doubles")]
    let above = |amount: &Scalar, most: i64| amount.value > most as f64;
    for (name, amount) in amounts {
        let (most, said) = match name.as_str() {
            "mem" | "disk" => (EXABYTE, "1 exabyte"),
            _ => (TRILLION, "1 trillion"),
        };
        if above(amount, most) {
            return Err(format!(
                "{{'{name}': {}}} is invalid: values greater than {said} ({most}) are not supported",
                amount.value
            ));
        }
    }
    Ok(())
}

/// What no amount may be.
pub(crate) fn scalar(value: f64) -> Result<(), &'static str> {
    if value.is_infinite() {
        Err("Infinite values not supported")
    } else if value.is_nan() {
        Err("NaN not supported")
    } else if value.is_subnormal() {
        Err("Subnormal values not supported")
    } else if value < 0.0 {
        Err("Negative values not supported")
    } else {
        Ok(())
    }
}

/// A map as the original's library prints it.
fn shown(amounts: &BTreeMap<String, Scalar>) -> String {
    let entries: Vec<String> = amounts
        .iter()
        .map(|(name, amount)| format!("{name}: {}", amount.value))
        .collect();
    format!("{{ {} }}", entries.join(", "))
}

pub(crate) fn info(info: &QuotaInfo) -> Result<(), String> {
    let Some(role) = &info.role else {
        return Err("QuotaInfo must specify a role".to_owned());
    };
    roles::validate(role).map_err(|error| format!("QuotaInfo with invalid role: {error}"))?;
    if info.guarantee.is_empty() {
        return Err("QuotaInfo with empty 'guarantee'".to_owned());
    }
    let mut names = BTreeSet::new();
    for resource in &info.guarantee {
        let mistake = if !resource.reservations.is_empty() {
            "QuotaInfo must not contain any ReservationInfo"
        } else if resource.disk.is_some() {
            "QuotaInfo must not contain DiskInfo"
        } else if resource.revocable.is_some() {
            "QuotaInfo must not contain RevocableInfo"
        } else if resource.r#type() != Type::Scalar {
            "QuotaInfo must not include non-scalar resources"
        } else if names.insert(&resource.name) {
            continue;
        } else {
            return Err(format!(
                "QuotaInfo contains duplicate resource name '{}'",
                resource.name
            ));
        };
        return Err(mistake.to_owned());
    }
    Ok(())
}
