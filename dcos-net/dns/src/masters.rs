//! [`MasterList`]: which masters names tell of.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use dcos_proto::mesos::MasterInfo;
use dcos_wire::libprocess::Upid;
use tokio::sync::watch;

/// All masters, in the order of their addresses, whoever leads and whoever is asked: `master.mesos`, `masterN.mesos` and
/// `zk-N.zk` are made of it.
///
/// Mesos-DNS takes those that stand for election, dcos-dns the list an operator wrote (`MASTER_SOURCE=master_list`) or that
/// Exhibitor keeps; both sort them.
#[derive(Clone, Debug)]
pub enum MasterList {
    /// As an operator says.
    Fixed(BTreeSet<IpAddr>),
    /// Those that stand for election. Names change when a master comes or goes.
    Standing(watch::Receiver<Arc<Vec<MasterInfo>>>),
}

impl MasterList {
    /// The list of now. Where it follows an election that has not heard of `leader` yet, that one is on it all the same.
    pub fn now(&self, leader: Option<IpAddr>) -> Vec<IpAddr> {
        match self {
            Self::Fixed(list) => list.iter().copied().collect(),
            Self::Standing(standing) => {
                let standing = standing.borrow();
                let known = standing.iter().filter_map(address);
                let all: BTreeSet<IpAddr> = known.chain(leader).collect();
                all.into_iter().collect()
            }
        }
    }

    /// Waits until it is another one.
    pub async fn changed(&mut self) {
        if let Self::Standing(standing) = self
            && standing.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

fn address(info: &MasterInfo) -> Option<IpAddr> {
    let upid: Upid = info.pid.as_deref()?.parse().ok()?;
    Some(upid.address().ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn masters_are_sorted_whoever_leads() {
        let ip = |last| IpAddr::from([10, 0, 0, last]);
        let info = |last| MasterInfo {
            pid: Some(format!("master@{}:5050", ip(last))),
            ..MasterInfo::default()
        };
        let (election, standing) = watch::channel(Arc::default());
        let mut list = MasterList::Standing(standing);
        assert!(list.now(None).is_empty());
        assert_eq!(list.now(Some(ip(2))), [ip(2)], "nobody was read yet");
        election.send_replace(Arc::new(vec![
            info(10),
            info(2),
            MasterInfo::default(),
            info(9),
            info(9),
        ]));
        list.changed().await;
        for leader in [10, 2] {
            assert_eq!(list.now(Some(ip(leader))), [ip(2), ip(9), ip(10)]);
        }
        let fixed = MasterList::Fixed([ip(3), ip(1)].into());
        assert_eq!(fixed.now(Some(ip(7))), [ip(1), ip(3)]);
    }
}
