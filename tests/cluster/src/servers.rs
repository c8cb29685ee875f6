//! [`Servers`]: an ensemble of `ZooKeeper` or etcd, from Debian's packages, in a temporary directory.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tokio::{net::TcpStream, time::timeout};

use crate::process::{Process, command};

/// How long servers may take to find each other.
const START: Duration = Duration::from_secs(40);

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Debian's `zookeeper`.
    ZooKeeper,
    /// Debian's `etcd-server`.
    Etcd,
}

impl Kind {
    /// Why it cannot run here, if it cannot.
    pub fn missing(self) -> Option<&'static str> {
        let there = |path: &str| Path::new(path).exists();
        let found = match self {
            Self::ZooKeeper => there("/usr/share/java/zookeeper.jar") && there("/usr/bin/java"),
            Self::Etcd => there("/usr/bin/etcd"),
        };
        match self {
            _ if found => None,
            Self::ZooKeeper => {
                Some("Debian's packages zookeeper and default-jre-headless are not installed")
            }
            Self::Etcd => Some("Debian's package etcd-server is not installed"),
        }
    }

    /// The scheme of its URLs.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::ZooKeeper => "zk",
            Self::Etcd => "etcd",
        }
    }
}

/// Where a member runs: an address, and the namespace that has it.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its address.
    pub ip: IpAddr,
    /// Its network namespace; ours if there is none.
    pub host: Option<String>,
}

impl Place {
    /// Our own loopback.
    pub fn here() -> Self {
        Self {
            ip: Ipv4Addr::LOCALHOST.into(),
            host: None,
        }
    }
}

/// Members of one ensemble.
#[derive(Debug)]
pub struct Servers {
    kind: Kind,
    members: Vec<Member>,
    directory: PathBuf,
}

#[derive(Debug)]
struct Member {
    place: Place,
    client: u16,
    peer: u16,
    election: u16,
    process: Option<Process>,
}

impl Servers {
    /// Starts a member at each place, with its data in `directory`, and waits until they serve.
    ///
    /// # Errors
    /// They do not start; the error has their last words.
    pub async fn start(kind: Kind, places: &[Place], directory: &Path) -> anyhow::Result<Self> {
        let members = places.iter().map(|place| {
            Ok(Member {
                place: place.clone(),
                client: free_port(place)?,
                peer: free_port(place)?,
                election: free_port(place)?,
                process: None,
            })
        });
        let mut servers = Self {
            kind,
            members: members.collect::<anyhow::Result<_>>()?,
            directory: directory.to_owned(),
        };
        for index in 0..servers.members.len() {
            servers.start_member(index)?;
        }
        servers.wait().await?;
        Ok(servers)
    }

    /// The URL of a cluster at `path` of this ensemble.
    pub fn url(&self, path: &str) -> String {
        let server = |member: &Member| SocketAddr::new(member.place.ip, member.client).to_string();
        let servers: Vec<String> = self.members.iter().map(server).collect();
        format!("{}://{}{path}", self.kind.scheme(), servers.join(","))
    }

    /// Kills a member.
    pub fn kill(&mut self, index: usize) {
        self.members[index].process = None;
    }

