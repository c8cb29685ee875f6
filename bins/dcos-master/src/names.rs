//! The cluster's names, made of what the master in this process knows.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use dcos_core::config::Values;
use dcos_net::Snapshot;
use dcos_sched::master::{self, MasterHandle};
use dcos_wire::libprocess::Upid;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Where names are served, out of the program's settings.
pub(crate) fn config(values: &Values, ip: IpAddr) -> dcos_dns::Config {
    let given: Vec<_> = values
        .opt_list("dns_resolvers")
        .unwrap_or_default()
        .iter()
        .filter_map(|resolver| {
            let address = resolver.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
            resolver.parse().or(address).ok()
        })
        .collect();
    let resolvers = if given.is_empty() {
        let system = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        dcos_dns::resolvers(&system)
    } else {
        given
    };
    dcos_dns::Config {
        listen: vec![SocketAddr::new(ip, values.port("dns_port"))],
        http: Some(SocketAddr::new(ip, values.port("mesos_dns_port"))),
        resolvers,
        ..dcos_dns::Config::default()
    }
}

/// Answers until `stop` is cancelled, each change of the master's state as soon as it is there.
pub(crate) async fn serve(
    server: dcos_dns::Server,
    master: MasterHandle,
    leader: SocketAddr,
    stop: CancellationToken,
) {
    let (publish, published) = watch::channel(Arc::new(Snapshot::default()));
    let feed = async {
        let mut changes = master.changes();
        while let Ok(state) = master.snapshot().await {
            publish.send_replace(Arc::new(names(&state, leader)));
            if changes.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = server.run(published, stop.clone()) => {}
        () = async { feed.await; stop.cancelled().await } => {}
    }
}

fn names(state: &master::Snapshot, leader: SocketAddr) -> Snapshot {
    let agents = state.agents.iter().filter_map(|(id, agent)| {
        let upid: Upid = agent.pid.parse().ok()?;
        Some(dcos_net::Agent::new(
            id.as_str(),
            upid.address().ip(),
            upid.address().port(),
        ))
    });
    let frameworks = state.frameworks.values().map(|framework| &framework.info);
    let tasks = state
        .frameworks
        .values()
        .flat_map(|framework| framework.tasks.values());
    Snapshot::collect(
        Some(leader),
        vec![leader.ip()],
        agents,
        frameworks,
        tasks.map(AsRef::as_ref),
    )
}
