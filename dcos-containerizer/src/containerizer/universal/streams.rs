//! Where the standard streams of a container lead, and the switchboard of those that others may
//! attach to.
//!
//! A switchboard is a child of the launcher like any container, under a name of its own. It ends
//! by itself once its container has no more to say; if it dies before, its container ends, since
//! nobody could hear it any more.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::sync::Arc;

use dcos_launcher::Scope;
use dcos_proto::mesos::TtyInfo;
use dcos_proto::mesos::task_status::Reason;

use super::lifecycle::{log_request, note, text};
use super::store::{Board, Record};
use super::{Container, Inner};
use crate::containerizer::runtime::parse_id;
use crate::containerizer::{ContainerClass, ContainerConfig, Stream};
use crate::isolator::Limitation;
use crate::logger::Logs;
use crate::switchboard::{
    self, Descriptors, Streams, Switchboard, listen, open_pipes, open_terminal,
};

/// Behind the name of a container, the name of its switchboard; no id holds a slash.
const SUFFIX: &str = "/io";
/// Sockets of switchboards, in the runtime directory.
pub(super) const SOCKETS: &str = "io";

/// Opens what the container gets; starts a switchboard if it needs one and notes that in `record`.
pub(super) async fn open(
    inner: &Inner,
    container: &Container,
    record: &mut Record,
    config: &ContainerConfig,
) -> Result<Streams, String> {
    let terminal = config.container.as_ref();
    let terminal = terminal.and_then(|container| container.tty_info.as_ref());
    let attachable = terminal.is_some() || config.session;
    let stdio = &config.stdio;
    let logged = attachable
        || matches!(stdio.output, Stream::Logger)
        || matches!(stdio.error, Stream::Logger);
    let logs = if logged && config.class == ContainerClass::Task {
        let request = log_request(&container.id, record);
        let logs = inner.config.logger.prepare(&request).await;
        logs.map_err(|error| text(&error))?
    } else {
        let null = || null().map_err(|error| error.to_string());
        Logs {
            stdout: null()?,
            stderr: null()?,
        }
    };
    if attachable {
        return switch(inner, container, record, terminal, config.session, logs).await;
    }
    let stream = |stream: &Stream, log: Option<&File>| match (stream, log) {
        (Stream::File(file), _) => file.try_clone(),
        (Stream::Logger, Some(log)) => log.try_clone(),
        _ => null(),
    };
    let streams = [
        stream(&stdio.input, None),
        stream(&stdio.output, Some(&logs.stdout)),
        stream(&stdio.error, Some(&logs.stderr)),
    ];
    let [input, output, error] = streams.map(|one| one.map_err(|error| error.to_string()));
    Ok([input?, output?, error?])
}

/// Starts a switchboard between the container and its logs.
async fn switch(
    inner: &Inner,
    container: &Container,
    record: &mut Record,
    terminal: Option<&TtyInfo>,
    session: bool,
    logs: Logs,
) -> Result<Streams, String> {
    let failed = |error: std::io::Error| error.to_string();
    let (streams, ends) = match terminal {
        Some(info) => {
            // Who enters a container sees the terminals of that one.
            let parent = container.id.parent.as_deref().filter(|_| record.debug);
            let parent = parent.and_then(|parent| inner.find(parent).ok()?.pid());
            open_terminal(info, record.owner, parent).map_err(failed)?
        }
        None => open_pipes(record.owner).map_err(failed)?,
    };
    let sockets = inner.config.runtime_dir.join(SOCKETS);
    let (listener, socket) = listen(&sockets).map_err(failed)?;
    let [stdin, stdout, stderr] = ends;
    let descriptors = Descriptors {
        listener: listener.into(),
        stdout_log: logs.stdout.into(),
        stderr_log: logs.stderr.into(),
        stdin,
        stdout,
        stderr,
    };
    record.switchboard = Some(Board {
        socket,
        terminal: terminal.is_some(),
    });
    // Before it runs, so that a failure from here on finds it.
    container.set_record(record.clone());
    let program = &inner.config.switchboard;
    let mut arguments = vec![program.program.to_string_lossy().into_owned()];
    arguments.extend(program.arguments.iter().cloned());
    let plan = switchboard::plan(name(container), arguments, terminal.is_some(), session);
    let socket = descriptors.send().map_err(failed)?;
    let started = inner.launcher.launch(&plan, &[socket.as_fd()]).await;
    started.map_err(|error| format!("starting the switchboard: {}", text(&error)))?;
    Ok(streams)
}

