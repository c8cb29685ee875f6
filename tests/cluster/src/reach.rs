//! The drill of the network: who reaches whom, and what must go on while hosts die, are cut off and come back.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use crate::{
    cluster::PATIENCE,
    drill::{Report, say, told},
    probe::clock,
    process::Process,
    servers::Kind,
    site::{Site, eventually},
    talk::{self, From, Heard, Over},
};

mod silent;

/// The virtual addresses, by name.
const WEB: &str = "web.marathon.l4lb.thisdcos.directory:80";
const NODES: &str = "nodes.marathon.l4lb.thisdcos.directory:81";
const LONELY: &str = "lonely.marathon.l4lb.thisdcos.directory:80";
const LATE: &str = "late.marathon.l4lb.thisdcos.directory:80";
/// What is checked after each fault.
const HEALTHY_IN_USE: &str = "    no healthy backend was avoided";
/// For so long nothing may be sent to a dead backend, so that it counts as left alone.
const QUIET: Duration = Duration::from_secs(3);

/// Something that talks all the time.
#[derive(Debug)]
struct Client {
    /// The host it is on.
    host: &'static str,
    what: Talk,
    process: Process,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Talk {
    /// On one connection.
    Stream,
    /// On new ones all the time.
    Knock(Over),
}

impl Client {
    fn heard(&self) -> Vec<Heard> {
        talk::heard(&self.process.log)
    }
}

/// The cluster, and who talks in it.
struct Drill {
    site: Site,
    clients: Vec<Client>,
    /// The parts of the overlays by the agents' addresses.
    members: BTreeMap<String, Value>,
    /// How much of each host's log was read.
    read: BTreeMap<&'static str, usize>,
}

/// Runs the drill, with its files in `directory`.
///
/// # Errors
/// The cluster does not start; what goes wrong later is in the report.
pub async fn run(
    kind: Kind,
    programs: &Path,
    directory: &Path,
    report: &mut Report,
) -> anyhow::Result<()> {
    say(&format!(
        "-- six hosts on {kind:?}: two masters, three agents, a public one"
    ));
    let begin = Instant::now();
    let site = Site::start(kind, programs, directory).await?;
    let mut drill = Drill {
        site,
        clients: Vec::new(),
        members: BTreeMap::new(),
        read: BTreeMap::new(),
    };
    let (leader, standby) = drill.site.leader(None).await?;
    drill.members = drill
        .members(standby, Site::hosts().count())
        .await
        .context("all hosts join the overlays")?;
    say(&format!(
        "all hosts are up after {:.1} s",
        begin.elapsed().as_secs_f64()
    ));
    drill.deploy(standby).await?;
    say(&format!(
        "apps run after {:.1} s",
        begin.elapsed().as_secs_f64()
    ));

    report.check(
        "containers of all hosts talk by the addresses they have",
        drill.by_address().await,
    );
    report.check("no two containers have the same address", drill.addresses());
    report.check(
        "every name leads to all that are behind it, by TCP and UDP, from hosts and containers",
        drill.by_name().await,
    );
    report.check(
        "a container reaches itself by its own name",
        drill.hairpin().await,
    );
    report.check(
        "both masters' routers lead to services",
        drill.doors(&[leader, standby]).await,
    );

    report.check(
        "every host knows all others by gossip",
        drill.gossip_says(&[]).await,
    );

    drill.start_clients().await?;
    let healthy = |result: anyhow::Result<String>| result.map_err(|error| format!("{error:#}"));
    let since = clock();
    let outcome = drill.changes_elsewhere(standby).await;
    report.check("other services come, grow and go", told(outcome));
    report.check(
        "    nobody who talks notices",
        drill.undisturbed(since, &[]).await,
    );
    report.check(HEALTHY_IN_USE, drill.avoided(&[]));

    let since = clock();
    let outcome = drill.leader_dies(leader, standby).await;
    report.check(
        "the leading master's host dies: the other leads, services come",
        healthy(outcome),
    );
    report.check(
        "    nobody who talks notices",
        drill.undisturbed(since, &[]).await,
    );
    let since = clock();
    let outcome = drill.master_returns(leader, standby).await;
    report.check(
        "it comes back, and its router leads to services",
        told(outcome),
    );
    report.check(
        "    nobody who talks notices",
        drill.undisturbed(since, &[]).await,
    );
    report.check(HEALTHY_IN_USE, drill.avoided(&[leader]));

    let since = clock();
    let outcome = drill.agent_dies("agent2").await;
    report.check(
        "an agent's host dies: its backend is left alone",
        healthy(outcome),
    );
    report.check(
        "    streams to others go on",
        drill.streams(since, &["agent2"]).await,
    );
    report.check(
        "    no two containers have the same address",
        drill.addresses(),
    );
    report.check(
        "    every other host knows by gossip that it is dead",
        drill.gossip_says(&["agent2"]).await,
    );
    let outcome = drill.agent_returns(standby, "agent2").await;
    report.check(
        "it comes back with the networks it had, and runs tasks",
        told(outcome),
    );
    report.check("    everybody who talks is answered", drill.settled().await);
    report.check(
        "    no two containers have the same address",
        drill.addresses(),
    );
    report.check(
        "    containers of all hosts talk by the addresses they have",
        drill.by_address().await,
    );
    report.check(HEALTHY_IN_USE, drill.avoided(&["agent2"]));

    let since = clock();
    let outcome = drill.cut_off(standby, "agent3").await;
    report.check(
        "an agent is cut off until it counts as unreachable: its backend is left alone",
        healthy(outcome),
    );
    report.check(
        "    streams to others go on",
        drill.streams(since, &["agent2", "agent3"]).await,
    );
    report.check("    everybody who talks is answered", drill.settled().await);
    report.check(
        "    no two containers have the same address",
        drill.addresses(),
    );
    report.check(HEALTHY_IN_USE, drill.avoided(&["agent3"]));

    let outcome = drill.parted(leader, standby, "agent1").await;
    report.check(
        "an agent is parted from the masters alone: its streams and its services go on",
        healthy(outcome),
    );
    report.check("    everybody who talks is answered", drill.settled().await);
    report.check(
        "    every name leads to all that are behind it",
        drill.by_name().await,
    );
    report.check(
        "    no two containers have the same address",
        drill.addresses(),
    );
    report.check(HEALTHY_IN_USE, drill.avoided(&["agent1"]));
    let outcome = drill.silent_deaths(standby, report).await;
    report.check("the app that was for that ends", told(outcome));
    report.check("    everybody who talks is answered", drill.settled().await);
    let outcome = drill.masters_die([leader, standby], "agent2").await;
    report.check(
        "both masters' hosts die, and then an agent's: its backend is left alone",
        healthy(outcome),
    );
    let outcome = drill
        .all_return(standby, &[leader, standby, "agent2"])
        .await;
    report.check("they come back, with the networks they had", told(outcome));
    report.check("    everybody who talks is answered", drill.settled().await);
    report.check(
        "    every host knows all others by gossip",
        drill.gossip_says(&[]).await,
    );
    report.check(
        "    every name leads to all that are behind it",
        drill.by_name().await,
    );
    report.check(HEALTHY_IN_USE, drill.avoided(&[leader, standby, "agent2"]));
    report.check(
        "every program still runs",
        drill.site.ended().map_or(Ok(String::new()), Err),
    );
    Ok(())
}

/// An app of servers; `more` is put over it.
fn app(id: &str, instances: u32, more: &Value) -> anyhow::Result<Value> {
    let program = std::env::current_exe()?;
    let program = program.display();
    let mut app = json!({
        "id": id, "instances": instances, "cpus": 0.05, "mem": 32,
        "cmd": format!("exec {program} serve 0.0.0.0 80 $HOST"),
        "container": {"type": "MESOS", "portMappings": [
            {"containerPort": 80, "protocol": "udp,tcp", "name": "all", "labels": {"VIP_0": format!("{id}:80")}}
        ]},
        "networks": [{"mode": "container", "name": "dcos"}],
        "constraints": [["hostname", "UNIQUE"]],
        "acceptedResourceRoles": ["*"],
        "backoffSeconds": 1, "maxLaunchDelaySeconds": 2,
        "healthChecks": [{"protocol": "MESOS_HTTP", "path": "/", "portIndex": 0, "intervalSeconds": 1, "delaySeconds": 0,
            "timeoutSeconds": 10, "gracePeriodSeconds": 60, "maxConsecutiveFailures": 30}],
    });
    let app_of = app.as_object_mut().context("it is an object")?;
    for (key, value) in more.as_object().into_iter().flatten() {
        if value.is_null() {
            app_of.remove(key);
        } else {
            app_of.insert(key.clone(), value.clone());
        }
    }
    Ok(app)
}

/// `Err` as the report wants it.
fn failed(result: anyhow::Result<String>) -> Result<String, String> {
    result.map_err(|error| format!("{error:#}"))
}

impl Drill {
    /// The parts of the overlays by the agents' addresses, once so many have them.
    async fn members(&self, router: &str, count: usize) -> anyhow::Result<BTreeMap<String, Value>> {
        let asked = || async {
            let state: Value =
                serde_json::from_str(&self.site.get(router, "/mesos/overlay-master/state").await?)?;
            let agents = state["agents"].as_array().context("there are agents")?;
            let fine = agents.iter().filter(|agent| {
                let overlays = agent["overlays"].as_array();
                overlays
                    .is_some_and(|all| all.iter().all(|one| one["state"]["status"] == "STATUS_OK"))
            });
            let known: BTreeMap<String, Value> = fine
                .map(|agent| {
                    let parts = agent["overlays"].as_array().into_iter().flatten();
                    let parts: Vec<&Value> = parts.map(|part| &part["subnet"]).collect();
                    (
                        agent["ip"].as_str().unwrap_or_default().to_owned(),
                        json!(parts),
                    )
                })
                .collect();
            ensure!(
                known.len() == count,
                "{} agents are fine in {state}",
                known.len()
            );
            Ok(known)
        };
        eventually("every agent has its part of the overlays", asked).await
    }

