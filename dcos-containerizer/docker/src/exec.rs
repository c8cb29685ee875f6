//! Commands run inside a container: checks and sessions.
//!
//! The engine runs a command beside the container's own, gives its output over one connection and
//! cannot signal it; so signals are sent to its process, which is one of this host's.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, ResizeExecOptions, StartExecOptions, StartExecResults};
use bollard::models::ExecInspectResponse;
use dcos_containerizer::containerizer::{ContainerConfig, ContainerTermination, Stdio, Stream};
use dcos_containerizer::switchboard::Switchboard;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::engine::{Engine, is_status, quickly};
use crate::shape;

/// How long a command that was started may have no process yet.
const BEGIN: Duration = Duration::from_secs(5);

/// How often the window of a terminal is looked at.
const WINDOW: Duration = Duration::from_millis(250);

/// Chunks of input that may wait for the engine: enough that typing never blocks.
const INPUT: usize = 16;

/// A command in a container.
#[derive(Debug, Clone)]
pub(crate) struct Exec {
    engine: Engine,
    /// What the engine calls it.
    pub(crate) name: String,
    /// Where others attach to it, if it is a session.
    pub(crate) switchboard: Option<Switchboard>,
    terminal: bool,
}

impl Exec {
    /// Prepares the command of `config` in the container that the engine calls `container`.
    pub(crate) async fn create(
        engine: Engine,
        container: &str,
        config: &ContainerConfig,
    ) -> Result<Self, String> {
        let command = config.command.as_ref().ok_or("there is no command")?;
        let value = command.value.clone();
        let words = if command.shell() {
            let value = value.ok_or("Shell specified but no command value provided")?;
            vec!["/bin/sh".to_owned(), "-c".to_owned(), value]
        } else {
            // The first argument is what the program calls itself, which Docker cannot say.
            let rest = command.arguments.iter().skip(1).cloned();
            let program = value.or_else(|| command.arguments.first().cloned());
            let program = program.ok_or("there is no command")?;
            std::iter::once(program).chain(rest).collect()
        };
        let asked = config
            .container
            .as_ref()
            .is_some_and(|container| container.tty_info.is_some());
        let terminal = asked || is_terminal(&config.stdio);
        let typed = config.session || matches!(config.stdio.input, Stream::File(_));
        let directory = config.working_directory.as_ref();
        let options = CreateExecOptions {
            attach_stdin: Some(typed),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(terminal),
            env: Some(shape::pairs(&shape::without_default_path(config))),
            cmd: Some(words),
            user: command.user.clone(),
            working_dir: directory.map(|directory| directory.display().to_string()),
            ..CreateExecOptions::default()
        };
        let created = engine.api().create_exec(container, options).await;
        let created = created.map_err(|error| engine.text(&error))?;
        Ok(Self {
            engine,
            name: created.id,
            switchboard: None,
            terminal,
        })
    }

    /// The same, which others attach to there.
    pub(crate) fn with_switchboard(self, switchboard: Option<Switchboard>) -> Self {
        Self {
            switchboard,
            ..self
        }
    }

