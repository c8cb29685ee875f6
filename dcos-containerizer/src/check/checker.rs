//! When to probe, and what a result means.

use std::time::Duration;

use dcos_core::time::Time;
use dcos_proto::mesos::{
    CheckInfo, CheckStatusInfo, HealthCheck, check_info, check_status_info, health_check,
    network_info,
};

use super::{CheckAction, CheckError, Outcome, Probe};

/// The state of one check of one task.
///
/// # Source
/// Mesos 1.11 `src/checks/`: the first probe comes `delay` after the start, each next one
/// `interval` after the result before it. Failures within `grace_period` of the start and before
/// the first success are ignored. A health check tells its first success, each failure, and the
/// first success after failures; a check tells changes of its result.
#[derive(Debug, Clone)]
pub struct Checker {
    probe: Probe,
    interval: Duration,
    timeout: Duration,
    phase: Phase,
    paused: bool,
    judge: Judge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting(Time),
    Probing,
}

#[derive(Debug, Clone)]
enum Judge {
    Health {
        grace_until: Time,
        limit: u32,
        failures: u32,
        healthy: Option<bool>,
    },
    Check {
        kind: check_info::Type,
        last: CheckStatusInfo,
    },
}

impl Checker {
    /// A health check of a task that starts `now`.
    ///
    /// # Errors
    /// [`CheckError`] if the check lacks what its type needs, or a time is negative.
    pub fn health_check(check: &HealthCheck, now: Time) -> Result<Self, CheckError> {
        let kind = match check.r#type.map(health_check::Type::try_from) {
            Some(Ok(kind)) => kind,
            // Before types, the part that is set said it.
            None if check.http.is_some() => health_check::Type::Http,
            None if check.command.is_some() => health_check::Type::Command,
            _ => health_check::Type::Unknown,
        };
        let probe = match (kind, &check.command, &check.http, &check.tcp) {
            (health_check::Type::Command, Some(command), ..) => Probe::Command(command.clone()),
            (health_check::Type::Http, _, Some(http), _) => Probe::Http {
                scheme: scheme(http.scheme.as_deref())?,
                port: port(http.port)?,
                path: path(http.path.as_deref())?,
                ipv6: http.protocol() == network_info::Protocol::IPv6,
            },
            (health_check::Type::Tcp, .., Some(tcp)) => Probe::Tcp {
                port: port(tcp.port)?,
                ipv6: tcp.protocol() == network_info::Protocol::IPv6,
            },
            _ => return Err(incomplete("health check")),
        };
        let judge = Judge::Health {
            grace_until: now + seconds(check.grace_period_seconds(), "grace_period_seconds")?,
            limit: check.consecutive_failures(),
            failures: 0,
            healthy: None,
        };
        let delay = seconds(check.delay_seconds(), "delay_seconds")?;
        let interval = seconds(check.interval_seconds(), "interval_seconds")?;
        let timeout = seconds(check.timeout_seconds(), "timeout_seconds")?;
        Ok(Self::new(probe, judge, now + delay, interval, timeout))
    }

    /// A check of a task that starts `now`.
    ///
    /// # Errors
    /// [`CheckError`] if the check lacks what its type needs, or a time is negative.
    pub fn check(check: &CheckInfo, now: Time) -> Result<Self, CheckError> {
        let probe = match (check.r#type(), &check.command, &check.http, &check.tcp) {
            (check_info::Type::Command, Some(command), ..) => {
                Probe::Command(command.command.clone())
            }
            (check_info::Type::Http, _, Some(http), _) => Probe::Http {
                scheme: "http".into(),
                port: port(http.port)?,
                path: path(http.path.as_deref())?,
                ipv6: false,
            },
            (check_info::Type::Tcp, .., Some(tcp)) => Probe::Tcp {
                port: port(tcp.port)?,
                ipv6: false,
            },
            _ => return Err(incomplete("check")),
        };
        let judge = Judge::Check {
            kind: check.r#type(),
            last: empty_status(check.r#type()),
        };
        let delay = seconds(check.delay_seconds(), "delay_seconds")?;
        let interval = seconds(check.interval_seconds(), "interval_seconds")?;
        let timeout = seconds(check.timeout_seconds(), "timeout_seconds")?;
        Ok(Self::new(probe, judge, now + delay, interval, timeout))
    }

    fn new(probe: Probe, judge: Judge, first: Time, interval: Duration, timeout: Duration) -> Self {
        Self {
            probe,
            interval,
            // No timeout means: as long as it takes.
            timeout: if timeout.is_zero() {
                Duration::MAX
            } else {
                timeout
            },
            phase: Phase::Waiting(first),
            paused: false,
            judge,
        }
    }

    /// The check status that belongs into every status update of the task, known or not yet; none
    /// for a health check.
    pub fn status(&self) -> Option<&CheckStatusInfo> {
        match &self.judge {
            Judge::Check { last, .. } => Some(last),
            Judge::Health { .. } => None,
        }
    }

    /// What the last telling result of a health check was.
    pub fn healthy(&self) -> Option<bool> {
        match self.judge {
            Judge::Health { healthy, .. } => healthy,
            Judge::Check { .. } => None,
        }
    }

    /// When [`poll`](Self::poll) has something to do next; `None` while a probe is under way or
    /// the checker is paused.
    pub fn next_deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Waiting(due) if !self.paused => Some(due),
            _ => None,
        }
    }

    /// The probe to run, if it is time.
    pub fn poll(&mut self, now: Time) -> Option<CheckAction> {
        let due = self.next_deadline()?;
        if !due.is_due(now) {
            return None;
        }
        self.phase = Phase::Probing;
        Some(CheckAction::Probe {
            probe: self.probe.clone(),
            timeout: self.timeout,
        })
    }

    /// Takes in what came of the probe, and says what to tell.
    pub fn handle(&mut self, now: Time, outcome: &Outcome) -> Option<CheckAction> {
        if self.phase != Phase::Probing {
            return None;
        }
        self.phase = Phase::Waiting(now + self.interval);
        if self.paused || *outcome == Outcome::Skipped {
            return None;
        }
        match &mut self.judge {
            Judge::Health {
                grace_until,
                limit,
                failures,
                healthy,
            } => {
                let message = match judge(outcome) {
                    Ok(()) => {
                        let told = *healthy == Some(true);
                        *failures = 0;
                        *healthy = Some(true);
                        return (!told).then(|| CheckAction::Health {
                            healthy: true,
                            kill: false,
                            message: String::new(),
                        });
                    }
                    Err(message) => message,
                };
                let started = healthy.is_some();
                if !started && now <= *grace_until {
                    return None;
                }
                *failures = failures.saturating_add(1);
                *healthy = Some(false);
                Some(CheckAction::Health {
                    healthy: false,
                    kill: *failures >= *limit,
                    message,
                })
            }
            Judge::Check { kind, last } => {
                let status = check_status(*kind, outcome);
                if status == *last {
                    return None;
                }
                *last = status;
                Some(CheckAction::Status(status))
            }
        }
    }

    /// Stops probing, as while the agent that would run the probes is away.
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Goes on probing, `delay` being over: the next probe is due at once.
    pub fn resume(&mut self, now: Time) {
        if self.paused {
            self.paused = false;
            self.phase = Phase::Waiting(now);
        }
    }
}