    async fn deploy(&self, router: &str) -> anyhow::Result<()> {
        let program = std::env::current_exe()?;
        let public = json!({"acceptedResourceRoles": ["slave_public"]});
        let of_hosts = json!({
            "cmd": format!("exec {} serve $HOST $PORT0 $HOST", program.display()),
            "container": null, "networks": [{"mode": "host"}],
            "portDefinitions": [{"port": 0, "protocol": "udp,tcp", "name": "all", "labels": {"VIP_0": "/nodes:81"}}],
            "labels": {"DCOS_SERVICE_NAME": "nodes", "DCOS_SERVICE_PORT_INDEX": "0", "DCOS_SERVICE_SCHEME": "http"},
        });
        let in_overlay = json!({
            "labels": {"DCOS_SERVICE_NAME": "web", "DCOS_SERVICE_PORT_INDEX": "0", "DCOS_SERVICE_SCHEME": "http"},
        });
        for app in [
            app("/web", 3, &in_overlay)?,
            app("/nodes", 3, &of_hosts)?,
            app("/lonely", 1, &json!({}))?,
            app("/edge", 1, &public)?,
        ] {
            self.site.deploy(router, &app).await?;
        }
        Ok(())
    }

    /// Every place from which somebody may talk: all hosts, and the containers of these apps.
    fn places(&self, apps: &[&str]) -> Vec<(String, From)> {
        let hosts = Site::hosts().map(|name| (name.to_owned(), From::Host(name.to_owned())));
        let servers = apps.iter().flat_map(|app| self.site.servers(app));
        let containers = servers.map(|server| {
            (
                format!("{} on {}", server.task, server.host),
                From::Container(server.pid),
            )
        });
        hosts.chain(containers).collect()
    }

