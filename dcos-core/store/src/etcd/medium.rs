//! [`EtcdMedium`]: register and pages are keys, a swap is a transaction.

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    client::Etcd,
    words::{Compare, PutRequest, RequestOp, TxnRequest},
};
use crate::{Ensemble, Medium, MediumError, Swapped, Version};

/// A [`Medium`] below `<path>/registry`.
#[derive(Debug)]
pub(crate) struct EtcdMedium {
    etcd: Etcd,
    root: String,
}

impl EtcdMedium {
    pub(crate) fn new(ensemble: &Ensemble) -> Self {
        Self {
            etcd: Etcd::new(ensemble),
            root: format!("{}/registry", ensemble.path),
        }
    }

    fn register(&self) -> String {
        format!("{}/head", self.root)
    }

    fn page_key(&self, name: &str) -> String {
        format!("{}/pages/{name}", self.root)
    }
}

#[async_trait]
impl Medium for EtcdMedium {
    async fn read(&self) -> Result<(Version, Bytes), MediumError> {
        let found = self.etcd.get(&self.register()).await?;
        Ok(found.map_or((None, Bytes::new()), |kv| (Some(kv.mod_revision), kv.value)))
    }

    async fn swap(
        &self,
        expected: Version,
        register: Bytes,
        page: Option<(&str, Bytes)>,
    ) -> Result<Swapped, MediumError> {
        let put = |key: String, value| RequestOp {
            put: Some(PutRequest {
                key: key.into(),
                value,
                lease: 0,
            }),
        };
        let key = self.register();
        let unchanged = Compare::modified(key.clone().into(), expected.unwrap_or_default());
        let mut success = vec![put(key, register)];
        success.extend(page.map(|(name, page)| put(self.page_key(name), page)));
        let transaction = TxnRequest {
            compare: vec![unchanged],
            success,
        };
        let answer = self.etcd.transact(transaction).await?;
        if !answer.succeeded {
            return Ok(Swapped::Moved);
        }
        Ok(Swapped::Done(answer.header.map(|header| header.revision)))
    }

    async fn changed(&self, seen: Version) -> Result<(), MediumError> {
        let found = self.etcd.look(&self.register()).await?;
        if found.kvs.first().map(|kv| kv.mod_revision) != seen {
            return Ok(());
        }
        let from = found.revision() + 1;
        let mut changes = self.etcd.watch(&self.register(), true, from).await?;
        Ok(changes.next().await?)
    }

    async fn page(&self, name: &str) -> Result<Option<Bytes>, MediumError> {
        let found = self.etcd.get(&self.page_key(name)).await?;
        Ok(found.map(|kv| kv.value))
    }

    async fn put(&self, name: &str, page: Bytes) -> Result<(), MediumError> {
        Ok(self.etcd.put(self.page_key(name), page).await?)
    }

    async fn pages(&self) -> Result<Vec<String>, MediumError> {
        let prefix = self.page_key("");
        let keys = self.etcd.keys(&prefix).await?;
        let name = |key: Bytes| {
            let name = key.strip_prefix(prefix.as_bytes())?;
            Some(String::from_utf8_lossy(name).into_owned())
        };
        Ok(keys.into_iter().filter_map(name).collect())
    }

    async fn remove(&self, name: &str) -> Result<(), MediumError> {
        Ok(self.etcd.delete(self.page_key(name)).await?)
    }

    async fn forget(&self) -> Result<(), MediumError> {
        // Whoever lags behind the oldest page that is kept begins with the base anyway.
        let kept = self.etcd.by_age(&self.page_key(""), 1).await?;
        match kept.kvs.first() {
            Some(oldest) => Ok(self.etcd.compact(oldest.create_revision).await?),
            None => Ok(()),
        }
    }
}
