//! What begins under one leader and ends under another: an agent that is drained, a framework that is torn down.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::json;

use crate::{
    cluster::{Cluster, PATIENCE},
    orders,
    workload::{Wants, Workload},
};

/// Has an agent drained and kills the leader at once; the next one concludes it. After another failover the agent is
/// still drained; reactivated, it gets tasks again.
///
/// # Errors
/// What did not happen.
pub async fn drain(cluster: &mut Cluster, workload: &Workload, host: &str) -> anyhow::Result<()> {
    let agent = orders::agent_at(cluster, host).await?;
    workload.excuse(&agent);
    let id = json!({"value": agent});
    let drain = json!({"type": "DRAIN_AGENT", "drain_agent": {"agent_id": id}});
    cluster.call(&drain).await?;
    cluster.replace_leader().await?;
    drained(cluster, &agent).await.context("after a failover")?;
    let running = workload.running_on(&agent);
    ensure!(running == 0, "{running} tasks are still told to run there");
    cluster.replace_leader().await?;
    drained(cluster, &agent)
        .await
        .context("after another failover")?;
    ensure!(
        workload.running_on(&agent) == 0,
        "a drained agent got tasks"
    );
    let reactivate = json!({"type": "REACTIVATE_AGENT", "reactivate_agent": {"agent_id": id}});
    cluster.call(&reactivate).await?;
    let back = crate::drill::until(PATIENCE, || workload.running_on(&agent) > 0).await;
    ensure!(back, "a reactivated agent gets no tasks");
    Ok(())
}

async fn drained(cluster: &mut Cluster, agent: &str) -> anyhow::Result<()> {
    let begin = Instant::now();
    loop {
        let seen = orders::agent(cluster, agent).await?;
        if seen["drain_info"]["state"] == "DRAINED" && seen["deactivated"] == true {
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "not drained: {seen}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Tears a framework down while one of its agents is cut off, and kills the leader at once: the agent comes back to
/// one that never knew the framework, and must end its tasks.
///
/// # Errors
/// What did not happen.
pub async fn teardown(cluster: &mut Cluster, host: &str, directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)?;
    let wants = Wants {
        name: "doomed",
        long: 1,
        short: 0,
    };
    let doomed = Workload::start(cluster.leading.clone(), wants, directory);
    let agents = cluster.agents.len();
    let up = crate::drill::until(PATIENCE, || doomed.long_running() == agents).await;
    ensure!(up, "its tasks do not start: {:?}", doomed.seen());
    let id = doomed.framework_id().context("it is subscribed")?;
    cluster.network.cut(host)?;
    let ended = async {
        let order = json!({"type": "TEARDOWN", "teardown": {"framework_id": {"value": id}}});
        cluster.call(&order).await?;
        cluster.replace_leader().await
    };
    let ended = ended.await;
    cluster.network.mend(host)?;
    ended?;
    let agent = cluster.network.host(host).ip.to_string();
    let begin = Instant::now();
    loop {
        let agents = cluster.get("GET_AGENTS").await?;
        let agents = &agents["get_agents"]["agents"];
        let back = orders::find(agents, |known| {
            known["agent_info"]["hostname"] == *agent && known["active"] == true
        });
        let alive = doomed.alive();
        if !back.is_null() && alive.is_empty() {
            break;
        }
        ensure!(
            begin.elapsed() < PATIENCE,
            "after a failover {alive:?} run on; the agent is back: {}",
            !back.is_null()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let answer = cluster.get("GET_FRAMEWORKS").await?;
    let frameworks = &answer["get_frameworks"]["frameworks"];
    let again = orders::find(frameworks, |framework| {
        framework["framework_info"]["id"]["value"] == *id
    });
    ensure!(again.is_null(), "it is back: {again}");
    doomed.stop().await;
    Ok(())
}
