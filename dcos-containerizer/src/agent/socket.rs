//! The Unix socket by which executors reach the agent without the network.
//!
//! Only the two APIs that executors use answer there, behind the same credentials as on the port. Containers with a root
//! of their own see a second socket, in a folder of its own that is mounted into them: a restarted agent makes its sockets
//! anew, and they find the new one at the same place.
//!
//! Source: Mesos 1.11 `src/slave/main.cpp`, `src/slave/slave.cpp`, `src/common/domain_sockets.hpp`.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use dcos_core::config::Values;
use dcos_wire::{Listener, reply};
use http::StatusCode;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use super::ConfigError;
use super::shell::ACTOR;
use crate::isolator::filesystem::{AGENT_SOCKET, AGENT_SOCKETS};

/// What the kernel has room for in a socket's address, its end included.
const MAX_PATH: usize = 108;
/// Everybody may connect; who it is has to be shown to the API.
const MODE: u32 = 0o666;
/// The first descriptor that systemd passes.
const FIRST_PASSED: RawFd = 3;
/// How systemd calls sockets that have no name.
const UNNAMED: &str = "unknown";

/// Where executors reach the agent without the network (`--http_executor_domain_sockets`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorSocket {
    /// Where the socket comes from.
    pub origin: SocketOrigin,
    /// The folder of the one that is mounted into containers; nobody else writes there.
    pub shared: PathBuf,
}

/// Where a socket comes from (`--domain_socket_location`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketOrigin {
    /// The agent makes it.
    Path(PathBuf),
    /// systemd made it, and passes it under this name.
    Passed(String),
}

/// Sockets that are listened on.
#[derive(Debug)]
pub(super) struct Opened {
    /// What executors are told.
    pub(super) path: PathBuf,
    pub(super) listeners: Vec<Listener>,
}

impl ExecutorSocket {
    /// What the flags say; `None` if executors are to use the agent's port.
    ///
    /// # Errors
    /// The location is too long for a socket.
    pub fn from_values(values: &Values, runtime_dir: &Path) -> Result<Option<Self>, ConfigError> {
        if !values.switch("http_executor_domain_sockets") {
            return Ok(None);
        }
        let shared = runtime_dir.join(AGENT_SOCKETS);
        let origin = match values.opt_text("domain_socket_location") {
            None => SocketOrigin::Path(runtime_dir.join(AGENT_SOCKET)),
            Some(location) => match location.strip_prefix("systemd:") {
                Some(name) => SocketOrigin::Passed(name.to_owned()),
                None => SocketOrigin::Path(location.into()),
            },
        };
        let made = match &origin {
            SocketOrigin::Path(path) => Some(path.clone()),
            SocketOrigin::Passed(_) => None,
        };
        for path in made.into_iter().chain([shared.join(AGENT_SOCKET)]) {
            if path.as_os_str().len() >= MAX_PATH {
                let path = path.display();
                return Err(ConfigError {
                    key: "domain_socket_location",
                    problem: format!("{path} must have less than {MAX_PATH} characters"),
                });
            }
        }
        Ok(Some(Self { origin, shared }))
    }

    /// Begins to listen.
    ///
    /// # Errors
    /// Which socket, and why it can't be used.
    pub(super) fn open(&self) -> Result<Opened, (PathBuf, io::Error)> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| (path, error)
        };
        fs::create_dir_all(&self.shared).map_err(at(&self.shared))?;
        let inside = self.shared.join(AGENT_SOCKET);
        let inside = bind(&inside).map_err(at(&inside))?;
        let (path, listener) = match &self.origin {
            SocketOrigin::Path(path) => (path.clone(), bind(path).map_err(at(path))?),
            SocketOrigin::Passed(name) => passed(name).map_err(at(Path::new(name)))?,
        };
        tracing::info!(?path, "executors are told of a socket");
        Ok(Opened {
            path,
            listeners: vec![listener, inside],
        })
    }
}