    /// Each place asks each container by its own address.
    async fn by_address(&self) -> Result<String, String> {
        let asked = async {
            let mut count = 0;
            for server in self
                .site
                .servers("web")
                .iter()
                .chain(&self.site.servers("edge"))
            {
                for address in addresses(server.pid)? {
                    for (place, from) in self.places(&["web", "edge"]) {
                        for over in [Over::Tcp, Over::Udp] {
                            let answer = from.ask(over, &format!("{address}:80")).await;
                            let answer = answer.with_context(|| {
                                format!("{place} asks {} at {address}", server.task)
                            })?;
                            ensure!(
                                answer == server.host,
                                "{place} asks {} and is answered by {answer}",
                                server.host
                            );
                            count += 1;
                        }
                    }
                }
            }
            ensure!(count > 0, "there are no containers");
            Ok(format!(" ({count} times)"))
        };
        failed(asked.await)
    }

    /// Each place asks each virtual address until all backends have answered; each must be answered.
    async fn by_name(&self) -> Result<String, String> {
        let asked = async {
            let mut count = 0;
            for (place, from) in self.places(&["web", "edge"]) {
                for (name, app) in [(WEB, "web"), (NODES, "nodes")] {
                    let backends: BTreeSet<String> = self
                        .site
                        .servers(app)
                        .into_iter()
                        .map(|server| server.host)
                        .collect();
                    ensure!(backends.len() == 3, "{app} has only {backends:?}");
                    for over in [Over::Tcp, Over::Udp] {
                        let mut seen = BTreeSet::new();
                        for _ in 0..200 {
                            let answer = from.ask(over, name).await;
                            seen.insert(
                                answer
                                    .with_context(|| format!("{place} asks {name} by {over:?}"))?,
                            );
                            count += 1;
                            if seen == backends {
                                break;
                            }
                        }
                        ensure!(
                            seen == backends,
                            "{place} asks {name} by {over:?}: {seen:?} answer of {backends:?}"
                        );
                    }
                }
            }
            Ok(format!(" ({count} times)"))
        };
        failed(asked.await)
    }

