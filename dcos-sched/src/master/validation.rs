//! What the master refuses, in the words of Mesos 1.11 (`src/master/validation.cpp`,
//! `src/common/validation.cpp`), because frameworks and their tests match on them.

pub(crate) mod agent;
pub(crate) mod call;
mod executor;
pub(crate) mod framework;
pub(crate) mod maintenance;
pub(crate) mod operation;
mod parts;
pub(crate) mod quota;
mod resources;
pub(crate) mod task;
