//! The launcher's client for many tasks at once: one thread listens, anybody asks.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dcos_launcher::{Answer, Client, Container, Error, Message, Plan, Receiver, Request, Scope};
use tokio::sync::{RwLock, mpsc, oneshot, watch};

use super::LauncherProgram;

/// Ends of containers that wait to be taken in: more than run on a node. If there are ever more,
/// the thread that listens waits, and the launcher keeps them: it repeats what was not confirmed.
const NEWS: usize = 16 * 1024;

/// How long a launcher may take to become another program: what is starting there has to have started.
const UPGRADE: Duration = Duration::from_mins(1);

/// How long the program it is to become may take to be begun and to say which launcher it is.
const IDENTIFY: Duration = Duration::from_secs(20);

/// Why it takes longer, most likely.
const STARTING: &str = "it still waits for containers that are starting";

/// What the launcher says unasked.
#[derive(Debug)]
pub(super) enum News {
    /// A container ended.
    Exited {
        /// What it calls it.
        name: String,
        /// The raw wait status.
        status: i32,
    },
    /// The connection broke, and stands again; to a launcher that may know other containers.
    Reconnected,
}

#[derive(Debug)]
pub(super) struct Launcher(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    socket: PathBuf,
    program: LauncherProgram,
    connection: Mutex<Connection>,
    /// Counts connections, from 1 on; the end of all is one more.
    connections: watch::Sender<u64>,
    /// Shared by all that is asked, until it is answered; held alone while the launcher becomes another program,
    /// which ends the connection: so nothing is lost with it.
    asking: RwLock<()>,
    /// Held while it is asked.
    asked_program: tokio::sync::Mutex<Option<Identified>>,
}

/// What the program beside this agent said of itself.
#[derive(Debug)]
struct Identified {
    /// The connection whose launcher was to become it.
    connection: u64,
    at: Instant,
    is_own: bool,
}

#[derive(Debug)]
struct Connection {
    sender: Option<dcos_launcher::Sender>,
    asked: BTreeMap<u64, oneshot::Sender<Answer>>,
    /// It was told to become another program and is not done: it will, and this connection ends with it.
    leaving: bool,
    closed: bool,
    /// The launcher's process.
    pid: Option<u32>,
}

impl Launcher {
    /// Connects, starting the launcher if none runs.
    pub(super) async fn start(
        socket: PathBuf,
        program: LauncherProgram,
    ) -> io::Result<(Self, mpsc::Receiver<News>)> {
        let shared = Arc::new(Shared::new(socket, program));
        let (news, hear) = mpsc::channel(NEWS);
        let connecting = Arc::clone(&shared);
        let telling = news.clone();
        let receiver = tokio::task::spawn_blocking(move || {
            let client = connecting.connect()?;
            Ok(connecting.adopt(client, &telling))
        });
        let receiver = receiver.await.map_err(io::Error::other)?;
        let receiver = receiver.map_err(|error: Error| {
            io::Error::other(dcos_core::error::chain(&error).to_string())
        })?;
        let listening = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("launcher".into())
            .spawn(move || listening.listen(receiver, &news))?;
        Ok((Self(shared), hear))
    }

