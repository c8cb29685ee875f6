//! What every id can do: be made from text, be printed, be ordered.

use std::fmt;

use crate::mesos::{
    AgentId, ContainerId, ExecutorId, FrameworkId, OfferId, OperationId, ResourceProviderId, TaskId,
};

macro_rules! ids {
    ($($id:ident),*) => {$(
        impl $id {
            /// The id's text.
            pub fn as_str(&self) -> &str {
                &self.value
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.value)
            }
        }

        impl From<&str> for $id {
            fn from(value: &str) -> Self {
                Self { value: value.to_owned() }
            }
        }

        impl From<String> for $id {
            fn from(value: String) -> Self {
                Self { value }
            }
        }
    )*};
}

ids!(
    FrameworkId,
    OfferId,
    AgentId,
    TaskId,
    ExecutorId,
    ResourceProviderId,
    OperationId
);

impl ContainerId {
    /// A container that is nested in no other.
    pub fn root(value: impl Into<String>) -> Self {
        Self {
            value: value.into(),
            parent: None,
        }
    }

    /// The container named `value` nested in `self`.
    pub fn child(&self, value: impl Into<String>) -> Self {
        Self {
            value: value.into(),
            parent: Some(Box::new(self.clone())),
        }
    }

    /// The outermost container this one is nested in, or itself.
    pub fn root_id(&self) -> &Self {
        let mut id = self;
        while let Some(parent) = &id.parent {
            id = parent;
        }
        id
    }

    /// How many containers this one is nested in: 0 for a root container.
    pub fn depth(&self) -> usize {
        self.parent.as_ref().map_or(0, |parent| 1 + parent.depth())
    }
}

/// From the outermost to the innermost, joined by dots, as Mesos logs them.
impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = &self.parent {
            write!(f, "{parent}.")?;
        }
        f.write_str(&self.value)
    }
}
