//! The routes `/files/browse`, `/files/read`, `/files/download` and `/files/debug`.

use std::collections::BTreeMap;
use std::path::Path;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, RawQuery, State};
use axum::response::Response;
use axum::routing::any;
use dcos_proto::mesos::FileInfo;
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use rustix::fs::FileType;
use serde_json::json;
use tokio_util::io::ReaderStream;

use super::{Files, FilesError};
use crate::{Refusal, reply};

type Parameters = Query<BTreeMap<String, String>>;

/// The routes, to be merged into those of a master or an agent.
pub fn router<S: Clone + Send + Sync + 'static>(files: Files) -> Router<S> {
    Router::new()
        .route("/files/browse", any(browse))
        .route("/files/read", any(read))
        .route("/files/download", any(download))
        .route("/files/debug", any(debug))
        .with_state(files)
}

async fn browse(
    State(files): State<Files>,
    RawQuery(query): RawQuery,
    Query(parameters): Parameters,
) -> Result<Response, Refusal> {
    let path = path(&parameters)?;
    let infos = files.listed(path).await?;
    let infos: Vec<_> = infos.iter().map(listed).collect();
    reply::jsonp(query.as_deref(), json!(infos).to_string())
}

async fn read(
    State(files): State<Files>,
    RawQuery(query): RawQuery,
    Query(parameters): Parameters,
) -> Result<Response, Refusal> {
    let path = path(&parameters)?;
    let number = |name: &str| match parameters.get(name) {
        None => Ok(None),
        Some(text) => text.parse::<i64>().map(Some).map_err(|_| {
            let why = format!("Failed to convert '{text}' to number");
            Refusal::bad_request(format!("Failed to parse {name}: {why}.\n"))
        }),
    };
    // -1 means "as if it were not there": where the end is, and as much as there is.
    let (offset, length) = (number("offset")?, number("length")?);
    for (name, value) in [("offset", offset), ("length", length)] {
        if let Some(value) = value.filter(|&value| value < -1) {
            let why = format!("Negative {name} provided: {value}.\n");
            return Err(Refusal::bad_request(why));
        }
    }
    let length = length.and_then(|length| u64::try_from(length).ok());
    let offset = offset.and_then(|offset| u64::try_from(offset).ok());
    let piece = files
        .piece(path, offset.unwrap_or(u64::MAX), length)
        .await?;
    let document = json!({
        "data": text(&piece.data),
        "offset": offset.unwrap_or(piece.size),
    });
    reply::jsonp(query.as_deref(), document.to_string())
}

async fn download(
    State(files): State<Files>,
    Query(parameters): Parameters,
) -> Result<Response, Refusal> {
    let path = path(&parameters)?;
    let name = Path::new(&path).file_name().unwrap_or_default();
    let name = name.to_string_lossy().replace(['"', '\\', '\r', '\n'], "_");
    let (file, size) = files
        .ask(move |files| match files.file(&path) {
            Err(FilesError::NotAFile(path)) => Ok(Err(path)),
            other => other.map(Ok),
        })
        .await
        .map_err(|refusal| match refusal.status {
            StatusCode::NOT_FOUND => Refusal::not_found("404 Not Found."),
            _ => refusal,
        })?
        .map_err(|_| Refusal::bad_request("Cannot download a directory.\n"))?;
    // As long as it is now: a log goes on growing while it is sent.
    let file = tokio::io::AsyncReadExt::take(tokio::fs::File::from_std(file), size);
    let mut response = Response::new(Body::from_stream(ReaderStream::new(file)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type(&name)));
    headers.insert(CONTENT_LENGTH, size.into());
    let disposition = format!("attachment; filename=\"{name}\"");
    if let Ok(disposition) = HeaderValue::from_str(&disposition) {
        headers.insert(CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

async fn debug(State(files): State<Files>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    reply::jsonp(query.as_deref(), json!(files.attached()).to_string())
}

fn path(parameters: &BTreeMap<String, String>) -> Result<String, Refusal> {
    let path = parameters.get("path").filter(|path| !path.is_empty());
    let missing = || Refusal::bad_request("Expecting 'path=value' in query.\n");
    path.cloned().ok_or_else(missing)
}

/// The path that a query asks for, read just as the handlers read it: for whoever decides beforehand who may.
pub fn asked_for(query: &str) -> Option<String> {
    let uri = http::Uri::try_from(format!("/?{query}")).ok()?;
    let mut parameters = Parameters::try_from_uri(&uri).ok()?;
    parameters.0.remove("path")
}

/// An entry of a listing, as v0 writes it.
fn listed(info: &FileInfo) -> serde_json::Value {
    let mtime = info.mtime.map_or(0, |time| time.nanoseconds) / 1_000_000_000;
    #[expect(clippy::cast_precision_loss, reason = "exact for 285 million years")]
    let mtime = mtime as f64;
    json!({
        "gid": info.gid,
        "mode": mode(info.mode.unwrap_or_default()),
        "mtime": mtime,
        "nlink": info.nlink,
        "path": info.path,
        "size": info.size,
        "uid": info.uid,
    })
}

/// As `ls -l` writes it.
fn mode(mode: u32) -> String {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::CharacterDevice => 'c',
        FileType::BlockDevice => 'b',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
        _ => '-',
    };
    let bits = "rwxrwxrwx".chars().enumerate();
    let bits = bits.map(|(at, bit)| if mode & (0o400 >> at) == 0 { '-' } else { bit });
    std::iter::once(kind).chain(bits).collect()
}

/// Bytes as text. A character that is cut off at the end is left for the next read.
fn text(data: &[u8]) -> String {
    let cut = match std::str::from_utf8(data) {
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
        _ => data.len(),
    };
    String::from_utf8_lossy(&data[..cut]).into_owned()
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, end)| end) {
        "html" | "htm" => "text/html",
        "css" => "text/css",
        "js" => "application/javascript",
        "json" => "application/json",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "txt" | "log" => "text/plain",
        "xml" => "text/xml",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read_as_ls_writes_them() {
        assert_eq!(mode(0o100_644), "-rw-r--r--");
        assert_eq!(mode(0o040_755), "drwxr-xr-x");
        assert_eq!(mode(0o120_777), "lrwxrwxrwx");
    }

    #[test]
    fn a_character_is_never_cut() {
        assert_eq!(text("aé".as_bytes()), "aé");
        assert_eq!(text(&"aé".as_bytes()[..2]), "a");
        assert_eq!(text(b"a\xffb"), "a\u{fffd}b");
        assert_eq!(text(b"\xc3"), "\u{fffd}", "or a reader would never get on");
    }
}
