//! Talking to containers: sessions, and attaching to the streams of those that have a terminal.
//!
//! What a container says is read from its switchboard only as fast as the client takes it, so a
//! slow client slows the container down and nothing piles up here.
//!
//! Source: Mesos 1.11 `launchNestedContainerSession`, `attachContainerInput`,
//! `attachContainerOutput` (`src/slave/http.cpp`), `IOSwitchboardServerProcess`.

mod input;

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use dcos_proto::agent::process_io::{self, control, data};
use dcos_proto::agent::{ProcessIo, call};
use dcos_proto::mesos::{ContainerId, DurationInfo};
use dcos_proto::recordio;
use dcos_wire::{MediaType, Refusal, reply};
use futures::stream;
use http::StatusCode;
use tokio::time::Interval;

use super::Context;
use super::media::Accepted;
use super::operator::shown;
use crate::agent::tasks::environment_of;
use crate::containerizer::{ContainerClass, ContainerConfig, ContainerizerError};
use crate::switchboard::{LineError, OutputLine, Piece, Source, Switchboard};

pub(super) use input::attach_input;

/// How long the command of a session may go on after its streams have ended: programs close them
/// a moment before they exit, and how they exit is of interest.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// `LAUNCH_NESTED_CONTAINER_SESSION`: runs a command inside a container for as long as the client
/// listens.
pub(super) async fn launch(
    context: &Context,
    launch: call::LaunchNestedContainerSession,
    accepted: Accepted,
) -> Result<Response, Refusal> {
    let id = launch.container_id;
    let config = ContainerConfig {
        class: ContainerClass::Debug,
        environment: launch
            .command
            .as_ref()
            .map(environment_of)
            .unwrap_or_default(),
        command: launch.command,
        container: launch.container,
        session: true,
        ..ContainerConfig::default()
    };
    match context.containerizer.launch(&id, config).await {
        Ok(()) => {}
        Err(ContainerizerError::Exists(_)) => return Ok(reply::accepted()),
        Err(error) => return Err(Refusal::bad_request(error.to_string())),
    }
    // From here on the session ends with the answer, whatever becomes of that.
    let session = Session {
        context: context.clone(),
        id,
    };
    let line = output(context, &session.id).await?;
    Ok(speak(context, line, accepted, Some(session)))
}

/// `ATTACH_CONTAINER_OUTPUT`: tells what a container says from now on.
pub(super) async fn attach_output(
    context: &Context,
    id: &ContainerId,
    accepted: Accepted,
) -> Result<Response, Refusal> {
    known(context, id).await?;
    let line = output(context, id).await?;
    Ok(speak(context, line, accepted, None))
}

/// 404 for containers that belong to no executor: as in Mesos, nobody attaches to those.
async fn known(context: &Context, id: &ContainerId) -> Result<(), Refusal> {
    let asked = id.clone();
    let known = context.handle.ask(move |agent| agent.has_container(&asked));
    if known.await == Some(true) {
        return Ok(());
    }
    Err(Refusal::not_found(format!(
        "Container {} cannot be found",
        shown(id)
    )))
}

async fn switchboard(context: &Context, id: &ContainerId) -> Result<Switchboard, Refusal> {
    let found = context.containerizer.switchboard(id).await;
    // Clients take 500 for a container that is over.
    found.map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

async fn output(context: &Context, id: &ContainerId) -> Result<OutputLine, Refusal> {
    let line = switchboard(context, id).await?.output().await;
    line.map_err(|error| refusal(&error))
}

fn refusal(error: &LineError) -> Refusal {
    match error {
        LineError::Busy => {
            Refusal::conflict("Multiple input connections are not allowed".to_owned())
        }
        LineError::Gone(_) => Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "I/O switchboard has shutdown",
        ),
    }
}

/// Ends a session when it is dropped: with the connection, or with the output.
#[derive(Debug)]
struct Session {
    context: Context,
    id: ContainerId,
}

impl Session {
    /// Lets the command end by itself, for a moment.
    async fn part(&self) {
        let ended = self.context.containerizer.wait(&self.id);
        tokio::time::timeout(LAST_WORDS, ended).await.ok();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let (context, id) = (self.context.clone(), self.id.clone());
        self.context.streams.spawn(async move {
            match context.containerizer.destroy(&id).await {
                Ok(_) | Err(ContainerizerError::Unknown(_)) => {}
                Err(error) => tracing::warn!(container = %id, %error, "could not end a session"),
            }
        });
    }
}

/// The state of an answer.
struct Speech {
    line: OutputLine,
    media: MediaType,
    beats: Interval,
    beat: Bytes,
    session: Option<Session>,
}

fn speak(
    context: &Context,
    line: OutputLine,
    accepted: Accepted,
    session: Option<Session>,
) -> Response {
    let every = context.heartbeat;
    let mut beats = tokio::time::interval(every);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    beats.reset();
    let media = accepted.media();
    let speech = Speech {
        line,
        media,
        beats,
        beat: record(media, &heartbeat(every)),
        session,
    };
    let body = stream::unfold(Some(speech), async |speech| {
        let mut speech = speech?;
        let said = speech.next().await;
        let over = said.is_err();
        said.transpose()
            .map(|said| (said, Some(speech).filter(|_| !over)))
    });
    accepted.stream(Body::from_stream(body))
}

impl Speech {
    async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        tokio::select! {
            biased;
            piece = self.line.next() => {
                let piece = piece?;
                if let (None, Some(session)) = (&piece, &self.session) {
                    session.part().await;
                }
                Ok(piece.map(|piece| record(self.media, &said(piece))))
            }
            _ = self.beats.tick() => Ok(Some(self.beat.clone())),
        }
    }
}

fn record(media: MediaType, message: &ProcessIo) -> Bytes {
    recordio::encode(&media.encode(message))
}

fn said(piece: Piece) -> ProcessIo {
    let source = match piece.source {
        Source::Stdout => data::Type::Stdout,
        Source::Stderr => data::Type::Stderr,
    };
    ProcessIo {
        r#type: Some(process_io::Type::Data.into()),
        data: Some(process_io::Data {
            r#type: Some(source.into()),
            data: Some(piece.data.into()),
        }),
        control: None,
    }
}

fn heartbeat(every: Duration) -> ProcessIo {
    let nanoseconds = i64::try_from(every.as_nanos()).unwrap_or(i64::MAX);
    ProcessIo {
        r#type: Some(process_io::Type::Control.into()),
        data: None,
        control: Some(process_io::Control {
            r#type: Some(control::Type::Heartbeat.into()),
            tty_info: None,
            heartbeat: Some(control::Heartbeat {
                interval: Some(DurationInfo { nanoseconds }),
            }),
        }),
    }
}
