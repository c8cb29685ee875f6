//! What a local cluster consists of: programs, flags, ports.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use dcos_core::config::{Loaded, Schema, Sources, Spec};
use dcos_wire::tls::Ssl;
use serde::{Deserialize, Serialize};

use super::network;
use super::process::{Program, Running};
use crate::cli::LocalUp;
use crate::http::escape;

/// What was started, in `local.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Notes {
    pub(super) master: String,
    pub(super) marathon: String,
    pub(super) metronome: String,
    /// `host:port` of the DNS server.
    pub(super) dns: String,
    pub(super) mesos_dns: String,
    /// The router: the cluster's URL for people.
    #[serde(default)]
    pub(super) router: String,
    /// The name of the agents' control groups, all below this one.
    pub(super) cgroups_root: String,
    /// Whether the bridge of `container/bridge` was there before.
    #[serde(default)]
    pub(super) bridge_was_there: bool,
    pub(super) processes: Vec<Running>,
}

impl Notes {
    pub(super) fn read(dir: &Path) -> anyhow::Result<Option<Self>> {
        let file = dir.join("local.json");
        match std::fs::read(&file) {
            Ok(text) => {
                let notes = serde_json::from_slice(&text);
                notes
                    .map(Some)
                    .with_context(|| format!("{} is damaged", file.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| file.display().to_string()),
        }
    }

    pub(super) fn write(&self, dir: &Path) -> anyhow::Result<()> {
        let file = dir.join("local.json");
        let text = serde_json::to_vec_pretty(self)?;
        // Its URLs may hold passwords.
        let mut options = OpenOptions::new();
        let new = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&file);
        let mut new = new.with_context(|| file.display().to_string())?;
        new.write_all(&text)
            .with_context(|| file.display().to_string())
    }
}

/// The ports a cluster listens on.
#[derive(Debug, Clone, Copy)]
struct Ports {
    master: u16,
    marathon: u16,
    metronome: u16,
    dns: u16,
    mesos_dns: u16,
    router: u16,
}

/// What its programs are told by the environment, which they inherit.
const OPTIONS: &[Spec] = &[
    Spec::text("marathon_http_credentials").secret(),
    Spec::text("metronome_http_credentials").secret(),
];

/// The services that may ask for a password, and the variables of the originals that have them ask.
const MARATHON: (&str, &[&str]) = (
    "marathon",
    &["MARATHON_HTTP_CREDENTIALS", "MESOSPHERE_HTTP_CREDENTIALS"],
);
const METRONOME: (&str, &[&str]) = ("metronome", &["METRONOME_HTTP_CREDENTIALS"]);

/// What stands before the host in the URL of a service: the credentials that it will ask for, as the master will find
/// them in `env`; nothing if there are none.
fn shown(
    (service, variables): (&str, &[&str]),
    env: &BTreeMap<String, String>,
) -> anyhow::Result<String> {
    let sources = Sources::new(Vec::<String>::new()).env(env.clone());
    let mut said = None;
    if let Loaded::Run(values) = Schema::new("dcos-master", "")
        .with(OPTIONS)
        .load(&sources)?
    {
        said = values.opt_text(&format!("{service}_http_credentials"));
    }
    let values = variables.iter().filter_map(|name| env.get(*name));
    let mut values = values.filter(|value| !value.is_empty());
    let said = said.or_else(|| values.next().cloned());
    Ok(said.map_or_else(String::new, |said| in_url(&said)))
}

/// `user:password` as it stands before the host in a URL.
fn in_url(credentials: &str) -> String {
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let escaped = |text: &str| escape(text).replace('/', "%2F");
    format!("{}:{}@", escaped(user), escaped(password))
}

/// What is about to be started.
#[derive(Debug)]
pub(super) struct Plan {
    dir: PathBuf,
    /// Whether the Linux isolators can be used.
    pub(super) root: bool,
    ports: Ports,
    /// The port of each agent, and of its router.
    agents: Vec<(u16, u16)>,
    /// This cluster's alone: another one may have had its ports, or its directory.
    cgroups_root: String,
}

/// Holds a port that nobody has, below those that the kernel gives to connections (`ip_local_port_range`): one of
/// these could take it again before whoever it is for does.
fn free() -> io::Result<TcpListener> {
    for _ in 0..100 {
        let random = RandomState::new().build_hasher().finish() % 10_000;
        let port = 20_000 + u16::try_from(random).unwrap_or_default();
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return Ok(listener);
        }
    }
    TcpListener::bind(("127.0.0.1", 0))
}

