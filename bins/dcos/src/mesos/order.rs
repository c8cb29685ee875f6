//! What `mesos-execute` is to run, made of its flags, and what of an offer it takes.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow, bail, ensure};
use dcos_core::config::{Spec, Values};
use dcos_core::resources::Resources;
use dcos_core::resources::convert::static_reservation;
use dcos_proto::json::{self, Dialect, Json};
use dcos_proto::mesos::container_info::{self, DockerInfo, MesosInfo, docker_info};
use dcos_proto::mesos::environment::Variable;
use dcos_proto::mesos::framework_info::{Capability, capability};
use dcos_proto::mesos::image::{self, Appc, Docker};
use dcos_proto::mesos::{
    CommandInfo, ContainerInfo, Environment, ExecutorInfo, FrameworkId, FrameworkInfo, Image,
    Label, Labels, LinuxInfo, NetworkInfo, Offer, TaskGroupInfo, TaskId, TaskInfo, TtyInfo, Volume,
    executor_info, offer,
};
use dcos_sched::sdk::operations::{launch, launch_group};
use serde_json::Value;

/// Every flag of the original, in its order.
pub(super) const OPTIONS: &[Spec] = &[
    Spec::text("master")
        .required()
        .help("The master: ip:port, several, or zk://… or etcd://…."),
    Spec::json("task").help("A TaskInfo as JSON, or the path of a file with it."),
    Spec::json("task_group").help("A TaskGroupInfo as JSON, or the path of a file with it."),
    Spec::text("name").help("The task's name and id."),
    Spec::switch("shell")
        .default("true")
        .help("Whether the command is run by a shell; without, the image's own is run."),
    Spec::text("command").help("What to run."),
    Spec::json("env").help("Environment variables as a JSON object, or the path of a file."),
    Spec::text("resources")
        .default("cpus:1;mem:128")
        .help("Resources of the task."),
    Spec::text("hadoop")
        .default("hadoop")
        .help("Accepted; only --package would use it."),
    Spec::text("hdfs")
        .default("localhost:9000")
        .help("Accepted; only --package would use it."),
    Spec::text("package")
        .help("Refused: nothing is put into HDFS from here; name it in --task, as a URI."),
    Spec::switch("overwrite").help("Accepted; only --package would use it."),
    Spec::switch("checkpoint").help("Whether agents write the framework down."),
    Spec::text("appc_image").help("An image by the Appc specification."),
    Spec::text("docker_image").help("An image as Docker names it."),
    Spec::list("framework_capabilities").help("More capabilities of the framework: GPU_RESOURCES."),
    Spec::choice("containerizer", &["mesos", "docker"])
        .default("mesos")
        .help("Who makes the container."),
    Spec::json("effective_capabilities").help("CapabilityInfo as JSON: those the command has."),
    Spec::json("bounding_capabilities").help("CapabilityInfo as JSON: those it can have."),
    Spec::json("rlimits").help("RLimitInfo as JSON."),
    Spec::text("role")
        .default("*")
        .help("The framework's role."),
    Spec::duration("kill_after").help("How long the task runs before it is killed."),
    Spec::text("networks").help("Networks the container joins, separated by commas."),
    Spec::text("principal").help("Who to authenticate as."),
    Spec::text("secret")
        .secret()
        .help("The principal's secret; file:///path keeps it out of the list of processes."),
    Spec::json("volumes").help("A list of Volume as JSON, or the path of a file with it."),
    Spec::choice(
        "content_type",
        &[
            "protobuf",
            "json",
            "application/x-protobuf",
            "application/json",
        ],
    )
    .default("protobuf")
    .help("What the framework speaks."),
    Spec::switch("tty").help("Give the task a terminal."),
    Spec::switch("partition_aware")
        .default("true")
        .help("Whether the framework is told of tasks that cannot be reached."),
];

/// What is to run.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Order {
    /// One task.
    Task(Box<TaskInfo>),
    /// A pod by the default executor, which joins these networks.
    Group(Vec<TaskInfo>, Vec<NetworkInfo>),
}

