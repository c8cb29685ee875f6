//! The loop around a data path that only remembers, and a master that tells what it is told to.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod memory;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use dcos_l4lb::{
    Balancer, Config, Connections, Dataplane, DataplaneError, Failures, Reader, Repairs, Reserved,
    Services, WAITING,
};
use dcos_net::vip::{Change, Service};
use dcos_proto::json::{self, Dialect};
use dcos_proto::master::Event;
use dcos_wire::records::{Limits, RecordSender, stream};
use dcos_wire::{Client, Listener, Masters, MediaType, Server, Told};
use http::Request;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// What a data path was told, and whether it fails at the next change.
#[derive(Clone, Default)]
struct Double(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    services: Services,
    strict: Vec<bool>,
    fails: bool,
    /// Whether somebody else may have changed it.
    is_touched: bool,
    changes: usize,
    withdrawn: Vec<IpAddr>,
    /// Where there was ever a service.
    ever: BTreeSet<IpAddr>,
}

impl Dataplane for Double {
    fn reconcile(&mut self, services: &Services, strict: bool) -> Result<Repairs, DataplaneError> {
        let mut told = self.0.lock().unwrap();
        told.strict.push(strict);
        let addresses = services.keys().map(|service| service.address.ip());
        told.ever.extend(addresses);
        if strict {
            told.services.clone_from(services);
        } else {
            told.services.extend(services.clone());
        }
        Ok(Repairs::default())
    }

    fn adopt(&mut self, services: &BTreeSet<Service>) -> Result<Services, DataplaneError> {
        let mut there = self.0.lock().unwrap().services.clone();
        there.retain(|service, _| services.contains(service));
        Ok(there)
    }

    fn apply(&mut self, changes: &[Change]) -> Result<(), DataplaneError> {
        let mut told = self.0.lock().unwrap();
        told.changes += 1;
        if std::mem::take(&mut told.fails) {
            let source = std::io::ErrorKind::NotFound.into();
            return Err(DataplaneError::Write { source });
        }
        for (service, now) in changes {
            match now {
                Some(now) => told.services.insert(*service, now.clone()),
                None => told.services.remove(service),
            };
        }
        Ok(())
    }

    fn withdraw(&mut self, addresses: &[IpAddr]) -> Result<(), DataplaneError> {
        self.0.lock().unwrap().withdrawn.extend(addresses);
        Ok(())
    }

    fn is_untouched(&mut self) -> Result<bool, DataplaneError> {
        Ok(!std::mem::take(&mut self.0.lock().unwrap().is_touched))
    }

    fn reader(&mut self) -> Result<Box<dyn Reader>, DataplaneError> {
        Ok(Box::new(Nothing))
    }
}

/// Nothing is balanced.
#[derive(Debug)]
struct Nothing;

impl Reader for Nothing {
    fn connections(&mut self) -> Result<Connections, DataplaneError> {
        Ok(Connections::new())
    }
}

