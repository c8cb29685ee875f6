//! Pulling from Docker Registry v2 and OCI distribution servers.

mod blob;
mod connection;
mod failure;
mod manifest;

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::config::{self, machine};
use crate::credentials::Credentials;
use crate::error::odd;
use crate::layers::hex;
use crate::{ImageConfig, ImageError, ImageName, name};

pub(crate) use blob::download;
use connection::Connection;
use failure::Failure;
pub(crate) use manifest::Descriptor;
use manifest::Document;

/// What a manifest may have, in bytes, as containerd and Docker's registry have it.
const MAX_MANIFEST: usize = 4 << 20;
/// The same of an image's configuration.
const MAX_CONFIG: usize = 8 << 20;
/// What a layer may be when nothing says that it is one.
const LAYERS: [&str; 6] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];
/// Attempts at what may pass, with doubling pauses between them.
pub(crate) const ATTEMPTS: u32 = 4;

/// A server of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// Host and, if it has one, port.
    pub host: String,
    /// Whether it speaks HTTP without TLS.
    pub plain: bool,
}

impl Registry {
    /// Reads `https://host:port`, `http://host:port`, or a host alone. Of that, a host of this
    /// machine speaks plain HTTP, as Docker has it.
    ///
    /// # Errors
    /// [`ImageError::Name`] if it is none of these.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        let (bare, plain) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(bare), _) => (bare, Some(false)),
            (_, Some(bare)) => (bare, Some(true)),
            _ => (text, None),
        };
        let host = bare.trim_end_matches('/');
        // A registry is what can stand before an image's name.
        let read = format!("{host}/x").parse::<ImageName>().ok();
        if host.contains('/') || read.is_none() {
            return Err(ImageError::Name {
                name: text.to_owned(),
                why: "a registry is `https://host[:port]` or `http://host[:port]`".to_owned(),
            });
        }
        let host = match host {
            "registry-1.docker.io" | "index.docker.io" => "docker.io",
            host => host,
        };
        Ok(Self {
            host: host.to_owned(),
            plain: plain.unwrap_or_else(|| is_loopback(host)),
        })
    }

    fn is_hub(&self) -> bool {
        self.host == "docker.io"
    }

    /// Who answers for it.
    fn endpoint(&self) -> &str {
        if self.is_hub() {
            "registry-1.docker.io"
        } else {
            &self.host
        }
    }
}

/// Where images come from, and as whom.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// Asked for names without a registry. `--docker_registry`; Docker's hub by default.
    pub default: Registry,
    /// Asked, in this order, before the default one.
    pub mirrors: Vec<Registry>,
    /// Registries that speak HTTP without TLS, beside those of this machine.
    pub plain_http: Vec<String>,
    /// Used where an image has none of its own. `--docker_config`.
    pub credentials: Credentials,
    /// How long a download may stand still.
    pub stall_timeout: Duration,
    /// How many layers of an image are downloaded at once.
    pub concurrent: usize,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            default: Registry {
                host: "docker.io".to_owned(),
                plain: false,
            },
            mirrors: Vec::new(),
            plain_http: Vec::new(),
            credentials: Credentials::default(),
            stall_timeout: Duration::from_secs(60),
            concurrent: 3,
        }
    }
}

impl RegistryConfig {
    /// Whom to ask for an image, in order.
    pub(crate) fn places(&self, name: &ImageName) -> Vec<Registry> {
        match &name.registry {
            Some(host) if *host != self.default.host => {
                let parsed = Registry::parse(host).unwrap_or(Registry {
                    host: host.clone(),
                    plain: false,
                });
                let plain = parsed.plain || self.plain_http.contains(host);
                vec![Registry { plain, ..parsed }]
            }
            _ => {
                let mirrors = self.mirrors.iter();
                mirrors.chain([&self.default]).cloned().collect()
            }
        }
    }

