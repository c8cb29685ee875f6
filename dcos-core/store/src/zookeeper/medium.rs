//! [`ZooKeeperMedium`]: the register is a node, pages are its grandchildren, a swap is a multi-operation.

use async_trait::async_trait;
use bytes::Bytes;
use zookeeper_client::{CreateMode, Error, MultiWriteError, MultiWriteResult};

use super::session::{Rights, Sessions, within};
use crate::{Ensemble, Medium, MediumError, Swapped, Version};

/// A [`Medium`] below `<path>/log_replicas/registry`.
#[derive(Debug)]
pub(crate) struct ZooKeeperMedium {
    sessions: Sessions,
    rights: Rights,
    root: String,
}

impl ZooKeeperMedium {
    pub(crate) fn new(ensemble: Ensemble) -> Self {
        let root = format!("{}/log_replicas/registry", ensemble.path);
        Self {
            rights: Rights::of(&ensemble),
            sessions: Sessions::new(ensemble, format!("{root}/pages")),
            root,
        }
    }

    fn register(&self) -> String {
        format!("{}/head", self.root)
    }

    fn page_path(&self, name: &str) -> String {
        format!("{}/pages/{name}", self.root)
    }
}

#[async_trait]
impl Medium for ZooKeeperMedium {
    async fn read(&self) -> Result<(Version, Bytes), MediumError> {
        let (client, register) = (self.sessions.client().await?, self.register());
        // Without this a server that lags would answer with what was.
        within(client.sync(&register)).await?;
        match within(client.get_data(&register)).await {
            Ok((data, stat)) => Ok((Some(stat.version.into()), data.into())),
            Err(Error::NoNode) => Ok((None, Bytes::new())),
            Err(error) => Err(error.into()),
        }
    }

    async fn swap(
        &self,
        expected: Version,
        register: Bytes,
        page: Option<(&str, Bytes)>,
    ) -> Result<Swapped, MediumError> {
        let client = self.sessions.client().await?;
        let path = self.register();
        let options = CreateMode::Persistent.with_acls(self.rights.acls());
        let mut writer = client.new_multi_writer();
        match expected {
            None => writer.add_create(&path, &register, &options)?,
            Some(expected) => {
                let expected = i32::try_from(expected).unwrap_or_default();
                writer.add_set_data(&path, &register, Some(expected))?;
            }
        }
        if let Some((name, page)) = page {
            writer.add_create(&self.page_path(name), &page, &options)?;
        }
        match within(writer.commit()).await {
            Ok(results) => Ok(Swapped::Done(Some(version(&results)))),
            Err(MultiWriteError::OperationFailed {
                source: Error::BadVersion | Error::NodeExists | Error::NoNode,
                ..
            }) => Ok(Swapped::Moved),
            Err(error) => Err(Error::from(error).into()),
        }
    }

    async fn changed(&self, seen: Version) -> Result<(), MediumError> {
        let client = self.sessions.client().await?;
        let asked = within(client.check_and_watch_stat(&self.register())).await?;
        let (stat, watcher) = asked;
        if stat.map(|stat| stat.version.into()) == seen {
            watcher.changed().await;
        }
        Ok(())
    }

    async fn page(&self, name: &str) -> Result<Option<Bytes>, MediumError> {
        let client = self.sessions.client().await?;
        match within(client.get_data(&self.page_path(name))).await {
            Ok((data, _)) => Ok(Some(data.into())),
            Err(Error::NoNode) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn put(&self, name: &str, page: Bytes) -> Result<(), MediumError> {
        let client = self.sessions.client().await?;
        let options = CreateMode::Persistent.with_acls(self.rights.acls());
        match within(client.create(&self.page_path(name), &page, &options)).await {
            Ok(_) | Err(Error::NodeExists) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn pages(&self) -> Result<Vec<String>, MediumError> {
        let client = self.sessions.client().await?;
        Ok(within(client.list_children(&format!("{}/pages", self.root))).await?)
    }

    async fn remove(&self, name: &str) -> Result<(), MediumError> {
        let client = self.sessions.client().await?;
        match within(client.delete(&self.page_path(name), None)).await {
            Ok(()) | Err(Error::NoNode) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Which writing of the register that was. `ZooKeeper` counts in 32 bits and wraps around; that is harmless, since
/// the page a swap makes has a name that is never used twice.
fn version(results: &[MultiWriteResult]) -> i64 {
    match results.first() {
        Some(MultiWriteResult::SetData { stat }) => stat.version.into(),
        _ => 0,
    }
}
