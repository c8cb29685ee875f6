//! How often principals may speak, as `--rate_limits` says it.

use std::collections::BTreeMap;
use std::str::FromStr;

use dcos_proto::json::{self, Dialect, JsonError};
use dcos_proto::mesos;

/// How fast messages are taken in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Messages a second; positive.
    pub qps: f64,
    /// How many may wait; `None` for any number.
    pub capacity: Option<u64>,
}

/// How often the frameworks of each principal may speak.
///
/// A principal that is listed without `qps` is not limited; those that are not listed share the
/// default, if there is one (Mesos 1.11 `Master::consume`, `docs/framework-rate-limiting.md`).
///
/// ```
/// use dcos_security::RateLimits;
///
/// let limits: RateLimits = r#"{
///     "limits": [{"principal": "batch", "qps": 10, "capacity": 100}, {"principal": "core"}],
///     "aggregate_default_qps": 50}"#.parse()?;
/// assert_eq!(limits.rate(Some("batch")).map(|rate| rate.qps), Some(10.0));
/// assert!(limits.rate(Some("core")).is_none());
/// assert_eq!(limits.rate(None).map(|rate| rate.capacity), Some(None));
/// # Ok::<(), dcos_security::RateLimitsError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RateLimits {
    listed: BTreeMap<String, Option<Rate>>,
    default: Option<Rate>,
}

/// Why limits can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RateLimitsError {
    /// They are no JSON.
    #[error("reading rate limits")]
    Syntax(#[source] serde_json::Error),
    /// They are not of the right form.
    #[error("understanding rate limits")]
    Form(#[source] JsonError),
    /// A principal is listed twice.
    #[error("Duplicate principal {principal} found in RateLimits configuration")]
    Duplicate {
        /// Which one.
        principal: String,
    },
    /// A rate that lets nothing through, ever.
    #[error("Invalid qps: {qps}. It must be a positive number")]
    Rate {
        /// What stands there.
        qps: f64,
    },
}

impl FromStr for RateLimits {
    type Err = RateLimitsError;

    fn from_str(text: &str) -> Result<Self, RateLimitsError> {
        let value = serde_json::from_str(text).map_err(RateLimitsError::Syntax)?;
        Self::from_json(&value)
    }
}

impl RateLimits {
    /// Reads limits in the form of Mesos.
    ///
    /// # Errors
    /// [`RateLimitsError`]
    pub fn from_json(value: &serde_json::Value) -> Result<Self, RateLimitsError> {
        let message: mesos::RateLimits =
            json::from_value(value, Dialect::V0).map_err(RateLimitsError::Form)?;
        let mut listed = BTreeMap::new();
        for limit in message.limits {
            let rate = rate(limit.qps, limit.capacity)?;
            if listed.insert(limit.principal.clone(), rate).is_some() {
                let principal = limit.principal;
                return Err(RateLimitsError::Duplicate { principal });
            }
        }
        let default = rate(
            message.aggregate_default_qps,
            message.aggregate_default_capacity,
        )?;
        Ok(Self { listed, default })
    }

    /// One limit that all share, whoever they are.
    pub fn for_all(rate: Rate) -> Self {
        Self {
            listed: BTreeMap::new(),
            default: Some(rate),
        }
    }

    /// What holds for those of whom nobody knows who they are, apart from all others: as much as the default allows.
    #[must_use]
    pub fn of_strangers(&self) -> Self {
        Self {
            listed: BTreeMap::new(),
            default: self.default,
        }
    }

    /// How often a framework with this principal may speak; `None` means as often as it likes.
    pub fn rate(&self, principal: Option<&str>) -> Option<Rate> {
        match principal.and_then(|principal| self.listed.get(principal)) {
            Some(own) => *own,
            None => self.default,
        }
    }

    /// The queue such a framework's messages wait in: its principal's own, or the common one.
    pub(crate) fn queue<'a>(&self, principal: Option<&'a str>) -> Option<&'a str> {
        principal.filter(|principal| self.listed.contains_key(*principal))
    }
}

fn rate(qps: Option<f64>, capacity: Option<u64>) -> Result<Option<Rate>, RateLimitsError> {
    match qps {
        None => Ok(None),
        Some(qps) if qps.is_finite() && qps > 0.0 => Ok(Some(Rate { qps, capacity })),
        Some(qps) => Err(RateLimitsError::Rate { qps }),
    }
}
