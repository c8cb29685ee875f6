//! The agent's side of the socket, blocking.
//!
//! [`Client`] asks and waits. Whoever has many containers in flight takes it apart with
//! [`Client::split`]: one thread receives, anybody sends, answers find their asker by number.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::{
    ffi::OsStrExt as _, fs::MetadataExt as _, net::UnixStream, process::CommandExt as _,
};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::codec::{DecodeError, Wire};
use crate::frame::{self, Incoming, MAX_FDS};
use crate::message::{Answer, Container, Exit, Failure, Message, Request, Scope, Step};
use crate::plan::{Plan, VERSION};
use crate::program::{IDENTIFY, SERVED, identity};
use crate::socket::short_name;
use crate::sys;

/// Why the launcher did not do what it was asked to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The launcher cannot be reached (any more).
    Connection(io::Error),
    /// It said something that this library does not understand.
    Protocol(DecodeError),
    /// A step of making the container failed; nothing is left of it.
    Failed(Failure),
    /// There is a container of that id already, maybe ended and not acknowledged.
    Exists,
    /// There is no such container.
    Unknown,
    /// The request makes no sense to it.
    Invalid(String),
    /// It is of another version, and does not know the request. It can become ours: [`Client::upgrade`].
    Version,
    /// It is of another version and did not become ours; all that runs goes on.
    Upgrade {
        /// What it was to become.
        program: PathBuf,
        /// Why it did not.
        reason: String,
    },
}

