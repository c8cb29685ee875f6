//! The Docker Engine at the other end of a Unix socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::Docker as Client;
use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, ContainerState, ContainerStateStatusEnum};
use bollard::query_parameters::InspectContainerOptions;
use dcos_containerizer::containerizer::ContainerizerError;

/// How long the engine may take over a question that it answers from memory: what waits for these
/// answers is a client of the agent, or a status update.
const QUICK: Duration = Duration::from_secs(5);

/// How long we wait for an engine that does not answer at the start: both may have been started by
/// the same boot.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client, and how to speak of its errors.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    client: Client,
    socket: PathBuf,
}

impl Engine {
    /// Finds the engine at `socket`, which may take so long to begin an answer, and agrees on a
    /// version of its API.
    pub(crate) async fn connect(
        socket: &Path,
        timeout: Duration,
    ) -> Result<Self, ContainerizerError> {
        let broken = |reason: String| ContainerizerError::Broken {
            doing: "connecting to Docker Engine".to_owned(),
            reason,
        };
        let name = socket
            .to_str()
            .ok_or_else(|| broken(format!("{} is no text", socket.display())))?;
        let seconds = timeout.as_secs().max(1);
        let client = Client::connect_with_unix(name, seconds, bollard::API_DEFAULT_VERSION)
            .map_err(|error| broken(error.to_string()))?;
        let mut engine = Self {
            client,
            socket: socket.to_owned(),
        };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut told = false;
        loop {
            let found = quickly(engine.client.clone().negotiate_version()).await;
            match found {
                Ok(client) => {
                    engine.client = client;
                    return Ok(engine);
                }
                Err(error) if tokio::time::Instant::now() >= deadline => {
                    return Err(broken(engine.text(&error)));
                }
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(error = engine.text(&error), "waiting for Docker Engine");
                    }
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }

    pub(crate) fn api(&self) -> &Client {
        &self.client
    }

    /// What went wrong, in words that tell what to do.
    pub(crate) fn text(&self, error: &Error) -> String {
        match error {
            Error::DockerResponseServerError { message, .. } => message.clone(),
            Error::DockerStreamError { error } => error.clone(),
            Error::RequestTimeoutError => {
                format!(
                    "Docker Engine at {} did not answer in time: does it hang?",
                    self.socket.display()
                )
            }
            error if is_connection(error) => {
                let error = dcos_core::error::chain(error);
                let socket = self.socket.display();
                format!("Docker Engine does not answer at {socket}: does it run? ({error})")
            }
            error => dcos_core::error::chain(error).to_string(),
        }
    }

    /// What the engine knows of a container; `None` if it knows none of that name.
    pub(crate) async fn inspect(
        &self,
        name: &str,
    ) -> Result<Option<ContainerInspectResponse>, Error> {
        let options = None::<InspectContainerOptions>;
        match self.client.inspect_container(name, options).await {
            Err(error) if is_status(&error, 404) => Ok(None),
            other => other.map(Some),
        }
    }
}

/// What the engine answers at once, unless it hangs.
pub(crate) async fn quickly<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let answered = tokio::time::timeout(QUICK, answer).await;
    answered.unwrap_or(Err(Error::RequestTimeoutError))
}

/// Whether the engine answered with this status.
pub(crate) fn is_status(error: &Error, status: u16) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code, .. } if *status_code == status)
}

fn is_connection(error: &Error) -> bool {
    matches!(
        error,
        Error::IOError { .. }
            | Error::HyperResponseError { .. }
            | Error::HyperLegacyError { .. }
            | Error::SocketNotFoundError(_)
    )
}

/// Whether its command runs, or may run again by itself.
pub(crate) fn is_alive(state: &ContainerState) -> bool {
    use ContainerStateStatusEnum as Status;
    state.running == Some(true)
        || matches!(
            state.status,
            Some(Status::RUNNING | Status::PAUSED | Status::RESTARTING | Status::STOPPING)
        )
}

/// The first process on this host, while there is one.
pub(crate) fn pid(inspected: &ContainerInspectResponse) -> Option<u32> {
    let pid = inspected.state.as_ref()?.pid?;
    u32::try_from(pid).ok().filter(|&pid| pid > 0)
}
