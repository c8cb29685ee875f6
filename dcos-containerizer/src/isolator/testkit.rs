//! What every [`Isolator`] must pass: one function a promise of its contract, named after it.
//!
//! ```
//! use std::sync::Arc;
//! use dcos_containerizer::isolator::posix::PosixCpuIsolator;
//! use dcos_containerizer::isolator::testkit;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! testkit::all(&|| Arc::new(PosixCpuIsolator::default())).await;
//! # });
//! ```
//!
//! Each function panics with what was expected if the promise is broken. Recovery is among them,
//! and removes what it does not know: give the isolator a cgroup root of its own. No container is run:
//! that the isolator confines is for tests of its own to show.

use std::sync::Arc;

use dcos_proto::mesos::{CommandInfo, ContainerId};
use futures::FutureExt;

use super::{ContainerConfig, Draft, Isolator, Limits};

/// Makes an isolator to be tested; what it keeps on the host is shared with others it makes.
pub type Make<'a> = &'a dyn Fn() -> Arc<dyn Isolator>;

/// Runs everything below.
pub async fn all(make: Make<'_>) {
    preparing_twice_is_preparing_once(make).await;
    what_is_prepared_can_be_launched(make).await;
    strangers_are_cleaned_up_without_complaint(make).await;
    watching_is_silent_without_a_reason(make).await;
    updates_may_be_repeated(make).await;
    recovery_keeps_the_known(make).await;
    recovery_forgets_the_others(make).await;
}

/// A container that runs `true` and asks for nothing special.
pub fn config(id: &str) -> ContainerConfig {
    ContainerConfig {
        // Tests of several isolators run at the same time, on one host.
        id: ContainerId::root(format!("testkit-{}-{id}", std::process::id())),
        command: CommandInfo {
            value: Some("true".to_owned()),
            ..CommandInfo::default()
        },
        environment: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
        limits: limits(),
        sandbox: std::env::temp_dir(),
        ..ContainerConfig::default()
    }
}

fn limits() -> Limits {
    Limits {
        cpus: Some(0.5),
        mem: Some(64 << 20),
        ..Limits::default()
    }
}

async fn prepared(isolator: &dyn Isolator, config: &ContainerConfig) -> Draft {
    let mut draft = Draft::new(config).expect("the kit's container is well formed");
    let outcome = isolator.prepare(config, &mut draft).await;
    outcome.unwrap_or_else(|error| panic!("{} cannot prepare: {error}", isolator.name()));
    draft
}

async fn clean(isolator: &dyn Isolator, id: &ContainerId) {
    let outcome = isolator.cleanup(id).await;
    outcome.unwrap_or_else(|error| panic!("{} cannot clean up: {error}", isolator.name()));
}

/// Contract 2: another `prepare` for the same container wants the same.
pub async fn preparing_twice_is_preparing_once(make: Make<'_>) {
    let (isolator, config) = (make(), config("twice"));
    let first = prepared(&*isolator, &config).await;
    let second = prepared(&*isolator, &config).await;
    assert_eq!(
        first.spec,
        second.spec,
        "{} prepares differently",
        isolator.name()
    );
    assert_eq!(
        first.cgroups,
        second.cgroups,
        "{} prepares differently",
        isolator.name()
    );
    clean(&*isolator, &config.id).await;
}

/// What it writes into the draft is something the launcher accepts.
pub async fn what_is_prepared_can_be_launched(make: Make<'_>) {
    let (isolator, config) = (make(), config("plan"));
    let draft = prepared(&*isolator, &config).await;
    let plan = draft.to_plan("plan");
    clean(&*isolator, &config.id).await;
    let refused = plan.err().map(|error| error.to_string());
    assert_eq!(
        refused,
        None,
        "{} makes a draft without a plan",
        isolator.name()
    );
}

/// Contract 2: `cleanup` of an unknown container succeeds, and so does a second one.
pub async fn strangers_are_cleaned_up_without_complaint(make: Make<'_>) {
    let (isolator, config) = (make(), config("stranger"));
    clean(&*isolator, &config.id).await;
    prepared(&*isolator, &config).await;
    clean(&*isolator, &config.id).await;
    clean(&*isolator, &config.id).await;
}