    /// The only backend of a name asks itself.
    async fn hairpin(&self) -> Result<String, String> {
        let asked = async {
            let servers = self.site.servers("lonely");
            let [server] = servers.as_slice() else {
                bail!("{servers:?}")
            };
            for over in [Over::Tcp, Over::Udp] {
                for _ in 0..5 {
                    let answer = From::Container(server.pid).ask(over, LONELY).await?;
                    ensure!(answer == server.host, "{answer} answers");
                }
            }
            Ok(String::new())
        };
        failed(asked.await)
    }

    async fn doors(&self, routers: &[&str]) -> Result<String, String> {
        let asked = async {
            for router in routers {
                self.door(router).await?;
            }
            Ok(String::new())
        };
        failed(asked.await)
    }

    /// A router leads to services on hosts and in overlays, to what the node tells of its network, to Marathon, to the master and to agents.
    async fn door(&self, router: &str) -> anyhow::Result<()> {
        let asked = || async {
            for service in ["nodes", "web"] {
                let path = format!("/service/{service}/");
                let answer = self.site.get(router, &path).await?;
                ensure!(answer.starts_with("10.99.0."), "{path}: {answer}");
            }
            let vips = self.site.get(router, "/net/v1/vips").await?;
            ensure!(vips.contains("web.marathon.l4lb"), "{vips}");
            self.site.get(router, "/service/marathon/v2/info").await?;
            let agents: Value =
                serde_json::from_str(&self.site.get(router, "/mesos/slaves").await?)?;
            let agent = agents["slaves"][0]["id"]
                .as_str()
                .context("there is an agent")?;
            self.site
                .get(router, &format!("/agent/{agent}/version"))
                .await?;
            Ok(())
        };
        eventually(&format!("the router of {router}"), asked).await
    }

