//! Pulling from Docker Registry v2 and OCI distribution servers.

mod blob;
mod failure;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::manifest::{
    IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE, IMAGE_DOCKER_LAYER_TAR_MEDIA_TYPE,
    IMAGE_LAYER_GZIP_MEDIA_TYPE, IMAGE_LAYER_MEDIA_TYPE, OciDescriptor,
};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use tokio::io::AsyncWrite;

use crate::config::Document;
use crate::credentials::{Credential, Credentials};
use crate::error::odd;
use crate::{ImageConfig, ImageError, ImageName};

pub(crate) use blob::download;
use failure::{is_full, is_passing, told};

/// Documents larger than this are not an image's.
const MAX_DOCUMENT: usize = 8 << 20;
/// What a layer may be when nothing says that it is one.
const LAYERS: [&str; 6] = [
    IMAGE_LAYER_MEDIA_TYPE,
    IMAGE_LAYER_GZIP_MEDIA_TYPE,
    "application/vnd.oci.image.layer.v1.tar+zstd",
    IMAGE_DOCKER_LAYER_TAR_MEDIA_TYPE,
    IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE,
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
    pub(crate) client: Client,
    pub(crate) reference: Reference,
    pub(crate) registry: Registry,
    auth: RegistryAuth,
}

/// What a registry says of an image.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// What it is known by for ever.
    pub(crate) digest: String,
    pub(crate) config: ImageConfig,
    /// Each layer as it is downloaded, with the digest of the tar file in it, lowest first.
    pub(crate) layers: Vec<(OciDescriptor, String)>,
}

impl Remote {
    pub(crate) fn new(
        config: &RegistryConfig,
        registry: Registry,
        name: &ImageName,
        credentials: &Credentials,
    ) -> Result<Self, ImageError> {
        let repository = if registry.is_hub() && !name.repository.contains('/') {
            format!("library/{}", name.repository)
        } else {
            name.repository.clone()
        };
        let host = registry.host.clone();
        let reference = match (&name.digest, &name.tag) {
            (Some(digest), _) => Reference::with_digest(host, repository, digest.clone()),
            (None, tag) => {
                let tag = tag.clone().unwrap_or_else(|| "latest".to_owned());
                Reference::with_tag(host, repository, tag)
            }
        };
        let credential = credentials
            .of(&registry.host)
            .or_else(|| config.credentials.of(&registry.host));
        let auth = match credential {
            None => RegistryAuth::Anonymous,
            Some(Credential::Token(token)) => RegistryAuth::Bearer(token.clone()),
            Some(Credential::Basic { user, password }) => {
                RegistryAuth::Basic(user.clone(), password.clone())
            }
        };
        let protocol = if registry.plain {
            ClientProtocol::Http
        } else {
            ClientProtocol::Https
        };
        let client = Client::try_from(ClientConfig {
            protocol,
            read_timeout: Some(config.stall_timeout),
            connect_timeout: Some(config.stall_timeout.min(Duration::from_secs(30))),
            user_agent: concat!("dcos/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        });
        let client = client.map_err(|error| told(&reference, &registry.host, &error))?;
        Ok(Self {
            client,
            reference,
            registry,
            auth,
        })
    }

    /// Reads what the image is made of. Of an index, the part for this machine.
    pub(crate) async fn manifest(&self) -> Result<Manifest, ImageError> {
        let mut pause = Duration::from_millis(500);
        for attempt in 1.. {
            match self.read().await {
                Err(error) if attempt < ATTEMPTS && is_passing(&error) => {
                    tracing::info!(image = %self.reference, %error, "asking the registry again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(error) => return Err(told(&self.reference, &self.registry.host, &error)),
                Ok((digest, document, layers)) => {
                    return self.check(digest, &document, layers);
                }
            }
        }
        unreachable!("attempts are finite")
    }

    async fn read(&self) -> oci_client::errors::Result<(String, Vec<u8>, Vec<OciDescriptor>)> {
        let (manifest, digest) = self
            .client
            .pull_image_manifest(&self.reference, &self.auth)
            .await?;
        let mut document = Vec::new();
        if usize::try_from(manifest.config.size).is_ok_and(|size| size <= MAX_DOCUMENT) {
            let config = &manifest.config;
            // Whatever it says, a server may send more.
            self.client
                .pull_blob(&self.reference, config, Bounded(&mut document))
                .await?;
        }
        Ok((digest, document, manifest.layers))
    }

    fn check(
        &self,
        digest: String,
        document: &[u8],
        layers: Vec<OciDescriptor>,
    ) -> Result<Manifest, ImageError> {
        let name = self.reference.to_string();
        let corrupt = ImageError::of(&name);
        let document: Document = serde_json::from_slice(document)
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

/// Takes as much as a document may have, and then fails.
struct Bounded<'a>(&'a mut Vec<u8>);

impl AsyncWrite for Bounded<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.0.len() + bytes.len() > MAX_DOCUMENT {
            return Poll::Ready(Err(odd("a document larger than an image's may be")));
        }
        self.0.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
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
