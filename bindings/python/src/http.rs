//! Requests to one server.

use std::time::Duration;

use ::http::header::{ACCEPT, CONTENT_TYPE};
use ::http::{HeaderValue, Request};
use bytes::Bytes;
use dcos_wire::tls::Ssl;
use dcos_wire::{Client, ClientConfig, ClientError, Credentials};
use pyo3::exceptions::{PyConnectionError, PyTimeoutError, PyValueError};
use pyo3::prelude::*;

use crate::leader::{self, Server};

/// Requests to one server, through the Rust client: leader redirects, gzip, timeouts.
#[pyclass(frozen)]
pub(crate) struct HttpClient {
    server: Server,
    client: Client,
}

#[pymethods]
impl HttpClient {
    #[new]
    #[pyo3(signature = (base, *, port = None, timeout = 30.0, token = None))]
    fn new(base: &str, port: Option<u16>, timeout: f64, token: Option<&str>) -> PyResult<Self> {
        let timeout = Duration::try_from_secs_f64(timeout)
            .map_err(|_| PyValueError::new_err("timeout is a positive number of seconds"))?;
        let client = client(
            token,
            ClientConfig {
                answer_timeout: timeout,
                read_timeout: timeout,
                ..ClientConfig::default()
            },
        )?;
        let server = match leader::followed(base)? {
            Some(leading) => Server::OfLeader(leading, port),
            None => Server::At(base.trim_end_matches('/').to_owned()),
        };
        Ok(Self { server, client })
    }

    #[pyo3(signature = (method, path, body = None))]
    fn request(
        &self,
        python: Python<'_>,
        method: &str,
        path: &str,
        body: Option<String>,
    ) -> PyResult<(u16, Vec<u8>)> {
        let runtime = crate::runtime()?;
        let url = python.detach(|| runtime.block_on(self.server.url()))?;
        let url = format!("{url}{path}");
        let mut request = Request::builder().method(method).uri(&url);
        request = request.header(
            ACCEPT,
            HeaderValue::from_static("application/json, */*;q=0.5"),
        );
        if body.is_some() {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let body = Bytes::from(body.unwrap_or_default());
        let request = request
            .body(body)
            .map_err(|error| PyValueError::new_err(format!("{method} {url}: {error}")))?;
        let client = self.client.clone();
        python.detach(|| {
            runtime.block_on(async move {
                let answer = client
                    .send(request)
                    .await
                    .map_err(|error| failure(&error))?;
                let status = answer.status().as_u16();
                let body = answer.bytes().await.map_err(|error| failure(&error))?;
                Ok((status, body.to_vec()))
            })
        })
    }
}

/// A client that shows `token`. TLS is spoken as `LIBPROCESS_SSL_*` says; without that, servers need a certificate the
/// system trusts.
pub(crate) fn client(token: Option<&str>, config: ClientConfig) -> PyResult<Client> {
    let wrong = |error: &dyn std::error::Error| {
        PyValueError::new_err(dcos_core::error::chain(error).to_string())
    };
    let unfit = || PyValueError::new_err("the token holds what no HTTP header can");
    let shown = token.map(|token| dcos_security::bearer(token).ok_or_else(unfit));
    let ssl = Ssl::from_env().map_err(|error| wrong(&error))?;
    let config = ClientConfig {
        tls: ssl.map(|ssl| ssl.client),
        authorization: shown.transpose()?,
        credentials: Credentials::FollowRedirects,
        ..config
    };
    Client::with_config(config).map_err(|error| wrong(&error))
}

fn failure(error: &ClientError) -> PyErr {
    let text = dcos_core::error::chain(error).to_string();
    match error {
        ClientError::Timeout { .. } => PyTimeoutError::new_err(text),
        ClientError::Url { .. } => PyValueError::new_err(text),
        _ => PyConnectionError::new_err(text),
    }
}