    /// Starts a member, with the data it had before.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_member(&mut self, index: usize) -> anyhow::Result<()> {
        let directory = self
            .directory
            .join(format!("{}-{index}", self.kind.scheme()));
        std::fs::create_dir_all(&directory)?;
        let command = match self.kind {
            Kind::ZooKeeper => self.zookeeper(index, &directory)?,
            Kind::Etcd => self.etcd(index, &directory),
        };
        let name = format!("{}-{index}", self.kind.scheme());
        self.members[index].process = Some(Process::start(&name, &self.directory, command)?);
        Ok(())
    }

    fn zookeeper(&self, index: usize, directory: &Path) -> anyhow::Result<Command> {
        use std::fmt::Write as _;
        let own = &self.members[index];
        let mut settings = format!(
            "tickTime=500\nmaxSessionTimeout=60000\ninitLimit=20\nsyncLimit=6\ndataDir={}\nadmin.enableServer=false\n\
             clientPort={}\nclientPortAddress={}\n4lw.commands.whitelist=*\nmaxClientCnxns=0\n",
            directory.display(),
            own.client,
            own.place.ip
        );
        for (number, member) in self.members.iter().enumerate() {
            let Member {
                place,
                peer,
                election,
                ..
            } = member;
            writeln!(
                settings,
                "server.{}={}:{peer}:{election}",
                number + 1,
                place.ip
            )?;
        }
        std::fs::write(directory.join("zoo.cfg"), settings)?;
        std::fs::write(directory.join("myid"), (index + 1).to_string())?;
        let mut java = command(own.place.host.as_deref(), "/usr/bin/java");
        java.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .args([
                "-Dzookeeper.jmx.log4j.disable=true",
                "-Dzookeeper.log4jmx=false",
            ])
            .args(["-cp", "/usr/share/java/zookeeper.jar:/etc/zookeeper/conf"])
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(directory.join("zoo.cfg"));
        Ok(java)
    }

    fn etcd(&self, index: usize, directory: &Path) -> Command {
        let own = &self.members[index];
        let url = |port| format!("http://{}", SocketAddr::new(own.place.ip, port));
        let peer = |(number, member): (usize, &Member)| {
            let address = SocketAddr::new(member.place.ip, member.peer);
            format!("m{number}=http://{address}")
        };
        let cluster: Vec<String> = self.members.iter().enumerate().map(peer).collect();
        let mut etcd = command(own.place.host.as_deref(), "/usr/bin/etcd");
        etcd.arg("--name").arg(format!("m{index}"));
        etcd.arg("--data-dir").arg(directory.join("data"));
        etcd.arg("--listen-client-urls").arg(url(own.client));
        etcd.arg("--advertise-client-urls").arg(url(own.client));
        etcd.arg("--listen-peer-urls").arg(url(own.peer));
        etcd.arg("--initial-advertise-peer-urls").arg(url(own.peer));
        etcd.arg("--initial-cluster").arg(cluster.join(","));
        etcd.args(["--heartbeat-interval=100", "--election-timeout=1000"]);
        // One that comes back from behind a broken cable does not call for an election.
        etcd.arg("--pre-vote");
        etcd.env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH);
        etcd
    }

    /// Waits until every member says that it serves.
    ///
    /// # Errors
    /// One does not in time; the error has its last words.
    pub async fn wait(&mut self) -> anyhow::Result<()> {
        let begin = Instant::now();
        for index in 0..self.members.len() {
            while !self.serves(index).await {
                let member = &mut self.members[index];
                let process = member.process.as_mut().context("the member was killed")?;
                if begin.elapsed() > START || !process.is_running() {
                    bail!("{} does not serve:\n{}", process.name, process.last_words());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    async fn serves(&self, index: usize) -> bool {
        let member = &self.members[index];
        let address = SocketAddr::new(member.place.ip, member.client);
        let (request, sign) = match self.kind {
            Kind::ZooKeeper => ("srvr", "Mode: "),
            Kind::Etcd => ("GET /health HTTP/1.0\r\n\r\n", "\"true\""),
        };
        let asked = timeout(Duration::from_secs(2), ask(address, request)).await;
        matches!(asked, Ok(Ok(answer)) if answer.contains(sign))
    }
}

async fn ask(address: SocketAddr, request: &str) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// A port nobody listens on: any of ours, or the next of a namespace that nobody else uses.
fn free_port(place: &Place) -> anyhow::Result<u16> {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(2181);
    if place.host.is_some() {
        return Ok(NEXT.fetch_add(1, Ordering::Relaxed));
    }
    Ok(TcpListener::bind((place.ip, 0))?.local_addr()?.port())
}