/// Isolators of an agent that is root; without root it takes what it can have.
const LINUX_ISOLATION: &str = "cgroups/cpu,cgroups/mem,cgroups/pids,cgroups/devices,\
filesystem/linux,namespaces/pid,namespaces/ipc,linux/capabilities,linux/nnp,linux/seccomp,\
posix/rlimits,docker/runtime,volume/host_path,volume/image,volume/sandbox_path";

impl Plan {
    pub(super) fn new(dir: &Path, up: &LocalUp) -> anyhow::Result<Self> {
        let mut held = Vec::new();
        let mut port = |usual: u16| -> anyhow::Result<u16> {
            let listener = if up.free_ports {
                free()
            } else {
                TcpListener::bind(("127.0.0.1", usual))
            };
            let Ok(listener) = listener else {
                bail!(
                    "port {usual} of 127.0.0.1 is taken; stop what holds it, or use --free-ports"
                );
            };
            let port = listener.local_addr()?.port();
            // Held until all are chosen, so that no port is chosen twice.
            held.push(listener);
            Ok(port)
        };
        let ports = Ports {
            master: port(5050)?,
            marathon: port(8080)?,
            metronome: port(9000)?,
            dns: port(5353)?,
            mesos_dns: port(8123)?,
            router: port(8880)?,
        };
        let agents = (0..up.agents)
            .map(|index| Ok((port(5051 + index)?, port(61001 + index)?)))
            .collect::<anyhow::Result<_>>()?;
        let unique = uuid::Uuid::new_v4().simple().to_string();
        Ok(Self {
            dir: dir.to_owned(),
            root: rustix::process::geteuid().is_root(),
            ports,
            agents,
            cgroups_root: format!("dcos-local-{}", &unique[..12]),
        })
    }

    pub(super) fn notes(&self) -> anyhow::Result<Notes> {
        let Ports {
            master,
            marathon,
            metronome,
            dns,
            mesos_dns,
            router,
        } = self.ports;
        // The programs inherit this environment.
        let scheme = Ssl::scheme();
        let env = std::env::vars_os().map(|(name, value)| {
            let lossy = |text: OsString| text.to_string_lossy().into_owned();
            (lossy(name), lossy(value))
        });
        let env = env.collect();
        let (for_marathon, for_metronome) = (shown(MARATHON, &env)?, shown(METRONOME, &env)?);
        Ok(Notes {
            master: format!("{scheme}://127.0.0.1:{master}"),
            marathon: format!("{scheme}://{for_marathon}127.0.0.1:{marathon}"),
            metronome: format!("{scheme}://{for_metronome}127.0.0.1:{metronome}"),
            dns: format!("127.0.0.1:{dns}"),
            mesos_dns: format!("http://127.0.0.1:{mesos_dns}"),
            router: format!("http://127.0.0.1:{router}"),
            cgroups_root: self.cgroups_root.clone(),
            // Only who is root makes one, and may take it away.
            bridge_was_there: self.root && network::is_there().unwrap_or(false),
            processes: Vec::new(),
        })
    }

    /// The programs, in the order they are started.
    pub(super) fn programs(&self) -> anyhow::Result<Vec<Program>> {
        let mut programs = vec![self.master()?];
        for (index, ports) in self.agents.iter().enumerate() {
            programs.push(self.agent(index, *ports)?);
        }
        Ok(programs)
    }

