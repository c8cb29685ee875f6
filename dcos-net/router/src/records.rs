//! SRV records, asked of Mesos-DNS's HTTP API.

use std::time::Duration;

use dcos_wire::Client;
use serde::Deserialize;
use tracing::debug;

use crate::decide::Records;
use crate::world::{Base, Scheme};

/// How long people wait for a name.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks for records.
#[derive(Debug)]
pub(crate) struct Asker {
    pub(crate) client: Client,
    /// Where the API is; without one there are no records.
    pub(crate) names: Option<Base>,
}

#[derive(Deserialize)]
struct Record {
    ip: String,
    port: String,
}

impl Asker {
    /// Where tasks of that name are.
    pub(crate) async fn ask(&self, name: &str) -> Records {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let Some(names) = self.names.as_ref().filter(|_| name.bytes().all(plain)) else {
            return Records::Absent;
        };
        let url = format!("{names}/v1/services/_{name}._tcp.marathon.mesos");
        let asked = async {
            let answer = self.client.get(&url).await?.success().await?;
            answer.json::<Vec<Record>>().await
        };
        match tokio::time::timeout(TIMEOUT, asked).await {
            Ok(Ok(records)) => first(&records),
            Ok(Err(error)) => {
                debug!(url, error = %dcos_core::error::chain(&error), "asking for records");
                Records::Failed
            }
            Err(_) => Records::Failed,
        }
    }
}

/// Where the first one points; the API says by one with empty fields that there is none.
fn first(records: &[Record]) -> Records {
    let Some(record) = records.first().filter(|record| !record.ip.is_empty()) else {
        return Records::Absent;
    };
    let host = if record.ip.contains(':') {
        format!("[{}]", record.ip)
    } else {
        record.ip.clone()
    };
    match Base::at(Scheme::Http, &format!("{host}:{}", record.port)) {
        Ok(base) => Records::First(base),
        Err(_) => Records::Failed,
    }
}
