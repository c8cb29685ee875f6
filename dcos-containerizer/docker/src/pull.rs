//! Bringing an image to the engine.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bollard::auth::DockerCredentials;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use dcos_image::ImageName;
use dcos_image::credentials::{Credential, Credentials};
use futures::StreamExt as _;

use crate::engine::{Engine, is_status};
use crate::shape::Pull;

/// Where images without a registry in their name come from, in a `config.json`.
const HUB: &str = "https://index.docker.io/v1/";

/// How often a pull that goes on says how far it is.
const TELL: Duration = Duration::from_secs(10);

/// Has `image` at the engine.
///
/// # Errors
/// Why it cannot be had.
pub(crate) async fn ensure(
    engine: &Engine,
    image: &str,
    platform: &str,
    pull: Pull,
    credentials: &Credentials,
) -> Result<(), String> {
    if pull != Pull::Always {
        match engine.api().inspect_image(image).await {
            Ok(_) => return Ok(()),
            Err(error) if is_status(&error, 404) && pull == Pull::Missing => {}
            Err(error) => return Err(engine.text(&error)),
        }
    }
    let name: ImageName = image
        .parse()
        .map_err(|error| dcos_core::error::chain(&error).to_string())?;
    let registry = name.registry.clone().unwrap_or_else(|| HUB.to_owned());
    // With neither tag nor digest the engine would bring all tags.
    let options = CreateImageOptionsBuilder::new()
        .from_image(&name.to_string())
        .platform(platform)
        .build();
    let credentials = credentials.of(&registry).map(|one| shown(one, &registry));
    let mut news = engine
        .api()
        .create_image(Some(options), None, credentials)
        .boxed();
    let mut progress = Progress::new(image);
    while let Some(one) = news.next().await {
        let one = one.map_err(|error| progress.failed(&engine.text(&error)))?;
        if let Some(message) = one
            .error_detail
            .as_ref()
            .and_then(|one| one.message.clone())
        {
            return Err(progress.failed(&message));
        }
        progress.hear(&one);
    }
    Ok(())
}

fn shown(credential: &Credential, registry: &str) -> DockerCredentials {
    let serveraddress = Some(registry.to_owned());
    match credential {
        Credential::Basic { user, password } => DockerCredentials {
            username: Some(user.clone()),
            password: Some(password.clone()),
            serveraddress,
            ..DockerCredentials::default()
        },
        Credential::Identity(token) => DockerCredentials {
            identitytoken: Some(token.clone()),
            serveraddress,
            ..DockerCredentials::default()
        },
        Credential::Token(token) => DockerCredentials {
            registrytoken: Some(token.clone()),
            serveraddress,
            ..DockerCredentials::default()
        },
    }
}

/// How far a pull is.
#[derive(Debug)]
struct Progress {
    image: String,
    /// Bytes brought and to bring, by layer.
    layers: BTreeMap<String, (i64, i64)>,
    last: String,
    told: Instant,
}

impl Progress {
    fn new(image: &str) -> Self {
        tracing::info!(image, "pulling");
        Self {
            image: image.to_owned(),
            layers: BTreeMap::new(),
            last: String::new(),
            told: Instant::now(),
        }
    }

    fn hear(&mut self, news: &CreateImageInfo) {
        if let Some(status) = &news.status {
            self.last.clone_from(status);
        }
        if let (Some(layer), Some(detail)) = (&news.id, &news.progress_detail)
            && let (Some(current), Some(total)) = (detail.current, detail.total)
        {
            self.layers.insert(layer.clone(), (current, total));
        }
        if self.told.elapsed() >= TELL {
            self.told = Instant::now();
            let (brought, of) = self.sums();
            tracing::info!(
                image = self.image,
                brought,
                of,
                status = self.last,
                "pulling"
            );
        }
    }

    fn sums(&self) -> (i64, i64) {
        let layers = self.layers.values();
        layers.fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1))
    }

    fn failed(&self, why: &str) -> String {
        let (brought, of) = self.sums();
        let far = if of > 0 {
            format!(" ({brought} of {of} bytes were there)")
        } else {
            String::new()
        };
        format!("failed to pull image '{}': {why}{far}", self.image)
    }
}
