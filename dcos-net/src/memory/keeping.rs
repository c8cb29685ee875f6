//! [`Keeping`]: where a node keeps what it knows, and what of that counts when it begins anew.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use dcos_core::time::Time;

use super::{Remembered, Unreadable};

/// Which cluster a node is of, told by where its masters are found: that is known before any of them answers, and stays as
/// long as the cluster does, server by server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// What elects the leader, and where it is told there, such as `zk:/mesos`; empty if masters are named themselves.
    pub election: String,
    /// The servers of the election, or masters: `host:port`.
    pub places: BTreeSet<String>,
}

impl Cluster {
    /// Whether these are one cluster: masters of one path that share a server with those of the other are elected by the same
    /// ensemble, of which servers come and go.
    pub fn is(&self, other: &Self) -> bool {
        self == other || self.election == other.election && !self.places.is_disjoint(&other.places)
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.places.is_empty() {
            return f.write_str("no masters named");
        }
        let places: Vec<&str> = self.places.iter().map(String::as_str).collect();
        let between = if self.election.is_empty() { "" } else { " at " };
        write!(f, "{}{between}{}", self.election, places.join(","))
    }
}

/// Who writes down what it knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Of which cluster it is.
    pub cluster: Cluster,
    /// Which run of its host's kernel it is in (`boot_id`), if there is anything to tell one from another.
    pub boot: Option<String>,
    /// Its own addresses: what runs there ends with that run.
    pub own: BTreeSet<IpAddr>,
}

/// Where a node keeps what it knows, who it is, and how old what it kept may be.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// The file.
    pub path: PathBuf,
    /// Who writes it, and is to read it.
    pub origin: Origin,
    /// For how long what is kept counts after it was so at last; nothing does if this is zero.
    pub max_age: Duration,
    /// What the wall clock says.
    pub clock: fn() -> Time,
}

impl Keeping {
    /// How long that is unless somebody says otherwise.
    pub const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

    /// A file for what this one knows.
    pub fn new(path: PathBuf, origin: Origin) -> Self {
        Self {
            path,
            origin,
            max_age: Self::MAX_AGE,
            clock: || Time::from_system(SystemTime::now()),
        }
    }

    /// What counts of what was kept, at `now` by the wall clock: all of it, or, after a reboot, all but this node's own tasks.
    ///
    /// The wall clock is the only one that goes on over a reboot, and it may have been set. One that stands before what was
    /// written says as little of its age as one that stands long behind it: so the distance counts, in both directions.
    ///
    /// # Errors
    /// It is of another cluster, or too long ago.
    pub fn judge(&self, now: Time, mut known: Remembered) -> Result<Remembered, Unreadable> {
        let (origin, here) = (std::mem::take(&mut known.origin), &self.origin);
        if !origin.cluster.is(&here.cluster) {
            return Err(Unreadable::Elsewhere {
                theirs: origin.cluster,
                ours: here.cluster.clone(),
            });
        }
        let (age, ahead) = (now - known.written, known.written - now);
        if age.max(ahead) > self.max_age || self.max_age.is_zero() {
            let max_age = self.max_age;
            return Err(if ahead.is_zero() {
                Unreadable::Old { age, max_age }
            } else {
                Unreadable::Ahead { ahead, max_age }
            });
        }
        let boots = origin.boot.as_ref().zip(here.boot.as_ref());
        if boots.is_some_and(|(before, now)| before != now) {
            known.end_tasks_at(&(&origin.own | &here.own));
        }
        known.origin = origin;
        Ok(known)
    }
}

impl Remembered {
    /// Forgets the tasks of agents at these addresses.
    fn end_tasks_at(&mut self, own: &BTreeSet<IpAddr>) {
        let agents = self.agents.iter();
        let ended: BTreeSet<&String> = agents
            .filter(|(_, agent)| agent.address.is_some_and(|at| own.contains(&at.ip())))
            .map(|(id, _)| id)
            .collect();
        let before = self.tasks.len();
        self.tasks
            .retain(|_, known| !ended.contains(&known.task.agent_id.value));
        self.ended = before - self.tasks.len();
    }
}
