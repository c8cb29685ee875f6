//! `cgroups/cpu`: shares of CPU time, and a quota where it is asked for.

use async_trait::async_trait;
use dcos_launcher::CgroupVersion;
use dcos_proto::mesos::{ContainerId, ResourceStatistics};

use super::{Cgroups, Folder, number_in, read, write};
use crate::isolator::{ContainerConfig, Draft, Isolator, IsolatorError, Limits, owns};

const NAME: &str = "cgroups/cpu";
/// Shares of a whole core; the kernel's default, and Mesos's.
const SHARES_PER_CPU: f64 = 1024.0;
/// The same where the CPU time can be taken away.
const SHARES_PER_REVOCABLE_CPU: f64 = 10.0;
const MIN_SHARES: u64 = 2;
/// Length of the window in which a quota holds.
const PERIOD_US: u64 = 100_000;
const MIN_QUOTA_US: u64 = 1_000;

/// Gives containers CPU time in proportion, and caps it if quotas are on or a limit is set.
#[derive(Debug)]
pub struct CpuIsolator {
    cgroups: Cgroups,
    quotas: bool,
    revocable_yields: bool,
}

impl CpuIsolator {
    /// With `quotas` a container never gets more than its `cpus` (`--cgroups_enable_cfs`); with
    /// `revocable_yields` one with revocable CPU time gets what others leave
    /// (`--revocable_cpu_low_priority`).
    ///
    /// # Errors
    /// [`IsolatorError::Unsupported`] without the `cpu` controller.
    pub fn new(
        cgroups: Cgroups,
        quotas: bool,
        revocable_yields: bool,
    ) -> Result<Self, IsolatorError> {
        cgroups.require("cpu", NAME)?;
        Ok(Self {
            cgroups,
            quotas,
            revocable_yields,
        })
    }

    fn apply(&self, folder: &Folder, limits: &Limits) -> Result<(), IsolatorError> {
        if let Some(cpus) = limits.cpus {
            let a_cpu = if self.revocable_yields && limits.revocable_cpus {
                SHARES_PER_REVOCABLE_CPU
            } else {
                SHARES_PER_CPU
            };
            let shares = shares(cpus, a_cpu);
            match folder.version {
                CgroupVersion::V1 => write(&folder.path.join("cpu.shares"), &shares.to_string())?,
                CgroupVersion::V2 => {
                    write(&folder.path.join("cpu.weight"), &weight(shares).to_string())?;
                }
            }
        }
        let most = limits
            .cpus_limit
            .or(if self.quotas { limits.cpus } else { None });
        let Some(most) = most else { return Ok(()) };
        let quota = quota(most);
        match folder.version {
            CgroupVersion::V1 => {
                write(
                    &folder.path.join("cpu.cfs_period_us"),
                    &PERIOD_US.to_string(),
                )?;
                let quota = quota.map_or("-1".to_owned(), |quota| quota.to_string());
                write(&folder.path.join("cpu.cfs_quota_us"), &quota)
            }
            CgroupVersion::V2 => {
                let quota = quota.map_or("max".to_owned(), |quota| quota.to_string());
                write(
                    &folder.path.join("cpu.max"),
                    &format!("{quota} {PERIOD_US}"),
                )
            }
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates"
)]
fn shares(cpus: f64, a_cpu: f64) -> u64 {
    ((cpus * a_cpu) as u64).max(MIN_SHARES)
}

/// Version 2's weight (1 to 10,000) for shares (2 to 262,144), as systemd and runc convert it.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(MIN_SHARES, 262_144) - 2) * 9_999 / 262_142
}

/// Cores that a container may take at most; none if all.
fn limit(folder: &Folder) -> Option<f64> {
    let text = |name| read(&folder.path.join(name)).ok();
    let (quota, period) = match folder.version {
        CgroupVersion::V1 => (text("cpu.cfs_quota_us")?, text("cpu.cfs_period_us")?),
        CgroupVersion::V2 => {
            let both = text("cpu.max")?;
            let (quota, period) = both.split_once(' ')?;
            (quota.to_owned(), period.to_owned())
        }
    };
    // Neither -1 nor `max` is such a number.
    let quota = quota.trim().parse::<u32>().ok()?;
    Some(f64::from(quota) / f64::from(period.trim().parse::<u32>().ok()?))
}

