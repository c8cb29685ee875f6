//! [`Cluster`]: three masters and some agents, each on a host of its own.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use dcos_store::{Ensemble, LeadingMaster, masters};
use dcos_wire::{Client, ClientConfig, MediaType};
use serde_json::{Value, json};

use crate::{
    network::Network,
    probe::{self, Claim},
    process::{Process, command},
    servers::{Kind, Place, Servers},
};

/// Where masters listen.
pub const MASTER: u16 = 5050;

/// How long anything that has to happen may take: many times what it does.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Three masters on three servers of an ensemble, and agents.
#[derive(Debug)]
pub struct Cluster {
    /// The hosts.
    pub network: Network,
    /// Who leads, as clients see it.
    pub leading: LeadingMaster,
    /// Where masters meet.
    pub url: String,
    client: Client,
    /// Where all of its files are.
    pub directory: PathBuf,
    programs: PathBuf,
    session_timeout: Duration,
    masters: Vec<Node>,
    /// The agents.
    pub agents: Vec<Node>,
    probes: Vec<Process>,
    _servers: Servers,
}

/// A program on a host.
#[derive(Debug)]
pub struct Node {
    /// The host.
    pub place: Place,
    /// The program; killed ones are started again.
    pub process: Process,
}

impl Cluster {
    /// Starts all of it, with its files in `directory` and programs from `programs`.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn start(
        kind: Kind,
        agents: u8,
        session_timeout: Duration,
        programs: &Path,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let master_hosts = (1..=3).map(|number| (format!("master{number}"), number));
        let agent_hosts = (1..=agents).map(|number| (format!("agent{number}"), 10 + number));
        let hosts: Vec<_> = master_hosts.chain(agent_hosts).collect();
        let network = Network::new(&hosts)?;
        let places: Vec<Place> = hosts.iter().map(|(name, _)| network.host(name)).collect();
        let (master_places, agent_places) = places.split_at(3);
        let servers = Servers::start(kind, master_places, directory).await?;
        let url = servers.url("/mesos");
        let ensemble = Ensemble::parse(&url)?;
        let mut cluster = Self {
            network,
            leading: masters(&ensemble),
            url,
            client: Client::with_config(ClientConfig {
                answer_timeout: Duration::from_secs(5),
                ..ClientConfig::default()
            })?,
            programs: programs.to_owned(),
            directory: directory.to_owned(),
            session_timeout,
            masters: Vec::new(),
            agents: Vec::new(),
            probes: Vec::new(),
            _servers: servers,
        };
        for place in master_places {
            let process = cluster.start_master(place)?;
            cluster.masters.push(Node {
                place: place.clone(),
                process,
            });
            cluster.probes.push(probe::start(place, MASTER, directory)?);
        }
        for place in agent_places {
            let process = cluster.start_agent(place)?;
            cluster.agents.push(Node {
                place: place.clone(),
                process,
            });
        }
        Ok(cluster)
    }

    fn start_master(&self, place: &Place) -> anyhow::Result<Process> {
        let name = place.host.clone().context("masters are on hosts")?;
        let mut master = command(Some(&name), self.programs.join("dcos-master"));
        let (scheme, _) = self.url.split_once("://").context("a URL")?;
        master
            .arg(format!(
                "--work_dir={}",
                self.directory.join(&name).display()
            ))
            .arg(format!("--{scheme}={}", self.url))
            .arg(format!(
                "--zk_session_timeout={}ms",
                self.session_timeout.as_millis()
            ))
            .arg(format!("--ip={}", place.ip))
            .arg(format!("--hostname={}", place.ip))
            .arg(format!("--port={MASTER}"))
            .args(["--quorum=2", "--only=master", "--agent_ping_timeout=1secs"])
            .arg("--max_agent_ping_timeouts=4");
        Process::start(&name, &self.directory, master)
    }

    fn start_agent(&self, place: &Place) -> anyhow::Result<Process> {
        let name = place.host.clone().context("agents are on hosts")?;
        let directory = self.directory.join(&name);
        let mut agent = command(Some(&name), self.programs.join("dcos-agent"));
        agent
            .arg(format!("--master={}", self.url))
            .arg(format!("--work_dir={}", directory.display()))
            .arg(format!("--runtime_dir={}", directory.join("run").display()))
            .arg(format!("--ip={}", place.ip))
            .arg(format!("--hostname={}", place.ip))
            .args([
                "--port=5051",
                "--launcher=posix",
                "--isolation=posix/cpu,posix/mem",
            ])
            .args(["--resources=cpus:8;mem:2048;disk:1024;ports:[31000-32000]"]);
        Process::start(&name, &self.directory, agent)
    }

    /// The present leader's number, once there is one other than the one with the id `not`.
    ///
    /// # Errors
    /// Nobody is elected for long.
    pub async fn leader(&mut self, not: Option<&str>) -> anyhow::Result<(usize, String)> {
        let mut leading = self.leading.clone();
        let elected = leading.wait_for(|leader| {
            leader
                .as_ref()
                .is_some_and(|leader| Some(leader.id.as_str()) != not)
        });
        let elected = tokio::time::timeout(PATIENCE, elected).await;
        let leader = elected.context("no master was elected")??.clone();
        let leader = leader.context("somebody leads")?;
        let ip = leader.hostname.clone().unwrap_or_default();
        let number = self
            .masters
            .iter()
            .position(|master| master.place.ip.to_string() == ip);
        Ok((
            number.context("the leader is one of ours")?,
            leader.id.clone(),
        ))
    }

    /// Sends a call of the operator API to the leader, and again until a leader answers.
    ///
    /// # Errors
    /// It is refused, or nobody answers for long.
    pub async fn call(&mut self, call: &Value) -> anyhow::Result<Value> {
        let begin = Instant::now();
        loop {
            let (number, _) = self.leader(None).await?;
            let url = format!("http://{}:{MASTER}/api/v1", self.masters[number].place.ip);
            let said = match self.client.post_json(&url, call).await {
                Ok(answer) if answer.status().is_success() => {
                    let text = answer.text().await?;
                    if text.is_empty() {
                        return Ok(Value::Null);
                    }
                    return Ok(serde_json::from_str(&text)?);
                }
                Ok(answer) if answer.status().is_client_error() => {
                    bail!("{call}: {}", answer.text().await?);
                }
                Ok(answer) => answer.status().to_string(),
                Err(error) => error.to_string(),
            };
            ensure!(begin.elapsed() < PATIENCE, "{call} got no answer: {said}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A call that asks for something.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn get(&mut self, what: &str) -> anyhow::Result<Value> {
        self.call(&json!({"type": what})).await
    }

    /// Subscribes a framework, goes away at once, and returns its id.
    ///
    /// # Errors
    /// It is refused.
    pub async fn subscribe_once(&mut self, name: &str, timeout: f64) -> anyhow::Result<String> {
        let (number, _) = self.leader(None).await?;
        let place = &self.masters[number].place;
        let url = format!("http://{}:{MASTER}/api/v1/scheduler", place.ip);
        let info = json!({"user": "root", "name": name, "failover_timeout": timeout});
        let call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}});
        let media = MediaType::Json.header();
        let answer = self.client.post(&url, media, call.to_string()).await?;
        let mut events = answer.success().await?.records(1 << 20);
        let first = events.next().await?.context("an event")?;
        let first: Value = serde_json::from_slice(&first)?;
        let id = first["subscribed"]["framework_id"]["value"].as_str();
        Ok(id.context("SUBSCRIBED has the id")?.to_owned())
    }

    /// Kills the leader and waits for the next one; the old one is started again.
    ///
    /// # Errors
    /// Nobody is elected, or the old one does not stand by.
    pub async fn replace_leader(&mut self) -> anyhow::Result<()> {
        let (number, id) = self.leader(None).await?;
        self.kill_master(number);
        let next = self.leader(Some(&id)).await;
        self.restart_master(number)?;
        next.context("electing the next leader")?;
        self.stands_back(number, &id).await
    }

    /// A master by its number.
    pub fn master(&mut self, number: usize) -> &mut Node {
        &mut self.masters[number]
    }

    /// Kills a master.
    pub fn kill_master(&mut self, number: usize) {
        self.masters[number].process.kill();
    }

    /// Starts a master that was killed.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart_master(&mut self, number: usize) -> anyhow::Result<()> {
        let place = self.masters[number].place.clone();
        self.masters[number].process = self.start_master(&place)?;
        Ok(())
    }

    /// Waits until a master knows that it is the leader `id` no more: it redirects to another one, or leads under a new
    /// id, because that one has lost its office, too.
    ///
    /// # Errors
    /// It does not for long.
    pub async fn stands_back(&mut self, number: usize, id: &str) -> anyhow::Result<()> {
        let address = format!("{}:{MASTER}", self.masters[number].place.ip);
        let begin = Instant::now();
        let client = Client::with_config(ClientConfig {
            answer_timeout: Duration::from_secs(2),
            max_redirects: 0,
            ..ClientConfig::default()
        })?;
        loop {
            let answer = client.get(&format!("http://{address}/state")).await;
            match answer {
                Err(dcos_wire::ClientError::Redirects { url, .. })
                    if url.authority().is_some_and(|to| *to != address.as_str()) =>
                {
                    return Ok(());
                }
                Ok(answer) if answer.status().is_success() => {
                    let state = answer.text().await.unwrap_or_default();
                    let state: Value = serde_json::from_str(&state).unwrap_or_default();
                    if state["id"].as_str().is_some_and(|now| now != id) {
                        return Ok(());
                    }
                }
                _ => {}
            }
            let process = &mut self.masters[number].process;
            if begin.elapsed() > PATIENCE || !process.is_running() {
                bail!(
                    "{} does not stand by:\n{}",
                    process.name,
                    process.last_words()
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The first program that ended, with its last words.
    pub fn ended(&mut self) -> Option<String> {
        for node in self.masters.iter_mut().chain(&mut self.agents) {
            if !node.process.is_running() {
                let (name, words) = (&node.process.name, node.process.last_words());
                return Some(format!("{name} ended:\n{words}"));
            }
        }
        None
    }

    /// Everything masters claimed so far.
    pub fn claims(&self) -> Vec<Claim> {
        self.probes.iter().flat_map(probe::claims).collect()
    }
}