    /// No address is that of two containers.
    fn addresses(&self) -> Result<String, String> {
        let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for server in ["web", "edge", "lonely", "late", "other"]
            .iter()
            .flat_map(|app| self.site.servers(app))
        {
            // One that ends just now has none any more.
            for address in addresses(server.pid).unwrap_or_default() {
                owners
                    .entry(address)
                    .or_default()
                    .insert(server.network.clone());
            }
        }
        match owners.iter().find(|(_, owners)| owners.len() > 1) {
            Some(twice) => Err(format!("{twice:?}")),
            None if owners.len() < 4 => Err(format!("there are only {owners:?}")),
            None => Ok(format!(" ({} addresses)", owners.len())),
        }
    }

    /// Streams and knocks from hosts and containers that no fault befalls.
    async fn start_clients(&mut self) -> anyhow::Result<()> {
        let on = |host: &str| From::Host(host.to_owned());
        let (edge, web) = (
            self.container("edge", "public1")?,
            self.container("web", "agent1")?,
        );
        // So many that some go to each backend.
        for number in 0..4 {
            self.add_client("public1", &edge, WEB, Talk::Stream, number)?;
            self.add_client("agent1", &on("agent1"), WEB, Talk::Stream, number)?;
            self.add_client("agent1", &web, NODES, Talk::Stream, number)?;
        }
        let (tcp, udp) = (Talk::Knock(Over::Tcp), Talk::Knock(Over::Udp));
        self.add_client("public1", &edge, WEB, tcp, 0)?;
        self.add_client("public1", &on("public1"), WEB, udp, 1)?;
        self.add_client("agent1", &on("agent1"), WEB, tcp, 0)?;
        self.answered(clock()).await
    }

    /// The container of an app on a host.
    fn container(&self, app: &str, host: &str) -> anyhow::Result<From> {
        let ip = self.site.ip(host);
        let mut servers = self.site.servers(app).into_iter();
        let server = servers.find(|server| server.host == ip);
        let server = server.with_context(|| format!("{app} runs on {host}"))?;
        Ok(From::Container(server.pid))
    }

    /// Has somebody talk from now on.
    fn add_client(
        &mut self,
        host: &'static str,
        from: &From,
        to: &'static str,
        what: Talk,
        number: u32,
    ) -> anyhow::Result<()> {
        let kind = if matches!(from, From::Host(_)) {
            "host"
        } else {
            "container"
        };
        let name = format!("{what:?}-{host}-{kind}-{number}").replace(['(', ')'], "-");
        let words = match what {
            Talk::Stream => vec!["stream", to],
            Talk::Knock(over) => vec!["knock", over.word(), to],
        };
        let process = self.site.client(&name, from, &words)?;
        self.clients.push(Client {
            host,
            what,
            process,
        });
        Ok(())
    }

    /// Waits until everybody has been answered after `since`.
    async fn answered(&self, since: u64) -> anyhow::Result<()> {
        let asked = || async {
            match self.unanswered(since) {
                None => Ok(()),
                Some(who) => bail!("{who}"),
            }
        };
        eventually("everybody is answered", asked).await
    }

    /// Somebody who has not been answered after `since`, and what was heard last.
    fn unanswered(&self, since: u64) -> Option<String> {
        self.clients.iter().find_map(|client| {
            let heard = client.heard();
            let answered = heard.iter().rev().find(|heard| heard.by.is_ok());
            let last = answered.map_or(0, |heard| heard.asked);
            (last <= since).then(|| format!("{}: {:?}", client.process.name, heard.last()))
        })
    }

    /// Nobody who talks was refused or not answered since then, and all are answered now; but streams whose other end
    /// is on one of `dead`.
    async fn undisturbed(&self, since: u64, dead: &[&str]) -> Result<String, String> {
        let streams = self.streams(since, dead).await?;
        let knocks = self
            .clients
            .iter()
            .filter(|client| client.what != Talk::Stream);
        let mut count = 0;
        for client in knocks {
            let heard = client.heard();
            let after: Vec<&Heard> = heard.iter().filter(|heard| heard.asked >= since).collect();
            count += after.len();
            let failed: Vec<_> = after.iter().filter(|heard| heard.by.is_err()).collect();
            if !failed.is_empty() {
                let name = &client.process.name;
                return Err(format!(
                    "{name}: {} of {} failed: {:?}",
                    failed.len(),
                    after.len(),
                    failed[0]
                ));
            }
            if after.is_empty() {
                return Err(format!("{} says nothing", client.process.name));
            }
        }
        Ok(format!("{streams} and {count} new connections"))
    }

