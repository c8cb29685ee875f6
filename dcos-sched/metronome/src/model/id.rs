//! Names of jobs and runs.

use std::fmt;
use std::sync::Arc;

use dcos_core::seed::Seed;
use dcos_marathon::{PathId, Timestamp};
use serde::{Deserialize, Serialize};

/// The name of a job: lower-case labels joined by dots, such as `prod.backup`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct JobId(Arc<str>);

impl JobId {
    /// Takes a name as it is.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name keeps the rules for names; empty labels do not count, as in the original.
    pub fn is_valid(&self) -> bool {
        let mut labels = self.0.split('.').filter(|label| !label.is_empty());
        labels.all(|label| {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            label.bytes().all(|b| plain(b) || b == b'-')
                && label.bytes().next().is_some_and(plain)
                && label.bytes().next_back().is_some_and(plain)
        })
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for JobId {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl From<&str> for JobId {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0.to_string()
    }
}

/// The name of a run among those of its job: `20160715130259Sfw6U`, the second it began and five letters or digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct RunId(Arc<str>);

impl RunId {
    /// A name for a run that begins `now`.
    pub fn draw(now: Timestamp, seed: &mut Seed) -> Self {
        const LETTERS: &[u8; 62] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let moment = jiff::Timestamp::from_millisecond(now.millis()).unwrap_or_default();
        let mut name = moment.strftime("%Y%m%d%H%M%S").to_string();
        name.extend((0..5).map(|_| char::from(LETTERS[seed.index(LETTERS.len())])));
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for RunId {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl From<&str> for RunId {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0.to_string()
    }
}

/// A run among all runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunKey {
    /// The job.
    pub job: JobId,
    /// The run.
    pub run: RunId,
}

impl RunKey {
    /// What the engine knows the run as: `/prod/backup/20160715130259Sfw6U`.
    pub fn path(&self) -> PathId {
        PathId::absolute(&format!(
            "{}/{}",
            self.job.as_str().replace('.', "/"),
            self.run
        ))
    }

    /// Undoes [`RunKey::path`].
    pub fn of(path: &PathId) -> Option<Self> {
        let labels: Vec<&str> = path.segments().collect();
        let (run, job) = labels.split_last().filter(|(_, job)| !job.is_empty())?;
        Some(Self {
            job: JobId::from(job.join(".")),
            run: RunId::from(*run),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_jobs() {
        for good in ["a", "prod.backup", "a--b.c-1", "0"] {
            assert!(JobId::from(good).is_valid(), "{good}");
        }
        for bad in ["A", "-a", "a-", "a_b", "a/b", "a b"] {
            assert!(!JobId::from(bad).is_valid(), "{bad}");
        }
    }

    #[test]
    fn runs_have_a_path_and_come_back_from_it() {
        let now = Timestamp::from_millis(1_468_587_779_735);
        let run = RunId::draw(now, &mut Seed::new(1));
        assert!(run.as_str().starts_with("20160715130259"), "{run}");
        assert_eq!(run.as_str().len(), 19);
        let key = RunKey {
            job: "prod.backup".into(),
            run,
        };
        assert_eq!(key.path().as_str(), format!("/prod/backup/{}", key.run));
        assert_eq!(RunKey::of(&key.path()), Some(key));
        assert_eq!(RunKey::of(&PathId::absolute("/lonely")), None);
    }
}