    /// The name with its registry: images are known by it.
    pub(crate) fn canonical(&self, name: &ImageName) -> ImageName {
        let mut name = name.clone();
        name.registry
            .get_or_insert_with(|| self.default.host.clone());
        name
    }
}

/// One image in one registry.
pub(crate) struct Remote {
    /// The whole name, for people.
    pub(crate) name: String,
    pub(crate) registry: Registry,
    connection: Connection,
    /// A tag or a digest.
    reference: String,
}

/// What a registry says of an image.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// What it is known by for ever.
    pub(crate) digest: String,
    pub(crate) config: ImageConfig,
    /// Each layer as it is downloaded, with the digest of the tar file in it, lowest first.
    pub(crate) layers: Vec<(Descriptor, String)>,
}

impl Remote {
    pub(crate) fn new(
        config: &RegistryConfig,
        registry: Registry,
        image: &ImageName,
        credentials: &Credentials,
    ) -> Result<Self, ImageError> {
        // Whoever stands in for Docker's hub knows its images by the names the hub has for them.
        let home = image.registry.as_ref().unwrap_or(&config.default.host);
        let of_hub = registry.is_hub() || home == "docker.io";
        let repository = if of_hub && !image.repository.contains('/') {
            format!("library/{}", image.repository)
        } else {
            image.repository.clone()
        };
        let reference = image.digest.as_ref().or(image.tag.as_ref());
        let reference = reference.map_or("latest", String::as_str).to_owned();
        let name = ImageName {
            registry: Some(registry.host.clone()),
            repository: repository.clone(),
            ..image.clone()
        };
        let credential = credentials
            .of(&registry.host)
            .or_else(|| config.credentials.of(&registry.host));
        let (name, host) = (name.to_string(), &registry.host);
        let connection = Connection::new(
            &registry,
            repository,
            credential.cloned(),
            config.stall_timeout,
        );
        let connection = connection.map_err(|failure| failure.told(&name, host))?;
        Ok(Self {
            name,
            registry,
            connection,
            reference,
        })
    }

    /// Reads what the image is made of. Of an index, the part for this machine.
    pub(crate) async fn manifest(&self) -> Result<Manifest, ImageError> {
        let mut pause = Duration::from_millis(500);
        for attempt in 1.. {
            match self.read().await {
                Err(error) if attempt < ATTEMPTS && error.is_passing() => {
                    tracing::info!(image = self.name, %error, "asking the registry again");
                    tokio::time::sleep(error.pause(pause)).await;
                    pause *= 2;
                }
                Err(failure) => return Err(self.told(&failure)),
                Ok((digest, document, layers)) => {
                    return self.check(digest, &document, layers);
                }
            }
        }
        unreachable!("attempts are finite")
    }

    /// A failure in words that tell what to do.
    fn told(&self, failure: &Failure) -> ImageError {
        failure.told(&self.name, &self.registry.host)
    }

    async fn read(&self) -> Result<(String, Vec<u8>, Vec<Descriptor>), Failure> {
        let (mut digest, bytes) = self.document(&self.reference).await?;
        let mut document = Document::read(&bytes)?;
        if let Document::Index(chosen) = document {
            let chosen = chosen.ok_or(Failure::OtherMachines(machine()))?;
            let bytes;
            (digest, bytes) = self.document(sha256(&chosen)?).await?;
            document = Document::read(&bytes)?;
        }
        let Document::Image(config, layers) = document else {
            return Err(Failure::Odd("a list of images in a list of images".into()));
        };
        let (wanted, what) = (sha256(&config.digest)?, "the configuration");
        if config.size > MAX_CONFIG as u64 {
            let most = MAX_CONFIG;
            return Err(Failure::TooLarge { what, most });
        }
        let path = format!("blobs/{wanted}");
        let (_, bytes) = self
            .connection
            .document(&path, "*/*", what, MAX_CONFIG)
            .await?;
        is_that(&bytes, wanted)?;
        Ok((digest, bytes, layers))
    }

