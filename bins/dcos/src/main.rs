//! `dcos`: look into a cluster, change what runs in it, or start one on this machine.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};

mod cli;
mod cluster;
mod command;
mod http;
mod leader;
mod mesos;
mod output;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let helper = mesos::Helper::called(std::env::args_os());
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let done = match helper {
        Some(helper) => runtime.block_on(helper.run()),
        None => runtime.block_on(run(Cli::parse())),
    };
    match done {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if let Command::Completion { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "dcos", &mut script);
        output::raw(&script);
        return Ok(ExitCode::SUCCESS);
    }
    let context = command::Context::new(&cli)?;
    let done = match cli.command {
        Command::Cluster(command) => command::cluster::run(&context, command).await,
        Command::Completion { .. } => Ok(()),
        Command::Config(command) => command::config::run(&context, command),
        Command::Job(command) => command::job::run(&context, command).await,
        Command::Local(command) => command::local::run(&context, command).await,
        Command::Marathon(command) => command::marathon::run(&context, command).await,
        Command::Migrate(command) => command::migrate::run(&context, command).await,
        Command::Net(command) => command::net::run(&context, command).await,
        Command::Node(command) => command::node::run(&context, command).await,
        Command::Plan { file } => command::plan::run(&context, file.as_deref()).await,
        Command::Quota(command) => command::quota::run(&context, command).await,
        Command::Role(command) => command::role::run(&context, command).await,
        Command::Service(command) => command::service::run(&context, command).await,
        // These may end as a command in a container did.
        Command::Task(command) => return command::task::run(&context, command).await,
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// The one place where an error is printed.
fn fail(error: &anyhow::Error) -> ExitCode {
    output::error(error);
    ExitCode::FAILURE
}
