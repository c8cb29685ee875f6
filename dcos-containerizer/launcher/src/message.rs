//! What client and launcher say to each other.
//!
//! A frame is a length (32 bits), the number of file descriptors that came with it (8 bits) and
//! the message. Every request gets one answer with its sequence number; exits are told to
//! every client, and again to each new one, until somebody acknowledges them.

choice! {
/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Make a container; answered once its program runs, or failed to.
    Launch {
        /// What to make, as [`Plan::encode`](crate::Plan::encode) wrote it.
        plan: Vec<u8>,
    } = 1,
    /// Signal a container.
    Kill {
        /// Which.
        id: String,
        /// Signal number.
        signal: i32,
        /// How much of it.
        scope: Scope,
    } = 2,
    /// The end of a container was noted; the launcher may forget it.
    Acknowledge {
        /// Which.
        id: String,
    } = 3,
    /// Tell all containers that are not acknowledged.
    List = 4,
    /// Become another program, keeping all containers.
    Upgrade {
        /// The program's path.
        program: String,
    } = 5,
    /// Kill everything and end.
    Stop = 6,
}}

choice! {
/// How much of a container a signal is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Its command alone.
    Command = 1,
    /// Each process in it, daemons included.
    All = 2,
}}

choice! {
/// What the launcher says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The answer to a request.
    Answer {
        /// The request's number.
        sequence: u64,
        /// What came of it.
        answer: Answer,
    } = 1,
    /// A container ended.
    Exited {
        /// How.
        exit: Exit,
    } = 2,
}}

choice! {
/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done = 0,
    /// The container runs.
    Launched {
        /// Its first process, as the launcher's pid namespace sees it.
        pid: u32,
    } = 1,
    /// The containers, in order of launch.
    Containers {
        /// Each that is not acknowledged.
        containers: Vec<Container>,
    } = 2,
    /// A step of making the container failed; nothing is left of it.
    Failed {
        /// Which step, and why.
        failure: Failure,
    } = 3,
    /// There is one of that id already.
    Exists = 4,
    /// There is none of that id (or, to be acknowledged, none that ended).
    Unknown = 5,
    /// The request makes no sense to this launcher.
    Invalid {
        /// Why.
        reason: String,
    } = 6,
}}

record! {
/// A container the launcher answers for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub id: String,
    /// Its first process; gone once `exit` is known.
    pub pid: u32,
    /// How it ended, if it did.
    pub exit: Option<Exit>,
}}

record! {
/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Which one.
    pub id: String,
    /// The command's status as `wait(2)` gives it.
    pub status: i32,
}}

choice! {
/// The steps of making a container, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Opening the plan's namespace and cgroup files.
    Open = 1,
    /// Cloning the first process.
    Clone = 2,
    /// Writing the id maps of the user namespace.
    IdMaps = 3,
    /// Joining cgroups.
    Cgroups = 4,
    /// Entering namespaces.
    Namespaces = 5,
    /// Setting the host name.
    Hostname = 6,
    /// Bringing the loopback device up.
    Loopback = 7,
    /// Preparing the root.
    Root = 8,
    /// Mounting.
    Mount = 9,
    /// Making device nodes and links.
    Devices = 10,
    /// Changing the root.
    Pivot = 12,
    /// Masking paths and making them read-only.
    Mask = 13,
    /// Setting limits.
    Rlimits = 14,
    /// Setting up file descriptors and the session.
    Session = 15,
    /// Becoming the user.
    Credentials = 16,
    /// Dropping capabilities.
    Capabilities = 17,
    /// Entering the working directory.
    Directory = 18,
    /// Confining what files can be changed.
    Landlock = 11,
    /// Installing seccomp filters.
    Seccomp = 19,
    /// Executing the program.
    Execute = 20,
}}

record! {
/// The step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub step: Step,
    /// The system's error number.
    pub errno: i32,
    /// What it was about: a path, a name.
    pub detail: String,
}}