    /// What the registry has under a tag or digest, with its digest.
    async fn document(&self, reference: &str) -> Result<(String, Vec<u8>), Failure> {
        let path = format!("manifests/{reference}");
        let accept = manifest::accepted();
        let (headers, bytes) = self
            .connection
            .document(&path, &accept, "the manifest", MAX_MANIFEST)
            .await?;
        let said = headers.get("docker-content-digest");
        let said = said.and_then(|digest| digest.to_str().ok());
        for wanted in [Some(reference), said].into_iter().flatten() {
            if name::hash(wanted).is_some() {
                is_that(&bytes, wanted)?;
            }
        }
        Ok((digest(&bytes), bytes))
    }

    fn check(
        &self,
        digest: String,
        document: &[u8],
        layers: Vec<Descriptor>,
    ) -> Result<Manifest, ImageError> {
        let corrupt = ImageError::of(&self.name);
        let document: config::Document = serde_json::from_slice(document)
            .map_err(|error| odd(format!("its configuration is not understood: {error}")))
            .map_err(&corrupt)?;
        let (config, digests) = document.parts();
        if digests.len() != layers.len() {
            let why = "its configuration names other layers than its manifest";
            return Err(corrupt(odd(why)));
        }
        if let Some(strange) = layers
            .iter()
            .find(|layer| !LAYERS.contains(&layer.media_type.as_str()))
        {
            let why = format!("a layer of type '{}' is no file system", strange.media_type);
            return Err(corrupt(odd(why)));
        }
        Ok(Manifest {
            digest,
            config,
            layers: layers.into_iter().zip(digests).collect(),
        })
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// A digest that can be checked.
fn sha256(digest: &str) -> Result<&str, Failure> {
    match name::hash(digest) {
        Some(_) => Ok(digest),
        None => Err(Failure::Odd(format!("'{digest}' is no SHA-256 digest"))),
    }
}

fn is_that(bytes: &[u8], wanted: &str) -> Result<(), Failure> {
    if digest(bytes) == wanted {
        return Ok(());
    }
    let why = format!("the registry sent other bytes than {wanted}");
    Err(Failure::Odd(why))
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_read() {
        for (text, host, plain) in [
            ("https://registry-1.docker.io", "docker.io", false),
            ("quay.io", "quay.io", false),
            ("localhost:5000", "localhost:5000", true),
            ("127.0.0.1:5000", "127.0.0.1:5000", true),
            ("https://127.0.0.1:5000/", "127.0.0.1:5000", false),
            ("http://10.0.0.1:5000", "10.0.0.1:5000", true),
            ("[::1]:5000", "[::1]:5000", true),
        ] {
            let read = Registry::parse(text).unwrap();
            assert_eq!((read.host.as_str(), read.plain), (host, plain), "{text}");
        }
        for text in [
            "",
            "hdfs://namenode/images",
            "https://host/path",
            "host:port",
        ] {
            assert!(Registry::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_tells_whom_to_ask() {
        let config = RegistryConfig {
            default: Registry::parse("https://127.0.0.1:5000").unwrap(),
            mirrors: vec![Registry::parse("mirror.io").unwrap()],
            plain_http: vec!["in.house:80".to_owned()],
            ..RegistryConfig::default()
        };
        let ask = |name: &str| -> Vec<(String, bool)> {
            let places = config.places(&name.parse().unwrap());
            places
                .into_iter()
                .map(|one| (one.host, one.plain))
                .collect()
        };
        let one = |host: &str, plain| (host.to_owned(), plain);
        assert_eq!(
            ask("app"),
            [one("mirror.io", false), one("127.0.0.1:5000", false)]
        );
        assert_eq!(ask("127.0.0.1:5000/app"), ask("app"));
        assert_eq!(ask("in.house:80/app"), [one("in.house:80", true)]);
        assert_eq!(ask("quay.io/app"), [one("quay.io", false)]);
    }
}
