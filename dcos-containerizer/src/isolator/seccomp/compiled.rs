//! Profiles as containers get them: compiled once for each set of capabilities, not for each container.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use dcos_launcher::Filter;
use oci_spec::runtime::{Capability, LinuxSeccomp};

use super::Profile;
use crate::isolator::IsolatorError;
use crate::isolator::plan::bits_of;

/// So many sets of capabilities are remembered of a profile. A node has a handful; who asks for others each time
/// is served as well, and fills no memory.
const REMEMBERED: usize = 32;

/// A profile for containers with certain capabilities in their bounding set.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// In the order of installation.
    pub(crate) filters: Vec<Filter>,
    /// For runtimes that compile it themselves.
    pub(crate) oci: LinuxSeccomp,
}

/// A profile, and what it was compiled to.
#[derive(Debug)]
pub(crate) struct Compiler {
    profile: Profile,
    known: Mutex<BTreeMap<Option<u64>, Arc<Compiled>>>,
}

impl Compiler {
    pub(crate) fn new(profile: Profile) -> Self {
        let known = Mutex::default();
        Self { profile, known }
    }

    /// The profile for containers with these capabilities, as [`Profile::compile`] has it.
    ///
    /// # Errors
    /// [`IsolatorError::Seccomp`] if the profile cannot be expressed.
    pub(crate) fn compiled(
        &self,
        capabilities: Option<&HashSet<Capability>>,
    ) -> Result<Arc<Compiled>, IsolatorError> {
        let key = capabilities.map(bits_of);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(compiled) = known.get(&key) {
            return Ok(Arc::clone(compiled));
        }
        let compiled = Arc::new(Compiled {
            filters: self.profile.compile(capabilities)?,
            oci: self.profile.to_oci(capabilities)?,
        });
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key, Arc::clone(&compiled));
        Ok(compiled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_compiled_once_for_each_set_of_capabilities() {
        let compiler = Compiler::new(Profile::builtin());
        let administrator = HashSet::from([Capability::SysAdmin]);
        let none = compiler.compiled(None).unwrap();
        let more = compiler.compiled(Some(&administrator)).unwrap();
        assert!(Arc::ptr_eq(&none, &compiler.compiled(None).unwrap()));
        assert!(Arc::ptr_eq(
            &more,
            &compiler.compiled(Some(&administrator)).unwrap()
        ));
        let apart = Profile::builtin().compile(Some(&administrator)).unwrap();
        assert_eq!(more.filters, apart);
        assert_ne!(none.filters, more.filters);
    }

    #[test]
    fn asking_for_ever_other_capabilities_fills_no_memory() {
        let compiler = Compiler::new(Profile::builtin());
        let all = crate::isolator::plan::CAPABILITIES;
        for first in 0..8 {
            for second in 8..16 {
                let set = HashSet::from([all[first], all[second]]);
                compiler.compiled(Some(&set)).unwrap();
            }
        }
        assert!(compiler.known.lock().unwrap().len() <= REMEMBERED);
    }
}
