//! The HTTP API of Mesos-DNS (`resolver/resolver.go`, `Rest*`), key for key.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use dcos_net::names::IpSource;
use dcos_net::{RecordSet, Zone, vip};
use dcos_wire::reply;
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::Config;
use crate::served::Served;

#[derive(Clone)]
struct Api {
    config: Arc<Config>,
    served: watch::Receiver<Arc<Served>>,
}

pub(crate) fn router(config: Arc<Config>, served: watch::Receiver<Arc<Served>>) -> Router {
    let mut router = Router::new()
        .route("/v1/version", get(version))
        .route("/v1/config", get(effective_config))
        .route("/v1/hosts/{host}", get(host))
        .route("/v1/hosts/{host}/ports", get(ports))
        .route("/v1/services/{service}", get(service))
        // Of dcos-net's API, which has `hosts` and `services` in common.
        .route("/v1/vips", get(vips));
    if config.enumeration {
        router = router
            .route("/v1/enumerate", get(enumerate))
            .route("/v1/axfr", get(axfr))
            .route("/v1/records", get(all_records));
    }
    router.with_state(Api { config, served })
}

/// The same in the shapes of dcos-net (`dcos_rest_dns_handler`): a list without entries where there is nothing, IPv4 alone.
pub(crate) fn of_dcos_net(config: Arc<Config>, served: watch::Receiver<Arc<Served>>) -> Router {
    Router::new()
        .route("/v1/hosts/{host}", get(plain_host))
        .route("/v1/services/{service}", get(plain_service))
        .route("/v1/records", get(all_records))
        .with_state(Api { config, served })
}

impl Api {
    fn served(&self) -> Arc<Served> {
        Arc::clone(&self.served.borrow())
    }
}

fn answer(document: &impl Serialize) -> Response {
    match serde_json::to_vec(document) {
        Ok(document) => reply::json(document),
        Err(error) => reply::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn version() -> Response {
    answer(&json!({
        "Service": "Mesos-DNS",
        "Version": env!("CARGO_PKG_VERSION"),
        "URL": "https://github.com/mesosphere/mesos-dns",
    }))
}

async fn effective_config(State(api): State<Api>) -> Response {
    let Config {
        listen,
        http,
        names,
        ..
    } = &*api.config;
    let served = api.served();
    let soa = served.names.mesos.soa();
    let addresses = |addresses: &[SocketAddr]| -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    };
    let zones: BTreeMap<&String, Vec<String>> = api
        .config
        .zone_resolvers
        .iter()
        .map(|(zone, of)| (zone, addresses(of)))
        .collect();
    let sources: Vec<&str> = names
        .ip_sources
        .iter()
        .map(|source| IpSource::as_str(*source))
        .collect();
    answer(&json!({
        "RefreshSeconds": 1,
        "Port": listen.first().map(SocketAddr::port),
        "Timeout": api.config.timeout.as_secs(),
        "StateTimeoutSeconds": 300,
        "ZkDetectionTimeout": 30,
        "HttpPort": http.map(|address| address.port()),
        "TTL": names.ttl,
        "SRVRecordDefaultWeight": 1,
        "SOASerial": served.serial,
        "SOARefresh": soa.refresh,
        "SOARetry": soa.retry,
        "SOAExpire": soa.expire,
        "SOAMinttl": soa.minimum,
        "SOAMname": soa.mname,
        "SOARname": soa.rname,
        "Masters": Value::Null,
        "ZoneResolvers": zones,
        "Resolvers": addresses(&api.config.upstream.now()),
        "IPSources": sources,
        "Zk": "",
        "Domain": names.domain,
        "File": "",
        "Listener": listen.first().map(|address| address.ip().to_string()),
        "HTTPListener": http.map(|address| address.ip().to_string()),
        "RecurseOn": api.config.external,
        "DnsOn": !listen.is_empty(),
        "HttpOn": http.is_some(),
        "ExternalOn": api.config.external,
        "EnforceRFC952": names.enforce_rfc952,
        "SetTruncateBit": api.config.set_truncate_bit,
        "EnumerationOn": api.config.enumeration,
        "MesosHTTPSOn": false,
        "CACertFile": "",
        "CertFile": "",
        "KeyFile": "",
        "MesosAuthentication": "",
    }))
}

/// The name as zones have it.
fn complete(name: &str) -> String {
    let name = name.to_ascii_lowercase().replace(".*", "");
    if name.ends_with('.') {
        name
    } else {
        name + "."
    }
}

fn records<'a>(served: &'a Served, name: &str) -> Option<&'a RecordSet> {
    served.names.find(name).and_then(|found| found.records())
}

fn addresses(records: &RecordSet) -> impl Iterator<Item = String> {
    let a = records.a.iter().map(ToString::to_string);
    a.chain(records.aaaa.iter().map(ToString::to_string))
}