impl Order {
    /// Makes it of flags.
    ///
    /// # Errors
    /// Which flags are missing, exclude each other or are not understood.
    pub(super) fn of(values: &Values) -> anyhow::Result<Self> {
        let given = |name: &&&str| values.origin(name).is_some();
        let whole = ["task", "task_group"].iter().filter(given);
        match whole.count() {
            0 => return single(values).map(|task| Self::Task(Box::new(task))),
            1 => {}
            _ => bail!("--task and --task_group exclude each other: give one of them"),
        }
        let parts = [
            "name",
            "command",
            "env",
            "appc_image",
            "docker_image",
            "volumes",
        ];
        if let Some(part) = parts.iter().find(given) {
            bail!("--{part} cannot be given together with --task or --task_group: write it there");
        }
        if let Some(task) = message(values, "task")? {
            ensure!(
                values.opt_text("networks").is_none(),
                "--networks cannot be given together with --task: write them there"
            );
            return Ok(Self::Task(Box::new(task)));
        }
        let group: Option<TaskGroupInfo> = message(values, "task_group")?;
        let tasks = group.map(|group| group.tasks).unwrap_or_default();
        ensure!(!tasks.is_empty(), "--task_group: it has no tasks");
        Ok(Self::Group(tasks, networks(values)))
    }

    /// The ids of all its tasks.
    pub(super) fn task_ids(&self) -> impl Iterator<Item = &TaskId> {
        self.tasks().iter().map(|task| &task.task_id)
    }

    fn tasks(&self) -> &[TaskInfo] {
        match self {
            Self::Task(task) => std::slice::from_ref(task),
            Self::Group(tasks, _) => tasks,
        }
    }

    /// The launch, if this offer to a framework of `role` has enough; what is reserved for it is taken first.
    pub(super) fn launch(
        &self,
        framework: &FrameworkId,
        role: &str,
        offer: &Offer,
    ) -> Option<offer::Operation> {
        let mut left = Resources::from_messages(&offer.resources).unallocated();
        let reservation = static_reservation(role);
        let mut take = |wanted: Resources| {
            let wanted = if role == "*" {
                wanted
            } else {
                wanted.push_reservation(&reservation).ok()?
            };
            let taken = left.find(&wanted)?;
            left -= &taken;
            Some(taken.to_messages())
        };
        let executor = ExecutorInfo {
            resources: match self {
                Self::Task(_) => Vec::new(),
                Self::Group(..) => take(Resources::parse("cpus:0.1;mem:32;disk:32").ok()?)?,
            },
            ..executor(framework)
        };
        let mut tasks = self.tasks().to_vec();
        for task in &mut tasks {
            task.agent_id = offer.agent_id.clone();
            task.resources = take(Resources::from_messages(&task.resources))?;
        }
        Some(match self {
            Self::Task(_) => launch(tasks),
            Self::Group(_, networks) => {
                let container = (!networks.is_empty()).then(|| ContainerInfo {
                    r#type: container_info::Type::Mesos.into(),
                    network_infos: networks.clone(),
                    ..ContainerInfo::default()
                });
                let executor = ExecutorInfo {
                    container,
                    ..executor
                };
                launch_group(executor, tasks)
            }
        })
    }
}

/// The framework that runs it.
pub(super) fn framework(values: &Values, user: String) -> anyhow::Result<FrameworkInfo> {
    let mut kinds = vec![
        capability::Type::ReservationRefinement,
        capability::Type::TaskKillingState,
        capability::Type::RevocableResources,
    ];
    if values.switch("partition_aware") {
        kinds.push(capability::Type::PartitionAware);
    }
    for name in values
        .opt_list("framework_capabilities")
        .unwrap_or_default()
    {
        ensure!(
            name == "GPU_RESOURCES",
            "--framework_capabilities: {name:?} cannot be chosen; GPU_RESOURCES can"
        );
        kinds.push(capability::Type::GpuResources);
    }
    let capabilities = kinds.into_iter().map(|kind| Capability {
        r#type: Some(kind.into()),
    });
    Ok(FrameworkInfo {
        user,
        name: "mesos-execute instance".to_owned(),
        role: values.opt_text("role"),
        checkpoint: Some(values.switch("checkpoint")),
        principal: values.opt_text("principal"),
        capabilities: capabilities.collect(),
        ..FrameworkInfo::default()
    })
}

