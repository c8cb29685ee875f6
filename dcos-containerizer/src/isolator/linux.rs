//! `linux/capabilities`, `linux/nnp`, `linux/seccomp`: what a container's processes may ask the
//! kernel for.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use dcos_proto::mesos::{CapabilityInfo, ContainerId, LinuxInfo, capability_info};
use oci_spec::runtime::{Capability, LinuxCapabilitiesBuilder};

use super::draft::refused;
use super::plan::CAPABILITIES;
use super::seccomp::{Compiler, Profile};
use super::{ContainerConfig, Draft, Isolator, IsolatorError};

fn linux_info(config: &ContainerConfig) -> Option<&LinuxInfo> {
    config.container.as_ref()?.linux_info.as_ref()
}

/// Gives a container the capabilities it asked for, or the agent's default, and no others.
#[derive(Debug, Default)]
pub struct CapabilitiesIsolator {
    effective: Option<HashSet<Capability>>,
    bounding: Option<HashSet<Capability>>,
}

impl CapabilitiesIsolator {
    /// With the agent's defaults (`--effective_capabilities`, `--bounding_capabilities`).
    ///
    /// # Errors
    /// [`IsolatorError::Refused`] for an unknown capability, or one that is effective and not
    /// bounding.
    pub fn new(
        effective: Option<&CapabilityInfo>,
        bounding: Option<&CapabilityInfo>,
    ) -> Result<Self, IsolatorError> {
        let effective = effective.map(set_of).transpose()?;
        let bounding = bounding.map(set_of).transpose()?;
        check_bounds(effective.as_ref(), bounding.as_ref())?;
        Ok(Self {
            effective,
            bounding,
        })
    }
}

impl CapabilitiesIsolator {
    /// Bounds a container, and gives whoever runs in it `given` at once: without it only root has
    /// what the bounds allow.
    fn set(
        draft: &mut Draft,
        bounding: HashSet<Capability>,
        given: Option<HashSet<Capability>>,
    ) -> Result<(), IsolatorError> {
        let in_force = given.clone().unwrap_or_else(|| bounding.clone());
        let given = given.unwrap_or_default();
        let sets = LinuxCapabilitiesBuilder::default()
            .bounding(bounding)
            .permitted(in_force.clone())
            .effective(in_force)
            .inheritable(given.clone())
            .ambient(given)
            .build()
            .map_err(refused)?;
        if let Some(process) = draft.spec.process_mut() {
            process.set_capabilities(Some(sets));
        }
        Ok(())
    }
}

/// What a container that nobody gave anything is bounded by: Docker's list, less making device
/// nodes, raw sockets and audit records. Mesos leaves root everything there.
fn default_set() -> HashSet<Capability> {
    use Capability::{
        Chown, DacOverride, Fowner, Fsetid, Kill, NetBindService, Setfcap, Setgid, Setpcap, Setuid,
        SysChroot,
    };
    HashSet::from([
        Chown,
        DacOverride,
        Fowner,
        Fsetid,
        Kill,
        NetBindService,
        Setfcap,
        Setgid,
        Setpcap,
        Setuid,
        SysChroot,
    ])
}

/// Mesos numbers a capability 1000 above Linux.
const OFFSET: i32 = capability_info::Capability::Chown as i32;

fn set_of(info: &CapabilityInfo) -> Result<HashSet<Capability>, IsolatorError> {
    let find = |number: &i32| {
        let index = usize::try_from(number - OFFSET).ok();
        let found = index.and_then(|index| CAPABILITIES.get(index).copied());
        found.ok_or_else(|| IsolatorError::refused(format!("unknown capability {number}")))
    };
    info.capabilities.iter().map(find).collect()
}

fn check_bounds(
    effective: Option<&HashSet<Capability>>,
    bounding: Option<&HashSet<Capability>>,
) -> Result<(), IsolatorError> {
    match (effective, bounding) {
        (Some(effective), Some(bounding)) if !effective.is_subset(bounding) => {
            let mut beyond: Vec<_> = effective
                .difference(bounding)
                .map(ToString::to_string)
                .collect();
            beyond.sort();
            let beyond = beyond.join(", ");
            let why = format!("capabilities beyond the bounding ones: {beyond}");
            Err(IsolatorError::refused(why))
        }
        _ => Ok(()),
    }
}

