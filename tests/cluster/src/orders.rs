//! Standing orders: what operators and frameworks have set, which every later leader must know.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};

use crate::cluster::{Cluster, PATIENCE};

/// When the machine that is not there is going to be maintained, in nanoseconds.
const MAINTENANCE: i64 = 4_102_444_800_000_000_000;

/// A framework's failover timeout in seconds.
const FAILOVER_TIMEOUT: f64 = 86_400.0;

/// What was ordered.
#[derive(Debug)]
pub struct Orders {
    /// A framework that subscribed once, and may stay away for long.
    absent: String,
    /// The agent on which something is reserved.
    agent: String,
}

impl Orders {
    /// Sets quota, weight, maintenance and a reservation, and lets a framework subscribe and go away.
    ///
    /// # Errors
    /// One is refused.
    pub async fn give(cluster: &mut Cluster) -> anyhow::Result<Self> {
        let quota = json!({
            "role": "kept",
            "guarantees": {"cpus": {"value": 0.5}},
            "limits": {"cpus": {"value": 7}},
        });
        let window = json!({
            "machine_ids": [{"hostname": "elsewhere", "ip": "10.99.0.200"}],
            "unavailability": {"start": {"nanoseconds": MAINTENANCE}},
        });
        let orders = [
            json!({"type": "UPDATE_QUOTA", "update_quota": {"quota_configs": [quota], "force": true}}),
            json!({"type": "UPDATE_WEIGHTS", "update_weights":
                {"weight_infos": [{"role": "heavy", "weight": 2.5}]}}),
            json!({"type": "UPDATE_MAINTENANCE_SCHEDULE", "update_maintenance_schedule":
                {"schedule": {"windows": [window]}}}),
        ];
        for order in &orders {
            cluster.call(order).await?;
        }
        let agent = agent_at(cluster, "agent1").await?;
        let reserved = json!({
            "type": "SCALAR", "name": "cpus", "scalar": {"value": 1.5},
            "reservations": [{"type": "DYNAMIC", "role": "kept"}],
        });
        let reserve = json!({"type": "RESERVE_RESOURCES", "reserve_resources":
            {"agent_id": {"value": agent}, "resources": [reserved]}});
        cluster.call(&reserve).await?;
        let absent = cluster.subscribe_once("absent", FAILOVER_TIMEOUT).await?;
        Ok(Self { absent, agent })
    }

    /// Whether all of it holds under the present leader, as soon as its agents are back.
    ///
    /// # Errors
    /// What does not.
    pub async fn hold(&self, cluster: &mut Cluster) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            let lost = self.lost(cluster).await?;
            if lost.is_empty() {
                return Ok(());
            }
            ensure!(begin.elapsed() < PATIENCE, "lost: {}", lost.join("; "));
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    }

    async fn lost(&self, cluster: &mut Cluster) -> anyhow::Result<Vec<String>> {
        let mut lost = Vec::new();
        let mut expect = |what: &str, found: &Value, holds: bool| {
            if !holds {
                lost.push(format!("{what}: {found}"));
            }
        };
        let quota = &cluster.get("GET_QUOTA").await?["get_quota"]["status"]["configs"];
        let config = find(quota, |config| config["role"] == "kept");
        let holds = config["limits"]["cpus"]["value"] == 7.0
            && config["guarantees"]["cpus"]["value"] == 0.5;
        expect("quota", quota, holds);
        let weights = &cluster.get("GET_WEIGHTS").await?["get_weights"]["weight_infos"];
        let weight = find(weights, |info| info["role"] == "heavy");
        expect("weight", weights, weight["weight"] == 2.5);
        let answer = cluster.get("GET_MAINTENANCE_SCHEDULE").await?;
        let windows = &answer["get_maintenance_schedule"]["schedule"]["windows"];
        let start = &windows[0]["unavailability"]["start"]["nanoseconds"];
        expect("maintenance", windows, *start == MAINTENANCE);
        let agent = agent(cluster, &self.agent).await?;
        let resources = &agent["total_resources"];
        let reserved = find(resources, |resource| {
            resource["reservations"][0]["role"] == "kept"
        });
        let holds = reserved["scalar"]["value"] == 1.5;
        expect("reservation", resources, holds);
        let answer = cluster.get("GET_FRAMEWORKS").await?;
        let frameworks = &answer["get_frameworks"]["frameworks"];
        let absent = find(frameworks, |framework| {
            framework["framework_info"]["id"]["value"] == *self.absent
        });
        let holds = absent["framework_info"]["failover_timeout"] == FAILOVER_TIMEOUT;
        expect("a framework that is away", frameworks, holds);
        Ok(lost)
    }
}

/// What the leader says of an agent; null if it does not know it.
///
/// # Errors
/// The leader does not answer.
pub async fn agent(cluster: &mut Cluster, id: &str) -> anyhow::Result<Value> {
    let answer = cluster.get("GET_AGENTS").await?;
    let agents = &answer["get_agents"]["agents"];
    Ok(find(agents, |agent| agent["agent_info"]["id"]["value"] == id).clone())
}

/// The id of the agent on a host, which may take some time to come back to a new leader.
///
/// # Errors
/// There is none.
pub async fn agent_at(cluster: &mut Cluster, host: &str) -> anyhow::Result<String> {
    let ip = cluster.network.host(host).ip.to_string();
    let begin = Instant::now();
    loop {
        let answer = cluster.get("GET_AGENTS").await?;
        let agents = &answer["get_agents"]["agents"];
        let agent = find(agents, |agent| agent["agent_info"]["hostname"] == ip);
        if let Some(id) = agent["agent_info"]["id"]["value"].as_str() {
            return Ok(id.to_owned());
        }
        ensure!(begin.elapsed() < PATIENCE, "no agent at {host}: {agents}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The first item that is meant, or null.
pub fn find(items: &Value, meant: impl Fn(&Value) -> bool) -> &Value {
    static NULL: Value = Value::Null;
    let items = items.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().find(|item| meant(item)).unwrap_or(&NULL)
}
