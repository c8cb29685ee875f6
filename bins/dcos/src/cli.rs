//! The words of the command line: those of the DC/OS CLI where it had them
//! (dcos-core-cli 2.2), `local` beside them.

mod job;
mod migrate;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use job::{Job, Schedule};
pub(crate) use migrate::{Migrate, MigrateArgs};

use crate::command::task::log::Lines;

/// Look into a cluster, change what runs in it, or start one on this machine.
#[derive(Debug, Parser)]
#[command(name = "dcos", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// The cluster's master, such as `http://10.0.0.1:5050`, or where masters elect their leader, such as
    /// `zk://10.0.0.1:2181/mesos`, instead of the attached cluster.
    #[arg(long, global = true, env = "DCOS_MASTER_URL", value_name = "URL")]
    pub(crate) master: Option<String>,

    /// Marathon, if it is not at port 8080 of the master's host.
    #[arg(long, global = true, env = "DCOS_MARATHON_URL", value_name = "URL")]
    pub(crate) marathon: Option<String>,

    /// Metronome, if it is not at port 9000 of the master's host.
    #[arg(long, global = true, env = "DCOS_METRONOME_URL", value_name = "URL")]
    pub(crate) metronome: Option<String>,

    /// Print JSON instead of tables.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Print ids only.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Which cluster the other commands speak to.
    #[command(subcommand)]
    Cluster(Cluster),
    /// Print the script by which a shell completes commands, to be read by it: `source <(dcos completion bash)`.
    Completion {
        /// The shell.
        #[arg(default_value = "bash")]
        shell: clap_complete::Shell,
    },
    /// What is known of the attached cluster, and how it is spoken to.
    #[command(subcommand)]
    Config(Config),
    /// Jobs: what runs at times, after other jobs, or when it is told to.
    #[command(subcommand)]
    Job(Job),
    /// A development cluster on this machine.
    #[command(subcommand)]
    Local(Local),
    /// Services: apps, groups and their deployments.
    #[command(subcommand)]
    Marathon(Marathon),
    /// Take over the state of an original Marathon or Metronome.
    #[command(subcommand)]
    Migrate(Migrate),
    /// The cluster's network.
    #[command(subcommand)]
    Net(Net),
    /// The cluster's agents.
    #[command(subcommand)]
    Node(Node),
    /// What adding or changing services would do, without doing it.
    Plan {
        /// The definition of an app, several apps, a pod or a group: a file or URL; standard input by default.
        file: Option<String>,
    },
    /// What roles are guaranteed, and what they may have at most.
    #[command(subcommand)]
    Quota(Quota),
    /// Roles: their weights, and who comes first.
    #[command(subcommand)]
    Role(Role),
    /// Frameworks.
    #[command(subcommand)]
    Service(Service),
    /// Tasks, their files and logs.
    #[command(subcommand)]
    Task(Task),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Remember a cluster and attach to it.
    Setup {
        /// The master, such as `http://10.0.0.1:5050`, or where masters elect their leader, such as
        /// `zk://10.0.0.1:2181/mesos`.
        url: String,
        /// A name for it; the cluster's own by default.
        #[arg(long)]
        name: Option<String>,
    },
    /// The clusters that are known.
    List {
        /// Only the one in use.
        #[arg(long)]
        attached: bool,
    },
    /// Speak to another of them from now on.
    Attach {
        /// Its id, or its name if no other has that.
        name: String,
    },
    /// Call a cluster by another name.
    Rename {
        /// Its id, or its name if no other has that.
        name: String,
        /// The new name.
        new_name: String,
    },
    /// Open a cluster's page in a browser; where there is none, print its URL.
    Open {
        /// Its id, or its name if no other has that; the one in use unless given.
        name: Option<String>,
    },
    /// Forget a cluster.
    Remove {
        /// Its id, or its name if no other has that.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// The properties there are, and what they are.
    Keys,
    /// Set a property, such as `core.dcos_acs_token`: the token that the cluster is shown.
    Set {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// A property, or all of them; then the token is not shown.
    Show {
        /// Its name.
        name: Option<String>,
    },
    /// Forget a property.
    Unset {
        /// Its name.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Local {
    /// Start it, wait until it works, and leave it running.
    Up(LocalUp),
    /// Stop it and leave nothing behind.
    Down(LocalDir),
    /// What it is doing.
    Status(LocalDir),
}

#[derive(Debug, Args)]
pub(crate) struct LocalDir {
    /// Where it keeps its state and logs; `local` in the CLI's own directory by default.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct LocalUp {
    #[command(flatten)]
    pub(crate) dir: LocalDir,
    /// Deploy a small service, and wait until it answers.
    #[arg(long)]
    pub(crate) sample: bool,
    /// Take ports that are free instead of the usual ones.
    #[arg(long)]
    pub(crate) free_ports: bool,
    /// How many agents.
    #[arg(long, default_value_t = 1)]
    pub(crate) agents: u16,
    /// Seconds to wait for the cluster to work.
    #[arg(long, default_value_t = 120)]
    pub(crate) timeout: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Net {
    /// Virtual addresses and the tasks behind them.
    Vips {
        /// What this node does with them, by its router (host:port): which backends it gives no connections because they fail there.
        #[arg(long)]
        node: Option<String>,
    },
    /// The overlay networks, and how much of them agents have.
    Overlay,
    /// The nodes: whether they are there, as gossip knows it, or else those in the overlay networks.
    Members {
        /// Ask this node, an agent or a master (host:port), in place of the leading master: it answers while no master does.
        #[arg(long)]
        node: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// The agents and what they have.
    List,
    /// End what runs on an agent, and offer it no more.
    Drain {
        /// The agent's id.
        id: String,
        /// The longest grace a task may take to end, such as `90s`, `10m` or `1h`.
        #[arg(long, value_name = "TIME")]
        max_grace_period: Option<String>,
        /// Declare the agent gone for good once it is empty.
        #[arg(long)]
        decommission: bool,
        /// Wait until the agent is empty.
        #[arg(long)]
        wait: bool,
        /// Seconds to wait at most.
        #[arg(long, default_value_t = 600, requires = "wait")]
        timeout: u64,
    },
    /// Offer an agent no more; what runs there runs on.
    Deactivate {
        /// The agent's id.
        id: String,
    },
    /// Offer a deactivated or drained agent again.
    Reactivate {
        /// The agent's id.
        id: String,
    },
    /// Declare an agent gone for good: its tasks are lost, and it may never come back.
    Decommission {
        /// The agent's id.
        id: String,
    },
    /// What the cluster's name server says of a name.
    Dns {
        /// A host such as `leader.mesos`, or a service such as `_web._tcp.marathon.mesos`.
        name: String,
    },
    /// Print the log of an agent or of the leading master.
    Log(NodeLog),
    /// What a node uses.
    #[command(subcommand)]
    Metrics(NodeMetrics),
    /// Planned absences of machines.
    #[command(subcommand)]
    Maintenance(Maintenance),
}

#[derive(Debug, Args)]
pub(crate) struct NodeLog {
    /// The agent's id.
    #[arg(required_unless_present_any = ["leader", "mesos_id"], conflicts_with_all = ["leader", "mesos_id"])]
    pub(crate) id: Option<String>,
    /// The leading master.
    #[arg(long, conflicts_with = "mesos_id")]
    pub(crate) leader: bool,
    /// The agent's id, as older scripts say it.
    #[arg(long, value_name = "ID")]
    pub(crate) mesos_id: Option<String>,
    #[command(flatten)]
    pub(crate) form: LogForm,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeMetrics {
    /// Every figure of the agent and its host.
    Details {
        /// The agent's id.
        id: String,
    },
    /// Load, processors, memory and disk.
    Summary {
        /// The agent's id.
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Maintenance {
    /// Which machines will be away when.
    Schedule,
    /// Which machines are to be maintained, what frameworks said to that, and which are down.
    Status,
    /// Plan an absence, beside those that are planned.
    Add {
        /// Machines as `hostname/ip`, as `schedule` and `node list` show them.
        #[arg(required = true, value_name = "MACHINE")]
        machines: Vec<String>,
        /// In how much time it begins, such as `90s`, `10m` or `1h`.
        #[arg(long, default_value = "0s", value_name = "TIME")]
        start_in: String,
        /// How long it lasts; open-ended if absent.
        #[arg(long, value_name = "TIME")]
        duration: Option<String>,
    },
    /// Plan no absence of these machines.
    Remove {
        /// Machines as `hostname/ip`.
        #[arg(required = true, value_name = "MACHINE")]
        machines: Vec<String>,
    },
    /// Begin: agents on these machines end.
    Down {
        /// Machines as `hostname/ip`.
        #[arg(required = true, value_name = "MACHINE")]
        machines: Vec<String>,
    },
    /// End: the machines are back.
    Up {
        /// Machines as `hostname/ip`.
        #[arg(required = true, value_name = "MACHINE")]
        machines: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// Every role with its priority and weight.
    List,
    /// Say which roles come first among their siblings, before shares are looked at; those of
    /// higher priority do. The default is 0.
    Priority {
        /// Which, such as `prod=10 batch=-5`.
        #[arg(required = true, value_name = "ROLE=PRIORITY", value_parser = assigned::<i32>)]
        roles: Vec<(String, i32)>,
    },
    /// Say how much roles are due beside their siblings. The default is 1.
    Weight {
        /// Which, such as `prod=2.5`.
        #[arg(required = true, value_name = "ROLE=WEIGHT", value_parser = assigned::<f64>)]
        roles: Vec<(String, f64)>,
    },
}

/// `name=number`
fn assigned<N: std::str::FromStr<Err: std::fmt::Display>>(
    text: &str,
) -> Result<(String, N), String> {
    let (name, number) = text
        .split_once('=')
        .ok_or("it is not of the form ROLE=NUMBER")?;
    let number = number.parse().map_err(|error: N::Err| error.to_string())?;
    Ok((name.to_owned(), number))
}

#[derive(Debug, Subcommand)]
pub(crate) enum Quota {
    /// Every role's quota and what it consumes.
    List,
    /// One role's quota.
    Get {
        /// The role.
        role: String,
    },
    /// Give a role that has none a quota.
    Create(QuotaAmounts),
    /// Change a role's quota; what is not named stays as it is.
    Update(QuotaAmounts),
    /// Remove a role's quota.
    Delete {
        /// The role.
        role: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct QuotaAmounts {
    /// The role.
    pub(crate) role: String,
    /// The most cpus it may have.
    #[arg(long)]
    pub(crate) cpu: Option<f64>,
    /// The most memory it may have, in megabytes.
    #[arg(long)]
    pub(crate) mem: Option<f64>,
    /// The most disk it may have, in megabytes.
    #[arg(long)]
    pub(crate) disk: Option<f64>,
    /// The most gpus it may have.
    #[arg(long)]
    pub(crate) gpu: Option<f64>,
    /// Guarantee as much, too.
    #[arg(long)]
    pub(crate) guarantee: bool,
    /// Even if the role has more already, or there is not as much.
    #[arg(long)]
    pub(crate) force: bool,
}

/// A question about offers.
#[derive(Debug, clap::Args)]
pub(crate) struct Why {
    /// The framework's name or id; all of them by default.
    pub(crate) framework: Option<String>,
    /// Only this role of it.
    #[arg(long)]
    pub(crate) role: Option<String>,
    /// What it would launch, such as `cpus:1;mem:1024`.
    #[arg(long)]
    pub(crate) resources: Option<String>,
    /// Where: `rack=a`, `rack!=a`, `rack`, `!rack`; `@hostname`, `@region` and `@zone` too.
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) conditions: Vec<String>,
    /// A line for each agent instead of one for each reason.
    #[arg(long)]
    pub(crate) agents: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Service {
    /// Why a framework is offered nothing, or not enough.
    Why(Why),
    /// The frameworks.
    List {
        /// Those that are gone, too.
        #[arg(long)]
        completed: bool,
        /// Those that are not connected, too.
        #[arg(long)]
        inactive: bool,
    },
    /// Print the output of a service that Marathon runs, or the log of the leading Marathon.
    Log {
        /// What the service calls itself as a framework (the label `DCOS_PACKAGE_FRAMEWORK_NAME` of its app), or `marathon`.
        service: String,
        /// The file in its sandbox, `stdout` unless given; Marathon's log is one file.
        file: Option<String>,
        #[command(flatten)]
        form: LogForm,
        /// Nothing is asked over SSH: this is taken for old scripts' sake, and says so.
        #[arg(long, hide = true)]
        user: Option<String>,
        #[arg(long, hide = true)]
        ssh_config_file: Option<String>,
    },
    /// Remove a framework and kill its tasks.
    Shutdown {
        /// The framework's id.
        id: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// How much of a log is printed, and how.
#[derive(Debug, Args)]
pub(crate) struct LogForm {
    /// Print what is added, until interrupted.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// How many lines from the end; `all` of them.
    #[arg(long, default_value_t = Lines::Last(10), value_name = "N|all")]
    pub(crate) lines: Lines,
    /// The form: `short` or `cat`, which print what is in the file as it is. Other forms, of journals, are taken for these.
    #[arg(long, short, default_value = "short", value_name = "FORM")]
    pub(crate) output: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// The tasks.
    List {
        /// Only those whose id or name contains this.
        filter: Option<String>,
        /// Those that have ended, too.
        #[arg(long)]
        all: bool,
        /// Only those that have ended.
        #[arg(long)]
        completed: bool,
        /// Only those on this agent.
        #[arg(long, value_name = "ID")]
        agent_id: Option<String>,
    },
    /// Print a task's output.
    Log {
        /// The task's id, or a part of it: the output of each that has it is printed, below its id where there are several.
        task: String,
        /// The file in its sandbox.
        #[arg(default_value = "stdout")]
        file: String,
        #[command(flatten)]
        form: LogForm,
        /// Look among the tasks that have ended, too.
        #[arg(long)]
        all: bool,
        /// Look only among the tasks that have ended.
        #[arg(long)]
        completed: bool,
    },
    /// Run a command inside a task's container.
    Exec {
        /// Send standard input to it.
        #[arg(long, short)]
        interactive: bool,
        /// Give it a terminal.
        #[arg(long, short)]
        tty: bool,
        /// Who it runs as; the task's user unless given.
        #[arg(long, short)]
        user: Option<String>,
        /// The task's id, or a part of it that no other has.
        task: String,
        /// The program.
        cmd: String,
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Connect with a task that was launched with a terminal; Ctrl-P Ctrl-Q leaves it.
    Attach {
        /// Only listen.
        #[arg(long)]
        no_stdin: bool,
        /// The task's id, or a part of it that no other has.
        task: String,
    },
    /// Copy files from a task's sandbox.
    Download {
        /// The task's id, or a part of it that no other has.
        task: String,
        /// A file or folder in the sandbox; all of it unless given.
        #[arg(default_value = ".")]
        path: String,
        /// Where to; here unless given.
        #[arg(long, value_name = "DIR")]
        target_dir: Option<std::path::PathBuf>,
    },
    /// What a task uses.
    #[command(subcommand)]
    Metrics(TaskMetrics),
    /// The files in a task's sandbox.
    Ls {
        /// The task's id, or a part of it: the files of each that has it are shown, below its id where there are several.
        task: String,
        /// Where in the sandbox.
        #[arg(default_value = ".")]
        path: String,
        /// With permissions, owner, size and time.
        #[arg(long)]
        long: bool,
        /// Look among the tasks that have ended, too.
        #[arg(long)]
        all: bool,
        /// Look only among the tasks that have ended.
        #[arg(long)]
        completed: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TaskMetrics {
    /// Every figure.
    Details {
        /// The task's id, or a part of it that no other has.
        task: String,
    },
    /// Processor, memory and disk.
    Summary {
        /// The task's id, or a part of it that no other has.
        task: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Marathon {
    /// What Marathon says of itself.
    About,
    /// Whether Marathon answers.
    Ping {
        /// Ask once, which is what is done anyway.
        #[arg(long)]
        once: bool,
    },
    /// Single services.
    #[command(subcommand)]
    App(App),
    /// Groups of containers that run together.
    #[command(subcommand)]
    Pod(Pod),
    /// Trees of services.
    #[command(subcommand)]
    Group(Group),
    /// Changes on their way.
    #[command(subcommand)]
    Deployment(Deployment),
    /// Why instances wait.
    #[command(subcommand)]
    Debug(Debug),
    /// The tasks of services.
    #[command(subcommand)]
    Task(MarathonTask),
    /// Try again at once what waits after failures.
    #[command(subcommand)]
    Delay(Delay),
    /// Which Marathon leads.
    #[command(subcommand)]
    Leader(Leader),
    /// What Marathon is extended by.
    #[command(subcommand)]
    Plugin(Plugin),
}

#[derive(Debug, Args)]
#[expect(
    clippy::struct_field_names,
    reason = "they are the names of the options"
)]
pub(crate) struct Force {
    /// Override a deployment that holds the app.
    #[arg(long)]
    pub(crate) force: bool,
    /// Return at once instead of waiting for the deployment.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Give the deployment so many seconds; then it is stopped where it is.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) deadline: Option<u32>,
    /// Take the change back when the deadline has passed.
    #[arg(long, requires = "deadline")]
    pub(crate) rollback: bool,
}

impl Force {
    /// The same as parameters of a request.
    pub(crate) fn query(&self) -> String {
        let deadline = self.deadline.map(|seconds| format!("&deadline={seconds}"));
        let rollback = if self.rollback {
            "&onDeadline=rollback"
        } else {
            ""
        };
        format!(
            "force={}{}{rollback}",
            self.force,
            deadline.unwrap_or_default()
        )
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum App {
    /// Create an app.
    Add {
        /// A file or URL with its definition; standard input if absent.
        file: Option<String>,
        #[command(flatten)]
        force: Force,
    },
    /// Where the instances of a new or changed app would run, and why others would wait. Changes nothing.
    Simulate {
        /// A file or URL with its definition; standard input if absent.
        file: Option<String>,
    },
    /// All apps.
    List,
    /// An app's definition.
    Show {
        id: String,
        /// An older version: its time stamp, or -1 for the last but one.
        #[arg(long, allow_hyphen_values = true, value_name = "VERSION")]
        app_version: Option<String>,
    },
    /// Change an app: `cpus=0.5 instances=3`, or JSON on standard input.
    Update {
        id: String,
        /// What to change; values are JSON, or text where that fails.
        properties: Vec<String>,
        #[command(flatten)]
        force: Force,
    },
    /// Remove an app and its instances.
    Remove {
        id: String,
        #[command(flatten)]
        force: Force,
    },
    /// Start a stopped app.
    Start {
        id: String,
        #[arg(default_value_t = 1)]
        instances: u32,
        #[command(flatten)]
        force: Force,
    },
    /// Scale an app to 0.
    Stop {
        id: String,
        #[command(flatten)]
        force: Force,
    },
    /// Replace every instance.
    Restart {
        id: String,
        #[command(flatten)]
        force: Force,
    },
    /// Kill an app's instances; Marathon starts new ones.
    Kill {
        id: String,
        /// Start no new ones.
        #[arg(long)]
        scale: bool,
        /// Only those on this host.
        #[arg(long)]
        host: Option<String>,
    },
    /// An app's versions.
    #[command(subcommand)]
    Version(AppVersion),
}

#[derive(Debug, Subcommand)]
pub(crate) enum AppVersion {
    /// The newest first.
    List {
        id: String,
        #[arg(long, value_name = "N")]
        max_count: Option<usize>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// Create a group.
    Add {
        /// A file or URL with its definition; standard input if absent.
        file: Option<String>,
        /// Its id, instead of the definition's.
        #[arg(long)]
        id: Option<String>,
        #[command(flatten)]
        force: Force,
    },
    /// All groups.
    List,
    /// A group's definition.
    Show {
        id: String,
        /// An older version: its time stamp, or -1 for the last but one.
        #[arg(long, allow_hyphen_values = true, value_name = "VERSION")]
        group_version: Option<String>,
    },
    /// Change a group.
    Update {
        id: String,
        properties: Vec<String>,
        #[command(flatten)]
        force: Force,
    },
    /// Scale every app of a group by a factor.
    Scale {
        id: String,
        factor: f64,
        #[command(flatten)]
        force: Force,
    },
    /// Remove a group and all in it.
    Remove {
        id: String,
        #[command(flatten)]
        force: Force,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Deployment {
    /// The deployments on their way.
    List {
        /// Only those of this app.
        app: Option<String>,
    },
    /// Cancel a deployment and leave things as they are.
    Stop { id: String },
    /// Cancel a deployment and go back to where it started.
    Rollback { id: String },
    /// Watch a deployment until it ends.
    Watch {
        id: String,
        /// Look so many times at most, then leave it to itself; for as long as it takes unless given.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        max_count: Option<u32>,
        /// Seconds between two looks; a fifth of one unless given.
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
        interval: Option<u32>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Debug {
    /// The apps whose instances wait.
    List,
    /// Why an app's instances wait: how many offers failed for which reason.
    Summary { id: String },
    /// What of each agent's last offer would have done.
    Details { id: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Pod {
    /// Create a pod.
    Add {
        /// A file or URL with its definition; standard input if absent.
        file: Option<String>,
        #[command(flatten)]
        force: Force,
    },
    /// All pods, and how they are.
    List,
    /// A pod's definition and how its instances are.
    Show { id: String },
    /// Replace a pod's definition.
    Update {
        id: String,
        /// A file or URL with the new definition; standard input if absent.
        file: Option<String>,
        #[command(flatten)]
        force: Force,
    },
    /// Remove a pod and its instances.
    Remove {
        id: String,
        #[command(flatten)]
        force: Force,
    },
    /// Kill instances of a pod; Marathon starts new ones.
    Kill {
        id: String,
        #[arg(required = true)]
        instances: Vec<String>,
    },
    /// A pod's versions.
    #[command(subcommand)]
    Version(PodVersion),
}

#[derive(Debug, Subcommand)]
pub(crate) enum PodVersion {
    /// The newest first.
    List { id: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum MarathonTask {
    /// The tasks of services.
    List {
        /// Only those of this app.
        app: Option<String>,
    },
    /// One task.
    Show { id: String },
    /// Kill one task; Marathon starts a new one.
    Stop {
        id: String,
        /// Give back what is reserved for it, and destroy its volumes.
        #[arg(long)]
        wipe: bool,
    },
    /// Kill tasks; Marathon starts new ones.
    Kill {
        #[arg(required = true)]
        ids: Vec<String>,
        /// Start no new ones.
        #[arg(long)]
        scale: bool,
        /// Give back what is reserved for them, and destroy their volumes.
        #[arg(long)]
        wipe: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Delay {
    /// Reset an app's launch delay.
    Reset { id: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Leader {
    /// The leading Marathon's address.
    Show,
    /// Make the leading Marathon step down.
    Delete,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Plugin {
    /// All plugins.
    List,
}
