//! The agent program: arguments, logging, configuration; all else is the library.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use dcos_containerizer::agent::{self, Config};
use dcos_containerizer::containerizer::{Containerizer, Processes};
use dcos_core::config::{Loaded, Schema, Sources, Values};
use dcos_wire::Listener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

fn schema() -> Schema {
    Schema::new("dcos-agent", "Runs tasks on this node for a Mesos master.").with(agent::OPTIONS)
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program speaks to its user"
)]
fn main() -> ExitCode {
    let values = match schema().load(&Sources::process()) {
        Ok(Loaded::Run(values)) => values,
        Ok(Loaded::Help(text)) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Ok(Loaded::Version) => {
            println!("dcos-agent {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Ok(_) => {
            println!("the configuration is fine");
            return ExitCode::SUCCESS;
        }
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return ExitCode::from(2);
        }
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match serve(&values) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn serve(values: &Values) -> anyhow::Result<()> {
    let config = Config::from_values(values)?;
    let ip = values
        .opt_text("ip")
        .unwrap_or_else(|| "0.0.0.0".to_owned());
    let address = format!("{ip}:{}", values.port("port"));
    let address = address
        .parse()
        .with_context(|| format!("`{address}` is no address"))?;
    let listener = Listener::tcp(address)
        .await
        .with_context(|| format!("listening on {address}"))?;
    let containerizer: Arc<dyn Containerizer> = Arc::new(Processes::new());
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let signals = tokio::spawn(async move {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        stop.cancel();
        Ok::<_, std::io::Error>(())
    });
    let result = agent::run(config, containerizer, listener, cancel).await;
    signals.abort();
    Ok(result?)
}
