//! Container images: from a name to ordered layers on disk, and from those to a root file system.
//!
//! ```no_run
//! # async fn example() -> Result<(), dcos_image::ImageError> {
//! use dcos_image::{ImageStore, Request, Source, StoreConfig, registry::RegistryConfig};
//!
//! let source = Source::Registry(RegistryConfig::default());
//! let store = ImageStore::new(StoreConfig::new("/var/lib/dcos/store", source));
//! store.recover().await?;
//! let image = store.get(&Request::new("busybox:1.36")).await?;
//! dcos_image::root::overlay(&image.layers, "/tmp/c".as_ref(), "/tmp/c/rootfs".as_ref())?;
//! # Ok(())
//! # }
//! ```
//!
//! | part | what it does |
//! |---|---|
//! | [`ImageName`] | reads names as Docker does |
//! | [`credentials`] | Docker's `config.json` |
//! | [`registry`] | pulls from Docker Registry v2 and OCI distribution servers |
//! | `archive` | reads what `docker save` writes, and OCI layouts |
//! | [`ImageStore`] | layers by digest, shared by all images; which image has which; pruning |
//! | [`root`] | layers as a writable overlay, or as a copy |
//!
//! Layers are unpacked as root from the files of strangers: names are resolved with
//! `openat2(RESOLVE_IN_ROOT)`, digests are checked before a layer gets its name, and sizes are
//! bounded.

mod archive;
mod config;
pub mod credentials;
mod error;
mod layer;
mod layers;
mod local;
mod metered;
mod name;
pub mod registry;
pub mod root;
mod sparse;
mod store;
pub mod tree;

pub use config::ImageConfig;
pub use error::ImageError;
pub use layers::private_folder;
pub use metered::{Meter, Metered};
pub use name::ImageName;
pub use store::{Image, ImageStore, Pruned, Request, Source, StoreConfig};