impl Double {
    /// Waits until the backends of all services are `expected`.
    async fn leads_to(&self, expected: &[&str]) {
        let now = || {
            let told = self.0.lock().unwrap();
            let backends = told.services.values().flatten();
            backends.map(ToString::to_string).collect::<Vec<_>>()
        };
        let wait = async {
            while now() != expected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(Duration::from_secs(60), wait).await;
        assert!(waited.is_ok(), "{:?} instead of {expected:?}", now());
    }
}

/// A master whose subscribers arrive at the other end.
async fn master(stop: &CancellationToken) -> (String, mpsc::Receiver<RecordSender>) {
    let (sender, subscribers) = mpsc::channel(4);
    let subscribe = move || {
        let sender = sender.clone();
        async move {
            let (records, body) = stream(Limits::default());
            sender.send(records).await.unwrap();
            let mut response: Response = body.into_response();
            let media = MediaType::Protobuf.header();
            response.headers_mut().insert("content-type", media);
            response
        }
    };
    let router = Router::new().route("/api/v1", post(subscribe));
    let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.address().unwrap().to_string();
    tokio::spawn(Server::new(router).serve(listener, stop.clone()));
    (address, subscribers)
}

/// What the master there tells.
fn follow(master: String) -> mpsc::Receiver<Told> {
    let (sender, told) = mpsc::channel(WAITING);
    let masters = Masters::Fixed(master);
    tokio::spawn(masters.tell(Client::new(), vec![sender]));
    told
}

fn tell(records: &RecordSender, event: &str) {
    let event: Event = json::from_slice(event.as_bytes(), Dialect::V1).unwrap();
    records.send(MediaType::Protobuf.encode(&event)).unwrap();
}

fn subscribed(agents: &str, recovered: &str, port: Option<u16>) -> String {
    let task = |port: u16| {
        format!(
            r#"{{"name": "web", "task_id": {{"value": "t"}}, "framework_id": {{"value": "f"}},
              "agent_id": {{"value": "S0"}}, "state": "TASK_RUNNING", "discovery": {{"visibility": "CLUSTER",
              "ports": {{"ports": [{{"number": {port}, "protocol": "tcp",
              "labels": {{"labels": [{{"key": "VIP_0", "value": "/web:80"}}]}}}}]}}}}}}"#
        )
    };
    let tasks = port.map(task).unwrap_or_default();
    format!(
        r#"{{"type": "SUBSCRIBED", "subscribed": {{"get_state": {{
          "get_agents": {{"agents": [{agents}], "recovered_agents": [{recovered}]}},
          "get_frameworks": {{"frameworks": [{{"framework_info": {{"id": {{"value": "f"}}, "user": "root",
            "name": "marathon"}}, "active": true, "connected": true, "recovered": false}}]}},
          "get_tasks": {{"tasks": [{tasks}]}}}}}}}}"#
    )
}

fn updated(healthy: bool) -> String {
    format!(
        r#"{{"type": "TASK_UPDATED", "task_updated": {{"framework_id": {{"value": "f"}}, "state": "TASK_RUNNING",
          "status": {{"task_id": {{"value": "t"}}, "state": "TASK_RUNNING", "timestamp": 1.0,
          "healthy": {healthy}}}}}}}"#
    )
}

const AGENT: &str = r#"{"agent_info": {"id": {"value": "S0"}, "hostname": "h"}, "active": true,
    "version": "1.11.0", "pid": "slave(1)@10.0.0.7:5051"}"#;

