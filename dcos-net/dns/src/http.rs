//! The HTTP API of Mesos-DNS (`resolver/resolver.go`, `Rest*`), key for key.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use dcos_net::names::IpSource;
use dcos_net::{RecordSet, vip};
use dcos_wire::{MediaType, reply};
use futures::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::Config;
use crate::forward::Forwarder;
use crate::metrics::{self, Answers};
use crate::served::Served;

#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) config: Arc<Config>,
    pub(crate) served: watch::Receiver<Arc<Served>>,
    pub(crate) forwarder: Arc<Forwarder>,
    pub(crate) answers: Arc<Answers>,
}

pub(crate) fn router(api: Api) -> Router {
    let mut router = Router::new()
        .route("/v1/version", get(version))
        .route("/v1/config", get(effective_config))
        .route("/v1/hosts/{host}", get(host))
        .route("/v1/hosts/{host}/ports", get(ports))
        .route("/v1/services/{service}", get(service))
        // Of dcos-net's API, which has `hosts` and `services` in common.
        .route("/v1/vips", get(vips))
        .route("/v1/metrics/dns", get(metrics));
    if api.config.enumeration {
        router = router
            .route("/v1/enumerate", get(enumerate))
            .route("/v1/axfr", get(axfr))
            .route("/v1/records", get(all_records));
    }
    router.with_state(api)
}

/// The same in the shapes of dcos-net (`dcos_rest_dns_handler`): a list without entries where there is nothing, IPv4 alone.
pub(crate) fn of_dcos_net(api: Api) -> Router {
    Router::new()
        .route("/v1/hosts/{host}", get(plain_host))
        .route("/v1/services/{service}", get(plain_service))
        .route("/v1/records", get(all_records))
        .route("/v1/metrics/dns", get(metrics))
        .with_state(api)
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
        "Resolvers": addresses(&api.forwarder.others()),
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

/// A name that may be there, of which nobody has told yet: nothing is denied then, which DNS says by SERVFAIL.
struct Unknown;

impl IntoResponse for Unknown {
    fn into_response(self) -> Response {
        let reason = "503 Service Unavailable: no master leads yet, or agents have not come back to it: the name may be there";
        reply::text(StatusCode::SERVICE_UNAVAILABLE, reason)
    }
}

/// The records of a name somebody asks for.
fn asked<'a>(served: &'a Served, name: &str) -> Result<Option<&'a RecordSet>, Unknown> {
    let found = served.names.find(name);
    if found.is_some_and(|found| !found.exists() && found.zone.is_partial()) {
        return Err(Unknown);
    }
    Ok(found.and_then(|found| found.records()))
}

fn addresses(records: &RecordSet) -> impl Iterator<Item = String> {
    let a = records.a.iter().map(ToString::to_string);
    a.chain(records.aaaa.iter().map(ToString::to_string))
}

type Answered = Result<Response, Unknown>;

async fn host(State(api): State<Api>, Path(host): Path<String>) -> Answered {
    let (name, served) = (complete(&host), api.served());
    let ips = asked(&served, &name)?.into_iter().flat_map(addresses);
    let mut found: Vec<Value> = ips.map(|ip| json!({ "host": name, "ip": ip })).collect();
    if found.is_empty() {
        found.push(json!({ "host": "", "ip": "" }));
    }
    Ok(answer(&found))
}

async fn plain_host(State(api): State<Api>, Path(host): Path<String>) -> Answered {
    let served = api.served();
    let found = asked(&served, &complete(&host))?.map(|records| &records.a);
    let found = found.into_iter().flatten();
    let found: Vec<Value> = found.map(|ip| json!({ "host": host, "ip": ip })).collect();
    Ok(answer(&found))
}

async fn plain_service(State(api): State<Api>, Path(service): Path<String>) -> Answered {
    let served = api.served();
    let of_service = asked(&served, &complete(&service))?.map(|records| &records.srv);
    let found = of_service.into_iter().flatten().map(|srv| {
        let host = srv.target.trim_end_matches('.');
        let mut entry = json!({ "service": service, "host": host, "port": srv.port });
        let ip = records(&served, &srv.target).and_then(|records| records.a.first());
        if let Some(ip) = ip {
            entry["ip"] = json!(ip);
        }
        entry
    });
    Ok(answer(&found.collect::<Vec<_>>()))
}

async fn ports() -> Response {
    reply::text(StatusCode::NOT_IMPLEMENTED, "To be implemented...")
}

/// As in the original: one entry for each kind of address a target has, and an empty one if there
/// is none at all (Admin Router relies on that).
async fn service(State(api): State<Api>, Path(service): Path<String>) -> Answered {
    let (name, served) = (complete(&service), api.served());
    let mut found = Vec::new();
    let of_service = asked(&served, &name)?.map(|records| &records.srv);
    for srv in of_service.into_iter().flatten() {
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
    Ok(answer(&found))
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
    let listing = Listing {
        served: api.served(),
        next: Some((0, 0)),
        is_first: true,
    };
    let pieces = stream::iter(listing.map(Ok::<_, Infallible>));
    reply::message(MediaType::Json, Body::from_stream(pieces))
}

/// A list of all records in pieces, which are made as they are sent: a large cluster has hundreds of thousands.
struct Listing {
    served: Arc<Served>,
    /// The zone, and the name in it, that come next.
    next: Option<(usize, usize)>,
    is_first: bool,
}

impl Listing {
    /// Writes the records of the name that comes next.
    fn write_next(&mut self, piece: &mut Vec<u8>) {
        let Some((zone, name)) = self.next else {
            return;
        };
        let Some(of) = self.served.names.zones().nth(zone) else {
            piece.extend_from_slice(if self.is_first { b"[]" } else { b"]" });
            self.next = None;
            return;
        };
        let Some((owner, records)) = of.at(name) else {
            self.next = Some((zone + 1, 0));
            return;
        };
        self.next = Some((zone, name + 1));
        let mut add = |rtype: &str, host: String| {
            piece.push(if self.is_first { b'[' } else { b',' });
            self.is_first = false;
            let record = json!({ "name": owner, "host": host, "rtype": rtype });
            piece.extend_from_slice(record.to_string().as_bytes());
        };
        records.a.iter().for_each(|ip| add("A", ip.to_string()));
        let aaaa = records.aaaa.iter();
        aaaa.for_each(|ip| add("AAAA", ip.to_string()));
        for srv in &records.srv {
            add("SRV", format!("{}:{}", srv.target, srv.port));
        }
        records.ptr.iter().for_each(|name| add("PTR", name.clone()));
        for texts in &records.txt {
            // As in zone files: each in quotes.
            let quoted = texts.iter().map(|text| format!("{text:?}"));
            add("TXT", quoted.collect::<Vec<_>>().join(" "));
        }
    }
}

impl Iterator for Listing {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        /// About the bytes of a piece.
        const PIECE: usize = 16 * 1024;
        let mut piece = Vec::new();
        while self.next.is_some() && piece.len() < PIECE {
            self.write_next(&mut piece);
        }
        (!piece.is_empty()).then(|| piece.into())
    }
}

async fn metrics(State(api): State<Api>) -> Response {
    let text = metrics::exposition(&api.served(), &api.forwarder, &api.answers);
    let mut response = reply::text(StatusCode::OK, text);
    let prometheus = HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(CONTENT_TYPE, prometheus);
    response
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