fn executor(framework: &FrameworkId) -> ExecutorInfo {
    ExecutorInfo {
        r#type: Some(executor_info::Type::Default.into()),
        executor_id: "default-executor".into(),
        framework_id: Some(framework.clone()),
        ..ExecutorInfo::default()
    }
}

fn single(values: &Values) -> anyhow::Result<TaskInfo> {
    let name = values
        .opt_text("name")
        .context("--name is missing: the task's name")?;
    let (shell, command) = (values.switch("shell"), values.opt_text("command"));
    if shell && command.is_none() {
        bail!("--command is missing: what to run");
    }
    if values.opt_text("package").is_some() {
        bail!(
            "--package: nothing is put into HDFS from here; upload it, and name it in --task among the command's `uris`"
        );
    }
    let resources = values.text("resources");
    let resources =
        Resources::parse(&resources).with_context(|| format!("--resources={resources}"))?;
    let variables: BTreeMap<String, String> = values
        .opt_json("env")
        .map(serde_json::from_value)
        .transpose()
        .context("--env: an object of strings is wanted")?
        .unwrap_or_default();
    let variables = variables.into_iter().map(|(name, value)| Variable {
        name,
        value: Some(value),
        ..Variable::default()
    });
    let variables: Vec<_> = variables.collect();
    let command = CommandInfo {
        shell: Some(shell),
        value: command.filter(|_| shell),
        environment: (!variables.is_empty()).then_some(Environment { variables }),
        ..CommandInfo::default()
    };
    Ok(TaskInfo {
        name: name.clone(),
        task_id: name.into(),
        resources: resources.to_messages(),
        command: Some(command),
        container: container(values)?,
        ..TaskInfo::default()
    })
}

fn container(values: &Values) -> anyhow::Result<Option<ContainerInfo>> {
    let (appc, docker) = (
        values.opt_text("appc_image"),
        values.opt_text("docker_image"),
    );
    ensure!(
        appc.is_none() || docker.is_none(),
        "--docker_image and --appc_image exclude each other: give one of them"
    );
    let tty = values.switch("tty");
    let networks = networks(values);
    let mut container = ContainerInfo {
        volumes: volumes(values)?,
        ..ContainerInfo::default()
    };
    if values.text("containerizer") == "docker" {
        let image = docker.context("--containerizer=docker needs --docker_image")?;
        ensure!(!tty, "--containerizer=docker allows no --tty");
        ensure!(
            networks.len() < 2,
            "--containerizer=docker joins one network only"
        );
        let network = (!networks.is_empty()).then(|| docker_info::Network::User.into());
        container.r#type = container_info::Type::Docker.into();
        container.docker = Some(DockerInfo {
            image,
            network,
            ..DockerInfo::default()
        });
        container.network_infos = networks;
        return Ok(Some(container));
    }
    let linux = LinuxInfo {
        effective_capabilities: message(values, "effective_capabilities")?,
        bounding_capabilities: message(values, "bounding_capabilities")?,
        ..LinuxInfo::default()
    };
    let image = docker.map(docker_image).or_else(|| appc.map(appc_image));
    container.mesos = image.map(|image| MesosInfo { image: Some(image) });
    container.network_infos = networks;
    container.linux_info = (linux != LinuxInfo::default()).then_some(linux);
    container.rlimit_info = message(values, "rlimits")?;
    container.tty_info = tty.then(TtyInfo::default);
    let plain = container == ContainerInfo::default();
    container.r#type = container_info::Type::Mesos.into();
    Ok((!plain).then_some(container))
}

fn docker_image(name: String) -> Image {
    Image {
        r#type: image::Type::Docker.into(),
        docker: Some(Docker {
            name,
            ..Docker::default()
        }),
        ..Image::default()
    }
}

fn appc_image(name: String) -> Image {
    let labels = [("os", "linux"), ("arch", "amd64")].map(|(key, value)| Label {
        key: key.to_owned(),
        value: Some(value.to_owned()),
    });
    Image {
        r#type: image::Type::Appc.into(),
        appc: Some(Appc {
            name,
            id: None,
            labels: Some(Labels {
                labels: labels.to_vec(),
            }),
        }),
        ..Image::default()
    }
}