/// Contract 1: `watch` waits until there is something to tell.
pub async fn watching_is_silent_without_a_reason(make: Make<'_>) {
    let (isolator, config) = (make(), config("watch"));
    prepared(&*isolator, &config).await;
    let told = isolator.watch(&config.id).now_or_never();
    clean(&*isolator, &config.id).await;
    assert_eq!(
        told,
        None,
        "{} sees a limit passed by nothing",
        isolator.name()
    );
}

/// Contract 2: `update` with the same limits again changes nothing and succeeds.
pub async fn updates_may_be_repeated(make: Make<'_>) {
    let (isolator, config) = (make(), config("update"));
    prepared(&*isolator, &config).await;
    let more = Limits {
        cpus: Some(1.0),
        mem: Some(128 << 20),
        ..Limits::default()
    };
    let mut outcomes = Vec::new();
    for limits in [more.clone(), more, limits()] {
        outcomes.push(isolator.update(&config.id, &limits).await);
    }
    clean(&*isolator, &config.id).await;
    for outcome in outcomes {
        outcome.unwrap_or_else(|error| panic!("{} cannot update: {error}", isolator.name()));
    }
}

/// Contract 1 and 5: after a restart the containers it is told of are as they were.
pub async fn recovery_keeps_the_known(make: Make<'_>) {
    let (isolator, config) = (make(), config("known"));
    let before = prepared(&*isolator, &config).await;
    let restarted = make();
    let outcome = restarted.recover(std::slice::from_ref(&config.id)).await;
    outcome.unwrap_or_else(|error| panic!("{} cannot recover: {error}", restarted.name()));
    let there = |draft: &Draft| draft.cgroups.iter().all(|cgroup| cgroup.path.exists());
    assert!(
        there(&before),
        "{} removes what is in use",
        restarted.name()
    );
    let outcome = restarted.update(&config.id, &limits()).await;
    outcome.unwrap_or_else(|error| panic!("{} forgets the known: {error}", restarted.name()));
    clean(&*restarted, &config.id).await;
}