/// Microseconds of CPU time in a period; none if unlimited.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "saturates; the period is small"
)]
fn quota(cpus: f64) -> Option<u64> {
    cpus.is_finite()
        .then(|| ((cpus * PERIOD_US as f64) as u64).max(MIN_QUOTA_US))
}

#[async_trait]
impl Isolator for CpuIsolator {
    fn name(&self) -> &'static str {
        NAME
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, containers: &[ContainerId]) -> Result<(), IsolatorError> {
        self.cgroups.remove_unknown("cpu", containers).await?;
        self.cgroups.remove_unknown("cpuacct", containers).await
    }

    async fn prepare(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError> {
        let folder = self.cgroups.join("cpu", &config.id, draft)?;
        if self.cgroups.has("cpuacct") {
            self.cgroups.join("cpuacct", &config.id, draft)?;
        }
        if owns(config) {
            self.apply(&folder, &config.limits)
        } else {
            Ok(())
        }
    }

    async fn update(&self, id: &ContainerId, limits: &Limits) -> Result<(), IsolatorError> {
        match self.cgroups.folder("cpu", id) {
            Some(folder) if folder.path.exists() => self.apply(&folder, limits),
            _ => Ok(()),
        }
    }

    async fn usage(
        &self,
        id: &ContainerId,
        statistics: &mut ResourceStatistics,
    ) -> Result<(), IsolatorError> {
        let Some(folder) = self.cgroups.folder("cpu", id) else {
            return Ok(());
        };
        let stat = read(&folder.path.join("cpu.stat"))?;
        let count = |key| number_in(&stat, key).and_then(|count| u32::try_from(count).ok());
        // Only where there is a quota; what is kept for it the agent knows.
        statistics.cpus_limit = limit(&folder);
        statistics.cpus_nr_periods = count("nr_periods");
        statistics.cpus_nr_throttled = count("nr_throttled");
        match folder.version {
            CgroupVersion::V1 => {
                let throttled = number_in(&stat, "throttled_time");
                statistics.cpus_throttled_time_secs = throttled.map(|time| seconds(time, 1e9));
                let Some(folder) = self.cgroups.folder("cpuacct", id) else {
                    return Ok(());
                };
                let stat = read(&folder.path.join("cpuacct.stat"))?;
                // Ticks of USER_HZ, which is 100 on every architecture we run on.
                let time = |key| number_in(&stat, key).map(|ticks| seconds(ticks, 100.0));
                statistics.cpus_user_time_secs = time("user");
                statistics.cpus_system_time_secs = time("system");
            }
            CgroupVersion::V2 => {
                let time = |key| number_in(&stat, key).map(|time| seconds(time, 1e6));
                statistics.cpus_user_time_secs = time("user_usec");
                statistics.cpus_system_time_secs = time("system_usec");
                statistics.cpus_throttled_time_secs = time("throttled_usec");
            }
        }
        Ok(())
    }

    async fn cleanup(&self, id: &ContainerId) -> Result<(), IsolatorError> {
        self.cgroups.remove("cpuacct", id).await?;
        self.cgroups.remove("cpu", id).await
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 104 days in nanoseconds"
)]
fn seconds(count: u64, a_second: f64) -> f64 {
    count as f64 / a_second
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_become_shares_weights_and_quotas() {
        let shares = |cpus| shares(cpus, SHARES_PER_CPU);
        assert_eq!([shares(0.0), shares(0.1), shares(2.0)], [2, 102, 2048]);
        assert_eq!(super::shares(2.0, SHARES_PER_REVOCABLE_CPU), 20);
        assert_eq!(
            [weight(2), weight(1024), weight(262_144), weight(u64::MAX)],
            [1, 39, 10_000, 10_000]
        );
        assert_eq!(
            [quota(0.5), quota(0.0), quota(f64::INFINITY)],
            [Some(50_000), Some(1_000), None]
        );
    }
}
