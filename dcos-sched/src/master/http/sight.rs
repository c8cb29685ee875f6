//! What a reader may see of the state.

use std::fmt;
use std::sync::Arc;

use dcos_proto::master::Event;
use dcos_proto::mesos::{ExecutorInfo, FrameworkInfo, Task};

/// Decides for one reader, object by object.
pub(crate) trait Sees: Send + Sync {
    /// Whether a framework is shown.
    fn framework(&self, info: &FrameworkInfo) -> bool;
    /// Whether a task of a framework that is shown is.
    fn task(&self, task: &Task, framework: &FrameworkInfo) -> bool;
    /// Whether an executor of a framework that is shown is.
    fn executor(&self, executor: &ExecutorInfo, framework: &FrameworkInfo) -> bool;
    /// Whether the flags are shown.
    fn flags(&self) -> bool;
    /// Whether an event of the operator API is told.
    fn event(&self, event: &Event) -> bool;
}

/// What a reader may see: everything, or what somebody decides.
#[derive(Clone, Default)]
pub(crate) struct Sight(Option<Arc<dyn Sees>>);

impl Sight {
    /// Of a reader for whom `sees` decides.
    #[expect(dead_code, reason = "for authorizers")]
    pub(crate) fn limited(sees: Arc<dyn Sees>) -> Self {
        Self(Some(sees))
    }

    /// Whether nothing is hidden.
    pub(crate) fn is_whole(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn framework(&self, info: &FrameworkInfo) -> bool {
        self.0.as_ref().is_none_or(|sees| sees.framework(info))
    }

    pub(crate) fn task(&self, task: &Task, framework: &FrameworkInfo) -> bool {
        let sees = self.0.as_ref();
        sees.is_none_or(|sees| sees.task(task, framework))
    }

    pub(crate) fn executor(&self, executor: &ExecutorInfo, framework: &FrameworkInfo) -> bool {
        let sees = self.0.as_ref();
        sees.is_none_or(|sees| sees.executor(executor, framework))
    }

    pub(crate) fn event(&self, event: &Event) -> bool {
        self.0.as_ref().is_none_or(|sees| sees.event(event))
    }

    pub(crate) fn flags(&self) -> bool {
        self.0.as_ref().is_none_or(|sees| sees.flags())
    }
}

impl fmt::Debug for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sight")
            .field("whole", &self.is_whole())
            .finish()
    }
}
