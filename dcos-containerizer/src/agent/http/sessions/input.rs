//! `ATTACH_CONTAINER_INPUT`: a request that goes on for as long as its client types.

use axum::body::{Body, BodyDataStream};
use axum::response::Response;
use bytes::Bytes;
use dcos_proto::agent::call::attach_container_input;
use dcos_proto::agent::process_io::{self, control, data};
use dcos_proto::agent::{Call, ProcessIo, call};
use dcos_proto::recordio::Decoder;
use dcos_security::Caller;
use dcos_wire::{MediaType, Peer, Refusal, Unhurried, reply};
use futures::StreamExt;
use http::StatusCode;

use super::super::media::not_streamed;
use super::super::{Context, access, operator, validation};
use super::{known, refusal, switchboard};
use crate::switchboard::InputLine;

/// The longest record that is taken; clients send what one read gave them.
const MAX_RECORD: usize = 8 << 20;

/// Hands what a client says to its container, until either ends.
pub(in super::super) async fn attach_input(
    context: &Context,
    (caller, peer): (&Caller, Option<&Peer>),
    unhurried: Option<&Unhurried>,
    media: MediaType,
    body: Body,
) -> Result<Response, Refusal> {
    let mut calls = Calls {
        body: body.into_data_stream(),
        decoder: Decoder::new(MAX_RECORD),
        media,
    };
    let first = calls.next().await?;
    let first =
        first.ok_or_else(|| Refusal::bad_request("Received EOF while reading request body"))?;
    validation::check(&first)?;
    if first.r#type() != call::Type::AttachContainerInput {
        return Err(not_streamed(&first));
    }
    access::allow_call(context, caller, peer, &first).await?;
    let attach = first.attach_container_input.as_ref();
    let attach = attach.ok_or_else(|| operator::missing("attach_container_input"))?;
    if attach.r#type() != attach_container_input::Type::ContainerId {
        return Err(Refusal::bad_request(
            "Expecting 'attach_container_input.type' to be CONTAINER_ID",
        ));
    }
    let id = attach.container_id.as_ref();
    let id = id.ok_or_else(|| operator::missing("attach_container_input.container_id"))?;
    known(context, id).await?;
    let switchboard = switchboard(context, id).await?;
    let mut line = switchboard.input().await.map_err(|error| refusal(&error))?;
    if let Some(unhurried) = unhurried {
        unhurried.allow();
    }
    loop {
        let call = tokio::select! {
            call = calls.next() => call?,
            // The container is over: what else would be said is of no use.
            () = line.closed() => None,
        };
        let Some(call) = call else {
            return Ok(reply::empty(StatusCode::OK));
        };
        let word = word(&call)?;
        if matches!(word, Word::Size(..)) && !switchboard.terminal {
            return Err(Refusal::bad_request(
                "Unable to set the window size: the container has no terminal",
            ));
        }
        if pass(&mut line, word).await.is_err() {
            return Ok(reply::empty(StatusCode::OK));
        }
    }
}

/// What one record says.
#[derive(Debug, PartialEq, Eq)]
enum Word<'a> {
    Data(&'a [u8]),
    End,
    Size(u16, u16),
    Heartbeat,
}

async fn pass(line: &mut InputLine, word: Word<'_>) -> std::io::Result<()> {
    match word {
        Word::Data(data) => line.send(data).await,
        Word::End => line.end().await,
        Word::Size(rows, columns) => line.resize(rows, columns).await,
        Word::Heartbeat => Ok(()),
    }
}