    /// Starts it. What comes out is the work of moving its streams, which ends with it.
    pub(crate) async fn start(
        &self,
        stdio: Stdio,
    ) -> Result<BoxFuture<'static, ContainerTermination>, String> {
        let options = StartExecOptions {
            tty: self.terminal,
            ..StartExecOptions::default()
        };
        let started = self
            .engine
            .api()
            .start_exec(&self.name, Some(options))
            .await;
        let started = started.map_err(|error| self.engine.text(&error))?;
        let StartExecResults::Attached { output, input } = started else {
            return Err("the engine did not attach to the command".to_owned());
        };
        Ok(Box::pin(self.clone().relay(stdio, output, input)))
    }

    async fn relay(
        self,
        stdio: Stdio,
        mut output: Pin<
            Box<dyn futures::Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>,
        >,
        input: Pin<Box<dyn AsyncWrite + Send>>,
    ) -> ContainerTermination {
        let over = Arc::new(AtomicBool::new(false));
        let typed = match stdio.input {
            Stream::File(file) => {
                let window = tokio::spawn(self.clone().watch_window(Arc::clone(&file)));
                let typed = tokio::spawn(type_in(file, input, Arc::clone(&over)));
                Some((typed, window))
            }
            Stream::Logger | Stream::Null => None,
        };
        while let Some(Ok(output)) = output.next().await {
            let (file, bytes) = match output {
                LogOutput::StdErr { message } => (&stdio.error, message),
                other => (&stdio.output, other.into_bytes()),
            };
            if let Stream::File(file) = file {
                let file = Arc::clone(file);
                let print = move || (&*file).write_all(&bytes);
                // Nobody reads any more: what is printed goes nowhere, as to a closed pipe.
                tokio::task::spawn_blocking(print).await.ok();
            }
        }
        over.store(true, Ordering::Relaxed);
        let end = self.end().await;
        if let Some((typed, window)) = typed {
            window.abort();
            typed.abort();
        }
        end
    }

    /// How it ended, once it has.
    async fn end(&self) -> ContainerTermination {
        let mut pause = Duration::from_millis(5);
        loop {
            match self.engine.api().inspect_exec(&self.name).await {
                Ok(exec) if exec.running == Some(true) => {}
                Ok(exec) => {
                    let Some(code) = exec.exit_code else {
                        return ContainerTermination::lost("its exit code is not known");
                    };
                    return ContainerTermination::exited(crate::lifecycle::wait_status(code));
                }
                Err(error) => return ContainerTermination::lost(self.engine.text(&error)),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// The process on this host, while it runs.
    pub(crate) async fn pid(&self) -> Result<Option<u32>, bollard::errors::Error> {
        match self.engine.api().inspect_exec(&self.name).await {
            // The engine forgets what ended, some minutes later or when it is started anew.
            Err(error) if is_status(&error, 404) => Ok(None),
            exec => exec.map(|exec| running(&exec)),
        }
    }

    /// Waits until the engine knows the process of one that was started: what it prints may be heard before, and until
    /// then nobody can signal it. The engine tells of it in no event.
    pub(crate) async fn begun(&self) {
        let begun = async {
            let mut pause = Duration::from_millis(5);
            // Whoever wants to signal it is told of an engine that fails.
            while let Ok(exec) = self.engine.api().inspect_exec(&self.name).await {
                if running(&exec).is_some() || exec.exit_code.is_some() {
                    return;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        };
        tokio::time::timeout(BEGIN, begun).await.ok();
    }

    /// Signals it and its group, if it runs.
    pub(crate) async fn signal(&self, number: i32) -> Result<(), String> {
        let pid = quickly(self.pid()).await;
        let pid = pid.map_err(|error| self.engine.text(&error))?;
        let pid = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let (Some(pid), Some(signal)) = (pid, Signal::from_named_raw(number)) {
            // It leads a group of its own, unless it made itself another life.
            if kill_process_group(pid, signal).is_err() {
                kill_process(pid, signal).ok();
            }
        }
        Ok(())
    }

    /// One that an earlier agent started.
    pub(crate) fn left(engine: Engine, name: String) -> Self {
        Self {
            engine,
            name,
            switchboard: None,
            terminal: false,
        }
    }

    /// Keeps the window of the command's terminal as large as that of `file`.
    async fn watch_window(self, file: Arc<File>) {
        if !self.terminal || !file.is_terminal() {
            return;
        }
        let mut last = (0, 0);
        loop {
            if let Ok(size) = rustix::termios::tcgetwinsize(&*file) {
                let now = (size.ws_row, size.ws_col);
                if now != last && now.0 > 0 && now.1 > 0 {
                    let size = ResizeExecOptions {
                        height: now.0,
                        width: now.1,
                    };
                    if self
                        .engine
                        .api()
                        .resize_exec(&self.name, size)
                        .await
                        .is_ok()
                    {
                        last = now;
                    }
                }
            }
            tokio::time::sleep(WINDOW).await;
        }
    }
}

/// The process of a command that runs.
fn running(exec: &ExecInspectResponse) -> Option<u32> {
    let pid = u32::try_from(exec.pid?).ok()?;
    (exec.running == Some(true) && pid > 0).then_some(pid)
}

fn is_terminal(stdio: &Stdio) -> bool {
    matches!(&stdio.input, Stream::File(file) if file.is_terminal())
}

/// Moves what is typed to the engine, until there is no more or the command is over.
async fn type_in(
    file: Arc<File>,
    mut input: Pin<Box<dyn AsyncWrite + Send>>,
    over: Arc<AtomicBool>,
) {
    let (sender, mut receiver) = mpsc::channel(INPUT);
    let reader = tokio::task::spawn_blocking(move || {
        raw(&file);
        let mut buffer = vec![0; 8192];
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        while !over.load(Ordering::Relaxed) && !sender.is_closed() {
            let mut fds = [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::IN)];
            match poll(&mut fds, Some(&wait)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(_) => return,
            }
            match (&*file).read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(read) => {
                    if sender.blocking_send(buffer[..read].to_vec()).is_err() {
                        return;
                    }
                }
            }
        }
    });
    while let Some(bytes) = receiver.recv().await {
        if input.write_all(&bytes).await.is_err() {
            break;
        }
    }
    input.shutdown().await.ok();
    drop(receiver);
    reader.await.ok();
}

/// The command has a terminal of its own; the caller's is to pass on what is typed, as it is.
fn raw(file: &File) {
    if !file.is_terminal() {
        return;
    }
    if let Ok(mut modes) = rustix::termios::tcgetattr(file) {
        modes.make_raw();
        rustix::termios::tcsetattr(file, rustix::termios::OptionalActions::Now, &modes).ok();
    }
}
