//! What the router answers by itself.

use std::path::PathBuf;

use axum::body::Body;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::json;

use crate::counters::Counters;
use crate::files;
use crate::route::Own;

/// What the router tells of this node and its cluster.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// The address people outside reach this node at.
    pub public_ip: String,
    /// The file with the cluster's id; it is looked at anew each time, since it comes to be after the router.
    pub cluster_id: Option<PathBuf>,
    /// The directory of the user interface.
    pub interface: Option<PathBuf>,
    /// The directory of files about the installation, such as `dcos-version.json`.
    pub metadata: Option<PathBuf>,
    /// The list of active components (`active.buildinfo.full.json`).
    pub buildinfo: Option<PathBuf>,
    /// Where people log in: an `OpenID` Connect redirector, and this cluster's name there.
    pub login: Option<(String, String)>,
    /// What browsers are told of frames around the user interface (`adminrouter_x_frame_options`).
    pub frame_options: Option<HeaderValue>,
}

/// The version of DC/OS whose interfaces are answered; clients choose their own behaviour by it.
const VERSION: &str = "2.2.0";

const X_FRAME_OPTIONS: HeaderName = HeaderName::from_static("x-frame-options");

impl About {
    pub(crate) async fn answer(
        &self,
        own: Own,
        path: &str,
        method: &Method,
        headers: &HeaderMap,
        counters: &Counters,
    ) -> Response {
        if *method != Method::GET && *method != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "405 Method Not Allowed");
        }
        match own {
            Own::Nothing => text(StatusCode::NOT_FOUND, "404 Not Found"),
            Own::Counters => of_type("text/plain; version=0.0.4", counters.text()),
            Own::Metadata => self.metadata().await,
            Own::Version => self.version(method, headers).await,
            Own::MetadataFile => {
                let name = path.strip_prefix("/dcos-metadata").unwrap_or_default();
                let found = match &self.metadata {
                    Some(root) => files::serve(root, name, method, headers, false).await,
                    None => None,
                };
                found.unwrap_or_else(|| text(StatusCode::NOT_FOUND, "404 Not Found"))
            }
            Own::Buildinfo => self.buildinfo(method, headers).await,
            Own::Interface(age) => self.interface(path, age, method, headers).await,
            Own::Login => self.login().await,
        }
    }

    /// The keys in the order and with the spaces of the original.
    async fn metadata(&self) -> Response {
        let address = json!(self.public_ip);
        let body = match self.cluster_id().await {
            Some(id) => format!(
                "{{\"PUBLIC_IPV4\": {address}, \"CLUSTER_ID\": {}}}\n",
                json!(id)
            ),
            None => format!("{{\"PUBLIC_IPV4\": {address}}}\n"),
        };
        of_type("application/json", body)
    }

    async fn cluster_id(&self) -> Option<String> {
        let text = tokio::fs::read_to_string(self.cluster_id.as_ref()?)
            .await
            .ok()?;
        let id = text.lines().next().unwrap_or_default().trim().to_owned();
        (!id.is_empty()).then_some(id)
    }

    async fn version(&self, method: &Method, headers: &HeaderMap) -> Response {
        let file = match &self.metadata {
            Some(root) => files::serve(root, "dcos-version.json", method, headers, false).await,
            None => None,
        };
        let mut response = file.unwrap_or_else(|| {
            let document = json!({
                "version": VERSION,
                "dcos-image-commit": env!("CARGO_PKG_VERSION"),
                "bootstrap-id": "",
                "dcos-variant": "open",
            });
            of_type("application/json", document.to_string())
        });
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }

    async fn buildinfo(&self, method: &Method, headers: &HeaderMap) -> Response {
        let file = self
            .buildinfo
            .as_ref()
            .and_then(|file| Some((file.parent()?, file.file_name()?)));
        let file = match file {
            Some((folder, name)) => {
                let name = name.to_string_lossy();
                files::serve(folder, &name, method, headers, false).await
            }
            None => None,
        };
        // Nothing here consists of components.
        let mut response = file.unwrap_or_else(|| of_type("application/json", "{}".to_owned()));
        let never = HeaderValue::from_static("no-cache, no-store, must-revalidate");
        response.headers_mut().insert(CACHE_CONTROL, never);
        response
    }

    async fn interface(
        &self,
        path: &str,
        age: u32,
        method: &Method,
        headers: &HeaderMap,
    ) -> Response {
        let assets = path.starts_with("/assets/");
        let found = match &self.interface {
            Some(root) => files::serve(root, path, method, headers, assets).await,
            None if path == "/" => {
                let words = "This is the door of a cluster that has no user interface. Its parts are at /mesos/, \
                             /service/marathon/, /service/metronome/ and /mesos_dns/.";
                return text(StatusCode::OK, words);
            }
            None => None,
        };
        let Some(mut response) = found else {
            return text(StatusCode::NOT_FOUND, "404 Not Found");
        };
        files::expires(&mut response, age);
        if let Some(options) = &self.frame_options {
            response
                .headers_mut()
                .insert(X_FRAME_OPTIONS, options.clone());
        }
        response
    }

    async fn login(&self) -> Response {
        let Some((redirector, client)) = &self.login else {
            return text(
                StatusCode::NOT_FOUND,
                "404 Not Found: nobody has to log in to this cluster.",
            );
        };
        let cluster = self.cluster_id().await.unwrap_or_default();
        let to = format!("{redirector}/login?client={client}&cluster_id={cluster}");
        redirect(StatusCode::FOUND, &to)
    }
}

/// An answer in words.
pub(crate) fn text(status: StatusCode, text: &str) -> Response {
    document(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

/// A document.
pub(crate) fn document(status: StatusCode, media: &'static str, body: String) -> Response {
    let mut response = of_type(media, body);
    *response.status_mut() = status;
    response
}

fn of_type(media: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// Sends a client elsewhere.
pub(crate) fn redirect(status: StatusCode, to: &str) -> Response {
    let Ok(location) = HeaderValue::from_str(to) else {
        return text(StatusCode::BAD_REQUEST, "400 Bad Request");
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(LOCATION, location);
    response
}
