//! The one door: a router before what this process and the cluster serve.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use dcos_core::config::Values;
use dcos_router::decide::{Place, Rules};
use dcos_router::route::{self, Part};
use dcos_router::world::{Base, Scheme};
use dcos_router::{Config, Port, Router, Sources, limits, options};
use dcos_store::{Ensemble, masters};
use dcos_wire::tls::Ssl;
use dcos_wire::{Client, ClientConfig, Credentials, Origins};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::guards;
use crate::house::House;

/// Where DC/OS keeps the id of a cluster.
const CLUSTER_ID: &str = "/var/lib/dcos/cluster-id";

/// How long a request waits for what is not known yet, such as right after the start.
const PATIENCE: Duration = Duration::from_secs(10);

/// What of this process the router stands before.
pub(crate) struct Beside<'a> {
    pub(crate) values: &'a Values,
    pub(crate) house: &'a House,
    pub(crate) ip: IpAddr,
    pub(crate) known: IpAddr,
    pub(crate) hostname: &'a str,
    pub(crate) components: &'a [&'static str],
    /// Where this process tells what dcos-net would.
    pub(crate) net: Option<SocketAddr>,
    /// A client of masters.
    pub(crate) client: Client,
}

/// A router, and the ports it is to serve.
pub(crate) async fn open(
    beside: Beside<'_>,
    stop: CancellationToken,
) -> anyhow::Result<(Router, Vec<Port>)> {
    let Beside {
        values,
        house,
        ip,
        known,
        hostname,
        components,
        net,
        client,
    } = beside;
    for option in unheard(values) {
        warn!(
            "--{option} is not asked by the router, which refuses pages of these origins: name them by {} as well",
            Origins::OPTION
        );
    }
    let ssl = Ssl::from_env()?;
    let scheme = match &ssl {
        Some(_) => Scheme::Https,
        None => Scheme::Http,
    };
    let ports = options::ports(values, ip, ssl.as_ref()).await?;
    let mut parts = own(values, ip, scheme, components)?;
    if let Some(net) = net {
        let base = Base::at(Scheme::Http, &net.to_string())?;
        parts.push((Part::Net, Place::At(base)));
    }
    let places = options::places(values, parts)?;
    let marathon = match places.get(&Part::Marathon) {
        Some(Place::At(base)) => Some(base.clone()),
        _ => None,
    };
    let sealed = ssl.is_some();
    let tls = ssl.map(|ssl| ssl.client);
    let guard = guards::of(values, "marathon")?;
    let marathon_client = Client::with_config(ClientConfig {
        tls: tls.clone(),
        authorization: guard.map(|guard| guard.authorization()),
        credentials: Credentials::FollowRedirects,
        ..ClientConfig::default()
    })?;
    let sources = Sources {
        masters: whereabouts(values, house, ip, components, &stop)?,
        scheme,
        master_client: client,
        marathon,
        marathon_client,
    };
    let rules = Rules {
        routes: route::MASTER,
        parts: places,
        scheme,
        masters: options::masters(&ports, sealed),
        agents: options::agents(values),
        own_hosts: BTreeSet::from([ip.to_string(), hostname.to_owned(), known.to_string()]),
        origins: dcos_program::origins(values)?,
    };
    let config = Config {
        rules,
        about: options::about(values, known, cluster_id(house)?),
        sources: Some(sources),
        tls,
        authenticate: None,
        access_log: values.opt_path("router_access_log"),
        patience: PATIENCE,
        limits: limits(),
    };
    Ok((Router::new(config, stop)?, ports))
}

/// The options that let in pages which the router before the service keeps out.
fn unheard(values: &Values) -> Vec<String> {
    if values.opt_list("http_allowed_origins").is_some() {
        return Vec::new();
    }
    let options = ["marathon", "metronome"].map(guards::allowing);
    let is_said = |option: &String| values.opt_list(option).is_some();
    options.into_iter().filter(is_said).collect()
}

/// The parts that this process serves.
fn own(
    values: &Values,
    ip: IpAddr,
    scheme: Scheme,
    components: &[&'static str],
) -> anyhow::Result<Vec<(Part, Place)>> {
    let mut parts = Vec::new();
    for (component, part, scheme, option) in [
        ("marathon", Part::Marathon, scheme, "marathon_port"),
        ("metronome", Part::Metronome, scheme, "metronome_port"),
        ("dns", Part::MesosDns, Scheme::Http, "mesos_dns_port"),
    ] {
        if components.contains(&component) {
            let address = SocketAddr::new(ip, values.port(option));
            parts.push((part, Place::At(Base::at(scheme, &address.to_string())?)));
        }
    }
    Ok(parts)
}

/// Where masters may be asked, now and later. Whoever leads is read in the ensemble where there is one: a leader whose
/// host is gone ends no stream.
fn whereabouts(
    values: &Values,
    house: &House,
    ip: IpAddr,
    components: &[&'static str],
    stop: &CancellationToken,
) -> anyhow::Result<watch::Receiver<Vec<String>>> {
    let ensemble = match values.opt_text("master") {
        Some(named) => {
            if !Ensemble::is_named_by(&named) {
                let named = named.split(',').map(|name| name.trim().to_owned());
                return Ok(watch::channel(named.collect()).1);
            }
            dcos_program::ensemble(values, &named)?
        }
        None if !components.contains(&"master") => {
            bail!("a router without a master here needs --master");
        }
        None => {
            let Some(ensemble) = house.ensemble() else {
                let own = SocketAddr::new(ip, values.port("port")).to_string();
                return Ok(watch::channel(vec![own]).1);
            };
            ensemble.clone()
        }
    };
    let mut leading = masters(&ensemble);
    let (sender, receiver) = watch::channel(Vec::new());
    let stop = stop.clone();
    tokio::spawn(async move {
        loop {
            let leader = leading.borrow_and_update().clone();
            let pid = leader
                .and_then(|leader| leader.pid.clone())
                .unwrap_or_default();
            let address = pid.split_once('@').map(|(_, address)| address.to_owned());
            sender.send_replace(address.into_iter().collect());
            tokio::select! {
                () = stop.cancelled() => return,
                changed = leading.changed() => if changed.is_err() { return },
            }
        }
    });
    Ok(receiver)
}

/// The file with the cluster's id. A master that is alone makes one; several would make several.
fn cluster_id(house: &House) -> anyhow::Result<PathBuf> {
    let House::Single(directory) = house else {
        return Ok(CLUSTER_ID.into());
    };
    if Path::new(CLUSTER_ID).exists() {
        return Ok(CLUSTER_ID.into());
    }
    let file = directory.join("cluster-id");
    if !file.exists() {
        let id = uuid::Uuid::new_v4();
        std::fs::write(&file, format!("{id}\n")).with_context(|| file.display().to_string())?;
    }
    Ok(file)
}
