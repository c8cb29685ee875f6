//! What is typed here goes to the container: a request whose body goes on.

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use dcos_proto::agent::call::{self, attach_container_input};
use dcos_proto::agent::process_io::{self, control, data};
use dcos_proto::agent::{Call, ProcessIo};
use dcos_proto::mesos::tty_info::WindowSize;
use dcos_proto::mesos::{ContainerId, DurationInfo, TtyInfo};
use dcos_proto::recordio;
use dcos_wire::{Body, MediaType};
use futures::stream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::terminal;
use crate::http::{Form, Refused, Server};

/// Bytes read from standard input at once.
const PIECE: usize = 32 << 10;
/// Pieces on their way; a container that takes none stops the reading here.
const PIECES: usize = 4;
/// How often an idle input shows that it stands.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// Ctrl-P Ctrl-Q: leave, and let the container go on.
const ESCAPE: [u8; 2] = [0x10, 0x11];

/// Why there is no more input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Standard input has ended, or the container has.
    Input,
    /// Somebody typed the way out.
    Escaped,
}

/// Sends standard input until it or the container ends.
pub(super) async fn forward(agent: &Server, id: &ContainerId, tty: bool) -> anyhow::Result<Ended> {
    let (records, mut outgoing) = mpsc::channel::<Bytes>(PIECES);
    let (escaped, mut escapes) = mpsc::channel::<()>(1);
    let body = stream::poll_fn(move |cx| {
        outgoing
            .poll_recv(cx)
            .map(|next| next.map(Ok::<_, std::io::Error>))
    });
    let request = agent.open(Form::Records, Form::Call, Body::from_stream(body));
    let typed = speak(records, id.clone(), tty, escaped);
    let speaking = tokio::spawn(typed);
    let ended = tokio::select! {
        answer = request => match answer {
            Ok(_) => Ok(Ended::Input),
            // The container is over; what it said is being read.
            Err(error) if error.downcast_ref::<Refused>().is_some_and(Refused::is_over) => {
                Ok(Ended::Input)
            }
            Err(error) => Err(error),
        },
        Some(()) = escapes.recv() => Ok(Ended::Escaped),
    };
    speaking.abort();
    ended
}

/// Puts records into the body, in the order of Mesos's clients.
async fn speak(
    records: mpsc::Sender<Bytes>,
    id: ContainerId,
    tty: bool,
    escaped: mpsc::Sender<()>,
) -> anyhow::Result<()> {
    let mut typed = read_standard_input();
    let mut resized = signal(SignalKind::window_change())?;
    let mut escape = Escape::default();
    records.send(record(&first(id))).await?;
    if tty {
        // A size that is none, then the right one: programs draw anew.
        records.send(record(&size((0, 0)))).await?;
        if let Some(own) = terminal::size() {
            records.send(record(&size(own))).await?;
        }
    }
    loop {
        let next = tokio::select! {
            piece = typed.recv() => {
                let end = piece.is_none();
                let piece = piece.unwrap_or_default();
                let (piece, left) = if tty { escape.look(&piece) } else { (piece.to_vec(), false) };
                if !piece.is_empty() {
                    records.send(record(&stdin(piece))).await?;
                }
                if left {
                    escaped.send(()).await?;
                    return Ok(());
                }
                if end {
                    // Nothing is the end of a pipe; a terminal's is the client's to say.
                    records.send(record(&stdin(Vec::new()))).await?;
                    return Ok(());
                }
                continue;
            }
            _ = resized.recv(), if tty => terminal::size().map(size),
            () = tokio::time::sleep(HEARTBEAT) => Some(heartbeat()),
        };
        if let Some(call) = next {
            records.send(record(&call)).await?;
        }
    }
}

/// Standard input, read by a thread that may wait for it for ever.
fn read_standard_input() -> mpsc::Receiver<Bytes> {
    let (pieces, read) = mpsc::channel(PIECES);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut buffer = vec![0; PIECE];
        while let Ok(count @ 1..) = input.read(&mut buffer) {
            if pieces
                .blocking_send(Bytes::copy_from_slice(&buffer[..count]))
                .is_err()
            {
                return;
            }
        }
    });
    read
}

/// Finds the way out in what is typed; its first key is held back until the next one comes.
#[derive(Debug, Default)]
struct Escape {
    held: bool,
}

impl Escape {
    /// What to send of a piece, and whether to leave behind it.
    fn look(&mut self, piece: &[u8]) -> (Vec<u8>, bool) {
        let mut sent = Vec::with_capacity(piece.len() + 1);
        for &byte in piece {
            if std::mem::take(&mut self.held) {
                if byte == ESCAPE[1] {
                    return (sent, true);
                }
                sent.push(ESCAPE[0]);
            }
            if byte == ESCAPE[0] {
                self.held = true;
            } else {
                sent.push(byte);
            }
        }
        (sent, false)
    }
}

fn record(call: &Call) -> Bytes {
    recordio::encode(&MediaType::Protobuf.encode(call))
}

fn first(id: ContainerId) -> Call {
    attach(call::AttachContainerInput {
        r#type: Some(attach_container_input::Type::ContainerId.into()),
        container_id: Some(id),
        process_io: None,
    })
}

fn attach(attach: call::AttachContainerInput) -> Call {
    let mut call = Call::default();
    call.set_type(call::Type::AttachContainerInput);
    call.attach_container_input = Some(attach);
    call
}

fn io(io: ProcessIo) -> Call {
    attach(call::AttachContainerInput {
        r#type: Some(attach_container_input::Type::ProcessIo.into()),
        container_id: None,
        process_io: Some(io),
    })
}

fn stdin(bytes: Vec<u8>) -> Call {
    io(ProcessIo {
        r#type: Some(process_io::Type::Data.into()),
        data: Some(process_io::Data {
            r#type: Some(data::Type::Stdin.into()),
            data: Some(bytes),
        }),
        control: None,
    })
}

fn control(control: process_io::Control) -> Call {
    io(ProcessIo {
        r#type: Some(process_io::Type::Control.into()),
        data: None,
        control: Some(control),
    })
}

fn size((rows, columns): (u32, u32)) -> Call {
    control(process_io::Control {
        r#type: Some(control::Type::TtyInfo.into()),
        tty_info: Some(TtyInfo {
            window_size: Some(WindowSize { rows, columns }),
        }),
        heartbeat: None,
    })
}

fn heartbeat() -> Call {
    let nanoseconds = i64::try_from(HEARTBEAT.as_nanos()).unwrap_or(i64::MAX);
    control(process_io::Control {
        r#type: Some(control::Type::Heartbeat.into()),
        tty_info: None,
        heartbeat: Some(control::Heartbeat {
            interval: Some(DurationInfo { nanoseconds }),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_out_may_come_in_pieces() {
        let mut escape = Escape::default();
        assert_eq!(escape.look(b"a\x10"), (b"a".to_vec(), false));
        assert_eq!(escape.look(b"b\x10"), (b"\x10b".to_vec(), false));
        assert_eq!(escape.look(b"\x10\x10"), (b"\x10\x10".to_vec(), false));
        assert_eq!(escape.look(b"\x11rest"), (Vec::new(), true));
    }
}