/// Whether a health check takes `outcome` as good; if not, why.
fn judge(outcome: &Outcome) -> Result<(), String> {
    match outcome {
        Outcome::Command(0) | Outcome::Http(200..=399) | Outcome::Tcp(true) => Ok(()),
        Outcome::Command(code) => Err(format!("Command exited with status {code}")),
        Outcome::Http(status) => Err(format!("Unexpected HTTP response code: {status}")),
        Outcome::Tcp(false) => Err("The TCP connection was refused".into()),
        Outcome::Failed(why) => Err(why.clone()),
        Outcome::Skipped => Err("The probe was skipped".into()),
    }
}

/// A check's status before its first result, and when there is none.
fn empty_status(kind: check_info::Type) -> CheckStatusInfo {
    let mut status = CheckStatusInfo {
        r#type: Some(kind.into()),
        ..CheckStatusInfo::default()
    };
    match kind {
        check_info::Type::Command => status.command = Some(check_status_info::Command::default()),
        check_info::Type::Http => status.http = Some(check_status_info::Http::default()),
        check_info::Type::Tcp => status.tcp = Some(check_status_info::Tcp::default()),
        check_info::Type::Unknown => {}
    }
    status
}

fn check_status(kind: check_info::Type, outcome: &Outcome) -> CheckStatusInfo {
    let mut status = empty_status(kind);
    match (outcome, &mut status) {
        (
            &Outcome::Command(code),
            CheckStatusInfo {
                command: Some(command),
                ..
            },
        ) => command.exit_code = Some(code),
        (
            &Outcome::Http(code),
            CheckStatusInfo {
                http: Some(http), ..
            },
        ) => {
            http.status_code = Some(code.into());
        }
        (&Outcome::Tcp(made), CheckStatusInfo { tcp: Some(tcp), .. }) => {
            tcp.succeeded = Some(made);
        }
        _ => {}
    }
    status
}

fn seconds(value: f64, name: &str) -> Result<Duration, CheckError> {
    if value < 0.0 || value.is_nan() {
        let reason = format!("Expecting '{name}' to be non-negative");
        return Err(CheckError { reason });
    }
    Ok(Duration::try_from_secs_f64(value).unwrap_or(Duration::MAX))
}

fn port(port: u32) -> Result<u16, CheckError> {
    match u16::try_from(port) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(CheckError {
            reason: format!("{port} is not a port"),
        }),
    }
}

fn scheme(scheme: Option<&str>) -> Result<String, CheckError> {
    match scheme {
        None => Ok("http".into()),
        Some(scheme @ ("http" | "https")) => Ok(scheme.into()),
        Some(other) => Err(CheckError {
            reason: format!("Unsupported HTTP health check scheme: '{other}'"),
        }),
    }
}

