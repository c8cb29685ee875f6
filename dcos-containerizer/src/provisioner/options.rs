//! What an operator may set of images, under the original's names.

use std::path::PathBuf;
use std::time::Duration;

use dcos_core::config::{Spec, Values};
use dcos_core::error::chain;
use dcos_image::Source;
use dcos_image::credentials::Credentials;
use dcos_image::registry::{Registry, RegistryConfig};

use crate::secret;

use super::{
    Backend, Collection, CollectionConfig, ImageProvisioner, ImageProvisionerConfig, ProvisionError,
};

/// The options of images.
pub const OPTIONS: &[Spec] = &[
    Spec::text("image_providers").help("Images that tasks may have: `docker`, `appc` or both."),
    Spec::text("docker_registry")
        .default("https://registry-1.docker.io")
        .help("Where images without a registry in their name come from; or a directory with archives."),
    Spec::text("docker_registry_mirrors")
        .help("Registries asked before that one, separated by commas (ours)."),
    Spec::text("docker_plain_registries")
        .help("Registries that speak HTTP without TLS, as `host:port`, separated by commas (ours)."),
    Spec::text("docker_config")
        .help("Docker's config.json with credentials of registries, as JSON or `file:///path`."),
    Spec::duration("docker_stall_timeout").default("1mins").help("How long a pull may stand still (ours)."),
    Spec::path("docker_store_dir")
        .help("Where layers are kept; below the work directory by default."),
    Spec::text("appc_simple_discovery_uri_prefix").help("The directory with appc images."),
    Spec::choice("image_provisioner_backend", &["auto", "overlay", "copy"])
        .default("auto")
        .help("How layers become a root file system."),
    Spec::bytes("image_max_layer_size")
        .default("64GB")
        .help("What the files of one layer may add up to; larger ones are refused (ours)."),
    Spec::text("image_gc_config").help("When images are removed, as JSON; never by default."),
];

impl ImageProvisioner {
    /// A provisioner as the values of [`OPTIONS`] and the agent's `work_dir` say; none if no
    /// images are provided.
    ///
    /// # Errors
    /// [`ProvisionError`] for a value that makes no sense.
    pub fn from_values(values: &Values) -> Result<Option<Self>, ProvisionError> {
        let (mut docker, mut appc) = (None, None);
        let providers = values.opt_text("image_providers").unwrap_or_default();
        for provider in providers.split(',').map(str::trim) {
            match provider {
                "" => {}
                "docker" => docker = Some(source(values)?),
                "appc" => {
                    let option = "appc_simple_discovery_uri_prefix";
                    let value = values.opt_text(option).unwrap_or_default();
                    appc = Some(directory(&value).ok_or_else(|| {
                        let why = "has to be a directory of this host";
                        ProvisionError::new(format!("--{option} {why}"))
                    })?);
                }
                other => {
                    let why = format!("--image_providers: there is no `{other}`");
                    return Err(ProvisionError::new(why));
                }
            }
        }
        if docker.is_none() && appc.is_none() {
            return Ok(None);
        }
        let work_dir = values.path("work_dir");
        let store = values.opt_path("docker_store_dir");
        let collection = values.opt_text("image_gc_config");
        let collection = collection
            .map(|text| CollectionConfig::parse(&text))
            .transpose()?;
        Ok(Some(Self::new(ImageProvisionerConfig {
            docker,
            appc,
            store: store.unwrap_or_else(|| work_dir.join("store")),
            roots: work_dir.join("provisioner"),
            backend: match values.text("image_provisioner_backend").as_str() {
                "overlay" => Backend::Overlay,
                "copy" => Backend::Copy,
                _ => Backend::Auto,
            },
            max_layer: values.bytes("image_max_layer_size"),
            kept: collection.map(|config| config.kept).unwrap_or_default(),
            secrets: secret::from_values(values),
        })))
    }
}

impl Collection {
    /// What removes images of `provisioner`, if `--image_gc_config` says so.
    ///
    /// # Errors
    /// [`ProvisionError`] if that is not understood.
    pub fn from_values(
        values: &Values,
        provisioner: &ImageProvisioner,
    ) -> Result<Option<Self>, ProvisionError> {
        let Some(text) = values.opt_text("image_gc_config") else {
            return Ok(None);
        };
        Ok(Some(Self {
            config: CollectionConfig::parse(&text)?,
            provisioner: provisioner.clone(),
        }))
    }
}

fn source(values: &Values) -> Result<Source, ProvisionError> {
    let default = values.text("docker_registry");
    if let Some(path) = directory(&default) {
        return Ok(Source::Directory(path));
    }
    let registry = |option: &str, text: &str| {
        Registry::parse(text)
            .map_err(|error| ProvisionError::new(format!("--{option}: {}", chain(&error))))
    };
    let list = |option: &str| -> Vec<String> {
        let text = values.opt_text(option).unwrap_or_default();
        let parts = text.split(',').map(str::trim);
        parts
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let mirrors = list("docker_registry_mirrors");
    let mirrors = mirrors
        .iter()
        .map(|text| registry("docker_registry_mirrors", text))
        .collect::<Result<_, _>>()?;
    let credentials = match values.opt_text("docker_config") {
        None => Credentials::default(),
        Some(text) => Credentials::parse(text.as_bytes())
            .map_err(|error| ProvisionError::new(format!("--docker_config: {}", chain(&error))))?,
    };
    Ok(Source::Registry(RegistryConfig {
        default: registry("docker_registry", &default)?,
        mirrors,
        plain_http: list("docker_plain_registries"),
        credentials,
        stall_timeout: values
            .duration("docker_stall_timeout")
            .max(Duration::from_secs(1)),
        ..RegistryConfig::default()
    }))
}

/// The directory that a value names, if it names one.
fn directory(value: &str) -> Option<PathBuf> {
    let path = value.strip_prefix("file://").unwrap_or(value);
    path.starts_with('/').then(|| PathBuf::from(path))
}
