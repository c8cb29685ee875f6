//! What an operator may set of images, under the original's names.

use std::path::PathBuf;

use dcos_core::config::{Spec, Values};

use super::{Backend, LocalProvisioner, LocalProvisionerConfig, ProvisionError};

/// The options of images.
pub const OPTIONS: &[Spec] = &[
    Spec::text("image_providers").help("Images that tasks may have: `docker`, `appc` or both."),
    Spec::text("docker_registry").help("The directory with Docker archives and OCI layouts."),
    Spec::path("docker_store_dir")
        .help("Where layers are kept; below the work directory by default."),
    Spec::text("appc_simple_discovery_uri_prefix").help("The directory with appc images."),
    Spec::choice("image_provisioner_backend", &["auto", "overlay", "copy"])
        .default("auto")
        .help("How layers become a root file system."),
];

impl LocalProvisioner {
    /// A provisioner as the values of [`OPTIONS`] and the agent's `work_dir` say; none if no
    /// images are provided.
    ///
    /// # Errors
    /// [`ProvisionError`] for a value that makes no sense, or asks for a registry.
    pub fn from_values(values: &Values) -> Result<Option<Self>, ProvisionError> {
        let directory = |option: &str| {
            let value = values.opt_text(option).unwrap_or_default();
            let path = value.strip_prefix("file://").unwrap_or(&value);
            if path.starts_with('/') {
                return Ok(Some(PathBuf::from(path)));
            }
            Err(ProvisionError::new(format!(
                "--{option} has to be a directory of this host: registries over the network are \
                 not supported yet"
            )))
        };
        let (mut docker_images, mut appc_images) = (None, None);
        let providers = values.opt_text("image_providers").unwrap_or_default();
        for provider in providers.split(',').map(str::trim) {
            match provider {
                "" => {}
                "docker" => docker_images = directory("docker_registry")?,
                "appc" => appc_images = directory("appc_simple_discovery_uri_prefix")?,
                other => {
                    let why = format!("--image_providers: there is no `{other}`");
                    return Err(ProvisionError::new(why));
                }
            }
        }
        if docker_images.is_none() && appc_images.is_none() {
            return Ok(None);
        }
        let work_dir = values.path("work_dir");
        let store = values.opt_path("docker_store_dir");
        Ok(Some(Self::new(LocalProvisionerConfig {
            docker_images,
            appc_images,
            store: store.unwrap_or_else(|| work_dir.join("store")),
            roots: work_dir.join("provisioner"),
            backend: match values.text("image_provisioner_backend").as_str() {
                "overlay" => Backend::Overlay,
                "copy" => Backend::Copy,
                _ => Backend::Auto,
            },
        })))
    }
}
