//! A job, and when it runs by itself.

use std::collections::{BTreeMap, VecDeque};

use dcos_marathon::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::{JobId, RunSpec};
use crate::cron::Cron;

/// What a user wants to run again and again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Its name.
    pub id: JobId,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Jobs that must have succeeded before it runs by itself.
    #[serde(default)]
    pub dependencies: Vec<Dependency>,
    /// Free names and values.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// When it runs by itself; at most one.
    #[serde(default)]
    pub schedules: Vec<ScheduleSpec>,
    /// What it does.
    pub run: RunSpec,
}

/// A job that must have succeeded before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Dependency {
    /// Its name.
    pub id: JobId,
}

/// When a job runs by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleSpec {
    /// Its name among those of the job.
    pub id: String,
    /// The moments, in local time.
    pub cron: Cron,
    /// The place whose local time is meant.
    #[serde(default)]
    pub timezone: Zone,
    /// A run that has not started so many seconds after it was made has failed.
    #[serde(default = "default_starting_deadline")]
    pub starting_deadline_seconds: u64,
    /// Whether it runs while it is still running.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// Whether it runs by itself at all.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// What becomes of moments that passed while no Metronome was there. Not of the original, so it is shown only where
    /// it says something else than the original does.
    #[serde(default, skip_serializing_if = "Missed::is_default")]
    pub missed_triggers: Missed,
}

/// What becomes of moments that were missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Missed {
    /// They are lost.
    #[default]
    Skip,
    /// One run stands for all of them.
    Latest,
    /// Each has its run, up to a hundred of the newest.
    All,
}

/// How many missed moments [`Missed::All`] makes up.
const MOST_MADE_UP: usize = 100;

/// How far back missed moments are looked for first, in milliseconds.
const FIRST_REACH: i64 = 2 * 60 * 60 * 1000;

impl Missed {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature serde asks for"
    )]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether a scheduled run may begin while another one is going on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ConcurrencyPolicy {
    /// It may.
    #[default]
    Allow,
    /// It may not, and is left out.
    Forbid,
}

impl ScheduleSpec {
    /// The first moment after `after`.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.cron.next_after(after, &self.timezone.0)
    }

    /// The moment it triggers next, with `last` the one it triggered at; earlier than `now` if it is to be made up.
    pub fn next_trigger(&self, last: Timestamp, now: Timestamp) -> Option<Timestamp> {
        if self.missed_triggers == Missed::Skip {
            return self.next_after(last.max(now));
        }
        let keep = match self.missed_triggers {
            Missed::All => MOST_MADE_UP,
            _ => 1,
        };
        // From the end, farther and farther back: a clock that was set to another year costs no year of minutes.
        let mut reach = FIRST_REACH;
        loop {
            let from = last.max(Timestamp::from_millis(now.millis().saturating_sub(reach)));
            let mut newest = VecDeque::with_capacity(keep);
            let mut next = self.next_after(from);
            while let Some(at) = next.filter(|at| *at <= now) {
                if newest.len() == keep {
                    newest.pop_front();
                }
                newest.push_back(at);
                next = self.next_after(at);
            }
            if newest.len() == keep || from == last {
                return newest.pop_front().or(next);
            }
            reach = reach.saturating_mul(8);
        }
    }
}

/// A place with its own time, by its IANA name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(TimeZone);

impl Zone {
    /// Its name.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl TryFrom<String> for Zone {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let unknown = || format!("No time zone found with this id: \"{name}\"");
        if name == "UTC" {
            return Ok(Self::default());
        }
        let zone = TimeZone::get(&name).map_err(|_| unknown())?;
        // Names are found in any case, but have one only.
        if zone.iana_name() == Some(&name) {
            Ok(Self(zone))
        } else {
            Err(unknown())
        }
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.name().to_owned()
    }
}

fn default_starting_deadline() -> u64 {
    900
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(missed: &str) -> ScheduleSpec {
        let text =
            format!(r#"{{"id": "s", "cron": "*/10 * * * *", "missedTriggers": "{missed}"}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn what_was_missed_is_made_up_if_asked_for() {
        let minute = |n: i64| Timestamp::from_millis(n * 60_000);
        let next = |missed, last, now| schedule(missed).next_trigger(minute(last), minute(now));
        for missed in ["SKIP", "LATEST", "ALL"] {
            assert_eq!(next(missed, 10, 15), Some(minute(20)), "{missed}");
        }
        assert_eq!(next("SKIP", 10, 55), Some(minute(60)));
        assert_eq!(next("LATEST", 10, 55), Some(minute(50)));
        assert_eq!(next("ALL", 10, 55), Some(minute(20)));
        assert_eq!(
            next("ALL", 10, 10_005),
            Some(minute(9_010)),
            "the newest hundred"
        );
    }

    #[test]
    fn centuries_of_missed_moments_cost_no_more_than_the_newest() {
        let minute = |n: i64| Timestamp::from_millis(n * 60_000);
        let now = 200 * 365 * 24 * 60 + 5;
        let next = |missed| schedule(missed).next_trigger(minute(10), minute(now));
        assert_eq!(next("LATEST"), Some(minute(now - 5)));
        assert_eq!(next("ALL"), Some(minute(now - 995)));
        // Where they are far apart, they are looked for farther away.
        let text = r#"{"id": "s", "cron": "0 0 1 1 *", "missedTriggers": "ALL"}"#;
        let yearly: ScheduleSpec = serde_json::from_str(text).unwrap();
        let next = yearly.next_trigger(minute(10), minute(now));
        let year = next.unwrap().to_string();
        assert_eq!(year, "2070-01-01T00:00:00.000Z");
    }

    #[test]
    fn zones_have_one_name() {
        for good in ["UTC", "Europe/Rome", "America/New_York", "Etc/GMT+3"] {
            let zone = Zone::try_from(good.to_owned()).unwrap();
            assert_eq!(zone.name(), good);
        }
        for bad in ["europe/rome", "Rome", ""] {
            assert!(Zone::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
