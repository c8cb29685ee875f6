//! What checks found about one instance, and when that is reason to kill it.

use serde_json::{Value, json};

use crate::Timestamp;
use crate::instance::InstanceId;
use crate::model::{App, HealthCheck};

/// What one check found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// When it first passed.
    pub first_success: Option<Timestamp>,
    /// When it last passed.
    pub last_success: Option<Timestamp>,
    /// When it last failed.
    pub last_failure: Option<Timestamp>,
    /// Why it last failed.
    pub last_failure_cause: Option<String>,
    /// How often in a row it failed.
    pub consecutive_failures: u32,
}

impl Health {
    /// Whether the check was ever performed.
    pub fn is_known(&self) -> bool {
        self.last_success.is_some() || self.last_failure.is_some()
    }

    /// Whether the check passed last.
    pub fn is_alive(&self) -> bool {
        self.last_success.is_some() && self.consecutive_failures == 0
    }

    /// Notes that the check passed.
    pub fn pass(&mut self, now: Timestamp) {
        self.first_success.get_or_insert(now);
        self.last_success = Some(now);
        self.consecutive_failures = 0;
    }

    /// Notes that the check failed; without `counts` (within the grace period) only the time is kept.
    pub fn fail(&mut self, now: Timestamp, cause: &str, counts: bool) {
        if counts {
            self.last_failure = Some(now);
            self.last_failure_cause = Some(cause.to_owned());
            self.consecutive_failures += 1;
        }
    }

    /// Whether a failure now counts: after the first success, or once the grace period is over.
    pub fn failure_counts(&self, check: &HealthCheck, started: Timestamp, now: Timestamp) -> bool {
        self.first_success.is_some()
            || now.since(started).as_secs() >= u64::from(check.grace_period_seconds)
    }

    /// The form in documents.
    pub fn to_json(&self, instance: &InstanceId) -> Value {
        let mut json = json!({
            "alive": self.is_alive(),
            "consecutiveFailures": self.consecutive_failures,
            "instanceId": instance,
        });
        for (name, moment) in [
            ("firstSuccess", self.first_success),
            ("lastSuccess", self.last_success),
            ("lastFailure", self.last_failure),
        ] {
            if let Some(moment) = moment {
                json[name] = json!(moment);
            }
        }
        if let Some(cause) = &self.last_failure_cause {
            json["lastFailureCause"] = json!(cause);
        }
        json
    }
}

/// The verdict over all checks of an app: unknown until each has spoken, bad if one is.
pub fn verdict(app: &App, health: &[Health]) -> Option<bool> {
    if app.health_checks.is_empty() {
        return None;
    }
    let known = |at: usize| health.get(at).filter(|health| health.is_known());
    let all: Vec<_> = (0..app.health_checks.len()).map(known).collect();
    if all.iter().flatten().any(|health| !health.is_alive()) {
        return Some(false);
    }
    all.iter().all(Option::is_some).then_some(true)
}

/// Takes in the word of an executor, which performs one check: what it finds stands for all that are its own.
pub fn executor_found(
    health: &mut Vec<Health>,
    app: &App,
    now: Timestamp,
    healthy: bool,
    cause: &str,
) {
    for (at, check) in app.health_checks.iter().enumerate() {
        if !check.protocol.is_mesos() {
            continue;
        }
        if health.len() <= at {
            health.resize_with(at + 1, Health::default);
        }
        if healthy {
            health[at].pass(now);
        } else {
            health[at].fail(now, cause, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_after_the_grace_period_or_the_first_success() {
        let check: HealthCheck = serde_json::from_value(json!({"gracePeriodSeconds": 10})).unwrap();
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        let mut health = Health::default();
        assert!(!health.failure_counts(&check, at(0), at(9)));
        assert!(health.failure_counts(&check, at(0), at(10)));
        health.pass(at(1));
        assert!(health.failure_counts(&check, at(0), at(2)));
    }

    #[test]
    fn the_verdict_waits_for_every_check() {
        let app: App = serde_json::from_value(
            json!({"id": "/a", "healthChecks": [{"portIndex": 0}, {"protocol": "TCP"}]}),
        )
        .unwrap();
        let now = Timestamp::from_millis(1);
        let mut health = vec![Health::default(), Health::default()];
        assert_eq!(verdict(&app, &health), None);
        health[0].pass(now);
        assert_eq!(verdict(&app, &health), None);
        health[1].fail(now, "refused", true);
        assert_eq!(verdict(&app, &health), Some(false));
        health[1].pass(now);
        assert_eq!(verdict(&app, &health), Some(true));
    }
}