#[async_trait]
impl Isolator for CapabilitiesIsolator {
    fn name(&self) -> &'static str {
        "linux/capabilities"
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, _: &[ContainerId]) -> Result<(), IsolatorError> {
        Ok(())
    }

    async fn prepare(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError> {
        let linux = linux_info(config);
        // `capability_info` is the old name of the effective ones.
        let (old, new) = linux.map_or((None, None), |linux| {
            let new = linux.effective_capabilities.as_ref();
            (linux.capability_info.as_ref(), new)
        });
        if old.is_some() && new.is_some() {
            return Err(IsolatorError::refused(
                "only one of `capability_info` and `effective_capabilities` can be asked for",
            ));
        }
        let asked = new.or(old).map(set_of).transpose()?;
        let asked_bounding = linux.and_then(|l| l.bounding_capabilities.as_ref());
        let asked_bounding = asked_bounding.map(set_of).transpose()?;
        // What the operator allows at most holds for whatever is asked.
        for wanted in [&asked, &asked_bounding] {
            check_bounds(wanted.as_ref(), self.bounding.as_ref())?;
        }
        let bounding = asked_bounding
            // Who names effective ones only is bounded by them.
            .or_else(|| asked.clone())
            .or_else(|| self.bounding.clone())
            .or_else(|| self.effective.clone());
        let effective = asked.or_else(|| self.effective.clone());
        check_bounds(effective.as_ref(), bounding.as_ref())?;
        // The bounds alone give nobody anything: `effective` stays empty then.
        Self::set(draft, bounding.unwrap_or_else(default_set), effective)
    }

    async fn cleanup(&self, _: &ContainerId) -> Result<(), IsolatorError> {
        Ok(())
    }
}

/// Takes from a container the way to more privileges through set-user-id programs.
#[derive(Debug)]
pub struct NoNewPrivilegesIsolator;

#[async_trait]
impl Isolator for NoNewPrivilegesIsolator {
    fn name(&self) -> &'static str {
        "linux/nnp"
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, _: &[ContainerId]) -> Result<(), IsolatorError> {
        Ok(())
    }

    async fn prepare(&self, _: &ContainerConfig, draft: &mut Draft) -> Result<(), IsolatorError> {
        if let Some(process) = draft.spec.process_mut() {
            process.set_no_new_privileges(Some(true));
        }
        Ok(())
    }

    async fn cleanup(&self, _: &ContainerId) -> Result<(), IsolatorError> {
        Ok(())
    }
}

/// Filters a container's system calls.
#[derive(Debug)]
pub struct SeccompIsolator {
    folder: Option<PathBuf>,
    default: Arc<Compiler>,
    /// Those that containers named, with the text that they were read from.
    named: Mutex<BTreeMap<String, Named>>,
}

type Named = (Vec<u8>, Arc<Compiler>);

impl SeccompIsolator {
    /// Containers get the profile of the file `name` in `folder` (`--seccomp_profile_name`,
    /// `--seccomp_config_dir`), or the built-in one, unless they name another or none.
    ///
    /// # Errors
    /// [`IsolatorError`] if the profile cannot be read.
    pub fn new(folder: Option<PathBuf>, name: Option<&str>) -> Result<Self, IsolatorError> {
        let mut isolator = Self {
            folder,
            default: Arc::new(Compiler::new(Profile::builtin())),
            named: Mutex::default(),
        };
        if let Some(name) = name {
            isolator.default = isolator.load(name)?;
        }
        Ok(isolator)
    }

    /// The profile of a file; what an operator changes in it holds for the next container.
    fn load(&self, name: &str) -> Result<Arc<Compiler>, IsolatorError> {
        let folder = self.folder.as_ref().ok_or_else(|| {
            IsolatorError::refused("a seccomp profile was named, but no folder of profiles is set")
        })?;
        if name.contains('/') || name.starts_with('.') {
            return Err(IsolatorError::refused(format!(
                "`{name}` is no seccomp profile's name"
            )));
        }
        let path = folder.join(name);
        let text = fs::read(&path).map_err(IsolatorError::file("reading", path))?;
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = named.get(name).filter(|(known, _)| *known == text) {
            return Ok(Arc::clone(known));
        }
        let read = Arc::new(Compiler::new(Profile::parse(&text)?));
        named.insert(name.to_owned(), (text, Arc::clone(&read)));
        Ok(read)
    }
}

#[async_trait]
impl Isolator for SeccompIsolator {
    fn name(&self) -> &'static str {
        "linux/seccomp"
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, _: &[ContainerId]) -> Result<(), IsolatorError> {
        Ok(())
    }

    async fn prepare(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError> {
        let asked = linux_info(config).and_then(|linux| linux.seccomp.as_ref());
        if asked.is_some_and(|seccomp| seccomp.unconfined == Some(true)) {
            return Ok(());
        }
        let profile = match asked.and_then(|seccomp| seccomp.profile_name.as_deref()) {
            Some(name) => self.load(name)?,
            None => Arc::clone(&self.default),
        };
        let process = draft.spec.process().as_ref();
        let capabilities = process.and_then(|p| p.capabilities().as_ref()?.bounding().as_ref());
        let compiled = profile.compiled(capabilities)?;
        draft.seccomp.clone_from(&compiled.filters);
        draft.profile = Some(compiled);
        Ok(())
    }

    async fn cleanup(&self, _: &ContainerId) -> Result<(), IsolatorError> {
        Ok(())
    }
}
