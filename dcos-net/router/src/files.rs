//! Files of the user interface and about the installation.

use std::io;
use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::response::Response;
use futures::StreamExt as _;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::fs::File;
use tokio_util::io::ReaderStream;

/// The file at `path` below `root`, or `index.html` of a directory; `None` if there is none. With `packed`, a file
/// `….gz` beside it is sent to those who take it.
///
/// `path` is normalised: nothing in it leads upwards.
pub(crate) async fn serve(
    root: &Path,
    path: &str,
    method: &Method,
    headers: &HeaderMap,
    packed: bool,
) -> Option<Response> {
    let mut file = locate(root, path)?;
    let mut found = open(&file).await.ok()?;
    if found.is_none() {
        file = file.join("index.html");
        found = open(&file).await.ok()?;
    }
    let (mut opened, mut length, mut tag) = found?;
    let mut response = Response::new(Body::empty());
    let answer = response.headers_mut();
    if packed {
        answer.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        let mut name = file.clone().into_os_string();
        name.push(".gz");
        if dcos_wire::accepts_gzip(headers)
            && let Ok(Some(beside)) = open(&PathBuf::from(name)).await
        {
            (opened, length, tag) = beside;
            answer.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
    }
    answer.insert(CONTENT_TYPE, HeaderValue::from_static(media_type(&file)));
    answer.insert(ETAG, HeaderValue::try_from(&tag).ok()?);
    if headers
        .get(IF_NONE_MATCH)
        .is_some_and(|known| known.as_bytes() == tag.as_bytes())
    {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Some(response);
    }
    answer.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if *method != Method::HEAD {
        // A file that grows is sent as long as it was when its length was told.
        let reader = tokio::io::AsyncReadExt::take(opened, length);
        let pieces = ReaderStream::new(reader).map(|piece: io::Result<_>| piece);
        *response.body_mut() = Body::from_stream(pieces);
    }
    Some(response)
}

/// Says for how many seconds browsers may keep an answer.
pub(crate) fn expires(response: &mut Response, seconds: u32) {
    let age = HeaderValue::try_from(format!("max-age={seconds}"));
    if let Ok(age) = age {
        response.headers_mut().insert(CACHE_CONTROL, age);
    }
}

/// Where a file would be; escapes in its path are undone, if that leads nowhere else.
fn locate(root: &Path, path: &str) -> Option<PathBuf> {
    let mut file = root.to_owned();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let name = unescape(segment)?;
        if name.contains(['/', '\0']) || name == ".." || name == "." {
            return None;
        }
        file.push(name);
    }
    Some(file)
}

fn unescape(text: &str) -> Option<String> {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        let digits = [bytes.next()?, bytes.next()?];
        plain.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(plain).ok()
}

/// An open file with its length and a tag for what is in it; `None` if it is a directory.
async fn open(path: &Path) -> io::Result<Option<(File, u64, String)>> {
    let file = File::open(path).await?;
    let metadata = file.metadata().await?;
    if metadata.is_dir() {
        return Ok(None);
    }
    let changed = metadata.modified()?.duration_since(std::time::UNIX_EPOCH);
    let changed = changed.map_or(0, |since| since.as_nanos());
    let tag = format!("\"{changed:x}-{:x}\"", metadata.len());
    Ok(Some((file, metadata.len(), tag)))
}

fn media_type(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|extension| extension.to_str());
    match extension.unwrap_or_default() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        "xml" => "text/xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(
        root: &Path,
        path: &str,
        headers: &[(http::HeaderName, &str)],
    ) -> Option<Response> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(name, value.parse().unwrap());
        }
        serve(root, path, &Method::GET, &map, true).await
    }

    async fn text(response: Response) -> String {
        use http_body_util::BodyExt as _;
        let body = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn files_are_found_below_the_root_only() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("ui");
        std::fs::create_dir_all(root.join("nest")).unwrap();
        std::fs::write(folder.path().join("secret"), "secret").unwrap();
        std::fs::write(root.join("index.html"), "start").unwrap();
        std::fs::write(root.join("nest/a b.js"), "script").unwrap();
        std::fs::write(root.join("nest/a b.js.gz"), "packed").unwrap();
        assert_eq!(text(get(&root, "/", &[]).await.unwrap()).await, "start");
        let script = get(&root, "/nest/a%20b.js", &[]).await.unwrap();
        assert_eq!(
            script.headers()[CONTENT_TYPE],
            "text/javascript; charset=utf-8"
        );
        let tag = script.headers()[ETAG].to_str().unwrap().to_owned();
        assert_eq!(text(script).await, "script");
        let packed = get(
            &root,
            "/nest/a%20b.js",
            &[(http::header::ACCEPT_ENCODING, "gzip")],
        )
        .await;
        assert_eq!(text(packed.unwrap()).await, "packed");
        let same = get(&root, "/nest/a%20b.js", &[(IF_NONE_MATCH, &tag)])
            .await
            .unwrap();
        assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
        for path in [
            "/none",
            "/nest",
            "/..%2fsecret",
            "/%2e%2e/secret",
            "/nest/%00",
            "/%zz",
        ] {
            assert!(get(&root, path, &[]).await.is_none(), "{path}");
        }
    }
}
