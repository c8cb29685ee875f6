//! An isolator of your own: tasks with `POLITE=1` in their environment give way to all others.
//!
//! ```text
//! cargo run -p examples --example custom_isolator
//! ```
//!
//! No cluster is needed: the program runs two containers under its isolator, with a launcher of
//! its own, and prints
//!
//! ```text
//! isolators: cpu/nice, posix/cpu, posix/mem, filesystem/posix, volume/host_path, volume/sandbox_path
//! polite runs at nice 19
//! normal runs at nice 0
//! ```
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use dcos_containerizer::containerizer::{
    ContainerConfig, Containerizer, LauncherProgram, SwitchboardProgram, Universal, UniversalConfig,
};
use dcos_containerizer::fetcher::{FetcherConfig, UriFetcher};
use dcos_containerizer::isolator::{
    self, Draft, IsolationConfig, Isolator, IsolatorError, Isolators, UserNamespaces,
};
use dcos_containerizer::logger::{RotatingFiles, Rotation};
use dcos_containerizer::oci::Runtimes;
use dcos_proto::mesos::{CommandInfo, ContainerId};

/// Starts commands through `nice`, where the environment says `POLITE=1`.
#[derive(Debug)]
struct NiceIsolator;

#[async_trait]
impl Isolator for NiceIsolator {
    fn name(&self) -> &'static str {
        "cpu/nice"
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    /// Nothing is kept outside the container's own process, so nothing is taken up.
    async fn recover(&self, _: &[ContainerId]) -> Result<(), IsolatorError> {
        Ok(())
    }

    /// The draft is an OCI runtime spec; here its command changes.
    async fn prepare(
        &self,
        config: &isolator::ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError> {
        let polite = ("POLITE".to_owned(), "1".to_owned());
        let Some(process) = draft.spec.process_mut() else {
            return Ok(());
        };
        if config.environment.contains(&polite) {
            let command = process.args().clone().unwrap_or_default();
            let nice = ["nice", "-n", "19"].map(str::to_owned);
            process.set_args(Some(nice.into_iter().chain(command).collect()));
        }
        Ok(())
    }

    async fn cleanup(&self, _: &ContainerId) -> Result<(), IsolatorError> {
        Ok(())
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    // This program again, as the parent of its containers or beside one of them; see
    // `containerizer` below.
    match arguments
        .next()
        .as_deref()
        .and_then(std::ffi::OsStr::to_str)
    {
        Some("launcher") => return dcos_launcher::main(arguments),
        Some("switchboard") => return dcos_containerizer::switchboard::main(arguments),
        _ => {}
    }
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    match runtime.block_on(run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("custom-isolator-{}", std::process::id()));
    let containers = containerizer(&folder).await?;
    containers.recover(&[].into()).await?;
    for (name, polite) in [("polite", "1"), ("normal", "0")] {
        let id = ContainerId::root(name);
        let task = ContainerConfig {
            command: Some(CommandInfo {
                value: Some("nice".into()),
                ..CommandInfo::default()
            }),
            environment: [("POLITE", polite), ("PATH", "/usr/bin:/bin")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            directory: folder.join(name),
            ..ContainerConfig::default()
        };
        containers.launch(&id, task).await?;
        containers.wait(&id).await?;
        let printed = std::fs::read_to_string(folder.join(name).join("stdout"))?;
        println!("{name} runs at nice {}", printed.trim());
        containers.remove(&id).await?;
    }
    containers.detach();
    dcos_launcher::Client::connect(&folder.join("run/launcher.sock"))?.stop()?;
    std::fs::remove_dir_all(folder).context("removing what was made")
}

/// The isolators of an agent without root, ours before them.
async fn containerizer(folder: &Path) -> anyhow::Result<Universal> {
    let nice: Arc<dyn Isolator> = Arc::new(NiceIsolator);
    let built_in = Isolators::from_config(&IsolationConfig::default())?;
    let isolators = Isolators::new([nice].into_iter().chain(built_in).collect());
    let names: Vec<_> = isolators.names().collect();
    println!("isolators: {}", names.join(", "));
    let config = UniversalConfig {
        runtime_dir: folder.join("run"),
        launcher: LauncherProgram {
            program: std::env::current_exe()?,
            arguments: vec!["launcher".to_owned()],
        },
        switchboard: SwitchboardProgram {
            program: std::env::current_exe()?,
            arguments: vec!["switchboard".to_owned()],
        },
        runtimes: Runtimes::default(),
        isolators,
        provisioner: None,
        fetcher: Arc::new(UriFetcher::new(FetcherConfig::new(folder.join("fetch")))?),
        logger: Arc::new(RotatingFiles::new(Rotation::default())),
        switch_user: false,
        sandbox_directory: "/mnt/mesos/sandbox".into(),
        user_namespaces: UserNamespaces::default(),
        destroy_timeout: Duration::from_mins(1),
    };
    Ok(Universal::new(config).await?)
}