fn networks(values: &Values) -> Vec<NetworkInfo> {
    let names = values.opt_text("networks").unwrap_or_default();
    let names = names.split(',').filter(|name| !name.is_empty());
    names
        .map(|name| NetworkInfo {
            name: Some(name.to_owned()),
            ..NetworkInfo::default()
        })
        .collect()
}

fn volumes(values: &Values) -> anyhow::Result<Vec<Volume>> {
    let Some(volumes) = values.opt_json("volumes") else {
        return Ok(Vec::new());
    };
    let volumes = volumes
        .as_array()
        .context("--volumes: a list of volumes is wanted")?;
    let volume = |volume: &Value| json::from_value(volume, Dialect::V1);
    let volumes: Result<_, _> = volumes.iter().map(volume).collect();
    volumes.map_err(|error| anyhow!("--volumes: {error}"))
}

/// The message that an option holds as JSON.
fn message<M: Json>(values: &Values, option: &str) -> anyhow::Result<Option<M>> {
    let document = values.opt_json(option);
    let message = document.map(|document| json::from_value(&document, Dialect::V1));
    message
        .transpose()
        .map_err(|error| anyhow!("--{option}: {error}"))
}

#[cfg(test)]
mod tests {
    use dcos_core::config::{Loaded, Schema, Sources};

    use super::*;

    fn values(flags: &[&str]) -> Values {
        let flags = ["--master=m"].iter().chain(flags).copied();
        let schema = Schema::new("mesos-execute", "").with(OPTIONS);
        let Loaded::Run(values) = schema.load(&Sources::new(flags)).unwrap() else {
            panic!("no help asked");
        };
        values
    }

    fn order(flags: &[&str]) -> Order {
        Order::of(&values(flags)).unwrap()
    }

    fn refused(flags: &[&str]) -> String {
        format!("{:#}", Order::of(&values(flags)).unwrap_err())
    }

    fn task(order: &Order) -> &TaskInfo {
        &order.tasks()[0]
    }

    fn offer(resources: &str, role: &str) -> Offer {
        let mut resources = Resources::parse(resources).unwrap();
        resources.allocate(role);
        Offer {
            id: "offer".into(),
            agent_id: "agent".into(),
            resources: resources.to_messages(),
            ..Offer::default()
        }
    }

    #[test]
    fn a_command_is_a_task_without_a_container() {
        let order = order(&["--name=one", "--command=sleep 1", "--env={\"A\": \"b\"}"]);
        let task = task(&order);
        let command = task.command.as_ref().unwrap();
        assert_eq!((&*task.name, &*task.task_id.value), ("one", "one"));
        assert_eq!((command.shell(), command.value()), (true, "sleep 1"));
        let variables = &command.environment.as_ref().unwrap().variables;
        assert_eq!((&*variables[0].name, variables[0].value()), ("A", "b"));
        let wanted = Resources::parse("cpus:1;mem:128").unwrap();
        assert_eq!(Resources::from_messages(&task.resources), wanted);
        assert_eq!(task.container, None);
    }

