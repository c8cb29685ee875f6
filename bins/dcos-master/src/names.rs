//! The cluster's names, made of what the leading master knows: the one in this process, or another.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use dcos_core::config::Values;
use dcos_net::Snapshot;
use dcos_proto::master::{Call, Response, call, response};
use dcos_proto::mesos::MasterInfo;
use dcos_sched::master::{self, Stance, TaskRecord};
use dcos_wire::libprocess::Upid;
use dcos_wire::tls::Ssl;
use dcos_wire::{Client, MediaType};
use prost::Message as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::Local;

/// Where names are served, out of the program's settings.
///
/// # Errors
/// A resolver that is named is no address: to ask others instead, in silence, is what nobody meant.
pub(crate) fn config(values: &Values, ip: IpAddr) -> anyhow::Result<dcos_dns::Config> {
    let resolvers = match values.opt_list("dns_resolvers") {
        Some(named) if !named.is_empty() => {
            dcos_dns::named_resolvers(named).context("--dns_resolvers")?
        }
        _ => {
            let system = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
            dcos_dns::resolvers(&system)
        }
    };
    Ok(dcos_dns::Config {
        listen: vec![SocketAddr::new(ip, values.port("dns_port"))],
        http: Some(SocketAddr::new(ip, values.port("mesos_dns_port"))),
        resolvers,
        ..dcos_dns::Config::default()
    })
}

/// How often a master that does not lead asks the leader.
const REVIEW: Duration = Duration::from_secs(2);

/// Answers until `stop` is cancelled: each change of this master's state as soon as it is there, or, while another
/// one leads, what that one says now and then.
pub(crate) async fn serve(
    server: dcos_dns::Server,
    master: Local,
    own: SocketAddr,
    client: Client,
    stop: CancellationToken,
) {
    let (publish, published) = watch::channel(Arc::new(Snapshot::default()));
    let feed = async {
        follow(&publish, master.stance, own, &client).await;
        let mut changes = master.handle.changes();
        while let Ok(state) = master.handle.snapshot().await {
            // Before the registry is read this master knows of nobody.
            if state.recovered {
                tell(&publish, names(&state, own));
            }
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

/// Publishes what is so now, and of agents that are still awaited what was.
fn tell(publish: &watch::Sender<Arc<Snapshot>>, now: Snapshot) {
    publish.send_modify(|told| *told = Arc::new(now.after(told)));
}

/// Publishes what the leader says until this master leads.
async fn follow(
    publish: &watch::Sender<Arc<Snapshot>>,
    mut stance: watch::Receiver<Stance>,
    own: SocketAddr,
    client: &Client,
) {
    loop {
        let now = stance.borrow_and_update().clone();
        let leader = match now {
            Stance::Leading => return,
            Stance::Standby(leader) => leader.as_deref().and_then(address),
            Stance::Recovering => None,
        };
        if let Some(leader) = leader {
            match ask(client, leader).await {
                Ok(state) => tell(
                    publish,
                    Snapshot::read(&state, Some(leader), vec![leader.ip(), own.ip()]),
                ),
                Err(error) => debug!("asking the leader for its tasks: {error:#}"),
            }
        }
        let changed = tokio::time::timeout(REVIEW, stance.changed()).await;
        if matches!(changed, Ok(Err(_))) {
            return;
        }
    }
}

/// Where a master is reached.
pub(crate) fn address(info: &MasterInfo) -> Option<SocketAddr> {
    let upid: Upid = info.pid.as_deref()?.parse().ok()?;
    Some(upid.address())
}

/// `GET_STATE` of the leader.
async fn ask(client: &Client, leader: SocketAddr) -> anyhow::Result<response::GetState> {
    let call = Call {
        r#type: Some(call::Type::GetState.into()),
        ..Call::default()
    };
    let url = format!("{}://{leader}/api/v1", Ssl::scheme());
    let media = MediaType::Protobuf;
    let answer = client.post(&url, media.header(), call.encode_to_vec());
    let answer = answer.await?.success().await?.bytes().await?;
    let answer: Response = dcos_proto::decode(answer.as_ref())?;
    answer.get_state.context("an answer without a state")
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
        tasks.map(TaskRecord::read),
    )
    .awaiting(
        state
            .recovered_agents
            .keys()
            .map(|id| id.as_str().to_owned()),
    )
}
