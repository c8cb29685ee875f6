//! `/files/*` and the file calls of the operator API: the master's log under `/master/log`.

use std::fs::Metadata;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use dcos_core::time::Time;
use dcos_proto::mesos::{FileInfo, TimeInfo};
use dcos_security::{Action, Caller, Object};
use dcos_wire::{Refusal, reply};
use serde_json::{Value, json};

use super::{Api, reads};
use crate::master::Config;

/// The one path that can be read.
const LOG: &str = "/master/log";

/// The most that is read at once: 16 pages, as in Mesos.
const MAX_READ: usize = 16 * 4096;

/// The file behind a path, if there is one.
fn resolve<'a>(config: &'a Config, path: &str) -> Result<&'a Path, Refusal> {
    let known = path.trim_end_matches('/') == LOG;
    let file = config.log_file.as_deref().filter(|_| known);
    file.filter(|file| file.is_file())
        .ok_or_else(|| Refusal::not_found(""))
}

fn path_of(uri: &Uri) -> Result<String, Refusal> {
    reads::parameter(uri.query(), "path")
        .ok_or_else(|| Refusal::bad_request("Expecting 'path=value' in query.\n"))
}

/// The entries below a path: of a file, the file itself.
pub(super) fn list(config: &Config, path: &str) -> Result<Vec<FileInfo>, Refusal> {
    let file = resolve(config, path)?;
    let metadata = file.metadata().map_err(|_| Refusal::not_found(""))?;
    Ok(vec![describe(path, &metadata)])
}

fn describe(path: &str, metadata: &Metadata) -> FileInfo {
    let modified = metadata
        .modified()
        .map(Time::from_system)
        .unwrap_or_default();
    FileInfo {
        path: path.to_owned(),
        nlink: i32::try_from(metadata.nlink()).ok(),
        size: Some(metadata.size()),
        mtime: Some(TimeInfo {
            nanoseconds: i64::try_from(modified.as_nanos()).unwrap_or(i64::MAX),
        }),
        mode: Some(metadata.mode()),
        uid: Some(metadata.uid().to_string()),
        gid: Some(metadata.gid().to_string()),
    }
}

/// The size of a file, and a piece of it.
pub(super) async fn piece(
    config: &Config,
    path: &str,
    offset: u64,
    length: Option<usize>,
) -> Result<(u64, Vec<u8>), Refusal> {
    let file: PathBuf = resolve(config, path)?.to_owned();
    let most = length.unwrap_or(MAX_READ).min(MAX_READ);
    let read = tokio::task::spawn_blocking(move || -> std::io::Result<(u64, Vec<u8>)> {
        let mut file = std::fs::File::open(file)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(offset.min(size)))?;
        let mut data = Vec::new();
        file.take(most as u64).read_to_end(&mut data)?;
        Ok((size, data))
    });
    match read.await {
        Ok(Ok(read)) => Ok(read),
        _ => Err(Refusal::not_found("")),
    }
}

pub(super) async fn browse(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Refusal> {
    api.allow(&caller, Action::AccessMesosLog, &Object::ANY)?;
    let infos = list(&api.config, &path_of(&uri)?)?;
    let listed: Vec<Value> = infos
        .iter()
        .map(|info| {
            json!({
                "path": info.path,
                "nlink": info.nlink,
                "size": info.size,
                "mtime": info.mtime.map(|time| Time::from_nanos(time.nanoseconds.unsigned_abs()).as_secs()),
                "mode": mode(info.mode.unwrap_or_default()),
                "uid": info.uid,
                "gid": info.gid,
            })
        })
        .collect();
    reply::jsonp(uri.query(), Value::from(listed).to_string())
}

/// As `ls` writes it.
fn mode(mode: u32) -> String {
    let bits = (0..9).rev().map(|bit| {
        let letter = ['x', 'w', 'r'][bit % 3];
        if mode & (1 << bit) == 0 { '-' } else { letter }
    });
    std::iter::once('-').chain(bits).collect()
}

pub(super) async fn read(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Refusal> {
    api.allow(&caller, Action::AccessMesosLog, &Object::ANY)?;
    let path = path_of(&uri)?;
    let number = |name: &str| -> Result<Option<i64>, Refusal> {
        let text = reads::parameter(uri.query(), name);
        text.map(|text| {
            text.parse().map_err(|_| {
                Refusal::bad_request(format!(
                    "Failed to parse {name}: Failed to convert '{text}' to number.\n"
                ))
            })
        })
        .transpose()
    };
    let offset = number("offset")?.unwrap_or(-1);
    let length = number("length")?.filter(|length| *length >= 0);
    let length = length.and_then(|length| usize::try_from(length).ok());
    // An offset of -1 asks how long the file is.
    let at = u64::try_from(offset).unwrap_or(u64::MAX);
    let (size, data) = piece(&api.config, &path, at, length).await?;
    let offset = if offset < 0 { size } else { at };
    let document = json!({ "offset": offset, "data": String::from_utf8_lossy(&data) });
    reply::jsonp(uri.query(), document.to_string())
}

pub(super) async fn download(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Refusal> {
    api.allow(&caller, Action::AccessMesosLog, &Object::ANY)?;
    let path = path_of(&uri)?;
    let missing = || Refusal::not_found("404 Not Found.");
    let file = resolve(&api.config, &path).map_err(|_| missing())?;
    let file = tokio::fs::File::open(file).await.map_err(|_| missing())?;
    let body = Body::from_stream(tokio_util::io::ReaderStream::new(file));
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, "attachment; filename=log"),
    ];
    Ok((StatusCode::OK, headers, body).into_response())
}

pub(super) async fn debug(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Refusal> {
    let path = Object::value("/files/debug");
    api.allow(&caller, Action::GetEndpointWithPath, &path)?;
    let document = match &api.config.log_file {
        Some(file) => json!({ LOG: file.display().to_string() }),
        None => json!({}),
    };
    reply::jsonp(uri.query(), document.to_string())
}
