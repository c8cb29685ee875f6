//! `posix/cpu`, `posix/mem`, `posix/rlimits`: what works without cgroups and without root.

mod rlimits;
mod usage;

pub use rlimits::RlimitsIsolator;
pub use usage::{PosixCpuIsolator, PosixMemIsolator};
