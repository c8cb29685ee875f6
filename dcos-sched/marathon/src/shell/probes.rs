//! Performs the checks that are Marathon's own: HTTP, HTTPS and TCP health checks, and readiness.
//!
//! One task a check of a running instance, started and stopped as the view changes.

mod http;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Mailbox;
use crate::PathId;
use crate::core::{Input, Probe, View};
use crate::instance::{Condition, Instance, InstanceId, ReadinessResult};
use crate::model::{App, HealthCheck, NetworkMode, Protocol, ReadinessCheck};

/// Which check of which instance; readiness has no number.
type Key = (InstanceId, Option<usize>);

/// Keeps exactly the checks going that the view calls for, until `ending` fires.
pub(super) async fn run(mut mailbox: Mailbox, ending: CancellationToken) {
    let mut apps: BTreeMap<PathId, Checked> = BTreeMap::new();
    loop {
        let view = mailbox.view();
        apps.retain(|app, _| view.instances.contains_key(app));
        for (app, instances) in &view.instances {
            let known = apps.get(app);
            if known.is_some_and(|known| Arc::ptr_eq(&known.instances, instances)) {
                continue;
            }
            let wanted = wanted(&view, instances);
            let checked = apps.entry(app.clone()).or_default();
            checked.instances = Arc::clone(instances);
            checked.going.retain(|key, _| wanted.contains_key(key));
            for (key, work) in wanted {
                let instance = key.0.clone();
                checked.going.entry(key).or_insert_with(|| {
                    let stop = ending.child_token();
                    tokio::spawn(perform(instance, work, mailbox.clone(), stop.clone()));
                    stop.drop_guard()
                });
            }
        }
        tokio::select! {
            () = ending.cancelled() => return,
            more = mailbox.changed() => if !more { return },
        }
    }
}

/// The checks of one app that go on, and the instances they were made for: what these were launched with stays as it
/// is, so that nothing else has to be looked at.
#[derive(Default)]
struct Checked {
    instances: Arc<BTreeMap<InstanceId, Arc<Instance>>>,
    going: BTreeMap<Key, DropGuard>,
}

#[derive(Clone, Debug)]
struct Work {
    check: Check,
    host: String,
    port: u16,
}

#[derive(Clone, Debug)]
enum Check {
    Health(usize, HealthCheck),
    Readiness(ReadinessCheck),
}

fn wanted(view: &View, instances: &BTreeMap<InstanceId, Arc<Instance>>) -> BTreeMap<Key, Work> {
    let mut all = BTreeMap::new();
    let running = instances
        .values()
        .filter(|i| i.condition == Condition::Running && !i.is_leaving());
    for instance in running {
        let Some(spec) = view.spec_of(instance) else {
            continue;
        };
        for (at, check) in spec.health_checks.iter().enumerate() {
            if check.protocol.is_mesos() {
                continue;
            }
            if let Some((host, port)) = health_target(spec, instance, check) {
                let work = Work {
                    check: Check::Health(at, check.clone()),
                    host,
                    port,
                };
                all.insert((instance.id.clone(), Some(at)), work);
            }
        }
        let ready = instance.ready.as_ref().is_some_and(|ready| ready.ready);
        if let Some(check) = spec.readiness_checks.first().filter(|_| !ready)
            && let Some(at) = port_named(spec, &check.port_name)
            && let Some((host, port)) = target(spec, instance, at)
        {
            let work = Work {
                check: Check::Readiness(check.clone()),
                host,
                port,
            };
            all.insert((instance.id.clone(), None), work);
        }
    }
    all
}

/// A port that is given counts where the container is reached: at its own address on a named network, else at the host
/// (`NetworkInfo.effectiveIpAddress` of Marathon 1.11).
fn health_target(spec: &App, instance: &Instance, check: &HealthCheck) -> Option<(String, u16)> {
    match check.port {
        Some(port)
            if spec
                .networks
                .iter()
                .any(|n| n.mode == NetworkMode::Container) =>
        {
            Some((instance.addresses.first()?.clone(), port))
        }
        Some(port) => Some((instance.agent.host.clone(), port)),
        None => target(spec, instance, usize::from(check.port_index.unwrap_or(0))),
    }
}