    /// All streams go on, but those whose other end was on one of `dead`.
    async fn streams(&self, since: u64, dead: &[&str]) -> Result<String, String> {
        let dead: Vec<String> = dead.iter().map(|host| self.site.ip(host)).collect();
        let mut count = 0;
        let mut longest = 0;
        let now = clock();
        for client in self
            .clients
            .iter()
            .filter(|client| client.what == Talk::Stream)
        {
            let name = &client.process.name;
            let first = client.heard().into_iter().find_map(|heard| heard.by.ok());
            let Some(peer) = first else {
                return Err(format!("{name} never began"));
            };
            if dead.contains(&peer) {
                continue;
            }
            let goes_on = || async {
                let heard = client.heard();
                if let Some(Heard { by: Err(why), .. }) = heard.last() {
                    return Ok(Some(why.clone()));
                }
                ensure!(
                    heard.last().is_some_and(|heard| heard.asked > now),
                    "no word since: {:?}",
                    heard.last()
                );
                Ok(None)
            };
            match eventually("words come back", goes_on).await {
                Ok(None) => {}
                Ok(Some(why)) => return Err(format!("{name} to {peer}: {why}")),
                Err(error) => return Err(format!("{name} to {peer}: {error:#}")),
            }
            let heard = client.heard();
            let pairs = heard.windows(2).filter(|pair| pair[1].asked >= since);
            longest = longest.max(
                pairs
                    .map(|pair| pair[1].asked - pair[0].asked)
                    .max()
                    .unwrap_or(0),
            );
            count += 1;
        }
        if count == 0 {
            return Err("no stream is left".to_owned());
        }
        let longest = longest / 1_000_000;
        Ok(format!(
            " ({count} streams, the longest pause {longest} ms)"
        ))
    }