    #[test]
    fn what_a_container_needs_makes_one() {
        let base = ["--name=one", "--command=true"];
        let with = |more: &[&str]| {
            let order = order(&[&base, more].concat());
            task(&order).container.clone().unwrap()
        };
        let image = with(&["--docker_image=busybox"]).mesos.unwrap().image;
        assert_eq!(image.unwrap().docker.unwrap().name, "busybox");
        let capabilities = with(&["--effective_capabilities={\"capabilities\": [\"NET_RAW\"]}"]);
        let linux = capabilities.linux_info.unwrap();
        assert_eq!(linux.effective_capabilities.unwrap().capabilities.len(), 1);
        let rlimits = with(&[
            "--rlimits={\"rlimits\": [{\"type\": \"RLMT_CPU\", \"soft\": \"1\", \"hard\": \"1\"}]}",
        ]);
        assert_eq!(rlimits.rlimit_info.unwrap().rlimits[0].soft(), 1);
        assert!(with(&["--tty"]).tty_info.is_some());
        assert_eq!(with(&["--networks=a,b"]).network_infos.len(), 2);
        let docker = with(&["--containerizer=docker", "--docker_image=b", "--networks=a"]);
        assert_eq!(docker.r#type(), container_info::Type::Docker);
        assert_eq!(docker.docker.unwrap().network(), docker_info::Network::User);
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        let task = "--task={\"name\": \"t\", \"task_id\": {\"value\": \"t\"}, \"agent_id\": {\"value\": \"\"}}";
        for (flags, expected) in [
            (&["--command=true"][..], "--name is missing"),
            (&["--name=one"], "--command is missing"),
            (
                &[task, "--task_group={\"tasks\": []}"],
                "exclude each other",
            ),
            (&[task, "--command=true"], "--command cannot be given"),
            (&[task, "--networks=a"], "--networks cannot be given"),
            (&["--task_group={\"tasks\": []}"], "no tasks"),
            (&["--task={\"name\": 1}"], "--task: "),
            (
                &["--name=n", "--command=c", "--resources=cpus"],
                "--resources=cpus",
            ),
            (&["--name=n", "--command=c", "--package=p"], "--package"),
            (
                &["--name=n", "--command=c", "--containerizer=docker"],
                "needs --docker_image",
            ),
            (
                &["--name=n", "--command=c", "--volumes={}"],
                "--volumes: a list",
            ),
            (&["--name=n", "--command=c", "--env=[1]"], "--env: "),
        ] {
            let said = refused(flags);
            assert!(said.contains(expected), "{said:?} should tell {expected:?}");
        }
    }

    #[test]
    fn an_offer_with_enough_is_taken_and_what_is_reserved_first() {
        let order = order(&["--name=one", "--command=true"]);
        let framework = FrameworkId::from("framework");
        let launch = |resources, role| {
            let launch = order.launch(&framework, role, &offer(resources, role))?;
            let task = launch.launch.unwrap().task_infos.remove(0);
            assert_eq!(task.agent_id.value, "agent");
            Some(Resources::from_messages(&task.resources))
        };
        assert_eq!(launch("cpus:0.5;mem:1024", "*"), None);
        let taken = launch("cpus:4;mem:1024", "*").unwrap();
        assert_eq!(taken, Resources::parse("cpus:1;mem:128").unwrap());
        let taken = launch("cpus(web):4;cpus:4;mem:1024", "web").unwrap();
        assert_eq!(taken, Resources::parse("cpus(web):1;mem:128").unwrap());
    }

    #[test]
    fn a_group_takes_what_its_executor_needs_too() {
        let tasks = ["a", "b"].map(|name| {
            format!(
                r#"{{"name": "{name}", "task_id": {{"value": "{name}"}}, "agent_id": {{"value": ""}}, "resources":
                [{{"name": "cpus", "type": "SCALAR", "scalar": {{"value": 1}}}}], "command": {{"value": "true"}}}}"#
            )
        });
        let group = format!("--task_group={{\"tasks\": [{}]}}", tasks.join(","));
        let order = order(&[&group, "--networks=net"]);
        let framework = FrameworkId::from("framework");
        let launch = |resources| order.launch(&framework, "*", &offer(resources, "*"));
        assert_eq!(
            launch("cpus:2;mem:1024;disk:1024"),
            None,
            "the executor needs 0.1"
        );
        let group = launch("cpus:2.1;mem:1024;disk:1024").unwrap().launch_group;
        let group = group.unwrap();
        assert_eq!(group.task_group.tasks.len(), 2);
        let container = group.executor.container.unwrap();
        assert_eq!(container.network_infos[0].name(), "net");
    }

    #[test]
    fn a_framework_says_what_it_can() {
        let kinds = |flags: &[&str]| {
            let framework = framework(&values(flags), "me".to_owned()).unwrap();
            framework.capabilities.len()
        };
        assert_eq!(kinds(&[]), 4);
        assert_eq!(kinds(&["--no-partition_aware"]), 3);
        assert_eq!(kinds(&["--framework_capabilities=GPU_RESOURCES"]), 5);
        let unknown = values(&["--framework_capabilities=SHARED_RESOURCES"]);
        assert!(framework(&unknown, "me".to_owned()).is_err());
    }
}