fn path(path: Option<&str>) -> Result<String, CheckError> {
    match path {
        None | Some("") => Ok("/".into()),
        Some(path) if path.starts_with('/') => Ok(path.into()),
        Some(path) => Err(CheckError {
            reason: format!("The path '{path}' of HTTP health check must start with '/'"),
        }),
    }
}

fn incomplete(what: &str) -> CheckError {
    CheckError {
        reason: format!("the {what} has no type, or lacks what its type needs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Time {
        Time::from_secs(secs)
    }

    fn tcp() -> HealthCheck {
        HealthCheck {
            r#type: Some(health_check::Type::Tcp.into()),
            tcp: Some(health_check::TcpCheckInfo {
                port: 80,
                protocol: None,
            }),
            delay_seconds: Some(0.0),
            ..HealthCheck::default()
        }
    }

    /// One probe at `now` with this result, answered at once.
    fn probe(checker: &mut Checker, now: Time, good: bool) -> Option<(bool, bool)> {
        assert!(checker.poll(now).is_some(), "no probe at {now:?}");
        match checker.handle(now, &Outcome::Tcp(good))? {
            CheckAction::Health { healthy, kill, .. } => Some((healthy, kill)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_are_those_of_mesos() {
        let check = HealthCheck {
            delay_seconds: None,
            ..tcp()
        };
        let mut checker = Checker::health_check(&check, at(100)).unwrap();
        assert_eq!(checker.next_deadline(), Some(at(115)));
        assert_eq!(checker.poll(at(114)), None);
        let Some(CheckAction::Probe { timeout, .. }) = checker.poll(at(115)) else {
            panic!("no probe");
        };
        assert_eq!(timeout, Duration::from_secs(20));
        assert_eq!(checker.next_deadline(), None, "one probe at a time");
        checker.handle(at(117), &Outcome::Tcp(true));
        assert_eq!(checker.next_deadline(), Some(at(127)));
    }

    #[test]
    fn failures_count_after_the_grace_period_only() {
        let mut checker = Checker::health_check(&tcp(), at(0)).unwrap();
        assert_eq!(probe(&mut checker, at(0), false), None);
        assert_eq!(probe(&mut checker, at(10), false), None);
        assert_eq!(probe(&mut checker, at(20), false), Some((false, false)));
        assert_eq!(probe(&mut checker, at(30), false), Some((false, false)));
        assert_eq!(probe(&mut checker, at(40), false), Some((false, true)));
    }

    #[test]
    fn the_first_success_ends_the_grace_period() {
        let mut checker = Checker::health_check(&tcp(), at(0)).unwrap();
        assert_eq!(probe(&mut checker, at(0), true), Some((true, false)));
        assert_eq!(checker.poll(at(9)), None);
        assert_eq!(probe(&mut checker, at(10), false), Some((false, false)));
        assert_eq!(probe(&mut checker, at(20), true), Some((true, false)));
        assert_eq!(probe(&mut checker, at(30), true), None, "told already");
        assert_eq!(probe(&mut checker, at(40), false), Some((false, false)));
        assert_eq!(checker.healthy(), Some(false));
    }

    #[test]
    fn a_paused_checker_waits_and_forgets_the_probe_under_way() {
        let mut checker = Checker::health_check(&tcp(), at(0)).unwrap();
        checker.poll(at(0));
        checker.pause();
        assert_eq!(checker.handle(at(1), &Outcome::Tcp(false)), None);
        assert_eq!(checker.next_deadline(), None);
        checker.resume(at(50));
        assert_eq!(checker.next_deadline(), Some(at(50)));
    }

    #[test]
    fn checks_tell_changes() {
        let check = CheckInfo {
            r#type: Some(check_info::Type::Http.into()),
            http: Some(check_info::Http {
                port: 8080,
                path: Some("/ready".into()),
            }),
            delay_seconds: Some(0.0),
            interval_seconds: Some(1.0),
            ..CheckInfo::default()
        };
        let mut checker = Checker::check(&check, at(0)).unwrap();
        let mut told = Vec::new();
        let outcomes = [
            Outcome::Http(503),
            Outcome::Http(503),
            Outcome::Http(200),
            Outcome::Skipped,
            Outcome::Failed("timeout".into()),
            Outcome::Failed("timeout".into()),
        ];
        for (second, outcome) in (0..).zip(outcomes) {
            checker.poll(at(second)).unwrap();
            if let Some(CheckAction::Status(status)) = checker.handle(at(second), &outcome) {
                told.push(status.http.unwrap().status_code);
            }
        }
        assert_eq!(told, [Some(503), Some(200), None]);
    }

    #[test]
    fn senseless_checks_are_refused() {
        let nothing = HealthCheck::default();
        assert!(Checker::health_check(&nothing, at(0)).is_err());
        let negative = HealthCheck {
            interval_seconds: Some(-1.0),
            ..tcp()
        };
        let error = Checker::health_check(&negative, at(0)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Expecting 'interval_seconds' to be non-negative"
        );
        assert!(port(0).is_err() && port(70_000).is_err());
        assert!(path(Some("no-slash")).is_err());
    }
}
