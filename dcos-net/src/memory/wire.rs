//! A record as bytes: protobuf of our own, with Mesos's messages in it as Mesos writes them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use dcos_core::time::Time;
use prost::Message as _;

use super::{Around, Cluster, Entry, KnownAgent, KnownTask, Origin, Record};

#[derive(Clone, PartialEq, prost::Message)]
struct WrittenRecord {
    /// Nanoseconds since 1970.
    #[prost(fixed64, tag = "1")]
    time: u64,
    #[prost(message, optional, tag = "2")]
    around: Option<WrittenAround>,
    #[prost(bool, tag = "3")]
    is_all: bool,
    #[prost(message, repeated, tag = "4")]
    agents: Vec<WrittenAgent>,
    #[prost(message, repeated, tag = "5")]
    frameworks: Vec<WrittenFramework>,
    #[prost(message, repeated, tag = "6")]
    tasks: Vec<WrittenTask>,
    #[prost(message, optional, tag = "7")]
    origin: Option<WrittenOrigin>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WrittenOrigin {
    #[prost(string, tag = "1")]
    election: String,
    #[prost(string, repeated, tag = "2")]
    places: Vec<String>,
    #[prost(string, optional, tag = "3")]
    boot: Option<String>,
    #[prost(string, repeated, tag = "4")]
    own: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WrittenAround {
    #[prost(string, optional, tag = "1")]
    leader: Option<String>,
    #[prost(string, repeated, tag = "2")]
    addresses: Vec<String>,
}

/// One that is gone has neither address nor time.
#[derive(Clone, PartialEq, prost::Message)]
struct WrittenAgent {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, optional, tag = "2")]
    address: Option<String>,
    #[prost(fixed64, optional, tag = "3")]
    awaited_until: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WrittenFramework {
    #[prost(string, tag = "1")]
    id: String,
    /// Nothing, if it is gone.
    #[prost(bytes, optional, tag = "2")]
    info: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WrittenTask {
    #[prost(string, tag = "1")]
    framework: String,
    #[prost(string, tag = "2")]
    id: String,
    /// Nothing, if it is gone.
    #[prost(bytes, optional, tag = "3")]
    task: Option<Vec<u8>>,
    #[prost(bool, tag = "4")]
    confirmed: bool,
}

pub(super) fn encode(entry: &Entry) -> Vec<u8> {
    let Entry {
        time,
        origin,
        around,
        record,
    } = entry;
    let agents = record.agents.iter().map(|(id, agent)| {
        let agent = agent.unwrap_or_default();
        WrittenAgent {
            id: id.clone(),
            address: agent.address.map(|address| address.to_string()),
            awaited_until: agent.awaited_until.map(Time::as_nanos),
        }
    });
    let frameworks = record.frameworks.iter();
    let frameworks = frameworks.map(|(id, info)| WrittenFramework {
        id: id.clone(),
        info: info.as_ref().map(prost::Message::encode_to_vec),
    });
    let tasks = record.tasks.iter();
    let tasks = tasks.map(|((framework, id), known)| WrittenTask {
        framework: framework.clone(),
        id: id.clone(),
        task: known.as_ref().map(|known| known.task.encode_to_vec()),
        confirmed: known.as_ref().is_some_and(|known| known.confirmed),
    });
    let written = WrittenRecord {
        time: time.as_nanos(),
        around: around.as_ref().map(|around| WrittenAround {
            leader: around.leader.map(|leader| leader.to_string()),
            addresses: around.addresses.iter().map(IpAddr::to_string).collect(),
        }),
        is_all: record.is_all,
        agents: agents.collect(),
        frameworks: frameworks.collect(),
        tasks: tasks.collect(),
        origin: origin.as_ref().map(|origin| WrittenOrigin {
            election: origin.cluster.election.clone(),
            places: origin.cluster.places.iter().cloned().collect(),
            boot: origin.boot.clone(),
            own: origin.own.iter().map(IpAddr::to_string).collect(),
        }),
    };
    written.encode_to_vec()
}

/// `None` if anything in it is not understood.
pub(super) fn decode(bytes: &[u8]) -> Option<Entry> {
    let written = WrittenRecord::decode(bytes).ok()?;
    let around = match written.around {
        Some(around) => Some(Around {
            leader: parse::<SocketAddr>(around.leader).ok()?,
            addresses: addresses(&around.addresses)?,
        }),
        None => None,
    };
    let origin = match written.origin {
        Some(origin) => Some(Origin {
            cluster: Cluster {
                election: origin.election,
                places: origin.places.into_iter().collect(),
            },
            boot: origin.boot,
            own: addresses(&origin.own)?,
        }),
        None => None,
    };
    let agents = written.agents.into_iter().map(|agent| {
        let known = KnownAgent {
            address: parse(agent.address).ok()?,
            awaited_until: agent.awaited_until.map(Time::from_nanos),
        };
        let known = (known != KnownAgent::default()).then_some(known);
        Some((agent.id, known))
    });
    let frameworks = written.frameworks.into_iter().map(|framework| {
        let info = match framework.info {
            Some(info) => Some(dcos_proto::decode(&info).ok()?),
            None => None,
        };
        Some((framework.id, info))
    });
    let tasks = written.tasks.into_iter().map(|known| {
        let task = match known.task {
            Some(task) => Some(KnownTask {
                task: Arc::new(dcos_proto::decode(&task).ok()?),
                confirmed: known.confirmed,
            }),
            None => None,
        };
        Some(((known.framework, known.id), task))
    });
    Some(Entry {
        time: Time::from_nanos(written.time),
        origin,
        around,
        record: Record {
            is_all: written.is_all,
            agents: agents.collect::<Option<_>>()?,
            frameworks: frameworks.collect::<Option<_>>()?,
            tasks: tasks.collect::<Option<_>>()?,
        },
    })
}

fn addresses(written: &[String]) -> Option<BTreeSet<IpAddr>> {
    let written = written.iter();
    written.map(|address| address.parse().ok()).collect()
}

/// Nothing stays nothing; what is there must be understood.
fn parse<T: std::str::FromStr>(text: Option<String>) -> Result<Option<T>, T::Err> {
    text.map(|text| text.parse()).transpose()
}
