//! `dcos net`: the cluster's network.

use anyhow::Context as _;
use dcos_net::Snapshot;
use dcos_net::vip::{Backend, Listed};
use dcos_proto::json::{Dialect, from_slice};
use dcos_proto::master::Response;
use serde_json::{Value, json};

use super::Context;
use crate::cli::Net;
use crate::http::{Refused, Server};
use crate::output;

pub(crate) async fn run(context: &Context, command: Net) -> anyhow::Result<()> {
    match command {
        Net::Vips { node: None } => vips(context).await,
        Net::Vips { node: Some(node) } => vips_of(context, &node).await,
        Net::Overlay => overlay(context).await,
        Net::Members { node } => members(context, node.as_deref()).await,
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
    let vips = Snapshot::read(&state, None, Vec::new()).vips();
    let listed: Vec<Listed> = vips.list().collect();
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

/// What a node that balances says.
async fn vips_of(context: &Context, node: &str) -> anyhow::Result<()> {
    let vips = Server::new(node)?.send("GET", "/net/v1/vips", None).await;
    let vips = vips.context("is there a router, and does that node balance (--l4lb)?")?;
    if context.json {
        output::json(&vips);
        return Ok(());
    }
    let vips = vips.as_array().map(Vec::as_slice).unwrap_or_default();
    if context.quiet {
        output::lines(vips.iter().map(|vip| text(&vip["vip"])));
        return Ok(());
    }
    let rows = vips.iter().map(|vip| {
        let those = |avoided: bool| {
            let backends = list(vip, "backend").iter();
            let backends = backends.filter(|one| (one["avoided"] == true) == avoided);
            let places: Vec<String> = backends.map(place).collect();
            places.join("\n")
        };
        vec![
            text(&vip["vip"]),
            text(&vip["protocol"]),
            those(false),
            those(true),
        ]
    });
    output::table(&["VIP", "PROTOCOL", "BACKENDS", "AVOIDED"], rows);
    Ok(())
}

/// Where a backend is, as the networking API writes it.
fn place(backend: &Value) -> String {
    let (ip, port) = (text(&backend["ip"]), text(&backend["port"]));
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

/// What the master gave out.
async fn overlay_state(context: &Context) -> anyhow::Result<Value> {
    let master = context.master().await?;
    let state = master.send("GET", "/overlay-master/state", None).await;
    state.context("does the master give out overlays (--overlay)?")
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

async fn overlay(context: &Context) -> anyhow::Result<()> {
    let state = overlay_state(context).await?;
    let overlays = list(&state["network"], "overlays");
    if context.quiet {
        output::lines(overlays.iter().map(|overlay| text(&overlay["name"])));
        return Ok(());
    }
    if context.json {
        output::json(&state["network"]);
        return Ok(());
    }
    let agents = |name: &Value| {
        let parts = |agent: &Value| {
            list(agent, "overlays")
                .iter()
                .any(|part| part["info"]["name"] == *name)
        };
        let agents = list(&state, "agents").iter().filter(|agent| parts(agent));
        agents.count().to_string()
    };
    let rows = overlays.iter().map(|overlay| {
        let pairs = [("subnet", "prefix"), ("subnet6", "prefix6")].into_iter();
        let pairs = pairs.filter(|(subnet, _)| !overlay[*subnet].is_null());
        let (subnets, prefixes): (Vec<_>, Vec<_>) = pairs
            .map(|(subnet, prefix)| (text(&overlay[subnet]), format!("/{}", overlay[prefix])))
            .unzip();
        vec![
            text(&overlay["name"]),
            subnets.join("\n"),
            prefixes.join("\n"),
            agents(&overlay["name"]),
        ]
    });
    output::table(&["NAME", "NETWORK", "PART OF AN AGENT", "AGENTS"], rows);
    Ok(())
}

async fn members(context: &Context, node: Option<&str>) -> anyhow::Result<()> {
    let asked = match node {
        Some(node) => Server::new(node)?,
        None => context.master().await?,
    };
    match asked.send("GET", "/net/v1/members", None).await {
        Ok(members) => {
            gossiped(context, &members);
            Ok(())
        }
        Err(error) if node.is_some() => {
            Err(error).context("does that node take part in gossip (--gossip_key)?")
        }
        // A master without gossip may give out overlays.
        Err(error) if error.downcast_ref().is_some_and(Refused::is_not_there) => {
            in_overlays(context).await
        }
        Err(error) => Err(error),
    }
}

/// Who is there, as gossip knows it.
fn gossiped(context: &Context, members: &Value) {
    let members = members.as_array().map(Vec::as_slice).unwrap_or_default();
    if context.quiet {
        output::lines(members.iter().map(|member| text(&member["private_ip"])));
        return;
    }
    if context.json {
        output::json(&Value::Array(members.to_vec()));
        return;
    }
    let rows = members.iter().map(|member| {
        let public = list(member, "public_ips").iter().map(text);
        vec![
            text(&member["private_ip"]),
            text(&member["kind"]),
            text(&member["presence"]),
            text(&member["since"]),
            text(&member["hostname"]),
            public.collect::<Vec<_>>().join("\n"),
            text(&member["address"]),
        ]
    });
    let head = [
        "NODE",
        "KIND",
        "PRESENCE",
        "SINCE",
        "HOSTNAME",
        "PUBLIC ADDRESSES",
        "MEMBER",
    ];
    output::table(&head, rows);
}

async fn in_overlays(context: &Context) -> anyhow::Result<()> {
    let state = overlay_state(context).await?;
    let agents = list(&state, "agents");
    if context.quiet {
        output::lines(agents.iter().map(|agent| text(&agent["ip"])));
        return Ok(());
    }
    if context.json {
        output::json(&state["agents"]);
        return Ok(());
    }
    let rows = agents.iter().map(|agent| {
        let overlays = list(agent, "overlays");
        let vxlan = &agent["backend"]["vxlan"];
        let parts = overlays.iter().map(|part| {
            let subnets = [&part["subnet"], &part["subnet6"]].map(text);
            let subnets = subnets.into_iter().filter(|subnet| !subnet.is_empty());
            format!(
                "{} {}",
                text(&part["info"]["name"]),
                subnets.collect::<Vec<_>>().join(" ")
            )
        });
        let status = overlays.iter().map(|part| {
            let status = text(&part["state"]["status"]);
            let error = text(&part["state"]["error"]);
            if error.is_empty() {
                status
            } else {
                format!("{status}: {error}")
            }
        });
        let ends = [&vxlan["vtep_ip"], &vxlan["vtep_ip6"]].map(text);
        vec![
            text(&agent["ip"]),
            ends.into_iter()
                .filter(|end| !end.is_empty())
                .collect::<Vec<_>>()
                .join("\n"),
            text(&vxlan["vtep_mac"]),
            parts.collect::<Vec<_>>().join("\n"),
            status
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>()
                .join("\n"),
        ]
    });
    output::table(&["NODE", "TUNNEL END", "MAC", "PARTS", "STATUS"], rows);
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
