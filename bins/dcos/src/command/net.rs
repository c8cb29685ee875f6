//! `dcos net`: the cluster's network.

use anyhow::Context as _;
use dcos_net::Snapshot;
use dcos_net::vip::{Backend, Listed, VipTable};
use dcos_proto::json::{Dialect, from_slice};
use dcos_proto::master::Response;
use serde_json::{Value, json};

use super::Context;
use crate::cli::Net;
use crate::output;

pub(crate) async fn run(context: &Context, command: Net) -> anyhow::Result<()> {
    match command {
        Net::Vips => vips(context).await,
    }
}

/// What the master knows of tasks says which VIPs there are: each node comes to the same.
async fn vips(context: &Context) -> anyhow::Result<()> {
    let master = context.master().await?;
    let call = json!({"type": "GET_STATE"});
    let state = master.send("POST", "/api/v1", Some(&call)).await?;
    let state: Response = from_slice(state.to_string().as_bytes(), Dialect::V1)?;
    let state = state
        .get_state
        .context("the master answered without a state")?;
    let mut table = VipTable::new([]);
    for (task, claims) in Snapshot::read(&state, None, Vec::new()).claims {
        table.set(task, claims);
    }
    let listed: Vec<Listed> = table.list().collect();
    if context.quiet {
        output::lines(listed.iter().map(ToString::to_string));
    } else if context.json {
        output::json(&Value::Array(listed.iter().map(document).collect()));
    } else {
        output::table(
            &["VIP", "PROTOCOL", "ADDRESSES", "BACKENDS", "CLOSED"],
            listed.iter().map(row),
        );
    }
    Ok(())
}

fn addresses(listed: &Listed) -> Vec<String> {
    listed.addresses.iter().map(ToString::to_string).collect()
}

fn row(listed: &Listed) -> Vec<String> {
    let those = |open: bool| {
        let backends = listed
            .backends
            .iter()
            .filter(|backend| backend.open == open);
        let addresses: Vec<String> = backends.map(|one| one.address.to_string()).collect();
        addresses.join("\n")
    };
    vec![
        listed.to_string(),
        listed.protocol.as_str().to_owned(),
        addresses(listed).join("\n"),
        those(true),
        those(false),
    ]
}

fn document(listed: &Listed) -> Value {
    let backend = |backend: &Backend| {
        json!({
            "ip": backend.address.ip().to_string(),
            "port": backend.address.port(),
            "agent": backend.agent.to_string(),
            "open": backend.open,
        })
    };
    json!({
        "vip": listed.to_string(),
        "protocol": listed.protocol.as_str(),
        "addresses": addresses(listed),
        "backend": listed.backends.iter().map(backend).collect::<Vec<_>>(),
    })
}
