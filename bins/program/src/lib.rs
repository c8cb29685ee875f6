//! What every program does first and last: configuration, logs, signals.
//!
//! A program is then its schema and one async function:
//!
//! ```no_run
//! use dcos_core::config::{Schema, Values};
//! use tokio_util::sync::CancellationToken;
//!
//! async fn run(values: Values, stop: CancellationToken) -> anyhow::Result<()> {
//!     stop.cancelled().await;
//!     Ok(())
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     dcos_program::main(Schema::new("demo", "Waits."), run)
//! }
//! ```

use std::io::{IsTerminal as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::Context as _;
use dcos_core::config::{Former, Loaded, Schema, Spec, Values};
use dcos_core::verbosity;
use dcos_wire::limits;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriterExt as _};

mod address;
mod balance;
mod ensemble;
mod gossip;
mod listener;
mod log_file;
mod memory;
mod metrics;
mod names;
mod net;
mod passages;
mod reserved;
mod server;
mod taken;

use log_file::LogFile;

pub use address::{ADDRESS_OPTIONS, known_ip, listening_ip, require_peer_match};
pub use balance::{BALANCE_OPTIONS, Balancing, balance};
pub use dcos_netlink::Passage;
pub use ensemble::{ENSEMBLE_OPTIONS, ensemble};
pub use gossip::{GOSSIP_OPTIONS, Part, gossip};
pub use listener::listener;
pub use memory::{MEMORY_OPTIONS, keeping};
pub use metrics::metrics_limit;
pub use names::{NODE_NAMES_OPTIONS, NodeNames, leave_resolv_conf};
pub use net::{Net, NetParts};
pub use passages::{Passages, close as close_passages, is_forwarding_closed, passages};
pub use reserved::{Guarded, HOST};
pub use server::{SERVER_OPTIONS, origins, server_config};
pub use taken::unless_taken;

/// Options every program has, beside those of its parts.
const OPTIONS: &[Spec] = &[
    Spec::choice("log_format", &["text", "json"])
        .default("text")
        .help(
            "Log lines for people, or JSON objects for machines. RUST_LOG chooses what is logged.",
        ),
    Spec::choice("logging_level", &["INFO", "WARNING", "ERROR"])
        .default("INFO")
        .help("What is logged if RUST_LOG does not say it."),
    Spec::path("log_dir").help(
        "Write the log into files of this folder, too; `<program>.INFO` is a link to the newest.",
    ),
    Spec::switch("quiet").help("Write no log to standard error."),
];

/// Flags of Mesos's logging that change nothing here.
const FORMER: &[Former] = &[
    Former::unneeded("logbufsecs", "the log is not buffered"),
    Former::unneeded(
        "initialize_driver_logging",
        "it is for libmesos in other programs",
    ),
];

/// What a program returns that is to begin anew, in the same process and with nothing of what it knew: a master
/// that lost its office stands for the next election this way.
#[derive(Debug)]
pub struct BeginAnew;

impl std::fmt::Display for BeginAnew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("beginning anew")
    }
}

impl std::error::Error for BeginAnew {}

/// Loads the configuration, starts logging and the runtime, and runs `program` until it ends or a
/// signal asks it to: SIGTERM or SIGINT cancel the token, a second one ends the process at once.
pub fn main<F>(schema: Schema, program: impl FnOnce(Values, CancellationToken) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    main_after(schema, |_| Ok(()), |values, (), stop| program(values, stop))
}

