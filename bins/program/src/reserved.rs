//! Addresses by which a node reaches those it depends on: no task may have its virtual address there.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dcos_core::config::Values;
use dcos_dns::{OptionError, Upstream};
use dcos_l4lb::Reserved;
use dcos_store::{Ensemble, StandingMasters};
use dcos_wire::libprocess::Upid;
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

/// How often names are looked up again, and sooner where one was not found.
const REVIEW: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(5);

/// Whom connections of this node must reach, whatever tasks claim.
#[derive(Debug, Default)]
pub struct Guarded {
    /// Masters and ensembles as options name them: `host:port`, several with commas between, or the URL of an ensemble,
    /// which stands for its servers.
    pub named: Vec<String>,
    /// All masters that stand for election, if they elect their leader.
    pub standing: Option<StandingMasters>,
    /// Files as `/etc/resolv.conf` in which this host says whom it asks for names ([`HOST`]), now and later.
    pub resolv_confs: Vec<PathBuf>,
}

/// Where a host says whom it asks for names, and whom systemd-resolved does, of which the first names only a stub.
pub const HOST: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

impl Guarded {
    /// The addresses of all, those of `--dns_masters`, `--dns_resolvers` and `--dns_forward_zones` included, now and later.
    /// Nobody is forgotten: a master that is gone for a while comes back. Must be called within a tokio runtime; ends with
    /// the receivers.
    ///
    /// # Errors
    /// Of `--dns_resolvers` or `--dns_forward_zones` one is no address.
    pub(crate) fn watch(self, values: &Values) -> Result<watch::Receiver<Reserved>, OptionError> {
        let mut named = self.named;
        named.extend(values.opt_list("dns_masters").unwrap_or_default());
        let hosts: BTreeSet<String> = named.iter().flat_map(|named| hosts(named)).collect();
        let files: Vec<_> = self.resolv_confs.into_iter().map(Upstream::File).collect();
        let mut addresses = said(&files);
        if let Upstream::Named(resolvers) = dcos_dns::upstream(values)? {
            addresses.extend(resolvers.iter().map(SocketAddr::ip));
        }
        let zones = dcos_dns::forward_zones(values)?;
        addresses.extend(zones.values().flatten().map(SocketAddr::ip));
        let mut names = Vec::new();
        for host in hosts {
            match host.parse::<IpAddr>() {
                Ok(ip) => drop(addresses.insert(ip)),
                Err(_) => names.push(host),
            }
        }
        let (told, reserved) = watch::channel(Reserved {
            addresses,
            awaited: usize::from(!names.is_empty()),
            masters_awaited: self.standing.is_some(),
        });
        let told = Arc::new(told);
        if !names.is_empty() {
            tokio::spawn(look_up(names, Arc::clone(&told)));
        }
        if !files.is_empty() {
            tokio::spawn(reread(files, Arc::clone(&told)));
        }
        if let Some(standing) = self.standing {
            tokio::spawn(follow(standing, told));
        }
        Ok(reserved)
    }
}

/// The hosts that `named` names, without ports.
fn hosts(named: &str) -> Vec<String> {
    let listed = || {
        let listed = named.split(',').map(|one| one.trim().to_owned());
        listed.filter(|one| !one.is_empty()).collect()
    };
    let servers: Vec<String> =
        Ensemble::parse(named).map_or_else(|_| listed(), |ensemble| ensemble.servers().to_vec());
    let hosts = servers.iter().map(|server| {
        let address = server.rsplit_once('@').map_or(&**server, |(_, at)| at);
        if address.parse::<IpAddr>().is_ok() {
            return address.to_owned();
        }
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        host.trim_matches(['[', ']']).to_owned()
    });
    hosts.collect()
}

/// Whom these files name.
fn said(files: &[Upstream]) -> BTreeSet<IpAddr> {
    let named = files.iter().flat_map(Upstream::now);
    named.map(|resolver| resolver.ip()).collect()
}