/// Understands a record behind the first; the texts of refusals are Mesos's own.
fn word(call: &Call) -> Result<Word<'_>, Refusal> {
    let expecting = |what: &str| Refusal::bad_request(format!("Expecting {what}"));
    let present = |what: &str| expecting(&format!("'{what}' to be present"));
    let attach = call.attach_container_input.as_ref();
    let attach = attach.ok_or_else(|| present("attach_container_input"))?;
    if attach.r#type() != attach_container_input::Type::ProcessIo {
        let found = attach.r#type().as_str_name();
        return Err(expecting(&format!(
            "'attach_container_input.type' to be 'PROCESS_IO' instead of: '{found}'"
        )));
    }
    let io: &ProcessIo = attach
        .process_io
        .as_ref()
        .ok_or_else(|| present("attach_container_input.process_io"))?;
    match (io.r#type(), &io.data, &io.control) {
        (process_io::Type::Unknown, ..) if io.r#type.is_none() => Err(present("process_io.type")),
        (process_io::Type::Unknown, ..) => {
            Err(Refusal::bad_request("'process_io.type' is unknown"))
        }
        (process_io::Type::Data, None, _) => Err(present("process_io.data")),
        (process_io::Type::Data, Some(piece), _) => match (piece.r#type(), &piece.data) {
            (data::Type::Stdin, Some(bytes)) if bytes.is_empty() => Ok(Word::End),
            (data::Type::Stdin, Some(bytes)) => Ok(Word::Data(bytes)),
            (data::Type::Stdin, None) => Err(present("process_io.data.data")),
            _ => Err(expecting("'process_io.data.type' to be 'STDIN'")),
        },
        (process_io::Type::Control, _, None) => Err(present("process_io.control")),
        (process_io::Type::Control, _, Some(control)) => match control.r#type() {
            control::Type::Heartbeat if control.heartbeat.is_some() => Ok(Word::Heartbeat),
            control::Type::Heartbeat => Err(present("process_io.control.heartbeat")),
            control::Type::TtyInfo => {
                let info = control.tty_info.as_ref();
                let info = info.ok_or_else(|| present("process_io.control.tty_info"))?;
                let size = info.window_size.as_ref();
                let size = size.ok_or_else(|| present("tty_info.window_size"))?;
                let cut = |number| u16::try_from(number).unwrap_or(u16::MAX);
                Ok(Word::Size(cut(size.rows), cut(size.columns)))
            }
            control::Type::Unknown => {
                Err(Refusal::bad_request("'process_io.control.type' is unknown"))
            }
        },
    }
}

/// The records of a request.
struct Calls {
    body: BodyDataStream,
    decoder: Decoder,
    media: MediaType,
}

impl Calls {
    /// The next one; `None` at the end of the body. A future dropped half-way loses nothing.
    async fn next(&mut self) -> Result<Option<Call>, Refusal> {
        loop {
            let record = self.decoder.next_record();
            let record = record.map_err(|error| Refusal::bad_request(error.to_string()))?;
            if let Some(record) = record {
                return self.media.decode(&record).map(Some);
            }
            let Some(piece) = self.body.next().await else {
                return Ok(None);
            };
            let piece: Bytes = piece.map_err(|error| Refusal::bad_request(error.to_string()))?;
            self.decoder.push(&piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dcos_proto::json::{self, Dialect};
    use serde_json::json;

    fn check(io: &serde_json::Value, expected: Result<Word<'_>, &str>) {
        let call = json!({"type": "ATTACH_CONTAINER_INPUT",
            "attach_container_input": {"type": "PROCESS_IO", "process_io": io}});
        let call = json::from_slice(call.to_string().as_bytes(), Dialect::V1).unwrap();
        let found = word(&call).map_err(|refusal| format!("{refusal:?}"));
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn records_are_data_or_control() {
        check(
            &json!({"type": "DATA", "data": {"type": "STDIN", "data": "aGk="}}),
            Ok(Word::Data(b"hi")),
        );
        check(
            &json!({"type": "DATA", "data": {"type": "STDIN", "data": ""}}),
            Ok(Word::End),
        );
        check(
            &json!({"type": "CONTROL", "control": {"type": "TTY_INFO",
                "tty_info": {"window_size": {"rows": 24, "columns": 80}}}}),
            Ok(Word::Size(24, 80)),
        );
        check(
            &json!({"type": "CONTROL", "control": {"type": "HEARTBEAT",
                "heartbeat": {"interval": {"nanoseconds": 1}}}}),
            Ok(Word::Heartbeat),
        );
        check(
            &json!({"type": "DATA", "data": {"type": "STDOUT", "data": "aGk="}}),
            Err("Expecting 'process_io.data.type' to be 'STDIN'"),
        );
        check(
            &json!({"type": "CONTROL", "control": {"type": "TTY_INFO", "tty_info": {}}}),
            Err("Expecting 'tty_info.window_size' to be present"),
        );
        check(
            &json!({"type": "CONTROL"}),
            Err("Expecting 'process_io.control' to be present"),
        );
    }
}
