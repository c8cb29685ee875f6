//! CPU and memory, from Mesos's words to the engine's.

use std::collections::BTreeMap;

use bollard::models::{ContainerUpdateBody, HostConfig};
use dcos_proto::mesos::Resource;
use dcos_proto::mesos::value::Scalar;

const MB: f64 = 1_048_576.0;
const SHARES_PER_CPU: f64 = 1024.0;
const MIN_SHARES: i64 = 2;
const PERIOD_US: f64 = 100_000.0;
const MIN_QUOTA_US: i64 = 1_000;
const MIN_MEMORY: i64 = 32 << 20;

/// What the engine is told of CPU and memory; absent is unlimited.
///
/// # Source
/// Mesos 1.11 `Docker::RunOptions::create` (`src/docker/docker.cpp`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub(crate) shares: Option<i64>,
    /// Microseconds of each tenth of a second.
    pub(crate) quota: Option<i64>,
    /// Bytes.
    pub(crate) memory: Option<i64>,
    /// Bytes that are not taken away under pressure.
    pub(crate) reservation: Option<i64>,
    pub(crate) oom_score_adj: Option<i64>,
}

impl Amounts {
    /// Of `resources`, which may burst to `limits`; `cfs` caps CPU time without a limit too, and
    /// `total` is the host's memory in bytes.
    pub(crate) fn new(
        resources: &[Resource],
        limits: &BTreeMap<String, Scalar>,
        cfs: bool,
        total: u64,
    ) -> Self {
        let limit = |name| limits.get(name).map(|scalar| scalar.value);
        let (cpus, mem) = (sum(resources, "cpus"), sum(resources, "mem"));
        let quota_of = |cpus: f64| whole(PERIOD_US * cpus).max(MIN_QUOTA_US);
        let bytes = |megabytes: f64| whole(megabytes * MB).max(MIN_MEMORY);
        let mut amounts = Self {
            shares: cpus.map(|cpus| whole(SHARES_PER_CPU * cpus).max(MIN_SHARES)),
            quota: match limit("cpus") {
                Some(limit) => limit.is_finite().then(|| quota_of(limit)),
                None => cpus.filter(|_| cfs).map(quota_of),
            },
            ..Self::default()
        };
        let Some(limit) = limit("mem") else {
            amounts.memory = mem.map(bytes);
            return amounts;
        };
        amounts.memory = limit.is_finite().then(|| bytes(limit));
        if let Some(mem) = mem {
            amounts.reservation = Some(bytes(mem));
            if mem < limit {
                let share = mem * MB / whole_f64(total.max(1));
                amounts.oom_score_adj = Some(1000 - whole(1000.0 * share).clamp(0, 1000));
            }
        }
        amounts
    }

    pub(crate) fn apply(self, host: &mut HostConfig) {
        host.cpu_shares = self.shares;
        host.cpu_quota = self.quota;
        host.memory = self.memory;
        host.memory_reservation = self.reservation;
        host.oom_score_adj = self.oom_score_adj;
    }

    /// The same for a container that runs. Swap is what the engine gives at launch: as much again.
    pub(crate) fn to_update(self) -> ContainerUpdateBody {
        ContainerUpdateBody {
            cpu_shares: self.shares,
            cpu_quota: Some(self.quota.unwrap_or(-1)),
            memory: self.memory,
            memory_swap: Some(self.memory.map_or(-1, |memory| memory.saturating_mul(2))),
            memory_reservation: self.reservation,
            ..ContainerUpdateBody::default()
        }
    }
}

/// What the scalars of this name add up to.
pub(crate) fn sum(resources: &[Resource], name: &str) -> Option<f64> {
    let scalars = resources.iter().filter(|resource| resource.name == name);
    let mut values = scalars.filter_map(|one| Some(one.scalar?.value)).peekable();
    values.peek()?;
    Some(values.sum())
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "saturates; amounts are far below"
)]
fn whole(value: f64) -> i64 {
    value as i64
}

#[expect(clippy::cast_precision_loss, reason = "a share need not be exact")]
fn whole_f64(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1 << 30;

    fn amounts(cpus: f64, mem: f64, limits: &[(&str, f64)], cfs: bool) -> Amounts {
        let scalar = |value| Scalar { value };
        let resource = |name: &str, value| Resource {
            name: name.to_owned(),
            scalar: Some(scalar(value)),
            ..Resource::default()
        };
        let limits = limits
            .iter()
            .map(|&(name, value)| (name.to_owned(), scalar(value)));
        let resources = [resource("cpus", cpus), resource("mem", mem)];
        Amounts::new(&resources, &limits.collect(), cfs, 10 * GB)
    }

    #[test]
    fn what_was_given_is_shares_and_a_limit() {
        let given = amounts(0.5, 64.0, &[], false);
        assert_eq!((given.shares, given.quota), (Some(512), None));
        assert_eq!((given.memory, given.reservation), (Some(64 << 20), None));
        assert_eq!(amounts(0.5, 64.0, &[], true).quota, Some(50_000));
    }

    #[test]
    fn there_is_a_least_of_everything() {
        let least = amounts(0.001, 1.0, &[("cpus", 0.001)], false);
        assert_eq!((least.shares, least.quota), (Some(2), Some(1_000)));
        assert_eq!(least.memory, Some(32 << 20));
    }

    #[test]
    fn bursts_leave_a_reservation() {
        let burst = amounts(1.0, 1024.0, &[("mem", 2048.0), ("cpus", 2.0)], true);
        assert_eq!(burst.quota, Some(200_000));
        assert_eq!(burst.memory, Some(2 << 30));
        assert_eq!(burst.reservation, Some(1 << 30));
        assert_eq!(burst.oom_score_adj, Some(900));
        let endless = amounts(
            1.0,
            1024.0,
            &[("mem", f64::INFINITY), ("cpus", f64::INFINITY)],
            true,
        );
        assert_eq!((endless.quota, endless.memory), (None, None));
        assert_eq!(endless.reservation, Some(1 << 30));
    }
}
