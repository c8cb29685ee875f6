//! [`Site`]: six hosts with the whole of a cluster's network: two masters, three agents and a public one.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use dcos_store::{Ensemble, LeadingMaster, masters};
use dcos_wire::{Client, ClientConfig};
use http::Request;
use serde_json::Value;

use crate::{
    cluster::PATIENCE,
    machine::{self, Machine},
    network::{Network, OUTSIDE},
    process::Process,
    servers::{Kind, Place, Servers},
    talk::{self, From, Server},
};

/// Hosts, and the last parts of their addresses.
const MASTERS: [(&str, u8); 2] = [("master1", 1), ("master2", 2)];
const AGENTS: [(&str, u8); 3] = [("agent1", 11), ("agent2", 12), ("agent3", 13)];
const PUBLIC: (&str, u8) = ("public1", 21);

/// Six hosts, and where masters meet: a server of the ensemble at our own place, which no fault befalls.
#[derive(Debug)]
pub struct Site {
    /// The hosts' network.
    pub network: Network,
    machines: Vec<Machine>,
    leading: LeadingMaster,
    client: Client,
    directory: PathBuf,
    _servers: Servers,
}

impl Site {
    /// Switches all of it on, with its files in `directory` and programs from `programs`.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn start(kind: Kind, programs: &Path, directory: &Path) -> anyhow::Result<Self> {
        let all = MASTERS.into_iter().chain(AGENTS).chain([PUBLIC]);
        let hosts: Vec<_> = all
            .map(|(name, number)| (name.to_owned(), number))
            .collect();
        let network = Network::new(&hosts)?;
        find_names(directory)?;
        let key = key(directory)?;
        let outside = Place {
            ip: OUTSIDE.into(),
            host: None,
        };
        let servers = Servers::start(kind, &[outside], directory).await?;
        let url = servers.url("/mesos");
        let root = machine::cgroup_of(directory);
        let mut machines = Vec::new();
        for (name, number) in hosts {
            let cgroup = format!("{root}/{name}");
            let own = directory.join(&name);
            let ip = network.host(&name).ip;
            let mut words = if name.starts_with("master") {
                master(programs, &own, &url, &ip.to_string())
            } else {
                agent(
                    programs,
                    &own,
                    &url,
                    &ip.to_string(),
                    &cgroup,
                    name == PUBLIC.0,
                )
            };
            words.push(format!("--gossip_key={}", key.display()));
            let mut machine = Machine::new(&name, number, cgroup, directory, words);
            machine.switch_on()?;
            machines.push(machine);
        }
        Ok(Self {
            network,
            machines,
            leading: masters(&Ensemble::parse(&url)?),
            client: Client::with_config(ClientConfig {
                connect_timeout: Duration::from_secs(1),
                answer_timeout: Duration::from_secs(15),
                ..ClientConfig::default()
            })?,
            directory: directory.to_owned(),
            _servers: servers,
        })
    }

    /// The address of a host.
    pub fn ip(&self, name: &str) -> String {
        self.network.host(name).ip.to_string()
    }

    /// The names of all hosts, of masters first.
    pub fn hosts() -> impl Iterator<Item = &'static str> {
        let masters = MASTERS.into_iter().map(|(name, _)| name);
        masters.chain(Self::agents())
    }

    /// The names of all agents, of the public one last.
    pub fn agents() -> impl Iterator<Item = &'static str> {
        AGENTS.into_iter().chain([PUBLIC]).map(|(name, _)| name)
    }

    /// The name of the master that leads, once it is not `not`, and the other one's.
    ///
    /// # Errors
    /// Nobody is elected for long.
    pub async fn leader(
        &mut self,
        not: Option<&str>,
    ) -> anyhow::Result<(&'static str, &'static str)> {
        let not = not.map(|name| self.ip(name));
        let elected = self.leading.wait_for(|leader| {
            let host = leader.as_ref().and_then(|leader| leader.hostname.clone());
            host.is_some() && host != not
        });
        let leader = tokio::time::timeout(PATIENCE, elected)
            .await
            .context("no master was elected")??;
        let host = leader
            .as_ref()
            .and_then(|leader| leader.hostname.clone())
            .unwrap_or_default();
        let [one, two] = MASTERS.map(|(name, _)| name);
        Ok(if host == "10.99.0.1" {
            (one, two)
        } else {
            (two, one)
        })
    }

    /// Cuts the power of a host; its clients of ours end as well.
    ///
    /// # Errors
    /// Something can't be killed.
    pub fn power_off(&mut self, name: &str) -> anyhow::Result<()> {
        let machine = self
            .machines
            .iter_mut()
            .find(|machine| machine.name == name);
        machine
            .context("there is this machine")?
            .power_off(&self.network)
    }

    /// Switches it on again.
    ///
    /// # Errors
    /// It does not start.
    pub fn power_on(&mut self, name: &str) -> anyhow::Result<()> {
        let machine = self
            .machines
            .iter_mut()
            .find(|machine| machine.name == name);
        machine
            .context("there is this machine")?
            .power_on(&mut self.network)
    }

    /// What somebody outside of the cluster gets from the router of a host.
    ///
    /// # Errors
    /// It is refused, or nobody answers.
    pub async fn get(&self, router: &str, path: &str) -> anyhow::Result<String> {
        self.send(router, "GET", path, None).await
    }

    /// Asks the router of a host for something.
    ///
    /// # Errors
    /// It is refused, or nobody answers.
    pub async fn send(
        &self,
        router: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<String> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.ip(router)))
            .header("content-type", "application/json")
            .body(body.map(ToString::to_string).unwrap_or_default().into())?;
        let answer = self.client.send(request).await?.success().await;
        Ok(answer
            .with_context(|| format!("{method} {path}"))?
            .text()
            .await?)
    }

    /// Who is there, as a host says by gossip: addresses, and `alive`, `left` or `dead`.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn gossip(&self, host: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let port = if host.starts_with("master") {
            5050
        } else {
            5051
        };
        let url = format!("http://{}:{port}/net/v1/members", self.ip(host));
        let request = Request::get(url).body(String::new().into())?;
        let answer = self.client.send(request).await?.success().await?;
        let members: Vec<Value> = serde_json::from_str(&answer.text().await?)?;
        let said =
            |member: &Value, what: &str| member[what].as_str().unwrap_or_default().to_owned();
        let members = members.iter();
        Ok(members
            .map(|member| (said(member, "private_ip"), said(member, "presence")))
            .collect())
    }

    /// How many backends an agent has reached by trials of its own.
    ///
    /// # Errors
    /// It does not say.
    pub async fn reached_backends(&self, agent: &str) -> anyhow::Result<u64> {
        let metrics = "http://127.0.0.1:62080/v1/metrics/l4lb";
        let command = From::Host(agent.to_owned()).command(&["get", metrics])?;
        let said = tokio::process::Command::from(command).output().await?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let mut lines = said.lines();
        let reached = lines.find_map(|line| line.strip_prefix("reached_backends "));
        Ok(reached.context("it counts them")?.parse()?)
    }

    /// What a host has logged behind its first `read` bytes, which grow by it.
    pub fn logged(&self, host: &str, read: &mut usize) -> String {
        let log = self.directory.join(format!("{host}.log"));
        let all = std::fs::read(log).unwrap_or_default();
        let new = all.get(*read..).unwrap_or_default();
        // A line that is only half written has no end yet.
        let whole = new.iter().rposition(|byte| *byte == b'\n');
        let new = &new[..whole.map_or(0, |end| end + 1)];
        *read += new.len();
        String::from_utf8_lossy(new).into_owned()
    }

    /// Has Marathon run an app, through the router of a master, and waits until all of it is healthy there.
    ///
    /// # Errors
    /// It does not.
    pub async fn deploy(&self, router: &str, app: &Value) -> anyhow::Result<()> {
        let id = app["id"].as_str().context("an app has an id")?;
        let path = format!("/service/marathon/v2/apps{id}?force=true");
        eventually(&format!("{id} is taken"), || {
            self.send(router, "PUT", &path, Some(app))
        })
        .await?;
        let count = app["instances"].as_u64().unwrap_or(1);
        self.healthy(router, id, usize::try_from(count)?).await
    }

    /// Waits until so many instances of an app are healthy, and no others are there.
    ///
    /// # Errors
    /// They are not for long.
    pub async fn healthy(&self, router: &str, id: &str, count: usize) -> anyhow::Result<()> {
        let path = format!("/service/marathon/v2/apps{id}?embed=app.tasks");
        let healthy = || async {
            let app: Value = serde_json::from_str(&self.get(router, &path).await?)?;
            let app = &app["app"];
            let said = app["tasks"].as_array().map_or(0, Vec::len);
            let healthy = app["tasksHealthy"].as_u64();
            if said != count || healthy != u64::try_from(count).ok() {
                bail!("{said} tasks, {healthy:?} healthy");
            }
            Ok(())
        };
        eventually(&format!("{count} instances of {id}"), healthy).await
    }

    /// The servers of an app.
    pub fn servers(&self, app: &str) -> Vec<Server> {
        let prefix = format!("{app}.");
        let mut servers = talk::servers();
        servers.retain(|server| server.task.starts_with(&prefix));
        servers.sort_by(|one, two| one.host.cmp(&two.host));
        servers
    }

    /// Starts a client that talks on until it is killed.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn client(&self, name: &str, from: &From, words: &[&str]) -> anyhow::Result<Process> {
        Process::start(name, &self.directory, from.command(words)?)
    }

    /// The first program that ended, with its last words.
    pub fn ended(&mut self) -> Option<String> {
        let mut ended = self
            .machines
            .iter_mut()
            .filter_map(|machine| (!machine.is_running()).then_some(machine));
        let ended = ended.next()?;
        let process = ended.process.as_ref();
        let words = process.map(Process::last_words).unwrap_or_default();
        Some(format!("{} ended:\n{words}", ended.name))
    }
}