/// The host's port if there is one, else the container's own address.
fn target(spec: &App, instance: &Instance, at: usize) -> Option<(String, u16)> {
    if let Some(port) = instance.ports.get(at).copied().flatten() {
        return Some((instance.agent.host.clone(), port));
    }
    let mapping = spec.port_mappings().get(at)?;
    Some((instance.addresses.first()?.clone(), mapping.container_port))
}

fn port_named(spec: &App, name: &str) -> Option<usize> {
    let named = |port: &Option<String>| port.as_deref() == Some(name);
    let of_mappings = spec
        .port_mappings()
        .iter()
        .position(|mapping| named(&mapping.name));
    of_mappings.or_else(|| {
        spec.port_definitions()
            .iter()
            .position(|port| named(&port.name))
    })
}

/// Checks again and again, until stopped or, for readiness, until ready.
async fn perform(instance: InstanceId, work: Work, mailbox: Mailbox, stop: CancellationToken) {
    let interval = match &work.check {
        Check::Health(_, check) => check.interval_seconds,
        Check::Readiness(check) => check.interval_seconds,
    };
    let mut timer = tokio::time::interval(Duration::from_secs(u64::from(interval.max(1))));
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = timer.tick() => {}
        }
        let probe = tokio::select! {
            () = stop.cancelled() => return,
            probe = once(&instance, &work) => probe,
        };
        if let Some(probe) = probe {
            mailbox.tell(Input::Probed(probe)).await;
        }
    }
}

async fn once(instance: &InstanceId, work: &Work) -> Option<Probe> {
    match &work.check {
        Check::Health(at, check) => {
            let limit = Duration::from_secs(u64::from(check.timeout_seconds));
            let outcome = match tokio::time::timeout(limit, health(check, work)).await {
                Ok(outcome) => outcome?,
                Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
            };
            Some(Probe::Health {
                instance: instance.clone(),
                check: *at,
                outcome,
            })
        }
        Check::Readiness(check) => {
            let result = readiness(check, work).await;
            Some(Probe::Readiness {
                instance: instance.clone(),
                result,
            })
        }
    }
}

/// `None` if the answer counts neither way.
async fn health(check: &HealthCheck, work: &Work) -> Option<Result<(), String>> {
    if check.protocol == Protocol::Tcp {
        let connected = connect(&work.host, work.port).await;
        return Some(connected.map(|_| ()).map_err(|error| error.to_string()));
    }
    let tls = check.protocol == Protocol::Https;
    let path = check.path.as_deref().unwrap_or("/");
    match http::get(tls, &work.host, work.port, path).await {
        Ok(answer) if answer.status < 200 && check.ignore_http1xx == Some(true) => None,
        Ok(answer) if (200..400).contains(&answer.status) => Some(Ok(())),
        Ok(answer) => Some(Err(format!("{} {}", answer.status, answer.reason()))),
        Err(error) => Some(Err(error)),
    }
}

async fn readiness(check: &ReadinessCheck, work: &Work) -> ReadinessResult {
    let limit = Duration::from_secs(u64::from(check.timeout_seconds));
    let tls = check.protocol == "HTTPS";
    let answer = tokio::time::timeout(limit, http::get(tls, &work.host, work.port, &check.path));
    let answer = match answer.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => http::Answer::failed(504, error),
        Err(_) => http::Answer::failed(504, "no answer in time".to_owned()),
    };
    ReadinessResult {
        name: check.name.clone(),
        ready: check.http_status_codes_for_ready.contains(&answer.status),
        last_response: check.preserve_last_response.then_some((
            answer.status,
            answer.content_type,
            answer.body,
        )),
    }
}

async fn connect(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::other("the name has no address");
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests;