async fn host(State(api): State<Api>, Path(host): Path<String>) -> Response {
    let (name, served) = (complete(&host), api.served());
    let ips = records(&served, &name).into_iter().flat_map(addresses);
    let mut found: Vec<Value> = ips.map(|ip| json!({ "host": name, "ip": ip })).collect();
    if found.is_empty() {
        found.push(json!({ "host": "", "ip": "" }));
    }
    answer(&found)
}

async fn plain_host(State(api): State<Api>, Path(host): Path<String>) -> Response {
    let served = api.served();
    let found = records(&served, &complete(&host)).map(|records| &records.a);
    let found = found.into_iter().flatten();
    let found: Vec<Value> = found.map(|ip| json!({ "host": host, "ip": ip })).collect();
    answer(&found)
}

async fn plain_service(State(api): State<Api>, Path(service): Path<String>) -> Response {
    let served = api.served();
    let of_service = records(&served, &complete(&service)).map(|records| &records.srv);
    let found = of_service.into_iter().flatten().map(|srv| {
        let host = srv.target.trim_end_matches('.');
        let mut entry = json!({ "service": service, "host": host, "port": srv.port });
        let ip = records(&served, &srv.target).and_then(|records| records.a.first());
        if let Some(ip) = ip {
            entry["ip"] = json!(ip);
        }
        entry
    });
    answer(&found.collect::<Vec<_>>())
}

async fn ports() -> Response {
    reply::text(StatusCode::NOT_IMPLEMENTED, "To be implemented...")
}

/// As in the original: one entry for each kind of address a target has, and an empty one if there
/// is none at all (Admin Router relies on that).
async fn service(State(api): State<Api>, Path(service): Path<String>) -> Response {
    let (name, served) = (complete(&service), api.served());
    let mut found = Vec::new();
    for srv in records(&served, &name)
        .iter()
        .flat_map(|records| &records.srv)
    {
        let Some(target) = records(&served, &srv.target) else {
            continue;
        };
        let a = target.a.first().map(ToString::to_string);
        for ip in a
            .into_iter()
            .chain(target.aaaa.first().map(ToString::to_string))
        {
            let port = srv.port.to_string();
            found.push(json!({ "service": service, "host": srv.target, "ip": ip, "port": port }));
        }
    }
    if found.is_empty() {
        found.push(json!({ "service": "", "host": "", "ip": "", "port": "" }));
    }
    answer(&found)
}

async fn enumerate(State(api): State<Api>) -> Response {
    let served = api.served();
    let frameworks = served.names.enumeration.iter().map(|framework| {
        let tasks = framework.tasks.iter().map(|task| {
            let records = task.records.iter().map(
                |record| json!({ "name": record.name, "host": record.host, "rtype": record.rtype }),
            );
            json!({ "name": task.name, "id": task.id, "records": records.collect::<Vec<_>>() })
        });
        json!({ "tasks": tasks.collect::<Vec<_>>(), "name": framework.name })
    });
    answer(&json!({ "frameworks": frameworks.collect::<Vec<_>>() }))
}

async fn vips(State(api): State<Api>) -> Response {
    reply::json(vip::document(&api.served().names.vips))
}

/// Every record of every zone, as dcos-net has it.
async fn all_records(State(api): State<Api>) -> Response {
    let served = api.served();
    let mut all = Vec::new();
    for (name, records) in served.names.zones().flat_map(Zone::names) {
        let mut add = |rtype: &str, host: String| {
            all.push(json!({ "name": name, "host": host, "rtype": rtype }));
        };
        records.a.iter().for_each(|ip| add("A", ip.to_string()));
        records
            .aaaa
            .iter()
            .for_each(|ip| add("AAAA", ip.to_string()));
        for srv in &records.srv {
            add("SRV", format!("{}:{}", srv.target, srv.port));
        }
    }
    answer(&all)
}

async fn axfr(State(api): State<Api>) -> Response {
    let served = api.served();
    let zone = &served.names.mesos;
    let (mut a, mut aaaa, mut srv) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (name, records) in zone.names() {
        let add = |kind: &mut BTreeMap<_, _>, values: Vec<String>| {
            if !values.is_empty() {
                kind.insert(name, values);
            }
        };
        add(&mut a, records.a.iter().map(ToString::to_string).collect());
        add(
            &mut aaaa,
            records.aaaa.iter().map(ToString::to_string).collect(),
        );
        let services = records.srv.iter();
        add(
            &mut srv,
            services
                .map(|srv| format!("{}:{}", srv.target, srv.port))
                .collect(),
        );
    }
    answer(&json!({
        "TTL": zone.ttl(),
        "Serial": served.serial,
        "RefreshSeconds": 1,
        "Mname": zone.soa().mname,
        "Rname": zone.soa().rname,
        "Domain": api.config.names.domain,
        "Records": { "As": a, "AAAAs": aaaa, "SRVs": srv },
    }))
}