#[tokio::test]
async fn the_data_path_follows_the_master() {
    let (stop, double) = (CancellationToken::new(), Double::default());
    let (address, mut subscribers) = master(&stop).await;
    let config = Config {
        told: follow(address),
        own: Vec::new(),
        reserved: None,
        unreachable: None,
        memory: None,
    };
    let balancer = Balancer::new(config, double.clone());
    let view = balancer.view();
    let running = tokio::spawn(balancer.run(stop.clone()));

    let first = subscribers.recv().await.unwrap();
    // What an earlier process led from there elsewhere would have been asked in place of the master.
    let withdrawn = double.0.lock().unwrap().withdrawn.clone();
    assert_eq!(withdrawn, [Ipv4Addr::LOCALHOST]);
    tell(&first, &subscribed(AGENT, "", Some(31_000)));
    double.leads_to(&["10.0.0.7:31000"]).await;
    assert_eq!(
        double.0.lock().unwrap().strict,
        [true],
        "all was told at once"
    );
    tell(&first, &updated(false));
    double.leads_to(&[]).await;
    assert_eq!(view.list().len(), 1);

    // A change that fails is made up for.
    double.0.lock().unwrap().fails = true;
    tell(&first, &updated(true));
    double.leads_to(&["10.0.0.7:31000"]).await;
    let changes = double.0.lock().unwrap().changes;
    assert_eq!(changes, 2);

    // Another leader, who has only read of the agent: what was told stays.
    drop(first);
    let second = subscribers.recv().await.unwrap();
    tell(
        &second,
        &subscribed("", r#"{"id": {"value": "S0"}, "hostname": "h"}"#, None),
    );
    tell(
        &second,
        r#"{"type": "AGENT_ADDED", "agent_added": {"agent": AGENT}}"#
            .replace("AGENT}", &format!("{AGENT}}}"))
            .as_str(),
    );
    tell(&second, &updated(false));
    double.leads_to(&[]).await;
    drop(second);

    // And one at which the task is gone.
    let third = subscribers.recv().await.unwrap();
    tell(&third, &subscribed(AGENT, "", None));
    let wait = async {
        while !view.list().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), wait).await.unwrap();
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_dead_node_is_left_out_while_no_master_answers() {
    let (stop, double) = (CancellationToken::new(), Double::default());
    let (address, mut subscribers) = master(&stop).await;
    let (cut_off, unreachable) = watch::channel(BTreeSet::new());
    let config = Config {
        told: follow(address),
        own: Vec::new(),
        reserved: None,
        unreachable: Some(unreachable),
        memory: None,
    };
    let running = tokio::spawn(Balancer::new(config, double.clone()).run(stop.clone()));
    let records = subscribers.recv().await.unwrap();
    // Two tasks, one on each of two agents.
    let other = AGENT.replace("S0", "S1").replace("10.0.0.7", "10.0.0.8");
    let one = subscribed(&format!("{AGENT}, {other}"), "", Some(31_000));
    let (head, task) = one.split_once(r#""tasks": ["#).unwrap();
    let task = task.strip_suffix("]}}}}").unwrap();
    let second = task
        .replace(r#""value": "t""#, r#""value": "u""#)
        .replace("S0", "S1");
    let both = format!(r#"{head}"tasks": [{task}, {second}]}}}}}}}}"#);
    tell(&records, &both);
    double.leads_to(&["10.0.0.7:31000", "10.0.0.8:31000"]).await;
    // Whoever comes next tells nothing.
    drop(records);
    let nodes = |last: &[u8]| last.iter().map(|last| [10, 0, 0, *last].into()).collect();
    cut_off.send_replace(nodes(&[7]));
    double.leads_to(&["10.0.0.8:31000"]).await;
    // Nobody left: better somebody who may be there than nobody.
    cut_off.send_replace(nodes(&[7, 8]));
    double.leads_to(&["10.0.0.7:31000", "10.0.0.8:31000"]).await;
    cut_off.send_replace(nodes(&[8]));
    double.leads_to(&["10.0.0.7:31000"]).await;
    cut_off.send_replace(nodes(&[]));
    double.leads_to(&["10.0.0.7:31000", "10.0.0.8:31000"]).await;
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn masters_and_where_they_keep_their_state_are_nobodys_virtual_address() {
    let (stop, double) = (CancellationToken::new(), Double::default());
    let (address, mut subscribers) = master(&stop).await;
    let ip = |last: u8| IpAddr::from([10, 0, 0, last]);
    let all = |last: &[u8], awaited| Reserved {
        addresses: last.iter().copied().map(ip).collect(),
        awaited,
        masters_awaited: false,
    };
    // A server of the ensemble is known from the start, standby masters are not.
    let (tell_of, reserved) = watch::channel(all(&[9], 1));
    let config = Config {
        told: follow(address),
        own: Vec::new(),
        reserved: Some(reserved),
        unreachable: None,
        memory: None,
    };
    let balancer = Balancer::new(config, double.clone());
    let view = balancer.view();
    let running = tokio::spawn(balancer.run(stop.clone()));
    let records = subscribers.recv().await.unwrap();
    let one = subscribed(AGENT, "", Some(31_000));
    let (head, task) = one.split_once(r#""tasks": ["#).unwrap();
    let task = task.strip_suffix("]}}}}").unwrap();
    let claim = |id: &str, vip: &str| {
        let task = task.replace(r#""value": "t""#, &format!(r#""value": "{id}""#));
        task.replace("/web:80", vip)
    };
    let tasks = [
        claim("t", "10.0.0.9:2181"),
        claim("u", "10.0.0.2:5050"),
        claim("v", "10.0.0.3:2888"),
        claim("w", "12.0.0.1:80"),
    ];
    tell(
        &records,
        &format!(r#"{head}"tasks": [{}]}}}}}}}}"#, tasks.join(",")),
    );
    let wait = async {
        while view.list().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), wait).await.unwrap();
    // Only now it is known who stands for election.
    tell_of.send_replace(all(&[9, 2], 0));
    double.leads_to(&["10.0.0.7:31000", "10.0.0.7:31000"]).await;
    let addresses = |kept: &Kept| -> BTreeSet<IpAddr> {
        let services = kept.services.keys();
        services.map(|service| service.address.ip()).collect()
    };
    let other: IpAddr = [12, 0, 0, 1].into();
    {
        let kept = double.0.lock().unwrap();
        assert_eq!(kept.ever, [ip(3), other].into());
        assert!(kept.withdrawn.contains(&ip(9)) && kept.withdrawn.contains(&ip(2)));
    }
    // A master that is new has its address back.
    tell_of.send_replace(all(&[9, 2, 3], 0));
    double.leads_to(&["10.0.0.7:31000"]).await;
    assert_eq!(addresses(&double.0.lock().unwrap()), [other].into());
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_backend_that_fails_is_left_out_and_told_of() {
    let (stop, double) = (CancellationToken::new(), Double::default());
    let (address, mut subscribers) = master(&stop).await;
    let config = Config {
        told: follow(address),
        own: Vec::new(),
        reserved: None,
        unreachable: None,
        memory: None,
    };
    let mut balancer = Balancer::new(config, double.clone());
    let (tell_of, failures) = watch::channel(Failures::default());
    balancer.avoid(failures);
    let routes = dcos_l4lb::router(balancer.view());
    let running = tokio::spawn(balancer.run(stop.clone()));
    let records = subscribers.recv().await.unwrap();
    let other = AGENT.replace("S0", "S1").replace("10.0.0.7", "10.0.0.8");
    let one = subscribed(&format!("{AGENT}, {other}"), "", Some(31_000));
    let (head, task) = one.split_once(r#""tasks": ["#).unwrap();
    let task = task.strip_suffix("]}}}}").unwrap();
    let second = task
        .replace(r#""value": "t""#, r#""value": "u""#)
        .replace("S0", "S1");
    tell(
        &records,
        &format!(r#"{head}"tasks": [{task}, {second}]}}}}}}}}"#),
    );
    double.leads_to(&["10.0.0.7:31000", "10.0.0.8:31000"]).await;
    let (status, tag, before) = asked(&routes, "/v1/vips", None).await;
    assert_eq!((status, before.contains("avoided")), (200, false));
    let tag = tag.unwrap();
    let (status, same, body) = asked(&routes, "/v1/vips", Some(&tag)).await;
    assert_eq!((status, &*same.unwrap(), &*body), (304, &*tag, ""));

    let failing: SocketAddr = "10.0.0.7:31000".parse().unwrap();
    tell_of.send_replace(Failures {
        avoided: [failing].into(),
        counts: [(failing, 3)].into(),
        reached: 2,
    });
    double.leads_to(&["10.0.0.8:31000"]).await;
    let (status, other, body) = asked(&routes, "/v1/vips", Some(&tag)).await;
    assert_eq!((status, other == Some(tag)), (200, false));
    assert!(
        body.contains(r#"{"ip":"10.0.0.7","port":31000,"avoided":true}"#),
        "{body}"
    );
    let (_, _, metrics) = asked(&routes, "/v1/metrics/l4lb", None).await;
    for line in [
        r#"failures_total{backend="10.0.0.7:31000"} 3"#,
        "avoided_backends 1",
        "reached_backends 2",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{metrics}");
    }
    tell_of.send_replace(Failures::default());
    double.leads_to(&["10.0.0.7:31000", "10.0.0.8:31000"]).await;

    // Whoever looked is no more: nobody would ever bring back whom that found dead.
    tell_of.send_replace(Failures {
        avoided: [failing].into(),
        ..Failures::default()
    });
    double.leads_to(&["10.0.0.8:31000"]).await;
    drop(tell_of);
    double.leads_to(&["10.0.0.7:31000", "10.0.0.8:31000"]).await;
    let (_, _, metrics) = asked(&routes, "/v1/metrics/l4lb", None).await;
    assert!(metrics.contains("avoided_backends 0\n"), "{metrics}");
    stop.cancel();
    running.await.unwrap();
}

/// Status, `ETag` and body.
async fn asked(routes: &Router, path: &str, tag: Option<&str>) -> (u16, Option<String>, String) {
    let mut request = Request::get(path);
    if let Some(tag) = tag {
        request = request.header("if-none-match", tag);
    }
    let request = request.body(Body::empty()).unwrap();
    let answer = routes.clone().oneshot(request).await.unwrap();
    let tag = answer.headers().get("etag");
    let tag = tag.map(|tag| tag.to_str().unwrap().to_owned());
    let status = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    (status, tag, String::from_utf8(body.to_vec()).unwrap())
}
