//! What users describe: apps, groups and the parts they are made of.
//!
//! Field names, defaults and what is left out when empty are Marathon 1.11's; these types are both the
//! documents of the HTTP API and the rows of the store. [`AppUpdate`] is an app with every field
//! optional and with the deprecated ones; [`crate::normalize`] turns it into an [`App`].

mod app;
mod check;
mod constraint;
mod container;
mod group;
pub mod number;
mod pod;
pub(crate) mod pod_shape;
pub(crate) mod shape;
mod strategy;

pub use app::{App, AppUpdate, EnvValue, Fetch, SecretDef, VersionInfo};
pub use check::{
    AppCheck, CheckCommand, CommandCheck, ExecCheck, HealthCheck, HttpCheck, Protocol,
    ReadinessCheck, TcpCheck,
};
pub use constraint::{Constraint, Operator};
pub use container::{
    Container, DRIVER_OPTION, DVDI, DiskType, DockerContainer, DockerNetwork, DockerParameter,
    EngineType, ExternalVolume, IpAddress, IpDiscovery, IpDiscoveryPort, LinuxInfo, Network,
    NetworkMode, PersistentVolume, PortDefinition, PortMapping, PullConfig, Volume, VolumeMode,
};
pub(crate) use group::differences;
pub use group::{Group, GroupUpdate, RootGroup};
pub use pod::{
    Endpoint, EndpointCheck, Exec, Lifecycle, Placement, Pod, PodBackoff, PodCheck, PodConstraint,
    PodContainer, PodHealthCheck, PodImage, PodResources, PodVolume, Scaling, Scheduling,
    VolumeMount,
};
pub use strategy::{
    ExecutorResources, KillSelection, ResourceLimit, ResourceLimits, Unreachable,
    UnreachableStrategy, UpgradeStrategy,
};