/// Tries something until it succeeds.
///
/// # Errors
/// Its last, if it does not for long.
pub async fn eventually<T, F: Future<Output = anyhow::Result<T>>>(
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let begin = Instant::now();
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) if begin.elapsed() > 2 * PATIENCE => {
                return Err(error.context(what.to_owned()));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// The key of all who gossip, which only its owner can read.
fn key(directory: &Path) -> anyhow::Result<PathBuf> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    let path = directory.join("gossip.key");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).mode(0o600).open(&path)?;
    writeln!(file, "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=")?;
    Ok(path)
}

/// All hosts ask the masters for names.
fn find_names(directory: &Path) -> anyhow::Result<()> {
    let file = directory.join("resolv.conf");
    std::fs::write(
        &file,
        "nameserver 10.99.0.1\nnameserver 10.99.0.2\noptions timeout:1 attempts:3\n",
    )?;
    let done = std::process::Command::new("mount")
        .arg("--bind")
        .arg(&file)
        .arg("/etc/resolv.conf")
        .status()?;
    anyhow::ensure!(done.success(), "mounting /etc/resolv.conf");
    Ok(())
}

fn master(programs: &Path, own: &Path, url: &str, ip: &str) -> Vec<String> {
    let (scheme, _) = url.split_once("://").unwrap_or_default();
    vec![
        programs.join("dcos-master").display().to_string(),
        format!("--work_dir={}", own.join("work").display()),
        format!("--{scheme}={url}"),
        format!("--ip={ip}"),
        format!("--hostname={ip}"),
        "--zk_session_timeout=2secs".to_owned(),
        "--quorum=1".to_owned(),
        "--agent_ping_timeout=1secs".to_owned(),
        "--max_agent_ping_timeouts=4".to_owned(),
        "--without=metronome".to_owned(),
        // As DC/OS has it, so that apps can be put on public agents.
        "--marathon_mesos_role=slave_public".to_owned(),
        "--overlay={}".to_owned(),
        "--dns_port=53".to_owned(),
        format!("--dns_resolvers={OUTSIDE}"),
        "--router_port=80".to_owned(),
        "--join_overlay".to_owned(),
        "--l4lb".to_owned(),
    ]
}

fn agent(
    programs: &Path,
    own: &Path,
    url: &str,
    ip: &str,
    cgroup: &str,
    public: bool,
) -> Vec<String> {
    let mut words = vec![
        programs.join("dcos-agent").display().to_string(),
        format!("--work_dir={}", own.join("work").display()),
        format!("--runtime_dir={}", own.join("run").display()),
        format!("--cgroups_root={cgroup}"),
        format!("--master={url}"),
        format!("--ip={ip}"),
        format!("--hostname={ip}"),
        "--resources=cpus:4;mem:2048;disk:1024;ports:[31000-32000]".to_owned(),
        "--overlay".to_owned(),
        "--l4lb".to_owned(),
        "--router_port=61001".to_owned(),
    ];
    if public {
        words.push("--default_role=slave_public".to_owned());
        words.push("--attributes=public_ip:true".to_owned());
    }
    words
}