/// As [`main`], but does something first, while this process has one thread; `program` is given what comes of it.
pub fn main_after<T, F>(
    schema: Schema,
    first: impl FnOnce(&Values) -> anyhow::Result<T>,
    program: impl FnOnce(Values, T, CancellationToken) -> F,
) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    let schema = schema.with(OPTIONS).former(FORMER);
    let name = schema.program();
    let values = match schema.load(&address::sources()) {
        Ok(Loaded::Run(values)) => values,
        Ok(Loaded::Help(text)) => return say(&text),
        Ok(Loaded::Version) => return say(env!("CARGO_PKG_VERSION")),
        Ok(Loaded::Checked(values)) => return say(&checked(&values)),
        Ok(_) => return say("the configuration is in order"),
        Err(mistakes) => {
            let _ = writeln!(std::io::stderr(), "{mistakes}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = start_logging(&values, name) {
        let _ = writeln!(std::io::stderr(), "{error:#}");
        return ExitCode::from(2);
    }
    for notice in values.notices() {
        warn!(option = notice.key, from = %notice.origin, "not used here: {}", notice.why);
    }
    // A connection for each peer takes more than the 1024 open files that programs are given.
    match limits::raise_open_files() {
        Ok(files) => info!(open_files = files.soft, "as many files may be open"),
        Err(error) => warn!(%error, "the limit of open files stays as it is"),
    }
    let begun = first(&values);
    let begun = begun.and_then(|made| start(values, |values, stop| program(values, made, stop)));
    match begun {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<BeginAnew>() => begin_anew(),
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Replaces this process by the program it runs: no thread, connection or memory of it remains.
fn begin_anew() -> ExitCode {
    let mut arguments = std::env::args_os();
    let mut command = std::process::Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    if let Err(error) = limits::restore_open_files() {
        warn!(%error, "the limit of open files stays raised");
    }
    let error = command.args(arguments).exec();
    tracing::error!(%error, "beginning anew");
    ExitCode::FAILURE
}

/// What `--check-config` says of a configuration without mistakes.
fn checked(values: &Values) -> String {
    let mut text = "the configuration is in order".to_owned();
    for notice in values.notices() {
        let (key, origin, why) = (&notice.key, notice.origin, notice.why);
        text.push_str(&format!("\n  {key} ({origin}) is not used here: {why}"));
    }
    text
}

fn say(text: &str) -> ExitCode {
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
    ExitCode::SUCCESS
}

/// The file a program logs to because of `--log_dir`: a link to the newest one.
pub fn log_file(values: &Values, program: &str) -> Option<PathBuf> {
    let folder = values.opt_path("log_dir")?;
    Some(log_file::link(&folder, program))
}

fn start_logging(values: &Values, program: &str) -> anyhow::Result<()> {
    let level = match &*values.text("logging_level") {
        "WARNING" => "warn",
        "ERROR" => "error",
        _ => "info",
    };
    let _ = LEVEL.set(level);
    let file = values.opt_path("log_dir").map(|folder| {
        LogFile::begin(&folder, program).with_context(|| format!("--log_dir={}", folder.display()))
    });
    let file = file.transpose()?;
    let colours = file.is_none() && std::io::stderr().is_terminal();
    let writer = match (file, values.switch("quiet")) {
        (Some(file), false) => BoxMakeWriter::new(std::io::stderr.and(file)),
        (Some(file), true) => BoxMakeWriter::new(file),
        (None, false) => BoxMakeWriter::new(std::io::stderr),
        (None, true) => BoxMakeWriter::new(std::io::sink),
    };
    let filter = from_environment();
    let logging = tracing_subscriber::fmt()
        .with_writer(writer)
        .with_ansi(colours);
    if values.text("log_format") == "json" {
        let logging = logging.json().with_env_filter(filter);
        let logging = logging.with_filter_reloading();
        let handle = logging.reload_handle();
        let _ = FILTER.set(Box::new(move |filter| drop(handle.reload(filter))));
        logging.init();
    } else {
        let logging = logging.with_env_filter(filter).with_filter_reloading();
        let handle = logging.reload_handle();
        let _ = FILTER.set(Box::new(move |filter| drop(handle.reload(filter))));
        logging.init();
    }
    // Endpoints ask for levels there.
    verbosity::on_change(set_verbosity);
    Ok(())
}

/// What makes the log follow another filter.
static FILTER: OnceLock<Box<dyn Fn(EnvFilter) + Send + Sync>> = OnceLock::new();

/// Logs more: 0 is what the program was started with, 1 adds what developers look for, 2 all.
fn set_verbosity(level: u32) {
    let filter = match level {
        0 => from_environment(),
        1 => without_secrets(EnvFilter::new("debug")),
        _ => without_secrets(EnvFilter::new("trace")),
    };
    if let Some(reload) = FILTER.get() {
        reload(filter);
    }
}

/// What is logged if the environment does not say it.
static LEVEL: OnceLock<&str> = OnceLock::new();

fn from_environment() -> EnvFilter {
    let level = LEVEL.get().copied().unwrap_or("info");
    without_secrets(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level)))
}

/// The client of FTP would log passwords.
fn without_secrets(filter: EnvFilter) -> EnvFilter {
    filter.add_directive("suppaftp=error".parse().expect("it is a directive"))
}

fn start<F>(
    values: Values,
    program: impl FnOnce(Values, CancellationToken) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    // One provider of cryptography in the whole process, chosen before anybody needs it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let stop = CancellationToken::new();
    let ended = runtime.block_on(async {
        let signals = runtime.spawn(signals(stop.clone()));
        let ended = program(values, stop).await;
        signals.abort();
        ended
    });
    runtime.shutdown_background();
    ended
}

/// Cancels `stop` at the first signal; ends the process at the second.
async fn signals(stop: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        warn!("signals can't be caught: stopping will not be graceful");
        return;
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if stop.is_cancelled() {
            warn!("asked to stop again: ending at once");
            std::process::exit(130);
        }
        info!("asked to stop");
        stop.cancel();
    }
}
