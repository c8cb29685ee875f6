//! Where state is kept and who may write it: alone on this machine, or one of several.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use dcos_core::config::Values;
use dcos_store::{Election, EmbeddedStore, Ensemble, SingleElection, StateStore};

/// For how long a process that ends waits until others know that it stands no more.
const FAREWELL: Duration = Duration::from_secs(2);

/// The kind of house this process lives in.
#[derive(Debug, Clone)]
pub(crate) enum House {
    /// One machine: a file, and whoever locks it.
    Single(PathBuf),
    /// Several, which meet in an ensemble.
    Several(Ensemble),
}

impl House {
    /// What the options say.
    pub(crate) fn of(values: &Values) -> anyhow::Result<Self> {
        let url = match (values.opt_text("zk"), values.opt_text("etcd")) {
            (Some(_), Some(_)) => bail!("--zk and --etcd: state can be kept in one place only"),
            (None, None) => return Ok(Self::Single(values.path("work_dir"))),
            (Some(url), None) | (None, Some(url)) => url,
        };
        // etcd's own way to say it.
        let url = match url.trim().split_once("://") {
            Some(("https", rest)) => format!("etcds://{rest}"),
            Some(("http", rest)) => format!("etcd://{rest}"),
            _ => url,
        };
        let ensemble = dcos_program::ensemble(values, &url)?
            .session_timeout(values.duration("zk_session_timeout"))
            // It gives up first, and knows why.
            .patience(values.duration("registry_store_timeout") * 3 / 4);
        Ok(Self::Several(ensemble))
    }

    pub(crate) fn store(&self) -> anyhow::Result<Arc<dyn StateStore>> {
        Ok(match self {
            Self::Single(directory) => {
                let store = EmbeddedStore::open(directory.join("state.redb"));
                Arc::new(store.context("opening the store")?)
            }
            Self::Several(ensemble) => ensemble.store(),
        })
    }

    pub(crate) fn election(&self, office: &str) -> Arc<dyn Election> {
        match self {
            Self::Single(directory) => Arc::new(SingleElection::new(directory, office)),
            Self::Several(ensemble) => ensemble.election(office),
        }
    }

    /// Leaves no candidate behind: the next leader need not wait for the end of a session that nobody keeps.
    pub(crate) async fn leave(&self) {
        if let Self::Several(ensemble) = self
            && tokio::time::timeout(FAREWELL, ensemble.withdrawn())
                .await
                .is_err()
        {
            tracing::info!(
                "the ensemble does not answer: its candidates leave with their sessions"
            );
        }
    }

    pub(crate) fn ensemble(&self) -> Option<&Ensemble> {
        match self {
            Self::Single(_) => None,
            Self::Several(ensemble) => Some(ensemble),
        }
    }
}