    /// Makes a container; its first process.
    pub(super) async fn launch(&self, plan: &Plan, fds: &[BorrowedFd<'_>]) -> Result<u32, Error> {
        match self.0.call(&Request::launch(plan), fds).await? {
            Answer::Launched { pid } => Ok(pid),
            _ => Err(unexpected()),
        }
    }

    /// Signals a container.
    pub(super) async fn kill(&self, name: &str, signal: i32, scope: Scope) -> Result<(), Error> {
        let request = Request::Kill {
            id: name.to_owned(),
            signal,
            scope,
        };
        self.0.call(&request, &[]).await.map(drop)
    }

    /// All containers it has not been told to forget.
    pub(super) async fn list(&self) -> Result<Vec<Container>, Error> {
        match self.0.call(&Request::List, &[]).await? {
            Answer::Containers { containers } => Ok(containers),
            _ => Err(unexpected()),
        }
    }

    /// Lets it forget a container that ended.
    pub(super) fn forget(&self, name: &str) {
        let id = name.to_owned();
        // Unanswered, it is told again at the next connection.
        drop(self.0.ask(&Request::Acknowledge { id }, &[]));
    }

    /// Which connection to a launcher this is; another may lead to one that knows other containers.
    pub(super) fn connection(&self) -> u64 {
        *self.0.connections.borrow()
    }

    /// The process that makes containers: the last one, while there is no other.
    pub(super) fn pid(&self) -> Option<u32> {
        self.0.lock().pid
    }

    /// Ends the connection for good.
    pub(super) fn close(&self) {
        let mut connection = self.0.lock();
        connection.closed = true;
        if let Some(sender) = connection.sender.take() {
            sender.close();
        }
        self.0.connections.send_modify(|count| *count += 1);
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn new(socket: PathBuf, program: LauncherProgram) -> Self {
        Self {
            socket,
            program,
            connection: Mutex::new(Connection {
                sender: None,
                asked: BTreeMap::new(),
                leaving: false,
                closed: false,
                pid: None,
            }),
            connections: watch::Sender::new(0),
            asking: RwLock::default(),
            asked_program: tokio::sync::Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self) -> Result<Client, Error> {
        let arguments: Vec<&str> = self.program.arguments.iter().map(String::as_str).collect();
        Client::connect_or_start(&self.socket, &self.program.program, &arguments)
    }

    fn adopt(&self, client: Client, news: &mpsc::Sender<News>) -> Receiver {
        let pid = client.launcher_pid();
        let (sender, receiver, exits) = client.split();
        for exit in exits {
            tell(news, exit.id, exit.status);
        }
        let mut connection = self.lock();
        connection.sender = Some(sender);
        connection.leaving = false;
        connection.pid = pid;
        self.connections.send_modify(|count| *count += 1);
        drop(connection);
        receiver
    }

    /// Asks; a launcher of another version that does not know the request becomes ours first, once.
    async fn call(
        self: &Arc<Self>,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Answer, Error> {
        match self.try_call(request, fds).await {
            (connection, Err(Error::Version)) => self.upgrade(connection).await?,
            (_, answer) => return answer,
        }
        match self.try_call(request, fds).await.1 {
            Err(Error::Version) => Err(self.not_upgraded("as that it refuses, too")),
            answer => answer,
        }
    }

    /// The number of the connection that was asked, and what came of it.
    async fn try_call(
        &self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> (u64, Result<Answer, Error>) {
        let _asking = self.asking.read().await;
        match self.ask(request, fds) {
            Ok((connection, answer)) => (connection, answer.await),
            Err(error) => (0, Err(error)),
        }
    }

    /// Has the launcher become ours, which refused something over the connection of that number. Whoever waited for
    /// another's refusal to lead to it finds it done.
    async fn upgrade(self: &Arc<Self>, connection: u64) -> Result<(), Error> {
        let mut connections = self.connections.subscribe();
        if *connections.borrow_and_update() != connection {
            return Ok(());
        }
        // While it is asked kills go on.
        if !self.is_own(connection).await {
            return Err(self.not_upgraded("it is not the launcher of this agent"));
        }
        let _alone = self.asking.write().await;
        if *connections.borrow_and_update() != connection {
            return Ok(());
        }
        if self.lock().leaving {
            return Err(self.not_upgraded(STARTING));
        }
        let program = &self.program.program;
        let request = Request::Upgrade {
            program: program.to_string_lossy().into_owned(),
        };
        tracing::warn!(program = %program.display(), "the launcher is of another version: replacing it");
        let (_, answer) = self.ask(&request, &[])?;
        let mut answer = Box::pin(answer);
        match tokio::time::timeout(UPGRADE, &mut answer).await {
            // All connections end with the old program.
            Ok(Ok(_) | Err(Error::Connection(_))) => {}
            Ok(Err(Error::Invalid(reason))) => return Err(self.not_upgraded(&reason)),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                let mut state = self.lock();
                state.leaving |= *self.connections.borrow() == connection;
                drop(state);
                tokio::spawn(Arc::clone(self).stay_if_refused(connection, answer));
                return Err(self.not_upgraded(STARTING));
            }
        }
        let again = connections.wait_for(|number| *number != connection);
        match tokio::time::timeout(UPGRADE, again).await {
            Ok(_) => Ok(()),
            Err(_) => Err(self.not_upgraded("since then it does not answer")),
        }
    }

    /// A launcher that refuses late stays as well, and may be asked again.
    async fn stay_if_refused(
        self: Arc<Self>,
        connection: u64,
        answer: impl Future<Output = Result<Answer, Error>>,
    ) {
        match answer.await {
            // All connections end with the old program.
            Ok(_) | Err(Error::Connection(_)) => {}
            Err(error) => {
                let mut state = self.lock();
                if *self.connections.borrow() == connection {
                    state.leaving = false;
                    drop(state);
                    tracing::warn!(%error, "the launcher did not become another");
                }
            }
        }
    }

    /// Whether the program beside this agent is its launcher, asked once a minute and connection: whoever is refused
    /// meanwhile takes that answer, and a disk that hangs keeps one thread a minute.
    async fn is_own(&self, connection: u64) -> bool {
        let mut asked = self.asked_program.lock().await;
        let known = asked.as_ref();
        let known = known.filter(|it| it.connection == connection && it.at.elapsed() < UPGRADE);
        if let Some(known) = known {
            return known.is_own;
        }
        let LauncherProgram { program, arguments } = self.program.clone();
        let asking = tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            dcos_launcher::is_own(&program, &arguments)
        });
        let said = tokio::time::timeout(IDENTIFY, asking).await;
        let is_own = said.is_ok_and(Result::unwrap_or_default);
        *asked = Some(Identified {
            connection,
            at: Instant::now(),
            is_own,
        });
        is_own
    }

    fn not_upgraded(&self, reason: &str) -> Error {
        Error::Upgrade {
            program: self.program.program.clone(),
            reason: reason.to_owned(),
        }
    }

    /// Sends a request; the number of the connection, and a future that is its answer.
    fn ask(
        &self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(u64, impl Future<Output = Result<Answer, Error>> + use<>), Error> {
        let (tell, told) = oneshot::channel();
        let mut connection = self.lock();
        let sender = connection.sender.as_mut().ok_or_else(gone)?;
        let sequence = sender.send(request, fds)?;
        connection.asked.insert(sequence, tell);
        let answer = async { told.await.map_err(|_| gone())?.into_result() };
        Ok((*self.connections.borrow(), answer))
    }

    /// Receives until the connection breaks; then connects again, for as long as it takes.
    fn listen(&self, mut receiver: Receiver, news: &mpsc::Sender<News>) {
        loop {
            match receiver.receive(None) {
                Ok(Some(Message::Answer { sequence, answer })) => {
                    let asked = self.lock().asked.remove(&sequence);
                    if let Some(asked) = asked {
                        // Whoever asked may have gone.
                        asked.send(answer).ok();
                    }
                }
                Ok(Some(Message::Exited { exit })) => tell(news, exit.id, exit.status),
                Ok(None) => {}
                Err(error) => {
                    {
                        let mut connection = self.lock();
                        connection.sender = None;
                        connection.asked.clear();
                        if connection.closed {
                            return;
                        }
                    }
                    let error = dcos_core::error::chain(&error).to_string();
                    tracing::warn!(error, "lost the launcher");
                    match self.reconnect(news) {
                        Some(again) => receiver = again,
                        None => return,
                    }
                }
            }
        }
    }

    fn reconnect(&self, news: &mpsc::Sender<News>) -> Option<Receiver> {
        let mut pause = Duration::from_millis(50);
        loop {
            if self.lock().closed {
                return None;
            }
            match self.connect() {
                Ok(client) => {
                    let receiver = self.adopt(client, news);
                    // Nobody listens once the containerizer is dropped.
                    news.blocking_send(News::Reconnected).ok();
                    return Some(receiver);
                }
                Err(error) => {
                    let error = dcos_core::error::chain(&error).to_string();
                    tracing::error!(error, "no launcher to be had");
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
            }
        }
    }
}

fn tell(news: &mpsc::Sender<News>, name: String, status: i32) {
    // Nobody listens once the containerizer is dropped.
    news.blocking_send(News::Exited { name, status }).ok();
}

fn gone() -> Error {
    Error::Connection(io::ErrorKind::NotConnected.into())
}

fn unexpected() -> Error {
    Error::Connection(io::Error::other("an answer to another question"))
}

/// The three standard streams as the launcher takes them.
pub(super) fn borrow(streams: &[std::fs::File; 3]) -> [BorrowedFd<'_>; 3] {
    streams.each_ref().map(AsFd::as_fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_launcher_that_refuses_late_may_be_asked_again() {
        let leaving = async |connection, answer| {
            let program = LauncherProgram {
                program: "/no/such/launcher".into(),
                arguments: Vec::new(),
            };
            let shared = Arc::new(Shared::new("/no/such/socket".into(), program));
            shared.lock().leaving = true;
            shared.connections.send_replace(2);
            let late = Arc::clone(&shared).stay_if_refused(connection, async { answer });
            late.await;
            shared.lock().leaving
        };
        let refusal = || Err(Error::Invalid("it cannot take over".into()));
        assert!(!leaving(2, refusal()).await);
        assert!(leaving(1, refusal()).await, "that was another launcher");
        assert!(leaving(2, Err(gone())).await, "it is on its way");
    }
}
