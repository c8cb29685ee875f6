//! [`Ensemble::nodes`]: what others keep in `ZooKeeper`.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt as _};
use zookeeper_client::{Client, Error};

use super::session::{connect, within};
use crate::{Ensemble, MediumError};

/// How many nodes are asked for at once; enough to hide the way there, and no burden to the servers.
const AT_ONCE: usize = 64;

impl Ensemble {
    /// The data of all nodes below this ensemble's path, by their paths from there (without a leading slash).
    ///
    /// For reading what other programs left: each node is as it was when it was read, not all at one moment. A node
    /// that goes meanwhile is not among them.
    ///
    /// # Errors
    /// [`MediumError::Refused`] if there is no such path, or it may not be read.
    pub async fn nodes(&self) -> Result<BTreeMap<String, Bytes>, MediumError> {
        let client = connect(self).await?;
        within(client.sync(&self.path)).await?;
        if within(client.check_stat(&self.path)).await?.is_none() {
            return Err(MediumError::Refused(format!(
                "{self}: there is no such path"
            )));
        }
        let mut found = BTreeMap::new();
        let mut waiting = vec![String::new()];
        let mut asked = FuturesUnordered::new();
        loop {
            while asked.len() < AT_ONCE
                && let Some(path) = waiting.pop()
            {
                asked.push(read(&client, &self.path, path));
            }
            let Some(read) = asked.next().await else {
                return Ok(found);
            };
            let (path, data, children) = read?;
            waiting.extend(children.iter().map(|child| match path.as_str() {
                "" => child.clone(),
                path => format!("{path}/{child}"),
            }));
            if let Some(data) = data.filter(|_| !path.is_empty()) {
                found.insert(path, data);
            }
        }
    }
}

/// A node's data and the names of its children; neither if it has gone.
async fn read(
    client: &Client,
    root: &str,
    path: String,
) -> Result<(String, Option<Bytes>, Vec<String>), MediumError> {
    let whole = if path.is_empty() {
        root.to_owned()
    } else {
        format!("{root}/{path}")
    };
    let refused = |error: Error| match error {
        Error::NoAuth => {
            MediumError::Refused(format!("{whole} may not be read with these credentials"))
        }
        error => error.into(),
    };
    match within(client.get_data(&whole)).await {
        Err(Error::NoNode) => Ok((path, None, Vec::new())),
        Err(error) => Err(refused(error)),
        Ok((data, _)) => match within(client.list_children(&whole)).await {
            Ok(children) => Ok((path, Some(data.into()), children)),
            Err(Error::NoNode) => Ok((path, None, Vec::new())),
            Err(error) => Err(refused(error)),
        },
    }
}