/// What the launcher calls a container's switchboard.
fn name(container: &Container) -> String {
    format!("{}{SUFFIX}", container.name())
}

/// Whether the launcher speaks of a switchboard.
pub(super) fn is_board(name: &str) -> bool {
    name.ends_with(SUFFIX)
}

/// The container of the switchboard of this name.
fn owner(inner: &Inner, name: &str) -> Option<Arc<Container>> {
    let name = name.strip_suffix(SUFFIX)?;
    inner.lock().get(&parse_id(name)).cloned()
}

/// A switchboard has ended: as it should, or before its container.
pub(super) fn ended(inner: &Arc<Inner>, name: &str, status: i32) {
    inner.launcher.forget(name);
    let Some(container) = owner(inner, name) else {
        return;
    };
    if let Some(board) = container.record().switchboard {
        // Nobody listens there any more.
        fs::remove_file(board.socket).ok();
    }
    if status == 0 || container.exit.borrow().is_some() {
        return;
    }
    tracing::error!(container = %container.id, status, "its switchboard died");
    note(
        &container,
        Limitation {
            resources: Vec::new(),
            reason: Reason::IoSwitchboardExited.into(),
            message: format!("the switchboard of its streams died (wait status {status})"),
        },
    );
    let inner = Arc::clone(inner);
    tokio::spawn(async move {
        inner.signal(&container, libc::SIGKILL, Scope::All).await;
    });
}

/// Takes up the switchboards that the launcher knows. Those without a container are ended, and so
/// are sockets without a switchboard.
pub(super) async fn recover(inner: &Arc<Inner>, boards: Vec<dcos_launcher::Container>) {
    let mut used = Vec::new();
    for board in boards {
        match (owner(inner, &board.id), board.exit) {
            (_, Some(exit)) => ended(inner, &board.id, exit.status),
            (Some(container), None) => {
                used.extend(container.record().switchboard.map(|board| board.socket));
                if container.pid().is_none() {
                    container_ended(&container).await;
                }
            }
            (None, None) => kill(inner, &board.id).await,
        }
    }
    let sockets = fs::read_dir(inner.config.runtime_dir.join(SOCKETS));
    for socket in sockets.into_iter().flatten().flatten() {
        if !used.contains(&socket.path()) {
            fs::remove_file(socket.path()).ok();
        }
    }
}

/// Lets the switchboard of a container that ended come to its end.
pub(super) async fn container_ended(container: &Container) {
    if let Some(board) = container.record().switchboard {
        Switchboard::from(board).end().await;
    }
}

/// A container that ended is known no more, maybe before the end of its switchboard is heard of: its socket goes with it.
pub(super) fn removed(container: &Container) {
    if let Some(board) = container.record().switchboard {
        fs::remove_file(board.socket).ok();
    }
}

/// Ends the switchboard of a container whose launch failed.
pub(super) async fn abandon(inner: &Inner, container: &Container) {
    if let Some(board) = container.record().switchboard {
        kill(inner, &name(container)).await;
        fs::remove_file(board.socket).ok();
    }
}

async fn kill(inner: &Inner, name: &str) {
    match inner.launcher.kill(name, libc::SIGKILL, Scope::All).await {
        Ok(()) | Err(dcos_launcher::Error::Unknown) => {}
        Err(error) => tracing::warn!(name, error = text(&error), "could not end a switchboard"),
    }
}

fn null() -> std::io::Result<File> {
    File::options().read(true).write(true).open("/dev/null")
}

impl From<Board> for Switchboard {
    fn from(board: Board) -> Self {
        Self {
            socket: board.socket,
            terminal: board.terminal,
        }
    }
}