    fn master(&self) -> anyhow::Result<Program> {
        let Ports {
            master,
            marathon,
            metronome,
            dns,
            mesos_dns,
            router,
        } = self.ports;
        let flags = vec![
            "--ip=127.0.0.1".to_owned(),
            "--hostname=127.0.0.1".to_owned(),
            "--cluster=local".to_owned(),
            format!("--port={master}"),
            format!("--marathon_port={marathon}"),
            format!("--metronome_port={metronome}"),
            format!("--dns_port={dns}"),
            format!("--mesos_dns_port={mesos_dns}"),
            format!("--router_port={router}"),
            format!(
                "--router_agent_port={}",
                self.agents.first().map_or(61001, |ports| ports.1)
            ),
            format!(
                "--router_access_log={}",
                self.dir.join("access.log").display()
            ),
            format!("--work_dir={}", self.dir.join("master").display()),
        ];
        Program::new("dcos-master", "master", flags, &self.dir)
    }

    fn agent(&self, index: usize, (port, router): (u16, u16)) -> anyhow::Result<Program> {
        let name = format!("agent-{index}");
        let root = self.dir.join(&name);
        // Several agents share the machine's ports.
        let first = 31000 + index * 1000 % 30000;
        let mut flags = vec![
            "--ip=127.0.0.1".to_owned(),
            "--hostname=127.0.0.1".to_owned(),
            format!("--port={port}"),
            format!("--router_port={router}"),
            format!("--master=127.0.0.1:{}", self.ports.master),
            format!("--work_dir={}", root.join("work").display()),
            format!("--runtime_dir={}", root.join("run").display()),
            format!("--resources=ports:[{first}-{}]", first + 999),
        ];
        if self.root {
            flags.push("--launcher=linux".to_owned());
            flags.push(format!("--isolation={LINUX_ISOLATION}"));
            // An agent removes what it finds in its root and does not know: others have their own.
            flags.push(format!("--cgroups_root={}/{name}", self.cgroups_root));
            flags.push("--cgroups_enable_cfs=true".to_owned());
            flags.push("--image_providers=docker".to_owned());
            // Agents that share a node share its bridge, but not who has which address there.
            if index > 0 {
                flags.push("--ucr_default_bridge=false".to_owned());
            }
        } else {
            // Whose files are all of one user's can be removed by that one.
            flags.push("--no-switch_user".to_owned());
        }
        Program::new("dcos-agent", &name, flags, &self.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_stand_in_urls_as_they_may() {
        assert_eq!(in_url("ops:a@b/c:d"), "ops:a%40b%2Fc%3Ad@");
    }

    /// In the order in which the master looks for them: its own options, then what the originals read.
    #[test]
    fn what_is_asked_for_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials");
        std::fs::write(&file, "of:file\n").unwrap();
        let file = format!("file://{}", file.display());
        let mut env = BTreeMap::new();
        for (variable, value, marathon, metronome) in [
            ("USER", "somebody", "", ""),
            ("MARATHON_HTTP_CREDENTIALS", "", "", ""),
            ("MESOSPHERE_HTTP_CREDENTIALS", "m:s", "m:s@", ""),
            ("METRONOME_HTTP_CREDENTIALS", "j:s", "m:s@", "j:s@"),
            ("MARATHON_HTTP_CREDENTIALS", "a:s", "a:s@", "j:s@"),
            ("MESOS_MARATHON_HTTP_CREDENTIALS", "o:s", "o:s@", "j:s@"),
            (
                "DCOS_METRONOME_HTTP_CREDENTIALS",
                file.as_str(),
                "o:s@",
                "of:file@",
            ),
        ] {
            env.insert(variable.to_owned(), value.to_owned());
            assert_eq!(shown(MARATHON, &env).unwrap(), marathon, "{variable}");
            assert_eq!(shown(METRONOME, &env).unwrap(), metronome, "{variable}");
        }
        std::fs::remove_dir_all(folder.path()).unwrap();
        let error = shown(METRONOME, &env).unwrap_err().to_string();
        assert!(error.contains("metronome_http_credentials"), "{error}");
    }
}
