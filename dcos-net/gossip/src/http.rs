//! The part of dcos-net's REST API that tells of nodes, and ours that tells of members.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use dcos_core::time::Time;
use dcos_wire::reply;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use jiff::Timestamp;
use serde::Serialize;

use crate::{About, Counters, Kind, Member, Members, Membership as _, Presence, View};

/// `/v1/nodes`, `/v1/members`, `/v1/metrics/gossip`.
pub fn router(view: View) -> Router {
    Router::new()
        .route("/v1/nodes", get(nodes))
        .route("/v1/members", get(members))
        .route("/v1/metrics/gossip", get(metrics))
        .with_state(view)
}

async fn nodes(State(view): State<View>) -> Response {
    let members = view.watch().borrow().clone();
    let nodes = nodes_of(&members);
    reply::json(serde_json::to_vec(&nodes).expect("it has text keys only"))
}

async fn members(State(view): State<View>) -> Response {
    let members = view.watch().borrow().clone();
    let members: Vec<OneMember<'_>> = members.values().map(OneMember::of).collect();
    reply::json(serde_json::to_vec(&members).expect("it has text keys only"))
}

async fn metrics(State(view): State<View>) -> Response {
    let text = exposition(&view.watch().borrow(), &view.counters());
    let mut response = reply::text(StatusCode::OK, text);
    let prometheus = HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(CONTENT_TYPE, prometheus);
    response
}

/// A node as `/v1/nodes` of dcos-net tells it (`dcos_rest_nodes_handler`).
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Node<'a> {
    private_ip: IpAddr,
    public_ips: &'a [IpAddr],
    hostname: &'a str,
    updated: String,
}

/// One a node, by address; of several members there the one that is there, or spoke last. As in the
/// original, those that nobody reaches are told, too.
fn nodes_of(members: &Members) -> Vec<Node<'_>> {
    let mut nodes: BTreeMap<IpAddr, (&Member, &About)> = BTreeMap::new();
    for member in members.values() {
        let Some(about) = &member.about else {
            continue;
        };
        let rank = |member: &Member| (member.presence == Presence::Alive, member.updated);
        let node = nodes.entry(about.private_ip).or_insert((member, about));
        if rank(member) > rank(node.0) {
            *node = (member, about);
        }
    }
    nodes
        .into_iter()
        .map(|(private_ip, (member, about))| Node {
            private_ip,
            public_ips: &about.public_ips,
            hostname: &about.hostname,
            updated: iso8601(member.updated),
        })
        .collect()
}

/// A member as `/v1/members` tells it.
#[derive(Debug, Serialize)]
struct OneMember<'a> {
    address: String,
    presence: Presence,
    since: String,
    kind: Option<Kind>,
    private_ip: IpAddr,
    public_ips: &'a [IpAddr],
    hostname: &'a str,
    attributes: BTreeMap<&'a str, &'a str>,
    updated: String,
}

impl<'a> OneMember<'a> {
    fn of(member: &'a Member) -> Self {
        let about = member.about.as_deref();
        let attributes = about.iter().flat_map(|about| &about.attributes);
        Self {
            address: member.address.to_string(),
            presence: member.presence,
            since: iso8601(member.since),
            kind: about.map(|about| about.kind),
            private_ip: member.ip(),
            public_ips: about.map_or(&[], |about| &about.public_ips),
            hostname: about.map_or("", |about| &about.hostname),
            attributes: attributes
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect(),
            updated: iso8601(member.updated),
        }
    }
}

/// As the original writes times: UTC, with milliseconds.
fn iso8601(time: Time) -> String {
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let time = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX);
    format!("{time:.3}")
}

fn exposition(members: &Members, counters: &Counters) -> String {
    let mut text = "# HELP members The number of members.\n# TYPE members gauge\n".to_owned();
    for presence in [Presence::Alive, Presence::Left, Presence::Dead] {
        let count = members.values();
        let count = count.filter(|member| member.presence == presence).count();
        let _ = writeln!(text, "members{{presence=\"{presence}\"}} {count}");
    }
    for (name, help, value) in [
        ("packets_sent", "Packets sent.", counters.sent),
        ("bytes_sent", "Bytes of packets sent.", counters.sent_bytes),
        ("packets_received", "Packets of members.", counters.received),
        (
            "bytes_received",
            "Bytes of packets of members.",
            counters.received_bytes,
        ),
        (
            "packets_of_strangers",
            "Packets that none of our keys opens.",
            counters.strangers,
        ),
        (
            "packets_malformed",
            "Packets of members that are not understood.",
            counters.malformed,
        ),
        (
            "packets_replayed",
            "Packets that came before.",
            counters.replayed,
        ),
        (
            "packets_outdated",
            "Packets of lives that are over.",
            counters.outdated,
        ),
        (
            "packets_of_impostors",
            "Packets of members with our own address.",
            counters.impostors,
        ),
    ] {
        let _ = write!(
            text,
            "# HELP gossip_{name}_total {help}\n# TYPE gossip_{name}_total counter\ngossip_{name}_total {value}\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_told_as_the_original_does() {
        let mut master = About::new(Kind::Master, [10, 0, 0, 1]);
        master.hostname = "one".to_owned();
        master.public_ips = vec![[192, 0, 2, 1].into()];
        let mut agent = Member::alive(([10, 0, 0, 1], 62502), master.clone());
        let mut master = Member::alive(([10, 0, 0, 1], 62501), master);
        master.updated = Time::from_millis(1_600_000_000_123);
        agent.presence = Presence::Dead;
        let silent = Member {
            about: None,
            ..Member::alive(([10, 0, 0, 3], 62501), About::new(Kind::Agent, [0; 4]))
        };
        let members = [agent, master, silent].map(|member| (member.address, member));
        let members = members.into_iter().collect();
        assert_eq!(
            serde_json::to_string(&nodes_of(&members)).unwrap(),
            r#"[{"private_ip":"10.0.0.1","public_ips":["192.0.2.1"],"hostname":"one","updated":"2020-09-13T12:26:40.123Z"}]"#
        );
    }
}