impl Error {
    /// Whether nobody is there, or was about to go.
    fn is_broken(&self) -> bool {
        use io::ErrorKind::{
            BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof,
        };
        let kinds = [
            BrokenPipe,
            ConnectionRefused,
            ConnectionReset,
            NotFound,
            UnexpectedEof,
        ];
        matches!(self, Self::Connection(error) if kinds.contains(&error.kind()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(_) => write!(f, "the launcher cannot be reached"),
            Self::Protocol(_) => write!(f, "the launcher is not understood"),
            Self::Failed(_) => write!(f, "making the container failed"),
            Self::Exists => write!(f, "the container exists already"),
            Self::Unknown => write!(f, "there is no such container"),
            Self::Invalid(reason) => write!(f, "the launcher refused the request: {reason}"),
            Self::Version => write!(f, "the launcher is of another version"),
            Self::Upgrade { program, reason } => write!(
                f,
                "the launcher is of another version and did not become {}: {reason}; what runs goes on, but to launch \
                 more, install agent and launcher of one release and restart the agent, or else drain the node first",
                program.display()
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connection(error) => Some(error),
            Self::Protocol(error) => Some(error),
            Self::Failed(failure) => Some(failure),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doing = match self.step {
            Step::Open => "opening",
            Step::Clone => "cloning the first process",
            Step::IdMaps => "mapping ids",
            Step::Cgroups => "joining cgroup",
            Step::Namespaces => "entering namespace",
            Step::Hostname => "setting the host name",
            Step::Loopback => "bringing loopback up",
            Step::Root => "preparing the root",
            Step::Mount => "mounting",
            Step::Devices => "making",
            Step::Pivot => "changing the root to",
            Step::Mask => "masking",
            Step::Rlimits => "setting limit",
            Step::Session => "setting up the session",
            Step::Credentials => "changing user",
            Step::Capabilities => "dropping capabilities",
            Step::Directory => "entering directory",
            Step::Landlock => "confining files with Landlock",
            Step::Seccomp => "installing the seccomp filter",
            Step::Execute => "executing",
        };
        if self.step == Step::IdMaps && self.errno == libc::EINVAL && !self.detail.is_empty() {
            let why = "its file system, or this kernel, knows no id-mapped mounts";
            return write!(f, "{doing} of {}: {why}", self.detail);
        }
        let error = std::io::Error::from_raw_os_error(self.errno);
        if self.detail.is_empty() {
            write!(f, "{doing}: {error}")
        } else {
            write!(f, "{doing} {}: {error}", self.detail)
        }
    }
}

impl std::error::Error for Failure {}

impl Request {
    /// A launch request for `plan`.
    pub fn launch(plan: &Plan) -> Self {
        Self::Launch {
            plan: plan.encode(),
        }
    }

    fn frame(&self, sequence: u64) -> Vec<u8> {
        let mut out = sequence.to_bytes();
        self.put(&mut out);
        out
    }
}

impl Answer {
    /// The answer as a result: refusals are errors.
    ///
    /// # Errors
    /// What the launcher said instead of doing it.
    pub fn into_result(self) -> Result<Self, Error> {
        match self {
            Self::Failed { failure } => Err(Error::Failed(failure)),
            Self::Exists => Err(Error::Exists),
            Self::Unknown => Err(Error::Unknown),
            Self::Invalid { reason } if is_of_another(&reason) => Err(Error::Version),
            Self::Invalid { reason } => Err(Error::Invalid(reason)),
            good => Ok(good),
        }
    }
}

/// Whether a launcher refused what another version would have understood; these are the words of all there were.
fn is_of_another(reason: &str) -> bool {
    let unknown = [
        DecodeError::Version(VERSION),
        DecodeError::Unknown("Request"),
    ];
    unknown.iter().any(|error| error.to_string() == reason)
}

/// How often and after what pause a launcher is started anew in the place of one that is ending: five seconds.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// How long a program may take to say which launcher it is: ten seconds.
const SOON: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// A connection to a launcher, one question at a time.
///
/// # Example
/// ```no_run
/// use dcos_launcher::{Client, Plan};
///
/// # fn main() -> Result<(), dcos_launcher::Error> {
/// let mut launcher = Client::connect("/run/dcos/launcher.sock".as_ref())?;
/// let plan = Plan {
///     id: "hello".into(),
///     arguments: vec!["/bin/echo".into(), "hello".into()],
///     ..Plan::default()
/// };
/// let pid = launcher.launch(&plan, &[])?;
/// if let Some(exit) = launcher.next_event(None)? {
///     println!("process {pid} ended with status {}", exit.status);
///     launcher.acknowledge(&exit.id)?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    sender: Sender,
    receiver: Receiver,
    events: VecDeque<Exit>,
}

impl Client {
    /// Connects to the launcher that listens at `socket`.
    ///
    /// # Errors
    /// [`Error::Connection`] if none does.
    pub fn connect(socket: &Path) -> Result<Self, Error> {
        let (_folder, short) = short_name(socket)?;
        let stream = UnixStream::connect(short)?;
        let sender = Sender {
            stream: stream.try_clone()?,
            sequence: 0,
        };
        let receiver = Receiver {
            stream,
            incoming: Incoming::default(),
        };
        Ok(Self {
            socket: socket.to_owned(),
            sender,
            receiver,
            events: VecDeque::new(),
        })
    }

    /// Connects, and starts the launcher first if none runs; it has answered then, and is not one that was just about
    /// to end.
    ///
    /// `program` with `arguments` is whatever calls [`main`](crate::main) with
    /// `--socket <socket> --daemon`, which this adds: the `dcos-launcher` program itself, or a
    /// hidden mode of another one. The launcher goes to the background, into a session of its
    /// own, and outlives the caller.
    ///
    /// # Errors
    /// [`Error::Connection`] if it cannot be started.
    pub fn connect_or_start(
        socket: &Path,
        program: &Path,
        arguments: &[&str],
    ) -> Result<Self, Error> {
        let mut attempts = 0;
        loop {
            if let Ok(client) = Self::connect_for_sure(socket) {
                return Ok(client);
            }
            let output = Command::new(program)
                .args(arguments)
                .arg("--daemon")
                .arg("--socket")
                .arg(socket)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .output()?;
            // Whoever lost a race against another starter finds a launcher all the same.
            let error = match Self::connect_for_sure(socket) {
                Ok(client) => return Ok(client),
                Err(error) => error,
            };
            let said = String::from_utf8_lossy(&output.stderr);
            attempts += 1;
            let is_there = output.status.success() || said.contains(SERVED);
            match said.trim() {
                // Whoever is there is no launcher, or nobody for us.
                _ if is_there && !error.is_broken() => return Err(error),
                // One that nobody needed is about to end, or one that another one needed no longer has.
                _ if is_there && attempts < ATTEMPTS => std::thread::sleep(PAUSE),
                "" => return Err(error),
                said => return Err(Error::Connection(io::Error::other(said.to_owned()))),
            }
        }
    }

    fn connect_for_sure(socket: &Path) -> Result<Self, Error> {
        let mut client = Self::connect(socket)?;
        client.list()?;
        Ok(client)
    }

    /// Makes a container; its first process's id once the program runs.
    ///
    /// `fds` become descriptors 0, 1, 2, 3, ... of the container; what is missing of the first
    /// three is `/dev/null`.
    ///
    /// # Errors
    /// [`Error::Failed`] with the step that failed, or any other.
    pub fn launch(&mut self, plan: &Plan, fds: &[BorrowedFd<'_>]) -> Result<u32, Error> {
        match self.ask(&Request::launch(plan), fds)? {
            Answer::Launched { pid } => Ok(pid),
            _ => Err(Error::Protocol(DecodeError::Unknown("answer to launch"))),
        }
    }

    /// Sends `signal` to a container's command or to all its processes.
    ///
    /// Succeeds if it has ended already.
    ///
    /// # Errors
    /// [`Error::Unknown`] if there is none of that id.
    pub fn kill(&mut self, id: &str, signal: i32, scope: Scope) -> Result<(), Error> {
        self.ask(
            &Request::Kill {
                id: id.to_owned(),
                signal,
                scope,
            },
            &[],
        )
        .map(drop)
    }

    /// Lets the launcher forget a container that ended.
    ///
    /// # Errors
    /// [`Error::Unknown`] if there is no ended one of that id.
    pub fn acknowledge(&mut self, id: &str) -> Result<(), Error> {
        self.ask(&Request::Acknowledge { id: id.to_owned() }, &[])
            .map(drop)
    }

    /// All containers that are not acknowledged, in order of launch.
    ///
    /// # Errors
    /// If the launcher cannot be reached.
    pub fn list(&mut self) -> Result<Vec<Container>, Error> {
        match self.ask(&Request::List, &[])? {
            Answer::Containers { containers } => Ok(containers),
            _ => Err(Error::Protocol(DecodeError::Unknown("answer to list"))),
        }
    }

    /// Replaces the launcher by `program`, keeping all containers; connect again afterwards.
    ///
    /// Ask [`is_own`] first: one of an earlier release executes whatever it is told, and takes its containers with it
    /// if that is no launcher.
    ///
    /// # Errors
    /// [`Error::Invalid`] if that program cannot be executed or would not understand what this one knows; the old one
    /// goes on.
    pub fn upgrade(&mut self, program: &Path) -> Result<(), Error> {
        let program = program.to_string_lossy().into_owned();
        match self.ask(&Request::Upgrade { program }, &[]) {
            // All connections end with the old program.
            Err(Error::Connection(_)) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Kills all containers and ends the launcher.
    ///
    /// # Errors
    /// If the launcher cannot be reached.
    pub fn stop(mut self) -> Result<(), Error> {
        self.ask(&Request::Stop, &[])?;
        // The socket closes when the last container is gone.
        while self.receiver.receive(None).is_ok() {}
        Ok(())
    }

    /// The next container that ended; `None` when `timeout` passed without one.
    ///
    /// Each exit comes once on a connection, and again on every new connection until it is
    /// acknowledged.
    ///
    /// # Errors
    /// If the launcher cannot be reached.
    pub fn next_event(&mut self, timeout: Option<Duration>) -> Result<Option<Exit>, Error> {
        if let Some(exit) = self.events.pop_front() {
            return Ok(Some(exit));
        }
        match self.receiver.receive(timeout)? {
            None => Ok(None),
            Some(Message::Exited { exit }) => Ok(Some(exit)),
            Some(Message::Answer { .. }) => Err(Error::Protocol(DecodeError::Unknown("event"))),
        }
    }

    /// The launcher's process, if the kernel tells: the parent of all containers.
    ///
    /// Of launchers of earlier releases it tells the process that went to the background, which is nobody's, or another's,
    /// by now: those are not known.
    pub fn launcher_pid(&self) -> Option<u32> {
        let stream = &self.sender.stream;
        let peer = rustix::net::sockopt::socket_peercred(stream).ok()?;
        let pid = u32::try_from(peer.pid.as_raw_nonzero().get()).ok()?;
        let socket = self.socket.as_os_str().as_bytes();
        // A launcher is told where to listen.
        let told = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let mut told = told.split(|byte| *byte == 0);
        told.any(|word| word == socket).then_some(pid)
    }

    /// Takes the connection apart for a caller with many requests in flight.
    ///
    /// Events that were received meanwhile and not asked for come first.
    pub fn split(self) -> (Sender, Receiver, VecDeque<Exit>) {
        (self.sender, self.receiver, self.events)
    }

    fn ask(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<Answer, Error> {
        let asked = self.sender.send(request, fds)?;
        loop {
            match self.receiver.receive(None)? {
                Some(Message::Answer { sequence, answer }) if sequence == asked => {
                    return answer.into_result();
                }
                Some(Message::Exited { exit }) => self.events.push_back(exit),
                Some(Message::Answer { .. }) | None => {}
            }
        }
    }
}

/// The asking half of a connection.
#[derive(Debug)]
pub struct Sender {
    stream: UnixStream,
    sequence: u64,
}

impl Sender {
    /// Sends a request; its number, which the answer will carry.
    ///
    /// # Errors
    /// If the launcher is gone, or the request is too large.
    pub fn send(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<u64> {
        self.sequence += 1;
        send(&self.stream, &request.frame(self.sequence), fds)?;
        Ok(self.sequence)
    }

    /// Ends the connection; a [`Receiver`] that waits in another thread gets an error.
    pub fn close(&self) {
        // Fails only if the launcher has closed it before.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// Sends a whole frame on a blocking socket.
pub(crate) fn send(socket: impl AsFd, body: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = frame::encode(body, fds.len())?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let mut sent = 0;
    while sent < bytes.len() {
        // The descriptors travel with the first bytes.
        let slices = [IoSlice::new(&bytes[sent..])];
        match sendmsg(&socket, &slices, &mut control, SendFlags::NOSIGNAL) {
            Ok(count) => {
                sent += count;
                control.clear();
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The program `dcos-launcher` in the folder of `program`, if it is this very launcher.
///
/// A container begins as a copy of its launcher: the smaller that is, the less there is to copy, and
/// to hold for as long as the container runs. One of other sources might not understand what it is told.
#[must_use]
pub fn beside(program: &Path) -> Option<PathBuf> {
    let found = program.with_file_name("dcos-launcher");
    // It is run to be asked, so it must be nobody else's.
    let file = std::fs::symlink_metadata(&found).ok()?;
    let owners = [0, rustix::process::geteuid().as_raw()];
    let is_ours = file.is_file() && owners.contains(&file.uid()) && file.mode() & 0o022 == 0;
    (is_ours && is_own(&found, &[])).then_some(found)
}

/// Whether `program` with `arguments`, as for [`Client::connect_or_start`], is this very launcher: it is run to be asked.
#[must_use]
pub fn is_own(program: &Path, arguments: &[&str]) -> bool {
    identify(program, program.as_os_str(), arguments).is_some_and(|said| said == identity())
}

/// What `program`, called `name`, says with `arguments` when it is asked which launcher it is; `None` if it does not say
/// that soon. It is one write, and whatever it does then is not waited for.
pub(crate) fn identify(
    program: &Path,
    name: &OsStr,
    arguments: &[impl AsRef<OsStr>],
) -> Option<String> {
    let mut command = Command::new(program);
    command.arg0(name).args(arguments).arg(IDENTIFY);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).spawn().ok()?;
    let said = child.stdout.take().and_then(|stdout| first_of(&stdout));
    // Fails only if it has ended.
    let _ = child.kill();
    child.wait().ok()?;
    said
}

fn first_of(stdout: &ChildStdout) -> Option<String> {
    let mut fds = [PollFd::new(stdout, PollFlags::IN)];
    while poll(&mut fds, Some(&SOON)) == Err(rustix::io::Errno::INTR) {}
    // Else there is nothing to be read, and that would wait.
    if fds[0].revents().is_empty() {
        return None;
    }
    let mut bytes = [0; 256];
    let count = rustix::io::read(stdout, &mut bytes).ok()?;
    String::from_utf8(bytes[..count].to_vec()).ok()
}

/// The listening half of a connection.
#[derive(Debug)]
pub struct Receiver {
    stream: UnixStream,
    incoming: Incoming,
}

impl Receiver {
    /// The next message; `None` when `timeout` passed without one.
    ///
    /// # Errors
    /// If the launcher is gone or talks nonsense.
    pub fn receive(&mut self, timeout: Option<Duration>) -> Result<Option<Message>, Error> {
        self.stream.set_read_timeout(timeout)?;
        loop {
            if let Some((body, _)) = self.incoming.next()? {
                return Message::from_bytes(&body)
                    .map(Some)
                    .map_err(Error::Protocol);
            }
            match self.incoming.fill(&self.stream) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Maps the ids of a mount that is attached nowhere yet, as `namespace`, the file of a user namespace,
/// does, and makes it read-only: who is 0 on its disk is who 0 of the namespace is outside of it.
///
/// # Errors
/// `EINVAL` if its file system, or a kernel before 5.12, knows no id-mapped mounts.
pub fn map_ids(mount: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> io::Result<()> {
    sys::set_mount_attributes(mount, libc::MOUNT_ATTR_RDONLY, 0, Some(namespace))
}

/// Gives this process, which has one thread, a user namespace and a mount namespace of its own: it is root there of
/// whatever ids somebody maps into it, and nobody until then.
///
/// # Errors
/// `EINVAL` with threads; what the kernel says where users may make none.
pub fn unshare_users_and_mounts() -> io::Result<()> {
    sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)
}
