//! The router of an agent: what masters' routers ask of this node.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context as _;
use dcos_core::config::Values;
use dcos_router::decide::{RouterAt, Rules};
use dcos_router::world::Scheme;
use dcos_router::{Config, Port, Router, limits, options, route};
use dcos_wire::tls::Ssl;
use tokio_util::sync::CancellationToken;

/// A router and the ports it is to serve, if a port is given for it.
pub(crate) async fn open(
    values: &Values,
    ip: IpAddr,
    stop: &CancellationToken,
) -> anyhow::Result<Option<(Router, Vec<Port>)>> {
    if !options::is_wanted(values) {
        return Ok(None);
    }
    let ssl = Ssl::from_env()?;
    let ports = options::ports(values, ip, ssl.as_ref()).await;
    let ports = ports.context("the router")?;
    let rules = Rules {
        routes: route::AGENT,
        parts: options::places(values, [])?,
        scheme: Scheme::Http,
        masters: RouterAt::http(80),
        agents: options::agents(values),
        own_hosts: BTreeSet::new(),
        origins: dcos_program::origins(values)?,
    };
    let config = Config {
        rules,
        about: options::about(values, ip, "/var/lib/dcos/cluster-id".into()),
        sources: None,
        tls: ssl.map(|ssl| ssl.client),
        authenticate: None,
        access_log: values.opt_path("router_access_log"),
        patience: Duration::ZERO,
        limits: limits(),
    };
    let router = Router::new(config, stop.clone()).context("the router")?;
    Ok(Some((router, ports)))
}
