//! A program's part in the nodes' gossip.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use dcos_core::config::{Spec, Values};
use dcos_gossip::{About, Gossip, Membership as _, REVIEW, Setup, System, View, unreachable};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// The options of gossip; in DC/OS another program has them.
pub const GOSSIP_OPTIONS: &[Spec] = &[
    Spec::path("gossip_key").help(
        "Take part in the nodes' gossip, and know without any master who is there: a file with the cluster's keys, 32 bytes in base64 a line, that only its owner can read. The first seals, all open; it is read again when it changes (ours).",
    ),
    Spec::port("gossip_port").default("62501").help(
        "Where gossip is spoken (UDP), and where others are looked for whose address has no port (ours).",
    ),
    Spec::list("gossip_join").help(
        "Nodes to join: addresses or names, with a port where it is another. The leading master is asked as well, and whoever was there before (ours).",
    ),
    Spec::list("gossip_public_ips")
        .help("Addresses by which this node is reached from outside: told by /v1/nodes (ours)."),
];

/// How long it may take to say that this node leaves.
const FAREWELL: Duration = Duration::from_secs(1);
/// Where leaders are joined that are remembered beside those an operator named.
const LEADERS: usize = 16;
/// Where masters speak gossip unless they are told otherwise.
const PORT: u16 = 62501;

/// This program as a member.
#[derive(Debug)]
pub struct Part {
    view: View,
    join: watch::Sender<Vec<String>>,
    named: usize,
    port: u16,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Takes part, if there is a key: listens on `ip`, is reached at `about`'s address, until `stop`.
///
/// # Errors
/// What keeps it from that; also if no other node could reach `about`'s address.
pub async fn gossip(
    values: &Values,
    ip: IpAddr,
    mut about: About,
    memory: PathBuf,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Part>> {
    let Some(keys) = values.opt_path("gossip_key") else {
        return Ok(None);
    };
    ensure!(
        !about.private_ip.is_unspecified(),
        "--gossip_key: others must know where to reach this node, and all by the same address; say it by --ip or --advertise_ip"
    );
    let port = values.port("gossip_port");
    for text in values.opt_list("gossip_public_ips").unwrap_or_default() {
        let ip = text
            .parse()
            .with_context(|| format!("--gossip_public_ips: {text}"))?;
        about.public_ips.push(ip);
    }
    let named = values.opt_list("gossip_join").unwrap_or_default();
    let named: Vec<String> = named.iter().map(|name| with_port(name, port)).collect();
    let (join, joins) = watch::channel(named.clone());
    let setup = Setup {
        listen: SocketAddr::new(ip, port),
        address: SocketAddr::new(about.private_ip, port),
        keys,
        about,
        join: joins,
        memory: Some(memory),
        resolver: Arc::new(System),
        review: REVIEW,
    };
    let gossip = Gossip::bind(setup).await.context("--gossip_key")?;
    info!(address = %gossip.address(), "gossip");
    let stop = stop.child_token();
    Ok(Some(Part {
        view: gossip.view(),
        join,
        named: named.len(),
        port,
        task: tokio::spawn(gossip.run(stop.clone())),
        stop,
    }))
}

impl Part {
    /// What it knows, now and later.
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// A way to tell it of masters that lead, whoever they are: each takes part as well, most likely.
    pub fn leaders(&self) -> impl Fn(&str) + Send + 'static {
        let (join, named, port) = (self.join.clone(), self.named, self.port);
        move |address: &str| {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            // An agent beside a master has another port than all.
            let leader = [with_port(host, port), with_port(host, PORT)];
            join.send_if_modified(|join| {
                let before = join.len();
                for leader in &leader {
                    if !join.contains(leader) {
                        join.push(leader.clone());
                    }
                }
                let is_new = join.len() > before;
                if join.len() > named + LEADERS {
                    join.drain(named..join.len() - LEADERS);
                }
                is_new
            });
        }
    }

    /// The nodes that nobody reaches, for those who balance, and what keeps that up to date until `stop`.
    pub fn unreachable(
        &self,
        stop: CancellationToken,
    ) -> (
        watch::Receiver<BTreeSet<IpAddr>>,
        impl Future<Output = ()> + Send + 'static,
    ) {
        let (told, nodes) = watch::channel(BTreeSet::new());
        let mut members = self.view.watch();
        let telling = async move {
            loop {
                let now = unreachable(&members.borrow_and_update());
                told.send_if_modified(|before| {
                    let is_news = *before != now;
                    *before = now;
                    is_news
                });
                if members.changed().await.is_err() {
                    if !stop.is_cancelled() {
                        // It can only have panicked. Who was dead then may be back, and nobody would say so.
                        error!("gossip ended: all nodes count as reachable from now on");
                        told.send_replace(BTreeSet::new());
                    }
                    told.closed().await;
                    return;
                }
            }
        };
        (nodes, telling)
    }

    /// Ends its part, and waits until others were told that this node leaves.
    pub async fn leave(self) {
        self.stop.cancel();
        let mut task = self.task;
        if tokio::time::timeout(FAREWELL, &mut task).await.is_err() {
            task.abort();
        }
    }
}

/// `host:port`, where only the host is given.
fn with_port(name: &str, port: u16) -> String {
    let is_v6 = name.parse::<std::net::Ipv6Addr>().is_ok();
    let has_port = !is_v6
        && name
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    match (has_port, is_v6) {
        (true, _) => name.to_owned(),
        (false, true) => format!("[{name}]:{port}"),
        (false, false) => format!("{name}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_port_of_all_unless_it_says_another() {
        for (name, wanted) in [
            ("10.0.0.1", "10.0.0.1:62501"),
            ("10.0.0.1:9", "10.0.0.1:9"),
            ("node.example.com", "node.example.com:62501"),
            ("fd00::1", "[fd00::1]:62501"),
            ("[fd00::1]", "[fd00::1]:62501"),
            ("[fd00::1]:9", "[fd00::1]:9"),
        ] {
            assert_eq!(with_port(name, 62501), wanted);
        }
    }
}