/// Listens at `path`, in place of a socket that was left there.
fn bind(path: &Path) -> io::Result<Listener> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let listener = Listener::unix(path)?;
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    Ok(listener)
}

/// Takes over the socket that systemd passes as `name`.
fn passed(name: &str) -> io::Result<(PathBuf, Listener)> {
    let variable = |name: &str| std::env::var(name).ok();
    let number = number_of(name, std::process::id(), variable).map_err(io::Error::other)?;
    let socket = UnixListener::from(own(number)?);
    let address = socket.local_addr()?;
    let path = address
        .as_pathname()
        .ok_or_else(|| io::Error::other("the socket that systemd passes has no path"))?;
    Ok((path.to_owned(), Listener::unix_from_std(socket)?))
}

/// A descriptor of this process that belongs to nobody in it, such as one it was started with.
fn own(number: RawFd) -> io::Result<OwnedFd> {
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    Ok(pidfd_getfd(this, number, PidfdGetfdFlags::empty())?)
}

/// The number of the only descriptor called `name` among those that systemd passes to process `pid`. Old systemds name
/// none.
fn number_of(
    name: &str,
    pid: u32,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<RawFd, String> {
    let number = |name: &str| variable(name)?.parse::<u32>().ok();
    let count = match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(for_whom), Some(count)) if for_whom == pid => count,
        _ => return Err("systemd passes no socket to this process".to_owned()),
    };
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').filter(|name| !name.is_empty());
    let all = (FIRST_PASSED..).take(count as usize);
    let mut found = all.filter(|_| {
        let own = names.next().unwrap_or(UNNAMED);
        own == name || own == UNNAMED
    });
    match (found.next(), found.count()) {
        (Some(one), 0) => Ok(one),
        (None, _) => Err("systemd passes none of that name".to_owned()),
        (Some(_), more) => Err(format!("systemd passes {} of that name", more + 1)),
    }
}

/// The routes that executors need; all others are forbidden, whatever they are.
pub(super) fn only_executors(routes: Router) -> Router {
    routes.layer(middleware::from_fn(async |request: Request, next: Next| {
        if is_open(request.uri().path()) {
            return next.run(request).await;
        }
        tracing::info!(
            path = request.uri().path(),
            "refused on the executors' socket"
        );
        forbidden()
    }))
}

fn forbidden() -> Response {
    reply::empty(StatusCode::FORBIDDEN).into_response()
}

/// With the agent's name, as Mesos demands it, or without.
fn is_open(path: &str) -> bool {
    let own = path
        .strip_prefix('/')
        .and_then(|path| path.strip_prefix(ACTOR));
    matches!(own.unwrap_or(path), "/api/v1/executor" | "/api/v1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executors_apis_are_open_and_nothing_else() {
        for path in ["/slave(1)/api/v1/executor", "/slave(1)/api/v1", "/api/v1"] {
            assert!(is_open(path), "{path}");
        }
        for path in [
            "/state",
            "/slave(1)/state",
            "/slave(2)/api/v1",
            "/api/v1/",
            "/",
        ] {
            assert!(!is_open(path), "{path}");
        }
    }

    #[test]
    fn the_one_passed_socket_of_that_name_is_taken() {
        let check = |pid: &str, count: &str, names: Option<&str>| {
            number_of("mesos", 7, |name| match name {
                "LISTEN_PID" => Some(pid.to_owned()),
                "LISTEN_FDS" => Some(count.to_owned()),
                _ => names.map(str::to_owned),
            })
        };
        assert_eq!(check("7", "2", Some("other:mesos")), Ok(4));
        assert_eq!(check("7", "1", None), Ok(3));
        assert_eq!(check("7", "1", Some("unknown")), Ok(3));
        for (pid, count, names) in [
            ("8", "1", None),
            ("7", "1", Some("other")),
            ("7", "2", Some("mesos:mesos")),
            ("7", "two", None),
        ] {
            assert!(check(pid, count, names).is_err(), "{pid} {count} {names:?}");
        }
    }
}
