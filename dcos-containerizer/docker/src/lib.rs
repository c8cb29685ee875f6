//! The containerizer that has a Docker Engine run containers, through its HTTP API.
//!
//! [`Docker`] implements [`Containerizer`](dcos_containerizer::containerizer::Containerizer) for
//! containers of type `DOCKER`; [`Collector`] removes images and containers that nobody uses any
//! more. What is done with each option of `docker run`, and how output survives restarts, is told
//! in `docs/docker.md` beside this crate.

mod collect;
mod config;
mod containerizer;
mod credentials;
mod engine;
mod exec;
mod gpus;
mod lifecycle;
mod logs;
mod networks;
mod parameters;
mod pull;
mod recovery;
mod resources;
mod shape;
mod store;
mod usage;

pub use collect::{CollectConfig, Collector};
pub use config::{DockerConfig, OPTIONS, OptionError};
pub use containerizer::Docker;
pub use networks::{BridgeNetwork, BridgeNetworks};
