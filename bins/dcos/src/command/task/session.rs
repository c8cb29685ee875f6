//! `dcos task exec` and `dcos task attach`: this terminal becomes a container's.
//!
//! Three requests to the container's agent, as Mesos's clients make them: one whose answer is the
//! output for as long as there is any, one whose body is the input, and at last the question how
//! the command ended.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use dcos_proto::agent::process_io::{self, Data, data};
use dcos_proto::agent::{Call, ProcessIo, Response, call};
use dcos_proto::mesos::{
    CommandInfo, ContainerId, ContainerInfo, Environment, TtyInfo, container_info, environment,
};
use dcos_wire::{Answer, MediaType};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::input::{self, Ended};
use super::terminal::Raw;
use crate::http::{Form, Server};

/// The longest record of output that is understood; agents send pieces of 32 KiB.
const MAX_RECORD: usize = 16 << 20;
/// Pieces of output that wait to be printed; then the container waits.
const PIECES: usize = 4;
/// What a shell says of a program whose reader went away.
const BROKEN_PIPE: u8 = 128 + 13;

/// A container and the agent it is on.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) agent: Server,
    pub(super) container: ContainerId,
}

/// What to run in a task's container.
#[derive(Debug)]
pub(super) struct Exec {
    pub(super) program: String,
    pub(super) arguments: Vec<String>,
    pub(super) user: Option<String>,
    pub(super) interactive: bool,
    pub(super) tty: bool,
}

/// Runs a command inside a task's container, and ends as it does.
pub(super) async fn exec(place: Place, exec: Exec) -> anyhow::Result<ExitCode> {
    if exec.tty && exec.interactive && !io::stdin().is_terminal() {
        bail!("--tty with --interactive needs a terminal as standard input");
    }
    let id = place.container.child(uuid::Uuid::new_v4().to_string());
    let mut call = Call::default();
    call.set_type(call::Type::LaunchNestedContainerSession);
    call.launch_nested_container_session = Some(call::LaunchNestedContainerSession {
        container_id: id.clone(),
        command: Some(command(&exec)),
        container: Some(ContainerInfo {
            r#type: container_info::Type::Mesos.into(),
            tty_info: exec.tty.then(TtyInfo::default),
            ..ContainerInfo::default()
        }),
    });
    talk(&place.agent, id, &call, exec.interactive, exec.tty).await
}

/// Connects with a task that has a terminal, until it ends or Ctrl-P Ctrl-Q is typed.
pub(super) async fn attach(place: Place, input: bool) -> anyhow::Result<ExitCode> {
    let mut call = Call::default();
    call.set_type(call::Type::AttachContainerOutput);
    call.attach_container_output = Some(call::AttachContainerOutput {
        container_id: place.container.clone(),
    });
    let tty = io::stdin().is_terminal();
    talk(&place.agent, place.container, &call, input, tty).await
}

fn command(exec: &Exec) -> CommandInfo {
    let mut arguments = vec![exec.program.clone()];
    arguments.extend(exec.arguments.iter().cloned());
    let term = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
    CommandInfo {
        shell: Some(false),
        value: Some(exec.program.clone()),
        arguments,
        user: exec.user.clone(),
        environment: exec.tty.then(|| Environment {
            variables: vec![environment::Variable {
                name: "TERM".to_owned(),
                value: Some(term),
                ..environment::Variable::default()
            }],
        }),
        ..CommandInfo::default()
    }
}

/// Relays until either side has had enough; the exit code of the container.
async fn talk(
    agent: &Server,
    id: ContainerId,
    call: &Call,
    interactive: bool,
    tty: bool,
) -> anyhow::Result<ExitCode> {
    let media = MediaType::Protobuf;
    let body = media.encode(call);
    let answer = agent.open(Form::Call, Form::Records, body.into()).await?;
    let raw = if interactive && tty {
        Some(Raw::set()?)
    } else {
        None
    };
    let (mut terminated, mut hung_up) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    );
    let spoken_to = id.clone();
    let speaking = async {
        if interactive {
            input::forward(agent, &spoken_to, tty).await
        } else {
            std::future::pending().await
        }
    };
    tokio::pin!(speaking);
    let heard = hear(answer);
    tokio::pin!(heard);
    let mut spoken = false;
    loop {
        tokio::select! {
            heard = &mut heard => {
                if !heard? {
                    return Ok(ExitCode::from(BROKEN_PIPE));
                }
                break;
            }
            ended = &mut speaking, if !spoken => match ended? {
                Ended::Escaped => return Ok(ExitCode::SUCCESS),
                // What the container says in the end is still to come.
                Ended::Input => spoken = true,
            },
            _ = terminated.recv() => return Ok(ExitCode::from(128 + 15)),
            _ = hung_up.recv() => return Ok(ExitCode::from(128 + 1)),
        }
    }
    drop(raw);
    status(agent, id).await
}

/// Prints what the container says, to its end; false if nobody reads it any more.
async fn hear(answer: Answer) -> anyhow::Result<bool> {
    let (pieces, printed) = print();
    let mut records = answer.records(MAX_RECORD);
    while let Some(record) = records.next().await? {
        let said: ProcessIo = MediaType::Protobuf.decode(&record)?;
        if said.r#type() == process_io::Type::Data
            && let Some(piece) = said.data
            && pieces.send(piece).await.is_err()
        {
            break;
        }
    }
    drop(pieces);
    match printed.await? {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        other => other
            .map(|()| true)
            .context("writing what the container says"),
    }
}

/// A thread that prints, and may wait for whoever reads it; how it ended comes back.
fn print() -> (mpsc::Sender<Data>, oneshot::Receiver<io::Result<()>>) {
    let (pieces, mut queue) = mpsc::channel::<Data>(PIECES);
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || {
        let mut print = || -> io::Result<()> {
            while let Some(piece) = queue.blocking_recv() {
                match piece.r#type() {
                    data::Type::Stderr => write(io::stderr(), piece.data())?,
                    _ => write(io::stdout(), piece.data())?,
                }
            }
            Ok(())
        };
        // Nobody asks any more after a signal.
        tell.send(print()).ok();
    });
    (pieces, told)
}

fn write(mut out: impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    out.flush()
}

/// How the container ended. That of a whole task is told by the task's status, not here.
async fn status(agent: &Server, id: ContainerId) -> anyhow::Result<ExitCode> {
    if id.parent.is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    let mut call = Call::default();
    call.set_type(call::Type::WaitContainer);
    call.wait_container = Some(call::WaitContainer { container_id: id });
    let body = MediaType::Protobuf.encode(&call);
    let answer = agent.open(Form::Call, Form::Call, body.into()).await?;
    let body: Bytes = answer.bytes().await?;
    let answer: Response = MediaType::Protobuf.decode(&body)?;
    let ended = answer.wait_container.unwrap_or_default();
    let Some(status) = ended.exit_status else {
        bail!(
            "the command ended in an unknown way: {}",
            ended.message.unwrap_or_default()
        );
    };
    Ok(ExitCode::from(exit_code(status)))
}

/// A wait status as a shell shows it.
fn exit_code(status: i32) -> u8 {
    let signal = status & 0x7f;
    let code = if signal == 0 {
        (status >> 8) & 0xff
    } else {
        128 + signal
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses_become_exit_codes() {
        assert_eq!(exit_code(0), 0);
        assert_eq!(exit_code(3 << 8), 3);
        assert_eq!(exit_code(9), 137);
        assert_eq!(exit_code(255 << 8), 255);
    }
}
