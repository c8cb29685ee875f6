//! `cgroups/pressure`: containers that wait for CPU time, memory or disks for too long are ended.
//!
//! The kernel tells how much of the time processes of a cgroup stood still for want of a resource
//! (pressure stall information, in version 2 only, whatever has the controllers). A node that
//! swaps is slow for everybody long before anything runs out: this ends who suffers most, where
//! a limit in bytes would have to be guessed.
//!
//! Mesos has nothing like it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use dcos_core::units::format_duration;
use dcos_proto::mesos::ContainerId;
use dcos_proto::mesos::task_status::Reason;
use serde::Deserialize;
use tokio::io::Interest;

use super::Cgroups;
use super::memory::asynchronous;
use crate::isolator::{ContainerConfig, Draft, Isolator, IsolatorError, Limitation};

const NAME: &str = "cgroups/pressure";
/// The windows that the kernel measures in.
const WINDOW: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(500)..=Duration::from_secs(10);

/// What a container may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stalled {
    /// Processors.
    Cpu,
    /// Memory that has to be taken from somebody.
    Memory,
    /// Disks.
    Io,
}

impl Stalled {
    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Io => "io",
        }
    }
}

/// How much a container may wait.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StallLimit {
    /// The share of time in which at least one process stands still.
    pub some: Option<f64>,
    /// The share of time in which all do.
    pub full: Option<f64>,
    /// In how many seconds that is measured: 0.5 to 10.
    #[serde(default = "ten_seconds")]
    pub window: f64,
}

fn ten_seconds() -> f64 {
    10.0
}

/// Limits by what is waited for, as `--container_pressure_limits` has them.
pub type StallLimits = BTreeMap<Stalled, StallLimit>;

/// A trigger as the kernel takes it, and what to say when it fires.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trigger {
    file: String,
    line: String,
    says: String,
}

/// Ends root containers that wait for too long, with what is nested in them.
#[derive(Debug)]
pub struct PressureIsolator {
    cgroups: Cgroups,
    triggers: Vec<Trigger>,
}

impl PressureIsolator {
    /// With the limits of every container; without any it does nothing.
    ///
    /// # Errors
    /// [`IsolatorError::Unsupported`] if the kernel does not measure pressure, or has no cgroups
    /// of version 2; [`IsolatorError::Refused`] for limits that it cannot watch.
    pub fn new(cgroups: Cgroups, limits: &StallLimits) -> Result<Self, IsolatorError> {
        let unsupported = |reason: String| IsolatorError::Unsupported {
            isolator: NAME,
            reason,
        };
        let v2 = cgroups.v2.as_ref();
        let v2 = v2.ok_or_else(|| unsupported("cgroup version 2 is not mounted".to_owned()))?;
        let measured = std::fs::read_to_string(v2.join("memory.pressure"));
        measured.map_err(|error| unsupported(format!("no pressure is measured: {error}")))?;
        let mut triggers = Vec::new();
        for (stalled, limit) in limits {
            triggers.extend(limit.triggers(*stalled)?);
        }
        for trigger in &triggers {
            // Better now than with every container.
            trigger.set(v2).map_err(|error| {
                let (file, line) = (&trigger.file, &trigger.line);
                IsolatorError::refused(format!(
                    "container_pressure_limits: the kernel refuses `{line}` of {file}: {error} (without \
                     CAP_SYS_RESOURCE a window has an even number of seconds)"
                ))
            })?;
        }
        Ok(Self { cgroups, triggers })
    }
}

