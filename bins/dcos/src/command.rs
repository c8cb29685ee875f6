//! What each group of commands does, and what they share.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::cli::Cli;
use crate::cluster as clusters;
use crate::http::Server;
use crate::leader;
use crate::output;

pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod deployment;
pub(crate) mod job;
pub(crate) mod local;
pub(crate) mod maintenance;
pub(crate) mod marathon;
pub(crate) mod migrate;
pub(crate) mod net;
pub(crate) mod node;
pub(crate) mod plan;
pub(crate) mod quota;
pub(crate) mod role;
pub(crate) mod service;
pub(crate) mod task;

/// What every command may want to know.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) home: PathBuf,
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    master: Option<String>,
    marathon: Option<String>,
    metronome: Option<String>,
}

impl Context {
    pub(crate) fn new(cli: &Cli) -> anyhow::Result<Self> {
        Ok(Self {
            home: clusters::home()?,
            json: cli.json,
            quiet: cli.quiet,
            master: said(cli.master.as_ref()),
            marathon: said(cli.marathon.as_ref()),
            metronome: said(cli.metronome.as_ref()),
        })
    }

    /// The master of the chosen cluster: `--master`, or the attached one.
    pub(crate) async fn master(&self) -> anyhow::Result<Server> {
        if let Some(address) = &self.master {
            return Server::new(&leader::resolve(address).await?);
        }
        let core = self.attached()?.config.core;
        let master = leader::resolve(&core.mesos_master_url).await?;
        Server::shown(&master, core.dcos_acs_token.as_deref())
    }

    /// What was set up beside the attached cluster's master; nothing if another master was named.
    fn set_up(
        &self,
        which: impl FnOnce(&clusters::Config) -> Option<&clusters::Service>,
    ) -> anyhow::Result<Option<Server>> {
        if self.master.is_some() {
            return Ok(None);
        }
        let config = self.attached()?.config;
        let token = config.core.dcos_acs_token.as_deref();
        let service = which(&config).map(|service| Server::shown(&service.url, token));
        service.transpose()
    }

    /// Marathon of the chosen cluster: `--marathon`, what was set up, or port 8080 of the master.
    pub(crate) async fn marathon(&self) -> anyhow::Result<Server> {
        if let Some(url) = &self.marathon {
            return Server::new(url);
        }
        if let Some(server) = self.set_up(|config| config.marathon.as_ref())? {
            return Ok(server);
        }
        self.beside_the_master("service/marathon", 8080).await
    }

    /// Metronome of the chosen cluster: `--metronome`, what was set up, or port 9000 of the master.
    pub(crate) async fn metronome(&self) -> anyhow::Result<Server> {
        if let Some(url) = &self.metronome {
            return Server::new(url);
        }
        if let Some(server) = self.set_up(|config| config.metronome.as_ref())? {
            return Ok(server);
        }
        self.beside_the_master("service/metronome", 9000).await
    }

    /// The HTTP API of the name server: what was set up, behind the router, or at port 8123 of the master,
    /// where it has no TLS and is shown no credentials.
    pub(crate) async fn names(&self) -> anyhow::Result<Server> {
        if self.master.is_none()
            && let Some(names) = self.attached()?.config.mesos_dns
        {
            return Ok(Server::of_strangers(&names.url));
        }
        let master = self.master().await?;
        if let Some(door) = door(&master) {
            return Ok(master.beside(&format!("{door}/mesos_dns")));
        }
        let host = host(&master)?;
        Ok(Server::of_strangers(&format!("http://{host}:8123")))
    }

    /// What is behind the router at `route`, if the master is asked through it, or else at `port` of the master.
    async fn beside_the_master(&self, route: &str, port: u16) -> anyhow::Result<Server> {
        let master = self.master().await?;
        if let Some(door) = door(&master) {
            return Ok(master.beside(&format!("{door}/{route}")));
        }
        let (scheme, _) = master.url.split_once("://").unwrap_or(("http", ""));
        Ok(master.beside(&format!("{scheme}://{}:{port}", host(&master)?)))
    }

