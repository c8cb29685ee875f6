//! A job of the original, as the document a user would send for it: it passes the same rules as every other.

use dcos_marathon::migrate::{object, word};
use serde_json::{Map, Value, json};

use super::words::{JobSpec, Network, Pair, RunSpec, Schedule, Volume};

/// `ConcurrencyPolicy`
const POLICIES: [&str; 4] = ["", "", "ALLOW", "FORBID"];
/// `Constraint.Operator`; the fifth was never given.
const OPERATORS: [&str; 7] = ["", "", "EQ", "LIKE", "UNLIKE", "", "IS"];
/// `NetworkDefinition.Mode`
const NETWORKS: [&str; 4] = ["", "host", "container", "container/bridge"];
/// `RestartPolicy`
const RESTARTS: [&str; 4] = ["", "", "NEVER", "ON_FAILURE"];
/// `Volume.Mode`
const MODES: [&str; 4] = ["", "", "RO", "RW"];

fn map(pairs: &[Pair]) -> Map<String, Value> {
    let pairs = pairs.iter();
    pairs
        .map(|pair| (pair.key.clone(), json!(pair.value)))
        .collect()
}

/// The document of a job.
pub(super) fn job(job: &JobSpec) -> Result<Value, String> {
    let run = job.run.as_ref().ok_or("it does not say what to run")?;
    let schedules = job.schedules.iter().map(schedule);
    let schedules = schedules.collect::<Result<Vec<_>, _>>()?;
    let dependencies = job.dependencies.iter().map(|on| json!({"id": on.id}));
    Ok(object([
        ("id", json!(job.id)),
        ("description", json!(job.description)),
        ("labels", map(&job.labels).into()),
        ("dependencies", dependencies.collect()),
        ("schedules", schedules.into()),
        ("run", what(run)?),
    ]))
}

fn schedule(schedule: &Schedule) -> Result<Value, String> {
    Ok(json!({
        "id": schedule.id,
        "cron": schedule.cron,
        "timezone": schedule.zone,
        "startingDeadlineSeconds": schedule.starting_deadline,
        "concurrencyPolicy": word(&POLICIES, schedule.concurrency_policy, "concurrency policy")?,
        "enabled": schedule.enabled,
    }))
}

fn what(run: &RunSpec) -> Result<Value, String> {
    let mut env = map(&run.environment);
    for secret in &run.environment_secrets {
        env.insert(secret.key.clone(), json!({"secret": secret.value}));
    }
    let secrets = run.secrets.iter();
    let secrets = secrets.map(|secret| (secret.key.clone(), json!({"source": secret.value})));
    let constraints = run
        .placement
        .iter()
        .flat_map(|placement| &placement.constraints);
    let constraints = constraints.map(|constraint| {
        Ok::<_, String>(object([
            ("attribute", json!(constraint.attribute)),
            (
                "operator",
                json!(word(
                    &OPERATORS,
                    constraint.operator,
                    "constraint operator"
                )?),
            ),
            ("value", json!(constraint.value)),
        ]))
    });
    let constraints = constraints.collect::<Result<Vec<_>, _>>()?;
    let artifacts = run.artifacts.iter().map(|artifact| {
        json!({
            "uri": artifact.url,
            "extract": artifact.extract,
            "executable": artifact.executable,
            "cache": artifact.cache,
        })
    });
    let docker = run.docker.as_ref().map(|docker| {
        let parameters = docker.parameters.iter();
        let parameters = parameters.map(|one| json!({"key": one.key, "value": one.value}));
        json!({
            "image": docker.image,
            "forcePullImage": docker.force_pull_image,
            "privileged": docker.privileged,
            "parameters": parameters.collect::<Vec<_>>(),
        })
    });
    let ucr = run.ucr.as_ref().map(|ucr| {
        let image = ucr.image.clone().unwrap_or_default();
        let shown = json!({"id": image.id, "kind": image.kind(), "forcePull": image.force_pull});
        json!({"image": shown, "privileged": ucr.privileged})
    });
    let restart = run.restart.as_ref().map(|restart| {
        Ok::<_, String>(object([
            (
                "policy",
                json!(word(&RESTARTS, restart.policy, "restart policy")?),
            ),
            ("activeDeadlineSeconds", json!(restart.active_deadline)),
        ]))
    });
    let list = |items: Result<Vec<Value>, String>| items.map(Value::from);
    Ok(object([
        ("cpus", json!(run.cpus)),
        ("mem", json!(run.mem)),
        ("disk", json!(run.disk)),
        ("gpus", json!(run.gpus)),
        ("cmd", json!(run.cmd.as_ref().filter(|cmd| !cmd.is_empty()))),
        (
            "args",
            json!(Some(&run.arguments).filter(|args| !args.is_empty())),
        ),
        ("user", json!(run.user)),
        ("env", env.into()),
        ("secrets", Value::Object(secrets.collect())),
        ("placement", json!({"constraints": constraints})),
        ("artifacts", artifacts.collect()),
        ("maxLaunchDelay", json!(run.max_launch_delay())),
        ("docker", json!(docker)),
        ("ucr", json!(ucr)),
        ("volumes", list(run.volumes.iter().map(volume).collect())?),
        ("restart", json!(restart.transpose()?)),
        ("taskKillGracePeriodSeconds", json!(run.kill_grace_seconds)),
        (
            "networks",
            list(run.networks.iter().map(network).collect())?,
        ),
    ]))
}

fn volume(volume: &Volume) -> Result<Value, String> {
    if let Some(secret) = &volume.secret {
        return Ok(json!({"containerPath": volume.container_path, "secret": secret}));
    }
    Ok(object([
        ("containerPath", json!(volume.container_path)),
        ("hostPath", json!(volume.host_path)),
        (
            "mode",
            json!(word(&MODES, volume.mode, "mode of a volume")?),
        ),
    ]))
}

fn network(network: &Network) -> Result<Value, String> {
    Ok(object([
        (
            "mode",
            json!(word(&NETWORKS, network.mode, "network mode")?),
        ),
        ("name", json!(network.name)),
        ("labels", map(&network.labels).into()),
    ]))
}
