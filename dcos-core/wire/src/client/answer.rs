//! What came back, whole or as a stream.

use std::sync::Arc;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use dcos_proto::recordio::Decoder;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use super::{ClientConfig, ClientError};
use crate::{Refusal, gzip};

/// The answer to a request, its body not read yet.
#[derive(Debug)]
pub struct Answer {
    url: Uri,
    response: Response<Body>,
    config: Arc<ClientConfig>,
}

impl Answer {
    pub(super) fn new(url: Uri, response: Response<Body>, config: Arc<ClientConfig>) -> Self {
        Self {
            url,
            response,
            config,
        }
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Its headers.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Who answered, after redirects.
    pub fn url(&self) -> &Uri {
        &self.url
    }

    /// The answer if its status is 2xx.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status and text otherwise.
    pub async fn success(self) -> Result<Self, ClientError> {
        if self.status().is_success() {
            return Ok(self);
        }
        let (url, status) = (self.url.clone(), self.status());
        let text = self.text().await.unwrap_or_default();
        let source = Refusal::new(status, text);
        Err(ClientError::Refused { url, source })
    }

    /// The whole body, unpacked.
    ///
    /// # Errors
    /// It broke off, paused for too long, or is larger than [`ClientConfig::body_limit`].
    pub async fn bytes(self) -> Result<Bytes, ClientError> {
        let (url, limit) = (self.url, self.config.body_limit);
        let packed = self.response.headers().get(CONTENT_ENCODING);
        let packed = packed.is_some_and(|encoding| encoding.as_bytes() == b"gzip");
        let mut body = self.response.into_body();
        let mut pieces = BytesMut::new();
        let timeout = self.config.read_timeout;
        loop {
            let frame = tokio::time::timeout(timeout, body.frame()).await;
            let frame = match frame {
                Err(_) => return Err(ClientError::Timeout { url, timeout }),
                Ok(None) => break,
                Ok(Some(Err(source))) => return Err(ClientError::Body { url, source }),
                Ok(Some(Ok(frame))) => frame,
            };
            if let Ok(data) = frame.into_data() {
                if pieces.len() + data.len() > limit {
                    return Err(ClientError::TooLarge { url, limit });
                }
                pieces.extend_from_slice(&data);
            }
        }
        if !packed {
            return Ok(pieces.freeze());
        }
        match gzip::unpack(&pieces, limit) {
            Ok(Some(plain)) => Ok(plain),
            Ok(None) => Err(ClientError::TooLarge { url, limit }),
            Err(source) => Err(ClientError::Unpack { url, source }),
        }
    }

    /// The whole body as text; what is not UTF-8 is replaced.
    ///
    /// # Errors
    /// As [`Answer::bytes`].
    pub async fn text(self) -> Result<String, ClientError> {
        let bytes = self.bytes().await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The whole body as a JSON value.
    ///
    /// # Errors
    /// As [`Answer::bytes`], or it is not the JSON that is expected.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, ClientError> {
        let url = self.url.clone();
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|source| ClientError::Json { url, source })
    }

    /// The body as it comes, not unpacked.
    pub fn into_body(self) -> Body {
        self.response.into_body()
    }

    /// The body as a stream of records of at most `limit` bytes each.
    pub fn records(self, limit: usize) -> Records {
        Records {
            url: self.url,
            body: self.response.into_body(),
            decoder: Decoder::new(limit),
        }
    }
}

/// A stream of records, such as the events of a subscription.
#[derive(Debug)]
pub struct Records {
    url: Uri,
    body: Body,
    decoder: Decoder,
}

impl Records {
    /// The next record; `None` when the server ended the stream. A future dropped half-way loses
    /// nothing.
    ///
    /// # Errors
    /// The connection broke, or what came is no record.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            let record = self.decoder.next_record();
            let record = record.map_err(|source| ClientError::Record {
                url: self.url.clone(),
                source,
            })?;
            if record.is_some() {
                return Ok(record);
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.decoder.push(&data);
                    }
                }
                Some(Err(source)) => {
                    let url = self.url.clone();
                    return Err(ClientError::Body { url, source });
                }
            }
        }
    }
}
