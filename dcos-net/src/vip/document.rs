//! VIPs as dcos-net's REST API shows them (`dcos_rest_vips_handler`).

use std::fmt;

use serde::Serialize;

use super::{Host, Listed};

#[derive(Serialize)]
struct Document {
    vip: String,
    protocol: &'static str,
    backend: Vec<Place>,
    /// Not there unless it is so, as the original knows no such thing.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

#[derive(Serialize)]
struct Place {
    ip: String,
    port: u16,
    /// As `refused`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    avoided: bool,
}

impl fmt::Display for Listed {
    /// `web.marathon.l4lb.thisdcos.directory:80`, or the address and port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Named(name) => write!(f, "{name}.l4lb.thisdcos.directory:{}", self.port),
            Host::Address(ip) => write!(f, "{ip}:{}", self.port),
        }
    }
}

/// What `/v1/vips` answers, as JSON. One that is claimed and can't be had says why by `refused`; a backend
/// that this node gives no connections, because they fail there, is `avoided`. Both are ours.
pub fn document(listed: &[Listed]) -> Vec<u8> {
    let vip = |listed: &Listed| Document {
        vip: listed.to_string(),
        protocol: listed.protocol.as_str(),
        backend: listed
            .backends
            .iter()
            .map(|backend| Place {
                ip: backend.address.ip().to_string(),
                port: backend.address.port(),
                avoided: listed.avoided.contains(&backend.address),
            })
            .collect(),
        refused: listed.refused.map(|why| why.to_string()),
    };
    let vips: Vec<Document> = listed.iter().map(vip).collect();
    serde_json::to_vec(&vips).expect("text and numbers have a JSON form")
}