impl StallLimit {
    fn triggers(&self, stalled: Stalled) -> Result<Vec<Trigger>, IsolatorError> {
        let name = stalled.name();
        let refused = |why: String| {
            IsolatorError::refused(format!("container_pressure_limits: {name}: {why}"))
        };
        let window = Duration::try_from_secs_f64(self.window).unwrap_or_default();
        if !WINDOW.contains(&window) {
            return Err(refused("a window has 0.5 to 10 seconds".to_owned()));
        }
        let kinds = [
            ("some", "one process", self.some),
            ("full", "all processes", self.full),
        ];
        let wanted = kinds
            .into_iter()
            .filter_map(|(kind, who, share)| Some((kind, who, share?)));
        wanted
            .map(|(kind, who, share)| {
                if !(share > 0.0 && share <= 1.0) {
                    return Err(refused(format!("{share} is no share of time")));
                }
                let threshold = window.mul_f64(share).as_micros();
                Ok(Trigger {
                    file: format!("{name}.pressure"),
                    line: format!("{kind} {threshold} {}", window.as_micros()),
                    says: format!(
                        "Pressure limit exceeded: {who} waited for {name} in {:.0} % of {}",
                        share * 100.0,
                        format_duration(window)
                    ),
                })
            })
            .collect()
    }
}

impl Trigger {
    /// Has the kernel measure for it in the cgroup `folder`, as long as the file is open.
    fn set(&self, folder: &Path) -> io::Result<File> {
        let mut options = File::options();
        let mut file = options
            .read(true)
            .write(true)
            .open(folder.join(&self.file))?;
        file.write_all(format!("{}\0", self.line).as_bytes())?;
        Ok(file)
    }

    /// Waits until it fires in the cgroup `folder`; for ever if that goes.
    async fn fired(&self, folder: &Path) -> io::Result<()> {
        let file = asynchronous(self.set(folder)?, Interest::PRIORITY)?;
        // The kernel says the same, with an error, when the cgroup is removed.
        let ready = file.ready(Interest::PRIORITY | Interest::ERROR).await?;
        if ready.ready().is_error() || !folder.exists() {
            std::future::pending().await
        }
        Ok(())
    }
}

#[async_trait]
impl Isolator for PressureIsolator {
    fn name(&self) -> &'static str {
        NAME
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, containers: &[ContainerId]) -> Result<(), IsolatorError> {
        self.cgroups.remove_unknown("pressure", containers).await
    }

    async fn prepare(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError> {
        self.cgroups.track(&config.id, draft)
    }

    async fn watch(&self, id: &ContainerId) -> Limitation {
        let folder = self.cgroups.tracked(id);
        let (Some(folder), None) = (folder, id.parent.as_ref()) else {
            return std::future::pending().await;
        };
        let fired = self.triggers.iter().map(|trigger| {
            let folder = &folder;
            Box::pin(async move {
                if let Err(error) = trigger.fired(folder).await {
                    tracing::warn!(container = %id, %error, "its pressure is not watched");
                    std::future::pending::<()>().await;
                }
                Limitation {
                    reason: Reason::ContainerLimitation.into(),
                    resources: Vec::new(),
                    message: trigger.says.clone(),
                }
            })
        });
        let fired: Vec<_> = fired.collect();
        if fired.is_empty() {
            return std::future::pending().await;
        }
        futures::future::select_all(fired).await.0
    }

    async fn cleanup(&self, id: &ContainerId) -> Result<(), IsolatorError> {
        self.cgroups.remove("pressure", id).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_what_the_kernel_takes() {
        let limits = r#"{"memory": {"full": 0.25, "some": 0.5}, "cpu": {"some": 1, "window": 1}}"#;
        let limits: StallLimits = serde_json::from_str(limits).unwrap();
        let lines = |stalled| -> Vec<_> {
            let triggers = limits[&stalled].triggers(stalled).unwrap();
            triggers.into_iter().map(|trigger| trigger.line).collect()
        };
        assert_eq!(
            lines(Stalled::Memory),
            ["some 5000000 10000000", "full 2500000 10000000"]
        );
        assert_eq!(lines(Stalled::Cpu), ["some 1000000 1000000"]);
        for wrong in [
            StallLimit {
                some: Some(1.5),
                full: None,
                window: 1.0,
            },
            StallLimit {
                some: Some(0.0),
                full: None,
                window: 1.0,
            },
            StallLimit {
                some: Some(0.5),
                full: None,
                window: 11.0,
            },
        ] {
            assert!(wrong.triggers(Stalled::Io).is_err(), "{wrong:?}");
        }
        assert!(serde_json::from_str::<StallLimits>(r#"{"disk": {}}"#).is_err());
    }
}