/// Contract 5: what is left of containers that are gone is removed.
pub async fn recovery_forgets_the_others(make: Make<'_>) {
    let (isolator, config) = (make(), config("gone"));
    let before = prepared(&*isolator, &config).await;
    let restarted = make();
    let outcome = restarted.recover(&[]).await;
    outcome.unwrap_or_else(|error| panic!("{} cannot recover: {error}", restarted.name()));
    let left: Vec<_> = before
        .cgroups
        .iter()
        .filter(|cgroup| cgroup.path.exists())
        .collect();
    assert!(left.is_empty(), "{} leaves {left:?}", restarted.name());
    clean(&*restarted, &config.id).await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::isolator::cgroup::Cgroups;
    use crate::isolator::{IsolationConfig, IsolatorError, Isolators, Limitation};

    /// All built-in isolators that this host can have pass.
    #[tokio::test]
    async fn the_builtin_isolators_pass() {
        let root = std::path::PathBuf::from(format!("mesos-testkit-{}", std::process::id()));
        let cgroups = Cgroups::discover(&root).unwrap();
        let state = tempfile::tempdir().unwrap();
        let is_root = rustix::process::geteuid().is_root();
        for &name in crate::isolator::config::ORDER {
            if name == "disk/xfs" {
                println!("skipped: {name} needs a file system of its own: see tests/quotas.rs");
                continue;
            }
            let needs_cgroups = ["gpu/nvidia", "network/ports"].contains(&name);
            if (needs_cgroups || name.starts_with("cgroups/"))
                && (!is_root || !needs_cgroups && !cgroups.can(name))
            {
                println!("skipped: {name} needs root and a cgroup controller");
                continue;
            }
            let make = || {
                let config = IsolationConfig {
                    isolation: name.to_owned(),
                    cgroups_root: root.clone(),
                    runtime_dir: state.path().to_owned(),
                    csi_plugin_config_dir: Some(state.path().to_owned()),
                    ..IsolationConfig::default()
                };
                let all = Isolators::from_config(&config).unwrap();
                all.iter()
                    .find(|isolator| isolator.name() == name)
                    .unwrap()
                    .clone()
            };
            all(&make).await;
        }
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            let _ = std::fs::remove_dir(hierarchy.path().join(&root));
        }
    }

    /// One broken promise each.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Broken {
        PreparesAnew,
        HasNoPlan,
        MissesStrangers,
        CriesWolf,
        UpdatesOnce,
        ForgetsOnRecovery,
    }

    #[derive(Debug)]
    struct Double(Broken, AtomicU32);

    impl Double {
        fn refuse(&self, broken: Broken) -> Result<(), IsolatorError> {
            let nth = self.1.fetch_add(1, Ordering::Relaxed);
            if self.0 == broken && (broken != Broken::UpdatesOnce || nth > 0) {
                return Err(IsolatorError::refused("broken"));
            }
            Ok(())
        }
    }

    #[async_trait]
    impl Isolator for Double {
        fn name(&self) -> &'static str {
            "double"
        }

        fn supports_nesting(&self) -> bool {
            true
        }

        async fn recover(&self, _: &[ContainerId]) -> Result<(), IsolatorError> {
            self.refuse(Broken::ForgetsOnRecovery)
        }

        async fn prepare(
            &self,
            _: &ContainerConfig,
            draft: &mut Draft,
        ) -> Result<(), IsolatorError> {
            match self.0 {
                Broken::PreparesAnew => {
                    let nth = self.1.fetch_add(1, Ordering::Relaxed);
                    draft.spec.set_hostname(Some(format!("host-{nth}")));
                }
                // A root without a mount namespace.
                Broken::HasNoPlan => draft.root("/".into(), true),
                _ => {}
            }
            Ok(())
        }

        async fn watch(&self, _: &ContainerId) -> Limitation {
            if self.0 != Broken::CriesWolf {
                return std::future::pending().await;
            }
            Limitation {
                resources: Vec::new(),
                reason: 0,
                message: "wolf".to_owned(),
            }
        }

        async fn update(&self, _: &ContainerId, _: &Limits) -> Result<(), IsolatorError> {
            self.refuse(Broken::UpdatesOnce)
        }

        async fn cleanup(&self, _: &ContainerId) -> Result<(), IsolatorError> {
            self.refuse(Broken::MissesStrangers)
        }
    }

    /// The kit bites: each broken promise is found.
    #[test]
    fn broken_isolators_are_rejected() {
        for broken in [
            Broken::PreparesAnew,
            Broken::HasNoPlan,
            Broken::MissesStrangers,
            Broken::CriesWolf,
            Broken::UpdatesOnce,
            Broken::ForgetsOnRecovery,
        ] {
            let outcome = std::panic::catch_unwind(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .build()
                    .unwrap();
                runtime.block_on(all(&|| Arc::new(Double(broken, AtomicU32::new(0)))));
            });
            assert!(outcome.is_err(), "{broken:?} passes the kit");
        }
    }
}

/// A file system in user space whose server never answers, as one of a server that died; until it is dropped.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Silent {
    server: Option<std::fs::File>,
    place: std::path::PathBuf,
}

#[cfg(test)]
impl Silent {
    /// Mounted at `place`; `None` where that is not possible, which it says.
    pub(crate) fn mount(place: &std::path::Path) -> Option<Self> {
        use std::os::fd::AsRawFd;

        let mut server = std::fs::File::options();
        let server = server.read(true).write(true).open("/dev/fuse");
        let Ok(server) = server else {
            eprintln!("skipped: needs /dev/fuse");
            return None;
        };
        let number = server.as_raw_fd();
        let options = format!("fd={number},rootmode=40000,user_id=0,group_id=0");
        let options = std::ffi::CString::new(options).expect("it has no NUL");
        let flags = rustix::mount::MountFlags::NODEV;
        if let Err(error) = rustix::mount::mount("silent", place, "fuse", flags, Some(&*options)) {
            eprintln!("skipped: mounting takes root: {error}");
            return None;
        }
        Some(Self {
            server: Some(server),
            place: place.to_owned(),
        })
    }
}

#[cfg(test)]
impl Drop for Silent {
    fn drop(&mut self) {
        // Without its server whoever waits for it is told so.
        self.server = None;
        let flags = rustix::mount::UnmountFlags::DETACH;
        rustix::mount::unmount(&self.place, flags).expect("it is mounted");
    }
}
