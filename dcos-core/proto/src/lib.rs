//! Mesos's messages, once: Rust types that serve protobuf bytes of API v0 and v1 and both JSON
//! dialects, and the [`recordio`] framing of its streams.
//!
//! The names are those of API v1 (`agent_id`, not `slave_id`); the field numbers are the same in
//! both APIs, so one set of types reads and writes the bytes of either. Where the JSON of API v0
//! spells a name differently, [`json::Dialect`] chooses. The schema these types are generated from
//! is in `schema/`, facts taken from Apache Mesos 1.11 (`include/mesos/**.proto` and
//! `src/messages/*.proto`).
//!
//! ```
//! use dcos_proto::{json::{self, Dialect}, mesos::TaskStatus};
//!
//! let text = r#"{"task_id":{"value":"t1"},"state":"TASK_RUNNING","agent_id":{"value":"a1"}}"#;
//! let status: TaskStatus = json::from_slice(text.as_bytes(), Dialect::V1)?;
//! assert_eq!(json::to_string(&status, Dialect::V0),
//!     r#"{"task_id":{"value":"t1"},"state":"TASK_RUNNING","slave_id":{"value":"a1"}}"#);
//! # Ok::<(), json::JsonError>(())
//! ```
//!
//! What it does not hold: rules. Whether a message makes sense is decided by who receives it.

mod ids;
pub mod json;
pub mod recordio;
mod shape;

pub use shape::{DecodeError, Shape, ShapeOf, decode};

/// A message of Mesos: encodes to bytes through [`prost::Message`], to JSON through [`json`].
pub trait Message: prost::Message + Default + json::Json {
    /// The full name in the schema, such as `mesos.v1.TaskInfo` or
    /// `mesos.internal.RegisterSlaveMessage`.
    const NAME: &'static str;

    /// The full name in API v0, such as `mesos.TaskInfo` or `mesos.scheduler.Call`: what a
    /// libprocess message is called in the path of its request.
    const V0_NAME: &'static str;

    /// Which fields must be there; see [`decode`].
    const SHAPE: &'static Shape;
}

#[expect(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "generated code; what the messages mean is documented in the schema"
)]
#[allow(
    rustdoc::all,
    reason = "whether one of these bites depends on the flags of rustdoc"
)]
mod generated {
    /// The structs of one package and their JSON.
    macro_rules! package {
        ($name:literal) => {
            include!(concat!("generated/", $name, ".rs"));
            include!(concat!("generated/", $name, ".json.rs"));
        };
    }

    pub mod mesos {
        pub mod v1 {
            package!("mesos.v1");
            pub mod agent {
                package!("mesos.v1.agent");
            }
            pub mod allocator {
                package!("mesos.v1.allocator");
            }
            pub mod executor {
                package!("mesos.v1.executor");
            }
            pub mod maintenance {
                package!("mesos.v1.maintenance");
            }
            pub mod master {
                package!("mesos.v1.master");
            }
            pub mod quota {
                package!("mesos.v1.quota");
            }
            pub mod resource_provider {
                package!("mesos.v1.resource_provider");
            }
            pub mod scheduler {
                package!("mesos.v1.scheduler");
            }
        }
        pub mod internal {
            package!("mesos.internal");
            pub mod state {
                package!("mesos.internal.state");
            }
        }
        pub mod resource_provider {
            pub mod registry {
                package!("mesos.resource_provider.registry");
            }
        }
    }
}

pub use generated::mesos::internal;
pub use generated::mesos::resource_provider::registry as resource_provider_registry;
pub use generated::mesos::v1 as mesos;
pub use generated::mesos::v1::{
    agent, allocator, executor, maintenance, master, quota, resource_provider, scheduler,
};
pub use internal::state;