    fn attached(&self) -> anyhow::Result<clusters::Cluster> {
        let attached = clusters::list(&self.home)?
            .into_iter()
            .find(|cluster| cluster.attached);
        match attached {
            Some(cluster) => Ok(cluster),
            None => bail!(
                "no cluster is attached: run `dcos cluster setup URL`, `dcos local up`, or pass --master"
            ),
        }
    }
}

/// An empty variable of the environment says nothing.
fn said(option: Option<&String>) -> Option<String> {
    option.filter(|text| !text.is_empty()).cloned()
}

/// The router's URL, if the master is asked through it.
pub(crate) fn door(master: &Server) -> Option<&str> {
    master.url.strip_suffix("/mesos")
}

/// One of `agents`, as a master tells of them: through the router if the master is asked through that.
pub(crate) fn agent(master: &Server, agents: &[Value], id: &str) -> anyhow::Result<Server> {
    let known = agents.iter().find(|agent| text(agent, "id") == id);
    let known = known.with_context(|| format!("no agent {id} is registered"))?;
    let pid = text(known, "pid");
    let (_, address) = pid
        .split_once('@')
        .with_context(|| format!("bad agent pid {pid}"))?;
    Ok(match door(master) {
        Some(door) => master.beside(&format!("{door}/agent/{id}")),
        None => master.beside(address),
    })
}

fn host(master: &Server) -> anyhow::Result<String> {
    let url = || output::harmless(&master.url);
    let uri: http::Uri = master.url.parse().with_context(url)?;
    let host = uri
        .host()
        .with_context(|| format!("{} names no host", url()))?;
    Ok(host.to_owned())
}

/// A time such as `90s`, `10m`, `1h` or, as Mesos writes it, `10mins`.
pub(crate) fn duration(text: &str) -> anyhow::Result<std::time::Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let long = match &text[digits.len()..] {
        "s" => "secs",
        "m" => "mins",
        "h" => "hrs",
        "d" => "days",
        other => other,
    };
    dcos_core::units::parse_duration(&format!("{digits}{long}"))
        .with_context(|| format!("{text:?} is no time such as 90s, 10m or 1h"))
}

/// The text at `key`, or nothing.
pub(crate) fn text(value: &Value, key: &str) -> String {
    match &value[key] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The number at `key`, as short as it can be written.
pub(crate) fn number(value: &Value, key: &str) -> String {
    value[key]
        .as_f64()
        .map(|number| number.to_string())
        .unwrap_or_default()
}

/// The list at `key`, or an empty one.
pub(crate) fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_are_asked_for_where_the_name_server_is() {
        let home = tempfile::tempdir().unwrap();
        let context = |master: Option<&str>| Context {
            home: home.path().to_owned(),
            json: false,
            quiet: false,
            master: master.map(str::to_owned),
            marathon: None,
            metronome: None,
        };
        let names = async |master| context(master).names().await.unwrap().url;
        for (master, expected) in [
            ("http://10.0.0.1:5050", "http://10.0.0.1:8123"),
            ("https://10.0.0.1:5050", "http://10.0.0.1:8123"),
            ("https://10.0.0.1/mesos", "https://10.0.0.1/mesos_dns"),
        ] {
            assert_eq!(names(Some(master)).await, expected);
        }
        let mut config = clusters::Config::default();
        "https://10.0.0.2:5050".clone_into(&mut config.core.mesos_master_url);
        clusters::setup(home.path(), "1", &config).unwrap();
        assert_eq!(names(None).await, "http://10.0.0.2:8123");
        let url = "http://127.0.0.1:43210".to_owned();
        config.mesos_dns = Some(clusters::Service { url: url.clone() });
        clusters::setup(home.path(), "1", &config).unwrap();
        assert_eq!(names(None).await, url);
    }
}
