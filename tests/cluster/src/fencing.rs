//! A deposed leader is ordered to write: what it was told must never be in the registry.
//!
//! Each order sets a weight of a role of its own. One that a leader accepted in time would be there; one that was given
//! to a frozen process, or to one whose cable is pulled, must not.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, ensure};
use dcos_store::{Ensemble, StateStore};
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};

use crate::{
    process::{Process, command},
    servers::Place,
};

/// Where weights lie in the registry.
const WEIGHTS: &str = "mesos/weights/";

/// What is asked of deposed leaders, and whether they did it.
#[derive(Debug)]
pub struct Fencing {
    registry: std::sync::Arc<dyn StateStore>,
    orders: u32,
}

/// An order that is under way; it is taken back when this is dropped.
#[derive(Debug)]
pub enum Late {
    /// In the buffers of the kernel, for a process that does not run.
    Sent(TcpStream),
    /// Asked from the host itself.
    Asked(Process),
}

impl Fencing {
    /// Reads the registry of the masters at `url`.
    ///
    /// # Errors
    /// The URL is none.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        Ok(Self {
            registry: Ensemble::parse(url)?.store(),
            orders: 0,
        })
    }

    fn order(&mut self) -> String {
        self.orders += 1;
        let role = format!("late-{}", self.orders);
        let order = json!({"type": "UPDATE_WEIGHTS", "update_weights":
            {"weight_infos": [{"role": role, "weight": 3.5}]}});
        order.to_string()
    }

    /// Orders a frozen master to write; it finds the order when it goes on.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn tell_frozen(&mut self, place: &Place, port: u16) -> anyhow::Result<Late> {
        let order = self.order();
        let request = format!(
            "POST /api/v1 HTTP/1.1\r\nHost: master\r\nContent-Type: application/json\r\n\
             Accept: application/json\r\nContent-Length: {}\r\n\r\n{order}",
            order.len()
        );
        let connect = TcpStream::connect((place.ip, port));
        let connected = timeout(Duration::from_secs(10), connect).await;
        let mut stream = connected.context("connecting to a frozen master")??;
        stream.write_all(request.as_bytes()).await?;
        Ok(Late::Sent(stream))
    }

    /// Orders a master that is cut off to write, from its own host.
    ///
    /// # Errors
    /// `curl` is not there.
    pub fn tell_cut_off(
        &mut self,
        place: &Place,
        port: u16,
        directory: &std::path::Path,
    ) -> anyhow::Result<Late> {
        let mut curl = command(place.host.as_deref(), "curl");
        curl.args(["--silent", "--show-error", "--max-time", "120"])
            .args(["--header", "Content-Type: application/json", "--data"])
            .arg(self.order())
            .arg(format!("http://{}:{port}/api/v1", place.ip));
        let name = format!("late-{}", self.orders);
        Ok(Late::Asked(Process::start(&name, directory, curl)?))
    }

    /// Whether the registry holds what leaders were told in time, and nothing else.
    ///
    /// # Errors
    /// What is there and must not be, or the other way round.
    pub async fn holds(&self) -> anyhow::Result<u32> {
        let entries = self.registry.scan(WEIGHTS).await?.entries;
        let found: BTreeSet<&str> = entries
            .iter()
            .filter_map(|entry| entry.key.strip_prefix(WEIGHTS))
            .collect();
        ensure!(
            found == BTreeSet::from(["heavy"]),
            "the registry has weights of {found:?}"
        );
        Ok(self.orders)
    }
}
