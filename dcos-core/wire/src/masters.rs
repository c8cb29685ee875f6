//! [`Masters`]: where the leading master is.

use std::sync::Arc;

use dcos_proto::mesos::MasterInfo;
use tokio::sync::watch;

use crate::libprocess::Upid;

/// Where the leading master is found.
#[derive(Clone, Debug)]
pub enum Masters {
    /// At `host:port`, or at wherever that one sends us.
    Fixed(String),
    /// Where an election shows it.
    Led(watch::Receiver<Option<Arc<MasterInfo>>>),
}

impl Masters {
    /// Its address; waits until somebody leads.
    pub async fn leader(&mut self) -> String {
        match self {
            Self::Fixed(address) => address.clone(),
            Self::Led(leading) => loop {
                let led = leading.borrow_and_update().clone();
                let pid = led.as_deref().and_then(|info| info.pid.as_deref());
                if let Some(upid) = pid.and_then(|pid| pid.parse::<Upid>().ok()) {
                    return upid.address().to_string();
                }
                if leading.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            },
        }
    }

    /// Waits until another one leads, as far as anybody tells.
    pub async fn changed(&mut self) {
        if let Self::Led(leading) = self
            && leading.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}