    /// Whoever knocks is answered, each time for a while; streams that end because their other end did begin anew.
    async fn settled(&mut self) -> Result<String, String> {
        let settled = async {
            self.quiet(clock(), None).await?;
            let (since, begin) = (clock(), Instant::now());
            loop {
                self.restart_streams()?;
                match self.unanswered(since) {
                    None => return Ok(String::new()),
                    Some(who) => ensure!(begin.elapsed() < PATIENCE, "{who}"),
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        failed(settled.await)
    }

    /// Streams that ended begin anew.
    fn restart_streams(&mut self) -> anyhow::Result<()> {
        for index in 0..self.clients.len() {
            let client = &self.clients[index];
            let ended = client.heard().last().is_some_and(|heard| heard.by.is_err());
            if client.what != Talk::Stream || !ended {
                continue;
            }
            let (host, name) = (client.host, format!("{}+", client.process.name));
            let from = From::Host(host.to_owned());
            self.clients[index].process = self.site.client(&name, &from, &["stream", WEB])?;
        }
        Ok(())
    }

    /// Waits until all who knock have been answered each time for [`QUIET`], and never by `dead`. Returns when the last
    /// one that failed since then was begun, and how many did.
    async fn quiet(&self, since: u64, dead: Option<&str>) -> anyhow::Result<(Option<u64>, usize)> {
        let dead = dead.map(|host| self.site.ip(host));
        let quiet = u64::try_from(QUIET.as_nanos())?;
        let asked = || async {
            let (mut last, mut count) = (None, 0);
            for client in self
                .clients
                .iter()
                .filter(|client| client.what != Talk::Stream)
            {
                let heard = client.heard();
                let after = heard.iter().filter(|heard| heard.asked >= since);
                let wrong = after.filter(|heard| match &heard.by {
                    Err(_) => true,
                    Ok(by) => Some(by) == dead.as_ref(),
                });
                for heard in wrong {
                    last = last.max(Some(heard.asked));
                    count += 1;
                }
                // Those that hang still may fail later; what was begun before is known by then.
                let known = heard.iter().map(|heard| heard.asked).max().unwrap_or(0);
                let name = &client.process.name;
                ensure!(
                    known > last.unwrap_or(since) + quiet,
                    "{name} is not answered each time: {:?}",
                    heard.last()
                );
            }
            Ok((last, count))
        };
        eventually("everybody who knocks is answered", asked).await
    }

    async fn changes_elsewhere(&self, router: &str) -> anyhow::Result<()> {
        for instances in [1, 3, 2] {
            let other = app("/other", instances, &json!({}))?;
            self.site.deploy(router, &other).await?;
        }
        // Behind the same name, too.
        self.remove(router, "other").await
    }

    async fn remove(&self, router: &str, app: &str) -> anyhow::Result<()> {
        let path = format!("/service/marathon/v2/apps/{app}?force=true");
        self.site.send(router, "DELETE", &path, None).await?;
        let gone = || async {
            ensure!(self.site.servers(app).is_empty(), "it still runs");
            Ok(())
        };
        eventually("an app is gone", gone).await
    }

    async fn leader_dies(
        &mut self,
        leader: &'static str,
        standby: &'static str,
    ) -> anyhow::Result<String> {
        let begin = Instant::now();
        self.site.power_off(leader)?;
        let (now, _) = self.site.leader(Some(leader)).await?;
        ensure!(now == standby, "{now} leads");
        let elected = begin.elapsed();
        self.site
            .deploy(standby, &app("/late", 2, &json!({}))?)
            .await?;
        let served = begin.elapsed();
        let places = self.places(&["edge"]).into_iter();
        for (place, from) in places.filter(|(place, _)| place != leader) {
            let asked = eventually("a new name", || from.ask(Over::Tcp, LATE)).await;
            asked.with_context(|| format!("{place} asks {LATE}"))?;
        }
        self.door(standby).await?;
        let (elected, served) = (elected.as_secs_f64(), served.as_secs_f64());
        Ok(format!(
            "; elected after {elected:.1} s, an app is healthy after {served:.1} s"
        ))
    }

    async fn master_returns(&mut self, name: &str, leader: &str) -> anyhow::Result<()> {
        self.site.power_on(name)?;
        self.door(name).await?;
        self.door(leader).await
    }

    /// How long after its death backends on a host were still sent to.
    async fn left_alone(&self, death: u64, host: &str) -> anyhow::Result<String> {
        let (last, count) = self.quiet(death, Some(host)).await?;
        let Some(last) = last else {
            return Ok("; nothing was sent to it after its death".to_owned());
        };
        let after = Duration::from_nanos(last - death).as_secs_f64();
        Ok(format!(
            "; the last of {count} connections to it was begun {after:.2} s after its death"
        ))
    }

    /// Every host but those that are dead says by gossip that these are, and that all others are alive.
    async fn gossip_says(&self, dead: &[&str]) -> Result<String, String> {
        let begin = Instant::now();
        let wanted: BTreeMap<String, String> = Site::hosts()
            .map(|name| {
                let presence = if dead.contains(&name) {
                    "dead"
                } else {
                    "alive"
                };
                (self.site.ip(name), presence.to_owned())
            })
            .collect();
        let said = async {
            for host in Site::hosts().filter(|host| !dead.contains(host)) {
                let asked = || async {
                    let said = self.site.gossip(host).await?;
                    ensure!(said == wanted, "{host} says {said:?}");
                    Ok(())
                };
                eventually("gossip", asked).await?;
            }
            Ok(format!(" (after {:.1} s)", begin.elapsed().as_secs_f64()))
        };
        failed(said.await)
    }

    /// Only gossip can tell of a backend's host that dies while there is no master.
    async fn masters_die(&mut self, masters: [&str; 2], host: &str) -> anyhow::Result<String> {
        let since = clock();
        for master in masters {
            self.site.power_off(master)?;
        }
        let talks = self.undisturbed(since, &[]).await;
        talks.map_err(|why| anyhow::anyhow!("without masters: {why}"))?;
        let said = self.agent_dies(host).await?;
        let dead = [masters[0], masters[1], host];
        let known = self.gossip_says(&dead).await;
        known.map_err(|why| anyhow::anyhow!("{why}"))?;
        Ok(said)
    }

    async fn all_return(&mut self, router: &str, hosts: &[&str]) -> anyhow::Result<()> {
        for host in hosts {
            self.site.power_on(host)?;
        }
        self.same_members(router).await?;
        for (app, count) in [("/web", 3), ("/nodes", 3), ("/lonely", 1), ("/late", 2)] {
            self.site.healthy(router, app, count).await?;
        }
        Ok(())
    }

    async fn agent_dies(&mut self, host: &str) -> anyhow::Result<String> {
        let death = clock();
        self.site.power_off(host)?;
        let said = self.left_alone(death, host).await?;
        say(&format!("        from the death of a backend's host{said}"));
        Ok(said)
    }

    async fn agent_returns(&mut self, router: &str, host: &str) -> anyhow::Result<()> {
        self.site.power_on(host)?;
        self.same_members(router).await?;
        for (app, count) in [("/web", 3), ("/nodes", 3), ("/lonely", 1), ("/late", 2)] {
            self.site.healthy(router, app, count).await?;
        }
        Ok(())
    }

    /// Every agent has the networks it had.
    async fn same_members(&self, router: &str) -> anyhow::Result<()> {
        let members = &self.members;
        let now = self.members(router, members.len()).await?;
        ensure!(now == *members, "{now:?} instead of {members:?}");
        Ok(())
    }

    async fn cut_off(&mut self, router: &str, host: &str) -> anyhow::Result<String> {
        let begin = clock();
        self.site.network.cut(host)?;
        let left = self.left_alone(begin, host).await;
        let gone = self.unreachable(router, host).await;
        self.site.network.mend(host)?;
        gone?;
        self.same_members(router).await?;
        for (app, count) in [("/web", 3), ("/nodes", 3)] {
            self.site.healthy(router, app, count).await?;
        }
        left
    }

    /// Waits until a master counts an agent as unreachable, which gossip may know before.
    async fn unreachable(&self, router: &str, host: &str) -> anyhow::Result<()> {
        let ip = self.site.ip(host);
        let gone = || async {
            let agents: Value =
                serde_json::from_str(&self.site.get(router, "/mesos/slaves").await?)?;
            let active = agents["slaves"].as_array().into_iter().flatten();
            let active = active.filter(|agent| agent["active"] == true && agent["hostname"] == *ip);
            ensure!(active.count() == 0, "it is still there");
            Ok(())
        };
        eventually("the agent counts as unreachable", gone).await
    }

    /// An agent loses its masters for longer than they wait, and nothing else: whoever talks to it or from it goes on.
    async fn parted(&mut self, one: &str, other: &str, host: &str) -> anyhow::Result<String> {
        let since = clock();
        self.site
            .network
            .part(host, &[one.to_owned(), other.to_owned()])?;
        let outcome = async {
            self.unreachable(other, host).await?;
            let streams = self.undisturbed(since, &[]).await;
            streams.map_err(|why| anyhow::anyhow!("{why}"))
        };
        let outcome = outcome.await;
        self.site.network.rejoin()?;
        for (app, count) in [("/web", 3), ("/nodes", 3)] {
            self.site.healthy(other, app, count).await?;
        }
        outcome
    }
}

/// The addresses of a container in overlays.
fn addresses(pid: u32) -> anyhow::Result<Vec<String>> {
    let mut command = From::Container(pid).program("ip");
    let said = command
        .args(["-4", "-o", "addr", "show", "scope", "global"])
        .output()?;
    ensure!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr).trim()
    );
    let said = String::from_utf8_lossy(&said.stdout);
    let words = said
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3));
    let addresses = words.filter_map(|word| word.split_once('/'));
    Ok(addresses
        .map(|(address, _)| address.to_owned())
        .filter(|address| address.starts_with("9."))
        .collect())
}
