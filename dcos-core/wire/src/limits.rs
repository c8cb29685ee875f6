//! How many files this process may have open, connections among them.
//!
//! Systems give programs a low limit that they may raise (the soft one, often 1024) for the sake of
//! those that use `select(2)`, and a high one that they may raise it to. Programs that hold a
//! connection for each of many peers raise it at their start, and see to it that what they run for
//! others begins with the former one.

use std::io;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What was in force before [`raise_open_files`].
static FORMER: OnceLock<Rlimit> = OnceLock::new();

/// Soft and hard limit of open files; `u64::MAX` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// What is in force.
    pub soft: u64,
    /// What the process may raise that to.
    pub hard: u64,
}

impl From<Rlimit> for OpenFiles {
    fn from(limit: Rlimit) -> Self {
        Self {
            soft: limit.current.unwrap_or(u64::MAX),
            hard: limit.maximum.unwrap_or(u64::MAX),
        }
    }
}

/// The limits now in force.
pub fn open_files() -> OpenFiles {
    getrlimit(Resource::Nofile).into()
}

/// Raises the soft limit of this process to its hard one; repeating it changes nothing.
///
/// # Errors
/// The system refuses; the limits are as before.
pub fn raise_open_files() -> io::Result<OpenFiles> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        setrlimit(Resource::Nofile, raised)?;
        let _ = FORMER.set(limit);
    }
    Ok(open_files())
}

/// What was in force before [`raise_open_files`] changed it: for children. `None` if it changed
/// nothing, so that children have it anyway.
pub fn former_open_files() -> Option<OpenFiles> {
    FORMER.get().copied().map(OpenFiles::from)
}

/// Takes [`raise_open_files`] back, for a program that takes this one's place in the process.
///
/// # Errors
/// The system refuses.
pub fn restore_open_files() -> io::Result<()> {
    match FORMER.get() {
        Some(former) => Ok(setrlimit(Resource::Nofile, *former)?),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In one test: limits are the whole process's.
    #[test]
    fn the_soft_limit_is_raised_and_the_former_is_remembered() {
        let OpenFiles { hard, .. } = open_files();
        let soft = hard - 1;
        let low = Rlimit {
            current: Some(soft),
            ..getrlimit(Resource::Nofile)
        };
        setrlimit(Resource::Nofile, low).unwrap();
        assert_eq!(former_open_files(), None);
        let raised = OpenFiles { soft: hard, hard };
        for _ in 0..2 {
            assert_eq!(raise_open_files().unwrap(), raised);
            assert_eq!(former_open_files(), Some(OpenFiles { soft, hard }));
        }
        restore_open_files().unwrap();
        assert_eq!(open_files(), OpenFiles { soft, hard });
    }
}
