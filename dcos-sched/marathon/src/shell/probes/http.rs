//! One GET, for checks: no redirects, no reuse, certificates not verified (as in the original, whose
//! checks meet whatever certificate a task made for itself).

use std::net::Ipv6Addr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme, crypto,
};

/// How much of a body is read, for those who want to see it.
const LONGEST_BODY: usize = 10 * 1024;

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn failed(status: u16, cause: String) -> Self {
        Self {
            status,
            content_type: "text/plain".to_owned(),
            body: cause,
        }
    }

    pub(super) fn reason(&self) -> &'static str {
        let status = http::StatusCode::from_u16(self.status).ok();
        status
            .and_then(|status| status.canonical_reason())
            .unwrap_or_default()
    }
}

pub(super) async fn get(tls: bool, host: &str, port: u16, path: &str) -> Result<Answer, String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let stream = super::connect(host, port)
        .await
        .map_err(|error| text(&error))?;
    if !tls {
        return ask(stream, host, port, path).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|error| text(&error))?;
    let stream = connector()?
        .connect(name, stream)
        .await
        .map_err(|error| text(&error))?;
    ask(stream, host, port, path).await
}

/// What `Host` says: an IPv6 address stands in brackets (RFC 9110, 7.2).
fn authority(host: &str, port: u16) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]:{port}"),
        Err(_) => format!("{host}:{port}"),
    }
}

async fn ask<S>(stream: S, host: &str, port: u16, path: &str) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let request = http::Request::get(format!("/{}", path.trim_start_matches('/')))
        .header("host", authority(host, port))
        .header("user-agent", "marathon")
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let conversation = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let content_type = response.headers().get("content-type");
        let content_type = content_type
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        // A body too long to show is no failure.
        let body = Limited::new(response.into_body(), LONGEST_BODY)
            .collect()
            .await;
        let body = body
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Answer {
            status,
            content_type,
            body,
        })
    };
    let mut conversation = std::pin::pin!(conversation);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        answer = &mut conversation => return answer,
        _ = &mut connection => {}
    }
    // The connection is done; what was received still answers the request.
    conversation.await
}

fn connector() -> Result<TlsConnector, String> {
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(Anybody(Arc::clone(&provider)));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Takes every certificate, but not a signature that does not fit it.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
