//! Compressed bodies, in both directions.

use std::io::{self, Read, Write};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue};
use http_body::Body as _;
use http_body_util::BodyExt;

/// Bodies smaller than this are sent as they are, as in libprocess (`GZIP_MINIMUM_BODY_LENGTH`).
const MINIMUM: u64 = 1024;

/// Bodies from this size on are compressed on a thread of their own, since it takes milliseconds.
const LARGE: u64 = 64 * 1024;

/// Compresses `response` if it is whole (not a stream), large enough and not compressed already.
/// The caller has checked that the client takes it.
pub(crate) async fn compress(response: Response) -> Response {
    let whole = response.body().size_hint().exact();
    let Some(size) = whole.filter(|size| *size >= MINIMUM && worthwhile(response.headers())) else {
        return response;
    };
    let (mut parts, body) = response.into_parts();
    let Ok(body) = body.collect().await else {
        // A body of known size is in memory already, or comes from a handler that broke off.
        return Response::from_parts(parts, Body::empty());
    };
    let plain = body.to_bytes();
    let packed = if size < LARGE {
        pack(&plain)
    } else {
        let plain = plain.clone();
        tokio::task::spawn_blocking(move || pack(&plain))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))
    };
    let Ok(packed) = packed else {
        return Response::from_parts(parts, Body::from(plain));
    };
    let headers = &mut parts.headers;
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    Response::from_parts(parts, Body::from(packed))
}

/// Whether the headers leave room for compression to help.
fn worthwhile(headers: &HeaderMap) -> bool {
    let media = headers
        .get(CONTENT_TYPE)
        .map_or(&b""[..], HeaderValue::as_bytes);
    let packed = [
        &b"image/"[..],
        b"video/",
        b"application/zip",
        b"application/gzip",
    ];
    !headers.contains_key(CONTENT_ENCODING) && !packed.iter().any(|kind| media.starts_with(kind))
}

fn pack(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::fast());
    encoder.write_all(plain)?;
    encoder.finish()
}

/// Unpacks a body into at most `limit` bytes; `None` if it would be more.
pub(crate) fn unpack(packed: &[u8], limit: usize) -> io::Result<Option<Bytes>> {
    let mut plain = Vec::new();
    let allowed = u64::try_from(limit).unwrap_or(u64::MAX);
    MultiGzDecoder::new(packed)
        .take(allowed.saturating_add(1))
        .read_to_end(&mut plain)?;
    Ok((plain.len() <= limit).then(|| plain.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_whole_and_large_bodies_are_packed() {
        let small = compress(Response::new(Body::from("x".repeat(1023)))).await;
        assert!(!small.headers().contains_key(CONTENT_ENCODING));
        let large = compress(Response::new(Body::from("x".repeat(1024)))).await;
        assert_eq!(large.headers()[CONTENT_ENCODING], "gzip");
        let packed = large.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(unpack(&packed, 1024).unwrap().unwrap().len(), 1024);
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let packed = pack(&vec![0; 1 << 20]).unwrap();
        assert!(packed.len() < 1 << 16, "{} bytes", packed.len());
        assert_eq!(unpack(&packed, 1000).unwrap(), None);
    }
}