/// Tells whom these files name, as they change: small local ones, which the C library reads at each question.
async fn reread(files: Vec<Upstream>, told: Arc<watch::Sender<Reserved>>) {
    loop {
        tokio::select! {
            () = told.closed() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
        tell(&told, said(&files));
    }
}

/// Tells of more.
fn tell(told: &watch::Sender<Reserved>, more: impl IntoIterator<Item = IpAddr>) {
    told.send_if_modified(|reserved| {
        let before = reserved.addresses.len();
        reserved.addresses.extend(more);
        reserved.addresses.len() > before
    });
}

/// Tells where these hosts are, of each when it is known: a resolver that is dead takes its time with every name.
async fn look_up(names: Vec<String>, told: Arc<watch::Sender<Reserved>>) {
    let mut is_first = true;
    let mut missing = BTreeSet::new();
    loop {
        let mut asked = JoinSet::new();
        for name in names.clone() {
            asked.spawn(async move {
                let found = lookup_host((&*name, 0)).await;
                let found = found.map(|all| all.map(|address| address.ip()).collect::<Vec<_>>());
                (name, found)
            });
        }
        while let Some(answered) = asked.join_next().await {
            match answered {
                Ok((name, Ok(addresses))) => {
                    missing.remove(&name);
                    tell(&told, addresses);
                }
                Ok((name, Err(error))) => {
                    // It is told once.
                    if missing.insert(name.clone()) {
                        warn!(%name, %error, "virtual addresses: not known where this is; a task could take its address");
                    }
                }
                Err(error) => warn!(%error, "looking up whom this node depends on"),
            }
        }
        if std::mem::take(&mut is_first) {
            told.send_modify(|reserved| reserved.awaited = 0);
        }
        let pause = if missing.is_empty() { REVIEW } else { RETRY };
        tokio::select! {
            () = told.closed() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Tells where masters stand for election.
async fn follow(mut standing: StandingMasters, told: Arc<watch::Sender<Reserved>>) {
    loop {
        let masters = standing.borrow_and_update().clone();
        let upids = masters.iter().filter_map(|info| info.pid.as_deref());
        let upids = upids.filter_map(|pid| pid.parse::<Upid>().ok());
        // Nobody was read yet: whoever leads is among them.
        if !masters.is_empty() {
            let addresses = upids.map(|upid| upid.address().ip());
            told.send_if_modified(|reserved| {
                let before = reserved.addresses.len();
                reserved.addresses.extend(addresses);
                let is_first = std::mem::take(&mut reserved.masters_awaited);
                is_first || reserved.addresses.len() > before
            });
        }
        tokio::select! {
            () = told.closed() => return,
            changed = standing.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use dcos_core::config::{Loaded, Schema, Sources};

    use super::*;

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn values(flags: &[&str]) -> anyhow::Result<Values> {
        let schema = Schema::new("test", "").with(dcos_dns::OPTIONS);
        match schema.load(&Sources::new(flags.iter().copied()))? {
            Loaded::Run(values) => Ok(values),
            _ => anyhow::bail!("no values"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_asked_for_names_is_reserved_also_when_the_host_asks_others()
    -> anyhow::Result<()> {
        let values = values(&[
            "--dns_resolvers=10.0.0.1,10.0.0.2:5353",
            r#"--dns_forward_zones={"corp": ["10.0.0.3", ["fd00::4", 53]]}"#,
        ])?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("resolv.conf");
        std::fs::write(&file, "nameserver 10.0.0.5\n")?;
        let guarded = Guarded {
            resolv_confs: vec![folder.path().join("absent"), file.clone()],
            ..Guarded::default()
        };
        let mut reserved = guarded.watch(&values)?;
        let mut expected = BTreeSet::from([1, 2, 3, 5].map(ip));
        expected.insert("fd00::4".parse()?);
        assert_eq!(reserved.borrow().addresses, expected);
        assert_eq!(reserved.borrow().awaited, 0);
        assert!(!reserved.borrow().masters_awaited);
        std::fs::write(&file, "nameserver 10.0.0.6\n")?;
        reserved.changed().await?;
        expected.insert(ip(6));
        assert_eq!(reserved.borrow().addresses, expected);
        Ok(())
    }

    #[test]
    fn options_name_hosts_in_many_ways() {
        for (named, expected) in [
            ("10.0.0.1:5050", &["10.0.0.1"][..]),
            ("master@10.0.0.1:5050", &["10.0.0.1"]),
            ("m1:5050, m2,", &["m1", "m2"]),
            ("fd00::1", &["fd00::1"]),
            ("[fd00::1]:5050", &["fd00::1"]),
            ("zk://u:p@z1,10.0.0.9:2182/mesos", &["z1", "10.0.0.9"]),
            ("etcds://[fd00::2]/mesos", &["fd00::2"]),
            ("zks://[fd00::3]/mesos", &["fd00::3"]),
        ] {
            assert_eq!(hosts(named), expected, "{named}");
        }
    }

    #[tokio::test]
    async fn masters_that_stand_and_servers_of_the_ensemble_are_reserved_for_good()
    -> anyhow::Result<()> {
        let values = values(&["--dns_masters=10.0.0.7"])?;
        let (election, standing) = watch::channel(Arc::default());
        let guarded = Guarded {
            named: vec!["zk://10.0.0.9,localhost/mesos".into()],
            standing: Some(standing),
            resolv_confs: Vec::new(),
        };
        let mut reserved = guarded.watch(&values)?;
        let at_once = BTreeSet::from([ip(7), ip(9)]);
        assert!(reserved.borrow().addresses.is_superset(&at_once));
        // The name is looked up by itself; the election is awaited.
        let found = reserved.wait_for(|now| now.awaited == 0).await?.clone();
        assert!(found.masters_awaited);
        assert!(found.addresses.iter().any(IpAddr::is_loopback));
        let stand = |last: &[u8]| {
            let pids = last.iter().map(|last| format!("master@{}:5050", ip(*last)));
            let infos = pids.map(|pid| dcos_proto::mesos::MasterInfo {
                pid: Some(pid),
                ..Default::default()
            });
            election.send_replace(Arc::new(infos.collect()))
        };
        stand(&[1, 2]);
        let now = reserved.wait_for(|now| !now.masters_awaited).await?.clone();
        assert!(now.addresses.contains(&ip(1)) && now.addresses.contains(&ip(2)));
        stand(&[3]);
        let now = reserved
            .wait_for(|now| now.addresses.contains(&ip(3)))
            .await?;
        assert!(now.addresses.contains(&ip(2)), "it may come back");
        Ok(())
    }
}
